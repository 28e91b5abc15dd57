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
    skip: Skip,
}

/// What must be known of the bytes before, inside a frame that is skipped.
#[derive(Debug, Default)]
struct Skip {
    /// The current line is blank so far.
    blank: bool,
    /// The last byte was a CR: an LF belongs to it.
    after_cr: bool,
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
        self.scratch.clear();
        self.scratch.shrink_to(SCRATCH_KEPT_BYTES);
    }

    pub(super) fn joined(&self) -> &[u8] {
        &self.scratch
    }

    pub(super) fn start_skipping(&mut self, bytes: &[u8]) -> bool {
        self.begun = true;
        // Up to `seek` all is searched: a byte there is a CR that waits for its LF.
        let waiting = self.seek < bytes.len();
        if waiting && self.seek == self.line {
            return false;
        }
        self.skip = Skip {
            blank: waiting || self.line == bytes.len(),
            after_cr: waiting,
        };
        true
    }

    pub(super) fn skip(&mut self, chunk: &[u8]) -> Option<usize> {
        let mut from = 0;
        while let Some(at) = memchr2(b'\n', b'\r', chunk.get(from..).unwrap_or_default()) {
            let end = from + at;
            let feed = chunk.get(end) == Some(&b'\n');
            let second_half = feed && at == 0 && self.skip.after_cr;
            if !second_half && at == 0 && self.skip.blank {
                return Some(end + 1);
            }
            self.skip = Skip {
                blank: true,
                after_cr: !feed,
            };
            from = end + 1;
        }
        if from < chunk.len() {
            self.skip = Skip::default();
        }
        None
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
