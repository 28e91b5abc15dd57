//! Sums over some entries, and their bytes.

use super::rows::model_of;
use crate::entry::{Entry, Name};
use crate::event::IMPORTED;
use crate::journal::bytes::{Reader, put_i64, put_u64};
use crate::money::Usd;
use crate::usage::{Kind, Usage};

/// Sums over some entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub requests: u64,
    /// Answered with 400 or above, or failed upstream.
    pub errors: u64,
    pub status_429: u64,
    pub status_5xx: u64,
    pub estimated: u64,
    pub duration_ms: u64,
    pub usage: Usage,
    /// Adjustments included.
    pub cost: Usd,
    pub held: Usd,
    pub overage: Usd,
    /// Start of the first and of the last request, milliseconds since the epoch.
    pub first_ms: i64,
    pub last_ms: i64,
}

/// What an entry cost beyond what was held for it. For one that was imported nothing ever was, and no limit of this gateway was exceeded
/// by it: its entry says `imported`, and no sum counts it.
fn beyond_its_hold(entry: &Entry) -> Usd {
    match entry.overage_reason.as_deref() {
        Some(IMPORTED) => Usd::ZERO,
        _ => entry.overage,
    }
}

impl Totals {
    /// What one entry brings to a sum.
    pub fn of(entry: &Entry) -> Totals {
        let (facts, settlement) = (&entry.facts, &entry.settlement);
        Totals {
            requests: 1,
            errors: u64::from(settlement.has_failed()),
            status_429: u64::from(settlement.status == 429),
            status_5xx: u64::from(settlement.status >= 500),
            estimated: u64::from(settlement.estimate_reason.is_some()),
            duration_ms: settlement.duration_ms,
            usage: settlement.usage,
            cost: settlement.cost,
            held: entry.held,
            overage: beyond_its_hold(entry),
            first_ms: facts.at_ms,
            last_ms: facts.at_ms,
        }
    }

    /// What it brings to the sums of models. An answer that billed several counts as one request, of the model it names, and each part
    /// where it was used.
    pub fn by_model(entry: &Entry) -> Vec<(Name, Totals)> {
        let own = Totals::of(entry);
        let parts = &entry.settlement.parts;
        let mut found = vec![(Name::clone(model_of(entry)), own)];
        if let (false, Some((_, own))) = (parts.is_empty(), found.first_mut()) {
            (own.usage, own.cost) = (Usage::default(), Usd::ZERO);
        }
        found.extend(parts.iter().map(|part| {
            let totals = Totals {
                usage: part.usage,
                cost: part.cost,
                first_ms: own.first_ms,
                last_ms: own.last_ms,
                ..Totals::default()
            };
            (Name::clone(&part.model), totals)
        }));
        found
    }

    /// Widens the times to those of another sum.
    pub(super) fn add_times(&mut self, first_ms: i64, last_ms: i64) {
        if self.first_ms == 0 && self.last_ms == 0 {
            (self.first_ms, self.last_ms) = (first_ms, last_ms);
        } else if last_ms != 0 {
            self.first_ms = self.first_ms.min(first_ms);
            self.last_ms = self.last_ms.max(last_ms);
        }
    }

    pub fn add(&mut self, other: &Totals) {
        self.add_times(other.first_ms, other.last_ms);
        self.requests += other.requests;
        self.errors += other.errors;
        self.status_429 += other.status_429;
        self.status_5xx += other.status_5xx;
        self.estimated += other.estimated;
        self.duration_ms = self.duration_ms.saturating_add(other.duration_ms);
        self.usage = self.usage.sum(&other.usage);
        self.cost = self.cost.saturating_add(other.cost);
        self.held = self.held.saturating_add(other.held);
        self.overage = self.overage.saturating_add(other.overage);
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let counts = [
            self.requests,
            self.errors,
            self.status_429,
            self.status_5xx,
            self.estimated,
            self.duration_ms,
        ];
        counts.iter().for_each(|count| put_u64(out, *count));
        for money in [self.cost, self.held, self.overage] {
            put_i64(out, money.nanos());
        }
        put_i64(out, self.first_ms);
        put_i64(out, self.last_ms);
        for (kind, units) in self.usage.iter().filter(|(_, units)| *units > 0) {
            out.push(kind as u8);
            put_u64(out, units);
        }
    }

    pub(super) fn take(reader: &mut Reader<'_>) -> Option<Totals> {
        let mut totals = Totals {
            requests: reader.u64()?,
            errors: reader.u64()?,
            status_429: reader.u64()?,
            status_5xx: reader.u64()?,
            estimated: reader.u64()?,
            duration_ms: reader.u64()?,
            cost: Usd::from_nanos(reader.i64()?),
            held: Usd::from_nanos(reader.i64()?),
            overage: Usd::from_nanos(reader.i64()?),
            first_ms: reader.i64()?,
            last_ms: reader.i64()?,
            usage: Usage::default(),
        };
        while !reader.is_empty() {
            let kind = *Kind::ALL.get(usize::try_from(reader.u64()?).ok()?)?;
            totals.usage.add(kind, reader.u64()?);
        }
        Some(totals)
    }
}
