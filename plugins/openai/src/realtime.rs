//! The realtime API: sessions over a WebSocket in which both sides speak. What it says of usage has its own spelling, and
//! counts text, sound and pictures apart (https://platform.openai.com/docs/guides/realtime-costs).

use agentledger_guest::answer::{Contradiction, parse as parse_report, rest};
use agentledger_guest::fields::{COUNT_MAX, Field, count, parse, present};
use agentledger_guest::usage::{Tally, Units};
use agentledger_guest::{Call, EditPoint, Kind, Part, Problem, Request, call, problem};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::answer;

/// Where a message that asks for an answer limits it.
const MAX_OUTPUT: &str = "response.max_output_tokens";

#[derive(Deserialize)]
struct Ask<'a> {
    #[serde(borrow, default)]
    response: Option<Asked<'a>>,
}

#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow, default)]
    max_output_tokens: Field<'a>,
}

/// A `response.create`. The model is the session's.
pub fn inspect(request: &Request) -> Result<Call, Problem> {
    let ask: Ask<'_> = parse(&request.outline)?;
    let named = ask.response.and_then(|response| response.max_output_tokens);
    let max_output = if unlimited(named) {
        None
    } else {
        count(named, MAX_OUTPUT, 1, COUNT_MAX)?
    };
    let model = request.path_model.clone().filter(|model| !model.is_empty());
    let model = model.ok_or_else(|| problem("missing_required_parameter", "the session names no model", "model"))?;
    Ok(Call {
        stream: true,
        max_output,
        edits: vec![EditPoint::MaxOutput(MAX_OUTPUT.to_owned())],
        ..call(model)
    })
}

/// `"inf"`: as much as the model gives.
pub fn unlimited(field: Field<'_>) -> bool {
    present(field).is_some_and(|raw| raw.get() == "\"inf\"")
}

/// The message ends an answer, or bills something beside them: nothing of the same bill follows.
pub fn is_final(kind: Option<&str>) -> bool {
    matches!(kind, Some("response.done" | TRANSCRIBED))
}

/// A transcript of what the client said, made by a model of its own and billed by itself.
pub const TRANSCRIBED: &str = "conversation.item.input_audio_transcription.completed";

/// `{"type":"tokens", …}`, which is left out for answers, or `{"type":"duration","seconds":3.4}`.
#[derive(Deserialize)]
struct Usage<'a> {
    #[serde(default)]
    input_tokens: Option<Units>,
    #[serde(default)]
    output_tokens: Option<Units>,
    #[serde(default)]
    input_token_details: Option<InputDetails>,
    #[serde(default)]
    output_token_details: Option<Modalities>,
    #[serde(borrow, default)]
    seconds: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct InputDetails {
    #[serde(default)]
    audio_tokens: Units,
    #[serde(default)]
    image_tokens: Units,
    #[serde(default)]
    cached_tokens: Units,
    #[serde(default)]
    cached_tokens_details: Option<Modalities>,
}

#[derive(Deserialize, Default)]
struct Modalities {
    #[serde(default)]
    audio_tokens: Units,
    #[serde(default)]
    image_tokens: Units,
}

/// Disjoint counts. Cached tokens lie inside the input and inside each of its modalities; what is neither sound nor picture
/// is text. `None`: it counts nothing.
pub fn part(raw: &RawValue) -> Result<Option<Part>, Contradiction> {
    let usage: Usage<'_> = parse_report(raw)?;
    let mut tally = Tally::default();
    if let Some(seconds) = usage.seconds {
        tally.add(Kind::Second, answer::seconds(seconds)?);
        return Ok(Some(tally.part(None)));
    }
    let Some(Units(input)) = usage.input_tokens else {
        return Ok(None);
    };
    let output = usage.output_tokens.unwrap_or_default().0;
    let details = usage.input_token_details.unwrap_or_default();
    let said = usage.output_token_details.unwrap_or_default();
    let cached = details.cached_tokens.0;
    let (cached_audio, cached_image) = match &details.cached_tokens_details {
        Some(cached) => (cached.audio_tokens.0, cached.image_tokens.0),
        // Not said of what: as much of it sound as can be, so that none of it is paid twice.
        None => (cached.min(details.audio_tokens.0), 0),
    };
    let audio = rest(details.audio_tokens.0, cached_audio)?;
    let image = rest(details.image_tokens.0, cached_image)?;
    let text = rest(rest(rest(input, cached)?, audio)?, image)?;
    let cached_text = rest(rest(cached, cached_audio)?, cached_image)?;
    tally.add(Kind::Input, text);
    tally.add(Kind::CacheRead, cached_text);
    tally.add(Kind::CacheReadAudio, cached_audio);
    tally.add(Kind::CacheReadImage, cached_image);
    tally.add(Kind::AudioInput, audio);
    tally.add(Kind::ImageInput, image);
    tally.add(Kind::Output, rest(output, said.audio_tokens.0)?);
    tally.add(Kind::AudioOutput, said.audio_tokens.0);
    Ok(Some(tally.part(None)))
}

