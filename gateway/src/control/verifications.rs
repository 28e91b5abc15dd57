//! Walks over the journal beside the gateway's work: one at a time, on a thread of its own. What the latest one found is kept, and when
//! each month was last found sound.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use agentledger_ledger::{Ledger, LedgerError, Report};
use parking_lot::Mutex;
use ulid::Ulid;

use crate::control::wire::Verified;

/// The table beside the journal: months, and when they were last found sound.
pub(in crate::control) const TABLE: &str = "verified";

/// A walk over the journal.
#[derive(Clone, Debug)]
pub struct Verification {
    pub id: Ulid,
    /// Milliseconds since the epoch.
    pub began_ms: i64,
    pub ended_ms: Option<i64>,
    /// Events walked so far, of so many.
    pub events: Arc<AtomicU64>,
    pub events_in_all: u64,
    /// `None` while it runs.
    pub result: Option<Result<Arc<Verified>, String>>,
}

/// The walk that runs, or the latest.
#[derive(Debug, Default)]
pub struct Verifications(Mutex<Option<Verification>>);

impl Verifications {
    pub fn latest(&self) -> Option<Verification> {
        self.0.lock().clone()
    }

    /// Begins a walk over so many events; the one that runs, where one does, and `false`. `walk` is given what it says its progress
    /// to, and when to end early: with its process.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(
        self: &Arc<Self>,
        began_ms: i64,
        events_in_all: u64,
        walk: impl FnOnce(&mut dyn FnMut(u64) -> ControlFlow<()>) -> (i64, Result<Verified, String>) + Send + 'static,
    ) -> Result<(Verification, bool), String> {
        let mut latest = self.0.lock();
        if let Some(running) = latest.as_ref().filter(|latest| latest.result.is_none()) {
            return Ok((running.clone(), false));
        }
        let begun = Verification {
            id: Ulid::new(),
            began_ms,
            ended_ms: None,
            events: Arc::default(),
            events_in_all,
            result: None,
        };
        // Weak: what runs keeps nothing alive that nobody has any more.
        let (all, events) = (Arc::downgrade(self), Arc::clone(&begun.events));
        let work = move || {
            let mut watch = |walked| {
                events.store(walked, Ordering::Relaxed);
                match all.strong_count() {
                    0 => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                }
            };
            // One that panics is no reason for the next not to begin.
            let walked = catch_unwind(AssertUnwindSafe(|| walk(&mut watch)));
            let (ended_ms, result) = walked.unwrap_or_else(|_| (began_ms, Err("the walk panicked".to_owned())));
            if let Some(all) = all.upgrade()
                && let Some(latest) = all.0.lock().as_mut()
            {
                latest.ended_ms = Some(ended_ms);
                latest.result = Some(result.map(Arc::new));
            }
        };
        let spawned = thread::Builder::new().name("verify".into()).spawn(work);
        spawned.map_err(|error| error.to_string())?;
        *latest = Some(begun.clone());
        Ok((begun, true))
    }
}

/// Notes which months a walk has found sound, and forgets it of those from the damage on.
///
/// # Errors
/// The disk fails.
pub(in crate::control) fn note(ledger: &Ledger, report: &Report, at_ms: i64) -> Result<(), LedgerError> {
    let table = ledger.side_table(TABLE);
    let mut changes: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::new();
    let damaged = report.damage.as_ref().map(|damage| damage.month);
    for month in &report.months {
        let is_sound = damaged.is_none_or(|damaged| month.month < damaged);
        let at = is_sound.then(|| at_ms.to_be_bytes().to_vec());
        changes.push((month.month.to_string().into_bytes(), at));
    }
    // Months that were not reached, and those that are gone.
    for (key, _) in table.rows()? {
        if !changes.iter().any(|(noted, _)| *noted == key) {
            changes.push((key, None));
        }
    }
    table.apply(changes)
}
