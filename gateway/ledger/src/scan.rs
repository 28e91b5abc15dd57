//! Every entry of some stretches of time, as they stood at one moment, and what they were corrected by: what is summed where no
//! rollup tells. Sums of it agree with the rollups to the nano-dollar.

use crate::adjustments::{self, AdjustmentQuery, AdjustmentRow};
use crate::derived::Derived;
use crate::entry::{Entry, Name};
use crate::import_places::ImportPlace;
use crate::journal::reader::ReadError;
use crate::money::Usd;
use crate::query::{self, EntryQuery};
use crate::rollup::DAY_MS;
use crate::store::Stores;

/// Entries that are in memory at a time.
const PAGE: usize = 1_000;

/// What is met: an entry, or what one was corrected by.
#[derive(Debug)]
pub enum Scanned<'a> {
    Entry(&'a Entry),
    Correction(&'a AdjustmentRow),
}

/// A stretch, and what the rollups know of it.
struct Part {
    from_ms: i64,
    to_ms: i64,
    cost: Usd,
    places: Vec<ImportPlace>,
}

/// What is read, fixed at one moment.
pub(crate) struct Scan {
    parts: Vec<Part>,
    tenant: Option<Name>,
    until: u64,
}

impl Scan {
    /// `stretches`: of whole minutes, hours or days, as rollups keep them. `head`: the last event on disk.
    pub fn new(derived: &Derived, stretches: &[(i64, i64)], tenant: Option<&Name>, head: u64) -> Scan {
        let part = |&(from_ms, to_ms): &(i64, i64)| {
            let points = derived.rollups.series(from_ms, to_ms, DAY_MS, tenant);
            let costs = points.iter().map(|point| point.totals.cost);
            Part {
                from_ms,
                to_ms,
                cost: costs.fold(Usd::ZERO, Usd::saturating_add),
                places: derived.import_places.within(from_ms, to_ms),
            }
        };
        Scan {
            parts: stretches.iter().map(part).collect(),
            tenant: tenant.cloned(),
            until: match derived.applied() {
                0 => head,
                applied => applied,
            },
        }
    }

    /// Reads it. Not for the request path, and without a lock.
    pub fn run(&self, stores: &dyn Stores, mut visit: impl FnMut(Scanned<'_>)) -> Result<(), ReadError> {
        for part in &self.parts {
            if self.entries(stores, part, &mut visit)? != part.cost {
                // Corrections are few, and stand anywhere behind their entries: they are looked for only where sums say that there
                // are some.
                self.corrections(stores, part, &mut visit)?;
            }
        }
        Ok(())
    }

    /// The sum of what the entries cost.
    fn entries(&self, stores: &dyn Stores, part: &Part, visit: &mut impl FnMut(Scanned<'_>)) -> Result<Usd, ReadError> {
        let mut cost = Usd::ZERO;
        let mut query = EntryQuery {
            from_ms: part.from_ms,
            to_ms: part.to_ms,
            limit: PAGE,
            after: None,
        };
        loop {
            let page = query::entries(stores, &query, &part.places, self.until)?;
            for entry in page.entries.iter().filter(|entry| self.is_seen(&entry.facts.tenant)) {
                cost = cost.saturating_add(entry.settlement.cost);
                visit(Scanned::Entry(entry));
            }
            query.after = page.next;
            if query.after.is_none() {
                return Ok(cost);
            }
        }
    }

    fn corrections(
        &self,
        stores: &dyn Stores,
        part: &Part,
        visit: &mut impl FnMut(Scanned<'_>),
    ) -> Result<(), ReadError> {
        let mut query = AdjustmentQuery {
            from_ms: part.from_ms,
            to_ms: part.to_ms,
            limit: PAGE,
            after: 0,
        };
        loop {
            let found = adjustments::read(stores, &query, self.until)?;
            for row in found.iter().filter(|row| self.is_seen(&row.facts.tenant)) {
                visit(Scanned::Correction(row));
            }
            match found.last() {
                Some(last) if found.len() >= PAGE => query.after = last.sequence,
                _ => return Ok(()),
            }
        }
    }

    fn is_seen(&self, tenant: &Name) -> bool {
        self.tenant.as_ref().is_none_or(|only| only == tenant)
    }
}
