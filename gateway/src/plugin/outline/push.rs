//! The scanner of documents that arrive in pieces, in bounded memory whatever their length: for answers. It makes the
//! outline that the scanner of whole documents makes, and reads leniently. An answer is the provider's to write and
//! passes as it is; what is wrong in one place must not hide what it cost in another. A request is refused instead,
//! because two readers of it might disagree.
//!
//! What no path leads to is skipped with a counter of its depth; strings are searched and not kept.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;

use super::build::{Builder, Context};
use super::shape::{NONE, NodeId, Shape};
use super::skip::Skip;
use super::string::{decode, plain_len, quoted_len, string_len};
use super::window::{Remains, Window};
use super::{Bounds, Outline};
use crate::plugin::dialect::Medium;

/// Longest key that can be one of a path, as JSON writes it.
const KEY_BYTES_MAX: usize = 1 << 10;
/// Longest number.
const TOKEN_BYTES_MAX: usize = 1 << 10;
/// Values of single paths kept beside the outline: where answers name themselves.
const VALUE_BYTES_MAX: usize = 512;

/// The outline of a document that was given whole, read leniently. `None`: it is no object and no array.
pub fn lenient(json: &[u8], shape: &Shape, bounds: impl Into<Bounds>) -> Option<Outline> {
    let mut arriving = Arriving::new(shape, bounds);
    let taken = arriving.push(shape, json);
    let rest = json.get(taken..).unwrap_or_default().trim_ascii_start();
    let mut found = arriving.finish(shape)?;
    found.flaws.contradictory |= rest.starts_with(b"{");
    Some(found)
}

/// A document of which the first bytes have arrived.
pub struct Arriving {
    bounds: Bounds,
    builder: Builder<Keys>,
    window: Window,
    remains: Remains,
    state: State,
    need: Need,
    gap: Gap,
    /// Of the value at hand.
    value: Value,
    /// The key or the token at hand, as far as it matters.
    token: Vec<u8>,
    string: InString,
    skip: Skip,
    /// Bytes of the piece at hand that the window has seen.
    seen: usize,
    is_container: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Between,
    /// In the string of a key.
    Key,
    /// In a string that is a value.
    Text,
    /// In a number or a literal.
    Bare,
    /// In a container that nothing is wanted of.
    Skip,
    /// The document is over.
    Over,
    /// It goes on in a way that cannot be read.
    Broken,
}

/// What may come between tokens. Commas are not insisted on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Value,
    Key,
    Colon,
}

/// What came last between two values of one container. Where they are shown, there is to be one comma.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gap {
    /// The container's start, or a key.
    Nothing,
    Value,
    /// With its place in the window.
    Comma(usize),
}

#[derive(Clone, Copy)]
struct Value {
    context: Context,
    /// Its place in the window.
    start: usize,
}

#[derive(Default)]
struct InString {
    /// Bytes so far, as JSON writes them.
    len: u64,
    /// The last byte was a backslash.
    escaped: bool,
    has_escapes: bool,
    /// Hexadecimal digits that are to come, and where the escape starts in the window.
    hex: u8,
    escape: usize,
}

/// What is known of the keys of an open object.
#[derive(Default)]
struct Keys {
    checked: bool,
    /// Keys that matter, and their values, as hashes. No value: it was not kept.
    seen: Vec<(u64, Option<u64>)>,
    /// The member at hand is one that matters.
    member: Option<u64>,
    /// Its key came before.
    again: bool,
}

impl Arriving {
    pub fn new(shape: &Shape, bounds: impl Into<Bounds>) -> Arriving {
        let builder: Builder<Keys> = Builder::new(shape, usize::MAX);
        Arriving {
            bounds: bounds.into(),
            value: Value {
                context: builder.next,
                start: 0,
            },
            builder,
            window: Window::default(),
            remains: Remains::default(),
            state: State::Between,
            need: Need::Value,
            gap: Gap::Nothing,
            token: Vec::new(),
            string: InString::default(),
            skip: Skip::default(),
            seen: 0,
            is_container: false,
        }
    }

