//! What was taken over from elsewhere: how far each source was taken, what its entries post, and which of its keys have
//! been seen here since.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ulid::Ulid;

use super::accounts::{DAY, FactKind, MONTH, TOTAL};
use super::snapshot::SnapshotError;
use super::state::State;
use super::{Books, BooksError, Recorded};
use crate::amounts::Amounts;
use crate::bound::ACCOUNT_BYTES_MAX;
use crate::codec::DecodeError;
use crate::entry::Name;
use crate::event::{Event, Imported, ImportedEntry, Linked};
use crate::money::Usd;
use crate::slab::Place;
use crate::wire::{Reader, Writer};

/// How far a source was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    pub place: u64,
    /// The last entry that was taken: whoever goes on can tell that it is the same source. Nil where there was none.
    pub last: Ulid,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Imports {
    pub taken: BTreeMap<Name, Taken>,
    /// Fingerprints of imported entries, and those by which their keys are known here.
    pub links: BTreeMap<Name, Name>,
    /// Fingerprints of imported entries whose keys have not been seen.
    pub unseen: BTreeSet<Name>,
}

impl Imports {
    pub fn write(&self, w: &mut Writer) {
        w.unsigned(self.taken.len() as u64);
        for (source, taken) in &self.taken {
            w.text(source);
            w.unsigned(taken.place);
            w.raw(&taken.last.to_bytes());
        }
        w.unsigned(self.links.len() as u64);
        for (legacy, key) in &self.links {
            w.text(legacy);
            w.text(key);
        }
        w.unsigned(self.unseen.len() as u64);
        self.unseen.iter().for_each(|legacy| w.text(legacy));
    }

    pub fn read(r: &mut Reader<'_>) -> Result<Imports, SnapshotError> {
        let mut imports = Imports::default();
        for _ in 0..r.count()? {
            let (source, place) = (Name::from(r.text()?), r.unsigned()?);
            let last = Ulid::from_bytes(r.array()?);
            ascends(imports.taken.last_key_value().map(|(last, _)| last), &source)?;
            imports.taken.insert(source, Taken { place, last });
        }
        for _ in 0..r.count()? {
            let (legacy, key) = (Name::from(r.text()?), Name::from(r.text()?));
            ascends(imports.links.last_key_value().map(|(last, _)| last), &legacy)?;
            imports.links.insert(legacy, key);
        }
        for _ in 0..r.count()? {
            let legacy = Name::from(r.text()?);
            ascends(imports.unseen.last(), &legacy)?;
            imports.unseen.insert(legacy);
        }
        Ok(imports)
    }
}

impl Books {
    /// Takes over entries from elsewhere, the next ones of their source, each in the windows of its own time.
    ///
    /// # Errors
    /// They were taken already, or one of them is of the future or costs less than nothing.
    pub fn import(
        &mut self,
        now_ms: i64,
        source: &Name,
        place: u64,
        has_legacy_keys: bool,
        entries: Vec<ImportedEntry>,
    ) -> Result<Recorded, BooksError> {
        if self.taken(source).is_some_and(|taken| taken.place >= place) {
            return Err(BooksError::Invalid("entries that were imported before"));
        }
        self.state.turn(now_ms);
        let at_ms = self.state.now_ms;
        if entries.iter().any(|entry| !(0..=at_ms).contains(&entry.facts.at_ms)) {
            return Err(BooksError::Invalid("an imported entry of the future, or of no time"));
        }
        if entries.iter().any(|entry| entry.settlement.cost < Usd::ZERO) {
            return Err(BooksError::Invalid("an imported entry that cost less than nothing"));
        }
        Ok(self.record(Event::Imported(Arc::new(Imported {
            at_ms,
            source: source.clone(),
            place,
            has_legacy_keys,
            entries,
        }))))
    }

    /// How far a source was taken over; `None` for one that never was.
    pub fn taken(&self, source: &str) -> Option<Taken> {
        self.state.imports.taken.get(source).copied()
    }

    /// Whether entries were taken over under this fingerprint, and their key was not seen since.
    pub fn is_unseen(&self, legacy: &str) -> bool {
        self.state.imports.unseen.contains(legacy)
    }

    /// How many such fingerprints there are.
    pub fn unseen_count(&self) -> usize {
        self.state.imports.unseen.len()
    }

    /// The fingerprints of imported entries whose keys were seen here, each with the key's own.
    pub fn links(&self) -> impl Iterator<Item = (&Name, &Name)> {
        self.state.imports.links.iter()
    }

