//! Reads answers: whole ones, and the events of streams.

use agentledger_guest::usage::{Tally, UNITS_MAX, Units};
use agentledger_guest::{AnswerFrame, Kind, Part, Reading};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::fees::{Fees, Research};
use crate::info::{
    CANCEL, FILE_CONTENT, IMAGE_EDITS, IMAGE_VARIATIONS, IMAGES, REALTIME, RERANK, RESPONSES, RETRIEVE, SPEECH,
    TRANSCRIPTIONS, TRANSLATIONS,
};
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
    #[serde(borrow, default)]
    store: Raw<'a>,
    #[serde(default)]
    tool_usage: Option<ToolUsage>,
    #[serde(borrow, default)]
    response: Option<Answer<'a>>,
    /// Images.
    #[serde(borrow, default)]
    data: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    svg_usage: Option<SvgUsage<'a>>,
    /// Of a recording, in seconds.
    #[serde(borrow, default)]
    duration: Raw<'a>,
    #[serde(borrow, default)]
    meta: Option<Meta<'a>>,
    #[serde(borrow, default)]
    custom_id: Raw<'a>,
}

#[derive(Deserialize)]
struct XGroq<'a> {
    #[serde(borrow, default)]
    usage: Raw<'a>,
}

/// What says how much was used: a whole answer, the response within an event, the body within a line of a batch.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    id: Raw<'a>,
    #[serde(borrow, default)]
    model: Raw<'a>,
    #[serde(borrow, default)]
    status: Raw<'a>,
    #[serde(borrow, default)]
    store: Raw<'a>,
    #[serde(borrow, default)]
    service_tier: Raw<'a>,
    #[serde(borrow, default)]
    usage: Raw<'a>,
    #[serde(default)]
    tool_usage: Option<ToolUsage>,
    #[serde(borrow, default)]
    body: Raw<'a>,
}

#[derive(Deserialize, Clone, Copy)]
struct ToolUsage {
    #[serde(default)]
    web_search: Option<WebSearch>,
}

#[derive(Deserialize, Clone, Copy)]
struct WebSearch {
    #[serde(default)]
    num_requests: Units,
}

/// What a text model used that wrote a drawing.
#[derive(Deserialize)]
struct SvgUsage<'a> {
    #[serde(borrow, default)]
    model: Raw<'a>,
    #[serde(default)]
    input_tokens: Units,
    #[serde(default)]
    output_tokens: Units,
    #[serde(default)]
    reasoning_tokens: Option<Units>,
}

#[derive(Deserialize)]
struct Meta<'a> {
    #[serde(borrow, default)]
    billed_units: Raw<'a>,
}

/// Rerank as Cohere bills it.
#[derive(Deserialize)]
struct BilledUnits {
    #[serde(default)]
    search_units: Option<Units>,
    #[serde(default)]
    input_tokens: Option<Units>,
}

/// Chat's names and the newer ones of Responses beside each other; hosts mix them.
#[derive(Deserialize)]
struct Usage<'a> {
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
    /// Transcriptions say `input_token_details`.
    #[serde(default, alias = "input_token_details")]
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
    /// A recording billed by its length.
    #[serde(borrow, default)]
    seconds: Raw<'a>,
}

#[derive(Deserialize, Default)]
struct InputDetails {
    #[serde(default)]
    cached_tokens: Option<Units>,
    #[serde(default)]
    cache_write_tokens: Units,
    #[serde(default)]
    audio_tokens: Units,
    #[serde(default)]
    image_tokens: Units,
}

#[derive(Deserialize, Default)]
struct OutputDetails {
    #[serde(default)]
    reasoning_tokens: Option<Units>,
    #[serde(default)]
    audio_tokens: Units,
    #[serde(default)]
    image_tokens: Option<Units>,
}

