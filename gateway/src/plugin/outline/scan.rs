//! The scanner of whole documents: iterative, so that depth costs a frame of its own stack and never the thread's.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use super::build::{Builder, Source};
use super::shape::{NONE, Shape};
use super::string::{decode, plain_len};
use super::{Bounds, Outline, OutlineError, OutlineErrorKind as Kind};

/// Keys of one object compared one by one; with more of them a hash set takes over.
const KEYS_LINEAR_MAX: usize = 16;

/// Reads one JSON document. Refuses everything that is not exactly one, beyond `bounds`, or ambiguous: a key twice in the
/// top-level object, in an object on the way to a wanted value, or in a wanted value.
pub fn outline(json: &[u8], shape: &Shape, bounds: impl Into<Bounds>) -> Result<Outline, OutlineError> {
    let text = std::str::from_utf8(json).map_err(|error| OutlineError {
        kind: Kind::Utf8,
        offset: error.valid_up_to(),
    })?;
    let bounds = bounds.into();
    let mut scanner = Scanner {
        text,
        bytes: json,
        pos: 0,
        shape,
        depth_max: bounds.depth_max as usize,
        keys_max: bounds.keys_max as usize,
        keys: Vec::with_capacity(16),
        builder: Builder::new(shape, json.len()),
    };
    scanner.builder.out.bytes = json.len() as u64;
    scanner.document()?;
    Ok(scanner.builder.out)
}

/// The keys of an open object.
#[derive(Default)]
struct Keys<'a> {
    /// They are compared: no key may come twice.
    checked: bool,
    start: usize,
    many: Option<HashSet<Cow<'a, [u8]>>>,
}

struct Scanner<'a, 's> {
    text: &'a str,
    /// The same.
    bytes: &'a [u8],
    pos: usize,
    shape: &'s Shape,
    depth_max: usize,
    keys_max: usize,
    /// Keys of the checked objects that are open, one after the other.
    keys: Vec<Cow<'a, [u8]>>,
    builder: Builder<Keys<'a>>,
}

/// The whole document is there.
struct Document<'a>(&'a str);

impl Source for Document<'_> {
    fn text(&self, span: Range<usize>) -> Option<Cow<'_, str>> {
        self.0.get(span).map(Cow::Borrowed)
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.0.as_bytes().get(at).copied()
    }
}

type Step<T> = Result<T, OutlineError>;

impl<'a> Scanner<'a, '_> {
    fn document(&mut self) -> Step<()> {
        self.space();
        let start = self.pos;
        // A container opens before its first value; anything else is a whole value.
        while self.value()? || self.after()? {}
        let inside = self
            .bytes
            .get(start + 1..self.pos.saturating_sub(1))
            .unwrap_or_default();
        let out = &mut self.builder.out;
        out.root = start..self.pos;
        out.root_empty =
            matches!(self.bytes.get(start), Some(b'{' | b'[')) && inside.iter().all(u8::is_ascii_whitespace);
        if out.doc.is_empty() {
            // A top-level scalar, or one of another kind than the paths expect: nothing wanted is in it.
            out.doc.push_str("{}");
        }
        self.space();
        if self.pos < self.bytes.len() {
            return self.fail(Kind::Trailing);
        }
        Ok(())
    }

    /// Reads a scalar or an empty container whole, or opens a container: true, and its first value is next.
    fn value(&mut self) -> Step<bool> {
        let context = self.builder.next;
        let start = self.pos;
        match self.peek()? {
            byte @ (b'{' | b'[') => return self.open(byte == b'{'),
            b'"' => {
                let (inside, _) = self.string()?;
                if self.builder.count_string(&context, inside.len() as u64) {
                    self.builder.out.text.push(inside);
                }
            }
            b't' => self.literal(b"true")?,
            b'f' => self.literal(b"false")?,
            b'n' => {
                self.literal(b"null")?;
                // `null` at a media path is no item.
                let source = &Document(self.text);
                self.builder.scalar(self.shape, &context, start..self.pos, source);
                return Ok(false);
            }
            b'-' | b'0'..=b'9' => self.number()?,
            _ => return self.fail(Kind::Syntax),
        }
        self.builder.count_item(self.shape, &context);
        let source = &Document(self.text);
        self.builder.scalar(self.shape, &context, start..self.pos, source);
        Ok(false)
    }

    fn open(&mut self, object: bool) -> Step<bool> {
        if self.builder.stack.len() >= self.depth_max {
            return self.fail(Kind::Depth);
        }
        let start = self.keys.len();
        self.builder.open(self.shape, object, self.pos, |checked| Keys {
            checked,
            start,
            many: None,
        });
        self.pos += 1;
        self.space();
        let close = if object { b'}' } else { b']' };
        if self.peek()? == close {
            self.pos += 1;
            self.close();
            return Ok(false);
        }
        self.next_value()?;
        Ok(true)
    }

    /// After a whole value: closes what ends here. False: there is no next value.
    fn after(&mut self) -> Step<bool> {
        loop {
            let Some(object) = self.builder.stack.last().map(|frame| frame.object) else {
                return Ok(false);
            };
            self.space();
            match (self.peek()?, object) {
                (b',', _) => {
                    self.pos += 1;
                    self.space();
                    self.next_value()?;
                    return Ok(true);
                }
                (b'}', true) | (b']', false) => {
                    self.pos += 1;
                    self.close();
                }
                _ => return self.fail(Kind::Syntax),
            }
        }
    }

    /// Reads the key, where there is one, and leaves the position at the value.
    fn next_value(&mut self) -> Step<()> {
        let Some(frame) = self.builder.stack.last() else {
            return self.fail(Kind::Syntax);
        };
        let (node, object, checked) = (frame.context.node, frame.object, frame.keys.checked);
        let mut child = NONE;
        if object {
            let at = self.pos;
            if self.peek()? != b'"' {
                return self.fail(Kind::Syntax);
            }
            let (inside, escaped) = self.string()?;
            if checked || node != NONE {
                let key = decode(self.bytes.get(inside).unwrap_or_default(), escaped);
                child = self.shape.member(node, &key);
                if checked {
                    self.remember(key, at)?;
                }
            }
            self.space();
            if self.peek()? != b':' {
                return self.fail(Kind::Syntax);
            }
            self.pos += 1;
            self.space();
        } else if node != NONE {
            child = self.shape.element(node);
        }
        self.builder.enter(self.shape, child, true);
        Ok(())
    }

    fn close(&mut self) {
        let source = &Document(self.text);
        if let Some(frame) = self.builder.close(self.shape, self.pos, source) {
            self.keys.truncate(frame.keys.start);
        }
    }

    /// Refuses a key that the open object already has, and one too many of them.
    fn remember(&mut self, key: Cow<'a, [u8]>, at: usize) -> Step<()> {
        let refused = |kind| Err(OutlineError { kind, offset: at });
        let Some(keys) = self.builder.stack.last_mut().map(|frame| &mut frame.keys) else {
            return Ok(());
        };
        if let Some(many) = &mut keys.many {
            return if many.len() >= self.keys_max {
                refused(Kind::Keys)
            } else if many.insert(key) {
                Ok(())
            } else {
                refused(Kind::DuplicateKey)
            };
        }
        let seen = self.keys.get(keys.start..).unwrap_or_default();
        if seen.contains(&key) {
            return refused(Kind::DuplicateKey);
        }
        if seen.len() < KEYS_LINEAR_MAX {
            self.keys.push(key);
        } else {
            let mut many: HashSet<_> = self.keys.drain(keys.start..).collect();
            many.insert(key);
            keys.many = Some(many);
        }
        Ok(())
    }
}

