//! How much a request may take: its input as it will be counted, its output as it names it, and what that costs at most. What
//! the hold of the reserve step is made of.

use agentledger_ledger::{Amounts, Kind, Usd};

use crate::config::{Hold as HoldConfig, HoldSize, UnnamedOutput};
use crate::meter::{LearnedOf, Method};
use crate::plugin::{Call, Medium, RequestedCacheWrites};
use crate::policy::CostEstimate;
use crate::price::{CacheWrites, Quote};
use crate::proxy::decide::ExpectedCost;
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::exchange::{Exchange, ToolCall};
use crate::proxy::shared::expected_use::ExpectedUse;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::pricing::{FoundPrice, find_dearest, find_for, thinks_unseen};
use crate::proxy::shared::reply::Refusal;

/// Until a model's ratio is learned, texts up to this length are counted by the encoder, which takes a tenth of a millisecond a
/// kilobyte. The learned ratio costs nothing.
const COUNTED_TEXT_BYTES_MAX: u64 = 4 << 10;
/// Structure around the text (roles, separators) of a request.
const STRUCTURE_TOKENS: u64 = 8;
/// Bodies larger than this are sized by their structure too: long tool schemas are keys and braces more than text.
const STRUCTURED_BODY_BYTES: u64 = 2 << 10;
const STRUCTURE_BYTES_PER_TOKEN: u64 = 8;
/// No model writes more in one answer: a larger maximum is held as this.
const OUTPUT_TOKENS_MAX: u64 = 4_000_000;
const CHOICES_MAX: u32 = 1_000;
/// An extension's step, in output tokens.
pub const STEP_TOKENS: u64 = 1_024;
/// Steps that a stream begins with whose model may think unseen, until it is learned what such calls take: what is thought meanwhile
/// shows in no text, so that nothing extends its hold and nothing cuts it.
const UNSEEN_STEPS: u64 = 8;
/// Why a hold is of one step alone.
const FIRST_STEP: &str = "first step of a stream";
const FIRST_STEPS: &str = "first steps of a stream that may think unseen";

/// What a request is expected to take, and what that costs.
#[derive(Clone, Debug)]
pub struct HoldEstimate {
    pub input_tokens: u64,
    /// Of all choices together: what is held.
    pub output_tokens: u64,
    pub usd: Usd,
    /// The named limit, whole: what the request may take at most. `None` where it names none.
    pub named_output: Option<u64>,
    pub input_usd: Usd,
    /// Of a token of its input, at the dearest kind that it may be billed as.
    pub input_price_picos: i64,
    pub output_price_picos: i64,
    pub basis: &'static str,
    /// All its models have prices of their own: this stands on no stand-in.
    pub priced: bool,
    /// What its hold begins with, where it is a stream that may begin small.
    pub start: Option<HoldStart>,
    /// Output of the whole answer as it is expected, of which a stream may hold a first part.
    pub whole_output: u64,
    /// Output that may be billed at most: what the request names, or the model's maximum.
    pub most_output: u64,
    /// What its input costs at the full price, where less is held for it: most of it should be read from a cache.
    pub uncached_input_usd: Option<Usd>,
}

/// What the hold of a stream begins with.
#[derive(Clone, Copy, Debug)]
pub struct HoldStart {
    pub output_tokens: u64,
    pub basis: &'static str,
    /// Where that is not left: the least that it begins with.
    pub first_step: u64,
}

impl HoldStart {
    fn first_step(tokens: u64) -> HoldStart {
        HoldStart {
            output_tokens: tokens,
            basis: FIRST_STEP,
            first_step: tokens,
        }
    }

    /// Of two models that may serve one call, whichever begins with more.
    fn or_larger(self, other: HoldStart) -> HoldStart {
        let larger = if other.output_tokens > self.output_tokens {
            other
        } else {
            self
        };
        HoldStart {
            first_step: self.first_step.max(other.first_step),
            ..larger
        }
    }
}

impl HoldEstimate {
    /// A tool's call costs what its price says, and takes no tokens.
    fn of_tool(tool: &ToolCall) -> HoldEstimate {
        HoldEstimate {
            input_tokens: 0,
            output_tokens: 0,
            usd: tool.quote,
            named_output: None,
            input_usd: tool.quote,
            uncached_input_usd: None,
            input_price_picos: 0,
            output_price_picos: 0,
            basis: "the tool's price",
            priced: tool.priced,
            start: None,
            whole_output: 0,
            most_output: 0,
        }
    }

