//! What an answer without a report can be counted by.

use agentledger_guest::answer::{Contradiction, parse, report, there};
use agentledger_guest::usage::{Tally, Units};
use agentledger_guest::{Kind, Part};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Frame;
use crate::info::{
    IMAGE_EDITS, IMAGE_VARIATIONS, IMAGES, NATIVE_CHAT, NATIVE_EMBED, OCR, RERANK, SEARCH, TRANSCRIPTIONS, TRANSLATIONS,
};

/// Rerank as Cohere bills it.
#[derive(Deserialize)]
struct BilledUnits {
    #[serde(default)]
    search_units: Option<Units>,
    #[serde(default)]
    input_tokens: Option<Units>,
}

/// llama.cpp's: `cache_n` tokens of the prompt were there already, `prompt_n` were read, `predicted_n` written.
/// <https://github.com/ggml-org/llama.cpp/tree/master/tools/server>
#[derive(Deserialize)]
struct Timings {
    #[serde(default)]
    cache_n: Option<Units>,
    #[serde(default)]
    prompt_n: Option<Units>,
    #[serde(default)]
    predicted_n: Option<Units>,
}

/// Pages as Mistral counts them.
#[derive(Deserialize)]
struct Pages {
    #[serde(default)]
    pages_processed: Option<Units>,
}

pub(super) fn counted(body: &Frame<'_>, operation: &str) -> Result<Option<Part>, Contradiction> {
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
        OCR => pages(body)?.map(|pages| one(Kind::Page, pages)),
        SEARCH => there(body.error).is_none().then(|| one(Kind::Request, 1)),
        RERANK => {
            let Some(units) = body.meta.as_ref().and_then(|meta| report(meta.billed_units)) else {
                return Ok(None);
            };
            let units: BilledUnits = parse(units)?;
            let searches = units.search_units.map(|units| one(Kind::Request, units.0));
            searches.or_else(|| units.input_tokens.map(|units| one(Kind::Input, units.0)))
        }
        NATIVE_CHAT | NATIVE_EMBED => native(body)?,
        _ => timed(body)?,
    })
}

fn pages(body: &Frame<'_>) -> Result<Option<u64>, Contradiction> {
    let told = match report(body.usage_info) {
        Some(raw) => parse::<Pages>(raw)?.pages_processed,
        None => None,
    };
    let listed = || body.pages.as_ref().map(|pages| pages.len() as u64);
    Ok(told.map(|units| units.0).or_else(listed))
}

/// Ollama's own counts stand beside the message: <https://docs.ollama.com/api/usage>.
fn native(body: &Frame<'_>) -> Result<Option<Part>, Contradiction> {
    let mut tally = Tally::default();
    let mut any = false;
    for (field, kind) in [(body.prompt_eval_count, Kind::Input), (body.eval_count, Kind::Output)] {
        if let Some(raw) = there(field) {
            tally.add(kind, parse::<Units>(raw)?.0);
            any = true;
        }
    }
    Ok(any.then(|| tally.part(None)))
}

fn timed(body: &Frame<'_>) -> Result<Option<Part>, Contradiction> {
    let Some(raw) = report(body.timings) else {
        return Ok(None);
    };
    let timings: Timings = parse(raw)?;
    let (Some(read), Some(written)) = (timings.prompt_n, timings.predicted_n) else {
        return Ok(None);
    };
    let mut tally = Tally::default();
    tally.add(Kind::Input, read.0);
    if let Some(cached) = timings.cache_n {
        tally.add(Kind::CacheRead, cached.0);
    }
    tally.add(Kind::Output, written.0);
    Ok(Some(tally.part(None)))
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
