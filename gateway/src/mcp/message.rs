//! What a client's POST says: one message of JSON-RPC, or a batch of them (2025-03-26).
//!
//! The gateway decides by what it reads here, and the server by what it reads itself: so what two readers could read in two
//! ways is refused. A member comes once, also under another spelling of its letters, which some languages' readers take for the
//! same.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The method that lists a server's tools.
pub const TOOLS_LIST: &str = "tools/list";
/// Messages of one batch.
pub const BATCH_MAX: usize = 64;
/// Members of an object that is looked into.
const MEMBERS_MAX: usize = 256;
/// Longest name of a tool (the specification advises 128 characters).
const TOOL_NAME_BYTES_MAX: usize = 256;
/// The members that decide what a message is, and those of `params` that decide what is done.
const DECIDING: [&str; 13] = [
    "id",
    "method",
    "params",
    "result",
    "error",
    "name",
    "uri",
    "arguments",
    "_meta",
    "inputresponses",
    "requeststate",
    "taskid",
    "requestid",
];

/// Why a body is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageFault {
    #[error("the body is not JSON: {0}")]
    Json(String),
    #[error("{0}")]
    Message(&'static str),
}

/// What a POST says.
#[derive(Debug)]
pub struct Messages<'a> {
    pub all: Vec<Message<'a>>,
    /// They came as an array.
    pub is_batch: bool,
}

/// One message: a request, a notification, or an answer to a request of the server's.
#[derive(Debug)]
pub struct Message<'a> {
    /// `None` for a notification.
    pub id: Option<&'a RawValue>,
    /// `None` for an answer.
    pub method: Option<Cow<'a, str>>,
    pub params: Params<'a>,
}

/// The members of `params` that matter here.
#[derive(Debug, Default)]
pub struct Params<'a> {
    pub name: Option<Cow<'a, str>>,
    pub uri: Option<Cow<'a, str>>,
    pub arguments: Option<&'a RawValue>,
    /// `_meta["io.modelcontextprotocol/protocolVersion"]`: the message is of 2026-07-28 or later.
    pub version: Option<Cow<'a, str>>,
    /// The message goes on with a call that asked for input.
    pub continues: bool,
    pub request_state: Option<&'a RawValue>,
    pub task_id: Option<Cow<'a, str>>,
    /// Of the request that a notification cancels.
    pub request_id: Option<&'a RawValue>,
}

const VERSION: &str = "io.modelcontextprotocol/protocolVersion";

impl<'a> Messages<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// It is no message that the server could read in one way alone.
    pub fn read(body: &'a [u8]) -> Result<Messages<'a>, MessageFault> {
        let json = |error: serde_json::Error| MessageFault::Json(place_of(&error));
        let is_batch = body.trim_ascii_start().starts_with(b"[");
        if !is_batch {
            let members: Members<'a> = serde_json::from_slice(body).map_err(json)?;
            return Ok(Messages {
                all: vec![Message::of(members)?],
                is_batch,
            });
        }
        let items: Vec<&'a RawValue> = serde_json::from_slice(body).map_err(json)?;
        if items.is_empty() || items.len() > BATCH_MAX {
            return Err(MessageFault::Message("a batch has from 1 to 64 messages"));
        }
        let read = |item: &'a RawValue| Message::of(Members::read(item)?);
        let all: Vec<Message<'a>> = items.into_iter().map(read).collect::<Result<_, _>>()?;
        let ids: Vec<String> = all.iter().filter_map(|message| message.id.map(id_key)).collect();
        let is_twice = |(at, id): (usize, &String)| ids.iter().take(at).any(|other| other == id);
        if ids.iter().enumerate().any(is_twice) {
            return Err(MessageFault::Message("two messages of a batch have one id"));
        }
        Ok(Messages { all, is_batch })
    }

    /// The tool calls.
    pub fn calls(&self) -> impl Iterator<Item = &Message<'a>> {
        self.all.iter().filter(|message| message.is_call())
    }

    /// The ids of its requests for lists of tools.
    pub fn lists(&self) -> impl Iterator<Item = &'a RawValue> {
        let is_list = |message: &&Message<'_>| message.method.as_deref() == Some(TOOLS_LIST);
        self.all.iter().filter(is_list).filter_map(|message| message.id)
    }

    /// The requests that it cancels.
    pub fn cancelled(&self) -> impl Iterator<Item = &'a RawValue> {
        let notes = self.all.iter();
        let notes = notes.filter(|message| message.method.as_deref() == Some("notifications/cancelled"));
        notes.filter_map(|message| message.params.request_id)
    }

    /// The only request of the body.
    pub fn single(&self) -> Option<&Message<'a>> {
        self.all.first().filter(|_| !self.is_batch)
    }
}