    /// As policies see it.
    pub fn expected(&self) -> ExpectedCost {
        ExpectedCost {
            estimate: CostEstimate {
                input_tokens: self.input_tokens,
                output_tokens: self.output_tokens,
                usd: self.usd,
                output_usd: self.usd.saturating_sub(self.input_usd),
            },
            priced: self.priced,
        }
    }

    /// For the end of the exchange.
    pub fn expected_use(&self) -> ExpectedUse {
        ExpectedUse {
            input_tokens: self.input_tokens,
            output_tokens: self.whole_output,
            whole: self.usd_at_most(self.whole_output),
            most: self.usd_at_most(self.most_output.max(self.whole_output)),
            relies_on_cache: self.uncached_input_usd.is_some(),
        }
    }

    pub fn tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }

    /// Tokens that may be billed at most.
    pub fn most_tokens(&self) -> u64 {
        self.input_tokens
            .saturating_add(self.most_output.max(self.output_tokens))
    }

    pub fn amounts(&self) -> Amounts {
        Amounts::of_request(self.usd, self.tokens())
    }

    /// The same request with a maximum of `most` for each of its choices.
    pub fn clamped_to(&self, exchange: &Exchange, most: u64) -> HoldEstimate {
        let choices = u64::from(exchange.inspected.call.choices.max(1));
        let of_all = most.saturating_mul(choices);
        let mut smaller = self.with_output(self.output_tokens.min(of_all));
        smaller.named_output = Some(most);
        smaller.whole_output = self.whole_output.min(of_all);
        smaller.most_output = self.most_output.min(of_all);
        smaller
    }

    /// What its hold begins with: the start of a stream, else all of it.
    pub fn started(self) -> HoldEstimate {
        match self.start {
            Some(start) if start.output_tokens < self.output_tokens => HoldEstimate {
                basis: start.basis,
                ..self.with_output(start.output_tokens)
            },
            _ => self,
        }
    }

    /// The same with no more than a stream's first step; `None`: it begins with no more than that, or must be held whole.
    pub fn first_step(&self) -> Option<HoldEstimate> {
        let first_step = self.start?.first_step;
        (first_step < self.output_tokens).then(|| HoldEstimate {
            basis: FIRST_STEP,
            ..self.with_output(first_step)
        })
    }

    /// All that the request names is held: no answer takes more.
    pub fn holds_named_maximum(&self) -> bool {
        self.named_output.is_some() && self.output_tokens >= self.whole_output
    }

    /// The same request with at most `output` tokens of output.
    pub fn with_output(&self, output: u64) -> HoldEstimate {
        let mut changed = self.clone();
        changed.output_tokens = output;
        changed.usd = self.usd_with(output);
        changed
    }

    fn usd_with(&self, output: u64) -> Usd {
        self.input_usd.saturating_add(cost_of(output, self.output_price_picos))
    }

    /// As `usd_with`, with the input at its full price.
    fn usd_at_most(&self, output: u64) -> Usd {
        let input_usd = self.uncached_input_usd.unwrap_or(self.input_usd);
        input_usd.saturating_add(cost_of(output, self.output_price_picos))
    }

    /// Of two models that may serve one call, whichever is dearer, part by part.
    fn or_dearer(self, other: &HoldEstimate) -> HoldEstimate {
        let both = HoldEstimate {
            input_tokens: self.input_tokens.max(other.input_tokens),
            input_usd: self.input_usd.max(other.input_usd),
            input_price_picos: self.input_price_picos.max(other.input_price_picos),
            output_price_picos: self.output_price_picos.max(other.output_price_picos),
            priced: self.priced && other.priced,
            start: self.start.zip(other.start).map(|(own, other)| own.or_larger(other)),
            whole_output: self.whole_output.max(other.whole_output),
            most_output: self.most_output.max(other.most_output),
            ..self
        };
        both.with_output(both.output_tokens.max(other.output_tokens))
    }
}

/// Tokens at a price, rounded up: a hold is never a nano short.
pub fn cost_of(tokens: u64, picos: i64) -> Usd {
    let picos = i128::from(tokens) * i128::from(picos);
    Usd::from_nanos(
        i64::try_from(picos.div_euclid(1_000) + i128::from(picos.rem_euclid(1_000) != 0)).unwrap_or(i64::MAX),
    )
}