    /// Takes the next bytes, up to the document's end; how many those were. `shape` is always the same one.
    pub fn push(&mut self, shape: &Shape, bytes: &[u8]) -> usize {
        let mut pos = 0;
        self.seen = 0;
        while pos < bytes.len() {
            pos = match self.state {
                State::Between => self.between(shape, bytes, pos),
                State::Key | State::Text => self.in_string(shape, bytes, pos),
                State::Bare => self.in_token(shape, bytes, pos),
                State::Skip => self.skipping(shape, bytes, pos),
                State::Over => break,
                // What follows belongs to it, and says nothing.
                State::Broken => bytes.len(),
            };
        }
        self.keep(bytes, pos);
        self.builder.out.bytes += pos as u64;
        pos
    }

    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Bytes of text so far.
    pub fn text_bytes(&self) -> u64 {
        let at_hand = match self.state {
            State::Text if self.value.context.text => self.string.len,
            _ => 0,
        };
        self.builder.out.text_bytes + at_hand
    }

    /// Bytes held for it.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        let keys: usize = self
            .builder
            .stack
            .iter()
            .map(|frame| frame.keys.seen.capacity() * 24)
            .sum();
        let out = &self.builder.out;
        let lists =
            (out.spans.capacity() + out.places.capacity() + out.pieces.capacity()) * 24 + out.text.capacity() * 16;
        self.window.held_bytes() + self.remains.held_bytes() + self.token.capacity() + out.doc.capacity() + keys + lists
    }

    /// The document has ended, well or not. `None`: it is no object and no array.
    pub fn finish(mut self, shape: &Shape) -> Option<Outline> {
        if self.state != State::Over {
            self.builder.out.flaws.unfinished = true;
            self.leave_out_rest(shape);
        }
        let mut out = self.builder.out;
        // Places in a document that is gone.
        out.places.clear();
        out.pieces.clear();
        out.kept = Some(self.remains.into_bytes());
        if out.doc.is_empty() {
            out.doc.push_str("{}");
        }
        self.is_container.then_some(out)
    }

    /// Closes what is open. A value that is not over is not shown: half a number is another number.
    fn leave_out_rest(&mut self, shape: &Shape) {
        self.window.abandon();
        let (place, spans) = (self.window.place(), self.builder.out.spans.len());
        if self.state == State::Text {
            self.count_text();
        }
        let in_object = self.builder.stack.last().is_some_and(|frame| frame.object);
        let entered = match (self.state, self.need) {
            (State::Text | State::Bare | State::Skip, _) | (_, Need::Colon) => true,
            (State::Key, _) => false,
            (_, need) => need == Need::Value && in_object,
        };
        if entered && !self.builder.stack.is_empty() {
            let context = self.builder.next;
            self.builder.scalar(shape, &context, place..place, &self.window);
        }
        while self.builder.close(shape, place, &self.window).is_some() {}
        self.builder.out.spans.truncate(spans);
    }

    /// Hands the window what it has not seen up to `pos`.
    fn keep(&mut self, bytes: &[u8], pos: usize) {
        self.window.push(bytes.get(self.seen..pos).unwrap_or_default());
        self.seen = self.seen.max(pos);
    }

    /// One byte between tokens, or the token's first.
    fn between(&mut self, shape: &Shape, bytes: &[u8], pos: usize) -> usize {
        let byte = bytes.get(pos).copied().unwrap_or_default();
        let object = self.builder.stack.last().map(|frame| frame.object);
        match (self.need, byte) {
            (_, b' ' | b'\n' | b'\r' | b'\t') => {}
            // A byte order mark.
            (Need::Value, 0xef | 0xbb | 0xbf) if object.is_none() => {}
            (Need::Colon, b':') => self.need = Need::Value,
            (Need::Key, b',') => self.comma(bytes, pos),
            (Need::Value, b',') if object == Some(false) => self.comma(bytes, pos),
            (Need::Key, b'"') => {
                self.separate(bytes, pos);
                self.token.clear();
                self.string = InString::default();
                self.state = State::Key;
            }
            (Need::Key, b'}') => self.close(shape, bytes, pos + 1),
            (Need::Value, b']') if object == Some(false) => self.close(shape, bytes, pos + 1),
            (Need::Key | Need::Colon, _) | (Need::Value, b',' | b':' | b'}' | b']') => self.state = State::Broken,
            (Need::Value, byte) => return self.begin_value(shape, bytes, pos, byte),
        }
        pos + 1
    }

    fn comma(&mut self, bytes: &[u8], pos: usize) {
        if !self.window.is_open() {
            return;
        }
        self.keep(bytes, pos);
        if self.gap == Gap::Value {
            self.gap = Gap::Comma(self.window.place());
        } else {
            self.window.push(b" ");
            self.seen = pos + 1;
        }
    }

    /// A member or an element starts: where it is shown, a comma stands before it.
    fn separate(&mut self, bytes: &[u8], pos: usize) {
        if self.gap == Gap::Value && self.window.is_open() {
            self.keep(bytes, pos);
            self.window.push(b",");
        }
    }

    fn begin_value(&mut self, shape: &Shape, bytes: &[u8], pos: usize, byte: u8) -> usize {
        self.separate(bytes, pos);
        if let Some(frame) = self.builder.stack.last().filter(|frame| !frame.object) {
            let child = shape.element(frame.context.node);
            self.builder.enter(shape, child, true);
        }
        let context = self.builder.next;
        self.keep(bytes, pos);
        if let Some(bytes_max) = self.watched(shape, &context) {
            self.window.watch(bytes_max);
        }
        let start = self.window.place();
        self.value = Value { context, start };
        match byte {
            b'{' | b'[' => {
                self.open(shape, byte == b'{');
                if self.state == State::Skip {
                    // Something else stands for it in the window.
                    self.seen = pos + 1;
                }
            }
            b'"' => {
                self.string = InString::default();
                self.state = State::Text;
                let medium = context.medium.is_none_or(|medium| medium == Medium::Text);
                if context.text && medium && self.builder.out.text.len() < super::TEXT_RANGES_MAX {
                    self.remains.open_text();
                }
            }
            _ if self.builder.stack.is_empty() && !matches!(byte, b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                self.state = State::Broken;
            }
            _ => {
                self.token.clear();
                self.state = State::Bare;
                return pos;
            }
        }
        pos + 1
    }

    /// How long a value may be that is to be kept, as far as it is: to be shown, or compared with the one before of its key.
    fn watched(&self, shape: &Shape, context: &Context) -> Option<usize> {
        let want = shape.node(context.node)?.want?;
        let again = self.builder.stack.last().is_some_and(|frame| frame.keys.again);
        (context.shown || again).then_some(want.max_bytes.max(VALUE_BYTES_MAX))
    }

    fn open(&mut self, shape: &Shape, object: bool) {
        let Value { context, start } = self.value;
        self.is_container |= self.builder.stack.is_empty();
        let deep = self.builder.stack.len() >= self.bounds.depth_max as usize;
        let is_kept = self.window.is_open();
        let unwanted = context.node == NONE && !is_kept && !context.text && context.medium.is_none();
        if !deep && !unwanted {
            self.builder.open(shape, object, start, |checked| Keys {
                checked,
                ..Keys::default()
            });
            self.need = if object { Need::Key } else { Need::Value };
            self.gap = Gap::Nothing;
            return;
        }
        if is_kept {
            self.window.push(b"null");
            self.builder.out.flaws.patched = true;
        }
        self.skip = Skip::new(context.text);
        self.state = State::Skip;
    }

    fn close(&mut self, shape: &Shape, bytes: &[u8], end: usize) {
        self.keep(bytes, end);
        if let Gap::Comma(place) = self.gap {
            self.window.blank(place);
        }
        let (spans, place) = (self.builder.out.spans.len(), self.window.place());
        if let Some(frame) = self.builder.close(shape, place, &self.window) {
            self.value = Value {
                context: frame.context,
                start: frame.start,
            };
            self.settle(shape, spans);
        }
    }

    fn end_scalar(&mut self, shape: &Shape, is_item: bool) {
        let Value { context, start } = self.value;
        let spans = self.builder.out.spans.len();
        if is_item {
            self.builder.count_item(shape, &context);
        }
        let span = start..self.window.place();
        self.builder.scalar(shape, &context, span, &self.window);
        self.settle(shape, spans);
    }

    /// A value is over and shown, or not: keeps what outlives it, and compares it with an earlier one of its key.
    fn settle(&mut self, shape: &Shape, spans: usize) {
        let Value { context, start } = self.value;
        let span = start..self.window.place();
        let out = &mut self.builder.out;
        out.places.clear();
        if let Some((index, _)) = out.spans.get(spans).cloned() {
            out.spans.truncate(spans);
            let is_single = shape.node(context.node).is_some_and(|node| node.single);
            let raw = self
                .window
                .bytes(span.clone())
                .filter(|raw| is_single && !raw.is_empty() && raw.len() <= VALUE_BYTES_MAX);
            if let Some(kept) = raw.and_then(|raw| self.remains.value(raw)) {
                out.spans.push((index, kept));
            }
        }
        let watched = self.watched(shape, &context).is_some();
        if let Some(keys) = self.builder.stack.last_mut().map(|frame| &mut frame.keys)
            && let Some(member) = keys.member.take()
        {
            let raw = self.window.bytes(span).filter(|raw| !raw.is_empty());
            let value = raw.map(hash);
            match keys.seen.iter_mut().find(|(key, _)| *key == member) {
                Some((_, earlier)) if keys.again => {
                    self.builder.out.flaws.contradictory |= value.is_none() || *earlier != value;
                }
                Some((_, kept)) => *kept = value,
                None => {}
            }
        }
        if watched {
            self.window.unwatch();
        }
        self.state = State::Between;
        self.gap = Gap::Value;
        match self.builder.stack.last().map(|frame| frame.object) {
            None => self.state = State::Over,
            Some(true) => self.need = Need::Key,
            Some(false) => self.need = Need::Value,
        }
    }

    /// A key is over: finds where it leads.
    fn end_key(&mut self, shape: &Shape) {
        let is_kept = self.window.is_open();
        let mut child: NodeId = NONE;
        let mut once = true;
        if let Some(frame) = self.builder.stack.last_mut() {
            let key = decode(&self.token, self.string.has_escapes);
            if self.token.len() <= KEY_BYTES_MAX {
                child = shape.member(frame.context.node, &key);
            }
            let on_path = shape.node(child).is_some_and(|node| node.on_path);
            let matters = frame.keys.checked && (on_path || (frame.context.wanted && is_kept));
            frame.keys.again = false;
            if matters {
                once = frame.keys.note(hash(&key), self.bounds.keys_max as usize);
            }
        }
        self.builder.enter(shape, child, once);
        self.need = Need::Colon;
        self.gap = Gap::Nothing;
        self.state = State::Between;
    }

    fn count_text(&mut self) {
        let context = self.value.context;
        let is_text = self.builder.count_string(&context, self.string.len);
        let kept = self.remains.close_text().filter(|range| is_text && !range.is_empty());
        self.builder.out.text.extend(kept);
    }
}

