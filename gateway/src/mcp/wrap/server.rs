//! What the server says: passed on as it comes. Only where a call is open a copy is read, for the answers to it. While a list of tools
//! is asked for, lines go on one by one, so that the list itself can go to the gate: not everybody may see all of it.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::channel;

use memchr::memchr;
use serde_json::value::RawValue;
use tokio::sync::mpsc::UnboundedSender;

use super::calls::Calls;
use super::client::{CHUNK_BYTES, read_some};
use super::gate::{Known, Pipe};
use super::lists::ListLine;
use super::pipe::Queued;
use crate::config::LongLines;
use crate::control::wire::CallEnding;
use crate::mcp::answer::{AnswerReader, MESSAGE_BYTES_MAX, Piece};
use crate::mcp::message::id_of_key;
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::json_rpc;
use crate::proxy::shared::reply::Refusal;

/// Whose pipe broke.
enum Broken {
    Server,
    Client,
}

/// See the module.
pub struct ServerSide {
    pub calls: Arc<Calls>,
    pub to_client: Arc<Pipe>,
    pub known: UnboundedSender<Known>,
    pub line_bytes_max: usize,
    pub long_lines: LongLines,
}

impl ServerSide {
    /// Passes on what the server says until it says no more, or the client takes no more.
    pub fn run(&self, server: impl Read) {
        if let Err(Broken::Client) = self.pass_on(server) {
            for ended in self.calls.all_over(CallEnding::ClientGone) {
                // The gate is gone with the server.
                let _ = self.known.send(Known::Ended(ended));
            }
        }
        self.to_client.pass_no_more();
        self.to_client.close();
    }

    fn pass_on(&self, mut server: impl Read) -> Result<(), Broken> {
        let mut reading = Reading {
            side: self,
            reader: None,
            held: None,
            is_between: true,
            is_left_out: false,
        };
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = read_some(&mut server, &mut chunk).map_err(|_| Broken::Server)?;
            let bytes = chunk.get(..read).unwrap_or_default();
            if bytes.is_empty() {
                return reading.finish().map_err(|_| Broken::Client);
            }
            reading.chunk(bytes).map_err(|_| Broken::Client)?;
        }
    }
}

struct Reading<'s> {
    side: &'s ServerSide,
    reader: Option<AnswerReader>,
    /// What waits for the end of its line; `None` while bytes go on as they come.
    held: Option<Vec<u8>>,
    /// The last line is over.
    is_between: bool,
    /// The line that is being read is too long, and does not go on.
    is_left_out: bool,
}

