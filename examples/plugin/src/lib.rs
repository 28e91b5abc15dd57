//! The dialect of a made-up provider, Acme: one endpoint, whole answers.
//!
//! ```text
//! POST /v1/generate   {"model": "acme-1", "prompt": "…", "max_tokens": 100}
//! 200                 {"id": "gen-1", "model": "acme-1", "text": "…", "tokens": {"prompt": 12, "cached": 4, "completion": 7}}
//! ```

use agentledger_guest::answer::{self, Contradiction, Raw};
use agentledger_guest::fields::{self, Field};
use agentledger_guest::usage::{Tally, Units};
use agentledger_guest::{
    AnswerFrame, Billing, Call, EditPoint, Ending, Info, Kind, Part, Problem, ProgressPart, Provider, Reading, Refusal,
    Request, Route, because, call, info, openai_error, progress, reading, route, serde_json, sse, want,
};
use serde::Deserialize;

struct Acme;

agentledger_guest::export!(Acme);

#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow, default)]
    model: Field<'a>,
    #[serde(borrow, default)]
    max_tokens: Field<'a>,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    model: Raw<'a>,
    #[serde(borrow, default)]
    tokens: Raw<'a>,
}

#[derive(Deserialize)]
struct Tokens {
    #[serde(default)]
    prompt: Option<Units>,
    #[serde(default)]
    cached: Option<Units>,
    #[serde(default)]
    completion: Option<Units>,
}

/// Every endpoint of Acme's that spends: metered; or free with a reason and its source; or refused with a reason. What is not
/// here is refused as well, and nobody is told why.
fn routes() -> Vec<Route> {
    let docs = "https://acme.example/docs/api";
    vec![
        because(
            route("POST", "/v1/generate", "generate", Billing::Metered),
            "Tokens: `tokens` of the answer.",
            docs,
        ),
        because(
            route("POST", "/v1/count", "count", Billing::Free),
            "Counting tokens is free.",
            docs,
        ),
        because(
            route("POST", "/v1/train", "train", Billing::Refused),
            "Training is billed by the hour, which no answer tells.",
            docs,
        ),
    ]
}

impl Provider for Acme {
    /// What it serves, and the only values of requests and answers that it will see. The prompt is not among them.
    fn info() -> Info {
        Info {
            routes: routes(),
            request_paths: vec![want("model", 256, 0), want("max_tokens", 64, 0)],
            // By a digest of these the gateway sees an agent that repeats itself.
            progress_paths: vec![progress("prompt", ProgressPart::Content)],
            answer_paths: vec![want("model", 256, 0), want("tokens", 1_024, 0)],
            text_paths: vec!["text".to_owned()],
            markers: vec!["\"tokens\"".to_owned()],
            // By these its entries are found again in Acme's own books, and by its support.
            response_id_paths: vec!["id".to_owned()],
            request_id_headers: vec!["acme-request-id".to_owned()],
            ..info("acme", env!("CARGO_PKG_VERSION"))
        }
    }

    fn inspect(request: Request) -> Result<Call, Problem> {
        let asked: Asked<'_> = fields::parse(&request.outline)?;
        Ok(Call {
            max_output: fields::limit(asked.max_tokens, "max_tokens")?,
            // Where the gateway may lower the maximum, or name another model.
            edits: vec![
                EditPoint::Model("model".to_owned()),
                EditPoint::MaxOutput("max_tokens".to_owned()),
            ],
            ..call(fields::model(asked.model)?)
        })
    }

    fn read(frame: AnswerFrame) -> Option<Reading> {
        let answer: Answer<'_> = serde_json::from_str(&frame.outline).ok()?;
        let mut reading = Reading {
            model: answer::text(answer.model),
            final_: true,
            failed: frame.status >= 400,
            ..reading()
        };
        // A report that contradicts itself is flagged: the gateway estimates in its place.
        if let Some(report) = answer::report(answer.tokens) {
            answer::used(&mut reading, answer::parse(report).and_then(|tokens| part(&tokens)));
        }
        Some(reading)
    }

    /// Acme does not stream; a dialect that does ends a cut stream here, with an error that its clients understand.
    fn terminal(_operation: &str, _ending: Ending, message: &str, _response_id: Option<&str>) -> Vec<u8> {
        sse::event(None, &serde_json::json!({"error": {"message": message}}))
    }

    /// The gateway's error object suits Acme's clients as it is.
    fn error_body(_operation: &str, refusal: &Refusal) -> Vec<u8> {
        openai_error::body(refusal)
    }
}

/// Acme counts cached tokens inside the prompt's: kinds are disjoint here, so they are taken out. A count that is not there is
/// not told: absent is not zero, and what was counted before stays.
fn part(tokens: &Tokens) -> Result<Option<Part>, Contradiction> {
    let cached = tokens.cached.unwrap_or_default().0;
    let fresh = tokens.prompt.map(|prompt| answer::rest(prompt.0, cached)).transpose()?;
    let counts = [
        (Kind::Input, fresh),
        (Kind::CacheRead, tokens.cached.map(|units| units.0)),
        (Kind::Output, tokens.completion.map(|units| units.0)),
    ];
    let mut tally = Tally::default();
    for (kind, units) in counts {
        if let Some(units) = units {
            tally.add(kind, units);
        }
    }
    let part = tally.part(None);
    Ok((!part.usage.is_empty()).then_some(part))
}

#[cfg(test)]
mod tests {
    use agentledger_guest::endpoints;

    #[test]
    fn nothing_that_may_spend_passes_without_a_reason() {
        assert_eq!(endpoints::faults(&super::routes()), Vec::<String>::new());
    }
}
