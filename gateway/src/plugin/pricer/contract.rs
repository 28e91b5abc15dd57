//! The host's side of `sdk/wit/v1/tool-pricer.wit`: the same records as plain Rust, and the trait through which a pricer is
//! called. Tests may put any other implementation behind it.

use agentledger_ledger::Picos;

use crate::plugin::dialect::Want;
use crate::plugin::pool::Failed;

/// Some tools that a pricer prices, and what it sees of their calls; see the WIT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tariff {
    /// Names, or patterns over names; empty is every one.
    pub server: String,
    pub tool: String,
    pub argument_paths: Vec<Want>,
    pub result_paths: Vec<Want>,
    pub argument_counts: Vec<String>,
    pub result_counts: Vec<String>,
    pub prices_tool_errors: bool,
    pub prices_protocol_errors: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PricerInfo {
    pub name: String,
    pub version: String,
    pub tariffs: Vec<Tariff>,
}

/// What a pricer sees of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallOutline {
    /// Index into the info's tariffs.
    pub tariff: u32,
    pub server: String,
    pub tool: String,
    /// JSON with the wanted values.
    pub arguments: String,
    pub argument_bytes: u64,
    pub argument_counts: Vec<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolHold {
    /// The call costs no more.
    AtMost(Picos),
    About(Picos),
    Unknown,
}

/// How a call ended that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolEnding {
    Success,
    /// A result with `isError: true`.
    ToolError,
    /// A JSON-RPC error.
    ProtocolError,
}

/// What a pricer sees of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerOutline {
    pub ending: ToolEnding,
    /// JSON with the wanted values.
    pub result: String,
    pub result_bytes: u64,
    pub result_counts: Vec<u64>,
    pub milliseconds: u64,
}

/// A part of a call's cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CostPart {
    pub name: String,
    pub units: u64,
    pub cost: Picos,
}

/// Prices tool calls. Calls are short, blocking and bounded in time and memory.
pub trait Pricer: Send + Sync {
    fn info(&self) -> &PricerInfo;
    fn quote(&self, call: &CallOutline) -> Result<ToolHold, Failed>;
    fn price(&self, call: &CallOutline, answer: &AnswerOutline) -> Result<Vec<CostPart>, Failed>;
}