pub fn read(frame: &AnswerFrame) -> Option<Reading> {
    let body: Frame<'_> = serde_json::from_str(&frame.outline).ok()?;
    let operation = frame.operation.as_str();
    if operation == FILE_CONTENT {
        return line(&body);
    }
    let kind = text(body.kind);
    // A response stands at the top of a whole answer, and inside the events of a stream.
    let whole = body.as_answer();
    let answer = body.response.as_ref().unwrap_or(&whole);
    let usage = there(answer.usage).or_else(|| body.x_groq.as_ref().and_then(|groq| there(groq.usage)));
    let status = text(answer.status);
    let mut reading = Reading {
        model: text(answer.model).filter(|name| !name.is_empty()),
        response_id: text(answer.id).filter(|id| !id.is_empty()),
        service_tier: text(answer.service_tier),
        failed: there(body.error).is_some() || kind.as_deref() == Some("error") || status.as_deref() == Some("failed"),
        ..agentledger_guest::reading()
    };
    if matches!(operation, RESPONSES | RETRIEVE | CANCEL) {
        // What is not stored cannot be fetched again.
        let stored = there(answer.store).is_none_or(|store| store.get() != "false");
        reading.bill_id = reading.response_id.clone().filter(|_| stored);
        reading.pending = matches!(status.as_deref(), Some("queued" | "in_progress"));
    }
    if operation == REALTIME {
        reading.parts.extend(usage.and_then(realtime::part));
    } else if let Some(raw) = usage.filter(|raw| raw.get().starts_with('{')) {
        if let (Ok(usage), Ok(fees)) = (
            serde_json::from_str::<Usage<'_>>(raw.get()),
            serde_json::from_str::<Fees<'_>>(raw.get()),
        ) {
            // A report that contradicts itself is no report: the host estimates.
            let part = part(&usage, &fees.research(), searches(answer), operation);
            reading.parts.extend(part);
            reading.reported_cost = fees.reported();
            reading.service_tier = reading.service_tier.or_else(|| fees.tier());
        }
    } else {
        reading.parts.extend(counted(&body, operation));
    }
    reading.parts.extend(body.svg_usage.as_ref().and_then(drawing));
    if frame.streamed {
        let only_usage = !reading.parts.is_empty() && body.choices.as_ref().is_some_and(Vec::is_empty);
        reading.usage_only = only_usage;
        reading.final_ = only_usage
            || kind.as_deref().is_some_and(ends)
            || (operation == REALTIME && realtime::is_final(kind.as_deref()));
    }
    let says_nothing = reading.model.is_none()
        && reading.response_id.is_none()
        && reading.service_tier.is_none()
        && reading.parts.is_empty()
        && !reading.failed
        && !reading.final_;
    (!says_nothing).then_some(reading)
}

/// Events that end a stream.
fn ends(kind: &str) -> bool {
    matches!(
        kind,
        "response.completed"
            | "response.incomplete"
            | "response.failed"
            | "error"
            | "speech.audio.done"
            | "transcript.text.done"
            | "image_generation.completed"
            | "image_edit.completed"
    )
}

/// A line of a batch's results: one answer, at the batch's price. Lines of other files say nothing.
fn line(body: &Frame<'_>) -> Option<Reading> {
    let inner: Answer<'_> = serde_json::from_str(there(body.response.as_ref()?.body)?.get()).ok()?;
    let raw = there(inner.usage).filter(|raw| raw.get().starts_with('{'))?;
    let usage = serde_json::from_str::<Usage<'_>>(raw.get()).ok();
    Some(Reading {
        model: text(inner.model).filter(|name| !name.is_empty()),
        response_id: text(inner.id),
        bill_id: text(body.id).or_else(|| text(body.custom_id)),
        service_tier: Some("batch".to_owned()),
        parts: usage
            .and_then(|usage| part(&usage, &Research::default(), searches(&inner), FILE_CONTENT))
            .into_iter()
            .collect(),
        ..agentledger_guest::reading()
    })
}

fn drawing(usage: &SvgUsage<'_>) -> Option<Part> {
    let mut tally = Tally::default();
    tally.add(Kind::Input, usage.input_tokens.0);
    tally.add(Kind::Output, usage.output_tokens.0);
    tally.reason(usage.reasoning_tokens.map(|units| units.0));
    Some(tally.part(Some(text(usage.model)?)))
}

