//! Walks the whole journal, believing nothing: chain, order, months, and that the books follow from the events.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use thiserror::Error;

use crate::amounts::Amounts;
use crate::books::Books;
use crate::bound::Window;
use crate::checkpoint;
use crate::event::{Event, HoldId, Opening};
use crate::head::{Hash, Head};
use crate::journal::frame::Damage;
use crate::journal::reader::{Damaged, MonthReader, ReadError};
use crate::known_heads::KnownHeads;
use crate::secret_check;
use crate::store::{DiskStores, Month, StoreError, Stores};

/// Whoever watches a walk hears from it after so many events.
const WATCHED_EVENTS: u64 = 1_024;

/// What a walk over the journal found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub months: Vec<MonthReport>,
    pub events: u64,
    /// Settled exchanges, and those imported.
    pub entries: u64,
    /// What operators changed.
    pub changes: u64,
    /// As far as the journal could be believed.
    pub head: Head,
    /// Holds open at the end. A start settles them as recovered.
    pub open_holds: u64,
    /// The first damage. Nothing after it was read.
    pub damage: Option<Damaged>,
    /// Of the secret that keys have their fingerprints by; `None` where none was ever noted.
    pub fingerprint_check: Option<[u8; 16]>,
    /// Whether the head that was requested is one the journal has had; `None` where none was requested.
    pub expected_found: Option<bool>,
}

impl Report {
    /// No damage, and the expected head was found if one was named.
    pub fn is_sound(&self) -> bool {
        self.damage.is_none() && self.expected_found != Some(false)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MonthReport {
    pub month: Month,
    pub events: u64,
    pub head: Head,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum VerifyError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("there is no ledger in {0}")]
    Nothing(String),
}

/// Walks the journal under `dir`, which no process may have open. `expect` is the hash of a head kept elsewhere.
pub fn verify(dir: &Path, expect: Option<Hash>) -> Result<Report, VerifyError> {
    if !dir.join("journal").is_dir() {
        return Err(VerifyError::Nothing(dir.display().to_string()));
    }
    Ok(walk(&DiskStores::open(dir)?, expect, u64::MAX)?)
}

/// Walks the journal up to the event `until`.
pub fn walk(stores: &dyn Stores, expect: Option<Hash>, until: u64) -> Result<Report, StoreError> {
    let report = walk_watched(stores, expect, until, &mut |_| ControlFlow::Continue(()))?;
    // Nobody ended it.
    Ok(report.unwrap_or_default())
}

/// As `walk`; `watch` is told how many events were walked, every so often, and may end it: then there is no report.
pub fn walk_watched(
    stores: &dyn Stores,
    expect: Option<Hash>,
    until: u64,
    watch: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Option<Report>, StoreError> {
    let heads = stores.heads()?;
    let mut walk = Walk {
        report: Report::default(),
        books: Books::new(),
        until,
        noted: KnownHeads::new(heads.noted.into_iter().chain(checkpoint_head(stores)), until),
        found_empty: false,
        is_ended: false,
    };
    walk.report.expected_found = expect.map(|_| false);
    let months = stores.months()?;
    for month in &months {
        match walk.month(stores, *month, expect, watch) {
            Ok(()) => {}
            Err(ReadError::Store(error)) => return Err(error),
            Err(ReadError::Damaged(damaged)) => {
                walk.report.damage = Some(damaged);
                break;
            }
        }
        if walk.is_ended {
            return Ok(None);
        }
    }
    if walk.report.damage.is_none() {
        let month = months.last().copied();
        walk.report.damage = walk.noted.end(month, walk.report.head).err();
        // A note that was just being written may be torn; two cannot be.
        if heads.broken > 1 && walk.report.damage.is_none() {
            walk.report.damage = Some(Damaged {
                month: month.unwrap_or_else(|| Month::of_ms(0)),
                after_sequence: walk.report.head.sequence,
                damage: Damage::Heads(heads.broken),
            });
        }
    }
    walk.report.open_holds = walk.books.open_count() as u64;
    Ok(Some(walk.report))
}

/// The state can be made anew from the journal, so it is no reason to fail; `heads` knows as much.
fn checkpoint_head(stores: &dyn Stores) -> Option<Head> {
    let head = stores.state().and_then(|state| checkpoint::head_of(&*state));
    head.unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot compare the journal with the last checkpoint");
        None
    })
}