/// Sizes the request: its input at the dearest kind it may be billed as, its output as the config says, both for the dearest of
/// the models that may serve it, and with what its hosted tools may bill.
///
/// # Errors
/// A model has no price, and such are refused.
pub fn estimate(gateway: &Gateway, exchange: &Exchange) -> Result<HoldEstimate, Refusal> {
    if let Some(tool) = &exchange.tool {
        return Ok(HoldEstimate::of_tool(tool));
    }
    let mut sized: Option<HoldEstimate> = None;
    let mut add = |model: &str, found: Option<FoundPrice<'_>>| {
        let found = found.ok_or_else(|| unpriced(model))?;
        let of_model = estimate_of(gateway, exchange, model, &found);
        sized = Some(match sized.take() {
            Some(known) => known.or_dearer(&of_model),
            None => of_model,
        });
        Ok::<(), Refusal>(())
    };
    for model in exchange.models().iter() {
        // Without a name the dearest stands in below.
        if !(model.is_empty() && exchange.inspected.call.any_model) {
            add(model, find_for(exchange, model))?;
        }
    }
    if exchange.is_any_model() {
        add(&exchange.inspected.call.model, find_dearest(exchange))?;
    }
    let mut sized = sized.ok_or_else(|| unpriced(""))?;
    sized.input_usd = sized.input_usd.saturating_add(cost_beside(exchange)?);
    let output = sized.output_tokens;
    Ok(sized.with_output(output))
}

/// The size of the request, were this the model that serves it.
fn estimate_of(gateway: &Gateway, exchange: &Exchange, model: &str, found: &FoundPrice<'_>) -> HoldEstimate {
    let call = &exchange.inspected.call;
    let config = &exchange.rules.config.hold;
    let input_tokens = input_estimate(gateway, exchange, model, config);
    let quote = &found.quote;
    // Over a WebSocket a model that speaks does so unrequested.
    let speaks = exchange.inspected.over_socket && quote.states(Kind::AudioOutput, None);
    let (heard, spoken): (&[Kind], &[Kind]) = if speaks {
        (&[Kind::AudioInput], &[Kind::AudioOutput])
    } else {
        (&[], &[])
    };
    let input_price = in_dearer_tier(call, |tier| {
        quote
            .input_ceiling(input_tokens, tier, cache_writes(call, quote, input_tokens))
            .max(quote.dearest_of(&call.input_kinds, input_tokens, tier))
            .max(quote.dearest_of(heard, input_tokens, tier))
    });
    let output_price = in_dearer_tier(call, |tier| {
        quote
            .output_price(input_tokens, tier)
            .max(quote.dearest_of(&call.output_kinds, input_tokens, tier))
            .max(quote.dearest_of(spoken, input_tokens, tier))
    });
    let choices = u64::from(call.choices.clamp(1, CHOICES_MAX));
    let expected = gateway.estimator.output_expected(model);
    let named = call.max_output.map(|named| named.min(OUTPUT_TOKENS_MAX));
    let (per_choice, basis) = match named {
        _ if output_price.picos() == 0 => (0, "input only"),
        Some(named) => (named, "named maximum"),
        None if config.unnamed_output == UnnamedOutput::Max => {
            (quote.max_output().unwrap_or(expected), "the model's maximum")
        }
        None => (expected.min(quote.max_output().unwrap_or(u64::MAX)), "expected output"),
    };
    let whole_output = per_choice.saturating_mul(choices);
    let most = named.or(quote.max_output()).unwrap_or(per_choice);
    let first_step = whole_output.min(STEP_TOKENS.saturating_mul(choices));
    let start = match config.size {
        HoldSize::WorstCase => None,
        _ if !call.stream => None,
        HoldSize::Expected => Some(HoldStart::first_step(first_step)),
        // It goes on without its stream, so that nothing extends or cuts it.
        HoldSize::Auto if call.background => None,
        HoldSize::Auto => Some(learned_start(gateway, exchange, model, first_step, whole_output)),
    };
    let request_fee = in_dearer_tier(call, |tier| quote.unit_price(Kind::Request, input_tokens, tier));
    let input_usd = cost_of(input_tokens, input_price.picos())
        .saturating_add(cost_of(1, request_fee.picos()))
        .saturating_add(units_cost(call, quote, input_tokens))
        .saturating_add(cost_added(quote, input_tokens));
    let sized = HoldEstimate {
        input_tokens,
        output_tokens: whole_output,
        usd: Usd::ZERO,
        named_output: named,
        input_usd,
        input_price_picos: input_price.picos(),
        output_price_picos: output_price.picos(),
        basis,
        priced: found.reason.is_none(),
        start,
        whole_output,
        most_output: most.saturating_mul(choices),
        uncached_input_usd: None,
    };
    sized.with_output(whole_output)
}