/// What an answer without a report can be counted by.
fn counted(body: &Frame<'_>, operation: &str) -> Option<Part> {
    let mut tally = Tally::default();
    match operation {
        IMAGES | IMAGE_EDITS | IMAGE_VARIATIONS => tally.add(Kind::Image, body.data.as_ref()?.len() as u64),
        TRANSCRIPTIONS | TRANSLATIONS => tally.add(Kind::Second, seconds(there(body.duration)?)?),
        RERANK => {
            let units = there(body.meta.as_ref()?.billed_units)?;
            let units: BilledUnits = serde_json::from_str(units.get()).ok()?;
            match (units.search_units, units.input_tokens) {
                (Some(searches), _) => tally.add(Kind::Request, searches.0),
                (None, Some(tokens)) => tally.add(Kind::Input, tokens.0),
                (None, None) => return None,
            }
        }
        _ => return None,
    }
    Some(tally.part(None))
}

/// Seconds, begun ones counted whole; some hosts write the number as a string.
fn seconds(raw: &RawValue) -> Option<u64> {
    let number = raw.get().trim_matches('"');
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let begun = u64::from(fraction.bytes().any(|byte| byte != b'0'));
    let seconds = whole.parse::<u64>().ok()?.checked_add(begun)?;
    (seconds <= UNITS_MAX).then_some(seconds)
}

fn searches(answer: &Answer<'_>) -> u64 {
    let search = answer.tool_usage.and_then(|tools| tools.web_search);
    search.map_or(0, |search| search.num_requests.0)
}

impl<'a> Frame<'a> {
    /// The frame itself, as an answer.
    fn as_answer(&self) -> Answer<'a> {
        Answer {
            id: self.id,
            model: self.model,
            status: self.status,
            store: self.store,
            service_tier: self.service_tier,
            usage: self.usage,
            tool_usage: self.tool_usage,
            body: None,
        }
    }
}

/// Disjoint counts. Cached and written tokens lie inside the prompt's, audio and images inside both sides, reasoning inside
/// output.
fn part(usage: &Usage<'_>, research: &Research, searches: u64, operation: &str) -> Option<Part> {
    if let Some(raw) = there(usage.seconds) {
        let mut tally = Tally::default();
        tally.add(Kind::Second, seconds(raw)?);
        return Some(tally.part(None));
    }
    let input = usage.prompt_tokens.or(usage.input_tokens);
    let output = usage.completion_tokens.or(usage.output_tokens);
    if input.is_none() && output.is_none() && (operation != RERANK || usage.total_tokens.is_none()) {
        return None;
    }
    // Rerank has no output: where only the total is told, it is the input.
    let input = input.or(usage.total_tokens).unwrap_or_default().0;
    let mut output = output.unwrap_or_default().0;
    // Some hosts (xAI, Gemini's compatible API) leave thinking out of the output and count it in the total alone.
    if let Some(total) = usage.total_tokens {
        output = output.max(total.0.saturating_sub(input));
    }
    if output > UNITS_MAX {
        return None;
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
    // Only image models bill images apart; in a chat they are input like any other.
    let of_images = matches!(operation, IMAGES | IMAGE_EDITS | IMAGE_VARIATIONS);
    let image_in = if of_images {
        details.image_tokens.0.min(fresh - audio_in)
    } else {
        0
    };
    let (audio_out, image_out) = match operation {
        SPEECH => (output, 0),
        _ if of_images => (0, said.image_tokens.map_or(output, |units| units.0)),
        _ => (said.audio_tokens.0, 0),
    };
    let text_out = output.checked_sub(audio_out)?.checked_sub(image_out)?;
    let mut tally = Tally::default();
    tally.add(Kind::Input, fresh - audio_in - image_in);
    tally.add(Kind::Input, research.citations);
    tally.add(Kind::CacheRead, cached);
    tally.add(Kind::CacheWrite5m, written);
    tally.add(Kind::Output, text_out);
    tally.add(Kind::Output, research.reasoning.unwrap_or(0));
    for (kind, units) in [
        (Kind::AudioInput, audio_in),
        (Kind::AudioOutput, audio_out),
        (Kind::ImageInput, image_in),
        (Kind::ImageOutput, image_out),
        (Kind::WebSearch, searches.saturating_add(research.searches)),
    ] {
        tally.add(kind, units);
    }
    let reasoning = said.reasoning_tokens.map(|units| units.0);
    tally.reason(research.reasoning.or(reasoning));
    Some(tally.part(None))
}

fn there(field: Raw<'_>) -> Raw<'_> {
    field.filter(|raw| raw.get() != "null")
}

fn text(field: Raw<'_>) -> Option<String> {
    serde_json::from_str(there(field)?.get()).ok()
}
