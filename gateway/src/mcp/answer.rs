//! What a server's answer says, read beside its bytes while they pass: which requests it answers, and how. Read leniently: what is
//! wrong in an answer is between server and client, and passes.
//!
//! A message is held up to [`MESSAGE_BYTES_MAX`]; a longer one is read as it passes, in bounded memory.

use std::collections::BTreeMap;
use std::sync::LazyLock;

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

impl<'a> Answer<'a> {
    /// With the call's own result, where that stands beside the task that it became.
    pub fn of_call(&self) -> Answer<'a> {
        let is_task = matches!(self.says, Says::Task { begins: true, .. });
        let own = self.result.filter(|_| is_task).and_then(result_of_task);
        Answer {
            id: self.id.clone(),
            says: self.says.clone(),
            result: own.or(self.result),
            bytes: self.bytes,
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
    /// The state of a task; [`DELIVERED`] where its result came with it. `begins`: the answer says that its call goes on as a task.
    Task {
        id: String,
        status: String,
        begins: bool,
    },
}

/// What an answer to a call means for it.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn<'s> {
    Ended(Says),
    /// Its next round comes with this state.
    WantsInput(&'s str),
    /// It is a task of this name.
    GoesOn(&'s str),
}

impl Says {
    /// As the answer to a call.
    pub fn turn(&self) -> Turn<'_> {
        match self {
            Says::InputRequired { state } => Turn::WantsInput(state),
            // What looks like the state of a task is the result of a tool that tells of one.
            Says::Task { begins: false, .. } => Turn::Ended(Says::Result),
            Says::Task { id, .. } => is_over(self, false).map_or(Turn::GoesOn(id), Turn::Ended),
            says => Turn::Ended(says.clone()),
        }
    }
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
                        answers: answers_of(&String::from_utf8_lossy(&held)),
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
            answers: answers_of(&String::from_utf8_lossy(frame.data)),
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
        let answers = answers_of(&outline.doc).into_iter().map(unheld).collect();
        Piece {
            raw_len,
            event: None,
            data: None,
            answers,
            is_part: true,
        }
    }
}

/// The members of an object; of several with one name the last, as most readers have it.
type Members<'a> = BTreeMap<String, &'a RawValue>;

/// The answers in one message, or a batch of them. What cannot be read answers nobody.
fn answers_of(data: &str) -> Vec<Answer<'_>> {
    if data.trim_ascii_start().starts_with('[') {
        let items: Vec<&RawValue> = serde_json::from_str(data).unwrap_or_default();
        let items = items.into_iter().take(BATCH_MAX);
        return items.filter_map(|item| answer_of(item.get())).collect();
    }
    answer_of(data).into_iter().collect()
}

fn answer_of(data: &str) -> Option<Answer<'_>> {
    let said: Members<'_> = serde_json::from_str(data).ok()?;
    let member = |name: &str| said.get(name).copied().filter(|value| value.get() != "null");
    let id = id_key(member("id")?);
    // Some readers take the result of an answer that has an error, too: then it was delivered.
    let says = match (member("result"), said.get("result"), member("error")) {
        (Some(result), ..) => says_of(result),
        (None, _, Some(_)) => Says::Error,
        (None, Some(_), None) => Says::Result,
        (None, None, None) => return None,
    };
    Some(Answer {
        id,
        says,
        result: said.get("result").map(|result| result.get()),
        bytes: data.len() as u64,
    })
}

/// The result that stands beside a task in the answer to a question about it, or in that to its call.
pub fn result_of_task(answer: &str) -> Option<&str> {
    let said: Members<'_> = serde_json::from_str(answer).ok()?;
    said.get("result").map(|result| result.get())
}

/// How a task ended, by an answer to a question about it; `None`: it goes on, or its result is still to be asked for.
pub fn is_over(says: &Says, wants_result: bool) -> Option<Says> {
    match says {
        Says::Result | Says::ToolError | Says::Error if wants_result => Some(says.clone()),
        Says::Task { status, .. } => match status.as_str() {
            "failed" | "cancelled" => Some(Says::ToolError),
            DELIVERED => Some(Says::Result),
            _ => None,
        },
        _ => None,
    }
}

