//! What operators do to the ledger, what they have changed, and what they follow.

use std::sync::Arc;

use tokio::sync::broadcast;
use ulid::Ulid;

use super::Ledger;
use crate::amounts::Amounts;
use crate::books::Adjustment;
use crate::change::{Change, ChangePage, ChangeQuery, Document};
use crate::change_rows;
use crate::core::ChangeOf;
use crate::denial_rows::{DenialQuery, DenialRow};
use crate::entry::Name;
use crate::error::LedgerError;
use crate::event::{HoldId, Mark};
use crate::happened::Happened;
use crate::last_limits::RequestedLimit;
use crate::money::Usd;
use crate::query;
use crate::recovered::{self, RecoveredEntry, RecoveredId};
use crate::side_table::SideTable;

impl Ledger {
    /// What requests asked for last on each account.
    pub fn all_requested_limits(&self) -> Vec<(Name, Vec<RequestedLimit>)> {
        self.last_limits.all()
    }

    /// A small table beside the journal, by its name.
    pub fn side_table(&self, name: &str) -> SideTable {
        SideTable::new(name, Arc::clone(&self.state), Arc::clone(&self.applier))
    }

    /// Enters a change, which is in force with this call. The sequence of its event, for `applied`: until that says so it may
    /// be lost with a crash, whole.
    ///
    /// # Errors
    /// It is too large, or nothing can be written: nothing of it is in force.
    pub fn change(&self, change: Change) -> Result<u64, LedgerError> {
        self.core.change(vec![change])
    }

    /// As `change`, of several changes of different subjects, in one record of the journal: a crash leaves all or none. The
    /// sequence of the last.
    ///
    /// # Errors
    /// As `change`: then nothing of any is in force.
    pub fn change_together(&self, changes: Vec<Change>) -> Result<u64, LedgerError> {
        self.core.change(changes)
    }

    /// The documents whose subjects begin so, as the changes so far keep them, in the order of their subjects.
    pub fn documents(&self, prefix: &str) -> Vec<Document> {
        let documents: Vec<Arc<Document>> = self
            .core
            .read(|decided| decided.books.documents().of(prefix).cloned().collect());
        // Copied outside of the lock: there may be very many.
        documents.iter().map(|document| Document::clone(document)).collect()
    }

    pub fn document(&self, subject: &str) -> Option<Document> {
        let document = self
            .core
            .read(|decided| decided.books.documents().get(subject).cloned());
        document.map(|document| Document::clone(&document))
    }

    /// The digest and the answer of a request that this author sent before.
    pub fn answered(&self, author: &str, request: &str) -> Option<([u8; 32], Arc<str>)> {
        self.core.read(|decided| {
            let answered = decided.books.documents().answer(author, request)?;
            Some((answered.digest, Arc::clone(&answered.answer)))
        })
    }

