//! Reads answers: whole ones, and the elements of streams. Each element of a stream bears the counts so far.

use agentledger_guest::answer::{Contradiction, Raw, parse, report, rest, said, text, there, used};
use agentledger_guest::usage::{Tally, Units};
use agentledger_guest::{AnswerFrame, Kind, Part, Reading};
use serde::Deserialize;
use serde::de::IgnoredAny;

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow, default, rename = "modelVersion")]
    model: Raw<'a>,
    #[serde(borrow, default, rename = "usageMetadata")]
    usage: Raw<'a>,
    #[serde(borrow, default)]
    error: Raw<'a>,
    #[serde(default)]
    candidates: Option<Vec<Option<Candidate>>>,
    #[serde(borrow, default)]
    predictions: Option<Vec<Option<Prediction<'a>>>>,
}

#[derive(Deserialize)]
struct Candidate {
    #[serde(default, rename = "groundingMetadata")]
    grounding: Option<Grounding>,
}

#[derive(Deserialize)]
struct Grounding {
    /// Their text is not shown to us.
    #[serde(default, rename = "webSearchQueries")]
    searches: Option<Vec<IgnoredAny>>,
}

/// One embedding or one image.
#[derive(Deserialize)]
struct Prediction<'a> {
    #[serde(borrow, default)]
    embeddings: Option<Embeddings<'a>>,
    #[serde(default, rename = "mimeType")]
    mime_type: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Embeddings<'a> {
    #[serde(borrow, default)]
    statistics: Raw<'a>,
}

#[derive(Deserialize)]
struct Statistics {
    #[serde(default)]
    token_count: Option<Units>,
}

