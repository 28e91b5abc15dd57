//! Which months of the journal are kept, and what goes with those that are not. A month is removed only behind a checkpoint
//! in a later one, so that no start ever needs what is gone. Folders are counted, not calendar months: a clock that jumps
//! makes no month old.

use crate::checkpoint::CheckpointAt;
use crate::journal::reader::MonthReader;
use crate::sessions::Sessions;
use crate::store::{Change, Month, StoreError, Stores};

/// Rows of sessions that are looked at after one checkpoint.
const SESSION_ROWS_MAX: usize = 65_536;

#[derive(Debug, Default)]
pub(crate) struct Retention {
    /// Full months to keep beside the running one; `None` keeps all.
    months: Option<u32>,
    /// Rows of the state database that no checkpoint has removed yet.
    forgotten: Vec<Change>,
    /// Sessions whose last call was before this moment are forgotten; from which row on they were not looked at yet.
    forgetting: Option<(i64, Option<Vec<u8>>)>,
}

impl Retention {
    pub fn new(months: Option<u32>) -> Retention {
        Retention {
            months,
            forgotten: Vec::new(),
            forgetting: None,
        }
    }

    /// What the next checkpoint removes.
    pub fn forgotten(&self) -> impl Iterator<Item = Change> + '_ {
        self.forgotten.iter().cloned()
    }

    /// It did.
    pub fn saved(&mut self) {
        self.forgotten = Vec::new();
    }

    /// A checkpoint at this place is on disk: removes the months that are not kept. What fails is tried after the next one. The
    /// first event that is left, where some were removed.
    pub fn remove_old(&mut self, stores: &dyn Stores, at: &CheckpointAt, sessions: &Sessions) -> Option<u64> {
        let removed = self.try_remove(stores, at);
        if let Err(error) = &removed {
            tracing::warn!(%error, "cannot remove old months of the journal");
        }
        if let Err(error) = self.forget(sessions) {
            tracing::warn!(%error, "cannot find the sessions that are to be forgotten");
        }
        removed.ok().flatten()
    }

    /// Some rows after each checkpoint: there may be very many.
    fn forget(&mut self, sessions: &Sessions) -> Result<(), StoreError> {
        let Some((before_ms, from)) = &self.forgetting else {
            return Ok(());
        };
        let piece = sessions.forget_before(*before_ms, from.as_deref(), SESSION_ROWS_MAX)?;
        let next = piece.next.map(|next| (*before_ms, Some(next)));
        self.forgotten.extend(piece.changes);
        self.forgetting = next;
        Ok(())
    }

    fn try_remove(&mut self, stores: &dyn Stores, at: &CheckpointAt) -> Result<Option<u64>, StoreError> {
        let Some(kept) = self.months else { return Ok(None) };
        let months = stores.months()?;
        let kept = usize::try_from(kept).unwrap_or(usize::MAX).saturating_add(1);
        if months.len() <= kept {
            return Ok(None);
        }
        // A month that a crash left before its opening is none, and one that cannot be read carries on from nothing.
        let mut begun = 0;
        for month in months.iter().rev() {
            let Some(opened) = opened(stores, *month)? else {
                continue;
            };
            begun += 1;
            if begun == kept {
                return match at.month >= *month {
                    true => self.remove_before(stores, (*month, opened), &months),
                    false => Ok(None),
                };
            }
        }
        Ok(None)
    }

    fn remove_before(
        &mut self,
        stores: &dyn Stores,
        (first, opened): (Month, Opened),
        months: &[Month],
    ) -> Result<Option<u64>, StoreError> {
        let old: Vec<&Month> = months.iter().filter(|month| **month < first).collect();
        if old.is_empty() {
            return Ok(None);
        }
        self.forgetting = Some((opened.at_ms, None));
        for month in old {
            stores.remove_month(*month)?;
            tracing::info!(%month, "removed a month of the journal");
        }
        Ok(Some(opened.sequence))
    }
}

/// The opening of a month: when, and by which event.
struct Opened {
    at_ms: i64,
    sequence: u64,
}

/// `None` where nothing was written yet, or what was cannot be read.
fn opened(stores: &dyn Stores, month: Month) -> Result<Option<Opened>, StoreError> {
    let Some(store) = stores.month(month)? else {
        return Ok(None);
    };
    let reader = MonthReader { month, store: &*store };
    let opening = reader.opening().ok().flatten();
    Ok(opening.map(|(opening, before)| Opened {
        at_ms: opening.at_ms,
        sequence: before.sequence + 1,
    }))
}
