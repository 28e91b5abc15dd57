//! HTTP/1.1 of the data plane, over pingora's streams.
//!
//! pingora accepts, terminates TLS, speaks h2 and connects; what it does with HTTP/1 takes more of a relayed request's time than
//! all of nginx does. So that has its own sessions here: a connection keeps its buffers from request to request, what belongs
//! together leaves in one write, and an idle connection costs no task.
//!
//! | file | does |
//! |---|---|
//! | `head` | finds the end of a head and reads it, by `httparse` |
//! | `again` | the key of a head that comes again |
//! | `response` | the head of an answer |
//! | `framing` | where a body ends; heads that two servers would read as different requests |
//! | `chunked`, `body` | the content out of the bytes |
//! | `encode` | heads and chunks as they are written |
//! | `reading`, `writing` | room for what is read; what is written together |
//! | `server`, `client` | a client's connection; a request to an upstream |
//! | `idle` | connections that wait |
//!
//! All above `reading` is pure: no clock, no connection.

mod again;
mod body;
mod chunked;
mod client;
mod encode;
mod error;
mod framing;
mod head;
mod idle;
mod reading;
mod response;
mod server;
mod writing;

pub use again::{key_of, may_come_again};
pub use body::BodyDecoder;
pub use chunked::{BadChunk, ChunkDecoder};
pub use client::ClientSession;
pub use encode::RequestLines;
pub use error::Error;
pub use framing::{BodyLength, HeadFault, UnframedAnswer};
pub use head::{AnswerHead, FIELDS_MAX, HeadError, RequestHead, answer_head, head_end, request_head};
pub use idle::IdlePool;
pub use response::{BadField, ResponseHead};
pub use server::{Departure, ServerSession};
