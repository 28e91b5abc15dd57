//! Counts in the forms of the makers, and those of Bedrock itself. Cached tokens lie outside the input, but in OpenAI's form.

use agentledger_guest::answer::{Contradiction, parse, rest};
use agentledger_guest::usage::{Tally, Units};
use agentledger_guest::{Kind, Part};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The names of Converse, of Nova's own answers, of Anthropic's, and of OpenAI's form, beside each other: no maker gives
/// one name two meanings, but for the last, whose cached tokens lie inside the prompt's.
#[derive(Deserialize)]
pub struct Usage {
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
    completion_tokens_details: Option<CompletionDetails>,
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
    cached_tokens: Option<Units>,
}

#[derive(Deserialize)]
struct CompletionDetails {
    #[serde(default)]
    reasoning_tokens: Option<Units>,
}

#[derive(Deserialize)]
struct OutputDetails {
    #[serde(default)]
    thinking_tokens: Option<Units>,
}

#[derive(Deserialize)]
struct Metrics {
    #[serde(default, rename = "inputTokenCount")]
    input: Option<Units>,
    #[serde(default, rename = "outputTokenCount")]
    output: Option<Units>,
    #[serde(default, rename = "cacheReadInputTokenCount")]
    cache_read: Option<Units>,
    #[serde(default, rename = "cacheWriteInputTokenCount")]
    cache_write: Option<Units>,
}

pub fn of_metrics(raw: &RawValue) -> Result<Option<Part>, Contradiction> {
    let metrics: Metrics = parse(raw)?;
    let counts = [
        (Kind::Input, metrics.input),
        (Kind::Output, metrics.output),
        (Kind::CacheRead, metrics.cache_read),
        // For how long was said before, where the model says it at all.
        (Kind::CacheWrite, metrics.cache_write),
    ];
    let mut tally = Tally::default();
    for (kind, units) in counts {
        if let Some(units) = units {
            tally.add(kind, units.0);
        }
    }
    Ok(unless_empty(tally))
}

pub fn of_usage(usage: &Usage) -> Result<Option<Part>, Contradiction> {
    let mut tally = Tally::default();
    if let (Some(prompt), None) = (usage.prompt_tokens, usage.input) {
        let cached = usage
            .prompt_tokens_details
            .as_ref()
            .and_then(|details| details.cached_tokens);
        tally.add(Kind::Input, rest(prompt.0, cached.unwrap_or_default().0)?);
        if let Some(cached) = cached {
            tally.add(Kind::CacheRead, cached.0);
        }
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
    let reasoning = || usage.completion_tokens_details.as_ref()?.reasoning_tokens;
    let thinking = thinking.or_else(reasoning);
    tally.reason(thinking.map(|units| units.0));
    if let (Some(total), Some(input), Some(output)) = (usage.total, usage.input, usage.output) {
        rest(total.0, input.0.max(output.0))?;
    }
    Ok(unless_empty(tally))
}

pub fn unless_empty(tally: Tally) -> Option<Part> {
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
