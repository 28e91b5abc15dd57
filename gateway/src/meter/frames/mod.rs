//! Cuts an answer's bytes into frames, exactly and at any byte split: the same bytes give the same frames however they
//! arrive. Every byte belongs to exactly one frame, so that a relay can hold back, hide or forward frame by frame.

mod aws;
mod aws_passing;
#[cfg(test)]
pub(super) mod aws_tests;
mod json;
mod sse;
#[cfg(test)]
mod tests;
pub mod websocket;

use std::ops::Range;

use memchr::{memchr, memchr2, memchr3};

/// Buffers that grew beyond this are given back once they are empty: an idle stream costs little.
const BUFFER_KEPT_BYTES: usize = 4 << 10;

/// How frames are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Server-sent events.
    Sse,
    /// The elements of one JSON array, or JSON documents one after the other.
    JsonArray,
    /// One JSON document a line.
    Ndjson,
    /// AWS's binary messages, checked by their checksums.
    AwsEventStream,
}

/// What is wrong with a stream's framing. Its bytes pass all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameFault {
    #[error("the checksum of a message's prelude is wrong")]
    PreludeCrc,
    #[error("the checksum of a message is wrong")]
    MessageCrc,
    #[error("a message has lengths that cannot be")]
    Length,
    #[error("a message's headers do not fill their place")]
    Headers,
    #[error("the stream ends within a message")]
    Truncated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// An event or an element, with its data.
    Data,
    /// Bytes that carry no data: comments, blank lines, brackets.
    Filler,
    /// Some bytes of a frame longer than the limit, which is not held: its data follows piece by piece.
    Part,
    /// The last of them, which may have none. Its event is the frame's.
    LastPart,
    /// A frame whose framing is at fault. What its parts said, if there were any, is not to be believed.
    Unread,
}

/// One frame of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub kind: FrameKind,
    /// The name of the event, where it has one.
    pub event: Option<&'a str>,
    /// What the frame carries, without its framing: the data lines of an event joined by a line feed.
    pub data: &'a [u8],
    /// Bytes of the answer that this frame takes, framing included.
    pub raw_len: usize,
}

/// Where one complete frame's parts stand in its raw bytes.
#[derive(Clone, Debug, Default)]
struct Found {
    raw_len: usize,
    event: Option<Range<usize>>,
    data: Data,
}

#[derive(Clone, Debug, Default)]
enum Data {
    #[default]
    None,
    /// Inside the raw bytes.
    Raw(Range<usize>),
    /// Joined from several lines, or unwrapped, in the scanner's scratch.
    Joined,
    /// Not to be read: the framing is at fault.
    Unreadable,
}

/// A push parser: bytes in, frames out. The sum of `raw_len` over all frames plus [`Framer::pending`] is at any time
/// the number of bytes pushed.
#[derive(Debug)]
pub struct Framer {
    scanner: Scanner,
    /// The beginning of the frame that is not complete yet.
    buffer: Vec<u8>,
    frame_bytes_max: usize,
    /// Inside a frame that is too long to be held: its bytes pass as they come.
    passing: bool,
    oversized: u64,
}

#[derive(Debug)]
enum Scanner {
    Sse(sse::SseScanner),
    Json(json::JsonScanner),
    Line(LineScanner),
    Aws(aws::AwsScanner),
}

impl Framer {
    /// Frames longer than `frame_bytes_max` bytes, framing included, come in parts.
    pub fn new(framing: Framing, frame_bytes_max: usize) -> Framer {
        let scanner = match framing {
            Framing::Sse => Scanner::Sse(sse::SseScanner::default()),
            Framing::JsonArray => Scanner::Json(json::JsonScanner::default()),
            Framing::Ndjson => Scanner::Line(LineScanner::default()),
            Framing::AwsEventStream => Scanner::Aws(aws::AwsScanner::default()),
        };
        Framer {
            scanner,
            buffer: Vec::new(),
            frame_bytes_max,
            passing: false,
            oversized: 0,
        }
    }

