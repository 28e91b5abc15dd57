//! The sums of a row as bytes, as few as they can be: most rows of names that clients make up are about one entry. What a row
//! costs is no part of them: it stands beside them.

use super::totals::Totals;
use crate::journal::bytes::{Reader, put_i64, put_u64};
use crate::money::Usd;
use crate::usage::Kind;

/// How many counts, and how many numbers with a sign, a row has.
const COUNTS: u16 = 6;
const NUMBERS: u16 = 4;

/// Appends which fields are not zero, a bit each, and how many kinds are used; those fields; and pairs of kind and units.
pub(super) fn pack(totals: &Totals, out: &mut Vec<u8>) {
    let counts = [
        totals.requests,
        totals.errors,
        totals.status_429,
        totals.status_5xx,
        totals.estimated,
        totals.duration_ms,
    ];
    // The last time is given by how far it is from the first.
    let numbers = [
        totals.held.nanos(),
        totals.overage.nanos(),
        totals.first_ms,
        totals.last_ms.wrapping_sub(totals.first_ms),
    ];
    let at = out.len();
    out.extend([0, 0]);
    let mut head = 0u16;
    for (place, count) in counts.into_iter().enumerate().filter(|(_, count)| *count != 0) {
        head |= 1 << place;
        put_u64(out, count);
    }
    for (place, number) in (COUNTS..).zip(numbers).filter(|(_, number)| *number != 0) {
        head |= 1 << place;
        put_i64(out, number);
    }
    for (kind, units) in totals.usage.iter() {
        head += 1 << (COUNTS + NUMBERS);
        out.push(kind as u8);
        put_u64(out, units);
    }
    for (byte, value) in out.iter_mut().skip(at).zip(head.to_le_bytes()) {
        *byte = value;
    }
}

/// Adds a row to `sums`, reading only what is there: most fields of most rows are not. What it leaves of the bytes follows the
/// row.
pub(super) fn add_packed(cost: Usd, reader: &mut Reader<'_>, sums: &mut Totals) -> Option<()> {
    let head = u16::from_le_bytes(reader.array()?);
    let has = |place: u16| head >> place & 1 == 1;
    let mut counts = [0; COUNTS as usize];
    for (place, count) in (0..).zip(&mut counts) {
        if has(place) {
            *count = reader.u64()?;
        }
    }
    let mut numbers = [0; NUMBERS as usize];
    for (place, number) in (COUNTS..).zip(&mut numbers) {
        if has(place) {
            *number = reader.i64()?;
        }
    }
    let [requests, errors, status_429, status_5xx, estimated, duration_ms] = counts;
    let [held, overage, first_ms, after_ms] = numbers;
    sums.add_times(first_ms, first_ms.wrapping_add(after_ms));
    sums.requests += requests;
    sums.errors += errors;
    sums.status_429 += status_429;
    sums.status_5xx += status_5xx;
    sums.estimated += estimated;
    sums.duration_ms = sums.duration_ms.saturating_add(duration_ms);
    sums.cost = sums.cost.saturating_add(cost);
    sums.held = sums.held.saturating_add(Usd::from_nanos(held));
    sums.overage = sums.overage.saturating_add(Usd::from_nanos(overage));
    for _ in 0..head >> (COUNTS + NUMBERS) {
        let [kind] = reader.array()?;
        sums.usage.add(*Kind::ALL.get(usize::from(kind))?, reader.u64()?);
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
            let usage = Kind::ALL.into_iter().fold(Usage::ZERO, |usage, kind| usage.with(kind, units));
            let totals = Totals {
                requests, errors, status_429, status_5xx, estimated, duration_ms, usage, cost, held, overage, first_ms, last_ms,
            };
            let mut bytes = Vec::new();
            pack(&totals, &mut bytes);
            bytes.extend([7, 7]);
            let (mut reader, mut read) = (Reader::new(&bytes), Totals::default());
            add_packed(cost, &mut reader, &mut read).unwrap();
            prop_assert_eq!(read, totals);
            prop_assert_eq!(reader.array(), Some([7, 7]));
            prop_assert!(reader.is_empty());
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
        let mut bytes = Vec::new();
        pack(&totals, &mut bytes);
        assert!(bytes.len() <= 26, "{}", bytes.len());
    }
}
