//! Server-sent events: lines end in LF, CRLF or CR, a blank line ends an event.

use std::ops::Range;

use memchr::memchr2;

use super::{Data, Found};

/// A joined text that grew beyond this is given back.
const SCRATCH_KEPT_BYTES: usize = 4 << 10;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LineEnd {
    /// No line has ended yet.
    #[default]
    Unknown,
    /// LF or CRLF.
    Feed,
    /// CR alone.
    Return,
}

#[derive(Debug, Default)]
pub(super) struct SseScanner {
    /// Where the current line starts in the frame.
    line: usize,
    /// Up to here the current line has no end in it.
    seek: usize,
    event: Option<Range<usize>>,
    data: Option<Range<usize>>,
    data_lines: usize,
    scratch: Vec<u8>,
    /// How the line before ended: it tells whether a CR that no byte follows yet is a whole line end.
    last_end: LineEnd,
    /// The first line of the stream is over: a byte order mark counts only before it.
    begun: bool,
    passing: Option<Box<Passing>>,
}

/// Longest name of an event that is kept of a frame that passes.
const EVENT_BYTES_MAX: usize = 256;
/// No name of a field is longer, a byte order mark before it included.
const NAME_BYTES_MAX: usize = 8;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What must be known of the bytes before, inside a frame that passes.
#[derive(Debug, Default)]
struct Passing {
    line: Line,
    /// The name of the line's field so far.
    name: Vec<u8>,
    /// The line is the stream's first.
    is_first: bool,
    data_lines: usize,
    event: Option<Vec<u8>>,
    /// The next byte may be the blank that belongs to the colon.
    after_colon: bool,
    /// The last byte was a CR: an LF belongs to it.
    after_cr: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Line {
    #[default]
    Name,
    Data,
    Event,
    Other,
}

impl Passing {
    /// Some bytes of the line, without its end.
    fn piece(&mut self, mut piece: &[u8], sink: &mut dyn FnMut(&[u8])) {
        if self.line == Line::Name {
            let room = (NAME_BYTES_MAX + 1).saturating_sub(self.name.len());
            self.name
                .extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or_default());
            return;
        }
        if !piece.is_empty() && std::mem::take(&mut self.after_colon) {
            piece = piece.strip_prefix(b" ").unwrap_or(piece);
        }
        match (self.line, &mut self.event) {
            (Line::Data, _) => sink(piece),
            (Line::Event, Some(event)) => {
                let room = (EVENT_BYTES_MAX + 1).saturating_sub(event.len());
                event.extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or_default());
            }
            _ => {}
        }
    }

    /// The field's name is over.
    fn begin_value(&mut self, sink: &mut dyn FnMut(&[u8])) {
        let mark = if self.is_first { BYTE_ORDER_MARK } else { b"" };
        self.line = match self.name.strip_prefix(mark).unwrap_or(&self.name) {
            b"data" => Line::Data,
            b"event" => Line::Event,
            _ => Line::Other,
        };
        self.after_colon = true;
        match self.line {
            Line::Data => {
                if self.data_lines > 0 {
                    sink(b"\n");
                }
                self.data_lines += 1;
            }
            Line::Event => self.event = Some(Vec::new()),
            Line::Name | Line::Other => {}
        }
    }

    /// True: it was blank.
    fn end_line(&mut self, sink: &mut dyn FnMut(&[u8])) -> bool {
        let mark = if self.is_first { BYTE_ORDER_MARK } else { b"" };
        if self.line == Line::Name {
            if self.name.strip_prefix(mark).unwrap_or(&self.name).is_empty() {
                return true;
            }
            // A name alone is a field without a value.
            self.begin_value(sink);
        }
        self.line = Line::Name;
        self.name.clear();
        self.is_first = false;
        self.after_colon = false;
        false
    }
}

impl SseScanner {
    pub(super) fn find(&mut self, bytes: &[u8]) -> Option<Found> {
        loop {
            let Some(at) = memchr2(b'\n', b'\r', bytes.get(self.seek..).unwrap_or_default()) else {
                self.seek = bytes.len();
                return None;
            };
            let end = self.seek + at;
            let blank = self.is_blank(bytes, end);
            let (next, kind) = match (bytes.get(end), bytes.get(end + 1)) {
                (Some(b'\n'), _) => (end + 1, LineEnd::Feed),
                // Where lines end in CR alone, a blank one is over at once: nothing may follow for a while. Should an
                // LF follow all the same, it is a blank line of its own, which changes nothing.
                _ if blank && self.last_end == LineEnd::Return => (end + 1, LineEnd::Return),
                (_, Some(b'\n')) => (end + 2, LineEnd::Feed),
                (_, Some(_)) => (end + 1, LineEnd::Return),
                (_, None) => {
                    self.seek = end;
                    return None;
                }
            };
            self.last_end = kind;
            if blank {
                return Some(self.found(next));
            }
            self.field(bytes, end);
            self.line = next;
            self.seek = next;
        }
    }

