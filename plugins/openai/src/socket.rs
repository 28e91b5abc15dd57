//! What messages over a WebSocket mean: of Responses
//! (https://developers.openai.com/api/docs/guides/websocket-mode) and of Realtime
//! (https://platform.openai.com/docs/api-reference/realtime-server-events). Both tell messages apart by `type`.

use agentledger_guest::fields::{COUNT_MAX, Field, count, text};
use agentledger_guest::{Meaning, Sender, SocketMessage, Step};
use serde::Deserialize;
use serde_json::json;

use crate::info::REALTIME;
use crate::realtime::{TRANSCRIBED, unlimited};

/// The method of a request that came over a WebSocket.
pub const SOCKET: &str = "WEBSOCKET";

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Field<'a>,
    #[serde(borrow, default)]
    event_id: Field<'a>,
    /// Responses: which of several rows of answers on one connection it belongs to.
    #[serde(borrow, default)]
    stream_id: Field<'a>,
    #[serde(borrow, default)]
    response_id: Field<'a>,
    #[serde(borrow, default)]
    status: Field<'a>,
    #[serde(borrow, default)]
    response: Option<Response<'a>>,
    #[serde(borrow, default)]
    error: Option<Error<'a>>,
    #[serde(borrow, default)]
    session: Option<Session<'a>>,
}

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow, default)]
    id: Field<'a>,
    #[serde(borrow, default)]
    model: Field<'a>,
}

#[derive(Deserialize)]
struct Error<'a> {
    #[serde(borrow, default)]
    event_id: Field<'a>,
}

#[derive(Deserialize)]
struct Session<'a> {
    #[serde(borrow, default)]
    model: Field<'a>,
    #[serde(borrow, default)]
    max_output_tokens: Field<'a>,
    /// Its name in the beta.
    #[serde(borrow, default)]
    max_response_output_tokens: Field<'a>,
    #[serde(borrow, default)]
    audio: Option<Audio<'a>>,
    /// Where the beta had it.
    #[serde(borrow, default)]
    input_audio_transcription: Option<Transcription<'a>>,
}

#[derive(Deserialize)]
struct Audio<'a> {
    #[serde(borrow, default)]
    input: Option<AudioInput<'a>>,
}

#[derive(Deserialize)]
struct AudioInput<'a> {
    #[serde(borrow, default)]
    transcription: Option<Transcription<'a>>,
}

#[derive(Deserialize)]
struct Transcription<'a> {
    #[serde(borrow, default)]
    model: Field<'a>,
}

pub fn meaning_of(message: &SocketMessage) -> Option<Meaning> {
    let body: Message<'_> = serde_json::from_str(&message.outline).ok()?;
    let kind = said(body.kind)?;
    let realtime = message.operation == REALTIME;
    let step = match (message.sender, kind.as_str()) {
        (Sender::Client, "response.create") => Step::Ask,
        (Sender::Client, _) => return None,
        (Sender::Server, "response.created") => Step::Begin,
        (Sender::Server, "response.done" | "response.completed" | "response.incomplete" | "response.failed") => {
            Step::End
        }
        // An error of a realtime session leaves running answers alone; the other protocol's ends the one of its lane.
        (Sender::Server, "error") if realtime => Step::Refuse,
        (Sender::Server, "error") => Step::End,
        (Sender::Server, TRANSCRIBED) => Step::Aside,
        (Sender::Server, "response.output_audio.delta" | "response.audio.delta") => Step::Sound,
        (Sender::Server, kind) if kind.starts_with("response.steer.") => return None,
        (Sender::Server, kind) if kind.starts_with("response.") => Step::Part,
        (Sender::Server, kind) if kind.contains("session.created") || kind.contains("session.updated") => Step::Setting,
        (Sender::Server, _) => return None,
    };
    let mut meaning = Meaning {
        step,
        lane: said(body.stream_id),
        answer: None,
        asked_by: None,
        model: None,
        max_output: None,
        aside_model: None,
        cancel: None,
        status: count(body.status, "status", 400, 599)
            .ok()
            .flatten()
            .and_then(|status| u16::try_from(status).ok()),
        echo: None,
    };
    let response = body.response.as_ref();
    match step {
        Step::Ask => meaning.asked_by = said(body.event_id),
        Step::Refuse => meaning.asked_by = body.error.and_then(|error| said(error.event_id)),
        Step::Setting => set(&mut meaning, body.session?),
        Step::Aside => {}
        Step::Begin | Step::Part | Step::Sound | Step::End => {
            meaning.answer = response
                .and_then(|response| said(response.id))
                .or_else(|| said(body.response_id));
            meaning.model = response.and_then(|response| said(response.model));
        }
    }
    if matches!(step, Step::Ask | Step::Begin) {
        let echo = match &meaning.lane {
            _ if realtime => json!({"event_id": "event_agentledger", "error": {"event_id": meaning.asked_by}}),
            Some(lane) => json!({"stream_id": lane}),
            None => json!({}),
        };
        meaning.echo = Some(echo.to_string());
    }
    if realtime && step == Step::Begin {
        let id = meaning.answer.as_deref();
        meaning.cancel = id.map(|id| json!({"type": "response.cancel", "response_id": id}).to_string());
    }
    Some(meaning)
}

