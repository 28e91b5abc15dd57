//! A message of AWS's event stream that is too long to be held: its payload is handed on as it passes, and its checksum
//! tells at its end whether that is to be believed.

use super::FrameFault;
use super::aws::{Content, PRELUDE_BYTES, Prelude, TRAILER_BYTES, content_of};
use crate::base64;

/// Bytes before the base64 of a wrapped event.
const WRAPPING_BYTES_MAX: usize = 4 << 10;
/// Letters decoded at a time; a multiple of four.
const LETTERS_AT_ONCE: usize = 4 << 10;

#[derive(Debug, Default)]
pub(super) struct PassingMessage {
    /// Bytes so far.
    at: usize,
    /// The prelude and the headers, until they are read.
    head: Vec<u8>,
    prelude: Option<Prelude>,
    pub(super) event: Option<Vec<u8>>,
    content: Option<Content>,
    unwrapping: Unwrapping,
    crc: crc32fast::Hasher,
    trailer: Vec<u8>,
    headers_fault: Option<FrameFault>,
}

impl PassingMessage {
    /// The next bytes, of which the payload's data goes to `sink`. The message's end, if it is there; an error: there is no
    /// way to find it.
    pub(super) fn push(&mut self, chunk: &[u8], sink: &mut dyn FnMut(&[u8])) -> Result<Option<usize>, FrameFault> {
        let mut taken = 0;
        while let Some(rest) = chunk.get(taken..).filter(|rest| !rest.is_empty()) {
            let region_end = match self.prelude {
                None => PRELUDE_BYTES,
                Some(prelude) if self.at < PRELUDE_BYTES + prelude.headers => PRELUDE_BYTES + prelude.headers,
                Some(prelude) if self.at < prelude.total - TRAILER_BYTES => prelude.total - TRAILER_BYTES,
                Some(prelude) => prelude.total,
            };
            let piece = rest.get(..(region_end - self.at).min(rest.len())).unwrap_or(rest);
            self.piece(piece, sink);
            self.at += piece.len();
            taken += piece.len();
            if self.at == region_end {
                self.region_ends(sink)?;
            }
            if self.prelude.is_some_and(|prelude| self.at == prelude.total) {
                return Ok(Some(taken));
            }
        }
        Ok(None)
    }

    /// What is wrong with the message, when it is over or the stream is.
    pub(super) fn fault(&self) -> Option<FrameFault> {
        if self.prelude.is_none_or(|prelude| self.at < prelude.total) {
            return Some(FrameFault::Truncated);
        }
        let crc = self.crc.clone().finalize().to_be_bytes();
        if self.trailer != crc {
            return Some(FrameFault::MessageCrc);
        }
        self.headers_fault
    }

    fn piece(&mut self, piece: &[u8], sink: &mut dyn FnMut(&[u8])) {
        match self.prelude {
            Some(prelude) if self.at >= prelude.total - TRAILER_BYTES => {
                self.trailer.extend_from_slice(piece);
                return;
            }
            Some(prelude) if self.at >= PRELUDE_BYTES + prelude.headers => match self.content {
                Some(Content::Json) => sink(piece),
                Some(Content::Wrapped) => self.unwrapping.push(piece, sink),
                Some(Content::None) | None => {}
            },
            _ => self.head.extend_from_slice(piece),
        }
        self.crc.update(piece);
    }

    fn region_ends(&mut self, sink: &mut dyn FnMut(&[u8])) -> Result<(), FrameFault> {
        let prelude = match (self.prelude, self.head.first_chunk()) {
            (Some(prelude), _) => prelude,
            (None, Some(bytes)) => *self.prelude.insert(Prelude::read(bytes)?),
            (None, None) => return Ok(()),
        };
        if self.at == PRELUDE_BYTES + prelude.headers && self.content.is_none() && self.headers_fault.is_none() {
            match content_of(&self.head, self.head.len()) {
                Ok((event, content)) => {
                    self.event = event.and_then(|range| self.head.get(range)).map(<[u8]>::to_vec);
                    self.content = Some(content);
                    if content == Content::None {
                        sink(b"{}");
                    }
                }
                Err(fault) => self.headers_fault = Some(fault),
            }
            self.head = Vec::new();
        }
        Ok(())
    }
}

/// `{"bytes":"…"}` as it passes.
#[derive(Debug, Default)]
struct Unwrapping {
    place: Place,
    /// The wrapping, or letters that make no whole group yet.
    held: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Before,
    Inside,
    /// Behind it; or it is none.
    Behind,
}

impl Unwrapping {
    fn push(&mut self, mut piece: &[u8], sink: &mut dyn FnMut(&[u8])) {
        if self.place == Place::Before {
            let room = WRAPPING_BYTES_MAX.saturating_sub(self.held.len());
            let (wrapping, rest) = piece.split_at(room.min(piece.len()));
            self.held.extend_from_slice(wrapping);
            let Some(start) = value_start(&self.held) else {
                if room == 0 {
                    self.place = Place::Behind;
                }
                return;
            };
            self.place = Place::Inside;
            let letters = self.held.split_off(start);
            self.held.clear();
            self.letters(&letters, sink);
            piece = rest;
        }
        self.letters(piece, sink);
    }

    fn letters(&mut self, mut piece: &[u8], sink: &mut dyn FnMut(&[u8])) {
        while self.place == Place::Inside && !piece.is_empty() {
            let room = LETTERS_AT_ONCE - self.held.len();
            let (now, rest) = piece.split_at(room.min(piece.len()));
            piece = rest;
            let end = memchr::memchr(b'"', now);
            let letters = now.get(..end.unwrap_or(now.len())).unwrap_or_default();
            // A slash may be written with a backslash.
            self.held.extend(letters.iter().filter(|letter| **letter != b'\\'));
            let whole = if end.is_some() {
                self.held.len()
            } else {
                self.held.len() / 4 * 4
            };
            let mut data = Vec::with_capacity(whole);
            let decoded = base64::decode_into(self.held.get(..whole).unwrap_or_default(), &mut data);
            self.held.drain(..whole);
            if end.is_some() || decoded.is_none() {
                self.place = Place::Behind;
            }
            if decoded.is_some() {
                sink(&data);
            }
        }
    }
}

/// Where the value of `bytes` starts, behind its quote.
fn value_start(wrapping: &[u8]) -> Option<usize> {
    const KEY: &[u8] = b"\"bytes\"";
    let at = memchr::memmem::find(wrapping, KEY)? + KEY.len();
    let mut rest = wrapping.get(at..)?.trim_ascii_start();
    rest = rest.strip_prefix(b":")?.trim_ascii_start();
    rest = rest.strip_prefix(b"\"")?;
    Some(wrapping.len() - rest.len())
}
