//! What a server's answer says, read beside its bytes while they pass: which requests it answers, and how. Read leniently: what is
//! wrong in an answer is between server and client, and passes.
//!
//! A message is held up to [`MESSAGE_BYTES_MAX`]; a longer one is read as it passes, in bounded memory.

use std::borrow::Cow;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::message::{BATCH_MAX, id_key};
use crate::meter::frames::{Frame, FrameKind, Framer, Framing};
use crate::plugin::outline::{Arriving, Shape};
use crate::plugin::{ResultSeen, Want};

/// Longest message that is held to be read, and, where it is a list of tools, to be changed.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
const DEPTH_MAX: u32 = 128;

/// An answer to one request.
#[derive(Debug)]
pub struct Answer<'a> {
    /// Of the request, see [`id_key`].
    pub id: String,
    pub says: Says,
    /// The result as it stands in the message; `None` where there is none, or the message was not held.
    pub result: Option<&'a str>,
    /// Bytes of the whole message.
    pub bytes: u64,
}

impl Answer<'_> {
    /// What its price may see of it.
    pub fn seen(&self) -> ResultSeen<'_> {
        match self.result {
            Some(result) => ResultSeen::Json(result.as_bytes()),
            None => ResultSeen::Unread(self.bytes),
        }
    }
}

/// How a request is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    Result,
    /// A tool's own failure, as a result.
    ToolError,
    /// An error of JSON-RPC.
    Error,
    /// The server wants input first, and the call again with this state.
    InputRequired {
        state: String,
    },
    /// The call goes on as a task. `status` of a task that was asked about; [`DELIVERED`] where its result came with it.
    Task {
        id: String,
        status: String,
    },
}

/// The status of a task whose result stands beside it, as the tasks extension of 2026-07-28 has it.
pub const DELIVERED: &str = "delivered";

/// A piece of an answer's bytes, and what is in it.
#[derive(Debug)]
pub struct Piece<'a> {
    /// Bytes of the answer that it takes.
    pub raw_len: usize,
    /// The event's name, where the answer is a stream.
    pub event: Option<&'a str>,
    /// The message, where it is whole and was held.
    pub data: Option<&'a [u8]>,
    pub answers: Vec<Answer<'a>>,
    /// It is a part of a message that is too long to be held.
    pub is_part: bool,
}

/// Cuts an answer into pieces and reads them.
pub enum AnswerReader {
    Events {
        framer: Box<Framer>,
        long: Option<LongMessage>,
    },
    Whole {
        held: Vec<u8>,
        long: Option<LongMessage>,
        bytes: usize,
    },
    /// Neither JSON nor a stream of it: it passes unread.
    Unread,
}

impl AnswerReader {
    pub fn of(content_type: Option<&str>, is_encoded: bool) -> AnswerReader {
        let kind = content_type
            .unwrap_or_default()
            .split(';')
            .next()
            .unwrap_or_default()
            .trim();
        if is_encoded {
            AnswerReader::Unread
        } else if kind.eq_ignore_ascii_case("text/event-stream") {
            AnswerReader::Events {
                framer: Box::new(Framer::new(Framing::Sse, MESSAGE_BYTES_MAX)),
                long: None,
            }
        } else if kind.eq_ignore_ascii_case("application/json") {
            AnswerReader::Whole {
                held: Vec::new(),
                long: None,
                bytes: 0,
            }
        } else {
            AnswerReader::Unread
        }
    }

    /// Of messages that stand each on a line, and are held up to this length.
    pub fn of_lines(bytes_max: usize) -> AnswerReader {
        AnswerReader::Events {
            framer: Box::new(Framer::new(Framing::Ndjson, bytes_max)),
            long: None,
        }
    }

    pub fn is_stream(&self) -> bool {
        matches!(self, AnswerReader::Events { .. })
    }

