//! What the load bench shares with the others: plain HTTP/1.1, and the figures that the system keeps of a process. It knows nothing
//! of the gateway, so that its programs are built in seconds whatever link-time optimization the gateway has.

pub mod http;
pub mod process;
