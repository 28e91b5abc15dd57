//! Reads requests.

use agentledger_guest::fields::{COUNT_MAX, Field, bears, count, flag, model, parse, present, text};
use agentledger_guest::{CacheWrites, Call, Count, EditPoint, Kind, Problem, Request, call, problem};
use serde::Deserialize;

use crate::fees;
use crate::info::{
    CHAT, COMPACT, COMPLETIONS, EMBEDDINGS, IMAGE_EDITS, IMAGE_VARIATIONS, IMAGES, INPUT_AUDIO, REALTIME, RERANK,
    RESPONSES, SPEECH, TRANSCRIPTIONS, TRANSLATIONS,
};
use crate::realtime;
use crate::socket::SOCKET;

/// Answers to one request. OpenAI allows 128; some hosts more.
const CHOICES_MAX: u64 = 1_024;
/// Prompts are cached from so many tokens on, and newer models bill that:
/// <https://platform.openai.com/docs/guides/prompt-caching>.
const CACHED_FROM_TOKENS: u64 = 1_024;
/// Recorded speech has no fewer bytes a second than this (32 kbit/s), so that a hold is seldom too small.
const AUDIO_BYTES_PER_SECOND: u64 = 4_000;
/// Spoken text has 0.0208 tokens a millisecond and about 15 characters a second: 1.4 tokens a character, rounded up.
const SPEECH_TOKENS_PER_TWO_CHARACTERS: u64 = 3;
/// Every partial image adds so many output tokens.
const PARTIAL_IMAGE_TOKENS: u64 = 100;

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    model: Field<'a>,
    #[serde(borrow, default)]
    stream: Field<'a>,
    #[serde(borrow, default)]
    background: Field<'a>,
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
    web_search_options: Field<'a>,
    /// A form's file.
    #[serde(default)]
    file: Option<Vec<File>>,
}

#[derive(Deserialize)]
struct File {
    bytes: u64,
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
    // A path that names a model or a deployment (Azure) decides, whatever the body says. What a WebSocket's query names is
    // only for messages that name none.
    let of_path = request.path_model.clone();
    let named = match of_path.filter(|_| !over_socket || present(body.model).is_none()) {
        Some(of_path) => of_path,
        // The only model that makes variations is the one that is taken unnamed.
        None if operation == IMAGE_VARIATIONS && present(body.model).is_none() => "dall-e-2".to_owned(),
        None => model(body.model)?,
    };
    let mut call = Call {
        // Over a WebSocket a response is a stream without being asked for as one.
        stream: flag(body.stream, "stream")?.unwrap_or(over_socket),
        service_tier: text(body.service_tier, "service_tier")?.or_else(|| search_tier(body.web_search_options)),
        edits: vec![EditPoint::Model("model".to_owned())],
        cache_writes: CacheWrites::Unasked(CACHED_FROM_TOKENS),
        continues: present(body.previous_response_id).is_some() || present(body.conversation).is_some(),
        ..call(named)
    };
    match operation {
        CHAT => chat(&mut call, &body, request)?,
        COMPLETIONS => {
            call.max_output = count(body.max_tokens, "max_tokens", 0, COUNT_MAX)?;
            // Every candidate of `best_of` is generated and billed.
            call.choices = choices(body.n, "n")?.max(choices(body.best_of, "best_of")?);
            call.edits.push(EditPoint::MaxOutput("max_tokens".to_owned()));
        }
        RESPONSES => {
            call.background = flag(body.background, "background")?.unwrap_or(false);
            if call.background && over_socket {
                // <https://developers.openai.com/api/reference/resources/responses/websocket-events>
                let message = "a WebSocket has no background responses";
                return Err(problem("unsupported_parameter", message, "background"));
            }
            call.max_output = count(body.max_output_tokens, "max_output_tokens", 0, COUNT_MAX)?;
            call.edits.push(EditPoint::MaxOutput("max_output_tokens".to_owned()));
        }
        EMBEDDINGS | RERANK => {
            call.stream = false;
            call.max_output = Some(0);
        }
        COMPACT => call.stream = false,
        IMAGES | IMAGE_EDITS | IMAGE_VARIATIONS => images(&mut call, &body)?,
        SPEECH => speech(&mut call, &body, request)?,
        TRANSCRIPTIONS | TRANSLATIONS => transcription(&mut call, &body),
        _ => {}
    }
    if call.stream && matches!(operation, CHAT | COMPLETIONS) && !reports_usage(&body)? {
        call.edits
            .push(EditPoint::StreamUsage("stream_options.include_usage".to_owned()));
    }
    Ok(call)
}