    /// Hands the pieces that `chunk` completes to `sink`, in order.
    pub fn push(&mut self, chunk: &[u8], sink: &mut dyn FnMut(Piece<'_>)) {
        match self {
            AnswerReader::Events { framer, long } => framer.push(chunk, &mut |frame| on_frame(long, &frame, sink)),
            AnswerReader::Whole { held, long, bytes } => {
                *bytes += chunk.len();
                match long {
                    Some(long) => long.push(chunk),
                    None if held.len() + chunk.len() > MESSAGE_BYTES_MAX => {
                        let mut passing = LongMessage::new();
                        passing.push(&std::mem::take(held));
                        passing.push(chunk);
                        *long = Some(passing);
                    }
                    None => held.extend_from_slice(chunk),
                }
            }
            AnswerReader::Unread => {}
        }
    }

    /// The answer is over: the last piece of it.
    pub fn finish(&mut self, sink: &mut dyn FnMut(Piece<'_>)) {
        match self {
            AnswerReader::Events { framer, long } => framer.finish(&mut |frame| on_frame(long, &frame, sink)),
            AnswerReader::Whole { held, long, bytes } => {
                let (held, raw_len) = (std::mem::take(held), std::mem::take(bytes));
                match long.take() {
                    Some(long) => sink(long.over(raw_len)),
                    None if held.is_empty() => {}
                    None => sink(Piece {
                        raw_len,
                        event: None,
                        answers: answers_of(&held),
                        data: Some(&held),
                        is_part: false,
                    }),
                }
            }
            AnswerReader::Unread => {}
        }
    }
}

fn on_frame(long: &mut Option<LongMessage>, frame: &Frame<'_>, sink: &mut dyn FnMut(Piece<'_>)) {
    let passes = |raw_len| Piece {
        raw_len,
        event: None,
        data: None,
        answers: Vec::new(),
        is_part: frame.kind == FrameKind::Part,
    };
    match frame.kind {
        FrameKind::Data => sink(Piece {
            raw_len: frame.raw_len,
            event: frame.event,
            answers: answers_of(frame.data),
            data: Some(frame.data),
            is_part: false,
        }),
        FrameKind::Part => {
            long.get_or_insert_with(LongMessage::new).push(frame.data);
            sink(passes(frame.raw_len));
        }
        FrameKind::LastPart => {
            let mut whole = long.take().unwrap_or_else(LongMessage::new);
            whole.push(frame.data);
            sink(whole.over(frame.raw_len));
        }
        FrameKind::Filler | FrameKind::Unread => sink(passes(frame.raw_len)),
    }
}

/// A message that is too long to be held.
pub struct LongMessage {
    arriving: Option<Arriving>,
    bytes: u64,
}

static ESSENTIALS: LazyLock<Option<Shape>> = LazyLock::new(|| {
    let want = |(path, max_bytes): (&str, u32)| Want {
        path: path.to_owned(),
        max_bytes,
        max_items: 0,
    };
    let wants = [
        ("id", 512),
        ("error.code", 32),
        ("result.isError", 8),
        ("result.resultType", 64),
        ("result.requestState", 64 << 10),
        ("result.taskId", 512),
        ("result.status", 64),
        ("result.task.taskId", 512),
    ];
    Shape::compile_named(&wants.map(want), &[], &[]).ok()
});

impl LongMessage {
    fn new() -> LongMessage {
        LongMessage {
            arriving: ESSENTIALS.as_ref().map(|shape| Arriving::new(shape, DEPTH_MAX)),
            bytes: 0,
        }
    }

    fn push(&mut self, data: &[u8]) {
        self.bytes += data.len() as u64;
        if let (Some(arriving), Some(shape)) = (&mut self.arriving, &*ESSENTIALS) {
            arriving.push(shape, data);
        }
    }

    fn over(self, raw_len: usize) -> Piece<'static> {
        let outline = self.arriving.zip(ESSENTIALS.as_ref());
        let outline = outline.and_then(|(arriving, shape)| arriving.finish(shape));
        let outline = outline.filter(|outline| !outline.flaws.any()).unwrap_or_default();
        let unheld = |answer: Answer<'_>| Answer {
            id: answer.id,
            says: answer.says,
            result: None,
            bytes: self.bytes,
        };
        let answers = answers_of(outline.doc.as_bytes()).into_iter().map(unheld).collect();
        Piece {
            raw_len,
            event: None,
            data: None,
            answers,
            is_part: true,
        }
    }
}

