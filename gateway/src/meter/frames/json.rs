//! The elements of one JSON array as they arrive (Gemini streams so without `alt=sse`), or JSON documents one after the
//! other. Finds where elements end; whether they are well-formed is for their reader to say.

use memchr::memchr2;

use super::{Data, Found};

#[derive(Debug, Default)]
pub(super) struct JsonScanner {
    /// Bytes of the frame that are looked at.
    pos: usize,
    /// Where the element starts in the frame, once it does.
    start: Option<usize>,
    /// Containers open inside the element.
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// Inside the outer array.
    in_array: bool,
    /// The outer array is over.
    closed: bool,
    /// The same of the frames handed out: what a client has seen when the one at hand is held back.
    passed: Passed,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Passed {
    #[default]
    Nothing,
    /// Documents one after the other.
    Documents,
    /// The array and some of its elements.
    Elements,
    /// The array and its end.
    All,
}

impl JsonScanner {
    pub(super) fn find(&mut self, bytes: &[u8]) -> Option<Found> {
        while self.pos < bytes.len() {
            if self.in_string {
                self.string(bytes);
                if !self.in_string && self.depth == 0 {
                    return Some(self.element(self.pos));
                }
                continue;
            }
            let byte = bytes.get(self.pos).copied().unwrap_or_default();
            if let Some(start) = self.start {
                if let Some(end) = self.inside(byte) {
                    return Some(self.element(end.max(start)));
                }
            } else if self.between(byte) {
                return Some(Found {
                    raw_len: self.pos,
                    event: None,
                    data: Data::None,
                });
            }
        }
        None
    }

    pub(super) fn finish(&mut self, bytes: &[u8]) -> Found {
        let data = self
            .start
            .map_or(Data::None, |start| Data::Raw(start..bytes.trim_ascii_end().len()));
        Found {
            raw_len: bytes.len(),
            event: None,
            data,
        }
    }

    pub(super) fn reset(&mut self) {
        let passed = match (self.closed, self.in_array) {
            (true, _) => Passed::All,
            (false, true) => Passed::Elements,
            (false, false) => Passed::Documents,
        };
        *self = JsonScanner {
            in_array: self.in_array,
            closed: self.closed,
            passed,
            ..JsonScanner::default()
        };
    }

    /// `document` as the last element of the array after the frames handed out, and the array's end.
    pub(super) fn closing(&self, document: &[u8]) -> Vec<u8> {
        let (before, after): (&[u8], &[u8]) = match self.passed {
            Passed::Nothing => (b"[", b"]\n"),
            Passed::Documents => (b"\n", b"\n"),
            Passed::Elements => (b",\n", b"\n]\n"),
            // Nothing can follow that leaves it JSON.
            Passed::All => return Vec::new(),
        };
        [before, document, after].concat()
    }

    /// No array is left open.
    pub(super) fn is_whole(&self) -> bool {
        !self.in_array
    }

    /// All of `bytes` was looked at, and the frame is not over.
    pub(super) fn start_passing(&mut self, bytes: &[u8], sink: &mut dyn FnMut(&[u8])) -> bool {
        sink(self.start.and_then(|start| bytes.get(start..)).unwrap_or_default());
        false
    }

    /// The frame's earlier bytes are gone; where they stood no longer matters.
    pub(super) fn pass(&mut self, chunk: &[u8], sink: &mut dyn FnMut(&[u8])) -> Option<usize> {
        self.pos = 0;
        if self.start.is_some() {
            self.start = Some(0);
        }
        let end = self.find(chunk).map(|found| found.raw_len);
        if let Some(start) = self.start {
            sink(chunk.get(start..end.unwrap_or(chunk.len())).unwrap_or_default());
        }
        end
    }

    fn element(&self, end: usize) -> Found {
        Found {
            raw_len: end,
            event: None,
            data: Data::Raw(self.start.unwrap_or(end)..end),
        }
    }

    /// Goes to the end of the string, or of the bytes.
    fn string(&mut self, bytes: &[u8]) {
        if self.escaped {
            self.escaped = false;
            self.pos += 1;
            return;
        }
        match memchr2(b'"', b'\\', bytes.get(self.pos..).unwrap_or_default()) {
            None => self.pos = bytes.len(),
            Some(at) => {
                self.pos += at + 1;
                match bytes.get(self.pos - 1) {
                    Some(b'\\') => self.escaped = true,
                    _ => self.in_string = false,
                }
            }
        }
    }

    /// One byte inside an element; its end if it is over.
    fn inside(&mut self, byte: u8) -> Option<usize> {
        match byte {
            // A number or a literal ends before what follows it.
            b',' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n' if self.depth == 0 => return Some(self.pos),
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            b'"' => self.in_string = true,
            _ => {}
        }
        self.pos += 1;
        (matches!(byte, b'}' | b']') && self.depth == 0).then_some(self.pos)
    }

    /// One byte between elements. True: the outer array is over, and these bytes are a frame of their own.
    fn between(&mut self, byte: u8) -> bool {
        let at = self.pos;
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' | b',' => {}
            b'[' if !self.in_array && !self.closed => self.in_array = true,
            b']' if self.in_array => {
                self.in_array = false;
                self.closed = true;
                self.pos += 1;
                return true;
            }
            _ => {
                self.start = Some(at);
                match byte {
                    b'{' | b'[' => self.depth = 1,
                    b'"' => self.in_string = true,
                    _ => {}
                }
            }
        }
        self.pos += 1;
        false
    }
}
