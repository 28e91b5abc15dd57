//! What is wrong with a configuration, each with its place.

use std::fmt;

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: a default, or a key that should have been there.
    Absent,
    /// In the file, both counted from 1; the column in characters.
    File { line: usize, column: usize },
    /// In the environment, by the variable's name.
    Env(String),
}

/// One fault. The message never holds the value of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// `FILE:LINE:COL`, the file alone, or the environment variable.
    pub location: String,
    /// Dotted, list items as `budgets.rules[0]`; empty where the whole file is meant.
    pub key: String,
    pub message: String,
}

/// All faults of a configuration at once, in the file's order. Displays one per line: `FILE:LINE:COL: key: message`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl ConfigErrors {
    /// A file that cannot be read at all.
    pub fn unreadable(path: &std::path::Path, reason: &dyn fmt::Display) -> ConfigErrors {
        ConfigErrors(vec![ConfigError {
            location: String::new(),
            key: String::new(),
            message: format!("reading config {}: {reason}", path.display()),
        }])
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.location, &self.key] {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        f.write_str(&self.message)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