#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResultSaid<'a> {
    #[serde(borrow, default)]
    is_error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result_type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    request_state: Option<&'a RawValue>,
    #[serde(borrow, default)]
    task: Option<&'a RawValue>,
    #[serde(borrow, default)]
    task_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    status: Option<&'a RawValue>,
    /// Of a task that is over.
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
}

/// The answers in one message, or a batch of them. What cannot be read answers nobody.
fn answers_of(data: &[u8]) -> Vec<Answer<'_>> {
    if data.trim_ascii_start().starts_with(b"[") {
        let items: Vec<&RawValue> = serde_json::from_slice(data).unwrap_or_default();
        let items = items.into_iter().take(BATCH_MAX);
        return items.filter_map(|item| answer_of(item.get().as_bytes())).collect();
    }
    answer_of(data).into_iter().collect()
}

fn answer_of(data: &[u8]) -> Option<Answer<'_>> {
    let said: Said<'_> = serde_json::from_slice(data).ok()?;
    let id = id_key(said.id?);
    let says = match (said.result, said.error) {
        (_, Some(error)) if error.get() != "null" => Says::Error,
        (Some(result), _) => says_of(result),
        _ => return None,
    };
    Some(Answer {
        id,
        says,
        result: said.result.map(RawValue::get),
        bytes: data.len() as u64,
    })
}

/// The result that stands beside a task in the answer to a question about it.
pub fn result_of_task(answer: &str) -> Option<&str> {
    let said: ResultSaid<'_> = serde_json::from_str(answer).ok()?;
    said.result.map(RawValue::get)
}

