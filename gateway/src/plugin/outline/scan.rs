//! The scanner: iterative, so that depth costs a frame of its own stack and never the thread's.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use super::shape::{NONE, NodeId, ROOT, Shape, Wanted, medium_index};
use super::string::{decode, plain_len};
use super::{DOC_BYTES_MAX, Outline, OutlineError, OutlineErrorKind as Kind, PIECES_MAX, Piece, TEXT_RANGES_MAX};
use crate::plugin::dialect::{Medium, ProgressPart};

/// Most outlines are no longer.
const DOC_BYTES_USUAL: usize = 512;
/// Keys of one object compared one by one; with more of them a hash set takes over.
const KEYS_LINEAR_MAX: usize = 16;

/// Reads one JSON document. Refuses everything that is not exactly one, deeper than `depth_max`, or ambiguous: a key
/// twice in the top-level object, in an object on the way to a wanted value, or in a wanted value.
pub fn outline(json: &[u8], shape: &Shape, depth_max: u32) -> Result<Outline, OutlineError> {
    let text = std::str::from_utf8(json).map_err(|error| OutlineError {
        kind: Kind::Utf8,
        offset: error.valid_up_to(),
    })?;
    let mut scanner = Scanner {
        text,
        bytes: json,
        pos: 0,
        shape,
        depth_max: depth_max as usize,
        stack: Vec::with_capacity(8),
        keys: Vec::with_capacity(16),
        next: Context {
            node: ROOT,
            shown: true,
            wanted: false,
            text: shape.all_text,
            medium: None,
            mark: 0,
            element: false,
        },
        out: Outline {
            bytes: json.len() as u64,
            doc: String::with_capacity(json.len().min(DOC_BYTES_USUAL)),
            spans: Vec::with_capacity(8),
            places: Vec::with_capacity(8),
            ..Outline::default()
        },
    };
    scanner.document()?;
    Ok(scanner.out)
}

/// What is known of a value before its first byte.
#[derive(Clone, Copy)]
struct Context {
    node: NodeId,
    /// The value may be shown in the outline.
    shown: bool,
    /// The value is inside a wanted one.
    wanted: bool,
    /// Strings here are text.
    text: bool,
    medium: Option<Medium>,
    /// Length of the outline before the value's comma and key: where to cut it off again.
    mark: usize,
    /// The value is an element, which keeps its place as `null`.
    element: bool,
}

struct Frame<'a> {
    context: Context,
    object: bool,
    start: usize,
    /// Members or elements so far.
    count: usize,
    /// The container is written into the outline as it is read.
    built: bool,
    /// Members or elements written into the outline.
    written: usize,
    /// Keys are compared: no key may come twice.
    checked: bool,
    keys_start: usize,
    many: Option<HashSet<Cow<'a, [u8]>>>,
    /// Elements that may be shown.
    items_max: usize,
}

struct Scanner<'a, 's> {
    text: &'a str,
    /// The same.
    bytes: &'a [u8],
    pos: usize,
    shape: &'s Shape,
    depth_max: usize,
    stack: Vec<Frame<'a>>,
    /// Keys of the checked objects that are open, one after the other.
    keys: Vec<Cow<'a, [u8]>>,
    /// The value that comes next.
    next: Context,
    out: Outline,
}

type Step<T> = Result<T, OutlineError>;