struct Walk {
    report: Report,
    books: Books,
    until: u64,
    noted: KnownHeads,
    /// A month without any event came before those with some.
    found_empty: bool,
    /// Whoever watches has ended it.
    is_ended: bool,
}

impl Walk {
    /// Whether the opening's books agree with those that the months before have made: what is posted and held in all, each open
    /// hold, and what operators have changed.
    fn says_the_same(&self, opening: &Opening) -> bool {
        let Ok(said) = Books::restore(&opening.books) else {
            return false;
        };
        let sums = |books: &Books| {
            (
                books.spent(opening.at_ms, "global", Window::Total),
                books.held("global"),
            )
        };
        let holds = |books: &Books| -> BTreeMap<HoldId, Amounts> {
            books
                .open_holds()
                .into_iter()
                .map(|open| (open.id, open.amounts))
                .collect()
        };
        sums(&said) == sums(&self.books)
            && holds(&said) == holds(&self.books)
            && said.documents() == self.books.documents()
    }

    fn month(
        &mut self,
        stores: &dyn Stores,
        month: Month,
        expect: Option<Hash>,
        watch: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let Some(store) = stores.month(month)? else {
            return Ok(());
        };
        let reader = MonthReader { month, store: &*store };
        // What a crash left between making the month and opening it. If events are gone, the chain of the next breaks.
        let Some((opening, before)) = reader.opening()? else {
            self.found_empty = true;
            return Ok(());
        };
        let found = self.report.head;
        let first = self.report.months.is_empty();
        let follows = if first {
            // Months are removed from the oldest on: what this one carries on from was in the empty one.
            !(self.found_empty && before.sequence > 0)
        } else {
            before == found && self.says_the_same(&opening)
        };
        if !follows {
            let damage = Damage::Opening { named: before, found };
            return Err(Damaged {
                month,
                after_sequence: found.sequence,
                damage,
            }
            .into());
        }
        let Walk {
            report,
            books,
            until,
            noted,
            is_ended,
            ..
        } = self;
        noted.begin_after(before.sequence);
        report.months.push(MonthReport {
            month,
            events: 0,
            head: before,
        });
        reader.follow(before, 0, |placed| {
            if placed.sequence > *until {
                return Ok(ControlFlow::Break(()));
            }
            books
                .apply(placed.sequence, &placed.event)
                .map_err(|error| Damage::Books(error.to_string()))?;
            report.events += 1;
            if report.events.is_multiple_of(WATCHED_EVENTS) && watch(report.events).is_break() {
                *is_ended = true;
                return Ok(ControlFlow::Break(()));
            }
            report.entries += match &placed.event {
                Event::Settled(_) => 1,
                Event::Imported(imported) => imported.entries.len() as u64,
                _ => 0,
            };
            report.changes += u64::from(matches!(placed.event, Event::Changed(_)));
            match &placed.event {
                Event::Opening(opening) => {
                    report.fingerprint_check = secret_check::of(&opening.digests).or(report.fingerprint_check);
                }
                Event::SecretChecked(checked) => report.fingerprint_check = Some(checked.check),
                _ => {}
            }
            let here = report.months.last_mut();
            if let Some(here) = here {
                here.events += 1;
                if let Some(head) = placed.head {
                    noted.pass(head)?;
                    (here.head, report.head) = (head, head);
                    if expect == Some(head.hash) {
                        report.expected_found = Some(true);
                    }
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(())
    }
}
