//! What an outline shows of a document, whoever reads its tokens: the scanner of whole documents and the one of documents
//! that arrive in pieces feed the same builder, so that both make the same outline.

use std::borrow::Cow;
use std::ops::Range;

use super::shape::{NodeId, ROOT, Shape, Wanted, medium_index};
use super::{DOC_BYTES_MAX, Outline, PIECES_MAX, Piece, TEXT_RANGES_MAX};
use crate::plugin::dialect::{Medium, ProgressPart};

/// Most outlines are no longer.
const DOC_BYTES_USUAL: usize = 512;

/// Where the builder finds what stands at a place of the document.
pub(super) trait Source {
    /// `None`: it is no longer there, or too long to have been kept.
    fn text(&self, span: Range<usize>) -> Option<Cow<'_, str>>;

    fn byte(&self, at: usize) -> Option<u8>;
}

/// What is known of a value before its first byte.
#[derive(Clone, Copy)]
pub(super) struct Context {
    pub(super) node: NodeId,
    /// The value may be shown in the outline.
    pub(super) shown: bool,
    /// The value is inside a wanted one.
    pub(super) wanted: bool,
    /// Strings here are text.
    pub(super) text: bool,
    pub(super) medium: Option<Medium>,
    /// Length of the outline before the value's comma and key: where to cut it off again.
    mark: usize,
    /// The value is an element, which keeps its place as `null`.
    element: bool,
}

/// An open container. `K` is what its scanner must know of its keys.
pub(super) struct Frame<K> {
    pub(super) context: Context,
    pub(super) object: bool,
    pub(super) start: usize,
    /// Members or elements so far.
    count: usize,
    /// The container is written into the outline as it is read.
    built: bool,
    /// Members or elements written into the outline.
    written: usize,
    /// Elements that may be shown.
    items_max: usize,
    pub(super) keys: K,
}

pub(super) struct Builder<K> {
    pub(super) stack: Vec<Frame<K>>,
    /// The value that comes next.
    pub(super) next: Context,
    pub(super) out: Outline,
}

impl<K> Builder<K> {
    /// `len`: length of the document, as far as it is known.
    pub(super) fn new(shape: &Shape, len: usize) -> Builder<K> {
        Builder {
            stack: Vec::with_capacity(8),
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
                doc: String::with_capacity(len.min(DOC_BYTES_USUAL)),
                spans: Vec::with_capacity(8),
                places: Vec::with_capacity(8),
                counts: vec![0; shape.counts],
                ..Outline::default()
            },
        }
    }

    /// A container opens at `start`. `keys` is told whether what it holds depends on its keys being unambiguous.
    #[inline]
    pub(super) fn open(&mut self, shape: &Shape, object: bool, start: usize, keys: impl FnOnce(bool) -> K) {
        let context = self.next;
        self.count_item(shape, &context);
        let node = shape.node(context.node);
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
        let checked = object && (self.stack.is_empty() || way || wanted);
        self.stack.push(Frame {
            context: Context { wanted, ..context },
            object,
            start,
            count: 0,
            built,
            written: 0,
            items_max: node.map_or(0, |node| node.items_max as usize),
            keys: keys(checked),
        });
    }

    /// A child comes next: its comma and key are written where it may be shown, which `once` says of its key.
    #[inline]
    pub(super) fn enter(&mut self, shape: &Shape, child: NodeId, once: bool) {
        let node = shape.node(child);
        let mark = self.out.doc.len();
        let Some(frame) = self.stack.last_mut() else { return };
        let element = !frame.object;
        let within = !element || frame.count < frame.items_max;
        let shown = once && frame.built && within && node.is_some_and(|node| node.on_path) && mark < DOC_BYTES_MAX;
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

    /// The innermost container ends before `end`.
    pub(super) fn close(&mut self, shape: &Shape, end: usize, source: &impl Source) -> Option<Frame<K>> {
        let frame = self.stack.pop()?;
        if frame.built {
            self.out.doc.push(if frame.object { '}' } else { ']' });
        }
        self.finish(shape, &frame.context, frame.start..end, frame.built, source);
        Some(frame)
    }

    /// A scalar has ended.
    #[inline]
    pub(super) fn scalar(&mut self, shape: &Shape, context: &Context, span: Range<usize>, source: &impl Source) {
        self.finish(shape, context, span, false, source);
    }

    /// A value has ended: notes where it stood, and settles what the outline shows of it.
    fn finish(&mut self, shape: &Shape, context: &Context, span: Range<usize>, built: bool, source: &impl Source) {
        let Some(node) = shape.node(context.node) else {
            return;
        };
        if let Some(part) = node.progress {
            self.piece(part, node.progress_below, span.clone(), source);
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
            if context.shown && self.show(shape, context, want, span, built, source) {
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
    fn piece(&mut self, part: ProgressPart, holds_others: bool, range: Range<usize>, source: &impl Source) {
        match source.byte(range.start) {
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
    fn show(
        &mut self,
        shape: &Shape,
        context: &Context,
        want: Wanted,
        span: Range<usize>,
        built: bool,
        source: &impl Source,
    ) -> bool {
        if span.len() > want.max_bytes || self.out.doc.len() + span.len() > DOC_BYTES_MAX {
            return false;
        }
        let Some(raw) = source.text(span) else {
            return false;
        };
        if built {
            // Written with its comma and key again: the key's length is not kept.
            self.out.doc.truncate(context.mark);
            if let Some(parent) = self.stack.last() {
                if parent.written > 1 {
                    self.out.doc.push(',');
                }
                if let Some(node) = shape.node(context.node).filter(|_| parent.object) {
                    push_key(&mut self.out.doc, &node.name);
                }
            }
        }
        self.out.doc.push_str(&raw);
        true
    }

    /// Counts a value that stands at a media path or a counted one itself, not below one.
    #[inline]
    pub(super) fn count_item(&mut self, shape: &Shape, context: &Context) {
        let Some(node) = shape.node(context.node) else {
            return;
        };
        if let Some(medium) = node.medium
            && let Some((items, _)) = self.out.media.get_mut(medium_index(medium))
        {
            *items = items.saturating_add(1);
        }
        if let Some(count) = node.counted.and_then(|at| self.out.counts.get_mut(at)) {
            *count = count.saturating_add(1);
        }
    }

    /// Counts a string of so many bytes as JSON writes it. True: it is text, of which the outline is to tell the range.
    #[inline]
    pub(super) fn count_string(&mut self, context: &Context, bytes: u64) -> bool {
        if let Some(medium) = context.medium {
            if let Some((_, all)) = self.out.media.get_mut(medium_index(medium)) {
                *all += bytes;
            }
            if medium != Medium::Text {
                return false;
            }
        }
        if !context.text {
            return false;
        }
        self.out.text_bytes += bytes;
        self.out.text.len() < TEXT_RANGES_MAX && bytes > 0
    }
}

/// A member's key. Names of paths need no escaping.
fn push_key(doc: &mut String, name: &str) {
    doc.push('"');
    doc.push_str(name);
    doc.push_str("\":");
}
