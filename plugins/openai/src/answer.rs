//! Reads answers: whole ones, and the events of streams.

use agentledger_guest::usage::{Tally, UNITS_MAX, Units};
use agentledger_guest::{AnswerFrame, Kind, Part, Reading};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::fees::{Fees, Research};
use crate::info::REALTIME;
use crate::realtime;

type Raw<'a> = Option<&'a RawValue>;

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow, default)]
    id: Raw<'a>,
    #[serde(borrow, default)]
    model: Raw<'a>,
    #[serde(borrow, default, rename = "type")]
    kind: Raw<'a>,
    #[serde(borrow, default)]
    service_tier: Raw<'a>,
    #[serde(borrow, default)]
    usage: Raw<'a>,
    #[serde(borrow, default)]
    x_groq: Option<XGroq<'a>>,
    #[serde(borrow, default)]
    choices: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    error: Raw<'a>,
    #[serde(borrow, default)]
    status: Raw<'a>,
    #[serde(default)]
    tool_usage: Option<ToolUsage>,
    #[serde(borrow, default)]
    response: Option<Response<'a>>,
}

#[derive(Deserialize)]
struct XGroq<'a> {
    #[serde(borrow, default)]
    usage: Raw<'a>,
}

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow, default)]
    id: Raw<'a>,
    #[serde(borrow, default)]
    model: Raw<'a>,
    #[serde(borrow, default)]
    status: Raw<'a>,
    #[serde(borrow, default)]
    service_tier: Raw<'a>,
    #[serde(borrow, default)]
    usage: Raw<'a>,
    #[serde(default)]
    tool_usage: Option<ToolUsage>,
}

#[derive(Deserialize)]
struct ToolUsage {
    #[serde(default)]
    web_search: Option<WebSearch>,
}

#[derive(Deserialize)]
struct WebSearch {
    #[serde(default)]
    num_requests: Units,
}

/// Chat's names and the newer ones of Responses beside each other; hosts mix them.
#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: Option<Units>,
    #[serde(default)]
    completion_tokens: Option<Units>,
    #[serde(default)]
    input_tokens: Option<Units>,
    #[serde(default)]
    output_tokens: Option<Units>,
    #[serde(default)]
    total_tokens: Option<Units>,
    #[serde(default)]
    prompt_tokens_details: Option<InputDetails>,
    #[serde(default)]
    input_tokens_details: Option<InputDetails>,
    #[serde(default)]
    completion_tokens_details: Option<OutputDetails>,
    #[serde(default)]
    output_tokens_details: Option<OutputDetails>,
    /// DeepSeek's name for cached tokens.
    #[serde(default)]
    prompt_cache_hit_tokens: Option<Units>,
    /// Moonshot's.
    #[serde(default)]
    cached_tokens: Option<Units>,
}

#[derive(Deserialize, Default)]
struct InputDetails {
    #[serde(default)]
    cached_tokens: Option<Units>,
    #[serde(default)]
    cache_write_tokens: Units,
    #[serde(default)]
    audio_tokens: Units,
}

#[derive(Deserialize, Default)]
struct OutputDetails {
    #[serde(default)]
    reasoning_tokens: Option<Units>,
    #[serde(default)]
    audio_tokens: Units,
}