impl<'a> Scanner<'a, '_> {
    fn document(&mut self) -> Step<()> {
        self.space();
        let start = self.pos;
        // A container opens before its first value; anything else is a whole value.
        while self.value()? || self.after()? {}
        self.out.root = start..self.pos;
        let inside = self
            .bytes
            .get(start + 1..self.pos.saturating_sub(1))
            .unwrap_or_default();
        self.out.root_empty =
            matches!(self.bytes.get(start), Some(b'{' | b'[')) && inside.iter().all(u8::is_ascii_whitespace);
        if self.out.doc.is_empty() {
            // A top-level scalar, or one of another kind than the paths expect: nothing wanted is in it.
            self.out.doc.push_str("{}");
        }
        self.space();
        if self.pos < self.bytes.len() {
            return self.fail(Kind::Trailing);
        }
        Ok(())
    }

    /// Reads a scalar or an empty container whole, or opens a container: true, and its first value is next.
    fn value(&mut self) -> Step<bool> {
        let context = self.next;
        let start = self.pos;
        match self.peek()? {
            byte @ (b'{' | b'[') => return self.open(context, byte == b'{'),
            b'"' => {
                let (inside, _) = self.string()?;
                self.count_string(&context, inside);
            }
            b't' => self.literal(b"true")?,
            b'f' => self.literal(b"false")?,
            b'n' => {
                self.literal(b"null")?;
                self.finish(&context, start, false);
                // `null` at a media path is no item.
                return Ok(false);
            }
            b'-' | b'0'..=b'9' => self.number()?,
            _ => return self.fail(Kind::Syntax),
        }
        self.count_item(&context);
        self.finish(&context, start, false);
        Ok(false)
    }

    fn open(&mut self, context: Context, object: bool) -> Step<bool> {
        if self.stack.len() >= self.depth_max {
            return self.fail(Kind::Depth);
        }
        self.count_item(&context);
        let node = self.shape.node(context.node);
        let way = node.is_some_and(|node| {
            if object {
                node.object_on_path
            } else {
                node.array_on_path
            }
        });
        let built = context.shown && way;
        if built {
            self.out.doc.push(if object { '{' } else { '[' });
        }
        // A value that is only to be counted or found is not shown: what stands in it is its own affair.
        let is_shown = |want: Wanted| want.max_bytes > 0;
        let wanted = context.wanted || (context.shown && node.is_some_and(|node| node.want.is_some_and(is_shown)));
        let frame = Frame {
            context: Context { wanted, ..context },
            object,
            start: self.pos,
            count: 0,
            built,
            written: 0,
            checked: object && (self.stack.is_empty() || way || wanted),
            keys_start: self.keys.len(),
            many: None,
            items_max: node.map_or(0, |node| node.items_max as usize),
        };
        self.stack.push(frame);
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
            let Some(object) = self.stack.last().map(|frame| frame.object) else {
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
        let Some(frame) = self.stack.last() else {
            return self.fail(Kind::Syntax);
        };
        let (node, object, checked) = (frame.context.node, frame.object, frame.checked);
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
        self.enter(child);
        Ok(())
    }

    /// A child comes next: its comma and key are written where it may be shown.
    fn enter(&mut self, child: NodeId) {
        let node = self.shape.node(child);
        let mark = self.out.doc.len();
        let Some(frame) = self.stack.last_mut() else { return };
        let element = !frame.object;
        let within = !element || frame.count < frame.items_max;
        let shown = frame.built && within && node.is_some_and(|node| node.on_path) && mark < DOC_BYTES_MAX;
        if shown {
            if frame.written > 0 {
                self.out.doc.push(',');
            }
            frame.written += 1;
            if let Some(node) = node.filter(|_| frame.object) {
                push_key(&mut self.out.doc, &node.name);
            }
        }
        frame.count += 1;
        self.next = Context {
            node: child,
            shown,
            wanted: frame.context.wanted,
            text: frame.context.text || node.is_some_and(|node| node.text),
            medium: node.and_then(|node| node.medium).or(frame.context.medium),
            mark,
            element,
        };
    }

    fn close(&mut self) {
        let Some(frame) = self.stack.pop() else { return };
        self.keys.truncate(frame.keys_start);
        if frame.built {
            self.out.doc.push(if frame.object { '}' } else { ']' });
        }
        self.finish(&frame.context, frame.start, frame.built);
    }

    /// A value has ended: notes where it stood, and settles what the outline shows of it.
    fn finish(&mut self, context: &Context, start: usize, built: bool) {
        let span = start..self.pos;
        let Some(node) = self.shape.node(context.node) else {
            return;
        };
        if let Some(part) = node.progress {
            self.piece(part, node.progress_below, span.clone());
        }
        if !node.on_path {
            return;
        }
        if node.single && context.node != ROOT {
            self.out.places.push((context.node, span.clone()));
        }
        if let Some(want) = node.want
            && (context.shown || node.single)
        {
            self.out.spans.push((want.index, span.clone()));
            if context.shown && self.show(context, want, span, built) {
                return;
            }
        }
        if !context.shown || built {
            return;
        }
        // Left out: an element keeps its place, a member goes with its key.
        if context.element {
            self.out.doc.push_str("null");
        } else {
            self.out.doc.truncate(context.mark);
            if let Some(parent) = self.stack.last_mut() {
                parent.written = parent.written.saturating_sub(1);
            }
        }
    }

    /// Notes a value that tells of progress; of one that holds others only they count, and nothing is no value.
    fn piece(&mut self, part: ProgressPart, holds_others: bool, range: Range<usize>) {
        match self.bytes.get(range.start) {
            Some(b'n') => return,
            Some(b'{' | b'[') if holds_others => return,
            _ => {}
        }
        if self.out.pieces.len() >= PIECES_MAX {
            self.out.pieces.drain(..PIECES_MAX / 2);
        }
        let outermost = self.stack.iter().find(|frame| !frame.object);
        let item = outermost.map_or(0, |frame| u32::try_from(frame.count).unwrap_or(u32::MAX));
        self.out.pieces.push(Piece { part, item, range });
    }

    /// Shows a wanted value whole, in place of what was built of it. False when it is too long.
    fn show(&mut self, context: &Context, want: Wanted, span: Range<usize>, built: bool) -> bool {
        if span.len() > want.max_bytes || self.out.doc.len() + span.len() > DOC_BYTES_MAX {
            return false;
        }
        let Some(raw) = self.text.get(span) else {
            return false;
        };
        if built {
            // Written with its comma and key again: the key's length is not kept.
            self.out.doc.truncate(context.mark);
            if let Some(parent) = self.stack.last() {
                if parent.written > 1 {
                    self.out.doc.push(',');
                }
                if let Some(node) = self.shape.node(context.node).filter(|_| parent.object) {
                    push_key(&mut self.out.doc, &node.name);
                }
            }
        }
        self.out.doc.push_str(raw);
        true
    }

    /// Counts a value that stands at a media path itself, not below one.
    fn count_item(&mut self, context: &Context) {
        if let Some(medium) = self.shape.node(context.node).and_then(|node| node.medium)
            && let Some((items, _)) = self.out.media.get_mut(medium_index(medium))
        {
            *items = items.saturating_add(1);
        }
    }

    fn count_string(&mut self, context: &Context, inside: Range<usize>) {
        if let Some(medium) = context.medium {
            if let Some((_, bytes)) = self.out.media.get_mut(medium_index(medium)) {
                *bytes += inside.len() as u64;
            }
            if medium != Medium::Text {
                return;
            }
        }
        if context.text {
            self.out.text_bytes += inside.len() as u64;
            if self.out.text.len() < TEXT_RANGES_MAX && !inside.is_empty() {
                self.out.text.push(inside);
            }
        }
    }

    /// Refuses a key that the open object already has.
    fn remember(&mut self, key: Cow<'a, [u8]>, at: usize) -> Step<()> {
        let twice = Err(OutlineError {
            kind: Kind::DuplicateKey,
            offset: at,
        });
        let Some(frame) = self.stack.last_mut() else {
            return Ok(());
        };
        if let Some(many) = &mut frame.many {
            return if many.insert(key) { Ok(()) } else { twice };
        }
        let seen = self.keys.get(frame.keys_start..).unwrap_or_default();
        if seen.contains(&key) {
            return twice;
        }
        if seen.len() < KEYS_LINEAR_MAX {
            self.keys.push(key);
        } else {
            let mut many: HashSet<_> = self.keys.drain(frame.keys_start..).collect();
            many.insert(key);
            frame.many = Some(many);
        }
        Ok(())
    }
}

