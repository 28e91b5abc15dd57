//! What decisions record of themselves, beside what they change.

use std::sync::Arc;

use super::Books;
use super::types::Recorded;
use crate::entry::Name;
use crate::event::{Denial, Event};
use crate::recorded::{Base, InForce, RefusalRecord, Refused};

/// Refusals of one account and reason that are recorded whole within a minute,
pub const REFUSED_EACH_MAX: u64 = 10;
/// and of all together: whoever is refused a thousand times a second writes no more than this to the disk.
pub const REFUSED_MAX: u64 = 600;

impl Books {
    /// Records what a refusal read, after `deny` has counted it; `call` is requested where there is room. `None`: enough of them are
    /// recorded in this minute.
    pub fn refuse(&mut self, denial: &Denial, call: impl FnOnce() -> Option<RefusalRecord>) -> Option<Recorded> {
        // Those that are counted together are recorded together, too: none of them.
        let more = self.denials.more.get(denial).copied()?;
        if more >= REFUSED_EACH_MAX || self.denials.recorded >= REFUSED_MAX {
            return None;
        }
        let call = call()?;
        self.denials.recorded += 1;
        Some(self.record(Event::Refused(Arc::new(Refused {
            at_ms: self.state.now_ms,
            facts: call.facts,
            account: Name::clone(&denial.account),
            reason: Name::clone(&denial.reason),
            record: call.record,
        }))))
    }

    /// Records what is in force from now on. `id` is 0 where it is new.
    pub fn put_in_force(&mut self, now_ms: i64, id: u64, digest: [u8; 32], base: Base) -> Recorded {
        self.state.turn(now_ms);
        self.record(Event::InForce(Arc::new(InForce {
            at_ms: self.state.now_ms,
            id,
            digest,
            base,
        })))
    }
}