fn says_of(result: &RawValue) -> Says {
    let said: Members<'_> = serde_json::from_str(result.get()).unwrap_or_default();
    let text =
        |members: &Members<'_>, name: &str| -> Option<String> { serde_json::from_str(members.get(name)?.get()).ok() };
    if said.get("isError").is_some_and(|is_error| is_error.get() == "true") {
        return Says::ToolError;
    }
    let kind = text(&said, "resultType");
    if kind.as_deref() == Some("input_required") {
        let state = said.get("requestState").map(|state| state.get());
        return Says::InputRequired {
            state: state.unwrap_or_default().to_owned(),
        };
    }
    let begun: Option<Members<'_>> = said.get("task").and_then(|task| serde_json::from_str(task.get()).ok());
    let (task, begins) = match &begun {
        Some(task) if task.contains_key("taskId") => (task, true),
        _ => (&said, kind.as_deref() == Some("task")),
    };
    let (Some(id), Some(status)) = (text(task, "taskId"), text(task, "status")) else {
        return Says::Result;
    };
    let status = match said.get("result").map(|result| says_of(result)) {
        Some(Says::ToolError) => "failed".to_owned(),
        Some(_) => DELIVERED.to_owned(),
        None => status,
    };
    Says::Task { id, status, begins }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn says(message: &str) -> Vec<(String, Says)> {
        let answers = answers_of(message);
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
            begins: true,
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
            Says::Task {
                id: "t1".to_owned(),
                status: "failed".to_owned(),
                begins: false
            }
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

    #[test]
    fn an_answer_is_read_as_its_clients_read_it() {
        assert_eq!(
            one(r#"{"id":1,"error":{"code":1},"result":{"content":[]}}"#),
            Says::Result
        );
        assert_eq!(one(r#"{"id":1,"error":{"code":1},"result":null}"#), Says::Error);
        assert_eq!(one(r#"{"id":1,"result":null}"#), Says::Result);
        assert_eq!(
            says(r#"{"id":1,"id":2,"result":{}}"#),
            [("n2".to_owned(), Says::Result)]
        );
        assert_eq!(
            one(r#"{"id":1,"result":{"isError":true,"isError":false}}"#),
            Says::Result
        );
        let mut reader = AnswerReader::of_lines(MESSAGE_BYTES_MAX);
        let mut found = Vec::new();
        reader.push(
            b"{\"id\":1,\"result\":{\"isError\":true,\"text\":\"\xff\"}}\n",
            &mut |piece| {
                found.extend(piece.answers.into_iter().map(|answer| answer.says));
            },
        );
        assert_eq!(found, [Says::ToolError]);
    }

    #[test]
    fn a_call_goes_on_as_a_task_only_where_its_answer_says_so() {
        let turn = |result: &str| match one(&format!(r#"{{"id":1,"result":{result}}}"#)).turn() {
            Turn::Ended(says) => format!("{says:?}"),
            Turn::WantsInput(state) => format!("input {state}"),
            Turn::GoesOn(task) => format!("task {task}"),
        };
        for (result, expected) in [
            (r#"{"taskId":"t","status":"working","content":[]}"#, "Result"),
            (r#"{"task":{"taskId":"t","status":"working"}}"#, "task t"),
            (r#"{"resultType":"task","taskId":"t","status":"working"}"#, "task t"),
            (
                r#"{"resultType":"task","taskId":"t","status":"cancelled"}"#,
                "ToolError",
            ),
            (
                r#"{"resultType":"task","taskId":"t","status":"completed","result":{}}"#,
                "Result",
            ),
            (
                r#"{"resultType":"task","taskId":"t","status":"completed","result":{"isError":true}}"#,
                "ToolError",
            ),
            (r#"{"resultType":"task"}"#, "Result"),
            (r#"{"resultType":"input_required"}"#, "input "),
        ] {
            assert_eq!(turn(result), expected, "{result}");
        }
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
