//! Reads answers: whole ones, and the events of streams.

use agentledger_guest::answer::{Contradiction, Raw, parse, report, rest, said, text, there, thought_inside, used};
use agentledger_guest::usage::{Tally, Units, decimal};
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
    delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    container: Option<Container<'a>>,
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
    #[serde(borrow, default)]
    container: Option<Container<'a>>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    usage: Raw<'a>,
    #[serde(borrow, default)]
    container: Option<Container<'a>>,
}

/// Where code ran. <https://platform.claude.com/docs/en/agents-and-tools/tool-use/code-execution-tool>
#[derive(Deserialize)]
struct Container<'a> {
    #[serde(borrow, default)]
    id: Raw<'a>,
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
struct Usage<'a> {
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
    /// OpenRouter: USD. <https://openrouter.ai/docs/use-cases/usage-accounting>
    #[serde(borrow, default)]
    cost: Raw<'a>,
}

impl Usage<'_> {
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
    #[serde(default)]
    web_fetch_requests: Option<Units>,
    #[serde(default)]
    code_execution_requests: Option<Units>,
}

impl ServerToolUse {
    fn counts(&self) -> [(Kind, Option<Units>); 3] {
        [
            (Kind::WebSearch, self.web_search_requests),
            // Free at Anthropic, and counted all the same.
            (Kind::WebFetch, self.web_fetch_requests),
            (Kind::CodeExecution, self.code_execution_requests),
        ]
    }
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
    let model = message.map_or(body.model, |message| message.model);
    let usage = usage_of(&body, message);
    let mut reading = Reading {
        model: text(model)
            .filter(|name| !name.is_empty())
            .or_else(|| taken_over(&body)),
        final_: frame.streamed && (kind == "message_stop" || kind == "error"),
        failed: kind == "error",
        ..agentledger_guest::reading()
    };
    let usage = usage.map(parse::<Usage<'_>>).transpose();
    if let Ok(Some(usage)) = &usage {
        reading.unread_fee = ran_code(&body, message, usage);
        reading.reported_cost = there(usage.cost).and_then(|cost| decimal(cost, 0));
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
    let told = usage.and_then(|usage| usage.map_or(Ok(vec![]), |usage| parts(&usage)));
    used(&mut reading, thought_inside(told));
    if of_batch {
        reading.bill_id = text(body.custom_id);
        reading.service_tier = reading.service_tier.or_else(|| Some("batch".to_owned()));
    }
    said(reading)
}

/// Where the frame reports its usage: inside the message, beside it, or, at some hosts, with what changed.
fn usage_of<'a>(body: &Frame<'a>, message: Option<&Message<'a>>) -> Raw<'a> {
    let inside = message.and_then(|message| report(message.usage));
    let delta = || body.delta.as_ref().and_then(|delta| report(delta.usage));
    inside.or_else(|| report(body.usage)).or_else(delta)
}

/// Code ran, and is billed by the hour of its container, of which no answer tells: unless a web tool was used beside it,
/// with which it is free. <https://platform.claude.com/docs/en/about-claude/pricing>
fn ran_code(body: &Frame<'_>, message: Option<&Message<'_>>, usage: &Usage<'_>) -> bool {
    let containers = [
        body.container.as_ref(),
        body.delta.as_ref().and_then(|delta| delta.container.as_ref()),
        message.and_then(|message| message.container.as_ref()),
    ];
    let contained = containers.into_iter().flatten().any(|one| there(one.id).is_some());
    let used = |kind: Kind| {
        let counts = usage.server_tool_use.as_ref().map(ServerToolUse::counts);
        let mut counts = counts.into_iter().flatten();
        counts.any(|(known, units)| known == kind && units.is_some_and(|units| units.0 > 0))
    };
    (contained || used(Kind::CodeExecution)) && !used(Kind::WebSearch) && !used(Kind::WebFetch)
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
fn parts(usage: &Usage<'_>) -> Result<Vec<Part>, Contradiction> {
    let iterations = usage.iterations.as_deref().unwrap_or_default();
    let mut own = Tally::default();
    add(&mut own, &whole(usage.counts(), iterations))?;
    for run in iterations.iter().filter(|run| run.kind == "compaction") {
        add(&mut own, &run.counts)?;
    }
    let tools = usage.server_tool_use.as_ref().map(ServerToolUse::counts);
    for (kind, units) in tools.into_iter().flatten() {
        if let Some(units) = units {
            own.add(kind, units.0);
        }
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
