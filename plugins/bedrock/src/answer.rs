//! Reads answers: whole ones, and the events of streams.
//!
//! The counts of an answer stand in one of five places: Converse's `usage`; the `usage` of the model's own body, in the
//! form of its maker; `amazon-bedrock-invocationMetrics` in the last event of an invoked stream; fields of Titan and Llama;
//! and, for whole answers of models whose bodies say nothing, headers. Bedrock counts cached tokens outside the input.

use agentledger_guest::answer::{Contradiction, Raw, parse, report, rest, said, text, there, used};
use agentledger_guest::usage::{Tally, Units};
use agentledger_guest::{AnswerFrame, Kind, Part, Reading};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::info::{CONVERSE, CONVERSE_STREAM};

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow, default, rename = "@headers")]
    headers: Option<Headers<'a>>,
    #[serde(borrow, default, rename = "type")]
    kind: Raw<'a>,
    #[serde(borrow, default)]
    usage: Raw<'a>,
    #[serde(borrow, default, rename = "serviceTier")]
    service_tier: Option<ServiceTier<'a>>,
    #[serde(borrow, default, rename = "performanceConfig")]
    performance_config: Option<PerformanceConfig<'a>>,
    #[serde(borrow, default)]
    message: Option<Message<'a>>,
    #[serde(borrow, default)]
    metadata: Option<Metadata<'a>>,
    #[serde(borrow, default, rename = "amazon-bedrock-invocationMetrics")]
    metrics: Raw<'a>,
    #[serde(borrow, default, rename = "inputTextTokenCount")]
    titan_input: Raw<'a>,
    #[serde(borrow, default)]
    results: Option<Vec<Option<ResultItem<'a>>>>,
    #[serde(borrow, default)]
    prompt_token_count: Raw<'a>,
    #[serde(borrow, default)]
    generation_token_count: Raw<'a>,
    #[serde(borrow, default)]
    images: Option<Vec<Raw<'a>>>,
    #[serde(borrow, default)]
    artifacts: Option<Vec<Raw<'a>>>,
}

#[derive(Deserialize)]
struct Headers<'a> {
    #[serde(borrow, default, rename = "x-amzn-bedrock-input-token-count")]
    input: Raw<'a>,
    #[serde(borrow, default, rename = "x-amzn-bedrock-output-token-count")]
    output: Raw<'a>,
    #[serde(borrow, default, rename = "x-amzn-bedrock-cache-read-input-token-count")]
    cache_read: Raw<'a>,
    #[serde(borrow, default, rename = "x-amzn-bedrock-cache-write-input-token-count")]
    cache_write: Raw<'a>,
    #[serde(borrow, default, rename = "x-amzn-bedrock-service-tier")]
    tier: Raw<'a>,
    #[serde(borrow, default, rename = "x-amzn-bedrock-performanceconfig-latency")]
    latency: Raw<'a>,
}

#[derive(Deserialize)]
struct ServiceTier<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Raw<'a>,
}

#[derive(Deserialize)]
struct PerformanceConfig<'a> {
    #[serde(borrow, default)]
    latency: Raw<'a>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    usage: Raw<'a>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow, default)]
    usage: Raw<'a>,
}

/// A candidate of Titan's, or one place in an order.
#[derive(Deserialize)]
struct ResultItem<'a> {
    #[serde(borrow, default, rename = "tokenCount")]
    token_count: Raw<'a>,
    #[serde(borrow, default, alias = "relevanceScore")]
    relevance_score: Raw<'a>,
}

/// The names of Converse, of Nova's own answers, of Anthropic's, and of OpenAI's form, beside each other: no maker gives
/// one name two meanings, but for the last, whose cached tokens lie inside the prompt's.
#[derive(Deserialize)]
struct Usage {
    #[serde(default, rename = "inputTokens", alias = "input_tokens")]
    input: Option<Units>,
    #[serde(default, rename = "outputTokens", alias = "output_tokens")]
    output: Option<Units>,
    #[serde(default, rename = "totalTokens")]
    total: Option<Units>,
    // Converse reports these under both names at times.
    #[serde(default, rename = "cacheReadInputTokens", alias = "cache_read_input_tokens")]
    cache_read: Option<Units>,
    #[serde(default, rename = "cacheReadInputTokenCount")]
    cache_read_count: Option<Units>,
    #[serde(default, rename = "cacheWriteInputTokens", alias = "cache_creation_input_tokens")]
    cache_write: Option<Units>,
    #[serde(default, rename = "cacheWriteInputTokenCount")]
    cache_write_count: Option<Units>,
    /// Converse: what was written, by how long it lasts.
    #[serde(default, rename = "cacheDetails")]
    cache_details: Option<Vec<CacheDetail>>,
    /// Anthropic's form of the same.
    #[serde(default)]
    cache_creation: Option<CacheCreation>,
    #[serde(default)]
    prompt_tokens: Option<Units>,
    #[serde(default)]
    completion_tokens: Option<Units>,
    #[serde(default)]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(default)]
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Deserialize)]
struct CacheDetail {
    #[serde(default, rename = "inputTokens")]
    input_tokens: Units,
    #[serde(default)]
    ttl: String,
}

