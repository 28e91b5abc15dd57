//! Where changes stand in the journal, and what they are looked for by: so that a page of them reads those changes alone,
//! however long the journal is. Rows of the state database bring it back.

use crate::change::{Change, ChangePage, ChangeQuery};
use crate::entry::Name;
use crate::event::Event;
use crate::journal::bytes::{Reader, put_i64, put_text, put_u64};
use crate::journal::reader::{MonthReader, ReadError};
use crate::map::Map;
use crate::store::{self, Month, Stores};

/// What rows of changes begin with in the state database.
pub(crate) const ROW_PREFIX: u8 = b'a';
/// Changes of one row.
const ROW_CHANGES: usize = 256;

/// One change; texts by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    sequence: u64,
    at_ms: i64,
    author: u32,
    action: u32,
    subject: u32,
    tenant: u32,
}

/// Texts under small numbers.
#[derive(Debug, Default)]
struct Texts {
    by_number: Vec<Name>,
    by_text: Map<Name, u32>,
}

impl Texts {
    fn number(&mut self, text: &Name) -> u32 {
        if let Some(number) = self.by_text.get(text) {
            return *number;
        }
        let number = u32::try_from(self.by_number.len()).unwrap_or(u32::MAX);
        self.by_number.push(Name::clone(text));
        self.by_text.insert(Name::clone(text), number);
        number
    }

    fn text(&self, number: u32) -> &Name {
        static NONE: std::sync::OnceLock<Name> = std::sync::OnceLock::new();
        let known = usize::try_from(number)
            .ok()
            .and_then(|number| self.by_number.get(number));
        known.unwrap_or_else(|| NONE.get_or_init(|| Name::from("")))
    }
}

/// The places of all changes in the months that are kept, oldest first.
#[derive(Debug, Default)]
pub(crate) struct ChangeRows {
    places: Vec<Place>,
    texts: Texts,
    /// How many of them are in rows of the state database.
    saved: usize,
    /// The rows there are, each by the sequence of its first change,
    rows: Vec<u64>,
    /// and those that the next checkpoint removes.
    gone: Vec<u64>,
}

/// A change that a query has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FoundChange {
    sequence: u64,
    at_ms: i64,
}

impl ChangeRows {
    /// The change is on disk.
    pub fn committed(&mut self, sequence: u64, change: &Change) {
        let place = Place {
            sequence,
            at_ms: change.at_ms,
            author: self.texts.number(&change.author),
            action: self.texts.number(&change.action),
            subject: self.texts.number(&change.subject),
            tenant: self.texts.number(&change.tenant),
        };
        self.places.push(place);
    }

    /// A row as it was read back; they come in their order. `None`: it is broken.
    pub fn load(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let (_, first) = key.split_first()?;
        self.rows.push(u64::from_be_bytes(first.try_into().ok()?));
        let mut reader = Reader::new(value);
        while !reader.is_empty() {
            let (sequence, at_ms) = (reader.u64()?, reader.i64()?);
            let mut number = || Some(self.texts.number(&Name::from(reader.text()?)));
            let (author, action, subject, tenant) = (number()?, number()?, number()?, number()?);
            self.places.push(Place {
                sequence,
                at_ms,
                author,
                action,
                subject,
                tenant,
            });
        }
        self.saved = self.places.len();
        Some(())
    }

    /// What a checkpoint changes.
    pub fn changes(&self) -> Vec<store::Change> {
        let fresh = self.places.get(self.saved..).unwrap_or_default();
        let row = |places: &[Place]| {
            let mut value = Vec::with_capacity(places.len() * 96);
            for place in places {
                put_u64(&mut value, place.sequence);
                put_i64(&mut value, place.at_ms);
                for number in [place.author, place.action, place.subject, place.tenant] {
                    put_text(&mut value, self.texts.text(number));
                }
            }
            let first = places.first().map_or(0, |place| place.sequence);
            store::Change::Put(row_key(first), value)
        };
        let gone = self.gone.iter().map(|first| store::Change::Remove(row_key(*first)));
        gone.chain(fresh.chunks(ROW_CHANGES).map(row)).collect()
    }

