//! Who was refused, why, by which policy and how often, by the hour: counted as the journal tells of it, and kept in rows of the state database.
//!
//! Bounded twice: of an hour so many accounts are told apart, further ones are counted on `other`; and where all hours together
//! have too many rows, the oldest hours go.

use std::collections::{BTreeMap, BTreeSet};

use crate::entry::Name;
use crate::event::{Denial, Denied};
use crate::journal::bytes::{Reader, put_i64, put_text, put_u64};
use crate::store;

/// What rows of denials begin with in the state database.
pub(crate) const ROW_PREFIX: u8 = b'd';
const HOUR_MS: i64 = 3_600_000;
const HOUR_ROWS_MAX: usize = 1_000;
const ROWS_MAX: usize = 50_000;
const OTHER: &str = "other";
/// Ends the key of a row whose refusals name their policies; those of earlier versions end with the hour.
const WITH_POLICIES: u8 = 1;

/// Refusals in a stretch of time; whole hours are counted, those at its ends included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DenialQuery {
    pub from_ms: i64,
    pub to_ms: i64,
    /// `None`: of all tenants.
    pub tenant: Option<Name>,
}

/// Refusals of one account for one reason, by one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DenialRow {
    pub of: Denial,
    pub count: u64,
    /// By the minute.
    pub first_ms: i64,
    pub last_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tally {
    count: u64,
    first_ms: i64,
    last_ms: i64,
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.count = self.count.saturating_add(other.count);
        self.first_ms = self.first_ms.min(other.first_ms);
        self.last_ms = self.last_ms.max(other.last_ms);
    }
}

/// The counts of all hours that are kept, and which of them the next checkpoint writes.
#[derive(Debug, Default)]
pub(crate) struct DenialRows {
    hours: BTreeMap<i64, BTreeMap<Denial, Tally>>,
    rows: usize,
    dirty: BTreeSet<i64>,
    /// Their rows go with the next checkpoint.
    gone: BTreeSet<i64>,
    /// Hours whose rows are of an earlier version.
    earlier: BTreeSet<i64>,
}

impl DenialRows {
    /// The event is on disk.
    pub fn committed(&mut self, denied: &Denied) {
        let hour_ms = denied.at_ms.div_euclid(HOUR_MS).saturating_mul(HOUR_MS);
        let tally = Tally {
            count: denied.count,
            first_ms: denied.at_ms,
            last_ms: denied.at_ms,
        };
        let mut key = denied.of.clone();
        let hour = self.hours.entry(hour_ms).or_default();
        if hour.len() >= HOUR_ROWS_MAX && !hour.contains_key(&key) {
            (key.account, key.tenant) = (OTHER.into(), OTHER.into());
        }
        match hour.get_mut(&key) {
            Some(known) => known.add(&tally),
            None => {
                hour.insert(key, tally);
                self.rows += 1;
            }
        }
        self.dirty.insert(hour_ms);
        self.gone.remove(&hour_ms);
        while self.rows > ROWS_MAX && self.hours.len() > 1 {
            let Some((oldest_ms, hour)) = self.hours.pop_first() else {
                break;
            };
            self.rows = self.rows.saturating_sub(hour.len());
            self.dirty.remove(&oldest_ms);
            self.gone.insert(oldest_ms);
        }
    }

    /// A row as it was read back. `None`: it is broken.
    pub fn load(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let (_, key) = key.split_first()?;
        let (hour, version) = key.split_at_checked(size_of::<i64>())?;
        let hour_ms = i64::from_be_bytes(hour.try_into().ok()?);
        let has_policies = match version {
            [] => false,
            [WITH_POLICIES] => true,
            _ => return None,
        };
        let mut reader = Reader::new(value);
        let mut hour = BTreeMap::new();
        while !reader.is_empty() {
            let mut name = || Some(Name::from(reader.text()?));
            let key = Denial {
                account: name()?,
                tenant: name()?,
                reason: name()?,
                policy: if has_policies { name()? } else { Name::from("") },
            };
            let tally = Tally {
                count: reader.u64()?,
                first_ms: reader.i64()?,
                last_ms: reader.i64()?,
            };
            hour.insert(key, tally);
        }
        self.rows += hour.len();
        self.hours.insert(hour_ms, hour);
        if !has_policies {
            self.earlier.insert(hour_ms);
        }
        Some(())
    }

