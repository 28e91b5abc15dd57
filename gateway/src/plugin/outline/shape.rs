//! A plugin's paths, compiled once into a trie that the scanner walks beside the document.

use super::super::dialect::{HEADERS, Media, Medium, Progress, ProgressPart, Want};

/// Elements of one array shown in an outline, whatever a plugin asks for.
const ITEMS_MAX: u32 = 65_536;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    #[error("path {0:?} is empty or has an empty segment")]
    Empty(String),
    #[error("path {0:?} has a character that paths cannot have")]
    Character(String),
    #[error("path {0:?} is declared twice")]
    Twice(String),
}

/// Compiled wants, media and text paths.
#[derive(Clone, Debug)]
pub struct Shape {
    nodes: Vec<Node>,
    /// No text paths were given: every string counts as text, but those under a media path.
    pub(super) all_text: bool,
    /// Paths whose values are counted.
    pub(super) counts: usize,
}

/// Index of a node; [`NONE`] stands beside values that no path leads to.
pub(super) type NodeId = u32;
pub(super) const NONE: NodeId = u32::MAX;
pub(super) const ROOT: NodeId = 0;

#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    /// The last segment of the path to here.
    pub(super) name: String,
    members: Vec<(String, NodeId)>,
    any: Option<NodeId>,
    pub(super) want: Option<Wanted>,
    /// A wanted value stands here or below.
    pub(super) on_path: bool,
    /// A wanted value stands below, in an object here.
    pub(super) object_on_path: bool,
    /// A wanted value stands below, in an array here.
    pub(super) array_on_path: bool,
    /// Elements of an array here that wants may look at.
    pub(super) items_max: u32,
    pub(super) medium: Option<Medium>,
    pub(super) text: bool,
    pub(super) progress: Option<ProgressPart>,
    /// Values that tell of progress stand below: what holds them is none itself.
    pub(super) progress_below: bool,
    /// Values here are counted, in this place of the outline's counts.
    pub(super) counted: Option<usize>,
    /// No `*` on the way here: at most one value stands here, so it can be edited.
    pub(super) single: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) index: usize,
    pub(super) max_bytes: usize,
}

impl Node {
    fn children(&self) -> Vec<NodeId> {
        self.members.iter().map(|(_, child)| *child).chain(self.any).collect()
    }
}

impl Shape {
    /// `media` and `text` as in `info`. With no text paths, every string that is not under a media path is text.
    pub fn compile(wants: &[Want], media: &[Media], text: &[String]) -> Result<Shape, ShapeError> {
        Shape::build(wants, media, text, text.is_empty())
    }

    /// The same, but only strings at text paths are text, even where none are given: for answers.
    pub fn compile_named(wants: &[Want], media: &[Media], text: &[String]) -> Result<Shape, ShapeError> {
        Shape::build(wants, media, text, false)
    }

    /// The same with the values that tell of an agent's progress.
    pub fn with_progress(mut self, progress: &[Progress]) -> Result<Shape, ShapeError> {
        for item in progress {
            let id = self.grow(&item.path, None)?;
            if let Some(node) = self.nodes.get_mut(id as usize) {
                if node.progress.is_some() {
                    return Err(ShapeError::Twice(item.path.clone()));
                }
                node.progress = Some(item.part);
            }
        }
        // Children stand behind their parents: one pass from the end carries the mark up.
        for at in (0..self.nodes.len()).rev() {
            let children: Vec<NodeId> = self.nodes.get(at).map(Node::children).unwrap_or_default();
            let below = children
                .into_iter()
                .filter_map(|child| self.node(child))
                .any(|child| child.progress.is_some() || child.progress_below);
            if let Some(node) = self.nodes.get_mut(at) {
                node.progress_below = below;
            }
        }
        Ok(self)
    }

    /// The same with paths whose values are counted, `null` left out: `content.*` counts the elements of a list. Beyond what
    /// a want may show, and whatever the values are.
    pub fn with_counts(mut self, paths: &[String]) -> Result<Shape, ShapeError> {
        for path in paths {
            let id = self.grow(path, None)?;
            if let Some(node) = self.nodes.get_mut(id as usize) {
                if node.counted.is_some() {
                    return Err(ShapeError::Twice(path.clone()));
                }
                node.counted = Some(self.counts);
                self.counts += 1;
            }
        }
        Ok(self)
    }

