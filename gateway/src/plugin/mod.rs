//! Provider plugins: WebAssembly components that read a provider's dialect. The only module that names wasmtime.

pub mod dialect;

pub use dialect::{
    AnswerFrame, Billing, Call, CountedKind, Dialect, DialectError, EditPoint, Ending, Info, Media, Medium, Problem,
    Reading, ReadingPart, Refusal, Request, Route, Want,
};