    /// What a checkpoint changes.
    pub fn changes(&self) -> Vec<store::Change> {
        let gone = self.gone.iter().map(|hour_ms| store::Change::Remove(row_key(*hour_ms)));
        let earlier = self
            .earlier
            .intersection(&(&self.gone | &self.dirty))
            .copied()
            .collect::<Vec<_>>();
        let earlier = earlier
            .into_iter()
            .map(|hour_ms| store::Change::Remove(earlier_row_key(hour_ms)));
        let fresh = self.dirty.iter().filter_map(|hour_ms| {
            let hour = self.hours.get(hour_ms)?;
            let mut value = Vec::with_capacity(hour.len() * 64);
            for (of, tally) in hour {
                for name in [&of.account, &of.tenant, &of.reason, &of.policy] {
                    put_text(&mut value, name);
                }
                put_u64(&mut value, tally.count);
                put_i64(&mut value, tally.first_ms);
                put_i64(&mut value, tally.last_ms);
            }
            Some(store::Change::Put(row_key(*hour_ms), value))
        });
        gone.chain(earlier).chain(fresh).collect()
    }

    /// It is on disk.
    pub fn saved(&mut self) {
        self.earlier
            .retain(|hour_ms| !self.dirty.contains(hour_ms) && !self.gone.contains(hour_ms));
        self.dirty.clear();
        self.gone.clear();
    }

    /// By account, tenant, reason and policy, the latest first.
    pub fn find(&self, query: &DenialQuery) -> Vec<DenialRow> {
        let from_ms = query.from_ms.div_euclid(HOUR_MS).saturating_mul(HOUR_MS);
        let mut sums: BTreeMap<&Denial, Tally> = BTreeMap::new();
        if from_ms < query.to_ms {
            let rows = self.hours.range(from_ms..query.to_ms).flat_map(|(_, hour)| hour);
            for (key, tally) in rows.filter(|(key, _)| query.tenant.as_ref().is_none_or(|tenant| key.tenant == *tenant))
            {
                sums.entry(key).and_modify(|sum| sum.add(tally)).or_insert(*tally);
            }
        }
        let mut found: Vec<DenialRow> = sums
            .into_iter()
            .map(|(of, tally)| DenialRow {
                of: of.clone(),
                count: tally.count,
                first_ms: tally.first_ms,
                last_ms: tally.last_ms,
            })
            .collect();
        found.sort_by_key(|row| std::cmp::Reverse(row.last_ms));
        found
    }
}

fn earlier_row_key(hour_ms: i64) -> Vec<u8> {
    let mut key = vec![ROW_PREFIX];
    key.extend_from_slice(&hour_ms.to_be_bytes());
    key
}