    /// A key was seen whose imported entries bear the fingerprint `legacy`: what they posted is its own. `None`: there are no
    /// such entries, or they are another's already.
    pub fn link(&mut self, now_ms: i64, legacy: &Name, key: &Name) -> Option<Recorded> {
        if key.is_empty() || !self.is_unseen(legacy) {
            return None;
        }
        self.state.turn(now_ms);
        Some(self.record(Event::Linked(Linked {
            at_ms: self.state.now_ms,
            legacy: legacy.clone(),
            key: key.clone(),
        })))
    }
}

/// Equal books have equal bytes: names stand in their order, each once.
fn ascends(last: Option<&Name>, name: &Name) -> Result<(), SnapshotError> {
    match last {
        Some(last) if last >= name => Err(DecodeError::Malformed("names out of order").into()),
        _ => Ok(()),
    }
}

impl State {
    /// Posts each entry in the running windows that hold its own moment, as overage: nothing was held for it.
    pub(super) fn apply_imported(&mut self, imported: &Imported) {
        let mut begun: Vec<Place> = Vec::with_capacity(32);
        let (mut accounts, mut balances) = (Vec::with_capacity(16), Vec::with_capacity(48));
        for entry in &imported.entries {
            let posted = entry.posted();
            let at_s = entry.facts.at_ms.div_euclid(1_000);
            accounts.clear();
            self.accounts_imported(&entry.facts, imported.has_legacy_keys, &mut accounts, &mut begun);
            for account in &accounts {
                balances.clear();
                self.running_of(*account, &mut balances);
                for place in &balances {
                    let holds_it = |balance| self.period_of(balance).contains(at_s);
                    if self.balances.get(*place).is_some_and(holds_it) {
                        self.post(*place, &posted, &posted);
                    }
                }
            }
            if imported.has_legacy_keys {
                self.note_unseen(&entry.facts.key);
            }
        }
        self.rest(&begun);
        let last = imported.entries.last().map(|entry| entry.facts.id);
        let known = self.imports.taken.get(&imported.source).map(|taken| taken.last);
        let taken = Taken {
            place: imported.place,
            last: last.or(known).unwrap_or_default(),
        };
        Arc::make_mut(&mut self.imports)
            .taken
            .insert(imported.source.clone(), taken);
    }

    /// Beyond the limit on names a key is counted on `key:other`, and there is nothing to be moved.
    fn note_unseen(&mut self, legacy: &Name) {
        let is_known = self.imports.unseen.contains(legacy) || self.imports.links.contains_key(legacy);
        if !legacy.is_empty() && !is_known && self.imports.unseen.len() < self.names_max.per_kind {
            Arc::make_mut(&mut self.imports).unseen.insert(legacy.clone());
        }
    }

    /// What the imported entries of a key have posted is its own from now on, in each window that runs.
    pub(super) fn apply_linked(&mut self, linked: &Linked) {
        let imports = Arc::make_mut(&mut self.imports);
        imports.unseen.remove(&linked.legacy);
        imports.links.insert(linked.legacy.clone(), linked.key.clone());
        let Some(from) = self.account(&format!("key:{}", linked.legacy), self.now_s()) else {
            return;
        };
        let mut moved: Vec<(u16, Place, Amounts, Amounts)> = Vec::new();
        for calendar in [DAY, MONTH, TOTAL] {
            let place = self
                .accounts
                .get(from)
                .and_then(|account| account.balance_in(calendar))
                .filter(|place| self.is_running_on(*place));
            if let Some((place, balance)) = place.and_then(|place| Some((place, self.balances.get(place)?))) {
                moved.push((calendar, place, balance.posted, self.overage_of(balance)));
            }
        }
        let Some(to) = self.account_counting(FactKind::Key, &format!("key:{}", linked.key)) else {
            return;
        };
        if to == from {
            return;
        }
        self.begin(to);
        self.unrest(from);
        for (calendar, place, posted, overage) in moved {
            let period = self.calendars.get(usize::from(calendar)).map(|known| known.period);
            if let Some(own) = period.and_then(|period| self.running(to, calendar, period)) {
                self.post(own, &posted, &overage);
                self.post(place, &Amounts::ZERO.minus(&posted), &Amounts::ZERO.minus(&overage));
            }
        }
        self.rest(&[from, to]);
    }

    /// The name of the account on which an imported key's entries count.
    pub(super) fn linked_account(&self, account: &str) -> Option<String> {
        let legacy = account.strip_prefix("key:")?;
        let key = self.imports.links.get(legacy)?;
        Some(format!("key:{key}")).filter(|account| account.len() <= ACCOUNT_BYTES_MAX)
    }
}