    /// Bytes pushed that belong to no frame handed out yet: what a relay holds back.
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// The bytes that end the stream after the frames handed out so far. `event` is a server-sent event, or bare JSON where the
    /// dialect's errors are: a stream of another framing gets its data framed like the rest. `None`: a frame of which parts have passed is not over, and
    /// nothing can stand after it.
    pub fn closing(&self, event: Vec<u8>) -> Option<Vec<u8>> {
        if self.passing {
            return None;
        }
        match &self.scanner {
            Scanner::Sse(_) => Some(event),
            Scanner::Json(scanner) => Some(scanner.closing(json_of(&event))),
            Scanner::Line(_) => Some([json_of(&event), b"\n"].concat()),
            // The plugin writes the whole message.
            Scanner::Aws(_) => Some(event),
        }
    }

    /// The stream lacks no end that its framing has.
    pub fn is_whole(&self) -> bool {
        match &self.scanner {
            Scanner::Json(scanner) => scanner.is_whole(),
            Scanner::Aws(scanner) => scanner.fault().is_none(),
            Scanner::Sse(_) | Scanner::Line(_) => true,
        }
    }

    /// Frames that were too long to be held.
    pub fn oversized(&self) -> u64 {
        self.oversized
    }

    /// The first thing that was wrong with the framing.
    pub fn fault(&self) -> Option<FrameFault> {
        match &self.scanner {
            Scanner::Aws(scanner) => scanner.fault(),
            Scanner::Sse(_) | Scanner::Json(_) | Scanner::Line(_) => None,
        }
    }

    /// No further frame can be found: all that follows passes unread.
    pub fn is_broken(&self) -> bool {
        matches!(&self.scanner, Scanner::Aws(scanner) if scanner.is_broken())
    }

