//! Reads answers: whole ones, and the events of streams.

use agentledger_guest::answer::{Contradiction, Raw, parse, report, rest, said, text, used};
use agentledger_guest::usage::{Tally, Units};
use agentledger_guest::{AnswerFrame, Kind, Part, Reading};
use serde::Deserialize;

use crate::info::BATCH_RESULTS;
use crate::request::priced_tier;

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Raw<'a>,
    #[serde(borrow, default)]
    model: Raw<'a>,
    #[serde(borrow, default)]
    usage: Raw<'a>,
    #[serde(borrow, default)]
    message: Option<Message<'a>>,
    #[serde(borrow, default)]
    content_block: Option<Block<'a>>,
    #[serde(borrow, default)]
    custom_id: Raw<'a>,
    #[serde(borrow, default)]
    result: Option<BatchResult<'a>>,
}

/// What became of one request of a batch. Only what succeeded is billed.
#[derive(Deserialize)]
struct BatchResult<'a> {
    #[serde(borrow, default)]
    message: Option<Message<'a>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    model: Raw<'a>,
    #[serde(borrow, default)]
    usage: Raw<'a>,
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Raw<'a>,
    #[serde(borrow, default)]
    to: Option<Target<'a>>,
}

#[derive(Deserialize)]
struct Target<'a> {
    #[serde(borrow, default)]
    model: Raw<'a>,
}

/// The counts stand beside the rest. Flattened by serde they would be copied first, whole.
#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    input_tokens: Option<Units>,
    #[serde(default)]
    cache_read_input_tokens: Option<Units>,
    #[serde(default)]
    cache_creation_input_tokens: Option<Units>,
    #[serde(default)]
    cache_creation: Option<Breakdown>,
    #[serde(default)]
    output_tokens: Option<Units>,
    #[serde(default)]
    server_tool_use: Option<ServerToolUse>,
    #[serde(default)]
    output_tokens_details: Option<OutputDetails>,
    #[serde(default)]
    service_tier: Option<String>,
    #[serde(default)]
    speed: Option<String>,
    #[serde(default)]
    inference_geo: Option<String>,
    #[serde(default)]
    iterations: Option<Vec<Iteration>>,
}

impl Usage {
    fn counts(&self) -> Counts {
        Counts {
            input_tokens: self.input_tokens,
            cache_read_input_tokens: self.cache_read_input_tokens,
            cache_creation_input_tokens: self.cache_creation_input_tokens,
            cache_creation: self.cache_creation,
            output_tokens: self.output_tokens,
        }
    }
}

/// What a report says of one run of a model. An absent count is unknown, not zero: a stream's later reports leave out
/// what they do not change.
#[derive(Deserialize, Clone, Copy, Default)]
struct Counts {
    #[serde(default)]
    input_tokens: Option<Units>,
    #[serde(default)]
    cache_read_input_tokens: Option<Units>,
    #[serde(default)]
    cache_creation_input_tokens: Option<Units>,
    #[serde(default)]
    cache_creation: Option<Breakdown>,
    #[serde(default)]
    output_tokens: Option<Units>,
}

#[derive(Deserialize, Clone, Copy, Default)]
struct Breakdown {
    #[serde(default)]
    ephemeral_5m_input_tokens: Units,
    #[serde(default)]
    ephemeral_1h_input_tokens: Units,
}

#[derive(Deserialize)]
struct ServerToolUse {
    #[serde(default)]
    web_search_requests: Option<Units>,
}

#[derive(Deserialize)]
struct OutputDetails {
    #[serde(default)]
    thinking_tokens: Option<Units>,
}

/// One run of a model within the answer.
#[derive(Deserialize)]
struct Iteration {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    model: Option<String>,
    #[serde(flatten)]
    counts: Counts,
}

pub fn read(frame: &AnswerFrame) -> Option<Reading> {
    let body: Frame<'_> = serde_json::from_str(&frame.outline).ok()?;
    let kind = text(body.kind).unwrap_or_default();
    let of_batch = frame.operation == BATCH_RESULTS;
    let message = if of_batch {
        Some(body.result.as_ref()?.message.as_ref()?)
    } else {
        body.message.as_ref()
    };
    let (model, usage) = match message {
        Some(message) => (message.model, message.usage),
        None => (body.model, body.usage),
    };
    let mut reading = Reading {
        model: text(model)
            .filter(|name| !name.is_empty())
            .or_else(|| taken_over(&body)),
        final_: frame.streamed && (kind == "message_stop" || kind == "error"),
        failed: kind == "error",
        ..agentledger_guest::reading()
    };
    let usage = report(usage).map(parse::<Usage>).transpose();
    if let Ok(Some(usage)) = &usage {
        let iterations = usage.iterations.as_deref().unwrap_or_default();
        // The model that took over after a refusal served the turn, and its price applies.
        let fallback = iterations.iter().rev().find(|run| run.kind == "fallback_message");
        reading.model = fallback.and_then(|run| run.model.clone()).or(reading.model);
        let tier = if of_batch {
            Some("batch".to_owned())
        } else {
            usage.service_tier.clone()
        };
        reading.service_tier = priced_tier(tier, usage.speed.as_deref(), usage.inference_geo.as_deref());
    }
    used(
        &mut reading,
        usage.and_then(|usage| usage.map_or(Ok(vec![]), |usage| parts(&usage))),
    );
    if of_batch {
        reading.bill_id = text(body.custom_id);
        reading.service_tier = reading.service_tier.or_else(|| Some("batch".to_owned()));
    }
    said(reading)
}

