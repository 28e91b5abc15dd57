//! The names that rows bear, each in memory once; and how many distinct ones a day may bring.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;

use super::rows::{Axis, RowKey};
use crate::entry::Name;
use crate::index::Index;
use crate::map::{Map, Set};
use crate::slab::{Place, Slab};

/// What names are counted under that are too many to be told apart.
pub const OTHER: &str = "other";
/// Days whose names are known at a time: entries belong to the day their request began on, so some come late.
const DAYS_KNOWN_MAX: usize = 3;

/// Texts under small numbers.
#[derive(Debug, Default)]
pub(super) struct Names {
    texts: Slab<Name>,
    index: Index,
}

impl Names {
    pub fn find(&self, text: &str) -> Option<Place> {
        let is_it = |place| self.texts.get(place).is_some_and(|known| **known == *text);
        self.index.find(self.index.hash(text), is_it)
    }

    /// The number of a text, given where it is new; the text itself is shared with who brings it.
    pub fn number(&mut self, text: &Name) -> Place {
        if let Some(place) = self.find(text) {
            return place;
        }
        let place = self.texts.insert(Name::clone(text));
        self.index.insert(self.index.hash(&**text), place, hash_in(&self.texts));
        place
    }

    pub fn text(&self, place: Place) -> &str {
        self.texts.get(place).map_or("", |text| &**text)
    }

    pub fn name(&self, place: Place) -> Name {
        self.texts.get(place).map_or_else(|| Name::from(""), Name::clone)
    }

    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Numbers given so far: all places are below.
    pub fn given(&self) -> usize {
        self.texts.given()
    }

    /// Forgets all texts but these.
    pub fn retain(&mut self, used: &Set<Place>) {
        let gone: Vec<Place> = self
            .texts
            .iter()
            .map(|(place, _)| place)
            .filter(|place| !used.contains(place))
            .collect();
        for place in gone {
            let hash = self.index.hash(self.text(place));
            self.index.remove(hash, place, hash_in(&self.texts));
            self.texts.remove(place);
        }
    }
}

/// How the index hashes a text that it has.
fn hash_in(texts: &Slab<Name>) -> impl Fn(&RandomState, Place) -> u64 + '_ {
    |hasher, place| hasher.hash_one(texts.get(place).map_or("", |text| &**text))
}

/// The distinct names of one day.
#[derive(Debug, Default)]
pub(super) struct DayNames {
    /// Hashes of the rows' names: a row that looks like another by chance is one too many, no more.
    rows: Set<u64>,
    /// By axis.
    counts: [usize; Axis::STORED.len()],
    /// How many rows a name has as the first of two: agents' sessions, tags' values.
    firsts: Map<(Axis, Place), usize>,
    tenants: Set<Place>,
}

impl DayNames {
    pub fn take_in(&mut self, axis: Axis, key: &RowKey) {
        self.tenants.insert(key.tenant);
        if !self.rows.insert(self.hash(axis, key)) {
            return;
        }
        if let Some(count) = self.counts.get_mut(axis as usize) {
            *count += 1;
        }
        if axis.has_two_names() {
            *self.firsts.entry((axis, key.first)).or_default() += 1;
        }
    }

    fn hash(&self, axis: Axis, key: &RowKey) -> u64 {
        self.rows.hasher().hash_one((axis, key))
    }

    fn knows(&self, axis: Axis, key: &RowKey) -> bool {
        self.rows.contains(&self.hash(axis, key))
    }

    /// Whether one more row of these names may be told apart. One tag may use half of what there is for all of them, so that one
    /// whose values are made up for each request leaves room for the others.
    fn has_room(&self, axis: Axis, first: Option<Place>, per_kind: usize) -> bool {
        let count = self.counts.get(axis as usize).copied().unwrap_or(usize::MAX);
        let of_first = first
            .and_then(|first| self.firsts.get(&(axis, first)).copied())
            .unwrap_or(0);
        count < per_kind && (axis != Axis::Tag || of_first < per_kind.div_ceil(2))
    }

    fn has_room_for_tenant(&self, tenant: Option<Place>, per_kind: usize) -> bool {
        tenant.is_some_and(|tenant| self.tenants.contains(&tenant)) || self.tenants.len() < per_kind
    }
}

/// What an entry's row is about, by its texts.
#[derive(Clone, Copy)]
pub(super) struct RowNames<'a> {
    pub tenant: &'a Name,
    pub axis: Axis,
    pub first: &'a Name,
    pub second: &'a Name,
}

/// The key under which a row is counted, and whether a name of it is told apart no more.
pub(super) fn admit(names: &mut Names, day: &mut DayNames, row: RowNames<'_>, per_kind: usize) -> (RowKey, bool) {
    let axis = row.axis;
    let (tenant, first, second) = (names.find(row.tenant), names.find(row.first), names.find(row.second));
    if let (Some(tenant), Some(first), Some(second)) = (tenant, first, second) {
        let key = RowKey { tenant, first, second };
        if day.knows(axis, &key) {
            return (key, false);
        }
    }
    let other = Name::from(OTHER);
    let has_tenant = day.has_room_for_tenant(tenant, per_kind);
    let tenant = if has_tenant { row.tenant } else { &other };
    let has_room = day.has_room(axis, first, per_kind);
    let is_first_known = first.is_some_and(|first| day.firsts.contains_key(&(axis, first)));
    let (first, second) = match has_room {
        true => (row.first, row.second),
        false if !axis.has_two_names() => (&other, row.second),
        false if is_first_known => (row.first, &other),
        false => (&other, &other),
    };
    let key = RowKey {
        tenant: names.number(tenant),
        first: names.number(first),
        second: names.number(second),
    };
    if has_room {
        day.take_in(axis, &key);
    } else {
        day.tenants.insert(key.tenant);
    }
    (key, !(has_room && has_tenant))
}

/// The names of the days that entries belong to at present.
#[derive(Debug, Default)]
pub(super) struct KnownDays {
    /// The day used last: nearly always the one that is used next.
    last: (i64, DayNames),
    /// By the day's start.
    others: Vec<(i64, DayNames)>,
    is_filled: bool,
}

impl KnownDays {
    /// The names of a day, from `rows` where they are not known yet.
    pub fn day(&mut self, day_ms: i64, rows: impl FnOnce(&mut DayNames)) -> &mut DayNames {
        if !self.is_filled || self.last.0 != day_ms {
            let known = self.others.iter().position(|(known_ms, _)| *known_ms == day_ms);
            let day = match known {
                Some(at) => self.others.remove(at),
                None => {
                    let mut day = DayNames::default();
                    rows(&mut day);
                    (day_ms, day)
                }
            };
            let before = std::mem::replace(&mut self.last, day);
            if self.is_filled {
                self.others.insert(0, before);
                self.others.truncate(DAYS_KNOWN_MAX - 1);
            }
            self.is_filled = true;
        }
        &mut self.last.1
    }

    pub fn forget(&mut self) {
        *self = KnownDays::default();
    }
}
