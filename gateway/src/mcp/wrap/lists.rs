//! Lists of tools on their way to the client: each as the gateway lets its caller see it. Where no gateway runs nobody knows who may see
//! what: the list passes where calls do.

use serde_json::Value;
use serde_json::value::RawValue;

use super::books::{Books, Rpc, Shown};
use super::gate::Settings;
use crate::control::wire::{ListParams, ListedTool};
use crate::mcp::definition::hash_of;
use crate::mcp::list::{filtered, replaced};
use crate::mcp::message::is_tool_name;
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::json_rpc;
use crate::proxy::shared::reply::Refusal;

/// Tools that one `mcp.list` names.
const TOOLS_MAX: usize = 1_000;

/// A line of the server's that answers requests for lists of tools.
pub struct ListLine {
    /// `None`: it is too long to be held.
    pub line: Option<Vec<u8>>,
    /// Of the requests, as they were written.
    pub ids: Vec<Box<RawValue>>,
}

/// The line that the client gets for it.
pub async fn shown<R: Rpc>(books: &Books<R>, settings: &Settings, listed: ListLine) -> Vec<u8> {
    let ListLine { line, ids } = listed;
    let Some(line) = line else {
        let message = "the server's list of tools is longer than a line may be";
        return in_place("", &ids, &error(&Refusal::new(RefusalCode::BodyTooLarge, message)));
    };
    let unreadable = || {
        let message = "the server's list of tools could be read in two ways, and is not passed on";
        error(&Refusal::new(RefusalCode::InvalidMessage, message).final_answer())
    };
    let Ok(text) = String::from_utf8(line) else {
        return in_place("", &ids, &unreadable());
    };
    let mut tools = Vec::new();
    let read = filtered(&text, |name, definition| {
        // What has no name by which it could be called is never shown.
        if is_tool_name(name) {
            tools.push(ListedTool {
                name: name.to_owned(),
                definition: hash_of(definition),
            });
        }
        true
    });
    if read.is_err() {
        return in_place(&text, &ids, &unreadable());
    }
    let mut hidden = Vec::new();
    let mut params = ListParams {
        server: settings.server.clone(),
        request: ids.first().map(|id| id.get().to_owned()).unwrap_or_default(),
        caller: settings.caller.clone(),
        tools: Vec::new(),
    };
    for some in tools.chunks(TOOLS_MAX) {
        some.clone_into(&mut params.tools);
        match books.list(&params).await {
            Shown::All => return text.into_bytes(),
            Shown::Without(names) => hidden.extend(names),
            Shown::Refused(answer) => return in_place(&text, &ids, &answer),
            Shown::Unknown(refusal) => return in_place(&text, &ids, &error(&refusal)),
        }
    }
    let is_shown = |name: &str, _: &RawValue| is_tool_name(name) && !hidden.iter().any(|hidden| hidden == name);
    match filtered(&text, is_shown) {
        Ok(Some(changed)) => changed.into_bytes(),
        _ => text.into_bytes(),
    }
}

fn error(refusal: &Refusal) -> Value {
    json_rpc::error(refusal, None)
}

/// The line with an answer in place of each list; lines of answers alone, where it cannot be read.
fn in_place(text: &str, ids: &[Box<RawValue>], answer: &Value) -> Vec<u8> {
    if let Ok(Some(mut line)) = replaced(text, |id| with_id(answer, id)) {
        if !line.ends_with('\n') {
            line.push('\n');
        }
        return line.into_bytes();
    }
    let lines = ids.iter().map(|id| with_id(answer, id) + "\n");
    lines.collect::<String>().into_bytes()
}

fn with_id(answer: &Value, id: &RawValue) -> String {
    let mut answer = answer.clone();
    if let Some(members) = answer.as_object_mut() {
        // It was read, so that it is a value.
        members.insert("id".to_owned(), serde_json::from_str(id.get()).unwrap_or_default());
    }
    answer.to_string()
}
