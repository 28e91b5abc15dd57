//! What policies ask about a raw key: a replay, which has no raw keys, answers by what was recorded.

use std::collections::HashMap;
use std::sync::Arc;

use super::glob::{Glob, GlobSet};

/// One question about the raw key of a call.
#[derive(Clone, Copy)]
pub enum KeyQuestion<'a> {
    /// Whether it matches one pattern.
    Glob(&'a str, &'a Glob),
    /// Which of many patterns is the first that it matches.
    Globs(&'a Arc<GlobSet>),
    /// Which of many keys it is.
    Names(&'a Arc<HashMap<Box<str>, u32>>),
}

impl KeyQuestion<'_> {
    /// The place of the pattern or key, from 0; `None` where there is none.
    pub fn answer(&self, key: &str) -> Option<u32> {
        match self {
            KeyQuestion::Glob(_, glob) => glob.matches(key).then_some(0),
            KeyQuestion::Globs(globs) => globs.first(key).and_then(|place| u32::try_from(place).ok()),
            KeyQuestion::Names(names) => names.get(key).copied(),
        }
    }
}
