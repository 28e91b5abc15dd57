//! Reads requests.

mod media;
mod models;
mod tools;

use agentledger_guest::fields::{COUNT_MAX, Field, bears, count, flag, model, parse, present, text};
use agentledger_guest::{CacheWrites, Call, Count, EditPoint, Kind, Problem, Request, call, problem};
use serde::Deserialize;

use crate::fees;
use crate::info::{
    AGENT, ASYNC_CHAT, CHAT, CLASSIFY, COMPACT, COMPLETIONS, CONVERSATION, EMBEDDINGS, IMAGE_EDITS, IMAGE_VARIATIONS,
    IMAGES, INPUT_AUDIO, NATIVE_CHAT, NATIVE_EMBED, OCR, REALTIME, RERANK, RESPONSES, SEARCH, SPEECH, TRANSCRIPTIONS,
    TRANSLATIONS,
};
use crate::realtime;
use crate::socket::SOCKET;

/// Answers to one request. OpenAI allows 128; some hosts more.
const CHOICES_MAX: u64 = 1_024;
/// Prompts are cached from so many tokens on, and newer models bill that:
/// <https://platform.openai.com/docs/guides/prompt-caching>.
const CACHED_FROM_TOKENS: u64 = 1_024;

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    model: Field<'a>,
    #[serde(borrow, default)]
    models: Field<'a>,
    #[serde(borrow, default)]
    fallbacks: Field<'a>,
    #[serde(borrow, default)]
    moderation: Field<'a>,
    #[serde(borrow, default)]
    plugins: Field<'a>,
    #[serde(borrow, default)]
    tools: Field<'a>,
    #[serde(borrow, default)]
    prompt: Field<'a>,
    #[serde(borrow, default)]
    preset: Field<'a>,
    #[serde(borrow, default)]
    agent_id: Field<'a>,
    #[serde(borrow, default)]
    stream: Field<'a>,
    #[serde(borrow, default)]
    background: Field<'a>,
    #[serde(borrow, default)]
    deferred: Field<'a>,
    #[serde(borrow, default)]
    previous_response_id: Field<'a>,
    #[serde(borrow, default)]
    conversation: Field<'a>,
    #[serde(borrow, default)]
    max_tokens: Field<'a>,
    #[serde(borrow, default)]
    max_completion_tokens: Field<'a>,
    #[serde(borrow, default)]
    max_output_tokens: Field<'a>,
    #[serde(borrow, default)]
    completion_args: Field<'a>,
    #[serde(borrow, default)]
    options: Field<'a>,
    #[serde(borrow, default)]
    n: Field<'a>,
    #[serde(borrow, default)]
    best_of: Field<'a>,
    #[serde(borrow, default)]
    service_tier: Field<'a>,
    #[serde(borrow, default)]
    stream_options: Field<'a>,
    #[serde(borrow, default)]
    modalities: Field<'a>,
    #[serde(borrow, default)]
    stream_format: Field<'a>,
    #[serde(borrow, default)]
    size: Field<'a>,
    #[serde(borrow, default)]
    quality: Field<'a>,
    #[serde(borrow, default)]
    partial_images: Field<'a>,
    #[serde(borrow, default)]
    pages: Field<'a>,
    #[serde(borrow, default)]
    document_annotation_format: Field<'a>,
    #[serde(borrow, default)]
    bbox_annotation_format: Field<'a>,
    #[serde(borrow, default)]
    web_search_options: Field<'a>,
    #[serde(borrow, default)]
    search_parameters: Field<'a>,
    #[serde(borrow, default)]
    max_tool_calls: Field<'a>,
    /// A form's file.
    #[serde(default)]
    file: Option<Vec<media::File>>,
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
    let over_socket = request.method == SOCKET;
    let mut call = named(request, &body, over_socket)?;
    // Over a WebSocket a response is a stream without being asked for as one; Ollama's own chat is one unless told not to be.
    call.stream = flag(body.stream, "stream")?.unwrap_or(over_socket || operation == NATIVE_CHAT);
    call.service_tier = text(body.service_tier, "service_tier")?.or_else(|| search_tier(body.web_search_options));
    call.cache_writes = CacheWrites::Unasked(CACHED_FROM_TOKENS);
    call.continues = present(body.previous_response_id).is_some() || present(body.conversation).is_some();
    operate(&mut call, &body, request, over_socket)?;
    if call.stream && matches!(operation, CHAT | COMPLETIONS | AGENT) && !reports_usage(&body)? {
        call.edits
            .push(EditPoint::StreamUsage("stream_options.include_usage".to_owned()));
    }
    Ok(call)
}

