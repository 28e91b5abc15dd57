//! MCP servers that a client starts itself, wrapped: bytes pass unchanged between the two, and each call of a tool is held by the
//! running gateway before the server has it.
//!
//! ```text
//! client → client ∥ scan → gate: held → pipe → server
//! client ← pipe ← server ∥ calls: ended → gate: entered
//!            ↑──── lists ←────────────────┘
//! ```
//!
//! | file | does |
//! |---|---|
//! | `process` | the server's process: pipes, signals, exit code |
//! | `client`, `lines`, `scan`, `long` | what the client says, cut into lines; which of them are read at all |
//! | `gate` | calls wait until they are held; what ends them is entered |
//! | `books`, `spool` | who holds and enters them: the gateway by JSON-RPC, or a file until it runs |
//! | `server`, `calls` | what the server says; which call an answer ends |
//! | `lists` | lists of tools, as the gateway lets the client see them |
//! | `pipe` | whole lines between lines that are passed on |
//!
//! It never opens the store, and writes nothing of its own to the client but answers to what it refuses.

mod books;
mod calls;
mod client;
mod gate;
mod lines;
mod lists;
mod long;
mod pipe;
mod process;
mod scan;
mod server;
pub mod spool;

#[cfg(test)]
mod tests;

pub use books::{Away, Books, Rpc};
pub use gate::Settings;
pub use process::{ClientEnds, LineLimits, run, widen};
