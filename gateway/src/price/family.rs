//! What stands in for a model without a row: the dearest row of its family, else the provider's dearest.
//!
//! A family are the rows whose ids or aliases begin alike, up to a boundary between words (`-`, `.`, `/`, `:`, `@`, `_`). A
//! model belongs to the one with the longest beginning in common, as long as that has a word that means something: at least
//! two characters with a letter among them, which is no word of an address (`us`, `models`, `ft`). So `gpt-6.3-sol` is
//! priced as the dearest `gpt-6`, and `o9` as the provider's dearest. A family all of whose rows are free says nothing.
//!
//! Dearest: what is still served before what is not, then by output, by input, by the dearest fee. Where a family prices
//! units alone (`whisper`), the provider's dearest tokens are put beside them: nothing unknown is free.

use std::collections::HashMap;

use agentledger_ledger::{Kind, UnitPrice};

use super::id;
use super::row::{self, PriceSet, Row, Tier};

/// Words that say where a model is and not which.
const ADDRESS_WORDS: [&[u8]; 19] = [
    b"ft",
    b"us",
    b"eu",
    b"au",
    b"jp",
    b"ca",
    b"sa",
    b"apac",
    b"gov",
    b"global",
    b"models",
    b"accounts",
    b"projects",
    b"locations",
    b"publishers",
    b"endpoints",
    b"routers",
    b"deployments",
    b"tunedmodels",
];

/// From each of these times on, the index of the dearest of some rows. Times rise.
#[derive(Clone, Debug, Default)]
pub struct Ranking(Vec<(i64, usize)>);

impl Ranking {
    /// The dearest can change on the days on which a price or a model begins or ends.
    pub fn of(rows: &[Row], members: &[usize]) -> Ranking {
        let known = || members.iter().filter_map(|at| Some((*at, rows.get(*at)?)));
        let days = |row: &Row| {
            row.sets()
                .map(|set| set.from_ms)
                .chain(row.retired_ms)
                .collect::<Vec<_>>()
        };
        let mut times: Vec<i64> = std::iter::once(i64::MIN)
            .chain(known().flat_map(|(_, row)| days(row)))
            .collect();
        times.sort_unstable();
        times.dedup();
        let mut ranking: Vec<(i64, usize)> = Vec::new();
        for time in times {
            let dearest = known().max_by_key(|(_, row)| {
                let base = &row.set(time).standard.base;
                let fee = Kind::ALL
                    .into_iter()
                    .filter(|kind| !kind.is_tokens())
                    .filter_map(|kind| base.stated(kind))
                    .max();
                (
                    !row.is_retired(time),
                    base.price(Kind::Output),
                    base.price(Kind::Input),
                    fee,
                )
            });
            if let Some((at, _)) = dearest
                && ranking.last().is_none_or(|(_, before)| *before != at)
            {
                ranking.push((time, at));
            }
        }
        Ranking(ranking)
    }

    pub fn at(&self, at_ms: i64) -> Option<usize> {
        let after = self.0.partition_point(|(from_ms, _)| *from_ms <= at_ms);
        self.0.get(after.checked_sub(1)?).map(|(_, at)| *at)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn rows(&self) -> impl Iterator<Item = usize> {
        self.0.iter().map(|(_, at)| *at)
    }
}

/// All families of a book, by the beginning that their names share.
#[derive(Clone, Debug)]
pub struct Families {
    by_beginning: HashMap<Box<[u8]>, Ranking>,
    /// Rows that price units alone, by their index, with tokens beside.
    with_tokens: HashMap<usize, Row>,
}

impl Families {
    /// `dearest` is the provider's ranking.
    pub fn of(rows: &[Row], dearest: &Ranking) -> Families {
        let mut members: HashMap<Box<[u8]>, Vec<usize>> = HashMap::new();
        for (at, row) in rows.iter().enumerate().filter(|(_, row)| row.is_model()) {
            for name in std::iter::once(row.id()).chain(row.aliases()) {
                let key = id::key(name);
                for beginning in beginnings(&key).filter(|beginning| means_something(beginning)) {
                    let family = members.entry(beginning.into()).or_default();
                    if family.last() != Some(&at) {
                        family.push(at);
                    }
                }
            }
        }
        let by_beginning: HashMap<_, _> = members
            .into_iter()
            .map(|(beginning, members)| (beginning, Ranking::of(rows, &members)))
            .collect();
        let latest = dearest.rows().last().and_then(|at| rows.get(at));
        let mut with_tokens = HashMap::new();
        for at in by_beginning.values().flat_map(Ranking::rows) {
            let bare = rows.get(at).filter(|row| prices_units_alone(row));
            if let Some((row, dearest)) = bare.zip(latest) {
                with_tokens.entry(at).or_insert_with(|| beside_tokens(row, dearest));
            }
        }
        Families {
            by_beginning,
            with_tokens,
        }
    }

    /// The dearest row of the family of a name, which is folded and bare.
    pub fn find<'b>(&'b self, rows: &'b [Row], name: &[u8], at_ms: i64) -> Option<&'b Row> {
        beginnings(name).find_map(|beginning| {
            let at = self.by_beginning.get(beginning)?.at(at_ms)?;
            let row = self.with_tokens.get(&at).or_else(|| rows.get(at))?;
            costs_something(row, at_ms).then_some(row)
        })
    }
}

/// A name and what it begins with, up to each boundary; longest first.
fn beginnings(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = (1..name.len()).rev();
    let ends = ends.filter(|end| name.get(*end).is_some_and(|byte| id::is_boundary(*byte)));
    std::iter::once(name)
        .chain(ends.filter_map(|end| name.get(..end)))
        .filter(|beginning| !beginning.last().is_some_and(|byte| id::is_boundary(*byte)))
}

fn means_something(beginning: &[u8]) -> bool {
    beginning
        .split(|byte| id::is_boundary(*byte))
        .any(|word| word.len() >= 2 && word.iter().any(u8::is_ascii_alphabetic) && !ADDRESS_WORDS.contains(&word))
}

fn costs_something(row: &Row, at_ms: i64) -> bool {
    let base = &row.set(at_ms).standard.base;
    let priced = |kind| base.stated(kind).is_some_and(|price| price.picos() > 0);
    Kind::ALL.into_iter().any(priced)
}

fn prices_units_alone(row: &Row) -> bool {
    let levels = row.sets().flat_map(PriceSet::tiers).flat_map(Tier::levels);
    let mut tokens = levels.flat_map(|level| {
        Kind::ALL
            .into_iter()
            .filter_map(|kind| level.stated(kind).map(|_| kind))
    });
    !tokens.any(Kind::is_tokens)
}

/// The row with the tokens of another one, derived and told.
fn beside_tokens(row: &Row, dearest: &Row) -> Row {
    let tokens = &dearest.set(i64::MAX).standard;
    let mut patched = row.clone();
    let tiers = patched.sets_mut().flat_map(PriceSet::tiers_mut);
    for level in tiers.flat_map(Tier::levels_mut) {
        for kind in Kind::ALL.into_iter().filter(|kind| kind.is_tokens()) {
            let price: UnitPrice = tokens.level(level.over.saturating_add(1)).price(kind);
            row::set(&mut level.prices, kind, price);
        }
    }
    patched
}
