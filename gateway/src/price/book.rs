//! One provider's rows, and how a model's name finds its row: by hashing, never by looking through the rows.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use agentledger_ledger::Kind;

use super::family::{Families, Ranking};
use super::file::Parsed;
use super::names::{Located, Names};
use super::region::Region;
use super::row::{self, KindSet, PriceSet, Row, Stated, Tier};
use super::{built_in, id};

/// One provider's rows and how ids find them.
#[derive(Clone, Debug, Default)]
pub(super) struct Book {
    pub rows: Vec<Row>,
    /// Folded id or alias → index of the row.
    index: HashMap<Box<[u8]>, usize>,
    /// What may stand around an id.
    names: Names,
    /// Units that cost the same whatever the model: of rows that state none of their own.
    fees: Stated,
    /// Beginnings of ids whose models think without showing it, or show all that they bill; a longer one counts more.
    thinking: Vec<(Box<[u8]>, Thinking)>,
    regions: Vec<Arc<Region>>,
    dearest: Ranking,
    /// Made when the first model without a row comes.
    families: OnceLock<Families>,
    /// Names that one file of the operator's took from another one.
    pub overlaps: Vec<Overlap>,
}

/// Whether a model's billed output is all in its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thinking {
    Shown,
    Hidden,
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
        self.dearest = Ranking::default();
        self.families = OnceLock::new();
        parsed.qualifiers.iter().for_each(|text| self.names.qualify(text));
        parsed.suffixes.iter().for_each(|text| self.names.neutral(text));
        parsed
            .adds
            .iter()
            .for_each(|(text, added)| self.names.adding(text, *added));
        for (kind, fee) in Kind::ALL.into_iter().zip(parsed.fees) {
            if fee.is_some() {
                row::set(&mut self.fees, kind, fee);
            }
        }
        self.thinking.extend(parsed.thinking);
        self.regions.extend(parsed.regions);
        for row in parsed.rows {
            self.note_overlaps(&row);
            self.put(row);
        }
    }

    fn put(&mut self, row: Row) {
        let own = id::key(&row.id);
        let ending = row.id.strip_prefix('*').map(str::to_owned);
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
        if let Some(ending) = ending {
            self.names.ending(&ending, at);
        }
    }

    fn note_overlaps(&mut self, row: &Row) {
        for name in std::iter::once(&*row.id).chain(row.aliases()) {
            let old = self.index.get(&id::key(name)).and_then(|at| self.rows.get(*at));
            // What an update wrote is meant to be overridden: by the next update, and by the operator.
            let meant = |old: &&Row| built_in::is_built_in(&old.file) || old.is_update || old.file == row.file;
            if let Some(old) = old.filter(|old| !meant(old)) {
                self.overlaps.push(Overlap {
                    name: name.into(),
                    wins: (row.file.clone(), row.line),
                    lost: (old.file.clone(), old.line),
                });
            }
        }
    }

    /// The row of a name, and what the name adds.
    pub fn find(&self, model: &str) -> Option<(&Row, Located)> {
        let folded = id::Folded::new(model)?;
        let whole = id::without_arn(folded.as_bytes());
        let located = self.names.locate(whole, |id| self.index.get(id).copied())?;
        Some((self.rows.get(located.row)?, located))
    }

    /// The dearest row that is served at a time: by output, then by input.
    pub fn dearest(&self, at_ms: i64) -> Option<&Row> {
        self.rows.get(self.dearest.at(at_ms)?)
    }

    /// The dearest row of the family of a model without a row.
    pub fn family(&self, model: &str, at_ms: i64) -> Option<&Row> {
        let folded = id::Folded::new(model)?;
        let bare = self.names.bare(id::without_arn(folded.as_bytes()));
        let families = self.families.get_or_init(|| Families::of(&self.rows, &self.dearest));
        families.find(&self.rows, bare, at_ms)
    }

    /// Whether a model may bill output that its answers do not show; also where nothing is known of it.
    pub fn thinks_unseen(&self, model: &str) -> bool {
        let Some(folded) = id::Folded::new(model) else {
            return true;
        };
        let bare = self.names.bare(id::without_arn(folded.as_bytes()));
        let fitting = self
            .thinking
            .iter()
            .filter(|(beginning, _)| &**beginning == b"*" || id::begins(bare, beginning));
        let longest = fitting.max_by_key(|(beginning, _)| beginning.len());
        longest.is_none_or(|(_, thinking)| *thinking == Thinking::Hidden)
    }

    /// What follows from all rows together; asked for once they are all there.
    pub fn complete(&mut self) {
        self.fill_fees();
        for row in &mut self.rows {
            let covers = |region: &&Arc<Region>| region.covers(&row.id, row.first.from_ms);
            row.regions = self.regions.iter().filter(covers).map(Arc::clone).collect();
        }
        let models = self.rows.iter().enumerate().filter(|(_, row)| row.is_model());
        let models: Vec<usize> = models.map(|(at, _)| at).collect();
        self.dearest = Ranking::of(&self.rows, &models);
    }

    /// Whether no row came since.
    pub fn is_complete(&self) -> bool {
        !self.dearest.is_empty()
    }

    /// A fee that a row does not state is the book's; where that has none, the dearest of the provider's, and told.
    fn fill_fees(&mut self) {
        self.forget_common();
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
            let common = row::at(&self.fees, kind);
            let dearest = levels.filter_map(|level| level.stated(kind)).max().max(common);
            let dearest = dearest.unwrap_or_default();
            let tiers = self
                .rows
                .iter_mut()
                .flat_map(Row::sets_mut)
                .flat_map(PriceSet::tiers_mut);
            for level in tiers.flat_map(Tier::levels_mut) {
                match common {
                    Some(fee) if level.derived.has(kind) => {
                        row::set(&mut level.prices, kind, fee);
                        level.derived = level.derived.without(kind);
                        level.common = level.common.with(kind);
                    }
                    None if level.derived.has(kind) => row::set(&mut level.prices, kind, dearest),
                    _ => {}
                }
            }
        }
    }

    /// Another file may have changed the book's fees since they were filled in.
    fn forget_common(&mut self) {
        let tiers = self
            .rows
            .iter_mut()
            .flat_map(Row::sets_mut)
            .flat_map(PriceSet::tiers_mut);
        for level in tiers.flat_map(Tier::levels_mut) {
            level.derived = level.common.iter().fold(level.derived, KindSet::with);
            level.common = KindSet::default();
        }
    }
}
