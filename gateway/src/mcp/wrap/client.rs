//! What the client says: passed on line by line as it comes, but for calls of tools, which go to the gate, and what no reader should
//! be given. Requests for lists of tools are noted, so that their answers are.

use std::io::{self, Read};
use std::sync::Arc;

use serde_json::value::RawValue;
use tokio::sync::mpsc::{Sender, UnboundedSender};

use super::calls::Calls;
use super::gate::{FromClient, Known, Pipe};
use super::lines::{Lines, Piece};
use super::long::LongRequest;
use super::pipe::Queued;
use super::scan::Scan;
use crate::config::LongLines;
use crate::mcp::message::{MessageFault, Messages, id_key};
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::json_rpc;
use crate::proxy::shared::reply::Refusal;

/// What is read at one time, and fits into the server's pipes.
pub const CHUNK_BYTES: usize = 256 << 10;

/// See the module.
pub struct ClientSide {
    pub calls: Arc<Calls>,
    pub to_server: Arc<Pipe>,
    pub to_client: Arc<Pipe>,
    pub gate: Sender<FromClient>,
    pub known: UnboundedSender<Known>,
    pub line_bytes_max: usize,
    pub long_lines: LongLines,
}

struct Reading<'s> {
    side: &'s ClientSide,
    scan: Scan,
    /// Lines that are to be passed on.
    passing: Vec<u8>,
    /// A line that is too long to be held.
    long: Option<LongRequest>,
}

impl ClientSide {
    /// Passes on what the client says until it says no more, or the server takes no more.
    ///
    /// # Errors
    /// A pipe that broke; one that was closed at its other end is one, too.
    pub fn run(&self, mut client: impl Read) -> io::Result<()> {
        let mut lines = Lines::new(self.line_bytes_max);
        let mut reading = Reading {
            side: self,
            scan: Scan::new(),
            passing: Vec::new(),
            long: None,
        };
        let mut chunk = vec![0; CHUNK_BYTES];
        let ended = loop {
            let bytes = match read_some(&mut client, &mut chunk) {
                Ok(read) => chunk.get(..read).unwrap_or_default(),
                Err(error) => break Err(error),
            };
            if bytes.is_empty() {
                break lines
                    .finish(&mut |piece| reading.take(piece))
                    .and_then(|()| reading.pass());
            }
            if let Err(error) = reading.chunk(&mut lines, bytes) {
                break Err(error);
            }
        };
        self.to_server.pass_no_more();
        // The gate closes the server's pipe once nothing waits for it any more.
        let _ = self.gate.blocking_send(FromClient::Over);
        ended
    }
}

impl Reading<'_> {
    fn chunk(&mut self, lines: &mut Lines, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        if lines.is_within() {
            let end = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
            let (line, after) = bytes.split_at(end);
            lines.push(line, &mut |piece| self.take(piece))?;
            rest = after;
        }
        let whole = memchr::memrchr(b'\n', rest).map_or(0, |at| at + 1);
        let (complete, begun) = rest.split_at(whole);
        if self.scan.matters(complete) {
            lines.push(complete, &mut |piece| self.take(piece))?;
        } else {
            // The usual case: lines that are nothing but bytes.
            self.pass()?;
            self.side.to_server.pass(complete)?;
        }
        lines.push(begun, &mut |piece| self.take(piece))?;
        self.pass()
    }

    /// Hands on what was found to be nothing but bytes.
    fn pass(&mut self) -> io::Result<()> {
        self.side.to_server.pass(&self.passing)?;
        self.passing.clear();
        Ok(())
    }

    fn take(&mut self, piece: Piece<'_>) -> io::Result<()> {
        match piece {
            Piece::Line(line) if self.scan.matters(line) => self.read(line),
            Piece::Line(line) => {
                self.passing.extend_from_slice(line);
                Ok(())
            }
            Piece::Part { bytes, ends } => self.part(bytes, ends),
        }
    }

    fn read(&mut self, line: &[u8]) -> io::Result<()> {
        let read = match is_one_line(line) {
            true => Messages::read(line),
            false => Err(MessageFault::Message(
                "a carriage return within a line ends it for some readers",
            )),
        };
        let messages = match read {
            Ok(messages) => messages,
            Err(fault) if self.scan.may_ask(line) => {
                let refusal = Refusal::new(RefusalCode::InvalidMessage, fault.to_string());
                self.refuse(LongRequest::of(line), &refusal);
                return Ok(());
            }
            // Whatever it is, it asks for nothing that is looked after.
            Err(_) => {
                self.passing.extend_from_slice(line);
                return Ok(());
            }
        };
        if messages.calls().next().is_some() {
            // What came before it is before it.
            self.pass()?;
            for key in messages.calls().filter_map(|call| call.id.map(id_key)) {
                self.side.calls.waits(&key);
            }
            let asked = self.side.gate.blocking_send(FromClient::Calls(line.to_vec()));
            return asked.map_err(|_| io::ErrorKind::BrokenPipe.into());
        }
        if !self.side.calls.lists(messages.lists()) {
            let refusal = Refusal::new(RefusalCode::Overloaded, "the server owes too many lists of tools");
            self.refuse(LongRequest::of(line), &refusal.retry_after(1));
            return Ok(());
        }
        let mut ended = Vec::new();
        if self.side.calls.passes(&messages, &mut ended) {
            self.passing.extend_from_slice(line);
        }
        for ended in ended {
            // The gate is gone with the server.
            let _ = self.side.known.send(Known::Ended(ended));
        }
        Ok(())
    }

    fn part(&mut self, bytes: &[u8], ends: bool) -> io::Result<()> {
        if self.side.long_lines == LongLines::Pass {
            self.pass()?;
            return self.side.to_server.pass(bytes);
        }
        let long = self.long.get_or_insert_with(LongRequest::new);
        long.push(bytes);
        let Some(long) = self.long.take_if(|_| ends) else {
            return Ok(());
        };
        let message = format!(
            "a line is longer than {} bytes, and is not passed on",
            self.side.line_bytes_max
        );
        self.refuse(long, &Refusal::new(RefusalCode::BodyTooLarge, message).final_answer());
        Ok(())
    }

    /// A line that goes no further. Where nobody can say which request it was, its client is answered without an id, as JSON-RPC has
    /// it (<https://www.jsonrpc.org/specification#response_object>).
    fn refuse(&mut self, request: LongRequest, refusal: &Refusal) {
        tracing::warn!(
            code = refusal.code.as_str(),
            "a line of the client's is refused: {}",
            refusal.message
        );
        let id = request.id().unwrap_or_else(|| RawValue::NULL.to_owned());
        let answer = json_rpc::body(&json_rpc::error(refusal, Some(&id)));
        self.side.to_client.put_in_turn(Queued::answer(answer.to_vec()));
    }
}

/// Whether there is a carriage return nowhere but before its end.
fn is_one_line(line: &[u8]) -> bool {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    memchr::memchr(b'\r', text.strip_suffix(b"\r").unwrap_or(text)).is_none()
}

pub fn read_some(from: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(into) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}
