//! What is due by time, and at the end: refusals that were counted, checkpoints.

use std::sync::Arc;

use super::{Core, Decided};
use crate::books::FOLDED_KINDS;
use crate::checkpoint::CheckpointAt;

/// A checkpoint is due after so many events,
const CHECKPOINT_EVENTS: u64 = 65_536;
/// or after so long with any event.
const CHECKPOINT_MS: i64 = 60_000;

impl Core {
    /// About once a second, on the writer's thread.
    pub fn tick(&self) {
        let mut decided = self.decided.lock();
        let decided = &mut *decided;
        let now_ms = decided.clock.now().max(decided.books.now_ms());
        if decided.books.has_due_denials(now_ms) {
            // The month first: what is counted then is of it.
            let now_ms = self.now_in_month(decided);
            for recorded in decided.books.flush_denials(now_ms) {
                self.put(decided, recorded, None, false);
            }
        }
        let monotonic_ms = self.clock.monotonic_ms();
        let events = decided.books.head().saturating_sub(decided.checkpoint_sequence);
        let waited_ms = monotonic_ms.saturating_sub(decided.checkpoint_ms);
        let health = self.applier.health();
        let is_due = match health.failed {
            Some(_) => monotonic_ms >= health.retry_at_ms && waited_ms >= 1_000,
            None => events >= CHECKPOINT_EVENTS || (events > 0 && (decided.has_turned || waited_ms >= CHECKPOINT_MS)),
        };
        // One at a time: each keeps what the books change after it.
        let is_written = decided.checkpoint_books.strong_count() == 0;
        if is_due && is_written && self.queue.suspended().is_none() {
            self.checkpoint(decided);
        }
        Self::note_folded(decided);
    }

    /// Says once of each kind that names are counted together.
    fn note_folded(decided: &mut Decided) {
        let kinds = FOLDED_KINDS.into_iter().zip(decided.books.folded());
        for ((kind, count), noted) in kinds.zip(&mut decided.folded_noted) {
            if count > 0 && !std::mem::replace(noted, true) {
                tracing::warn!(
                    kind,
                    "more accounts that no bound names than limits.names_per_kind_max: further ones are counted on `{kind}:other`"
                );
            }
        }
    }

    /// Marks the place with the books there; the applier writes the checkpoint when it has come there.
    fn checkpoint(&self, decided: &mut Decided) {
        decided.checkpoint_sequence = decided.books.head();
        (decided.checkpoint_ms, decided.has_turned) = (self.clock.monotonic_ms(), false);
        let at = CheckpointAt {
            at_ms: decided.books.now_ms(),
            journal_ms: decided.journal_ms,
            month: decided.month,
            secret_check: decided.secret_check,
        };
        let books = Arc::new(decided.books.frozen());
        decided.checkpoint_books = Arc::downgrade(&books);
        self.queue.checkpoint(at, books);
    }

    /// The last events, and a checkpoint, before the queue is closed.
    pub fn finish(&self) {
        let mut decided = self.decided.lock();
        let decided = &mut *decided;
        for recorded in decided.books.finish_denials() {
            self.put(decided, recorded, None, false);
        }
        self.checkpoint(decided);
    }
}
