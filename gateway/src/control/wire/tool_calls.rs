//! Tool calls of MCP servers that clients start themselves, held and entered for a wrapper (`agentledger mcp-wrap`) beside the server.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Calls that are begun at one time; further ones are refused. Each takes a connection until it is held, and those by which calls
/// end, and the command line, must always get in.
pub const BEGUN_MAX: usize = 192;

/// `mcp.begin`.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BeginParams {
    /// A ULID that names the call, and its entry. Begun twice, it is one call.
    pub id: String,
    /// As policies, prices and entries know the server.
    pub server: String,
    pub tool: String,
    /// Its arguments, as the JSON text that the client wrote; empty where there are none, or they are not sent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub arguments: String,
    /// Length of that text, also where it is not sent.
    pub argument_bytes: u64,
    /// Names arguments that are not sent: the same of two calls are the same words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub argument_hash: String,
    /// The id of the client's request, JSON text: a refusal answers it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub request: String,
    /// How a refusal is said: `result` (with `isError`) or `error` (of JSON-RPC); empty: as `mcp.refusals` has it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub refusals: String,
    pub caller: ToolCaller,
}

/// Whose a tool call is, as headers say it elsewhere. Has no `Debug`: a key is in it.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ToolCaller {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub agent: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub session: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub task: String,
    /// `NAME=VALUE,…`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tags: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tenant: String,
    /// The session that Claude Code is in, by its own name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub claude_code_session: String,
    /// Names the connection between client and server: where no session is known, it stands for one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub connection: String,
}

/// Result of `mcp.begin`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BeginResult {
    /// It is held, and may be passed on.
    pub admitted: bool,
    /// Else the JSON-RPC answer for the client, one line.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub answer: String,
    /// The word of the refusal.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// Its price depends on what is in the result.
    pub wants_result: bool,
    /// Within so many milliseconds it is to be ended, or kept by `mcp.keep`: else it is entered at what it holds.
    pub keep_ms: u64,
}

/// `mcp.list`.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListParams {
    /// As policies know the server.
    pub server: String,
    /// The id of the client's request, JSON text: a refusal answers it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub request: String,
    pub caller: ToolCaller,
    /// Tools of the list; 1,000 at most.
    pub tools: Vec<ListedTool>,
}

/// A tool as a server lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListedTool {
    pub name: String,
    /// Names its definition: of another definition it is another one. 64 characters at most.
    pub definition: String,
}

/// Result of `mcp.list`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ListResult {
    /// The names of those that the caller may not see: a policy denies them, or they are not what they were pinned to be.
    pub hidden: Vec<String>,
    /// The JSON-RPC answer for the client in place of the list, where it may not have it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub answer: String,
}

/// `mcp.keep`: these calls go on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeepParams {
    /// As they were begun; 1,000 at most.
    pub ids: Vec<String>,
}

/// Result of `mcp.keep`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeepResult {
    /// How many of them are open.
    pub kept: u64,
}

/// How a tool call ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallEnding {
    Result,
    /// A result with `isError: true`.
    ToolError,
    /// An error of JSON-RPC.
    Error,
    /// The server never had it: it costs nothing, and has no entry.
    Unsent,
    /// The server ended before it answered.
    ServerGone,
    /// The client wants no answer any more.
    ClientGone,
    /// It was not answered in time.
    #[default]
    NotAnswered,
}

/// `mcp.settle`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EndParams {
    /// As it was begun.
    pub id: String,
    pub ending: CallEnding,
    /// The result's JSON text, where `mcp.begin` wanted it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub result: String,
    /// Length of the result's text.
    pub result_bytes: u64,
    /// The answer was too long for its result to be found: `result_bytes` is the length of all of it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unread: bool,
    /// From the call's passing on to its answer.
    pub milliseconds: u64,
}

/// Result of `mcp.settle`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndResult {
    /// `false`: it is not open, or not any more.
    pub ended: bool,
}
