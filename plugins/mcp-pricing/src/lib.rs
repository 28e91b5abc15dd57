//! Prices tool calls by the rules of the configuration's `mcp.pricing`. The gateway reads and checks those and hands them over
//! in nano-dollars; which rule fits a call is the gateway's to find, by the servers and tools that the tariffs name.

#[cfg(test)]
mod tests;

use agentledger_guest::pricer::{Answer, Call, Hold, Info, Part, Pricer, Problem, part, problem, tariff};
use agentledger_guest::{pricer::Tariff, serde_json};
use serde::Deserialize;

const PICOS_PER_NANO: u128 = 1_000;

/// The rules, in the order of the tariffs.
struct Rules(Vec<Rule>);

agentledger_guest::export_pricer!(Rules);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Conf {
    rules: Vec<Rule>,
}

/// Money in nano-dollars.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    server: String,
    tool: String,
    call: u64,
    /// For 1,000 bytes.
    argument_kb: u64,
    result_kb: u64,
    second: u64,
    item: u64,
    /// The path of the list whose items are counted.
    items: Option<String>,
    /// A call never costs more.
    max: Option<u64>,
    /// Held for what only the answer tells. Left out, where there is a maximum: that is held.
    hold: Option<u64>,
    tool_errors: bool,
    protocol_errors: bool,
}

impl Pricer for Rules {
    fn configure(config: &str) -> Result<(Rules, Info), Vec<Problem>> {
        let conf: Conf = serde_json::from_str(config).map_err(|error| vec![problem("", error.to_string())])?;
        let info = Info {
            name: "mcp-pricing".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            tariffs: conf.rules.iter().map(Rule::tariff).collect(),
        };
        Ok((Rules(conf.rules), info))
    }

    fn quote(&self, call: &Call) -> Hold {
        match self.rule(call) {
            Some(rule) => rule.quote(call),
            None => Hold::Unknown,
        }
    }

    fn price(&self, call: &Call, answer: &Answer) -> Vec<Part> {
        self.rule(call).map_or_else(Vec::new, |rule| rule.price(call, answer))
    }
}

impl Rules {
    fn rule(&self, call: &Call) -> Option<&Rule> {
        self.0.get(usize::try_from(call.tariff).ok()?)
    }
}

impl Rule {
    fn tariff(&self) -> Tariff {
        Tariff {
            result_counts: self.items.iter().map(|path| format!("{path}.*")).collect(),
            prices_tool_errors: self.tool_errors,
            prices_protocol_errors: self.protocol_errors,
            ..tariff(&self.server, &self.tool)
        }
    }

    fn is_told_by_answer(&self) -> bool {
        self.result_kb > 0 || self.second > 0 || self.item > 0
    }

    fn quote(&self, call: &Call) -> Hold {
        let max = self.max.map(|nanos| picos(1, nanos));
        let known: u128 = self.before(call).iter().map(|part| u128::from(part.cost)).sum();
        let fits = |picos: u128| u64::try_from(picos).unwrap_or(u64::MAX);
        if !self.is_told_by_answer() {
            return Hold::AtMost(fits(max.map_or(known, |max| known.min(max))));
        }
        let about = self.hold.map(|nanos| known + picos(1, nanos));
        match (about, max) {
            (Some(about), Some(max)) if about < max => Hold::About(fits(about)),
            (_, Some(max)) => Hold::AtMost(fits(max)),
            (Some(about), None) => Hold::About(fits(about)),
            (None, None) => Hold::Unknown,
        }
    }

    fn price(&self, call: &Call, answer: &Answer) -> Vec<Part> {
        let items = answer.result_counts.first().copied().unwrap_or_default();
        let mut parts = self.before(call);
        parts.extend([
            // A thousandth of a thousand bytes' nano-dollars is a pico-dollar for each byte; so it is with seconds.
            part(
                "result_bytes",
                answer.result_bytes,
                product(answer.result_bytes, self.result_kb),
            ),
            part(
                "milliseconds",
                answer.milliseconds,
                product(answer.milliseconds, self.second),
            ),
            part("items", items, picos(items, self.item)),
        ]);
        parts.retain(|part| part.cost > 0);
        if let Some(max) = self.max {
            cap(&mut parts, picos(1, max));
        }
        parts
    }

    /// What is known before the answer.
    fn before(&self, call: &Call) -> Vec<Part> {
        vec![
            part("call", 1, picos(1, self.call)),
            part(
                "argument_bytes",
                call.argument_bytes,
                product(call.argument_bytes, self.argument_kb),
            ),
        ]
    }
}

fn product(units: u64, each: u64) -> u128 {
    u128::from(units) * u128::from(each)
}

/// So many units at so many nano-dollars each.
fn picos(units: u64, nanos: u64) -> u128 {
    product(units, nanos).saturating_mul(PICOS_PER_NANO)
}

/// Takes from the last parts what is above `max`.
fn cap(parts: &mut Vec<Part>, max: u128) {
    let mut left = max;
    for part in parts.iter_mut() {
        let kept = u128::from(part.cost).min(left);
        left -= kept;
        part.cost = u64::try_from(kept).unwrap_or(u64::MAX);
    }
    parts.retain(|part| part.cost > 0);
}
