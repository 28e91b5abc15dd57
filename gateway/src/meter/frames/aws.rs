//! AWS's binary event stream, `application/vnd.amazon.eventstream`
//! (<https://docs.aws.amazon.com/transcribe/latest/dg/event-stream.html>).
//!
//! ```text
//! total length u32 · headers length u32 · CRC of these 8 bytes u32 · headers · payload · CRC of all before u32
//! ```
//!
//! A message that fails its own CRC passes unread, and the next one is found by its length. A prelude that fails its CRC
//! or tells absurd lengths leaves no way to find the next message: the rest of the stream passes unread.

use std::borrow::Cow;
use std::ops::Range;

use serde::Deserialize;

use super::aws_passing::PassingMessage;
use super::{Data, Found, FrameFault};
use crate::base64;

pub(super) const PRELUDE_BYTES: usize = 12;
/// The CRC at a message's end.
pub(super) const TRAILER_BYTES: usize = 4;
/// What AWS's own SDKs take at most.
const HEADERS_BYTES_MAX: usize = 128 << 10;
const PAYLOAD_BYTES_MAX: usize = 24 << 20;
/// A joined text that grew beyond this is given back.
const SCRATCH_KEPT_BYTES: usize = 4 << 10;
/// The event that wraps a model's own event as base64.
const CHUNK: &[u8] = b"chunk";

#[derive(Debug, Default)]
pub(super) struct AwsScanner {
    /// Bytes of the message that were looked at.
    have: usize,
    /// The message's lengths, once its prelude was read.
    prelude: Option<Prelude>,
    /// The message is too long to be held.
    passing: Option<Box<PassingMessage>>,
    scratch: Vec<u8>,
    fault: Option<FrameFault>,
    /// No further message can be found.
    broken: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Prelude {
    pub(super) total: usize,
    pub(super) headers: usize,
}

impl Prelude {
    pub(super) fn read(bytes: &[u8; PRELUDE_BYTES]) -> Result<Prelude, FrameFault> {
        let [t0, t1, t2, t3, h0, h1, h2, h3, crc @ ..] = *bytes;
        let lengths = [t0, t1, t2, t3, h0, h1, h2, h3];
        if crc32fast::hash(&lengths) != u32::from_be_bytes(crc) {
            return Err(FrameFault::PreludeCrc);
        }
        let length = |bytes| usize::try_from(u32::from_be_bytes(bytes)).unwrap_or(usize::MAX);
        let (total, headers) = (length([t0, t1, t2, t3]), length([h0, h1, h2, h3]));
        let payload = total
            .checked_sub(PRELUDE_BYTES + TRAILER_BYTES)
            .and_then(|inside| inside.checked_sub(headers));
        match payload {
            Some(payload) if headers <= HEADERS_BYTES_MAX && payload <= PAYLOAD_BYTES_MAX => {
                Ok(Prelude { total, headers })
            }
            _ => Err(FrameFault::Length),
        }
    }
}

impl AwsScanner {
    pub(super) fn find(&mut self, bytes: &[u8]) -> Option<Found> {
        self.have = bytes.len();
        let prelude = match self.prelude {
            Some(prelude) => prelude,
            None => match Prelude::read(bytes.first_chunk()?) {
                Ok(prelude) => *self.prelude.insert(prelude),
                Err(fault) => {
                    self.broken = true;
                    return Some(self.unreadable(bytes.len(), fault));
                }
            },
        };
        let message = bytes.get(..prelude.total)?;
        Some(match self.message(message, prelude) {
            Ok(found) => found,
            Err(fault) => self.unreadable(message.len(), fault),
        })
    }

    /// The stream ended within a message.
    pub(super) fn finish(&mut self, bytes: &[u8]) -> Found {
        self.unreadable(bytes.len(), FrameFault::Truncated)
    }

    pub(super) fn reset(&mut self) {
        self.have = 0;
        self.prelude = None;
        self.passing = None;
        self.scratch.clear();
        self.scratch.shrink_to(SCRATCH_KEPT_BYTES);
    }

    /// Bytes of a chunk of `len` up to where the prelude or the message may be complete.
    pub(super) fn next_stop(&self, len: usize) -> usize {
        let until = self.prelude.map_or(PRELUDE_BYTES, |prelude| prelude.total);
        until.saturating_sub(self.have).clamp(1, len.max(1))
    }

    pub(super) fn start_passing(&mut self, bytes: &[u8], sink: &mut dyn FnMut(&[u8])) -> bool {
        self.passing = Some(Box::default());
        self.pass(bytes, sink).is_some()
    }

    pub(super) fn pass(&mut self, chunk: &[u8], sink: &mut dyn FnMut(&[u8])) -> Option<usize> {
        let passing = self.passing.get_or_insert_default();
        match passing.push(chunk, sink) {
            Ok(end) => end,
            Err(fault) => {
                self.fault.get_or_insert(fault);
                self.broken = true;
                None
            }
        }
    }

