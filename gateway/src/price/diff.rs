//! What differs between two books.

use std::collections::BTreeMap;
use std::fmt;

use agentledger_ledger::{Kind, UnitPrice};

use super::check::named;
use super::row::Row;
use super::{PriceBook, id};

/// One difference, of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub provider: String,
    pub id: String,
    /// `2026-03-05 standard input`, `max_output`, `retired`; empty where the row as a whole is new or gone.
    pub what: String,
    /// As price files write it; `None` where there is nothing.
    pub before: Option<String>,
    pub after: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference {
            provider,
            id,
            what,
            before,
            after,
        } = self;
        let show = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        write!(f, "{provider} {id}: ")?;
        if !what.is_empty() {
            write!(f, "{what}: ")?;
        }
        write!(f, "{} -> {}", show(before), show(after))
    }
}

/// What changes from one book to the other: rows that are new or gone, and each price that differs.
pub fn differences(before: &PriceBook, after: &PriceBook) -> Vec<Difference> {
    let mut providers = before.providers();
    providers.extend(after.providers());
    providers.sort_unstable();
    providers.dedup();
    let mut found = Vec::new();
    for provider in providers {
        let (old, new) = (rows(before, provider), rows(after, provider));
        let ids: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
        for id in ids {
            compare(provider, old.get(id).copied(), new.get(id).copied(), &mut found);
        }
    }
    found
}

fn rows<'a>(book: &'a PriceBook, provider: &str) -> BTreeMap<Box<[u8]>, &'a Row> {
    book.rows(provider).map(|row| (id::key(row.id()), row)).collect()
}

fn compare(provider: &str, old: Option<&Row>, new: Option<&Row>, found: &mut Vec<Difference>) {
    let Some(row) = new.or(old) else { return };
    let mut tell = |what: String, before: Option<String>, after: Option<String>| {
        found.push(Difference {
            provider: provider.to_owned(),
            id: row.id().to_owned(),
            what,
            before,
            after,
        });
    };
    let (Some(old), Some(new)) = (old, new) else {
        let there = |row: Option<&Row>| row.map(|_| "a row".to_owned());
        return tell(String::new(), there(old), there(new));
    };
    let (before, after) = (facts(old), facts(new));
    let keys: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    for key in keys {
        let (was, is) = (before.get(key), after.get(key));
        if was != is {
            tell(key.to_string(), was.cloned(), is.cloned());
        }
    }
}

/// All that a row states, flat.
fn facts(row: &Row) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    facts.extend(row.max_output().map(|most| ("max_output".to_owned(), most.to_string())));
    facts.extend(row.retired_ms.map(|end| ("retired".to_owned(), day(end))));
    for set in row.sets() {
        for tier in set.tiers() {
            for level in tier.levels() {
                let place = |kind: &str| format!("{} {} {kind}", set.from(), named(tier, level));
                let stated = |kind: Kind| Some((place(kind.name()), shown(kind, level.stated(kind)?)));
                facts.extend(Kind::ALL.into_iter().filter_map(stated));
                facts.extend(level.reasoning().map(|price| (place("reasoning"), price.per_million())));
            }
        }
    }
    facts
}

/// A price as price files write it: per million tokens, or per unit.
pub fn shown(kind: Kind, price: UnitPrice) -> String {
    if kind.is_tokens() {
        price.per_million()
    } else {
        price.to_string()
    }
}

/// A day of the calendar, UTC.
pub fn day(at_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(at_ms).map_or_else(
        |_| at_ms.to_string(),
        |at| at.to_zoned(jiff::tz::TimeZone::UTC).date().to_string(),
    )
}
