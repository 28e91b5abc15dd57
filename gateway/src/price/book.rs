//! One provider's rows, and how a model's name finds its row: by hashing, never by looking through the rows.

use std::collections::HashMap;

use agentledger_ledger::Kind;

use super::file::Parsed;
use super::row::{self, PriceSet, Row, Tier};
use super::{built_in, id};

/// One provider's rows and how ids find them.
#[derive(Clone, Debug, Default)]
pub(super) struct Book {
    pub rows: Vec<Row>,
    /// Folded id or alias → index of the row.
    index: HashMap<Box<[u8]>, usize>,
    /// Folded words that may stand before an id, and neutral ones that may stand after it.
    qualifiers: Vec<Box<[u8]>>,
    suffixes: Vec<Box<[u8]>>,
    /// From each of these times on, the index of the dearest row still served. Times rise.
    dearest: Vec<(i64, usize)>,
    /// Names that one file of the operator's took from another one.
    pub overlaps: Vec<Overlap>,
}

/// A name that two price files price, neither of which is built in: the later one wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    pub name: Box<str>,
    /// File and line of the row that wins, then of the one that lost.
    pub wins: (agentledger_ledger::Name, u64),
    pub lost: (agentledger_ledger::Name, u64),
}

impl Book {
    pub fn add(&mut self, parsed: Parsed) {
        self.dearest.clear();
        for (known, new) in [
            (&mut self.qualifiers, &parsed.qualifiers),
            (&mut self.suffixes, &parsed.suffixes),
        ] {
            let mut fresh: Vec<_> = new.iter().map(|word| id::key(word)).collect();
            fresh.retain(|word| !known.contains(word));
            known.extend(fresh);
        }
        for row in parsed.rows {
            self.note_overlaps(&row);
            let own = id::key(&row.id);
            // Replaced only where it is the row's id: an alias alone takes that one name over.
            let replaced = self.index.get(&own).copied();
            let replaced = replaced.filter(|at| self.rows.get(*at).is_some_and(|old| id::key(&old.id) == own));
            let keys: Vec<_> = std::iter::once(own)
                .chain(row.aliases.iter().map(|alias| id::key(alias)))
                .collect();
            let at = match replaced.and_then(|at| Some((at, self.rows.get_mut(at)?))) {
                Some((at, slot)) => {
                    *slot = row;
                    at
                }
                None => {
                    self.rows.push(row);
                    self.rows.len() - 1
                }
            };
            self.index.extend(keys.into_iter().map(|key| (key, at)));
        }
    }

    fn note_overlaps(&mut self, row: &Row) {
        for name in std::iter::once(&*row.id).chain(row.aliases()) {
            let old = self.index.get(&id::key(name)).and_then(|at| self.rows.get(*at));
            if let Some(old) = old.filter(|old| !built_in::is_built_in(&old.file) && old.file != row.file) {
                self.overlaps.push(Overlap {
                    name: name.into(),
                    wins: (row.file.clone(), row.line),
                    lost: (old.file.clone(), old.line),
                });
            }
        }
    }

    pub fn find(&self, model: &str) -> Option<&Row> {
        let folded = id::Folded::new(model)?;
        let whole = id::without_arn(folded.as_bytes());
        let known = |id: &[u8]| self.index.get(id).copied();
        let at = id::resolve(whole, &self.suffixes, known).or_else(|| {
            let bare = self.qualifiers.iter().find_map(|word| whole.strip_prefix(&**word))?;
            id::resolve(bare, &self.suffixes, known)
        })?;
        self.rows.get(at)
    }

    /// The dearest row that is served at a time: by output, then by input.
    pub fn dearest(&self, at_ms: i64) -> Option<&Row> {
        let after = self.dearest.partition_point(|(from_ms, _)| *from_ms <= at_ms);
        let (_, at) = self.dearest.get(after.checked_sub(1)?)?;
        self.rows.get(*at)
    }

    /// What follows from all rows together; asked for once they are all there.
    pub fn complete(&mut self) {
        self.fill_fees();
        self.rank();
    }

    /// Whether no row came since.
    pub fn is_complete(&self) -> bool {
        !self.dearest.is_empty()
    }

    /// The dearest row can change on the days on which a price or a model begins or ends.
    fn rank(&mut self) {
        let days = |row: &Row| {
            row.sets()
                .map(|set| set.from_ms)
                .chain(row.retired_ms)
                .collect::<Vec<_>>()
        };
        let mut times: Vec<i64> = std::iter::once(i64::MIN)
            .chain(self.rows.iter().flat_map(days))
            .collect();
        times.sort_unstable();
        times.dedup();
        self.dearest.clear();
        for time in times {
            let dearest = self.rows.iter().enumerate().max_by_key(|(_, row)| {
                let base = &row.set(time).standard.base;
                (!row.is_retired(time), base.price(Kind::Output), base.price(Kind::Input))
            });
            if let Some((at, _)) = dearest
                && self.dearest.last().is_none_or(|(_, before)| *before != at)
            {
                self.dearest.push((time, at));
            }
        }
    }

    /// A fee that a row does not state is the dearest of the provider's, and told.
    fn fill_fees(&mut self) {
        let fees = Kind::ALL
            .into_iter()
            .filter(|kind| !kind.is_tokens() && *kind != Kind::Request);
        for kind in fees {
            let levels = self
                .rows
                .iter()
                .flat_map(Row::sets)
                .flat_map(PriceSet::tiers)
                .flat_map(Tier::levels);
            let dearest = levels.filter_map(|level| level.stated(kind)).max().unwrap_or_default();
            let tiers = self
                .rows
                .iter_mut()
                .flat_map(Row::sets_mut)
                .flat_map(PriceSet::tiers_mut);
            for level in tiers.flat_map(Tier::levels_mut) {
                if level.derived.has(kind) {
                    row::set(&mut level.prices, kind, dearest);
                }
            }
        }
    }
}