    /// The name of the message that has passed. An error: it is at fault.
    pub(super) fn end_parts(&mut self) -> Result<Option<&str>, ()> {
        let fault = self.passing.as_ref().and_then(|passing| passing.fault());
        if let Some(fault) = fault {
            self.fault.get_or_insert(fault);
            return Err(());
        }
        let event = self.passing.as_ref().and_then(|passing| passing.event.as_deref());
        Ok(event.and_then(|name| std::str::from_utf8(name).ok()))
    }

    pub(super) fn joined(&self) -> &[u8] {
        &self.scratch
    }

    pub(super) fn fault(&self) -> Option<FrameFault> {
        self.fault
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// The first fault is the one that is told.
    fn unreadable(&mut self, raw_len: usize, fault: FrameFault) -> Found {
        self.fault.get_or_insert(fault);
        Found {
            raw_len,
            event: None,
            data: Data::Unreadable,
        }
    }

    fn message(&mut self, raw: &[u8], prelude: Prelude) -> Result<Found, FrameFault> {
        let (checked, crc) = raw.split_last_chunk::<TRAILER_BYTES>().ok_or(FrameFault::Length)?;
        if crc32fast::hash(checked) != u32::from_be_bytes(*crc) {
            return Err(FrameFault::MessageCrc);
        }
        let payload_start = PRELUDE_BYTES + prelude.headers;
        let payload = payload_start..checked.len();
        let (event, content) = content_of(checked, payload_start)?;
        let data = match content {
            Content::Json => Data::Raw(payload),
            Content::None => {
                self.scratch.extend_from_slice(b"{}");
                Data::Joined
            }
            Content::Wrapped if self.unwrap_chunk(checked.get(payload.clone())) => Data::Joined,
            Content::Wrapped => Data::Raw(payload),
        };
        let empty = matches!(&data, Data::Raw(range) if range.is_empty());
        Ok(Found {
            raw_len: raw.len(),
            event,
            data: if empty { Data::None } else { data },
        })
    }

    /// Takes the model's own event out of its base64 wrapping, `{"bytes":"…"}`, into the scratch. False: it is none.
    fn unwrap_chunk(&mut self, payload: Option<&[u8]>) -> bool {
        #[derive(Deserialize)]
        struct Chunk<'a> {
            #[serde(borrow)]
            bytes: Cow<'a, str>,
        }
        let chunk = payload.and_then(|payload| serde_json::from_slice::<Chunk<'_>>(payload).ok());
        let decoded = chunk.and_then(|chunk| base64::decode_into(chunk.bytes.as_bytes(), &mut self.scratch));
        if decoded.is_none() {
            self.scratch.clear();
        }
        decoded.is_some()
    }
}

/// What the payload of a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Json,
    /// An error outside of the service's model has its text in headers, and no payload.
    None,
    /// A model's own event, as base64.
    Wrapped,
}

/// Where the message's name stands, and what it holds. `raw` begins with the prelude and the headers, which end at `headers_end`.
pub(super) fn content_of(raw: &[u8], headers_end: usize) -> Result<(Option<Range<usize>>, Content), FrameFault> {
    let names = HeaderPlaces::read(raw, PRELUDE_BYTES..headers_end).ok_or(FrameFault::Headers)?;
    let at = |range: &Option<Range<usize>>| range.clone().and_then(|range| raw.get(range)).unwrap_or_default();
    Ok(match at(&names.message_type) {
        b"exception" => (names.exception_type.or(names.message_type), Content::Json),
        b"error" => (names.message_type, Content::None),
        _ if at(&names.event_type) == CHUNK => (names.event_type, Content::Wrapped),
        _ => (names.event_type, Content::Json),
    })
}

/// Where the headers that tell what a message is have their values.
#[derive(Default)]
struct HeaderPlaces {
    message_type: Option<Range<usize>>,
    event_type: Option<Range<usize>>,
    exception_type: Option<Range<usize>>,
}

impl HeaderPlaces {
    /// `None`: the headers do not fill their place exactly.
    fn read(raw: &[u8], place: Range<usize>) -> Option<HeaderPlaces> {
        let mut names = HeaderPlaces::default();
        let headers = raw.get(..place.end)?;
        let mut at = place.start;
        while at < headers.len() {
            let name_len = usize::from(*headers.get(at)?);
            let name = headers.get(at + 1..at + 1 + name_len)?;
            at += 1 + name_len;
            let kind = *headers.get(at)?;
            at += 1;
            let len = match kind {
                0 | 1 => 0,
                2 => 1,
                3 => 2,
                4 => 4,
                5 | 8 => 8,
                // Bytes and text tell their length.
                6 | 7 => {
                    let len = u16::from_be_bytes(*headers.get(at..)?.first_chunk()?);
                    at += 2;
                    usize::from(len)
                }
                9 => 16,
                _ => return None,
            };
            let value = at..at + len;
            headers.get(value.clone())?;
            at = value.end;
            let slot = match name {
                b":message-type" => &mut names.message_type,
                b":event-type" => &mut names.event_type,
                b":exception-type" => &mut names.exception_type,
                _ => continue,
            };
            *slot = (kind == 7).then_some(value);
        }
        Some(names)
    }
}
