//! The sums of a row, as small as they can be: most rows of names that clients make up are about one entry.

use super::totals::Totals;
use crate::journal::bytes::{Reader, put_i64, put_u64};
use crate::money::Usd;
use crate::usage::Kind;

/// A row that gets so many entries within a minute is kept at hand.
const REQUESTS_PLAIN: u64 = 4;

#[derive(Debug)]
pub(super) enum Sums {
    /// Which fields are not zero, a bit each; those; and pairs of kind and units.
    Packed(Box<[u8]>),
    Plain(Box<Totals>),
}

impl Sums {
    pub fn of(totals: &Totals) -> Sums {
        Sums::Packed(pack(totals))
    }

    pub fn totals(&self) -> Totals {
        match self {
            Sums::Packed(bytes) => unpack(bytes).unwrap_or_default(),
            Sums::Plain(totals) => **totals,
        }
    }

    pub fn cost(&self) -> Usd {
        match self {
            Sums::Packed(bytes) => packed_cost(bytes).unwrap_or_default(),
            Sums::Plain(totals) => totals.cost,
        }
    }

    /// Adds this row to `sums`.
    pub fn add_to(&self, sums: &mut Totals) {
        match self {
            Sums::Packed(bytes) => add_packed(bytes, sums).unwrap_or_default(),
            Sums::Plain(totals) => sums.add(totals),
        }
    }

    /// `is_busy` where more is about to be added soon.
    pub fn add(&mut self, totals: &Totals, is_busy: bool) {
        if let Sums::Plain(sums) = self {
            return sums.add(totals);
        }
        let mut sums = self.totals();
        sums.add(totals);
        *self = if is_busy && sums.requests >= REQUESTS_PLAIN {
            Sums::Plain(Box::new(sums))
        } else {
            Sums::of(&sums)
        };
    }
}

fn pack(totals: &Totals) -> Box<[u8]> {
    let counts = [
        totals.requests,
        totals.errors,
        totals.status_429,
        totals.status_5xx,
        totals.estimated,
        totals.duration_ms,
    ];
    let money = [totals.cost, totals.held, totals.overage].map(Usd::nanos);
    // The last is told by how far it is from the first.
    let times = [totals.first_ms, totals.last_ms.wrapping_sub(totals.first_ms)];
    let mut out = vec![0, 0];
    let mut present = 0u16;
    for (place, count) in counts.into_iter().enumerate().filter(|(_, count)| *count != 0) {
        present |= 1 << place;
        put_u64(&mut out, count);
    }
    for (place, number) in money
        .into_iter()
        .chain(times)
        .enumerate()
        .filter(|(_, number)| *number != 0)
    {
        present |= 1 << (counts.len() + place);
        put_i64(&mut out, number);
    }
    for (kind, units) in totals.usage.iter().filter(|(_, units)| *units > 0) {
        out.push(kind as u8);
        put_u64(&mut out, units);
    }
    let [low, high] = present.to_le_bytes();
    out.splice(..2, [low, high]);
    out.into_boxed_slice()
}

fn unpack(bytes: &[u8]) -> Option<Totals> {
    let mut totals = Totals::default();
    add_packed(bytes, &mut totals)?;
    Some(totals)
}

/// How many counts stand before the money.
const COUNTS: u16 = 6;

fn packed_cost(bytes: &[u8]) -> Option<Usd> {
    let mut reader = Reader::new(bytes);
    let present = u16::from_le_bytes(reader.array()?);
    if present >> COUNTS & 1 == 0 {
        return Some(Usd::ZERO);
    }
    for _ in 0..(present & ((1 << COUNTS) - 1)).count_ones() {
        reader.u64()?;
    }
    Some(Usd::from_nanos(reader.i64()?))
}

/// Reads only what is there: most fields of most rows are not.
fn add_packed(bytes: &[u8], sums: &mut Totals) -> Option<()> {
    let mut reader = Reader::new(bytes);
    let present = u16::from_le_bytes(reader.array()?);
    let has = |place: u16| present >> place & 1 == 1;
    let mut counts = [0; COUNTS as usize];
    for (place, count) in (0..).zip(&mut counts) {
        if has(place) {
            *count = reader.u64()?;
        }
    }
    let mut numbers = [0; 5];
    for (place, number) in (COUNTS..).zip(&mut numbers) {
        if has(place) {
            *number = reader.i64()?;
        }
    }
    let [requests, errors, status_429, status_5xx, estimated, duration_ms] = counts;
    let [cost, held, overage, first_ms, after_ms] = numbers;
    // Without a usage of its own: that is added kind by kind.
    sums.add_times(first_ms, first_ms.wrapping_add(after_ms));
    sums.requests += requests;
    sums.errors += errors;
    sums.status_429 += status_429;
    sums.status_5xx += status_5xx;
    sums.estimated += estimated;
    sums.duration_ms = sums.duration_ms.saturating_add(duration_ms);
    sums.cost = sums.cost.saturating_add(Usd::from_nanos(cost));
    sums.held = sums.held.saturating_add(Usd::from_nanos(held));
    sums.overage = sums.overage.saturating_add(Usd::from_nanos(overage));
    while !reader.is_empty() {
        let kind = *Kind::ALL.get(usize::try_from(reader.u64()?).ok()?)?;
        sums.usage.add(kind, reader.u64()?);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::usage::Usage;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sums_are_packed_without_loss(
            counts: [u64; 6], cost: i64, held: i64, overage: i64, first_ms: i64, last_ms: i64, units in 0u64..u64::MAX
        ) {
            let [requests, errors, status_429, status_5xx, estimated, duration_ms] = counts;
            let [cost, held, overage] = [cost, held, overage].map(Usd::from_nanos);
            let usage = Usage::ZERO.with(Kind::CacheReadImage, units).with(Kind::Input, 1);
            let totals = Totals {
                requests, errors, status_429, status_5xx, estimated, duration_ms, usage, cost, held, overage, first_ms, last_ms,
            };
            prop_assert_eq!(Sums::of(&totals).totals(), totals);
        }
    }

    #[test]
    fn a_row_of_one_entry_takes_few_bytes() {
        let totals = Totals {
            requests: 1,
            duration_ms: 1_200,
            usage: Usage::ZERO.with(Kind::Input, 1_200).with(Kind::Output, 300),
            cost: Usd::from_nanos(12_345_678),
            held: Usd::from_nanos(99_345_678),
            first_ms: 1_795_305_600_000,
            last_ms: 1_795_305_600_000,
            ..Totals::default()
        };
        assert!(pack(&totals).len() <= 30, "{}", pack(&totals).len());
        assert!(size_of::<Sums>() <= 16);
    }
}
