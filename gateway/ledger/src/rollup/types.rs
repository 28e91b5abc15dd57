//! What sums are requested, and what is answered.

use super::{DAY_MS, HOUR_MS, Totals};
use crate::entry::Name;
use crate::money::Usd;
use crate::usage::Usage;

/// What sums are requested by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// With its provider.
    Model,
    Provider,
    Key,
    Agent,
    /// With its agent.
    Session,
    User,
    Task,
    Tenant,
    /// The values of one tag.
    Tag(Name),
}

/// A name that entries bear: of which kind, and which.
pub type Filter = (Dimension, Name);

/// A bucket of time, and how many entries of it there are at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    pub from_ms: i64,
    /// Exclusive.
    pub to_ms: i64,
    pub requests: u64,
}

/// How long sums stay as fine as they were made, and how many of them at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub minutes_kept_ms: i64,
    pub hours_kept_ms: i64,
    /// More rows than this are merged before their time, the oldest first.
    pub minute_rows_max: usize,
    pub hour_rows_max: usize,
    /// Past so many rows the oldest days keep only their dearest names. Some 100 bytes of memory a row, up to
    /// twice that where days keep another one made of it alone, and its name.
    pub day_rows_max: usize,
    /// Distinct names of a kind that are told apart within a day.
    pub names_per_kind_max: usize,
    /// `None`: for ever.
    pub days_kept_ms: Option<i64>,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention {
            minutes_kept_ms: 26 * HOUR_MS,
            hours_kept_ms: 32 * DAY_MS,
            minute_rows_max: 65_536,
            hour_rows_max: 131_072,
            day_rows_max: 2_000_000,
            names_per_kind_max: 100_000,
            days_kept_ms: None,
        }
    }
}

/// Sums that are requested. An entry counts whose request began in `from_ms..to_ms`, to the grain that is still kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SummaryQuery {
    pub from_ms: i64,
    pub to_ms: i64,
    pub by: Dimension,
    /// `None`: all tenants together.
    pub tenant: Option<Name>,
}

/// Which sums over time are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesQuery {
    pub from_ms: i64,
    pub to_ms: i64,
    /// A minute, an hour, a day, or a multiple of one.
    pub step_ms: i64,
    /// `None`: all together.
    pub by: Option<Dimension>,
    /// `None`: all tenants together.
    pub tenant: Option<Name>,
}

/// Sums for one value of the dimension; names that the dimension does not bear are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SummaryRow {
    pub provider: Name,
    pub model: Name,
    pub key: Name,
    pub agent: Name,
    pub session: Name,
    pub user: Name,
    pub task: Name,
    pub tenant: Name,
    /// The tag's value.
    pub tag: Name,
    pub requests: u64,
    pub errors: u64,
    pub status_429: u64,
    pub status_5xx: u64,
    pub estimated: u64,
    pub duration_ms: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub usage: Usage,
    pub cost: Usd,
    pub held: Usd,
    pub overage: Usd,
    pub first_ms: i64,
    pub last_ms: i64,
}

/// Sums over one period of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    pub at_ms: i64,
    pub totals: Totals,
}
