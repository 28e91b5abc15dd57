//! Reads answers: whole ones, and the events of streams. What is billed stands in `billed_units`; `tokens` beside it
//! counts what the model saw, and is not billed.

use agentledger_guest::answer::{Raw, parse, report, said, text, there, used};
use agentledger_guest::usage::{Tally, Units};
use agentledger_guest::{AnswerFrame, Kind, Part, Reading};
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Raw<'a>,
    #[serde(borrow, default)]
    event_type: Raw<'a>,
    #[serde(borrow, default)]
    is_finished: Raw<'a>,
    #[serde(borrow, default)]
    finish_reason: Raw<'a>,
    #[serde(borrow, default)]
    usage: Raw<'a>,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    meta: Option<Report<'a>>,
    #[serde(borrow, default)]
    response: Option<Response<'a>>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    usage: Raw<'a>,
    #[serde(borrow, default)]
    finish_reason: Raw<'a>,
}

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow, default)]
    meta: Option<Report<'a>>,
}

#[derive(Deserialize)]
struct Report<'a> {
    #[serde(borrow, default)]
    billed_units: Raw<'a>,
}

/// <https://docs.cohere.com/reference/chat#response.body.usage>. Cohere writes its counts as `12.0` at times.
#[derive(Deserialize)]
struct Billed {
    #[serde(default)]
    input_tokens: Option<Units>,
    #[serde(default)]
    output_tokens: Option<Units>,
    #[serde(default)]
    image_tokens: Option<Units>,
    #[serde(default)]
    text_tokens: Option<Units>,
    #[serde(default)]
    search_units: Option<Units>,
    #[serde(default)]
    images: Option<Units>,
    #[serde(default)]
    pages: Option<Units>,
}

pub fn read(frame: &AnswerFrame) -> Option<Reading> {
    let body: Frame<'_> = serde_json::from_str(&frame.outline).ok()?;
    let kind = text(body.kind).or(text(body.event_type)).unwrap_or_default();
    let last = matches!(kind.as_str(), "message-end" | "stream-end")
        || there(body.is_finished).is_some_and(|raw| raw.get() == "true");
    let finish = text(body.finish_reason).or_else(|| text(body.delta.as_ref()?.finish_reason));
    let mut reading = Reading {
        final_: frame.streamed && last,
        // `ERROR_LIMIT` and `ERROR_TOXIC` are the first version's.
        failed: finish.is_some_and(|reason| reason.starts_with("ERROR")),
        ..agentledger_guest::reading()
    };
    if let Some(raw) = billed(&body) {
        used(&mut reading, parse(raw).map(|billed| part(&billed)));
    }
    said(reading)
}

fn billed<'a>(body: &Frame<'a>) -> Option<&'a RawValue> {
    let within = |usage: Raw<'a>| {
        let whole: Report<'a> = serde_json::from_str(there(usage)?.get()).ok()?;
        report(whole.billed_units)
    };
    within(body.usage)
        .or_else(|| within(body.delta.as_ref()?.usage))
        .or_else(|| report(body.meta.as_ref()?.billed_units))
        .or_else(|| report(body.response.as_ref()?.meta.as_ref()?.billed_units))
}

/// Disjoint counts. Where tokens are told apart by medium, those of images have a price of their own; where images are
/// counted and not their tokens, each image is billed. A search unit is what a rank is billed by: one request with up to a
/// hundred documents.
fn part(billed: &Billed) -> Option<Part> {
    let mut tally = Tally::default();
    let mut add = |kind: Kind, units: Option<Units>| {
        if let Some(units) = units {
            tally.add(kind, units.0);
        }
    };
    add(Kind::Input, billed.text_tokens.or(billed.input_tokens));
    add(Kind::Output, billed.output_tokens);
    add(Kind::ImageInput, billed.image_tokens);
    add(Kind::Request, billed.search_units);
    add(Kind::Page, billed.pages);
    if billed.image_tokens.is_none() {
        add(Kind::Image, billed.images);
    }
    let part = tally.part(None);
    (!part.usage.is_empty()).then_some(part)
}
