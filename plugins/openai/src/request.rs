//! Reads requests.

use agentledger_guest::fields::{COUNT_MAX, Field, count, flag, model, parse, present, text};
use agentledger_guest::{Call, EditPoint, Problem, Request, problem};
use serde::Deserialize;

use crate::fees;
use crate::info::{CHAT, COMPACT, COMPLETIONS, EMBEDDINGS, REALTIME, RESPONSES};
use crate::realtime;
use crate::socket::SOCKET;

/// Answers to one request. OpenAI allows 128; some hosts more.
const CHOICES_MAX: u64 = 1_024;

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    model: Field<'a>,
    #[serde(borrow, default)]
    stream: Field<'a>,
    #[serde(borrow, default)]
    background: Field<'a>,
    #[serde(borrow, default)]
    max_tokens: Field<'a>,
    #[serde(borrow, default)]
    max_completion_tokens: Field<'a>,
    #[serde(borrow, default)]
    max_output_tokens: Field<'a>,
    #[serde(borrow, default)]
    n: Field<'a>,
    #[serde(borrow, default)]
    best_of: Field<'a>,
    #[serde(borrow, default)]
    service_tier: Field<'a>,
    #[serde(borrow, default)]
    stream_options: Field<'a>,
    #[serde(borrow, default)]
    web_search_options: Field<'a>,
}

#[derive(Deserialize)]
struct StreamOptions<'a> {
    #[serde(borrow, default)]
    include_usage: Field<'a>,
}

pub fn inspect(request: &Request) -> Result<Call, Problem> {
    let operation = request.operation.as_str();
    if operation == REALTIME {
        return realtime::inspect(request);
    }
    let body: Body<'_> = parse(&request.outline)?;
    // Over a WebSocket a response is a stream without being asked for as one.
    let stream = flag(body.stream, "stream")?.unwrap_or(request.method == SOCKET)
        && operation != EMBEDDINGS
        && operation != COMPACT;
    let mut call = Call {
        model: model(body.model)?,
        stream,
        max_output: None,
        choices: 1,
        service_tier: text(body.service_tier, "service_tier")?.or_else(|| search_tier(body.web_search_options)),
        edits: vec![EditPoint::Model("model".to_owned())],
    };
    let at = match operation {
        CHAT => {
            let (path, limit) = chat_limit(&body)?;
            call.max_output = limit;
            call.choices = choices(body.n, "n")?;
            Some(path)
        }
        COMPLETIONS => {
            call.max_output = count(body.max_tokens, "max_tokens", 0, COUNT_MAX)?;
            // Every candidate of `best_of` is generated and billed.
            call.choices = choices(body.n, "n")?.max(choices(body.best_of, "best_of")?);
            Some("max_tokens")
        }
        RESPONSES => {
            if flag(body.background, "background")?.unwrap_or(false) {
                // Its result is fetched later by id, which no hold would cover.
                let message = "background responses are not served here: they could not be metered";
                return Err(problem("unsupported_parameter", message, "background"));
            }
            call.max_output = count(body.max_output_tokens, "max_output_tokens", 0, COUNT_MAX)?;
            Some("max_output_tokens")
        }
        EMBEDDINGS => {
            call.max_output = Some(0);
            None
        }
        _ => None,
    };
    call.edits.extend(at.map(|path| EditPoint::MaxOutput(path.to_owned())));
    if stream && matches!(operation, CHAT | COMPLETIONS) && !reports_usage(&body)? {
        call.edits
            .push(EditPoint::StreamUsage("stream_options.include_usage".to_owned()));
    }
    Ok(call)
}

/// The field that limits a chat's output, and its value. Where both are there, providers go by the newer one; the limit
/// is the larger, so that a hold is never too small.
fn chat_limit(body: &Body<'_>) -> Result<(&'static str, Option<u64>), Problem> {
    let old = count(body.max_tokens, "max_tokens", 0, COUNT_MAX)?;
    let new = count(body.max_completion_tokens, "max_completion_tokens", 0, COUNT_MAX)?;
    Ok(match (old, new) {
        (Some(_), None) => ("max_tokens", old),
        _ => ("max_completion_tokens", new.max(old)),
    })
}

/// The size of the search context that is asked for, as a tier of the price book. The provider checks it.
fn search_tier(options: Field<'_>) -> Option<String> {
    #[derive(Deserialize)]
    struct Options<'a> {
        #[serde(borrow, default)]
        search_context_size: Field<'a>,
    }
    let options: Options<'_> = serde_json::from_str(present(options)?.get()).ok()?;
    fees::search_tier(options.search_context_size)
}

fn choices(field: Field<'_>, param: &str) -> Result<u32, Problem> {
    let asked = count(field, param, 1, CHOICES_MAX)?.unwrap_or(1);
    Ok(u32::try_from(asked).unwrap_or(u32::MAX))
}

/// Whether the client itself asked for usage. Only then is the usage chunk its own.
fn reports_usage(body: &Body<'_>) -> Result<bool, Problem> {
    let Some(raw) = present(body.stream_options) else {
        return Ok(false);
    };
    let options: StreamOptions<'_> = serde_json::from_str(raw.get())
        .map_err(|_| problem("invalid_type", "'stream_options' must be an object", "stream_options"))?;
    Ok(flag(options.include_usage, "stream_options.include_usage")?.unwrap_or(false))
}
