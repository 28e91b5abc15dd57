//! Patterns over names: `*` is any text, `?` one letter. An empty list fits everything.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?} is no pattern: {reason}")]
pub struct PatternError {
    pub pattern: String,
    pub reason: String,
}

#[derive(Clone, Debug, Default)]
pub struct Patterns {
    set: Option<GlobSet>,
}

impl Patterns {
    /// # Errors
    /// One of them is no pattern.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Patterns, PatternError> {
        let mut builder = GlobSetBuilder::new();
        let mut is_empty = true;
        for pattern in patterns {
            is_empty = false;
            let wrong = |error: globset::Error| PatternError {
                pattern: pattern.to_owned(),
                reason: error.kind().to_string(),
            };
            let glob = GlobBuilder::new(pattern).literal_separator(false).build();
            builder.add(glob.map_err(wrong)?);
        }
        let built = builder.build().map_err(|error| PatternError {
            pattern: String::new(),
            reason: error.to_string(),
        })?;
        Ok(Patterns {
            set: (!is_empty).then_some(built),
        })
    }

    pub fn fit(&self, name: &str) -> bool {
        self.set.as_ref().is_none_or(|set| set.is_match(name))
    }
}