fn chat(call: &mut Call, body: &Body<'_>, request: &Request) -> Result<(), Problem> {
    let (path, limit) = chat_limit(body)?;
    call.max_output = limit;
    call.choices = choices(body.n, "n")?;
    call.edits.push(EditPoint::MaxOutput(path.to_owned()));
    // Speech is billed apart, and dearer.
    if present(body.modalities).is_some_and(|raw| raw.get().contains("\"audio\"")) {
        call.output_kinds.push(Kind::AudioOutput);
    }
    if bears(request, INPUT_AUDIO) {
        call.input_kinds.push(Kind::AudioInput);
    }
    Ok(())
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

/// GPT image models bill tokens, known beforehand by size and quality
/// (<https://platform.openai.com/docs/guides/image-generation#cost-and-latency>); the older ones, and most other hosts, bill
/// images. Which it is, the price of the model says.
fn images(call: &mut Call, body: &Body<'_>) -> Result<(), Problem> {
    let size = text(body.size, "size")?.unwrap_or_default();
    let quality = text(body.quality, "quality")?.unwrap_or_default();
    let partial = count(body.partial_images, "partial_images", 0, 16)?.unwrap_or(0);
    call.choices = choices(body.n, "n")?;
    call.units.push(units(Kind::Image, u64::from(call.choices)));
    call.output_kinds.push(Kind::ImageOutput);
    call.input_kinds.push(Kind::ImageInput);
    call.max_output = Some(image_tokens(&size, &quality).saturating_add(partial * PARTIAL_IMAGE_TOKENS));
    call.variant = image_tier(&call.model, &size, &quality).map(str::to_owned);
    Ok(())
}

/// Output tokens of one image. What the model chooses itself is held as the dearest it may choose.
fn image_tokens(size: &str, quality: &str) -> u64 {
    match (quality, size) {
        ("low", "1024x1024") => 272,
        ("low", "1536x1024") => 400,
        ("low", _) => 408,
        ("medium", "1024x1024") => 1_056,
        ("medium", "1536x1024") => 1_568,
        ("medium", _) => 1_584,
        (_, "1024x1024") => 4_160,
        (_, "1536x1024") => 6_208,
        _ => 6_240,
    }
}

/// DALL·E's prices by size and quality are tiers of its rows.
fn image_tier(model: &str, size: &str, quality: &str) -> Option<&'static str> {
    match model {
        "dall-e-3" => match (quality == "hd", !size.is_empty() && size != "1024x1024") {
            (false, false) => None,
            (true, false) => Some("hd"),
            (false, true) => Some("wide"),
            (true, true) => Some("hd_wide"),
        },
        "dall-e-2" => match size {
            "256x256" => Some("256x256"),
            "512x512" => Some("512x512"),
            _ => None,
        },
        _ => None,
    }
}

/// `tts-1` bills the characters of its input, newer models the tokens of what they speak.
fn speech(call: &mut Call, body: &Body<'_>, request: &Request) -> Result<(), Problem> {
    call.stream = text(body.stream_format, "stream_format")?.as_deref() == Some("sse");
    let spoken = request.characters.iter().find(|(path, _)| path == "input");
    let characters = spoken.map_or(0, |(_, characters)| *characters);
    call.units.push(units(Kind::Character, characters));
    let tokens = characters.saturating_mul(SPEECH_TOKENS_PER_TWO_CHARACTERS).div_ceil(2);
    call.units.push(units(Kind::AudioOutput, tokens));
    call.max_output = Some(0);
    Ok(())
}

/// Whisper bills seconds, newer models tokens of audio. How long a recording is, only its size hints at.
fn transcription(call: &mut Call, body: &Body<'_>) {
    let bytes = body.file.iter().flatten().map(|file| file.bytes).sum::<u64>();
    call.units
        .push(units(Kind::Second, bytes.div_ceil(AUDIO_BYTES_PER_SECOND)));
    call.input_kinds.push(Kind::AudioInput);
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
    let options: StreamOptions<'_> = serde_json::from_str(raw.get())
        .map_err(|_| problem("invalid_type", "'stream_options' must be an object", "stream_options"))?;
    Ok(flag(options.include_usage, "stream_options.include_usage")?.unwrap_or(false))
}
