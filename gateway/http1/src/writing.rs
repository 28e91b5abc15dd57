//! Writing a message: what belongs together leaves in one vectored write, and nothing of a body is copied for it.

use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use pingora::protocols::Stream;
use tokio::io::AsyncWrite;
use tokio::time::timeout;

use crate::encode::{CRLF, LAST_CHUNK, chunk_start};
use crate::error::Error;
use crate::framing::BodyLength;

/// Pieces of one write: a head, a chunk's line, its bytes, its end.
const PIECES: usize = 4;

/// Where in its body a message that is written is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEncoder {
    Exact(u64),
    Chunked,
    UntilClose,
    Done,
}

impl BodyEncoder {
    pub fn new(length: BodyLength) -> BodyEncoder {
        match length {
            BodyLength::Exact(length) => BodyEncoder::Exact(length),
            BodyLength::Chunked => BodyEncoder::Chunked,
            BodyLength::UntilClose => BodyEncoder::UntilClose,
        }
    }

    /// Content as it is written, behind what waits to be written before it. `last`: the body ends with it.
    ///
    /// # Errors
    /// It is more than was announced.
    pub fn frame(&mut self, before: Bytes, content: Bytes, last: bool) -> Result<Pieces, Error> {
        let mut pieces = Pieces::default();
        pieces.push(before);
        match self {
            BodyEncoder::Exact(left) => {
                *left = left.checked_sub(content.len() as u64).ok_or(Error::TooMuch)?;
                pieces.push(content);
            }
            BodyEncoder::Chunked => {
                let end: &'static [u8] = match (content.is_empty(), last) {
                    (true, true) => LAST_CHUNK,
                    (true, false) => b"",
                    (false, true) => b"\r\n0\r\n\r\n",
                    (false, false) => CRLF,
                };
                if !content.is_empty() {
                    pieces.push(chunk_start(content.len()));
                    pieces.push(content);
                }
                pieces.push(Bytes::from_static(end));
            }
            BodyEncoder::UntilClose => pieces.push(content),
            BodyEncoder::Done if content.is_empty() => {}
            BodyEncoder::Done => return Err(Error::TooMuch),
        }
        Ok(pieces)
    }

    /// The body has ended. `false`: before its announced end.
    pub fn end(&mut self) -> bool {
        let is_whole = !matches!(self, BodyEncoder::Exact(1..));
        *self = BodyEncoder::Done;
        is_whole
    }
}

/// What is written together, in its order.
#[derive(Debug, Default)]
pub struct Pieces {
    pieces: [Bytes; PIECES],
    count: usize,
}

impl Pieces {
    fn push(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        if let Some(place) = self.pieces.get_mut(self.count) {
            *place = piece;
            self.count += 1;
        }
    }

    pub fn of(piece: Bytes) -> Pieces {
        let mut pieces = Pieces::default();
        pieces.push(piece);
        pieces
    }

    fn is_empty(&self) -> bool {
        self.pieces.iter().all(Bytes::is_empty)
    }

    fn advance(&mut self, mut written: usize) {
        for piece in &mut self.pieces {
            let taken = written.min(piece.len());
            piece.advance(taken);
            written -= taken;
        }
    }

    /// Writes them all and flushes.
    pub fn poll_send(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while !self.is_empty() {
            let mut slices = [IoSlice::new(b""); PIECES];
            let mut count = 0;
            for (slice, piece) in slices
                .iter_mut()
                .zip(self.pieces.iter().filter(|piece| !piece.is_empty()))
            {
                *slice = IoSlice::new(piece);
                count += 1;
            }
            let slices = slices.get(..count).unwrap_or_default();
            let written = ready!(Pin::new(&mut *stream).poll_write_vectored(cx, slices))?;
            if written == 0 {
                return Poll::Ready(Err(Error::Closed));
            }
            self.advance(written);
        }
        ready!(Pin::new(stream).poll_flush(cx))?;
        Poll::Ready(Ok(()))
    }

    /// The same, within a time.
    pub async fn send(mut self, stream: &mut Stream, within: Option<Duration>) -> Result<(), Error> {
        let sent = std::future::poll_fn(|cx| self.poll_send(stream, cx));
        match within {
            Some(within) => timeout(within, sent).await.unwrap_or(Err(Error::TimedOut)),
            None => sent.await,
        }
    }
}
