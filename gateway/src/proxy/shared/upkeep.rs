//! What tasks beside the traffic did last: comparisons of prices with their sources, backups that failed. In memory, for whoever looks.

use parking_lot::Mutex;

use crate::price::diff::Difference;

/// A comparison of the price book with its sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceDrift {
    /// Milliseconds since the epoch.
    pub at_ms: i64,
    /// Models of both.
    pub compared: usize,
    pub differences: Vec<PriceDifference>,
    /// Why nothing could be compared; empty where it could.
    pub error: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceDifference {
    pub provider: String,
    pub model: String,
    pub what: String,
    pub before: Option<String>,
    pub after: Option<String>,
    /// Why it is not believed; empty where it is.
    pub held_back: String,
}

impl From<&Difference> for PriceDifference {
    fn from(found: &Difference) -> PriceDifference {
        PriceDifference {
            provider: found.provider.clone(),
            model: found.id.clone(),
            what: found.what.clone(),
            before: found.before.clone(),
            after: found.after.clone(),
            held_back: String::new(),
        }
    }
}

/// A backup that was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupFailure {
    /// Milliseconds since the epoch.
    pub at_ms: i64,
    pub why: String,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Upkeep {
    drift: Mutex<Option<PriceDrift>>,
    backup_failure: Mutex<Option<BackupFailure>>,
}

impl Upkeep {
    pub fn compared(&self, drift: PriceDrift) {
        *self.drift.lock() = Some(drift);
    }

    /// The last comparison; `None` before the first.
    pub fn drift(&self) -> Option<PriceDrift> {
        self.drift.lock().clone()
    }

    pub fn backup_failed(&self, failure: BackupFailure) {
        *self.backup_failure.lock() = Some(failure);
    }

    /// The last that failed since the gateway started.
    pub fn backup_failure(&self) -> Option<BackupFailure> {
        self.backup_failure.lock().clone()
    }
}
