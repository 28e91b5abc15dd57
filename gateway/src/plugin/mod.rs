//! Provider plugins: WebAssembly components that read a provider's dialect. The only module that names wasmtime.

mod convert;
pub mod dialect;
mod engine;
mod host;
pub mod outline;
mod registry;
mod routes;

pub use dialect::{
    AnswerFrame, Billing, CacheWrites, Call, CountedKind, Dialect, DialectError, EditPoint, Ending, Info, Media,
    Medium, Problem, Progress, ProgressPart, Reading, ReadingPart, Refusal, Request, Route, Want,
};
pub use host::Host;
pub use registry::{LoadError, Plugin, Plugins};
pub use routes::{Matched, RouteError, RouteTable, is_arn};

#[cfg(test)]
mod corpus_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