    /// It is on disk.
    pub fn saved(&mut self) {
        let fresh = self.places.get(self.saved..).unwrap_or_default();
        let firsts = fresh.chunks(ROW_CHANGES).filter_map(|places| places.first());
        self.rows.extend(firsts.map(|place| place.sequence));
        self.saved = self.places.len();
        self.gone = Vec::new();
    }

    /// The events before this one are no more. Their rows go with the next checkpoint; one that bears later ones, too, stays.
    pub fn forget_before(&mut self, sequence: u64) {
        let over = self.rows.partition_point(|first| *first < sequence).saturating_sub(1);
        self.gone.extend(self.rows.drain(..over));
        let gone_places = self.places.partition_point(|place| place.sequence < sequence);
        if gone_places > 0 {
            let before = std::mem::take(&mut self.texts);
            self.places.drain(..gone_places);
            self.saved = self.saved.saturating_sub(gone_places);
            for place in &mut self.places {
                for number in [
                    &mut place.author,
                    &mut place.action,
                    &mut place.subject,
                    &mut place.tenant,
                ] {
                    *number = self.texts.number(before.text(*number));
                }
            }
        }
    }

    /// The changes of one page, latest first, and where the next page goes on.
    pub fn find(&self, query: &ChangeQuery) -> (Vec<FoundChange>, Option<u64>) {
        let before = query.before_sequence.unwrap_or(u64::MAX);
        let places = self.places.partition_point(|place| place.sequence < before);
        let is_wanted = |place: &&Place| {
            let text = |number: u32| self.texts.text(number);
            (query.from_ms..query.to_ms).contains(&place.at_ms)
                && text(place.subject).starts_with(&query.subject)
                && text(place.action).starts_with(&query.action)
                && query.author.as_ref().is_none_or(|author| text(place.author) == author)
                && query.tenant.as_ref().is_none_or(|tenant| text(place.tenant) == tenant)
        };
        let mut wanted = self.places.iter().take(places).rev().filter(is_wanted);
        let limit = query.limit.max(1);
        let found: Vec<FoundChange> = wanted
            .by_ref()
            .take(limit)
            .map(|place| FoundChange {
                sequence: place.sequence,
                at_ms: place.at_ms,
            })
            .collect();
        let next = found
            .last()
            .map(|last| last.sequence)
            .filter(|_| wanted.next().is_some());
        (found, next)
    }
}

fn row_key(first: u64) -> Vec<u8> {
    let mut key = vec![ROW_PREFIX];
    key.extend_from_slice(&first.to_be_bytes());
    key
}

/// Reads the changes that were found; those whose month was removed meanwhile are left out.
pub(crate) fn read(
    stores: &dyn Stores,
    (found, next): (Vec<FoundChange>, Option<u64>),
) -> Result<ChangePage, ReadError> {
    let mut page = ChangePage {
        changes: Vec::with_capacity(found.len()),
        next,
    };
    for FoundChange { sequence, at_ms } in found {
        if let Some(Event::Changed(change)) = event_of(stores, sequence, at_ms)? {
            page.changes.push((sequence, change));
        }
    }
    Ok(page)
}

