//! Plugins: WebAssembly components that read a provider's dialect, or price tool calls. The only module that names wasmtime.

mod cache;
mod convert;
mod dialect;
mod engine;
mod host;
mod inspected;
pub mod outline;
mod plan;
mod pool;
mod pricer;
mod registry;
mod routes;

pub use dialect::{
    AnswerFrame, Billing, Call, CountedKind, Dialect, DialectError, DialectRefusal, EditPoint, Ending, HEADERS, Info,
    Meaning, Medium, Progress, ProgressPart, Reading, ReadingPart, Request, RequestedCacheWrites, Route, Sender,
    SocketMessage, Step, Want,
};
pub use inspected::Recall;
pub use plan::{PlanError, Plans};
pub use pricer::{Quoted, ResultSeen, ToolArguments, ToolCall, ToolEnding, ToolPricers};
#[cfg(test)]
pub use registry::SENDER_MEMBERS;
pub use registry::{LoadError, Plugin, Plugins};
pub use routes::{WEBSOCKET, encoded_byte, is_arn};

#[cfg(test)]
mod assembler;
#[cfg(test)]
mod corpus_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