/// The event by which the realtime API tells an error.
pub fn error(code: &str, kind: &str, message: &str) -> Value {
    json!({
        "type": "error",
        "event_id": "event_agentledger",
        "error": {"type": kind, "code": code, "message": message, "param": null, "event_id": null},
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn counts(json: &str) -> Result<Vec<(Kind, u64)>, Contradiction> {
        let raw = RawValue::from_string(json.to_owned()).unwrap();
        let counted = part(&raw)?.into_iter().flat_map(|part| part.usage);
        let counted = counted.filter(|count| count.units > 0);
        Ok(counted.map(|count| (count.kind, count.units)).collect())
    }

    #[test]
    fn modalities_and_cached_tokens_are_made_disjoint() {
        let usage = r#"{"total_tokens":335,"input_tokens":132,"output_tokens":203,
            "input_token_details":{"text_tokens":72,"audio_tokens":50,"image_tokens":10,"cached_tokens":64,
                "cached_tokens_details":{"text_tokens":40,"audio_tokens":20,"image_tokens":4}},
            "output_token_details":{"text_tokens":53,"audio_tokens":150}}"#;
        assert_eq!(
            counts(usage).unwrap(),
            [
                (Kind::Input, 32),
                (Kind::CacheRead, 40),
                (Kind::CacheReadAudio, 20),
                (Kind::CacheReadImage, 4),
                (Kind::AudioInput, 30),
                (Kind::ImageInput, 6),
                (Kind::Output, 53),
                (Kind::AudioOutput, 150),
            ]
        );
        let unsaid =
            r#"{"input_tokens":100,"output_tokens":1,"input_token_details":{"audio_tokens":80,"cached_tokens":90}}"#;
        assert_eq!(
            counts(unsaid).unwrap(),
            [
                (Kind::Input, 10),
                (Kind::CacheRead, 10),
                (Kind::CacheReadAudio, 80),
                (Kind::Output, 1)
            ]
        );
    }

    #[test]
    fn a_report_that_contradicts_itself_is_refused() {
        for usage in [
            r#"{"input_tokens":10,"output_tokens":1,"input_token_details":{"cached_tokens":11}}"#,
            r#"{"input_tokens":10,"output_tokens":1,"input_token_details":{"audio_tokens":11}}"#,
            r#"{"input_tokens":10,"output_tokens":1,"output_token_details":{"audio_tokens":2}}"#,
            r#"{"input_tokens":10,"input_token_details":{"cached_tokens":2,"cached_tokens_details":{"audio_tokens":1}}}"#,
            r#"{"input_tokens":-1,"output_tokens":1}"#,
            r#"{"seconds":-1}"#,
        ] {
            assert_eq!(counts(usage), Err(Contradiction), "{usage}");
        }
        assert_eq!(counts(r#"{"output_tokens":1}"#), Ok(vec![]), "a report of nothing");
    }

    #[test]
    fn begun_seconds_count_whole() {
        let seconds = |json: &str| counts(json).map(|counts| counts.first().map_or(0, |count| count.1));
        assert_eq!(seconds(r#"{"type":"duration","seconds":3}"#), Ok(3));
        assert_eq!(seconds(r#"{"type":"duration","seconds":3.4}"#), Ok(4));
        assert_eq!(seconds(r#"{"type":"duration","seconds":3.0}"#), Ok(3));
        assert_eq!(seconds(r#"{"type":"duration","seconds":1e3}"#), Err(Contradiction));
    }
}