/// A change stands where events of its time stand; where the clock was set back, or a month began just then, elsewhere.
fn event_of(stores: &dyn Stores, sequence: u64, at_ms: i64) -> Result<Option<Event>, ReadError> {
    let month = Month::of_ms(at_ms);
    if let Some(store) = stores.month(month)?
        && let Some(event) = (MonthReader { month, store: &*store }).event_apart(at_ms, sequence)?
    {
        return Ok(Some(event));
    }
    for month in stores.months()?.into_iter().rev() {
        let Some(store) = stores.month(month)? else { continue };
        let event = MonthReader { month, store: &*store }.event_numbered(sequence)?;
        if event.is_some() {
            return Ok(event);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use ulid::Ulid;

    fn change(number: u64) -> Change {
        Change {
            id: Ulid::from_parts(number, 1),
            at_ms: number as i64 * 10,
            author: format!("author-{}", number % 3).into(),
            peer: "socket".into(),
            action: ["rule.put", "rule.delete"][number as usize % 2].into(),
            subject: format!("rule:{number}").into(),
            tenant: if number.is_multiple_of(5) { "acme" } else { "" }.into(),
            note: "".into(),
            before: None,
            after: None,
            kept: false,
            min_version: 0,
            request: None,
        }
    }

    fn rows(count: u64) -> ChangeRows {
        let mut rows = ChangeRows::default();
        (1..=count).for_each(|number| rows.committed(number * 2, &change(number)));
        rows
    }

    fn pages(rows: &ChangeRows, mut query: ChangeQuery) -> Vec<u64> {
        let mut all = Vec::new();
        loop {
            let (found, next) = rows.find(&query);
            assert!(found.len() <= query.limit);
            all.extend(found.iter().map(|found| found.sequence));
            match next {
                None => return all,
                next => query.before_sequence = next,
            }
        }
    }

    #[test]
    fn pages_bring_what_is_wanted_once_and_latest_first() {
        let rows = rows(1_000);
        let all = pages(
            &rows,
            ChangeQuery {
                limit: 7,
                ..ChangeQuery::default()
            },
        );
        assert_eq!(all, (1..=1_000).rev().map(|number| number * 2).collect::<Vec<u64>>());
        let wanted = |query: ChangeQuery, is_wanted: fn(u64) -> bool| {
            let expected: Vec<u64> = (1..=1_000)
                .rev()
                .filter(|number| is_wanted(*number))
                .map(|number| number * 2)
                .collect();
            assert_eq!(pages(&rows, ChangeQuery { limit: 13, ..query }), expected);
        };
        let of = ChangeQuery::default;
        wanted(
            ChangeQuery {
                subject: "rule:99".into(),
                ..of()
            },
            |number| number == 99 || number / 10 == 99,
        );
        wanted(
            ChangeQuery {
                action: "rule.d".into(),
                ..of()
            },
            |number| number % 2 == 1,
        );
        wanted(
            ChangeQuery {
                author: Some("author-2".into()),
                ..of()
            },
            |number| number % 3 == 2,
        );
        wanted(
            ChangeQuery {
                author: Some("author".into()),
                ..of()
            },
            |_| false,
        );
        wanted(
            ChangeQuery {
                tenant: Some("acme".into()),
                ..of()
            },
            |number| number % 5 == 0,
        );
        wanted(
            ChangeQuery {
                from_ms: 100,
                to_ms: 200,
                ..of()
            },
            |number| (10..20).contains(&number),
        );
    }

    #[test]
    fn rows_bring_back_what_they_were_made_of_and_go_with_their_month() {
        let mut rows = rows(700);
        let mut stored: std::collections::BTreeMap<Vec<u8>, Vec<u8>> = Default::default();
        let mut keep = |changes: Vec<store::Change>| {
            for change in changes {
                match change {
                    store::Change::Put(key, value) => drop(stored.insert(key, value)),
                    store::Change::Remove(key) => assert!(stored.remove(&key).is_some()),
                }
            }
            stored.clone()
        };
        assert_eq!(keep(rows.changes()).len(), 3);
        rows.saved();
        assert!(rows.changes().is_empty());
        rows.committed(2_000, &change(1_000));
        keep(rows.changes());
        rows.saved();
        // The second row's changes begin at 514: it bears some that stay.
        rows.forget_before(1_000);
        let stored = keep(rows.changes());
        assert_eq!(stored.len(), 3);
        rows.saved();
        assert!(rows.changes().is_empty());
        let mut again = ChangeRows::default();
        stored.iter().for_each(|(key, value)| again.load(key, value).unwrap());
        again.forget_before(1_000);
        let query = || ChangeQuery {
            limit: 100,
            ..ChangeQuery::default()
        };
        assert_eq!(pages(&again, query()), pages(&rows, query()));
        assert_eq!(pages(&rows, query()).len(), 202);
        let by = ChangeQuery {
            subject: "rule:700".into(),
            ..query()
        };
        assert_eq!(pages(&rows, by), [1_400]);
        assert!(again.load(&row_key(1), &[1, 2, 9]).is_none());
    }
}