/// The models that a request names. Where none is named, what stands in a model's place chooses it elsewhere.
fn named(request: &Request, body: &Body<'_>, over_socket: bool) -> Result<Call, Problem> {
    let operation = request.operation.as_str();
    let mut models = models::further(body)?;
    // A path that names a model or a deployment (Azure) decides, whatever the body says. What a WebSocket's query names is
    // only for messages that name none.
    let of_path = request.path_model.clone();
    let listed = of_path.is_none() && present(body.model).is_none() && !models.is_empty();
    let (first, any_model) = match of_path.filter(|_| !over_socket || present(body.model).is_none()) {
        Some(of_path) => (of_path, false),
        None if present(body.model).is_some() => (model(body.model)?, false),
        // The only model that makes variations is the one that is taken unnamed.
        None if operation == IMAGE_VARIATIONS => ("dall-e-2".to_owned(), false),
        // Perplexity's price of a search stands under this name.
        None if operation == SEARCH => (SEARCH.to_owned(), false),
        None if !models.is_empty() => (models.remove(0), false),
        None if models::chosen_elsewhere(body, request) => (String::new(), true),
        None => (model(body.model)?, false),
    };
    models.retain(|other| *other != first);
    // Where something else stands in the model's place, a model beside it would say another thing.
    let edits = if any_model || listed || operation == SEARCH {
        vec![]
    } else {
        vec![EditPoint::Model("model".to_owned())]
    };
    Ok(Call {
        any_model: any_model || models::is_router(&first) || models.iter().any(|other| models::is_router(other)),
        models,
        edits,
        ..call(first)
    })
}

/// What each operation says of its size.
fn operate(call: &mut Call, body: &Body<'_>, request: &Request, over_socket: bool) -> Result<(), Problem> {
    match request.operation.as_str() {
        CHAT | AGENT | ASYNC_CHAT => {
            chat(call, body, request)?;
            call.background = request.operation == ASYNC_CHAT
                || prefers_async(request)
                || flag(body.deferred, "deferred")?.unwrap_or(false)
                || flag(body.background, "background")?.unwrap_or(false);
            tools::hold(call, body, &request.vendor)?;
        }
        COMPLETIONS => {
            call.max_output = limit(body.max_tokens, "max_tokens")?;
            // Every candidate of `best_of` is generated and billed.
            call.choices = choices(body.n, "n")?.max(choices(body.best_of, "best_of")?);
            call.edits.push(EditPoint::MaxOutput("max_tokens".to_owned()));
        }
        RESPONSES => {
            call.background = flag(body.background, "background")?.unwrap_or(false) || prefers_async(request);
            if call.background && over_socket {
                // <https://developers.openai.com/api/reference/resources/responses/websocket-events>
                let message = "a WebSocket has no background responses";
                return Err(problem("unsupported_parameter", message, "background"));
            }
            call.max_output = limit(body.max_output_tokens, "max_output_tokens")?;
            call.edits.push(EditPoint::MaxOutput("max_output_tokens".to_owned()));
            tools::hold(call, body, &request.vendor)?;
        }
        CONVERSATION => conversation(call, body, request)?,
        NATIVE_CHAT => {
            // Below zero is as much as the model gives.
            let named = inner(body.options, "options", "num_predict")?.filter(|raw| !raw.get().starts_with('-'));
            call.max_output = limit(named, "options.num_predict")?;
            call.edits.push(EditPoint::MaxOutput("options.num_predict".to_owned()));
        }
        EMBEDDINGS | RERANK | CLASSIFY | NATIVE_EMBED | SEARCH => {
            call.stream = false;
            call.max_output = Some(0);
        }
        OCR => media::pages(call, body)?,
        COMPACT => call.stream = false,
        IMAGES | IMAGE_EDITS | IMAGE_VARIATIONS => media::images(call, body)?,
        SPEECH => media::speech(call, body, request)?,
        TRANSCRIPTIONS | TRANSLATIONS => media::transcription(call, body),
        _ => {}
    }
    Ok(())
}

