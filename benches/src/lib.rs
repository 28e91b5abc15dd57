//! What the benches share: an ordinary exchange, plain HTTP/1.1, and the figures that the system keeps of a process.

pub mod dialects;
pub mod http;
pub mod process;
pub mod sample;
pub mod started;
