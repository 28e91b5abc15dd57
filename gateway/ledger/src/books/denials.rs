//! Refusals: counted by account, reason, policy and minute.

use super::Books;
use super::types::Recorded;
use crate::entry::Name;
use crate::event::{Denial, Denied, Event};
use crate::map::Map;

/// Refusals of so many kinds are counted apart within a minute.
pub const DENIALS_MAX: usize = 10_000;

/// Refusals not told yet. Not part of the state: the first of a minute is told at once, the rest at its end.
#[derive(Clone, Debug, Default)]
pub(super) struct Denials {
    pub minute: i64,
    pub more: Map<Denial, u64>,
    /// How many were recorded with what they read, in this minute.
    pub recorded: u64,
}

impl Books {
    /// Counts a refusal. The first of a kind within a minute makes its event at once; further ones are counted until
    /// `flush_denials`.
    pub fn deny(&mut self, now_ms: i64, denial: &Denial) -> Vec<Recorded> {
        let mut recorded = self.flush_denials(now_ms);
        if let Some(more) = self.denials.more.get_mut(denial) {
            *more = more.saturating_add(1);
            return recorded;
        }
        let mut of = denial.clone();
        if self.denials.more.len() >= DENIALS_MAX {
            let other = Name::from("other");
            (of.account, of.tenant) = (other.clone(), other);
            if let Some(more) = self.denials.more.get_mut(&of) {
                *more = more.saturating_add(1);
                return recorded;
            }
        }
        self.denials.more.insert(of.clone(), 0);
        recorded.push(self.record(Event::Denied(Denied {
            at_ms: self.state.now_ms,
            of,
            count: 1,
        })));
        recorded
    }

    /// Whether `flush_denials` would record anything.
    pub fn has_due_denials(&self, now_ms: i64) -> bool {
        now_ms.max(self.state.now_ms).div_euclid(60_000) != self.denials.minute
            && self.denials.more.values().any(|count| *count > 0)
    }

    /// Records what was counted in a minute that is over. Call it now and then, and with `i64::MAX` never: time would
    /// stand still there.
    pub fn flush_denials(&mut self, now_ms: i64) -> Vec<Recorded> {
        self.state.turn(now_ms);
        let minute = self.state.now_ms.div_euclid(60_000);
        if minute == self.denials.minute {
            Vec::new()
        } else {
            self.finish_denials()
        }
    }

    /// Tells all that was counted, also within this minute: for shutdown.
    pub fn finish_denials(&mut self) -> Vec<Recorded> {
        let at_ms = self.state.now_ms;
        self.denials.minute = at_ms.div_euclid(60_000);
        self.denials.recorded = 0;
        let mut more: Vec<_> = self.denials.more.drain().filter(|(_, count)| *count > 0).collect();
        more.sort_unstable();
        more.into_iter()
            .map(|(of, count)| self.record(Event::Denied(Denied { at_ms, of, count })))
            .collect()
    }
}