fn row_key(hour_ms: i64) -> Vec<u8> {
    let mut key = earlier_row_key(hour_ms);
    key.push(WITH_POLICIES);
    key
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn denied(at_ms: i64, account: &str, tenant: &str, reason: &str, count: u64) -> Denied {
        Denied {
            at_ms,
            of: Denial {
                account: account.into(),
                tenant: tenant.into(),
                reason: reason.into(),
                policy: "".into(),
            },
            count,
        }
    }

    fn all() -> DenialQuery {
        DenialQuery {
            from_ms: 0,
            to_ms: i64::MAX,
            tenant: None,
        }
    }

    #[test]
    fn refusals_are_counted_by_account_and_reason_in_the_hours_that_are_asked_for() {
        let mut rows = DenialRows::default();
        for (at_ms, account, tenant, count) in [
            (60_000, "key:a", "", 1),
            (120_000, "key:a", "", 5),
            (HOUR_MS + 60_000, "key:a", "", 2),
            (HOUR_MS + 120_000, "key:b", "acme", 7),
        ] {
            rows.committed(&denied(at_ms, account, tenant, "budget_exceeded", count));
        }
        rows.committed(&denied(90_000, "key:a", "", "loop_detected", 3));
        let found = rows.find(&all());
        let shown: Vec<(&str, &str, u64, i64, i64)> = found
            .iter()
            .map(|row| (&*row.of.account, &*row.of.reason, row.count, row.first_ms, row.last_ms))
            .collect();
        assert_eq!(
            shown,
            [
                ("key:b", "budget_exceeded", 7, HOUR_MS + 120_000, HOUR_MS + 120_000),
                ("key:a", "budget_exceeded", 8, 60_000, HOUR_MS + 60_000),
                ("key:a", "loop_detected", 3, 90_000, 90_000),
            ]
        );
        let count = |query: DenialQuery| rows.find(&query).iter().map(|row| row.count).sum::<u64>();
        assert_eq!(
            count(DenialQuery {
                from_ms: HOUR_MS + 1,
                ..all()
            }),
            9,
            "its whole hour"
        );
        assert_eq!(
            count(DenialQuery {
                to_ms: HOUR_MS,
                ..all()
            }),
            9
        );
        assert_eq!(
            count(DenialQuery {
                tenant: Some("acme".into()),
                ..all()
            }),
            7
        );
        assert_eq!(
            count(DenialQuery {
                from_ms: HOUR_MS,
                to_ms: HOUR_MS,
                tenant: None
            }),
            0
        );
    }

    #[test]
    fn rows_bring_back_what_they_were_made_of() {
        let mut rows = DenialRows::default();
        rows.committed(&denied(60_000, "key:a", "", "budget_exceeded", 4));
        rows.committed(&denied(HOUR_MS, "key:b", "acme", "rate_limited", 2));
        let mut again = DenialRows::default();
        for change in rows.changes() {
            let store::Change::Put(key, value) = change else {
                panic!()
            };
            again.load(&key, &value).unwrap();
        }
        assert_eq!(again.find(&all()), rows.find(&all()));
        rows.saved();
        assert!(rows.changes().is_empty());
        rows.committed(&denied(61_000, "key:a", "", "budget_exceeded", 1));
        assert_eq!(rows.changes().len(), 1, "the hour that changed alone");
        assert!(again.load(&row_key(0), &[1, 2, 9]).is_none());
    }

    #[test]
    fn a_policy_has_refusals_of_its_own_beside_those_of_which_none_is_known() {
        let mut rows = DenialRows::default();
        let by = |policy: &str| {
            let mut denied = denied(60_000, "key:a", "", "budget_exceeded", 1);
            denied.of.policy = policy.into();
            denied
        };
        for policy in ["", "budget", "team", "budget"] {
            rows.committed(&by(policy));
        }
        let found = rows.find(&all());
        let shown: Vec<(&str, u64)> = found.iter().map(|row| (&*row.of.policy, row.count)).collect();
        assert_eq!(shown, [("", 1), ("budget", 2), ("team", 1)]);
    }

    #[test]
    fn a_row_of_an_earlier_version_is_read_and_written_anew_once() {
        let mut value = Vec::new();
        for name in ["key:a", "", "budget_exceeded"] {
            put_text(&mut value, name);
        }
        put_u64(&mut value, 4);
        put_i64(&mut value, 60_000);
        put_i64(&mut value, 120_000);
        let mut rows = DenialRows::default();
        rows.load(&earlier_row_key(0), &value).unwrap();
        let found = rows.find(&all()).remove(0);
        assert_eq!((&*found.of.account, &*found.of.policy, found.count), ("key:a", "", 4));
        assert!(rows.changes().is_empty(), "it stays as it is until its hour changes");
        rows.committed(&denied(180_000, "key:a", "", "budget_exceeded", 1));
        let changes = rows.changes();
        assert!(
            changes.contains(&store::Change::Remove(earlier_row_key(0))),
            "else it would count twice"
        );
        let mut again = DenialRows::default();
        for change in changes {
            if let store::Change::Put(key, value) = change {
                again.load(&key, &value).unwrap();
            }
        }
        assert_eq!(again.find(&all()).remove(0).count, 5);
        rows.saved();
        assert!(rows.changes().is_empty());
    }

    #[test]
    fn too_many_accounts_are_one_and_too_many_hours_are_forgotten() {
        let mut rows = DenialRows::default();
        for number in 0..HOUR_ROWS_MAX + 10 {
            rows.committed(&denied(0, &format!("key:{number}"), "", "budget_exceeded", 1));
        }
        let found = rows.find(&all());
        assert_eq!(found.len(), HOUR_ROWS_MAX + 1);
        assert_eq!(found.iter().find(|row| &*row.of.account == OTHER).unwrap().count, 10);
        rows.saved();
        for hour in 1..60 {
            for number in 0..HOUR_ROWS_MAX {
                let at_ms = hour * HOUR_MS;
                rows.committed(&denied(at_ms, &format!("key:{number}"), "", "budget_exceeded", 1));
            }
        }
        assert!(rows.rows <= ROWS_MAX && !rows.hours.contains_key(&0));
        assert!(rows.changes().contains(&store::Change::Remove(row_key(0))));
    }
}
