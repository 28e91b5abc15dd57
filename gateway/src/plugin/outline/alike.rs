//! Documents that are an earlier one again, but for what stands in some of its strings and numbers: the events of a stream.
//!
//! Such a document has the earlier one's outline but for its text, and to see that takes a comparison of what is between the values
//! that may differ, and a look at each of these: it must be a string or a number as JSON has them. Everything else is read whole: a
//! key that differs, another order, one value more, a blank, and any value that the outline shows. So what is found here is what a whole
//! reading would find (`alike_tests` shows it), for a fraction of the instructions.

use std::ops::Range;

use super::Outline;
use super::scan::{number, string};

/// Longest document by which others are read.
const BYTES_MAX: usize = 4 << 10;
/// Values that may differ. A document of more is read whole.
const HOLES_MAX: usize = 64;
/// Values that the outline shows or finds.
const WANTED_MAX: usize = 64;

/// A value of which nothing but its text is in the outline.
#[derive(Debug)]
struct Hole {
    /// Inside the quotes, or the whole number.
    range: Range<usize>,
    kind: HoleKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HoleKind {
    Text,
    String,
    Number,
}

/// One document, by which those that are like it are read.
#[derive(Debug)]
pub struct Template {
    bytes: Vec<u8>,
    holes: Vec<Hole>,
    doc: String,
    /// Ranges of text in the document that was read last.
    text: Vec<Range<usize>>,
}

/// What a document that is like another one has of its own, and what it has in common.
#[derive(Debug, PartialEq, Eq)]
pub struct Alike<'t> {
    pub doc: &'t str,
    /// See [`Outline::text`].
    pub text: &'t [Range<usize>],
    pub text_bytes: u64,
}

impl Template {
    /// `None`: its outline has more of it than its values' places, or it is too long.
    pub fn new(json: &[u8], outline: &Outline) -> Option<Template> {
        let is_plain = outline.kept.is_none() && !outline.flaws.any() && outline.pieces.is_empty();
        let is_counted = outline.media.iter().any(|counted| *counted != (0, 0));
        let is_small = json.len() <= BYTES_MAX && outline.text.len() <= HOLES_MAX && outline.spans.len() <= WANTED_MAX;
        if !is_plain || is_counted || !is_small {
            return None;
        }
        let holes = holes(json, outline)?;
        // Text that the outline shows, too, stays as it is: then there is more text than in the holes.
        let texts = holes.iter().filter(|hole| hole.kind == HoleKind::Text);
        if texts.count() != outline.text.len() {
            return None;
        }
        Some(Template {
            holes,
            bytes: json.to_vec(),
            doc: outline.doc.clone(),
            text: Vec::with_capacity(outline.text.len()),
        })
    }

    /// Reads a document by this one; `None` where it is not like it.
    pub fn read(&mut self, json: &[u8]) -> Option<Alike<'_>> {
        self.text.clear();
        let mut text_bytes = 0;
        // In the template, and in the document.
        let (mut known, mut at) = (0, 0);
        for hole in &self.holes {
            let between = self.bytes.get(known..hole.range.start)?;
            json.get(at..)?.strip_prefix(between)?;
            at += between.len();
            known = hole.range.end;
            let end = match hole.kind {
                HoleKind::Number => number(json, at).ok()?,
                HoleKind::Text | HoleKind::String => {
                    let (inside, _) = string(json, at.checked_sub(1)?).ok()?;
                    std::str::from_utf8(json.get(inside.clone())?).ok()?;
                    inside.end
                }
            };
            if hole.kind == HoleKind::Text && end > at {
                self.text.push(at..end);
                text_bytes += (end - at) as u64;
            }
            at = end;
        }
        (json.get(at..)? == self.bytes.get(known..)?).then_some(Alike {
            doc: &self.doc,
            text: &self.text,
            text_bytes,
        })
    }
}

/// The strings and numbers of a document that was read, but for keys and for those that its outline shows or finds. An empty string
/// could be text or not, and stays as it is.
fn holes(json: &[u8], outline: &Outline) -> Option<Vec<Hole>> {
    let is_wanted = |range: &Range<usize>| {
        outline
            .spans
            .iter()
            .any(|(_, span)| span.start < range.end && range.start < span.end)
    };
    let mut holes = Vec::new();
    let mut at = 0;
    while let Some(byte) = json.get(at) {
        let (range, kind, next) = match byte {
            b'"' => {
                let (inside, _) = string(json, at).ok()?;
                let next = inside.end + 1;
                let behind = json.get(next..)?.trim_ascii_start();
                let is_text = outline.text.contains(&inside);
                let kind = if is_text { HoleKind::Text } else { HoleKind::String };
                if behind.first() == Some(&b':') || inside.is_empty() {
                    at = next;
                    continue;
                }
                (inside, kind, next)
            }
            b'-' | b'0'..=b'9' => {
                let end = number(json, at).ok()?;
                (at..end, HoleKind::Number, end)
            }
            _ => {
                at += 1;
                continue;
            }
        };
        at = next;
        if is_wanted(&range) {
            continue;
        }
        if holes.len() >= HOLES_MAX {
            return None;
        }
        holes.push(Hole { range, kind });
    }
    Some(holes)
}