fn set(meaning: &mut Meaning, session: Session<'_>) {
    meaning.model = said(session.model);
    let limit = session.max_output_tokens.or(session.max_response_output_tokens);
    if !unlimited(limit) {
        meaning.max_output = count(limit, "max_output_tokens", 1, COUNT_MAX).ok().flatten();
    }
    let transcription = session
        .audio
        .and_then(|audio| audio.input)
        .and_then(|input| input.transcription)
        .or(session.input_audio_transcription);
    meaning.aside_model = transcription.and_then(|transcription| said(transcription.model));
}

/// A string that says something; anything else is as good as absent.
fn said(field: Field<'_>) -> Option<String> {
    text(field, "").ok().flatten().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::info::RESPONSES;

    fn of(operation: &str, sender: Sender, outline: &str) -> Option<Meaning> {
        meaning_of(&SocketMessage {
            operation: operation.to_owned(),
            sender,
            outline: outline.to_owned(),
        })
    }

    #[test]
    fn a_response_is_asked_for_begun_continued_and_ended() {
        let ask = of(
            RESPONSES,
            Sender::Client,
            r#"{"type":"response.create","stream_id":"a","model":"m"}"#,
        )
        .unwrap();
        assert_eq!((ask.step, ask.lane.as_deref()), (Step::Ask, Some("a")));
        assert_eq!(ask.echo.as_deref(), Some(r#"{"stream_id":"a"}"#));
        let begun = of(
            RESPONSES,
            Sender::Server,
            r#"{"type":"response.created","stream_id":"a","response":{"id":"r","model":"m"}}"#,
        )
        .unwrap();
        assert_eq!(
            (begun.step, begun.answer.as_deref(), begun.cancel),
            (Step::Begin, Some("r"), None)
        );
        let part = of(RESPONSES, Sender::Server, r#"{"type":"response.output_text.delta"}"#).unwrap();
        assert_eq!((part.step, part.answer), (Step::Part, None));
        for kind in ["response.completed", "response.incomplete", "response.failed"] {
            let outline = format!(r#"{{"type":"{kind}","response":{{"id":"r"}}}}"#);
            assert_eq!(
                of(RESPONSES, Sender::Server, &outline).unwrap().step,
                Step::End,
                "{kind}"
            );
        }
        let error = of(
            RESPONSES,
            Sender::Server,
            r#"{"type":"error","status":400,"error":{"code":"x"}}"#,
        )
        .unwrap();
        assert_eq!((error.step, error.status), (Step::End, Some(400)));
        for outline in [
            r#"{"type":"codex.rate_limits"}"#,
            r#"{"type":"response.steer.accepted"}"#,
            "{}",
        ] {
            assert_eq!(of(RESPONSES, Sender::Server, outline), None, "{outline}");
        }
    }

    #[test]
    fn a_realtime_session_sets_its_models_and_can_cancel() {
        let setting = of(
            REALTIME,
            Sender::Server,
            r#"{"type":"session.updated","session":{"model":"gpt-realtime","max_output_tokens":"inf","audio":{"input":{"transcription":{"model":"whisper-1"}}}}}"#,
        )
        .unwrap();
        assert_eq!(setting.step, Step::Setting);
        assert_eq!(
            (setting.model.as_deref(), setting.max_output),
            (Some("gpt-realtime"), None)
        );
        assert_eq!(setting.aside_model.as_deref(), Some("whisper-1"));
        let begun = of(
            REALTIME,
            Sender::Server,
            r#"{"type":"response.created","response":{"id":"r\"1"}}"#,
        )
        .unwrap();
        assert_eq!(
            begun.cancel.as_deref(),
            Some(r#"{"response_id":"r\"1","type":"response.cancel"}"#)
        );
        let sound = of(
            REALTIME,
            Sender::Server,
            r#"{"type":"response.output_audio.delta","response_id":"r"}"#,
        )
        .unwrap();
        assert_eq!((sound.step, sound.answer.as_deref()), (Step::Sound, Some("r")));
        let refused = of(REALTIME, Sender::Server, r#"{"type":"error","error":{"event_id":"e"}}"#).unwrap();
        assert_eq!((refused.step, refused.asked_by.as_deref()), (Step::Refuse, Some("e")));
        assert_eq!(
            of(REALTIME, Sender::Client, r#"{"type":"input_audio_buffer.append"}"#),
            None
        );
    }
}