#[derive(Deserialize)]
struct CacheCreation {
    #[serde(default)]
    ephemeral_5m_input_tokens: Units,
    #[serde(default)]
    ephemeral_1h_input_tokens: Units,
}

#[derive(Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Units,
}

#[derive(Deserialize)]
struct OutputDetails {
    #[serde(default)]
    thinking_tokens: Option<Units>,
}

#[derive(Deserialize)]
struct Metrics {
    #[serde(rename = "inputTokenCount")]
    input: Units,
    #[serde(rename = "outputTokenCount")]
    output: Units,
    #[serde(default, rename = "cacheReadInputTokenCount")]
    cache_read: Units,
    #[serde(default, rename = "cacheWriteInputTokenCount")]
    cache_write: Units,
}

pub fn read(frame: &AnswerFrame) -> Option<Reading> {
    let body: Frame<'_> = serde_json::from_str(&frame.outline).ok()?;
    let event = frame.event.as_deref().unwrap_or_default();
    let failed = frame.streamed && is_failure(event, body.kind);
    let whole = !frame.streamed;
    let metrics = there(body.metrics);
    let mut reading = Reading {
        // No model: the path's name tells the region that is billed; the one in an Anthropic body does not.
        service_tier: tier(&body),
        final_: failed || (frame.streamed && is_last(frame, event, metrics.is_some())),
        failed,
        ..agentledger_guest::reading()
    };
    if !failed {
        used(&mut reading, parts(&body, whole));
    }
    said(reading)
}

/// An exception of the stream, an error outside of its model, or an error event of the model's own.
fn is_failure(event: &str, kind: Raw<'_>) -> bool {
    event == "error" || event.to_ascii_lowercase().ends_with("exception") || text(kind).as_deref() == Some("error")
}

fn is_last(frame: &AnswerFrame, event: &str, has_metrics: bool) -> bool {
    match frame.operation.as_str() {
        CONVERSE | CONVERSE_STREAM => event == "metadata",
        _ => has_metrics,
    }
}

fn tier(body: &Frame<'_>) -> Option<String> {
    let latency = text(body.performance_config.as_ref().and_then(|config| config.latency));
    latency
        .or_else(|| text(body.headers.as_ref()?.latency))
        .filter(|latency| latency == "optimized")
        .or_else(|| text(body.service_tier.as_ref()?.kind))
        .or_else(|| text(body.headers.as_ref()?.tier))
}

/// The counts of the first place that has some. Nothing else is taken for a report that cannot be believed.
fn parts(body: &Frame<'_>, whole: bool) -> Result<Option<Part>, Contradiction> {
    if let Some(metrics) = report(body.metrics) {
        return of_metrics(metrics);
    }
    let nested = body.message.as_ref().and_then(|message| report(message.usage));
    let nested = nested.or_else(|| body.metadata.as_ref().and_then(|metadata| report(metadata.usage)));
    if let Some(usage) = report(body.usage).or(nested) {
        return of_usage(&parse(usage)?);
    }
    if let Some(images) = body
        .images
        .as_ref()
        .or(body.artifacts.as_ref())
        .filter(|list| !list.is_empty())
    {
        return Ok(Some(only(Kind::Image, images.len() as u64)));
    }
    if body
        .results
        .iter()
        .flatten()
        .flatten()
        .any(|item| there(item.relevance_score).is_some())
    {
        return Ok(Some(only(Kind::Request, 1)));
    }
    match (of_own_fields(body)?, body.headers.as_ref().filter(|_| whole)) {
        (None, Some(headers)) => of_headers(headers),
        (own, _) => Ok(own),
    }
}

fn only(kind: Kind, units: u64) -> Part {
    let mut tally = Tally::default();
    tally.add(kind, units);
    tally.part(None)
}

