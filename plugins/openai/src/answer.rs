//! Reads answers: whole ones, and the events of streams.

use agentledger_guest::answer::{Contradiction, Raw, parse, report, rest, said, text, there, used};
use agentledger_guest::usage::{Tally, Units};
use agentledger_guest::{AnswerFrame, Kind, Part, Reading};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::fees::{Fees, Research};
use crate::info::{
    CANCEL, FILE_CONTENT, IMAGE_EDITS, IMAGE_VARIATIONS, IMAGES, REALTIME, RERANK, RESPONSES, RETRIEVE, SPEECH,
    TRANSCRIPTIONS, TRANSLATIONS,
};
use crate::realtime;

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
    #[serde(borrow, default)]
    tool_usage: Raw<'a>,
    #[serde(borrow, default)]
    response: Option<Answer<'a>>,
    /// Images.
    #[serde(borrow, default)]
    data: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    svg_usage: Raw<'a>,
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
    #[serde(borrow, default)]
    tool_usage: Raw<'a>,
    #[serde(borrow, default)]
    body: Raw<'a>,
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
    let usage = report(answer.usage).or_else(|| report(body.x_groq.as_ref()?.usage));
    let status = text(answer.status);
    let mut reading = Reading {
        model: text(answer.model).filter(|name| !name.is_empty()),
        service_tier: text(answer.service_tier),
        failed: there(body.error).is_some() || kind.as_deref() == Some("error") || status.as_deref() == Some("failed"),
        ..agentledger_guest::reading()
    };
    if matches!(operation, RESPONSES | RETRIEVE | CANCEL) {
        // What is not stored cannot be fetched again.
        let stored = there(answer.store).is_none_or(|store| store.get() != "false");
        reading.bill_id = text(answer.id).filter(|id| stored && !id.is_empty());
        reading.pending = matches!(status.as_deref(), Some("queued" | "in_progress"));
    }
    match usage {
        Some(raw) if operation == REALTIME => used(&mut reading, realtime::part(raw)),
        Some(raw) => {
            let fees = parse::<Fees<'_>>(raw);
            if let Ok(fees) = &fees {
                reading.reported_cost = fees.reported();
                reading.service_tier = reading.service_tier.or_else(|| fees.tier());
            }
            let told = fees.and_then(|fees| part(&parse(raw)?, &fees.research(), searches(answer)?, operation));
            used(&mut reading, told);
        }
        None => used(&mut reading, counted(&body, operation)),
    }
    if let Some(raw) = report(body.svg_usage) {
        used(&mut reading, parse(raw).map(|usage| drawing(&usage)));
    }
    if frame.streamed {
        let only_usage = !reading.parts.is_empty() && body.choices.as_ref().is_some_and(Vec::is_empty);
        reading.usage_only = only_usage;
        reading.final_ = only_usage
            || kind.as_deref().is_some_and(ends)
            || (operation == REALTIME && realtime::is_final(kind.as_deref()));
    }
    said(reading)
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
    let usage = report(inner.usage)?;
    let mut reading = Reading {
        model: text(inner.model).filter(|name| !name.is_empty()),
        bill_id: text(body.id).or_else(|| text(body.custom_id)),
        service_tier: Some("batch".to_owned()),
        ..agentledger_guest::reading()
    };
    let told = || part(&parse(usage)?, &Research::default(), searches(&inner)?, FILE_CONTENT);
    used(&mut reading, told());
    Some(reading)
}

fn drawing(usage: &SvgUsage<'_>) -> Option<Part> {
    let mut tally = Tally::default();
    tally.add(Kind::Input, usage.input_tokens.0);
    tally.add(Kind::Output, usage.output_tokens.0);
    tally.reason(usage.reasoning_tokens.map(|units| units.0));
    Some(tally.part(Some(text(usage.model)?)))
}

/// What an answer without a report can be counted by.
fn counted(body: &Frame<'_>, operation: &str) -> Result<Option<Part>, Contradiction> {
    let one = |kind: Kind, units: u64| {
        let mut tally = Tally::default();
        tally.add(kind, units);
        tally.part(None)
    };
    Ok(match operation {
        IMAGES | IMAGE_EDITS | IMAGE_VARIATIONS => body.data.as_ref().map(|all| one(Kind::Image, all.len() as u64)),
        TRANSCRIPTIONS | TRANSLATIONS => match there(body.duration) {
            Some(duration) => Some(one(Kind::Second, seconds(duration)?)),
            None => None,
        },
        RERANK => {
            let Some(units) = body.meta.as_ref().and_then(|meta| report(meta.billed_units)) else {
                return Ok(None);
            };
            let units: BilledUnits = parse(units)?;
            let searches = units.search_units.map(|units| one(Kind::Request, units.0));
            searches.or_else(|| units.input_tokens.map(|units| one(Kind::Input, units.0)))
        }
        _ => None,
    })
}

/// Seconds, begun ones counted whole; some hosts write the number as a string.
pub fn seconds(raw: &RawValue) -> Result<u64, Contradiction> {
    let number = raw.get().trim_matches('"');
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err(Contradiction);
    }
    let begun = u64::from(fraction.bytes().any(|byte| byte != b'0'));
    let whole = whole.parse::<u64>().map_err(|_| Contradiction)?;
    whole.checked_add(begun).ok_or(Contradiction)
}

fn searches(answer: &Answer<'_>) -> Result<u64, Contradiction> {
    let Some(raw) = report(answer.tool_usage) else {
        return Ok(0);
    };
    let tools: ToolUsage = parse(raw)?;
    Ok(tools.web_search.map_or(0, |search| search.num_requests.0))
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
fn part(usage: &Usage<'_>, research: &Research, searches: u64, operation: &str) -> Result<Option<Part>, Contradiction> {
    if let Some(raw) = there(usage.seconds) {
        let mut tally = Tally::default();
        tally.add(Kind::Second, seconds(raw)?);
        return Ok(Some(tally.part(None)));
    }
    let input = usage.prompt_tokens.or(usage.input_tokens);
    let output = usage.completion_tokens.or(usage.output_tokens);
    if input.is_none() && output.is_none() && (operation != RERANK || usage.total_tokens.is_none()) {
        return Ok(None);
    }
    // Rerank has no output: where only the total is told, it is the input.
    let input = input.or(usage.total_tokens).unwrap_or_default().0;
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
    let fresh = rest(rest(input, cached)?, written)?;
    // Cached audio is counted as cached and as audio. Nothing tells how much that is: what cannot be fresh is.
    let audio_in = details.audio_tokens.0.min(fresh);
    let cached_audio = (details.audio_tokens.0 - audio_in).min(cached);
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
    let text_out = rest(rest(output, audio_out)?, image_out)?;
    let mut tally = Tally::default();
    tally.add(Kind::Input, fresh - audio_in - image_in);
    tally.add(Kind::Input, research.citations);
    tally.add(Kind::CacheRead, cached - cached_audio);
    tally.add(Kind::CacheReadAudio, cached_audio);
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
    Ok(Some(tally.part(None)))
}
