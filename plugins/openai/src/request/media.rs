//! Images, speech, recordings and pages: what their requests tell of what will be billed.

use agentledger_guest::fields::{Field, count, present, text};
use agentledger_guest::{Call, Kind, Problem, Request};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Body, choices, units};

/// Recorded speech has no fewer bytes a second than this (32 kbit/s), so that a hold is seldom too small.
const AUDIO_BYTES_PER_SECOND: u64 = 4_000;
/// Spoken text has 0.0208 tokens a millisecond and about 15 characters a second: 1.4 tokens a character, rounded up.
const SPEECH_TOKENS_PER_TWO_CHARACTERS: u64 = 3;
/// Every partial image adds so many output tokens.
pub const PARTIAL_IMAGE_TOKENS: u64 = 100;
/// Most pages of a document: <https://docs.mistral.ai/capabilities/document_ai/basic_ocr>.
const PAGES_MAX: u64 = 1_000;

#[derive(Deserialize)]
pub struct File {
    bytes: u64,
}

/// GPT image models bill tokens, known beforehand by size and quality
/// (<https://platform.openai.com/docs/guides/image-generation#cost-and-latency>); the older ones, and most other hosts, bill
/// images. Which it is, the price of the model says.
pub fn images(call: &mut Call, body: &Body<'_>) -> Result<(), Problem> {
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
pub fn image_tokens(size: &str, quality: &str) -> u64 {
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
pub fn speech(call: &mut Call, body: &Body<'_>, request: &Request) -> Result<(), Problem> {
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
pub fn transcription(call: &mut Call, body: &Body<'_>) {
    let bytes = body.file.iter().flatten().map(|file| file.bytes).sum::<u64>();
    call.units
        .push(units(Kind::Second, bytes.div_ceil(AUDIO_BYTES_PER_SECOND)));
    call.input_kinds.push(Kind::AudioInput);
}

/// Pages are billed one by one. A document of which all are read may have as many as are allowed.
pub fn pages(call: &mut Call, body: &Body<'_>) -> Result<(), Problem> {
    call.stream = false;
    call.max_output = Some(0);
    call.units
        .push(units(Kind::Page, listed(body.pages).unwrap_or(PAGES_MAX)));
    // Pages that are annotated have a price of their own, and the answer does not tell them apart.
    let annotated = present(body.document_annotation_format).or(present(body.bbox_annotation_format));
    if annotated.is_some() {
        call.variant = Some("annotated".to_owned());
    }
    Ok(())
}

/// The pages that a request names one by one; ranges as text are not counted.
fn listed(pages: Field<'_>) -> Option<u64> {
    let pages: Vec<&RawValue> = serde_json::from_str(present(pages)?.get()).ok()?;
    Some((pages.len() as u64).clamp(1, PAGES_MAX))
}
