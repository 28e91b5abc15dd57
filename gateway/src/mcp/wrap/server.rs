//! What the server says: passed on as it comes. Only where a call is open a copy is read, for the answers to it.

use std::io::{self, Read};
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

use super::calls::Calls;
use super::client::{CHUNK_BYTES, read_some};
use super::gate::{Known, Pipe};
use crate::mcp::answer::{AnswerReader, Piece};

/// See the module.
pub struct ServerSide {
    pub calls: Arc<Calls>,
    pub to_client: Arc<Pipe>,
    pub known: UnboundedSender<Known>,
}

impl ServerSide {
    /// Passes on what the server says until it says no more, or the client takes no more.
    ///
    /// # Errors
    /// As of the client's side.
    pub fn run(&self, mut server: impl Read) -> io::Result<()> {
        let mut reader: Option<AnswerReader> = None;
        let mut is_between = true;
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = read_some(&mut server, &mut chunk)?;
            let bytes = chunk.get(..read).unwrap_or_default();
            let Some(last) = bytes.last() else { break };
            self.to_client.pass(bytes)?;
            let ends = *last == b'\n';
            if reader.is_some() || self.calls.are_expected() {
                let (at, reader) = match &mut reader {
                    Some(reader) => (0, reader),
                    // What began before there was a call is no answer to one.
                    none if is_between => (0, none.insert(AnswerReader::of_lines())),
                    none => match memchr::memchr(b'\n', bytes) {
                        Some(end) => (end + 1, none.insert(AnswerReader::of_lines())),
                        None => continue,
                    },
                };
                reader.push(bytes.get(at..).unwrap_or_default(), &mut |piece| self.take(&piece));
            }
            if ends && !self.calls.are_expected() {
                reader = None;
            }
            is_between = ends;
        }
        if let Some(reader) = &mut reader {
            reader.finish(&mut |piece| self.take(&piece));
        }
        Ok(())
    }

    fn take(&self, piece: &Piece<'_>) {
        for answer in &piece.answers {
            if let Some(ended) = self.calls.answered(answer) {
                // The gate is gone with the server.
                let _ = self.known.send(Known::Ended(ended));
            }
        }
    }
}