impl Reading<'_> {
    fn chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        // What began before something was asked for is no answer to it.
        if self.is_between || memchr(b'\n', bytes).is_some() {
            let end = match memchr(b'\n', bytes) {
                Some(end) if !self.is_between => end + 1,
                _ => 0,
            };
            let (begun, whole) = bytes.split_at(end);
            self.pass(begun)?;
            self.switch()?;
            rest = whole;
        }
        self.pass(rest)
    }

    /// Between two lines: reads, and holds back, what has to be.
    fn switch(&mut self) -> io::Result<()> {
        let calls = &self.side.calls;
        if calls.are_lists_expected() {
            if self.held.is_none() {
                self.held = Some(Vec::new());
                self.reader = Some(AnswerReader::of_lines(self.side.line_bytes_max));
            }
        } else {
            if let Some(held) = self.held.take() {
                self.side.to_client.pass(&held)?;
                self.reader = None;
            }
            if !calls.are_expected() {
                self.reader = None;
            } else if self.reader.is_none() {
                self.reader = Some(AnswerReader::of_lines(MESSAGE_BYTES_MAX));
            }
        }
        Ok(())
    }

    fn pass(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(last) = bytes.last() else { return Ok(()) };
        self.is_between = *last == b'\n';
        if let Some(held) = &mut self.held {
            held.extend_from_slice(bytes);
            return self.read(|reader, sink| reader.push(bytes, sink));
        }
        // What it says of calls counts, whether or not their client is still there.
        self.read(|reader, sink| reader.push(bytes, sink))?;
        self.side.to_client.pass(bytes)
    }

    fn finish(mut self) -> io::Result<()> {
        self.read(|reader, sink| reader.finish(sink))?;
        match self.held.take() {
            Some(held) if !self.is_left_out => self.side.to_client.pass(&held),
            _ => Ok(()),
        }
    }

    fn read(&mut self, read: impl FnOnce(&mut AnswerReader, &mut dyn FnMut(Piece<'_>))) -> io::Result<()> {
        let Some(mut reader) = self.reader.take() else {
            return Ok(());
        };
        let mut passed = Ok(());
        read(&mut reader, &mut |piece| {
            let taken = self.take(&piece);
            if passed.is_ok() {
                passed = taken;
            }
        });
        self.reader = Some(reader);
        passed
    }

    fn take(&mut self, piece: &Piece<'_>) -> io::Result<()> {
        for answer in &piece.answers {
            if let Some(ended) = self.side.calls.answered(answer) {
                // The gate is gone with the server.
                let _ = self.side.known.send(Known::Ended(ended));
            }
        }
        let Some(held) = &mut self.held else { return Ok(()) };
        let rest = held.split_off(piece.raw_len.min(held.len()));
        let raw = std::mem::replace(held, rest);
        let (mut ids, mut others): (Vec<Box<RawValue>>, Vec<String>) = Default::default();
        for answer in &piece.answers {
            match self.side.calls.list_answered(&answer.id) {
                Some(id) => ids.push(id),
                None => others.push(answer.id.clone()),
            }
        }
        if piece.is_part {
            return self.take_part(&raw, ids, others);
        }
        if ids.is_empty() {
            return self.side.to_client.pass(&raw);
        }
        self.pass_list(ListLine { line: Some(raw), ids })
    }

    /// What comes after a list waits for it, so that its client has all in the server's order.
    fn pass_list(&self, list: ListLine) -> io::Result<()> {
        let (to, shown) = channel();
        let _ = self.side.known.send(Known::Listed(list, to));
        match shown.recv() {
            Ok(line) => self.side.to_client.pass(&line),
            // The gate is gone with the server.
            Err(_) => Ok(()),
        }
    }

    /// A part of a line that is too long to be held: only its end tells what it was.
    fn take_part(&mut self, raw: &[u8], ids: Vec<Box<RawValue>>, others: Vec<String>) -> io::Result<()> {
        if self.side.long_lines == LongLines::Pass {
            return self.side.to_client.pass(raw);
        }
        for id in others {
            let message = format!(
                "the answer is longer than {} bytes, and came while a list of tools was waited for: it is not passed on",
                self.side.line_bytes_max
            );
            let refusal = Refusal::new(RefusalCode::BodyTooLarge, message).final_answer();
            let answer = json_rpc::body(&json_rpc::error(&refusal, id_of_key(&id).as_deref()));
            self.side.to_client.put_in_turn(Queued::answer(answer.to_vec()));
        }
        if !self.is_left_out {
            tracing::warn!(
                "a line of the server's is longer than {} bytes while a list of tools is waited for, and is not passed on",
                self.side.line_bytes_max
            );
        }
        self.is_left_out = raw.last() != Some(&b'\n');
        if !ids.is_empty() {
            return self.pass_list(ListLine { line: None, ids });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use std::io::Write;
    use std::thread;

    use parking_lot::Mutex;
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    #[derive(Clone, Default)]
    struct Passed(Arc<Mutex<Vec<u8>>>);

    impl Write for Passed {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lists_are_taken_out_at_any_split_and_the_rest_passes_as_it_came() {
        let (list, other) = (
            "{\"id\":7,\"result\":{\"tools\":[]}}\r\n",
            "{\"id\":8,\"result\":{\"tools\":[]}}\n",
        );
        let text = format!("\n{other}no JSON\n{list}{other}{list}half");
        let id = RawValue::from_string("7".to_owned()).unwrap();
        for at in 0..=text.len() {
            let calls = Arc::new(Calls::default());
            assert!(calls.lists([&*id, &*id].into_iter()));
            let (known, mut knows) = unbounded_channel();
            let passed = Passed::default();
            let side = ServerSide {
                calls: Arc::clone(&calls),
                to_client: Arc::new(Pipe::new(Box::new(passed.clone()), Arc::default())),
                known,
                line_bytes_max: 1_000,
                long_lines: LongLines::Refuse,
            };
            let (one, two) = text.as_bytes().split_at(at);
            let seen = thread::scope(|scope| {
                let gate = scope.spawn(move || {
                    let mut seen = Vec::new();
                    while let Some(Known::Listed(listed, to)) = knows.blocking_recv() {
                        seen.push((listed.line.unwrap(), listed.ids[0].get().to_owned()));
                        to.send(b"LIST\n".to_vec()).unwrap();
                    }
                    seen
                });
                side.run(one.chain(two));
                drop(side);
                gate.join().unwrap()
            });
            let expected = format!("\n{other}no JSON\nLIST\n{other}LIST\nhalf");
            assert_eq!(String::from_utf8_lossy(&passed.0.lock()), expected, "{at}");
            assert_eq!(seen, vec![(list.as_bytes().to_vec(), "7".to_owned()); 2], "{at}");
            assert!(!calls.are_lists_expected());
        }
    }
}