impl<'a> Message<'a> {
    pub fn is_call(&self) -> bool {
        self.method.as_deref() == Some("tools/call")
    }

    fn of(members: Members<'a>) -> Result<Message<'a>, MessageFault> {
        let text = |value: &'a RawValue| -> Result<Cow<'a, str>, MessageFault> {
            text_of(value).ok_or(MessageFault::Message("method is no text"))
        };
        let id = members.get("id").filter(|id| id.get() != "null");
        if id.is_some_and(|id| !id.get().starts_with(['"', '-']) && !id.get().starts_with(|c: char| c.is_ascii_digit()))
        {
            return Err(MessageFault::Message("an id is a text or a number"));
        }
        let method = members.get("method").map(text).transpose()?;
        let params = match members.get("params") {
            Some(params) if method.is_some() && params.get().starts_with('{') => Params::of(params)?,
            _ => Params::default(),
        };
        let is_answer = members.get("result").is_some() || members.get("error").is_some();
        if method.is_none() && !is_answer {
            return Err(MessageFault::Message("a message has a method, a result or an error"));
        }
        if method.is_some() && is_answer {
            return Err(MessageFault::Message("a message is a request or an answer, not both"));
        }
        let message = Message { id, method, params };
        if message.is_call() {
            message.check_call()?;
        }
        Ok(message)
    }

    /// A call that could not be told from another one, or answered, is none.
    fn check_call(&self) -> Result<(), MessageFault> {
        if self.id.is_none() {
            return Err(MessageFault::Message(
                "tools/call has no id, so that nobody could be answered",
            ));
        }
        let Some(name) = self.params.name.as_deref().filter(|name| !name.is_empty()) else {
            return Err(MessageFault::Message("tools/call names no tool"));
        };
        if !is_tool_name(name) {
            return Err(MessageFault::Message(
                "a tool's name has at most 256 bytes and no control characters",
            ));
        }
        Ok(())
    }
}

/// Whether a tool can be called so.
pub fn is_tool_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= TOOL_NAME_BYTES_MAX && !name.chars().any(char::is_control)
}

impl<'a> Params<'a> {
    fn of(params: &'a RawValue) -> Result<Params<'a>, MessageFault> {
        let members = Members::read(params)?;
        let text = |name: &str| members.get(name).and_then(text_of);
        let meta = members.get("_meta").filter(|meta| meta.get().starts_with('{'));
        let version = match meta {
            Some(meta) => Members::read(meta)?.get(VERSION).and_then(text_of),
            None => None,
        };
        Ok(Params {
            name: text("name"),
            uri: text("uri"),
            arguments: members.get("arguments"),
            version,
            continues: members.get("inputResponses").is_some() || members.get("requestState").is_some(),
            request_state: members.get("requestState"),
            task_id: text("taskId"),
            request_id: members.get("requestId"),
        })
    }
}

/// A text; `None` for anything else.
fn text_of(value: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<BorrowedText<'_>>(value.get())
        .ok()
        .map(|text| text.0)
}

#[derive(serde::Deserialize)]
struct BorrowedText<'a>(#[serde(borrow)] Cow<'a, str>);

/// By which answers find their request: `1` and `1.0` are one number to most readers, `1` and `"1"` are two ids.
pub fn id_key(id: &RawValue) -> String {
    let text = id.get();
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(serde_json::Value::String(text)) => format!("s{text}"),
        Ok(serde_json::Value::Number(number)) => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() < 9e15 => format!("n{float:.0}"),
            _ => format!("n{number}"),
        },
        _ => format!("?{text}"),
    }
}

/// An id that has this key.
pub fn id_of_key(key: &str) -> Option<Box<RawValue>> {
    let (kind, text) = key.split_at_checked(1)?;
    match kind {
        "s" => serde_json::value::to_raw_value(text).ok(),
        _ => RawValue::from_string(text.to_owned()).ok(),
    }
}

/// The id of the other kind that is written alike: some servers answer a number by a text, or the other way, and their clients take it.
pub fn written_alike(key: &str) -> Option<String> {
    let number = |text: &str| text.parse::<i64>().is_ok_and(|number| number.to_string() == text);
    match key.split_at_checked(1)? {
        ("n", text) => Some(format!("s{text}")),
        ("s", text) if number(text) => Some(format!("n{text}")),
        _ => None,
    }
}

/// Where a body stops being JSON, without a word of it.
fn place_of(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Data => "a member is there twice, in some spelling, or an object is needed",
        _ => "it cannot be read",
    };
    format!("{what} at line {} column {}", error.line(), error.column())
}