/// What a stream's hold begins with: what 99 of 100 such calls take, as far as that is learned.
fn learned_start(gateway: &Gateway, exchange: &Exchange, model: &str, first_step: u64, whole: u64) -> HoldStart {
    let learned = gateway.estimator.output_of_calls(model, &exchange.identity.agent);
    let Some((output_tokens, of)) = learned else {
        if exchange.inspected.call.thoughtless || !thinks_unseen(exchange, model) {
            return HoldStart::first_step(first_step);
        }
        return HoldStart {
            output_tokens: first_step.saturating_mul(UNSEEN_STEPS).min(whole),
            basis: FIRST_STEPS,
            first_step,
        };
    };
    HoldStart {
        output_tokens,
        basis: match of {
            LearnedOf::Agent => "learned p99 of the model and agent",
            LearnedOf::Model => "learned p99 of the model",
            LearnedOf::All => "learned p99 of all models",
        },
        first_step: first_step.min(output_tokens),
    }
}

/// The same stream with its input held as it will be billed where its provider's cache has what the last call of its session left
/// there. `None`: nothing says so, or the call is not one that is extended or cut once its input is known.
pub fn relying_on_cache(gateway: &Gateway, exchange: &Exchange, estimate: &HoldEstimate) -> Option<HoldEstimate> {
    estimate.start?;
    if estimate.uncached_input_usd.is_some() || exchange.rules.config.hold.size != HoldSize::Auto {
        return None;
    }
    let of = exchange.prompt_of()?;
    let (text_bytes, now_ms) = (exchange.inspected.text.bytes(), gateway.clock.monotonic_ms());
    let prompts = &gateway.cached_input.prompts;
    let tokens = prompts.expected(of, text_bytes, estimate.input_tokens, now_ms)?;
    let found = find_for(exchange, of.model)?;
    let read_price = in_dearer_tier(&exchange.inspected.call, |tier| {
        found.quote.unit_price(Kind::CacheRead, estimate.input_tokens, tier)
    });
    let full = cost_of(estimate.input_tokens, estimate.input_price_picos);
    let expected =
        cost_of(tokens.read, read_price.picos()).saturating_add(cost_of(tokens.fresh, estimate.input_price_picos));
    let relying = HoldEstimate {
        input_usd: estimate
            .input_usd
            .saturating_sub(full)
            .max(Usd::ZERO)
            .saturating_add(expected),
        uncached_input_usd: Some(estimate.input_usd),
        basis: "input as far as the session's last call left it in the cache",
        ..estimate.clone()
    };
    (relying.input_usd < estimate.input_usd).then(|| relying.with_output(estimate.output_tokens))
}

/// A tier that a client names may make its request dearer, never cheaper, until the answer confirms it. A variant is decided by
/// the request alone.
fn in_dearer_tier<P: Ord>(call: &Call, price: impl Fn(Option<&str>) -> P) -> P {
    if let Some(variant) = call.variant.as_deref() {
        return price(Some(variant));
    }
    let standard = price(None);
    match call.service_tier.as_deref() {
        Some(tier) => standard.max(price(Some(tier))),
        None => standard,
    }
}

/// What hosted tools that the request names may bill beside the answer's own tokens.
///
/// # Errors
/// A tool's model has no price, and such are refused.
fn cost_beside(exchange: &Exchange) -> Result<Usd, Refusal> {
    let call = &exchange.inspected.call;
    let mut sum = Usd::ZERO;
    for part in &call.beside {
        let model = part.model.as_deref().unwrap_or(&call.model);
        let found = match model {
            "" => find_dearest(exchange),
            model => find_for(exchange, model),
        };
        let found = found.ok_or_else(|| unpriced(model))?;
        let counts = part.usage.iter().map(|(kind, units)| (kind.in_ledger(), *units));
        sum = sum.saturating_add(found.quote.cost(&counts.collect(), None));
    }
    Ok(sum)
}