    /// One page of changes, latest first, as far as they are applied. Reads the journal, where each of them stands: not for the
    /// request path.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn changes(&self, query: &ChangeQuery) -> Result<ChangePage, LedgerError> {
        let found = self.derived.read().change_rows.find(query);
        Ok(change_rows::read(&*self.stores, found)?)
    }

    /// Who was refused, as far as it is applied; the latest first.
    pub fn denials(&self, query: &DenialQuery) -> Vec<DenialRow> {
        self.derived.read().denial_rows.find(query)
    }

    /// What happens from now on, as it is applied. Whoever reads slowly misses some and is told how many.
    pub fn follow(&self) -> broadcast::Receiver<Arc<Happened>> {
        self.applier.followers.follow()
    }

    /// Ends an open hold without an entry, for an operator, whoever has it. What is billed for its exchange all the same is
    /// entered when that ends, all of it beyond what is held. The sequence of its event.
    ///
    /// # Errors
    /// There is no such hold, or nothing can be written.
    pub fn void(&self, hold: HoldId, reason: &str) -> Result<u64, LedgerError> {
        self.core.void_by(None, hold, &Name::from(reason))
    }

    /// As `void`, in one record of the journal with the change that `change` makes of the sequence of the event that voids: a
    /// crash leaves both or none. The sequence of the change. `change` is called under the ledger's lock: it must call
    /// nothing of the ledger.
    ///
    /// # Errors
    /// As `void` and `change`.
    pub fn void_audited(
        &self,
        hold: HoldId,
        reason: &str,
        mut change: impl FnMut(u64) -> Change,
    ) -> Result<u64, LedgerError> {
        self.core.void_by(Some(&mut change), hold, &Name::from(reason))
    }

    /// Marks a session. The sequence of its event, for `applied`.
    pub fn mark_session(&self, tenant: &Name, session: &Name, mark: Mark) -> u64 {
        self.core.mark_session(tenant, session, mark)
    }

    /// As `mark_session`, with a change as in `void_audited`.
    ///
    /// # Errors
    /// As `change`.
    pub fn mark_session_audited(
        &self,
        tenant: &Name,
        session: &Name,
        mark: Mark,
        mut change: impl FnMut(u64) -> Change,
    ) -> Result<u64, LedgerError> {
        self.core.mark_session_by(&mut change, tenant, session, mark)
    }

    /// Corrects a settled entry by `delta`. Reads the journal to find it: not for the request path. The sequence of its
    /// event, for `durable`.
    ///
    /// # Errors
    /// There is no such entry, nothing can be written, or the journal cannot be read.
    pub fn adjust(&self, entry_id: Ulid, delta: Usd, reason: &str) -> Result<u64, LedgerError> {
        self.adjust_by(entry_id, delta, reason, None)
    }

    /// As `adjust`, with a change as in `void_audited`: the same request never corrects twice.
    ///
    /// # Errors
    /// As `adjust` and `change`.
    pub fn adjust_audited(
        &self,
        entry_id: Ulid,
        delta: Usd,
        reason: &str,
        mut change: impl FnMut(u64) -> Change,
    ) -> Result<u64, LedgerError> {
        self.adjust_by(entry_id, delta, reason, Some(&mut change))
    }

    /// Entries of holds whose end nobody saw, entered since `from_ms`, in the order of the journal, as far as that is on disk.
    /// Reads all of the journal since then.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn recovered(&self, from_ms: i64) -> Result<Vec<RecoveredEntry>, LedgerError> {
        Ok(recovered::since(&*self.stores, from_ms, self.head().sequence)?)
    }

    /// The one with this id, as `recovered`; `None` where its hold is open, or ended as its exchange did.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn recovered_entry(&self, id: RecoveredId) -> Result<Option<RecoveredEntry>, LedgerError> {
        Ok(recovered::find(&*self.stores, id, self.head().sequence)?)
    }

    fn adjust_by(
        &self,
        entry_id: Ulid,
        delta: Usd,
        reason: &str,
        change: Option<ChangeOf<'_>>,
    ) -> Result<u64, LedgerError> {
        // An entry's id is made as its request begins, before it is held.
        let from_ms = i64::try_from(entry_id.timestamp_ms()).unwrap_or(i64::MAX);
        let until = self.head().sequence;
        let found = query::find(&*self.stores, from_ms, until, |held, _| held.facts.id == entry_id)?;
        let found = match found {
            Some(found) => found,
            None => self
                .find_imported(entry_id)?
                .ok_or(LedgerError::NoSuchEntry(entry_id))?,
        };
        let adjustment = Adjustment {
            hold: found.hold,
            held: &found.held,
            model: found.model().clone(),
            amounts: Amounts {
                usd: delta,
                ..Amounts::ZERO
            },
            reason: Name::from(reason),
            bill: None,
        };
        self.core
            .adjust_by(change, |decided, now_ms| decided.books.adjust(now_ms, &adjustment))
    }
}