impl Keys {
    /// A key that matters comes. False: not for the first time.
    fn note(&mut self, key: u64, keys_max: usize) -> bool {
        self.again = self.seen.iter().any(|(seen, _)| *seen == key);
        self.member = Some(key);
        if !self.again && self.seen.len() < keys_max {
            self.seen.push((key, None));
        }
        !self.again
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Tokens.
impl Arriving {
    /// Goes on in a string; up to its end, or that of the bytes.
    fn in_string(&mut self, shape: &Shape, bytes: &[u8], mut pos: usize) -> usize {
        while let Some(byte) = bytes.get(pos) {
            if self.string.hex > 0 || self.string.escaped {
                pos += self.in_escape(bytes, pos, *byte);
                continue;
            }
            let rest = bytes.get(pos..).unwrap_or_default();
            let is_kept = self.window.is_open();
            // What is not kept may hold any byte.
            let plain = if is_kept {
                plain_len(rest)
            } else if self.state == State::Text && !self.remains.is_open() {
                string_len(rest)
            } else {
                quoted_len(rest)
            };
            self.add(rest.get(..plain).unwrap_or_default());
            pos += plain;
            match bytes.get(pos) {
                None => {}
                Some(b'"') => {
                    pos += 1;
                    self.keep(bytes, pos);
                    self.end_string(shape);
                    break;
                }
                Some(b'\\') if !is_kept && bytes.len() > pos + 1 => {
                    self.string.has_escapes = true;
                    self.add(bytes.get(pos..pos + 2).unwrap_or_default());
                    pos += 2;
                }
                Some(b'\\') => {
                    self.keep(bytes, pos);
                    self.string.escape = self.window.place();
                    self.string.escaped = true;
                    self.string.has_escapes = true;
                    self.add(b"\\");
                    pos += 1;
                }
                Some(control) => {
                    // No JSON, but what the string says is plain; a blank stands in its place where it is shown.
                    self.keep(bytes, pos);
                    self.window.push(b" ");
                    self.add(&[*control]);
                    pos += 1;
                    self.seen = pos;
                }
            }
        }
        pos
    }

    /// One byte of an escape; bytes taken. An escape that JSON does not have is shown as the text that it is.
    fn in_escape(&mut self, bytes: &[u8], pos: usize, byte: u8) -> usize {
        let is_kept = self.window.is_open();
        let fits = if self.string.hex > 0 {
            self.string.hex -= 1;
            byte.is_ascii_hexdigit()
        } else {
            self.string.escaped = false;
            self.string.hex = if byte == b'u' && is_kept { 4 } else { 0 };
            matches!(byte, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' | b'u')
        };
        if !fits && is_kept {
            self.string.hex = 0;
            self.keep(bytes, pos);
            self.window.insert(self.string.escape, b'\\');
            return 0;
        }
        self.add(&[byte]);
        1
    }

    /// Some bytes of the string at hand.
    fn add(&mut self, bytes: &[u8]) {
        self.string.len += bytes.len() as u64;
        if self.state == State::Text {
            self.remains.push_text(bytes);
            return;
        }
        let room = (KEY_BYTES_MAX + 1).saturating_sub(self.token.len());
        self.token
            .extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
    }

    fn end_string(&mut self, shape: &Shape) {
        if self.state == State::Key {
            return self.end_key(shape);
        }
        self.count_text();
        self.end_scalar(shape, true);
    }

    /// Goes on in a number or a literal, which ends before what follows it.
    fn in_token(&mut self, shape: &Shape, bytes: &[u8], pos: usize) -> usize {
        let rest = bytes.get(pos..).unwrap_or_default();
        let ends = |byte: &u8| {
            matches!(
                byte,
                b',' | b']' | b'}' | b'[' | b'{' | b':' | b'"' | b' ' | b'\n' | b'\r' | b'\t'
            )
        };
        let end = rest.iter().position(ends);
        let piece = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        let room = (TOKEN_BYTES_MAX + 1).saturating_sub(self.token.len());
        self.token
            .extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or_default());
        let pos = pos + piece.len();
        if end.is_some() {
            self.keep(bytes, pos);
            self.end_token(shape);
        }
        pos
    }

    fn end_token(&mut self, shape: &Shape) {
        let known =
            self.token.len() <= TOKEN_BYTES_MAX && serde_json::from_slice::<serde::de::IgnoredAny>(&self.token).is_ok();
        if !known && self.window.is_open() {
            self.window.replace_from(self.value.start, b"null");
            self.builder.out.flaws.patched = true;
        }
        self.end_scalar(shape, self.token.first() != Some(&b'n'));
    }

    /// Goes on in a container of which nothing is wanted.
    fn skipping(&mut self, shape: &Shape, bytes: &[u8], pos: usize) -> usize {
        let before = self.skip.text_bytes;
        let pos = pos + self.skip.push(bytes.get(pos..).unwrap_or_default());
        self.builder.out.text_bytes += self.skip.text_bytes - before;
        self.seen = pos;
        if self.skip.is_over() {
            self.end_scalar(shape, true);
        }
        pos
    }
}