/// A model without a price, where such are refused.
pub fn unpriced(model: &str) -> Refusal {
    let message = format!(
        "model {} has no price here, and unpriced models are refused",
        shown(model)
    );
    Refusal::new(RefusalCode::UnpricedModel, message).final_answer()
}

fn shown(model: &str) -> String {
    model.chars().filter(|one| !one.is_control()).take(80).collect()
}

/// Tokens of the request's input as this model will count them.
pub fn input_estimate(gateway: &Gateway, exchange: &Exchange, model: &str, config: &HoldConfig) -> u64 {
    let inspected = &exchange.inspected;
    let text = &inspected.text;
    let by_ratio = gateway.estimator.input_tokens_of_bytes(model, text.bytes());
    let counted = if by_ratio.method == Method::Assumed && text.bytes() <= COUNTED_TEXT_BYTES_MAX {
        gateway.estimator.input_tokens(model, text.sample())
    } else {
        by_ratio
    };
    let mut tokens = counted.tokens.saturating_add(STRUCTURE_TOKENS);
    tokens = tokens.saturating_add(inspected.kept_tokens);
    let Some(outline) = &inspected.outline else {
        return tokens;
    };
    let mut media_bytes = 0;
    for (medium, name) in [
        (Medium::Image, "image"),
        (Medium::Audio, "audio"),
        (Medium::File, "file"),
    ] {
        let (items, bytes) = outline.medium(medium);
        media_bytes += bytes;
        let allowance = config.allowances.get(name).copied().unwrap_or(0);
        tokens = tokens.saturating_add(u64::from(items).saturating_mul(allowance));
    }
    if let Some(bytes) = inspected.call.media_bytes_per_token {
        tokens = tokens.saturating_add(media_bytes / u64::from(bytes.max(1)));
    }
    if inspected.kept_tokens == 0 && inspected.call.continues {
        tokens = tokens.saturating_add(config.allowances.get("context").copied().unwrap_or(0));
    }
    if outline.bytes > STRUCTURED_BODY_BYTES {
        let structure = outline
            .bytes
            .saturating_sub(outline.text_bytes)
            .saturating_sub(media_bytes);
        tokens = tokens.saturating_add(structure / STRUCTURE_BYTES_PER_TOKEN);
    }
    tokens
}

/// Whether the prompt may be written to a cache, which costs more than plain input. What the provider does unasked counts
/// where it charges for it.
fn cache_writes(call: &Call, quote: &Quote<'_>, input_tokens: u64) -> CacheWrites {
    match call.cache_writes {
        RequestedCacheWrites::FiveMinutes => CacheWrites::FiveMinutes,
        RequestedCacheWrites::OneHour => CacheWrites::OneHour,
        RequestedCacheWrites::Unasked(from) if input_tokens >= from && quote.states(Kind::CacheWrite5m, None) => {
            CacheWrites::FiveMinutes
        }
        RequestedCacheWrites::Unasked(_) | RequestedCacheWrites::None => CacheWrites::None,
    }
}

/// What the model's name has each request use beside it, as a web search of `:online`.
fn cost_added(quote: &Quote<'_>, input_tokens: u64) -> Usd {
    quote.added().map_or(Usd::ZERO, |(kind, units)| {
        cost_of(units, quote.unit_price(kind, input_tokens, None).picos())
    })
}

/// What the units that the request itself names cost, as far as the model's price names their kinds.
fn units_cost(call: &Call, quote: &Quote<'_>, input_tokens: u64) -> Usd {
    in_dearer_tier(call, |tier| {
        let stated = || call.units.iter().filter(|(kind, _)| quote.states(*kind, tier));
        let by_unit = stated().fold(Usd::ZERO, |sum, (kind, units)| {
            sum.saturating_add(cost_of(*units, quote.unit_price(*kind, input_tokens, tier).picos()))
        });
        // No less than the least that is billed of a kind.
        by_unit.max(quote.cost(&stated().copied().collect(), tier))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_hold_is_rounded_up_to_whole_nanos() {
        assert_eq!(cost_of(1, 1), Usd::from_nanos(1));
        assert_eq!(cost_of(1000, 1), Usd::from_nanos(1));
        assert_eq!(cost_of(1001, 1), Usd::from_nanos(2));
        assert_eq!(cost_of(u64::MAX, i64::MAX), Usd::from_nanos(i64::MAX));
    }
}
