//! The dialect of a made-up provider, Acme: one endpoint, whole answers.
//!
//! ```text
//! POST /v1/generate   {"model": "acme-1", "prompt": "…", "max_tokens": 100}
//! 200                 {"id": "gen-1", "model": "acme-1", "text": "…", "tokens": {"prompt": 12, "cached": 4, "completion": 7}}
//! ```

use agentledger_guest::answer::{self, Contradiction, Raw};
use agentledger_guest::fields::{self, COUNT_MAX, Field};
use agentledger_guest::usage::{Tally, Units};
use agentledger_guest::{
    AnswerFrame, Billing, Call, EditPoint, Ending, Info, Kind, Part, Problem, ProgressPart, Provider, Reading, Refusal,
    Request, call, info, openai_error, progress, reading, route, serde_json, sse, want,
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
    prompt: Units,
    #[serde(default)]
    cached: Units,
    #[serde(default)]
    completion: Units,
}

impl Provider for Acme {
    /// What it serves, and the only values of requests and answers that it will see. The prompt is not among them.
    fn info() -> Info {
        Info {
            routes: vec![route("POST", "/v1/generate", "generate", Billing::Metered)],
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
            max_output: fields::count(asked.max_tokens, "max_tokens", 1, COUNT_MAX)?,
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

/// Acme counts cached tokens inside the prompt's: kinds are disjoint here, so they are taken out.
fn part(tokens: &Tokens) -> Result<Option<Part>, Contradiction> {
    let mut tally = Tally::default();
    tally.add(Kind::Input, answer::rest(tokens.prompt.0, tokens.cached.0)?);
    tally.add(Kind::CacheRead, tokens.cached.0);
    tally.add(Kind::Output, tokens.completion.0);
    Ok(Some(tally.part(None)))
}