/// Tokens.
impl Scanner<'_, '_> {
    fn fail<T>(&self, kind: Kind) -> Step<T> {
        Err(OutlineError { kind, offset: self.pos })
    }

    fn peek(&self) -> Step<u8> {
        self.bytes.get(self.pos).copied().ok_or(OutlineError {
            kind: Kind::Eof,
            offset: self.bytes.len(),
        })
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.pos) {
            self.pos += 1;
        }
    }

    fn literal(&mut self, word: &[u8]) -> Step<()> {
        for byte in word {
            if self.peek()? != *byte {
                return self.fail(Kind::Syntax);
            }
            self.pos += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Step<()> {
        self.pos = number(self.bytes, self.pos)?;
        Ok(())
    }

    /// Reads a string; the range inside its quotes, and whether an escape is in it.
    fn string(&mut self) -> Step<(Range<usize>, bool)> {
        let (inside, escaped) = string(self.bytes, self.pos)?;
        self.pos = inside.end + 1;
        Ok((inside, escaped))
    }
}

const fn fault<T>(kind: Kind, offset: usize) -> Step<T> {
    Err(OutlineError { kind, offset })
}

fn digits(bytes: &[u8], start: usize) -> Step<usize> {
    let rest = bytes.get(start..).unwrap_or_default();
    match rest.iter().take_while(|byte| byte.is_ascii_digit()).count() {
        0 => fault(Kind::Number, start),
        count => Ok(start + count),
    }
}

/// Where the number ends that begins at `at`.
pub(super) fn number(bytes: &[u8], mut at: usize) -> Step<usize> {
    if bytes.get(at) == Some(&b'-') {
        at += 1;
    }
    if bytes.get(at) == Some(&b'0') {
        at += 1;
        if let Some(b'0'..=b'9') = bytes.get(at) {
            return fault(Kind::Number, at);
        }
    } else {
        at = digits(bytes, at)?;
    }
    if bytes.get(at) == Some(&b'.') {
        at = digits(bytes, at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = bytes.get(at) {
            at += 1;
        }
        at = digits(bytes, at)?;
    }
    Ok(at)
}

/// The string whose quote stands at `at`: the range inside its quotes, and whether an escape is in it.
pub(super) fn string(bytes: &[u8], at: usize) -> Step<(Range<usize>, bool)> {
    let start = at + 1;
    let mut at = start;
    let mut escaped = false;
    loop {
        at += plain_len(bytes.get(at..).unwrap_or_default());
        match bytes.get(at) {
            Some(b'"') => return Ok((start..at, escaped)),
            Some(b'\\') => {
                escaped = true;
                at += 1 + escape(bytes, at + 1)?;
            }
            end => return fault(if end.is_some() { Kind::Control } else { Kind::Eof }, at),
        }
    }
}

/// Length of the escape whose first byte after the backslash is at `at`.
fn escape(bytes: &[u8], at: usize) -> Step<usize> {
    match bytes.get(at) {
        None => fault(Kind::Eof, at),
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(1),
        Some(b'u') => match bytes.get(at + 1..at + 5) {
            Some(hex) if hex.iter().all(u8::is_ascii_hexdigit) => Ok(5),
            Some(_) => fault(Kind::Escape, at),
            None => fault(Kind::Eof, bytes.len()),
        },
        Some(_) => fault(Kind::Escape, at),
    }
}