/// <https://ai.google.dev/api/generate-content#UsageMetadata>
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Usage {
    #[serde(default)]
    prompt_token_count: Option<Units>,
    #[serde(default)]
    cached_content_token_count: Option<Units>,
    #[serde(default)]
    tool_use_prompt_token_count: Option<Units>,
    #[serde(default)]
    candidates_token_count: Option<Units>,
    #[serde(default)]
    thoughts_token_count: Option<Units>,
    #[serde(default)]
    total_token_count: Option<Units>,
    #[serde(default)]
    prompt_tokens_details: Option<Vec<Modality>>,
    #[serde(default)]
    cache_tokens_details: Option<Vec<Modality>>,
    #[serde(default)]
    tool_use_prompt_tokens_details: Option<Vec<Modality>>,
    #[serde(default)]
    candidates_tokens_details: Option<Vec<Modality>>,
    /// Vertex AI: how the request was served.
    #[serde(default)]
    traffic_type: Option<String>,
    #[serde(default)]
    service_tier: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Modality {
    #[serde(default)]
    modality: String,
    #[serde(default)]
    token_count: Units,
}

pub fn read(frame: &AnswerFrame) -> Option<Reading> {
    let body: Frame<'_> = serde_json::from_str(&frame.outline).ok()?;
    let failed = there(body.error).is_some();
    let model = text(body.model)
        .map(|name| name.trim_start_matches("models/").to_owned())
        .filter(|name| !name.is_empty());
    let usage = report(body.usage).map(parse::<Usage>).transpose();
    let told = match &usage {
        Ok(Some(usage)) => counted(usage).map(|tally| Some(finished(tally?, &body, model.as_deref()))),
        Ok(None) => predicted(body.predictions.as_deref().unwrap_or_default()),
        Err(contradiction) => Err(*contradiction),
    };
    let tier = usage
        .ok()
        .flatten()
        .and_then(|usage| usage.service_tier.or(usage.traffic_type));
    let mut reading = Reading {
        model,
        service_tier: tier.map(|tier| crate::tier_name(&tier)),
        // No element says that it is the last: each may bear a `finishReason`, and usage may follow it.
        final_: frame.streamed && failed,
        failed,
        ..agentledger_guest::reading()
    };
    used(&mut reading, told);
    said(reading)
}

/// Disjoint counts; `None` where there are none.
///
/// Cached tokens lie inside the prompt's; what tools brought in, and thoughts, lie outside prompt and candidates. Pictures,
/// films and documents are input like text, at one price; sound has its own, cached or not, and so has each medium that is
/// put out.
fn counted(usage: &Usage) -> Result<Option<Tally>, Contradiction> {
    let counts = [
        usage.prompt_token_count,
        usage.tool_use_prompt_token_count,
        usage.candidates_token_count,
        usage.thoughts_token_count,
        usage.total_token_count,
    ];
    if counts.iter().all(Option::is_none) {
        return Ok(None);
    }
    let units = |count: Option<Units>| count.unwrap_or_default().0;
    let (tools, candidates) = (
        units(usage.tool_use_prompt_token_count),
        units(usage.candidates_token_count),
    );
    let thoughts = units(usage.thoughts_token_count);
    let prompt = match (usage.prompt_token_count, usage.total_token_count) {
        (Some(prompt), _) => prompt.0,
        // Embeddings of some hosts: a total alone.
        (None, Some(total)) => rest(total.0, tools + candidates + thoughts)?,
        (None, None) => 0,
    };
    let cached = units(usage.cached_content_token_count);
    let fresh = rest(prompt, cached)?;
    let audio_given = of(&usage.prompt_tokens_details, "AUDIO");
    let audio_tools = of(&usage.tool_use_prompt_tokens_details, "AUDIO");
    rest(prompt, audio_given)?;
    rest(tools, audio_tools)?;
    let audio_cached = of(&usage.cache_tokens_details, "AUDIO");
    let audio_in = audio_given.saturating_sub(audio_cached).min(fresh) + audio_tools;
    // Some models count their thoughts among the candidates' tokens: then these make up the total with the prompt.
    let inside = thoughts <= candidates
        && usage
            .total_token_count
            .is_some_and(|total| total.0 == prompt + tools + candidates);
    let output = if inside { candidates } else { candidates + thoughts };
    let audio_out = of(&usage.candidates_tokens_details, "AUDIO");
    let image_out = of(&usage.candidates_tokens_details, "IMAGE");
    let text_out = rest(rest(output, audio_out)?, image_out)?;
    let mut tally = Tally::default();
    tally.add(Kind::Input, fresh + tools - audio_in);
    tally.add(Kind::CacheRead, rest(cached, audio_cached)?);
    tally.add(Kind::CacheReadAudio, audio_cached);
    tally.add(Kind::AudioInput, audio_in);
    // The first elements of a stream may say nothing of the output yet.
    if usage.candidates_token_count.is_some() || usage.thoughts_token_count.is_some() {
        tally.add(Kind::Output, text_out);
        tally.add(Kind::AudioOutput, audio_out);
        tally.add(Kind::ImageOutput, image_out);
        tally.reason(usage.thoughts_token_count.map(|units| units.0));
    }
    Ok(Some(tally))
}

fn of(details: &Option<Vec<Modality>>, modality: &str) -> u64 {
    let all = details.iter().flatten();
    all.filter(|part| part.modality.eq_ignore_ascii_case(modality))
        .fold(0, |sum, part| sum.saturating_add(part.token_count.0))
}

/// Adds the searches. Up to Gemini 2.5 a request that was grounded is billed once, later each search.
/// <https://ai.google.dev/gemini-api/docs/pricing>
fn finished(mut tally: Tally, body: &Frame<'_>, model: Option<&str>) -> Part {
    let searches: usize = body
        .candidates
        .iter()
        .flatten()
        .flatten()
        .filter_map(|candidate| candidate.grounding.as_ref()?.searches.as_ref())
        .map(Vec::len)
        .sum();
    if searches > 0 {
        let once = model.is_some_and(|name| ["gemini-1", "gemini-2"].iter().any(|old| name.starts_with(old)));
        let billed = if once { 1 } else { searches };
        tally.add(Kind::WebSearch, u64::try_from(billed).unwrap_or(u64::MAX));
    }
    tally.part(None)
}

/// Embeddings count their tokens one by one; an image is an image.
fn predicted(predictions: &[Option<Prediction<'_>>]) -> Result<Option<Part>, Contradiction> {
    let (mut tokens, mut images, mut any) = (0_u64, 0_u64, false);
    for prediction in predictions.iter().flatten() {
        let statistics = prediction.embeddings.as_ref().and_then(|own| report(own.statistics));
        let statistics = statistics.map(parse::<Statistics>).transpose()?;
        if let Some(units) = statistics.and_then(|own| own.token_count) {
            tokens = tokens.saturating_add(units.0);
            any = true;
        }
        if prediction.mime_type.is_some() {
            images += 1;
            any = true;
        }
    }
    let mut tally = Tally::default();
    if tokens > 0 || images == 0 {
        tally.add(Kind::Input, tokens);
    }
    if images > 0 {
        tally.add(Kind::Image, images);
    }
    Ok(any.then(|| tally.part(None)))
}
