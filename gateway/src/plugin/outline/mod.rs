//! The outline: one native pass over a JSON document that keeps the values a plugin asked for, and of all else only
//! counts. A plugin parses a few hundred bytes, and a prompt never reaches it.
//!
//! The pass is also the gateway's validator: what it accepts is one well-formed JSON document in UTF-8, with no key
//! twice in any object that a plugin's answer depends on. Two readers of a body cannot disagree about its `model`.

mod alike;
#[cfg(test)]
mod alike_tests;
mod build;
pub mod form;
mod push;
#[cfg(test)]
mod push_tests;
mod scan;
mod shape;
mod skip;
mod splice;
mod string;
#[cfg(test)]
mod tests;
mod window;

use std::ops::Range;

pub use alike::Template;
pub use push::{Arriving, lenient};
pub use scan::outline;
pub use shape::{Shape, ShapeError};
pub use splice::{Edit, splice};

use super::dialect::{Medium, ProgressPart};
use crate::limits::Limits;

/// Ranges of text kept at most; the totals go on counting.
pub const TEXT_RANGES_MAX: usize = 8_192;
/// Longest outline. Wanted values that no longer fit are left out.
pub const DOC_BYTES_MAX: usize = 1 << 20;

/// Values that tell of progress, kept of one document: the last ones, which tell it.
pub const PIECES_MAX: usize = 4_096;

/// A value that tells what an agent did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub part: ProgressPart,
    /// Which element of the outermost array on its way, counted from 1; 0 outside of any.
    pub item: u32,
    pub range: Range<usize>,
}

/// How much of a document is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Deepest nesting.
    pub depth_max: u32,
    /// Keys of one object that are compared with one another.
    pub keys_max: u32,
}

impl From<&Limits> for Bounds {
    fn from(limits: &Limits) -> Bounds {
        Bounds {
            depth_max: limits.json_depth_max,
            keys_max: limits.json_keys_max,
        }
    }
}

/// So deep, and as many keys as by default.
impl From<u32> for Bounds {
    fn from(depth_max: u32) -> Bounds {
        Bounds {
            depth_max,
            ..Bounds::from(&Limits::default())
        }
    }
}

/// What one pass found. All ranges are byte offsets into the document that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// JSON text with only the wanted values, at their places. Objects and arrays on the way to a wanted value are
    /// shown even when nothing wanted is in them; array elements keep their index.
    pub doc: String,
    /// Index into the wants, and where the value stands. Values too long for the outline are listed too.
    pub spans: Vec<(usize, Range<usize>)>,
    /// The whole top-level value.
    pub root: Range<usize>,
    /// The top-level value is `{}` or `[]`.
    pub root_empty: bool,
    /// Raw ranges, inside the quotes, of strings that are text. At most [`TEXT_RANGES_MAX`] of them.
    pub text: Vec<Range<usize>>,
    /// Raw bytes of all strings that are text.
    pub text_bytes: u64,
    /// Items and raw string bytes by medium; see [`Outline::medium`].
    pub media: [(u32, u64); 4],
    /// In their order; the last [`PIECES_MAX`] at most, and at least half as many where there are more.
    pub pieces: Vec<Piece>,
    /// How many values stand at each of the counted paths.
    pub counts: Vec<u64>,
    /// Length of the document.
    pub bytes: u64,
    /// What the ranges point into, where it is not the document itself: see [`Outline::raw`].
    kept: Option<Vec<u8>>,
    /// What was wrong with the document. None of it in one that was read strictly.
    pub flaws: Flaws,
    /// Where the values on the way to a wanted one stand, by node of the shape; for inserting members.
    places: Vec<(u32, Range<usize>)>,
}

/// What a document was read in spite of. Flaws beside what is wanted are not told: they change nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flaws {
    /// It ends before its end, or goes on in a way that cannot be read.
    pub unfinished: bool,
    /// A wanted key comes twice, with different values; or another document follows.
    pub contradictory: bool,
    /// Something inside a wanted value is no JSON, or too deep: `null` is shown in its place.
    pub patched: bool,
}

impl Flaws {
    pub fn any(self) -> bool {
        self != Flaws::default()
    }
}

impl Outline {
    /// The bytes that the ranges point into: `json`, of which this is the outline, or what was kept of it.
    pub fn raw<'a>(&'a self, json: &'a [u8]) -> &'a [u8] {
        self.kept.as_deref().unwrap_or(json)
    }

    /// It was read strictly: it shows the one document there is, as every reader of it sees it.
    pub fn is_strict(&self) -> bool {
        self.kept.is_none()
    }

    /// Items of this medium, and the bytes of the strings in them.
    pub fn medium(&self, medium: Medium) -> (u32, u64) {
        self.media.get(shape::medium_index(medium)).copied().unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutlineErrorKind {
    #[error("not valid UTF-8")]
    Utf8,
    #[error("the document ends too early")]
    Eof,
    #[error("unexpected byte")]
    Syntax,
    #[error("invalid number")]
    Number,
    #[error("invalid escape in a string")]
    Escape,
    #[error("control character in a string")]
    Control,
    #[error("nested too deeply")]
    Depth,
    #[error("the same key twice in one object")]
    DuplicateKey,
    #[error("more keys in one object than limits.json_keys_max")]
    Keys,
    #[error("something follows the document")]
    Trailing,
}

/// Why a document was refused, and at which byte. Says nothing of the document's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {offset}")]
pub struct OutlineError {
    pub kind: OutlineErrorKind,
    pub offset: usize,
}