fn taken_over(body: &Frame<'_>) -> Option<String> {
    let block = body.content_block.as_ref()?;
    if text(block.kind)? != "fallback" {
        return None;
    }
    text(block.to.as_ref()?.model)
}

/// The top-level counts are those of the answer itself. Compaction is billed on top of them; an advisor is billed on top
/// at its own model's price; a declined attempt of a fallback is not billed at all.
fn parts(usage: &Usage) -> Result<Vec<Part>, Contradiction> {
    let iterations = usage.iterations.as_deref().unwrap_or_default();
    let mut own = Tally::default();
    add(&mut own, &whole(usage.counts(), iterations))?;
    for run in iterations.iter().filter(|run| run.kind == "compaction") {
        add(&mut own, &run.counts)?;
    }
    if let Some(searches) = usage
        .server_tool_use
        .as_ref()
        .and_then(|tools| tools.web_search_requests)
    {
        own.add(Kind::WebSearch, searches.0);
    }
    own.reason(
        usage
            .output_tokens_details
            .as_ref()
            .and_then(|details| details.thinking_tokens)
            .map(|units| units.0),
    );
    let own = own.part(None);
    let mut parts = if own.usage.is_empty() { vec![] } else { vec![own] };
    let mut advisors: Vec<(&Option<String>, Tally)> = vec![];
    for run in iterations.iter().filter(|run| run.kind == "advisor_message") {
        match advisors.iter_mut().find(|(model, _)| **model == run.model) {
            Some((_, tally)) => add(tally, &run.counts)?,
            None => {
                let mut tally = Tally::default();
                add(&mut tally, &run.counts)?;
                advisors.push((&run.model, tally));
            }
        }
    }
    parts.extend(advisors.into_iter().map(|(model, tally)| tally.part(model.clone())));
    Ok(parts)
}

/// Counts that the top level leaves out, from the iterations that it sums up; only where there are iterations, so that
/// what compaction adds never stands alone.
fn whole(top: Counts, iterations: &[Iteration]) -> Counts {
    let sum = |count: fn(&Counts) -> Option<Units>| {
        let runs = iterations.iter().filter(|run| run.kind == "message");
        runs.filter_map(|run| count(&run.counts))
            .reduce(|a, b| Units(a.0.saturating_add(b.0)))
    };
    Counts {
        input_tokens: top.input_tokens.or_else(|| sum(|run| run.input_tokens)),
        cache_read_input_tokens: top
            .cache_read_input_tokens
            .or_else(|| sum(|run| run.cache_read_input_tokens)),
        cache_creation_input_tokens: top
            .cache_creation_input_tokens
            .or_else(|| sum(|run| run.cache_creation_input_tokens)),
        cache_creation: top.cache_creation,
        output_tokens: top.output_tokens.or_else(|| sum(|run| run.output_tokens)),
    }
}

fn add(tally: &mut Tally, counts: &Counts) -> Result<(), Contradiction> {
    let known = [
        (Kind::Input, counts.input_tokens),
        (Kind::CacheRead, counts.cache_read_input_tokens),
        (Kind::Output, counts.output_tokens),
    ];
    for (kind, units) in known {
        if let Some(units) = units {
            tally.add(kind, units.0);
        }
    }
    match (counts.cache_creation, counts.cache_creation_input_tokens) {
        (Some(by), total) => {
            // What the total says beyond the breakdown was written for the default time.
            let named = by
                .ephemeral_5m_input_tokens
                .0
                .saturating_add(by.ephemeral_1h_input_tokens.0);
            let unnamed = total.map_or(Ok(0), |total| rest(total.0, named))?;
            tally.add(
                Kind::CacheWrite5m,
                by.ephemeral_5m_input_tokens.0.saturating_add(unnamed),
            );
            tally.add(Kind::CacheWrite1h, by.ephemeral_1h_input_tokens.0);
        }
        (None, Some(total)) => tally.add(Kind::CacheWrite, total.0),
        (None, None) => {}
    }
    Ok(())
}
