//! How a ledger is opened.

use std::path::PathBuf;

use crate::rollup::Retention;

/// When a hold counts as placed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When it is on disk.
    #[default]
    Strict,
    /// At once; what the last 5 ms brought may be lost to a `kill -9`.
    Relaxed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Folder of the ledger: `journal/YYYY-MM`, `state`, `lock`.
    pub dir: PathBuf,
    pub durability: Durability,
    /// Full months of journal to keep beside the running one; `None` keeps all.
    pub retention_months: Option<u32>,
    /// Places for events between decision and disk. An open hold keeps one, so no more holds than this are open at once.
    pub queue_events_max: usize,
    pub rollups: Retention,
}

impl Options {
    pub fn new(dir: impl Into<PathBuf>) -> Options {
        Options {
            dir: dir.into(),
            durability: Durability::Strict,
            retention_months: None,
            queue_events_max: 65_536,
            rollups: Retention::default(),
        }
    }
}
