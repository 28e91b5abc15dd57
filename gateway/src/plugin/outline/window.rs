//! What must be kept of a document that arrives in pieces: the wanted values that are open, and a sample of its text.

use std::borrow::Cow;
use std::ops::Range;

use super::build::Source;

/// Text kept of one document, as JSON writes it. What is made of it is a sample of 16 KiB at most.
const TEXT_BYTES_MAX: usize = 32 << 10;
/// Values kept beside the text, such as ids.
const VALUES_BYTES_MAX: usize = 4 << 10;
/// The longest escape is a pair of surrogates: `\ud83d\ude00`.
const ESCAPE_BYTES_MAX: usize = 12;

/// The last bytes of the document, from where the first wanted value starts that is open and may still be shown whole.
///
/// Places count the bytes that were kept or let go since the document's start, so that a value's length is the difference
/// of its places, and one that has grown too long stays so.
#[derive(Default)]
pub(super) struct Window {
    bytes: Vec<u8>,
    /// The place of the first byte kept.
    base: usize,
    watches: Vec<Watch>,
    /// Watches whose value is not too long.
    alive: usize,
}

#[derive(Clone, Copy)]
struct Watch {
    start: usize,
    bytes_max: usize,
    alive: bool,
}

impl Window {
    /// Bytes are kept.
    pub(super) fn is_open(&self) -> bool {
        self.alive > 0
    }

    /// The place of the next byte.
    pub(super) fn place(&self) -> usize {
        self.base + self.bytes.len()
    }

    /// A wanted value starts here.
    pub(super) fn watch(&mut self, bytes_max: usize) {
        self.watches.push(Watch {
            start: self.place(),
            bytes_max,
            alive: true,
        });
        self.alive += 1;
    }

    /// The innermost wanted value has ended.
    pub(super) fn unwatch(&mut self) {
        if self.watches.pop().is_some_and(|watch| watch.alive) {
            self.alive -= 1;
        }
        if self.alive == 0 {
            self.drop_before(self.place());
        }
    }

    /// No value that is open can be shown whole.
    pub(super) fn abandon(&mut self) {
        self.watches.iter_mut().for_each(|watch| watch.alive = false);
        self.alive = 0;
        self.drop_before(self.place());
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.alive == 0 || bytes.is_empty() {
            return;
        }
        let end = self.place() + bytes.len();
        let mut first = None;
        for watch in self.watches.iter_mut().filter(|watch| watch.alive) {
            if end - watch.start > watch.bytes_max {
                watch.alive = false;
                self.alive -= 1;
            } else if first.is_none() {
                first = Some(watch.start);
            }
        }
        match first {
            // Values nest: what starts first is needed longest.
            Some(start) => {
                self.drop_before(start);
                self.bytes.extend_from_slice(bytes);
            }
            None => {
                self.bytes.clear();
                self.base = end;
            }
        }
    }

    /// Puts `text` in place of all from `place` on.
    pub(super) fn replace_from(&mut self, place: usize, text: &[u8]) {
        if let Some(at) = place.checked_sub(self.base) {
            self.bytes.truncate(at);
        }
        self.push(text);
    }

    /// Puts a byte before the one at `place`.
    pub(super) fn insert(&mut self, place: usize, byte: u8) {
        if let Some(at) = place.checked_sub(self.base).filter(|at| *at <= self.bytes.len()) {
            self.bytes.insert(at, byte);
        }
    }

    /// Puts a blank in place of the byte at `place`.
    pub(super) fn blank(&mut self, place: usize) {
        let at = place.checked_sub(self.base);
        if let Some(byte) = at.and_then(|at| self.bytes.get_mut(at)) {
            *byte = b' ';
        }
    }

    pub(super) fn bytes(&self, span: Range<usize>) -> Option<&[u8]> {
        self.bytes
            .get(span.start.checked_sub(self.base)?..span.end.checked_sub(self.base)?)
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    fn drop_before(&mut self, place: usize) {
        let gone = place.saturating_sub(self.base).min(self.bytes.len());
        if gone > 0 {
            self.bytes.drain(..gone);
            self.base += gone;
        }
    }
}

impl Source for Window {
    fn text(&self, span: Range<usize>) -> Option<Cow<'_, str>> {
        self.bytes(span)
            .filter(|raw| !raw.is_empty())
            .map(String::from_utf8_lossy)
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.bytes(at..at + 1)?.first().copied()
    }
}

/// What outlives the document: the start of its text, and ids. The ranges of its outline point into this.
#[derive(Default)]
pub(super) struct Remains {
    bytes: Vec<u8>,
    texts: usize,
    values: usize,
    /// Where the string starts that is being kept.
    open: Option<usize>,
    /// What was kept of a string that was too long.
    cut: Option<Range<usize>>,
}

impl Remains {
    /// A string starts; its quotes are kept as well, for whoever unescapes it.
    pub(super) fn open_text(&mut self) {
        if self.texts < TEXT_BYTES_MAX {
            self.bytes.push(b'"');
            self.open = Some(self.bytes.len());
        }
    }

    /// Bytes of the string at hand are kept.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub(super) fn push_text(&mut self, bytes: &[u8]) {
        let Some(start) = self.open else { return };
        let room = TEXT_BYTES_MAX.saturating_sub(self.texts + self.bytes.len() - start);
        let kept = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        self.bytes.extend_from_slice(kept);
        if kept.len() < bytes.len() {
            self.open = None;
            self.trim(start);
            self.cut = Some(self.end_text(start));
            self.texts = TEXT_BYTES_MAX;
        }
    }

    /// The string's end; where it was kept. `None`: nothing of it was.
    pub(super) fn close_text(&mut self) -> Option<Range<usize>> {
        match self.open.take() {
            Some(start) => Some(self.end_text(start)),
            None => self.cut.take(),
        }
    }

    /// Keeps a short value.
    pub(super) fn value(&mut self, raw: &[u8]) -> Option<Range<usize>> {
        if self.open.is_some() || self.values + raw.len() > VALUES_BYTES_MAX {
            return None;
        }
        self.values += raw.len();
        let start = self.bytes.len();
        self.bytes.extend_from_slice(raw);
        Some(start..self.bytes.len())
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Ends what is kept of a string where neither an escape nor a character is torn.
    fn trim(&mut self, start: usize) {
        let from = self.bytes.len().saturating_sub(ESCAPE_BYTES_MAX).max(start);
        let tail = self.bytes.get(from..).unwrap_or_default();
        let escape = memchr::memchr(b'\\', tail).map_or(self.bytes.len(), |at| from + at);
        let whole = |byte: &u8| byte & 0xc0 != 0x80;
        let torn = self.bytes.get(start..escape).unwrap_or_default();
        let end = match torn.last() {
            Some(last) if last.is_ascii() => escape,
            _ => torn.iter().rposition(whole).map_or(start, |at| start + at),
        };
        self.bytes.truncate(end);
    }

    fn end_text(&mut self, start: usize) -> Range<usize> {
        let end = self.bytes.len();
        self.bytes.push(b'"');
        self.texts = self.texts.saturating_add(end - start);
        start..end
    }
}