fn chat(call: &mut Call, body: &Body<'_>, request: &Request) -> Result<(), Problem> {
    let (path, limit) = chat_limit(body)?;
    call.max_output = limit;
    call.choices = choices(body.n, "n")?;
    call.edits.push(EditPoint::MaxOutput(path.to_owned()));
    // Speech and pictures are billed apart, and dearer.
    let makes = |medium: &str| present(body.modalities).is_some_and(|raw| raw.get().contains(medium));
    if makes("\"audio\"") {
        call.output_kinds.push(Kind::AudioOutput);
    }
    // Models named so make pictures without being asked for that modality.
    if makes("\"image\"") || call.model.contains("-image") {
        call.output_kinds.push(Kind::ImageOutput);
    }
    if bears(request, INPUT_AUDIO) {
        call.input_kinds.push(Kind::AudioInput);
    }
    Ok(())
}

/// The field that limits a chat's output, and its value. Where both are there, providers go by the newer one; the limit
/// is the larger, so that a hold is never too small. One that is 0 stands for none, as some hosts take it.
fn chat_limit(body: &Body<'_>) -> Result<(&'static str, Option<u64>), Problem> {
    let old = limit(body.max_tokens, "max_tokens")?;
    let new = limit(body.max_completion_tokens, "max_completion_tokens")?;
    Ok(match (present(body.max_tokens), present(body.max_completion_tokens)) {
        (Some(_), None) => ("max_tokens", old),
        (Some(_), Some(_)) if old.is_none() || new.is_none() => ("max_completion_tokens", None),
        _ => ("max_completion_tokens", new.max(old)),
    })
}

/// Mistral keeps the turns before, of which a request that goes on names nothing but the conversation.
fn conversation(call: &mut Call, body: &Body<'_>, request: &Request) -> Result<(), Problem> {
    const LIMIT: &str = "completion_args.max_tokens";
    call.max_output = limit(inner(body.completion_args, "completion_args", "max_tokens")?, LIMIT)?;
    call.edits.push(EditPoint::MaxOutput(LIMIT.to_owned()));
    call.continues = models::goes_on(request);
    tools::hold(call, body, &request.vendor)
}

/// `Prefer: respond-async` (RFC 7240): a host that heeds it answers before the work is done.
fn prefers_async(request: &Request) -> bool {
    let mut headers = request.headers.iter();
    headers.any(|(name, value)| name == "prefer" && value.to_ascii_lowercase().contains("respond-async"))
}

/// A member of an object that may be absent.
fn inner<'a>(field: Field<'a>, param: &str, member: &str) -> Result<Field<'a>, Problem> {
    let Some(raw) = present(field) else { return Ok(None) };
    let members: std::collections::BTreeMap<String, &serde_json::value::RawValue> = serde_json::from_str(raw.get())
        .map_err(|_| problem("invalid_type", format!("'{param}' must be an object"), param))?;
    Ok(members.get(member).copied())
}

/// A limit of output tokens. Hosts differ in what 0 means, and some take it for no limit: it names none.
fn limit(field: Field<'_>, param: &str) -> Result<Option<u64>, Problem> {
    Ok(count(field, param, 0, COUNT_MAX)?.filter(|most| *most > 0))
}

fn units(kind: Kind, units: u64) -> Count {
    Count { kind, units }
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
    let options: StreamOptions<'_> = Some(raw.get())
        .filter(|raw| raw.starts_with('{'))
        .and_then(|raw| serde_json::from_str(raw).ok())
        .ok_or_else(|| problem("invalid_type", "'stream_options' must be an object", "stream_options"))?;
    Ok(flag(options.include_usage, "stream_options.include_usage")?.unwrap_or(false))
}
