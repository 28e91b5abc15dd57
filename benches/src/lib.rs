//! What the benches share: an ordinary exchange, plain HTTP/1.1, chats at a steady rate, and the figures that the system keeps of a process.

pub mod dialects;
pub mod http;
pub mod paced;
pub mod process;
pub mod sample;
pub mod started;
