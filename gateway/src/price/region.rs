//! Hosts that serve the same models at another price: a region's. A price file says which hosts, by how much, and of which
//! models:
//!
//! ```yaml
//! regions:
//! - hosts: [eu.api.openai.com, "*-aiplatform.googleapis.com"]   # `*` is a beginning of any length
//!   factor: 1.1                    # on prices of tokens; fees by the unit stay as they are
//!   since: 2026-03-05              # rows whose first prices hold from this day or later…
//!   models: [claude-opus-4-5]      # …or these ids, and what they begin up to a boundary
//! ```

use super::file::Fault;
use super::{id, text};

/// What a factor is counted in: ten-thousandths.
const ONE: i64 = 10_000;

/// A dearer region of one provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    hosts: Vec<Box<str>>,
    /// In ten-thousandths.
    factor: i64,
    since_ms: Option<i64>,
    models: Vec<Box<[u8]>>,
}

impl Region {
    pub fn new(hosts: &[String], factor: &str, since_ms: Option<i64>, models: &[String]) -> Result<Region, Fault> {
        let factor = text::decimal(factor, 4)?;
        if !(1..=100 * ONE).contains(&factor) {
            return Err(Fault::TooLarge(factor.to_string()));
        }
        Ok(Region {
            hosts: hosts.iter().map(|host| host.to_ascii_lowercase().into()).collect(),
            factor,
            since_ms,
            models: models.iter().map(|model| id::key(model)).collect(),
        })
    }

    /// Whether it has another price for a row: by the day of the row's first prices, or by its id.
    pub fn covers(&self, row_id: &str, first_ms: i64) -> bool {
        let folded = id::key(row_id);
        self.since_ms.is_some_and(|since| first_ms >= since)
            || self.models.iter().any(|model| id::begins(&folded, model))
    }

    pub fn serves(&self, host: &str) -> bool {
        self.hosts.iter().any(|known| match known.strip_prefix('*') {
            Some(ending) => {
                host.len() > ending.len()
                    && host
                        .get(host.len() - ending.len()..)
                        .is_some_and(|end| end.eq_ignore_ascii_case(ending))
            }
            None => host.eq_ignore_ascii_case(known),
        })
    }

    /// A price there, rounded up where it cannot be kept exactly.
    pub fn price(&self, picos: i64) -> i64 {
        let there = (i128::from(picos) * i128::from(self.factor) + i128::from(ONE - 1)) / i128::from(ONE);
        i64::try_from(there).unwrap_or(i64::MAX)
    }
}
