//! Reads answers: whole ones, and the events of streams.
//!
//! The counts of an answer stand in one of five places: Converse's `usage`; the `usage` of the model's own body, in the
//! form of its maker; `amazon-bedrock-invocationMetrics` in the last event of an invoked stream; fields of Titan and Llama;
//! and, for whole answers of models whose bodies say nothing, headers. Bedrock counts cached tokens outside the input.

use agentledger_guest::answer::{Contradiction, Raw, parse, report, said, text, there, thought_inside, used};
use agentledger_guest::usage::{Tally, Units};
use agentledger_guest::{AnswerFrame, Kind, Part, Reading};
use serde::Deserialize;

use crate::info::{CONVERSE, CONVERSE_STREAM};
use crate::model;
use crate::usage::{of_metrics, of_usage, unless_empty};

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
    #[serde(borrow, default)]
    trace: Option<Trace<'a>>,
    #[serde(borrow, default, rename = "stopReason")]
    stop_reason: Raw<'a>,
    #[serde(borrow, default, rename = "amazon-bedrock-guardrailAction")]
    guardrail_action: Raw<'a>,
}

#[derive(Deserialize)]
struct Trace<'a> {
    #[serde(borrow, default, rename = "promptRouter")]
    router: Option<Router<'a>>,
    #[serde(borrow, default)]
    guardrail: Raw<'a>,
}

#[derive(Deserialize)]
struct Router<'a> {
    #[serde(borrow, default, rename = "invokedModelId")]
    invoked: Raw<'a>,
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

pub fn read(frame: &AnswerFrame) -> Option<Reading> {
    let body: Frame<'_> = serde_json::from_str(&frame.outline).ok()?;
    let event = frame.event.as_deref().unwrap_or_default();
    let failed = frame.streamed && is_failure(event, body.kind);
    let whole = !frame.streamed;
    let metrics = there(body.metrics);
    let mut reading = Reading {
        // Else no model: the path's name tells the region that is billed; the one in an Anthropic body does not.
        model: chosen(&body),
        unread_fee: was_guarded(&body),
        service_tier: tier(&body),
        final_: failed || (frame.streamed && is_last(frame, event, metrics.is_some())),
        failed,
        ..agentledger_guest::reading()
    };
    if !failed {
        used(&mut reading, thought_inside(parts(&body, whole)));
    }
    said(reading)
}

/// The model that a router chose.
fn chosen(body: &Frame<'_>) -> Option<String> {
    let invoked = text(body.trace.as_ref()?.router.as_ref()?.invoked)?;
    Some(model::of_path(&invoked).to_owned()).filter(|name| !name.is_empty())
}

/// A guardrail is billed by the units of text that it looked at, beside the model's tokens.
/// <https://aws.amazon.com/bedrock/pricing/>
fn was_guarded(body: &Frame<'_>) -> bool {
    let traced = body
        .trace
        .as_ref()
        .is_some_and(|trace| there(trace.guardrail).is_some());
    let stopped = text(body.stop_reason).as_deref() == Some("guardrail_intervened");
    traced || stopped || there(body.guardrail_action).is_some()
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
