//! How a ledger is opened.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::books::NamesMax;
use crate::entry::Facts;
use crate::money::Usd;
use crate::rollup::Retention;
use crate::sessions::Kept;
use crate::writer::CommitObserver;

/// When a hold counts as placed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When it is on disk: the `fdatasync` of its group has returned.
    #[default]
    Strict,
    /// At once; what the last 5 ms brought may be lost to a `kill -9`. Groups are written and synced as in `Strict`.
    Relaxed,
}

/// What calls are expected to cost of whose end nobody knows.
pub trait ExpectedCosts: fmt::Debug + Send + Sync {
    /// `None`: nothing like it is known well enough.
    fn of(&self, facts: &Facts) -> Option<Usd>;
}

#[derive(Clone, Debug)]
pub struct Options {
    /// Folder of the ledger: `journal/YYYY-MM`, `state`, `lock`.
    pub dir: PathBuf,
    pub durability: Durability,
    /// Full months of journal to keep beside the running one; `None` keeps all.
    pub retention_months: Option<u32>,
    /// Permits for events between decision and disk. An open hold keeps one, so no more holds than this are open at once.
    pub queue_events_max: usize,
    /// Distinct names of a kind that clients make up and that are told apart: accounts that no bound names, names in a day's cost
    /// sums, new sessions a day. It wins over what `rollups` and `sessions` say of it.
    pub names_per_kind_max: usize,
    /// Accounts that bounds name.
    pub bound_accounts_max: usize,
    pub rollups: Retention,
    /// Sessions in memory.
    pub sessions: Kept,
    /// The machine's clock is right, an operator says, however far it is from the last decision.
    pub accept_clock: bool,
    /// What holds that a crash left open are entered at, as far as it is known, and never more than they held. `None`: at what
    /// they held.
    pub expected_costs: Option<Arc<dyn ExpectedCosts>>,
    /// Notified of each group commit, for metrics.
    pub observer: Option<Arc<dyn CommitObserver>>,
}

impl Options {
    pub fn new(dir: impl Into<PathBuf>) -> Options {
        Options {
            dir: dir.into(),
            durability: Durability::Strict,
            retention_months: None,
            queue_events_max: 65_536,
            names_per_kind_max: NamesMax::default().per_kind,
            bound_accounts_max: NamesMax::default().bound,
            rollups: Retention::default(),
            sessions: Kept::default(),
            accept_clock: false,
            expected_costs: None,
            observer: None,
        }
    }

    pub(crate) fn keep(&self) -> Keep {
        let per_kind = self.names_per_kind_max;
        Keep {
            rollups: Retention {
                names_per_kind_max: per_kind,
                ..self.rollups
            },
            sessions: Kept {
                new_per_day_max: per_kind,
                ..self.sessions
            },
            names: NamesMax {
                per_kind,
                bound: self.bound_accounts_max,
            },
        }
    }
}

/// How much of what is derived from the journal is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep {
    pub rollups: Retention,
    pub sessions: Kept,
    pub names: NamesMax,
}

impl Keep {
    pub fn of(rollups: Retention) -> Keep {
        Keep {
            rollups,
            sessions: Kept {
                new_per_day_max: rollups.names_per_kind_max,
                ..Kept::default()
            },
            names: NamesMax {
                per_kind: rollups.names_per_kind_max,
                ..NamesMax::default()
            },
        }
    }
}