    pub(super) fn finish(&mut self, bytes: &[u8]) -> Found {
        let line_end = match bytes.last() {
            // A CR that waited for an LF ends the last line.
            Some(b'\r') if self.line < bytes.len() => bytes.len() - 1,
            _ => bytes.len(),
        };
        if self.line < line_end {
            self.field(bytes, line_end);
        }
        self.found(bytes.len())
    }

    pub(super) fn reset(&mut self) {
        self.line = 0;
        self.seek = 0;
        self.event = None;
        self.data = None;
        self.data_lines = 0;
        self.passing = None;
        self.scratch.clear();
        self.scratch.shrink_to(SCRATCH_KEPT_BYTES);
    }

    pub(super) fn joined(&self) -> &[u8] {
        &self.scratch
    }

    /// The frame is let go: it is read anew as it passes.
    pub(super) fn start_passing(&mut self, bytes: &[u8], sink: &mut dyn FnMut(&[u8])) -> bool {
        self.passing = Some(Box::new(Passing {
            is_first: !self.begun,
            ..Passing::default()
        }));
        self.begun = true;
        self.pass(bytes, sink).is_some()
    }

    /// A line's data goes to `sink` as it comes. A blank line that ends in CR ends the frame at once.
    pub(super) fn pass(&mut self, chunk: &[u8], sink: &mut dyn FnMut(&[u8])) -> Option<usize> {
        let passing = self.passing.get_or_insert_default();
        let mut at = 0;
        while let Some(rest) = chunk.get(at..).filter(|rest| !rest.is_empty()) {
            if std::mem::take(&mut passing.after_cr) && rest.first() == Some(&b'\n') {
                at += 1;
                continue;
            }
            let stop = match passing.line {
                Line::Name => rest.iter().position(|byte| matches!(byte, b':' | b'\n' | b'\r')),
                _ => memchr2(b'\n', b'\r', rest),
            };
            let piece = rest.get(..stop.unwrap_or(rest.len())).unwrap_or_default();
            passing.piece(piece, sink);
            let byte = stop.and_then(|stop| rest.get(stop));
            at += piece.len() + usize::from(stop.is_some());
            match byte {
                Some(b':') => passing.begin_value(sink),
                Some(byte) => {
                    passing.after_cr = *byte == b'\r';
                    if passing.end_line(sink) {
                        return Some(at);
                    }
                }
                None => {}
            }
        }
        None
    }

    pub(super) fn passed_event(&self) -> Option<&str> {
        let event = self.passing.as_ref()?.event.as_deref()?;
        std::str::from_utf8(event).ok()
    }

    fn is_blank(&self, bytes: &[u8], end: usize) -> bool {
        self.line_start(bytes) >= end
    }

    /// Where the line's text starts: behind the byte order mark in the first line of the stream.
    fn line_start(&self, bytes: &[u8]) -> usize {
        if !self.begun
            && bytes
                .get(self.line..)
                .is_some_and(|line| line.starts_with(b"\xef\xbb\xbf"))
        {
            self.line + 3
        } else {
            self.line
        }
    }

    fn field(&mut self, bytes: &[u8], end: usize) {
        let start = self.line_start(bytes);
        self.begun = true;
        let line = bytes.get(start..end).unwrap_or_default();
        if let Some(skipped) = value_of(line, b"data") {
            self.data_lines += 1;
            let range = start + skipped..end;
            if self.data_lines == 1 {
                self.data = Some(range);
                return;
            }
            if self.data_lines == 2 {
                let first = self.data.clone().and_then(|first| bytes.get(first)).unwrap_or_default();
                self.scratch.extend_from_slice(first);
            }
            self.scratch.push(b'\n');
            self.scratch.extend_from_slice(bytes.get(range).unwrap_or_default());
        } else if let Some(skipped) = value_of(line, b"event") {
            self.event = Some(start + skipped..end);
        }
    }

    fn found(&mut self, raw_len: usize) -> Found {
        self.begun = true;
        let data = match self.data.take() {
            None => Data::None,
            Some(_) if self.data_lines > 1 => Data::Joined,
            Some(range) => Data::Raw(range),
        };
        Found {
            raw_len,
            event: self.event.take(),
            data,
        }
    }
}

/// Where the value starts in a line that is this field: behind the colon and at most one space.
fn value_of(line: &[u8], name: &[u8]) -> Option<usize> {
    let rest = line.strip_prefix(name)?;
    match rest {
        [] => Some(name.len()),
        [b':', b' ', ..] => Some(name.len() + 2),
        [b':', ..] => Some(name.len() + 1),
        _ => None,
    }
}