/// The members of one object, each once.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    fn read(object: &'a RawValue) -> Result<Members<'a>, MessageFault> {
        serde_json::from_str(object.get()).map_err(|error| MessageFault::Json(place_of(&error)))
    }

    fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members<'a>, D::Error> {
        deserializer.deserialize_map(MembersVisitor(std::marker::PhantomData))
    }
}

struct MembersVisitor<'a>(std::marker::PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for MembersVisitor<'a> {
    type Value = Members<'a>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'a>, A::Error> {
        let mut members: Vec<(Cow<'a, str>, &'a RawValue)> = Vec::with_capacity(4);
        while let Some((BorrowedText(name), value)) = map.next_entry::<BorrowedText<'de>, &'de RawValue>()? {
            let is_like = |other: &str| other.eq_ignore_ascii_case(&name);
            // One that decides must be spelled as it is; of others the same twice is enough.
            let decides = DECIDING.iter().any(|deciding| is_like(deciding));
            let is_twice = members.iter().any(|(known, _)| match decides {
                true => is_like(known),
                false => *known == name,
            });
            if is_twice || members.len() >= MEMBERS_MAX {
                return Err(de::Error::custom("a member is there twice"));
            }
            members.push((name, value));
        }
        Ok(Members(members))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_call_is_read_with_what_decides_on_it() {
        let body = r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"se\u0061rch","arguments":{"q":1},
            "_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"},"requestState":"s","inputResponses":{}}}"#;
        let messages = Messages::read(body.as_bytes()).unwrap();
        let call = messages.calls().next().unwrap();
        assert_eq!(call.params.name.as_deref(), Some("search"));
        assert_eq!(call.params.arguments.map(RawValue::get), Some("{\"q\":1}"));
        assert_eq!(call.params.version.as_deref(), Some("2026-07-28"));
        assert!(call.params.continues && !messages.is_batch);
    }

    #[test]
    fn what_two_readers_could_read_in_two_ways_is_refused() {
        for body in [
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}"#,
            r#"{"id":1,"method":"tools/call","params":{"name":"a","Name":"b"}}"#,
            r#"{"id":1,"method":"tools/call","params":{"name":"a","n\u0061me":"b"}}"#,
            r#"{"id":1,"method":"tools/call","params":{"name":"a"},"PARAMS":{"name":"b"}}"#,
            r#"{"id":1,"method":"tools/call","params":{"name":"a","arguments":{},"arguments":{}}}"#,
            r#"{"id":1,"method":"tools/call"} {"#,
            r#"{"id":1,"method":"#,
            "[1]",
        ] {
            assert!(
                matches!(Messages::read(body.as_bytes()), Err(MessageFault::Json(_))),
                "{body}"
            );
        }
        assert!(Messages::read(b"{\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"\xff\"}}").is_err());
        // What its method is to mean is the server's to say.
        assert!(
            Messages::read(br#"{"id":1,"method":"Tools/call"}"#)
                .unwrap()
                .calls()
                .next()
                .is_none()
        );
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for body in [
            "[]",
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#"{"id":{},"method":"ping"}"#,
            r#"{"id":1,"method":"ping","result":{}}"#,
            r#"{"method":"tools/call","params":{"name":"a"}}"#,
            r#"{"id":null,"method":"tools/call","params":{"name":"a"}}"#,
            r#"{"id":1,"method":"tools/call","params":{}}"#,
            r#"{"id":1,"method":"tools/call","params":{"name":"a\u0000b"}}"#,
            r#"[{"id":1,"method":"ping"},{"id":1.0,"method":"ping"}]"#,
        ] {
            assert!(
                matches!(Messages::read(body.as_bytes()), Err(MessageFault::Message(_))),
                "{body}"
            );
        }
    }

    #[test]
    fn numbers_and_texts_are_different_ids() {
        let key = |text: &str| id_key(&RawValue::from_string(text.to_owned()).unwrap());
        assert_eq!(key("1"), key("1.0"));
        assert_eq!(key("\"a\""), key("\"\\u0061\""));
        assert_ne!(key("1"), key("\"1\""));
        assert_ne!(key("9007199254740993"), key("9007199254740992"));
        for id in ["7", "\"a\"", "\"7\"", "1.5"] {
            assert_eq!(id_of_key(&key(id)).unwrap().get(), id);
        }
        assert_eq!(written_alike(&key("7")), Some(key("\"7\"")));
        assert_eq!(written_alike(&key("\"-7\"")), Some(key("-7")));
        for none in ["\"07\"", "\"a\"", "\"\"", "{}"] {
            assert_eq!(written_alike(&key(none)), None, "{none}");
        }
    }
}
