//! Edits as byte splices: the value or the member changes, every other byte stays.

use std::ops::Range;

use super::Outline;
use super::shape::{NONE, NodeId, ROOT, Shape};

/// Sets the value at a wanted path, or inserts the member where it is absent. Objects missing on the way, or `null`
/// there, are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// A path that the shape was compiled with, without `*`.
    pub path: String,
    /// JSON text of the value.
    pub value: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpliceError {
    #[error("path {0:?} is not one that was outlined as a single value")]
    Unknown(String),
    #[error("path {0:?} leads through a value that is no object")]
    NotAnObject(String),
    #[error("path {0:?} is edited twice, or inside another edit")]
    Conflict(String),
}

/// The document with `edits` applied. `outline` must be the outline of `json` by `shape`.
pub fn splice(json: &[u8], shape: &Shape, outline: &Outline, edits: &[Edit]) -> Result<Vec<u8>, SpliceError> {
    let mut changes: Vec<(Range<usize>, Vec<u8>, &str)> = Vec::with_capacity(edits.len());
    for edit in edits {
        let change = locate(json, shape, outline, edit)?;
        // Several members may go into one object: each brings its own comma, but an empty object needs them joined.
        let same_gap = changes
            .iter_mut()
            .find(|(range, _, _)| *range == change.range && range.is_empty());
        match same_gap {
            Some((_, text, path)) => {
                if top_key(&change.text) == top_key(text) {
                    return Err(SpliceError::Conflict((*path).to_owned()));
                }
                if !change.into_filled {
                    text.push(b',');
                }
                text.extend_from_slice(&change.text);
            }
            None => changes.push((change.range, change.text, &edit.path)),
        }
    }
    changes.sort_by_key(|(range, _, _)| (range.start, range.end));
    let added: usize = changes.iter().map(|(_, text, _)| text.len()).sum();
    let mut out = Vec::with_capacity(json.len() + added);
    let mut at = 0;
    for (range, text, path) in &changes {
        let between = json
            .get(at..range.start)
            .ok_or_else(|| SpliceError::Conflict((*path).to_owned()))?;
        out.extend_from_slice(between);
        out.extend_from_slice(text);
        at = range.end;
    }
    out.extend_from_slice(json.get(at..).unwrap_or_default());
    Ok(out)
}

struct Change {
    range: Range<usize>,
    text: Vec<u8>,
    /// The member goes before others, with its comma.
    into_filled: bool,
}

/// The inserted member's key, quotes included. Keys hold neither quotes nor escapes; see `Shape::compile`.
fn top_key(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == b'"').nth(1).unwrap_or_default()
}

fn locate(json: &[u8], shape: &Shape, outline: &Outline, edit: &Edit) -> Result<Change, SpliceError> {
    let unknown = || SpliceError::Unknown(edit.path.clone());
    if edit.path.split('.').any(|segment| segment == "*") {
        return Err(unknown());
    }
    let mut node = ROOT;
    let mut parent = outline.root.clone();
    let mut segments = edit.path.split('.').peekable();
    while let Some(segment) = segments.next() {
        node = shape.member(node, segment.as_bytes());
        if node == NONE || !shape.node(node).is_some_and(|node| node.single && node.on_path) {
            return Err(unknown());
        }
        match place(outline, node) {
            Some(range) if segments.peek().is_none() => {
                return Ok(Change {
                    range,
                    text: edit.value.clone().into_bytes(),
                    into_filled: false,
                });
            }
            Some(range) if json.get(range.clone()) == Some(b"null") => {
                let text = wrap(segments, &edit.value);
                return Ok(Change {
                    range,
                    text: braced(&text),
                    into_filled: false,
                });
            }
            Some(range) => parent = range,
            None => {
                let open = json.get(parent.start);
                if open != Some(&b'{') {
                    return Err(SpliceError::NotAnObject(edit.path.clone()));
                }
                let start = parent.start + 1;
                let inside = json.get(start..parent.end).unwrap_or_default();
                let filled = inside.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'}');
                let mut text = wrap(std::iter::once(segment).chain(segments), &edit.value);
                if filled {
                    text.push(b',');
                }
                return Ok(Change {
                    range: start..start,
                    text,
                    into_filled: filled,
                });
            }
        }
    }
    Err(unknown())
}

fn place(outline: &Outline, node: NodeId) -> Option<Range<usize>> {
    outline
        .places
        .iter()
        .find(|(id, _)| *id == node)
        .map(|(_, range)| range.clone())
}

fn braced(member: &[u8]) -> Vec<u8> {
    [b"{", member, b"}"].concat()
}

/// `"a":{"b":value}` for the segments a, b.
fn wrap<'a>(segments: impl Iterator<Item = &'a str>, value: &str) -> Vec<u8> {
    let names: Vec<&str> = segments.collect();
    let mut text = String::new();
    for (index, name) in names.iter().enumerate() {
        if index > 0 {
            text.push('{');
        }
        text.push('"');
        text.push_str(name);
        text.push_str("\":");
    }
    text.push_str(value);
    for _ in 1..names.len() {
        text.push('}');
    }
    text.into_bytes()
}