fn says_of(result: &RawValue) -> Says {
    let said: ResultSaid<'_> = serde_json::from_str(result.get()).unwrap_or_default();
    let text = |value: Option<&RawValue>| -> String {
        let text = value.and_then(|value| serde_json::from_str::<Cow<'_, str>>(value.get()).ok());
        text.map(Cow::into_owned).unwrap_or_default()
    };
    let of_task = || -> ResultSaid<'_> {
        let task = said.task.and_then(|task| serde_json::from_str(task.get()).ok());
        task.unwrap_or_default()
    };
    if said.is_error.is_some_and(|is_error| is_error.get() == "true") {
        return Says::ToolError;
    }
    match text(said.result_type).as_str() {
        "input_required" => {
            return Says::InputRequired {
                state: said.request_state.map(RawValue::get).unwrap_or_default().to_owned(),
            };
        }
        "task" if said.task_id.is_none() => {}
        _ if said.task_id.is_some() && said.status.is_some() => {
            let status = match said.result.map(says_of) {
                Some(Says::ToolError) => "failed".to_owned(),
                Some(_) => DELIVERED.to_owned(),
                None => text(said.status),
            };
            return Says::Task {
                id: text(said.task_id),
                status,
            };
        }
        _ => {}
    }
    let task = of_task();
    match task.task_id {
        Some(id) => Says::Task {
            id: text(Some(id)),
            status: text(task.status),
        },
        None => Says::Result,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn says(message: &str) -> Vec<(String, Says)> {
        let answers = answers_of(message.as_bytes());
        answers.into_iter().map(|answer| (answer.id, answer.says)).collect()
    }

    #[test]
    fn the_result_beside_a_task_is_the_calls_own() {
        let answer = r#"{"taskId":"t1","status":"completed","result":{"content":[]}}"#;
        assert_eq!(result_of_task(answer), Some(r#"{"content":[]}"#));
        assert_eq!(result_of_task(r#"{"taskId":"t1","status":"working"}"#), None);
    }

    fn one(message: &str) -> Says {
        says(message).remove(0).1
    }

    #[test]
    fn an_answer_is_told_from_what_is_none() {
        assert_eq!(one(r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#), Says::Result);
        assert_eq!(one(r#"{"id":1,"result":{"isError":true}}"#), Says::ToolError);
        assert_eq!(one(r#"{"id":1,"result":{"isError":"true"}}"#), Says::Result);
        assert_eq!(one(r#"{"id":1,"error":{"code":1}}"#), Says::Error);
        let wants = one(r#"{"id":1,"result":{"resultType":"input_required","requestState":"s"}}"#);
        assert_eq!(
            wants,
            Says::InputRequired {
                state: "\"s\"".to_owned()
            }
        );
        let task = |status: &str| Says::Task {
            id: "t1".to_owned(),
            status: status.to_owned(),
        };
        assert_eq!(
            one(r#"{"id":1,"result":{"task":{"taskId":"t1","status":"working"}}}"#),
            task("working")
        );
        assert_eq!(
            one(r#"{"id":1,"result":{"resultType":"task","taskId":"t1","status":"working"}}"#),
            task("working")
        );
        assert_eq!(
            one(r#"{"id":1,"result":{"taskId":"t1","status":"completed","result":{"isError":true}}}"#),
            task("failed")
        );
        for none in [
            r#"{"method":"notifications/progress","params":{}}"#,
            r#"{"id":1,"method":"sampling/createMessage"}"#,
            r#"{"id":1}"#,
            "[1]",
            "{\"id\":1,\"result\":",
            "\u{0}",
        ] {
            assert_eq!(says(none), [], "{none}");
        }
        let both = says(r#"[{"id":1,"result":{}},{"id":"a","error":{}},{"method":"x"}]"#);
        assert_eq!(both, [("n1".to_owned(), Says::Result), ("sa".to_owned(), Says::Error)]);
    }

    fn read(content_type: &str, chunks: &[&[u8]]) -> (Vec<(String, Says, u64, bool)>, usize) {
        let mut reader = AnswerReader::of(Some(content_type), false);
        let (mut found, mut bytes) = (Vec::new(), 0);
        let mut sink = |piece: Piece<'_>| {
            bytes += piece.raw_len;
            for answer in piece.answers {
                found.push((answer.id, answer.says, answer.bytes, answer.result.is_some()));
            }
        };
        for chunk in chunks {
            reader.push(chunk, &mut sink);
        }
        reader.finish(&mut sink);
        (found, bytes)
    }

    #[test]
    fn streams_are_read_at_any_split_and_all_bytes_belong_to_a_piece() {
        let stream =
            b": hi\n\nevent: message\ndata: {\"method\":\"n\"}\n\nid: 7\ndata: {\"id\":1,\ndata: \"result\":{}}\n\n";
        for at in 0..stream.len() {
            let (found, bytes) = read("text/event-stream", &[&stream[..at], &stream[at..]]);
            assert_eq!((found.len(), bytes), (1, stream.len()), "{at}");
            assert_eq!(found[0].1, Says::Result);
        }
    }

    #[test]
    fn lines_are_read_each_by_itself() {
        let text = b"{\"id\":1,\"result\":{}}\nnonsense\n{\"method\":\"m\"}\r\n{\"id\":\"a\",\"error\":{}}";
        for at in 0..text.len() {
            let mut reader = AnswerReader::of_lines(MESSAGE_BYTES_MAX);
            let mut found = Vec::new();
            let mut sink = |piece: Piece<'_>| found.extend(piece.answers.into_iter().map(|answer| answer.id));
            reader.push(&text[..at], &mut sink);
            reader.push(&text[at..], &mut sink);
            reader.finish(&mut sink);
            assert_eq!(found, ["n1", "sa"], "{at}");
        }
    }

    #[test]
    fn a_message_that_is_too_long_is_read_as_it_passes() {
        let long = "x".repeat(3 * MESSAGE_BYTES_MAX);
        let message =
            format!("{{\"result\":{{\"content\":[{{\"text\":\"{long}\"}}],\"isError\":true}},\"id\":\"late\"}}");
        let event = format!("data: {message}\n\n");
        for (kind, body, length) in [
            ("application/json", &message, message.len()),
            ("text/event-stream; charset=utf-8", &event, message.len()),
        ] {
            let chunks: Vec<&[u8]> = body.as_bytes().chunks(70_001).collect();
            let (found, bytes) = read(kind, &chunks);
            let expected = ("slate".to_owned(), Says::ToolError, length as u64, false);
            assert_eq!((found, bytes), (vec![expected], body.len()), "{kind}");
        }
        assert_eq!(read("text/html", &[b"{\"id\":1,\"result\":{}}"]).0, []);
    }
}