    fn build(wants: &[Want], media: &[Media], text: &[String], all_text: bool) -> Result<Shape, ShapeError> {
        let root = Node {
            single: true,
            ..Node::default()
        };
        let mut shape = Shape {
            nodes: vec![root],
            all_text,
            counts: 0,
        };
        // Headers stand in no document: one that has a member of that name does not say them.
        let of_document = |want: &Want| want.path.split('.').next() != Some(HEADERS);
        for (index, want) in wants.iter().enumerate().filter(|(_, want)| of_document(want)) {
            let id = shape.grow(&want.path, Some(want.max_items.min(ITEMS_MAX)))?;
            if let Some(node) = shape.nodes.get_mut(id as usize) {
                if node.want.is_some() {
                    return Err(ShapeError::Twice(want.path.clone()));
                }
                node.want = Some(Wanted {
                    index,
                    max_bytes: want.max_bytes as usize,
                });
            }
        }
        for item in media {
            let id = shape.grow(&item.path, None)?;
            if let Some(node) = shape.nodes.get_mut(id as usize) {
                if node.medium.is_some() {
                    return Err(ShapeError::Twice(item.path.clone()));
                }
                node.medium = Some(item.medium);
            }
        }
        for path in text {
            let id = shape.grow(path, None)?;
            if let Some(node) = shape.nodes.get_mut(id as usize) {
                node.text = true;
            }
        }
        Ok(shape)
    }

    /// The wants of which at most one value stands in a document.
    #[cfg(test)]
    pub(super) fn single_wants(&self) -> Vec<usize> {
        let single = self.nodes.iter().filter(|node| node.single);
        single.filter_map(|node| node.want).map(|want| want.index).collect()
    }

    pub(super) fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id as usize)
    }

    /// The node of member `key` (decoded) of an object at `id`.
    pub(super) fn member(&self, id: NodeId, key: &[u8]) -> NodeId {
        self.node(id)
            .and_then(|node| node.members.iter().find(|(name, _)| name.as_bytes() == key))
            .map_or(NONE, |(_, child)| *child)
    }

    /// The node of every element of an array at `id`.
    pub(super) fn element(&self, id: NodeId) -> NodeId {
        self.node(id).and_then(|node| node.any).unwrap_or(NONE)
    }

    /// Walks to `path`, adding what is missing. `items` is given for wants.
    fn grow(&mut self, path: &str, items: Option<u32>) -> Result<NodeId, ShapeError> {
        if path.is_empty() {
            return Err(ShapeError::Empty(path.to_owned()));
        }
        let mut at = ROOT;
        for segment in path.split('.') {
            if segment.is_empty() {
                return Err(ShapeError::Empty(path.to_owned()));
            }
            // Segments are written into outlines as they are, so none may need escaping.
            if segment.chars().any(|c| c < ' ' || c == '"' || c == '\\') {
                return Err(ShapeError::Character(path.to_owned()));
            }
            let next = NodeId::try_from(self.nodes.len()).unwrap_or(NONE);
            let mut single = false;
            let mut child = next;
            if let Some(node) = self.nodes.get_mut(at as usize) {
                node.on_path |= items.is_some();
                if segment == "*" {
                    child = *node.any.get_or_insert(next);
                    if let Some(items) = items {
                        node.array_on_path = true;
                        node.items_max = node.items_max.max(items);
                    }
                } else {
                    single = node.single;
                    node.object_on_path |= items.is_some();
                    match node.members.iter().find(|(name, _)| name == segment) {
                        Some((_, id)) => child = *id,
                        None => node.members.push((segment.to_owned(), next)),
                    }
                }
            }
            if child == next {
                self.nodes.push(Node {
                    name: segment.to_owned(),
                    single,
                    ..Node::default()
                });
            }
            at = child;
        }
        if let Some(node) = self.nodes.get_mut(at as usize) {
            node.on_path |= items.is_some();
        }
        Ok(at)
    }
}

pub(super) const fn medium_index(medium: Medium) -> usize {
    match medium {
        Medium::Text => 0,
        Medium::Image => 1,
        Medium::Audio => 2,
        Medium::File => 3,
    }
}