/// A member's key. Names of paths need no escaping.
fn push_key(doc: &mut String, name: &str) {
    doc.push('"');
    doc.push_str(name);
    doc.push_str("\":");
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

    fn digits(&mut self) -> Step<()> {
        let start = self.pos;
        while let Some(b'0'..=b'9') = self.bytes.get(self.pos) {
            self.pos += 1;
        }
        if self.pos == start {
            self.fail(Kind::Number)
        } else {
            Ok(())
        }
    }

    fn number(&mut self) -> Step<()> {
        if self.bytes.get(self.pos) == Some(&b'-') {
            self.pos += 1;
        }
        if self.bytes.get(self.pos) == Some(&b'0') {
            self.pos += 1;
            if let Some(b'0'..=b'9') = self.bytes.get(self.pos) {
                return self.fail(Kind::Number);
            }
        } else {
            self.digits()?;
        }
        if self.bytes.get(self.pos) == Some(&b'.') {
            self.pos += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.pos) {
            self.pos += 1;
            if let Some(b'+' | b'-') = self.bytes.get(self.pos) {
                self.pos += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// Reads a string; the range inside its quotes, and whether an escape is in it.
    fn string(&mut self) -> Step<(Range<usize>, bool)> {
        let start = self.pos + 1;
        let mut at = start;
        let mut escaped = false;
        loop {
            at += plain_len(self.bytes.get(at..).unwrap_or_default());
            match self.bytes.get(at) {
                Some(b'"') => {
                    self.pos = at + 1;
                    return Ok((start..at, escaped));
                }
                Some(b'\\') => {
                    escaped = true;
                    at += 1 + self.escape(at + 1)?;
                }
                end => {
                    self.pos = at;
                    return self.fail(if end.is_some() { Kind::Control } else { Kind::Eof });
                }
            }
        }
    }

    /// Length of the escape whose first byte after the backslash is at `at`.
    fn escape(&self, at: usize) -> Step<usize> {
        let bad = Err(OutlineError {
            kind: Kind::Escape,
            offset: at,
        });
        match self.bytes.get(at) {
            None => Err(OutlineError {
                kind: Kind::Eof,
                offset: at,
            }),
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(1),
            Some(b'u') => match self.bytes.get(at + 1..at + 5) {
                Some(hex) if hex.iter().all(u8::is_ascii_hexdigit) => Ok(5),
                Some(_) => bad,
                None => Err(OutlineError {
                    kind: Kind::Eof,
                    offset: self.bytes.len(),
                }),
            },
            Some(_) => bad,
        }
    }
}