pub fn read(frame: &AnswerFrame) -> Option<Reading> {
    let body: Frame<'_> = serde_json::from_str(&frame.outline).ok()?;
    let kind = text(body.kind);
    // A response stands at the top of a whole answer, and inside the events of a stream.
    let (id, model, tier, usage, status, tools) = match &body.response {
        Some(response) => (
            response.id,
            response.model,
            response.service_tier,
            response.usage,
            response.status,
            &response.tool_usage,
        ),
        None => (
            body.id,
            body.model,
            body.service_tier,
            body.usage,
            body.status,
            &body.tool_usage,
        ),
    };
    let usage = there(usage).or_else(|| body.x_groq.as_ref().and_then(|groq| there(groq.usage)));
    let mut reading = Reading {
        model: text(model).filter(|name| !name.is_empty()),
        response_id: text(id).filter(|id| !id.is_empty()),
        service_tier: text(tier),
        parts: vec![],
        reported_cost: None,
        usage_only: false,
        final_: false,
        failed: there(body.error).is_some()
            || kind.as_deref() == Some("error")
            || text(status).as_deref() == Some("failed"),
    };
    if frame.operation == REALTIME {
        reading.parts.extend(usage.and_then(realtime::part));
    } else if let Some(raw) = usage.filter(|raw| raw.get().starts_with('{'))
        && let (Ok(usage), Ok(fees)) = (
            serde_json::from_str::<Usage>(raw.get()),
            serde_json::from_str::<Fees<'_>>(raw.get()),
        )
    {
        // A report that contradicts itself is no report: the host estimates.
        let searches = tools
            .as_ref()
            .and_then(|tools| tools.web_search.as_ref())
            .map_or(0, |search| search.num_requests.0);
        reading.parts.extend(part(&usage, &fees.research(), searches));
        reading.reported_cost = fees.reported();
        reading.service_tier = reading.service_tier.or_else(|| fees.tier());
    }
    if frame.streamed {
        let only_usage = !reading.parts.is_empty() && body.choices.as_ref().is_some_and(Vec::is_empty);
        reading.usage_only = only_usage;
        reading.final_ = only_usage
            || matches!(
                kind.as_deref(),
                Some("response.completed" | "response.incomplete" | "response.failed" | "error")
            )
            || (frame.operation == REALTIME && realtime::is_final(kind.as_deref()));
    }
    let says_nothing = reading.model.is_none()
        && reading.response_id.is_none()
        && reading.service_tier.is_none()
        && reading.parts.is_empty()
        && !reading.failed
        && !reading.final_;
    (!says_nothing).then_some(reading)
}

/// Disjoint counts. Cached and written tokens lie inside the prompt's, audio inside both sides, reasoning inside output.
fn part(usage: &Usage, research: &Research, searches: u64) -> Option<Part> {
    let input = usage.prompt_tokens.or(usage.input_tokens);
    let output = usage.completion_tokens.or(usage.output_tokens);
    if input.is_none() && output.is_none() {
        return None;
    }
    let input = input.unwrap_or_default().0;
    let mut output = output.unwrap_or_default().0;
    // Some hosts (xAI, Gemini's compatible API) leave thinking out of the output and count it in the total alone.
    if let Some(total) = usage.total_tokens {
        output = output.max(total.0.saturating_sub(input));
    }
    let nothing_in = InputDetails::default();
    let nothing_out = OutputDetails::default();
    let details = usage
        .prompt_tokens_details
        .as_ref()
        .or(usage.input_tokens_details.as_ref())
        .unwrap_or(&nothing_in);
    let said = usage
        .completion_tokens_details
        .as_ref()
        .or(usage.output_tokens_details.as_ref())
        .unwrap_or(&nothing_out);
    let cached = details
        .cached_tokens
        .or(usage.prompt_cache_hit_tokens)
        .or(usage.cached_tokens)
        .unwrap_or_default()
        .0;
    let written = details.cache_write_tokens.0;
    let fresh = input.checked_sub(cached)?.checked_sub(written)?;
    // Cached audio is counted as cached and as audio; what was cached is no longer audio to be paid in full.
    let audio_in = details.audio_tokens.0.min(fresh);
    let audio_out = said.audio_tokens.0;
    let reasoning = research.reasoning.or(said.reasoning_tokens.map(|units| units.0));
    let text_out = output.checked_sub(audio_out)?;
    if output > UNITS_MAX {
        return None;
    }
    let mut tally = Tally::default();
    tally.add(Kind::Input, fresh - audio_in);
    tally.add(Kind::Input, research.citations);
    tally.add(Kind::CacheRead, cached);
    tally.add(Kind::CacheWrite5m, written);
    tally.add(Kind::Output, text_out);
    tally.add(Kind::Output, research.reasoning.unwrap_or(0));
    tally.add(Kind::AudioInput, audio_in);
    tally.add(Kind::AudioOutput, audio_out);
    tally.add(Kind::WebSearch, searches);
    tally.add(Kind::WebSearch, research.searches);
    tally.reason(reasoning);
    Some(tally.part(None))
}

fn there(field: Raw<'_>) -> Raw<'_> {
    field.filter(|raw| raw.get() != "null")
}

fn text(field: Raw<'_>) -> Option<String> {
    serde_json::from_str(there(field)?.get()).ok()
}
