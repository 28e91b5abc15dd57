//! One end of a connection: frames in, frames out.

use std::time::Duration;

use bytes::Bytes;
use pingora::protocols::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::meter::frames::websocket::{Message, SocketFramer, Violation, encode};
use crate::plugin::Sender;
use crate::proxy::shared::body::BodyShare;

const READ_BYTES: usize = 16 << 10;

/// A connection's stream, and what was read of it before it was taken over.
pub struct Wire {
    pub stream: Stream,
    pub early: Bytes,
}

/// Why no more messages come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadEnd {
    #[error("the connection is gone")]
    Gone,
    #[error("{0}")]
    Violation(#[from] Violation),
    #[error("no memory left for a message")]
    Overloaded,
}

/// The reading half.
pub struct MessageSource {
    half: ReadHalf<Stream>,
    framer: SocketFramer,
    /// Memory for messages that are not complete counts among that of all request bodies.
    share: Option<BodyShare>,
    buffer: Box<[u8]>,
}

/// The writing half. Writers take turns, message by message.
pub struct MessageSink {
    half: Mutex<WriteHalf<Stream>>,
    /// We write as a client does.
    masks: bool,
    patience: Duration,
}

/// Parts a wire. `sender` is who writes what we read from it; `patience` how long a write may take.
pub fn parts(
    wire: Wire,
    sender: Sender,
    message_bytes_max: usize,
    share: Option<BodyShare>,
    patience: Duration,
) -> (MessageSource, MessageSink) {
    let (read, write) = tokio::io::split(wire.stream);
    let mut framer = SocketFramer::new(sender, message_bytes_max);
    framer.push(&wire.early);
    let source = MessageSource {
        half: read,
        framer,
        share,
        buffer: vec![0; READ_BYTES].into_boxed_slice(),
    };
    let sink = MessageSink {
        half: Mutex::new(write),
        masks: sender == Sender::Server,
        patience,
    };
    (source, sink)
}

impl MessageSource {
    pub async fn next(&mut self) -> Result<Message, ReadEnd> {
        loop {
            let message = self.framer.message()?;
            // What is handed out is held until the next is read.
            let handed_out = message.as_ref().map_or(0, Message::payload_len);
            let held = (self.framer.pending() + handed_out) as u64;
            if !self.share.as_mut().is_none_or(|share| share.resize(held)) {
                return Err(ReadEnd::Overloaded);
            }
            if let Some(message) = message {
                return Ok(message);
            }
            match self.half.read(&mut self.buffer).await {
                Ok(0) | Err(_) => return Err(ReadEnd::Gone),
                Ok(read) => self.framer.push(self.buffer.get(..read).unwrap_or_default()),
            }
        }
    }

    /// Takes in what still comes, until the other end closes: a close over unread bytes would reset the connection, and
    /// the other end would never read why.
    pub async fn linger(&mut self, at_most: Duration) {
        let closed = async {
            loop {
                match self.next().await {
                    Ok(Message::Close(_)) | Err(ReadEnd::Gone) => return,
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
            while self.half.read(&mut self.buffer).await.is_ok_and(|read| read > 0) {}
        };
        let _ = timeout(at_most, closed).await;
    }
}

impl MessageSink {
    /// Writes a message. An error: it was not written whole, and nothing more can be.
    pub async fn send(&self, message: &Message) -> Result<(), ReadEnd> {
        let bytes = encode(message, self.masks.then(rand::random));
        let mut half = self.half.lock().await;
        let written = async {
            half.write_all(&bytes).await?;
            half.flush().await
        };
        match timeout(self.patience, written).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(ReadEnd::Gone),
        }
    }

    pub async fn shut(&self) {
        let _ = timeout(self.patience, async { self.half.lock().await.shutdown().await }).await;
    }
}
