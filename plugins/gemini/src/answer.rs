//! Reads answers: whole ones, and the elements of streams. Each element of a stream bears the counts so far.

use agentledger_guest::answer::{Contradiction, Raw, parse, report, said, text, there, thought_inside, used};
use agentledger_guest::usage::{Tally, Units};
use agentledger_guest::{AnswerFrame, Kind, Part, Reading};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::grounding::{self, Grounding};
use crate::info::{EMBED, EMBED_BATCH, INTERACTION, INTERACTION_CANCEL, INTERACTIONS};
use crate::interaction;
use crate::usage::Usage;

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow, default, rename = "modelVersion")]
    model: Raw<'a>,
    #[serde(borrow, default, rename = "usageMetadata")]
    usage: Raw<'a>,
    #[serde(borrow, default)]
    error: Raw<'a>,
    #[serde(borrow, default)]
    candidates: Option<Vec<Option<Candidate<'a>>>>,
    #[serde(borrow, default)]
    predictions: Option<Vec<Option<Prediction<'a>>>>,
}

#[derive(Deserialize)]
struct Candidate<'a> {
    #[serde(borrow, default, rename = "groundingMetadata")]
    grounding: Option<Grounding<'a>>,
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

pub fn read(frame: &AnswerFrame) -> Option<Reading> {
    if [INTERACTIONS, INTERACTION, INTERACTION_CANCEL].contains(&frame.operation.as_str()) {
        return interaction::read(frame);
    }
    let body: Frame<'_> = serde_json::from_str(&frame.outline).ok()?;
    let failed = there(body.error).is_some();
    let model = text(body.model)
        .map(|name| name.trim_start_matches("models/").to_owned())
        .filter(|name| !name.is_empty());
    let usage = report(body.usage).map(parse::<Usage>).transpose();
    let told = match &usage {
        Ok(Some(usage)) => usage.tally(pictures_apart(&frame.operation)).map(|tally| {
            let mut tally = tally?;
            ground(&mut tally, &body, model.as_deref());
            Some(tally.part(None))
        }),
        // An element without usage may bear what the answer was grounded in; a whole answer without has none to believe.
        Ok(None) if frame.streamed && body.candidates.is_some() => Ok(grounded(&body, model.as_deref())),
        Ok(None) => predicted(body.predictions.as_deref().unwrap_or_default()),
        Err(contradiction) => Err(*contradiction),
    };
    let tier = usage.ok().flatten().and_then(Usage::tier);
    let mut reading = Reading {
        model,
        service_tier: tier.map(|tier| crate::tier_name(&tier)),
        // No element says that it is the last: each may bear a `finishReason`, and usage may follow it.
        final_: frame.streamed && failed,
        failed,
        ..agentledger_guest::reading()
    };
    used(&mut reading, thought_inside(told));
    said(reading)
}

/// Embeddings have a price for each medium; of what is read to write, pictures cost what text does.
/// <https://ai.google.dev/gemini-api/docs/pricing#gemini-embedding-2>
fn pictures_apart(operation: &str) -> bool {
    matches!(operation, EMBED | EMBED_BATCH)
}

fn ground(tally: &mut Tally, body: &Frame<'_>, model: Option<&str>) {
    let candidates = body.candidates.iter().flatten().flatten();
    let all = candidates.filter_map(|candidate| candidate.grounding.as_ref());
    grounding::add(tally, all, model);
}

fn grounded(body: &Frame<'_>, model: Option<&str>) -> Option<Part> {
    let mut tally = Tally::default();
    ground(&mut tally, body, model);
    Some(tally.part(None)).filter(|part| !part.usage.is_empty())
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