    /// Hands the frames that `chunk` completes to `sink`, in order.
    pub fn push(&mut self, mut chunk: &[u8], sink: &mut dyn FnMut(Frame<'_>)) {
        while !chunk.is_empty() {
            let taken = if self.is_broken() {
                sink(unread(chunk.len()));
                chunk.len()
            } else if self.passing {
                self.push_passing(chunk, sink)
            } else if self.buffer.is_empty() {
                self.push_direct(chunk, sink)
            } else {
                self.push_buffered(chunk, sink)
            };
            chunk = chunk.get(taken..).unwrap_or_default();
        }
    }

    /// Hands out what is left as a last frame: an event needs no blank line at the end of its stream.
    pub fn finish(&mut self, sink: &mut dyn FnMut(Frame<'_>)) {
        if self.passing && !self.is_broken() {
            sink(self.scanner.end_parts());
        } else if !self.buffer.is_empty() {
            let buffer = std::mem::take(&mut self.buffer);
            let found = self.scanner.finish(&buffer);
            emit(&self.scanner, &found, &buffer, false, sink);
        }
        self.scanner.reset();
        self.passing = false;
    }

    /// The frame starts in this chunk: no byte is copied if it ends here too.
    fn push_direct(&mut self, chunk: &[u8], sink: &mut dyn FnMut(Frame<'_>)) -> usize {
        match self.scanner.find(chunk) {
            Some(found) => {
                self.complete(&found, chunk, sink);
                found.raw_len
            }
            None => {
                self.buffer.extend_from_slice(chunk);
                self.limit(sink);
                chunk.len()
            }
        }
    }

    /// The frame started in an earlier chunk: its bytes are added up to each place where it may end.
    fn push_buffered(&mut self, chunk: &[u8], sink: &mut dyn FnMut(Frame<'_>)) -> usize {
        let mut taken = 0;
        while let Some(rest) = chunk.get(taken..).filter(|rest| !rest.is_empty()) {
            let stop = self.scanner.next_stop(rest);
            self.buffer.extend_from_slice(rest.get(..stop).unwrap_or(rest));
            taken += stop;
            if let Some(found) = self.scanner.find(&self.buffer) {
                // A frame whose end showed only through the byte after it leaves that byte to the next one.
                taken = taken.saturating_sub(self.buffer.len().saturating_sub(found.raw_len));
                let mut buffer = std::mem::take(&mut self.buffer);
                self.complete(&found, &buffer, sink);
                buffer.clear();
                buffer.shrink_to(BUFFER_KEPT_BYTES);
                self.buffer = buffer;
                return taken;
            }
            if self.buffer.len() > self.frame_bytes_max {
                self.limit(sink);
                return taken;
            }
        }
        taken
    }

    fn push_passing(&mut self, chunk: &[u8], sink: &mut dyn FnMut(Frame<'_>)) -> usize {
        let end = self.scanner.pass(chunk, &mut |data| sink(part(data, 0)));
        let taken = end.unwrap_or(chunk.len());
        self.parted(end.is_some(), taken, sink);
        taken
    }

    fn complete(&mut self, found: &Found, raw: &[u8], sink: &mut dyn FnMut(Frame<'_>)) {
        let is_long = found.raw_len > self.frame_bytes_max && !self.is_broken();
        if is_long {
            self.oversized += 1;
        }
        emit(&self.scanner, found, raw, is_long, sink);
        self.scanner.reset();
    }

    /// Lets go of a frame that has grown too long.
    fn limit(&mut self, sink: &mut dyn FnMut(Frame<'_>)) {
        if self.buffer.len() <= self.frame_bytes_max {
            return;
        }
        let buffer = std::mem::take(&mut self.buffer);
        self.oversized += 1;
        let is_over = self.scanner.start_passing(&buffer, &mut |data| sink(part(data, 0)));
        self.parted(is_over, buffer.len(), sink);
    }

    /// Bytes of a frame have passed in parts, perhaps its last ones.
    fn parted(&mut self, is_over: bool, raw_len: usize, sink: &mut dyn FnMut(Frame<'_>)) {
        self.passing = !is_over;
        if is_over {
            sink(Frame {
                raw_len,
                ..self.scanner.end_parts()
            });
            self.scanner.reset();
        } else {
            sink(part(&[], raw_len));
        }
    }
}

/// The data of an event of one data line, or the bare JSON, as plugins write them.
fn json_of(event: &[u8]) -> &[u8] {
    if event.starts_with(b"{") {
        return event.trim_ascii_end();
    }
    let mut lines = event.split(|byte| *byte == b'\n');
    lines.find_map(|line| line.strip_prefix(b"data: ")).unwrap_or_default()
}

fn unread<'a>(raw_len: usize) -> Frame<'a> {
    Frame {
        kind: FrameKind::Unread,
        event: None,
        data: &[],
        raw_len,
    }
}

fn part(data: &[u8], raw_len: usize) -> Frame<'_> {
    Frame {
        kind: FrameKind::Part,
        event: None,
        data,
        raw_len,
    }
}

/// `is_long`: the frame is treated as one that came in parts, as it does when it is cut elsewhere.
fn emit(scanner: &Scanner, found: &Found, raw: &[u8], is_long: bool, sink: &mut dyn FnMut(Frame<'_>)) {
    let event = found.event.clone().and_then(|range| raw.get(range));
    let data = match &found.data {
        Data::Unreadable => return sink(unread(found.raw_len)),
        Data::None => None,
        Data::Raw(range) => raw.get(range.clone()),
        Data::Joined => Some(scanner.joined()),
    };
    let kind = match data {
        _ if is_long => FrameKind::LastPart,
        Some(_) => FrameKind::Data,
        None => FrameKind::Filler,
    };
    sink(Frame {
        kind,
        event: event.and_then(|name| std::str::from_utf8(name).ok()),
        data: data.unwrap_or_default(),
        raw_len: found.raw_len,
    });
}

impl Scanner {
    /// Goes on looking for the frame's end in `bytes`, which start where the frame starts and are at least those of
    /// the last call.
    fn find(&mut self, bytes: &[u8]) -> Option<Found> {
        match self {
            Scanner::Sse(scanner) => scanner.find(bytes),
            Scanner::Json(scanner) => scanner.find(bytes),
            Scanner::Line(scanner) => scanner.find(bytes),
            Scanner::Aws(scanner) => scanner.find(bytes),
        }
    }

    /// The answer has ended: what the bytes left are.
    fn finish(&mut self, bytes: &[u8]) -> Found {
        match self {
            Scanner::Sse(scanner) => scanner.finish(bytes),
            Scanner::Json(scanner) => scanner.finish(bytes),
            Scanner::Line(_) => LineScanner::found(bytes, bytes.len()),
            Scanner::Aws(scanner) => scanner.finish(bytes),
        }
    }

    /// Forgets the frame, not the stream.
    fn reset(&mut self) {
        match self {
            Scanner::Sse(scanner) => scanner.reset(),
            Scanner::Json(scanner) => scanner.reset(),
            Scanner::Line(scanner) => scanner.seek = 0,
            Scanner::Aws(scanner) => scanner.reset(),
        }
    }

    /// Bytes of `chunk` up to and with the next one that may end a frame.
    fn next_stop(&self, chunk: &[u8]) -> usize {
        let at = match self {
            Scanner::Sse(_) => memchr2(b'\n', b'\r', chunk),
            Scanner::Json(_) => memchr3(b'}', b']', b',', chunk),
            Scanner::Line(_) => memchr(b'\n', chunk),
            Scanner::Aws(scanner) => return scanner.next_stop(chunk.len()),
        };
        at.map_or(chunk.len(), |at| at + 1)
    }

    /// The bytes of the frame so far are let go, and their data is handed to `sink`. True: the frame has just ended.
    fn start_passing(&mut self, bytes: &[u8], sink: &mut dyn FnMut(&[u8])) -> bool {
        match self {
            Scanner::Sse(scanner) => scanner.start_passing(bytes, sink),
            Scanner::Aws(scanner) => scanner.start_passing(bytes, sink),
            Scanner::Json(scanner) => scanner.start_passing(bytes, sink),
            Scanner::Line(_) => {
                sink(bytes);
                false
            }
        }
    }

    /// Bytes of `chunk` up to the end of the frame that passes, if it is there; their data goes to `sink`.
    fn pass(&mut self, chunk: &[u8], sink: &mut dyn FnMut(&[u8])) -> Option<usize> {
        match self {
            Scanner::Sse(scanner) => scanner.pass(chunk, sink),
            Scanner::Json(scanner) => scanner.pass(chunk, sink),
            Scanner::Aws(scanner) => scanner.pass(chunk, sink),
            Scanner::Line(_) => {
                let end = memchr(b'\n', chunk);
                sink(chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default());
                end.map(|at| at + 1)
            }
        }
    }

    /// What ends the parts of a frame, or the answer within them.
    fn end_parts(&mut self) -> Frame<'_> {
        let last = |event| Frame {
            kind: FrameKind::LastPart,
            event,
            data: &[],
            raw_len: 0,
        };
        match self {
            Scanner::Sse(scanner) => last(scanner.passed_event()),
            Scanner::Aws(scanner) => match scanner.end_parts() {
                Ok(event) => last(event),
                Err(()) => unread(0),
            },
            Scanner::Json(_) | Scanner::Line(_) => last(None),
        }
    }

    fn joined(&self) -> &[u8] {
        match self {
            Scanner::Sse(scanner) => scanner.joined(),
            Scanner::Aws(scanner) => scanner.joined(),
            Scanner::Json(_) | Scanner::Line(_) => &[],
        }
    }
}

/// Lines of JSON.
#[derive(Debug, Default)]
struct LineScanner {
    /// Bytes of the frame that are known to have no end in them.
    seek: usize,
}

impl LineScanner {
    fn find(&mut self, bytes: &[u8]) -> Option<Found> {
        match memchr(b'\n', bytes.get(self.seek..).unwrap_or_default()) {
            Some(at) => Some(LineScanner::found(bytes, self.seek + at + 1)),
            None => {
                self.seek = bytes.len();
                None
            }
        }
    }

    fn found(bytes: &[u8], raw_len: usize) -> Found {
        let line = bytes.get(..raw_len).unwrap_or_default().trim_ascii_end();
        let start = line.len() - line.trim_ascii_start().len();
        let data = if line.is_empty() {
            Data::None
        } else {
            Data::Raw(start..line.len())
        };
        Found {
            raw_len,
            event: None,
            data,
        }
    }
}
