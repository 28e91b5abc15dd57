//! What the benches share: an ordinary exchange, chats at a steady rate, and what the load bench has.

pub mod dialects;
pub mod paced;
pub mod sample;
pub mod started;

pub use agentledger_load::{http, process};