fn of_metrics(raw: &RawValue) -> Result<Option<Part>, Contradiction> {
    let metrics: Metrics = parse(raw)?;
    let mut tally = Tally::default();
    tally.add(Kind::Input, metrics.input.0);
    tally.add(Kind::Output, metrics.output.0);
    tally.add(Kind::CacheRead, metrics.cache_read.0);
    // For how long was said before, where the model says it at all.
    tally.add(Kind::CacheWrite, metrics.cache_write.0);
    Ok(Some(tally.part(None)))
}

fn of_usage(usage: &Usage) -> Result<Option<Part>, Contradiction> {
    let mut tally = Tally::default();
    if let (Some(prompt), None) = (usage.prompt_tokens, usage.input) {
        let cached = usage
            .prompt_tokens_details
            .as_ref()
            .map_or(0, |details| details.cached_tokens.0);
        tally.add(Kind::Input, rest(prompt.0, cached)?);
        tally.add(Kind::CacheRead, cached);
    }
    let read = usage.cache_read.or(usage.cache_read_count);
    let written = usage.cache_write.or(usage.cache_write_count);
    let known = [
        (Kind::Input, usage.input),
        (Kind::Output, usage.output.or(usage.completion_tokens)),
        (Kind::CacheRead, read),
    ];
    for (kind, units) in known {
        if let Some(units) = units {
            tally.add(kind, units.0);
        }
    }
    add_written(&mut tally, usage, written)?;
    let thinking = usage
        .output_tokens_details
        .as_ref()
        .and_then(|details| details.thinking_tokens);
    tally.reason(thinking.map(|units| units.0));
    if let (Some(total), Some(input), Some(output)) = (usage.total, usage.input, usage.output) {
        rest(total.0, input.0.max(output.0))?;
    }
    Ok(unless_empty(tally))
}

fn unless_empty(tally: Tally) -> Option<Part> {
    Some(tally.part(None)).filter(|part| !part.usage.is_empty())
}

/// What was written to a cache, by how long it lasts where that is said.
fn add_written(tally: &mut Tally, usage: &Usage, written: Option<Units>) -> Result<(), Contradiction> {
    let of_ttl = |ttl: &str| -> u64 {
        let details = usage.cache_details.iter().flatten();
        details
            .filter(|detail| detail.ttl == ttl)
            .map(|detail| detail.input_tokens.0)
            .sum()
    };
    let by_ttl = match &usage.cache_creation {
        Some(by) => Some((by.ephemeral_5m_input_tokens.0, by.ephemeral_1h_input_tokens.0)),
        None if usage.cache_details.is_some() => Some((of_ttl("5m"), of_ttl("1h"))),
        None => None,
    };
    match (by_ttl, written) {
        (Some((short, long)), total) => {
            let named = short.saturating_add(long);
            let unnamed = total.map_or(Ok(0), |total| rest(total.0, named))?;
            tally.add(Kind::CacheWrite5m, short.saturating_add(unnamed));
            tally.add(Kind::CacheWrite1h, long);
        }
        (None, Some(total)) => tally.add(Kind::CacheWrite, total.0),
        (None, None) => {}
    }
    Ok(())
}

/// Titan: text and embeddings. Llama.
fn of_own_fields(body: &Frame<'_>) -> Result<Option<Part>, Contradiction> {
    let mut tally = Tally::default();
    let fields = [
        (Kind::Input, there(body.titan_input)),
        (Kind::Input, there(body.prompt_token_count)),
        (Kind::Output, there(body.generation_token_count)),
    ];
    let candidates = body.results.iter().flatten().flatten();
    let candidates = candidates.map(|item| (Kind::Output, there(item.token_count)));
    for (kind, field) in fields.into_iter().chain(candidates) {
        if let Some(raw) = field {
            tally.add(kind, parse::<Units>(raw)?.0);
        }
    }
    Ok(unless_empty(tally))
}

fn of_headers(headers: &Headers<'_>) -> Result<Option<Part>, Contradiction> {
    let mut tally = Tally::default();
    for (kind, value) in [
        (Kind::Input, headers.input),
        (Kind::Output, headers.output),
        (Kind::CacheRead, headers.cache_read),
        (Kind::CacheWrite, headers.cache_write),
    ] {
        if let Some(value) = text(value) {
            let units: Units = serde_json::from_str(value.trim()).map_err(|_| Contradiction)?;
            tally.add(kind, units.0);
        }
    }
    Ok(unless_empty(tally))
}
