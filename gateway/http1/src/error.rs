//! Why a session cannot go on.

use std::io;

use crate::chunked::BadChunk;
use crate::head::HeadError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The other side closed its end in the midst of a message.
    #[error("the connection is closed")]
    Closed,
    #[error("the other side takes nothing more")]
    TimedOut,
    /// The upstream answered before it had taken all of the request.
    #[error("the upstream has answered already")]
    Answered,
    #[error("a body of such a length was not announced")]
    TooMuch,
    #[error(transparent)]
    Head(#[from] HeadError),
    #[error(transparent)]
    Chunk(#[from] BadChunk),
    #[error(transparent)]
    Io(#[from] io::Error),
}
