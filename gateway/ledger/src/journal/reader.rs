//! Reads the events of a month back, in order, with their place in the chain and their names resolved.

use std::fmt;
use std::ops::ControlFlow;

use thiserror::Error;

use super::frame::{Chunk, Damage, key};
use crate::codec;
use crate::event::{Event, Opening};
use crate::head::{Hash, Head};
use crate::names::Names;
use crate::store::{Month, Store, StoreError};

/// Chunks that are looked through for an event that is not in the first one.
const APART_CHUNKS: usize = 64;

/// Where and how the journal is damaged.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct Damaged {
    pub month: Month,
    /// The last event before it that could be believed.
    pub after_sequence: u64,
    pub damage: Damage,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the journal of {} is damaged after event {}: {}",
            self.month, self.after_sequence, self.damage
        )
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Damaged(#[from] Damaged),
}

/// An event where it stands in the journal.
#[derive(Debug)]
pub struct Placed {
    pub sequence: u64,
    /// Time of its chunk's commit.
    pub at_ms: i64,
    pub event: Event,
    /// The head, if this event is the last of its chunk.
    pub head: Option<Head>,
}

/// One month of the journal.
pub struct MonthReader<'a> {
    pub month: Month,
    pub store: &'a dyn Store,
}

impl MonthReader<'_> {
    fn damaged(&self, after: &Head, damage: Damage) -> ReadError {
        ReadError::Damaged(Damaged {
            month: self.month,
            after_sequence: after.sequence,
            damage,
        })
    }

    /// What the store says of a place after this one: damage of its own is the journal's.
    fn failed(&self, after: &Head, error: StoreError) -> ReadError {
        match error {
            StoreError::Damaged(reason) => self.damaged(after, Damage::Ahead(reason)),
            error => ReadError::Store(error),
        }
    }

    /// Whether anything was written to it.
    pub fn is_written(&self) -> Result<bool, ReadError> {
        let last = self.store.last();
        Ok(last.map_err(|error| self.failed(&Head::default(), error))?.is_some())
    }

    /// The opening, and the head it carries on from; `None` for a month in which nothing was written yet.
    pub fn opening(&self) -> Result<Option<(Opening, Head)>, ReadError> {
        let none = Head::default();
        let Some(first) = self.store.scan(&[]).next() else {
            return Ok(None);
        };
        let (key, value) = first.map_err(|error| self.failed(&none, error))?;
        let chunk = Chunk::parse(&key, &value).map_err(|damage| self.damaged(&none, damage))?;
        let before = chunk.first_sequence.saturating_sub(1);
        let after = Head {
            sequence: before,
            hash: Hash::default(),
        };
        let event = chunk
            .events
            .first()
            .ok_or_else(|| self.damaged(&after, Damage::Shape))?;
        match codec::decode(event, &mut Names::new()) {
            Ok(Event::Opening(opening)) => {
                let head = Head {
                    sequence: before,
                    hash: opening.previous.map(Hash).unwrap_or_default(),
                };
                chunk.follows(&head).map_err(|damage| self.damaged(&head, damage))?;
                Ok(Some((Opening::clone(&opening), head)))
            }
            Ok(_) => Err(self.damaged(&after, Damage::NoOpening)),
            Err(error) => Err(self.damaged(&after, Damage::Event(error.to_string()))),
        }
    }

    /// Reads on from `after`, which was committed at `after_ms` (0 for the month's beginning), to the end, checking the
    /// chain, until `visit` breaks. The head it came to. The first chunk read must need no earlier names.
    pub fn follow(
        &self,
        after: Head,
        after_ms: i64,
        mut visit: impl FnMut(Placed) -> Result<ControlFlow<()>, Damage>,
    ) -> Result<Head, ReadError> {
        let mut head = after;
        let mut names = Names::new();
        for pair in self.store.scan(&key(after_ms, after.sequence + 1)) {
            let (key, value) = pair.map_err(|error| self.failed(&head, error))?;
            let chunk = Chunk::parse(&key, &value).map_err(|damage| self.damaged(&head, damage))?;
            let next = chunk.follows(&head).map_err(|damage| self.damaged(&head, damage))?;
            if self
                .visit_chunk(&chunk, &head, Some(next), &mut names, &mut visit)?
                .is_break()
            {
                return Ok(next);
            }
            head = next;
        }
        Ok(head)
    }

    /// Reads from the chunk that holds `from_ms` to the end, without the chain, until `visit` breaks.
    pub fn since(
        &self,
        from_ms: i64,
        mut visit: impl FnMut(Placed) -> Result<ControlFlow<()>, Damage>,
    ) -> Result<(), ReadError> {
        let mut names = Names::new();
        let Some(begin) = self.fresh_before(&key(from_ms, 0))? else {
            return Ok(());
        };
        let mut expected = None;
        for pair in self.store.scan(&begin) {
            let (key, value) = pair?;
            let before = Head {
                sequence: expected.unwrap_or(1u64).saturating_sub(1),
                hash: Hash::default(),
            };
            let chunk = Chunk::parse(&key, &value).map_err(|damage| self.damaged(&before, damage))?;
            if let Some(expected) = expected.filter(|expected| *expected != chunk.first_sequence) {
                let damage = Damage::Gap {
                    expected,
                    found: chunk.first_sequence,
                };
                return Err(self.damaged(&before, damage));
            }
            expected = Some(chunk.last_sequence() + 1);
            if self
                .visit_chunk(&chunk, &before, None, &mut names, &mut visit)?
                .is_break()
            {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The event with this sequence, if it is in the chunk where events of `at_ms` are: one point read, and the names it needs.
    pub fn event(&self, at_ms: i64, sequence: u64) -> Result<Option<Event>, ReadError> {
        let at = key(at_ms, sequence);
        let holds_it = |(key, value): &(Vec<u8>, Vec<u8>)| {
            Chunk::parse(key, value)
                .is_ok_and(|chunk| (chunk.first_sequence..=chunk.last_sequence()).contains(&sequence))
        };
        if self.store.at_or_before(&at)?.filter(holds_it).is_none() {
            return Ok(None);
        }
        let mut found = None;
        self.since(at_ms, |placed| {
            if placed.sequence >= sequence {
                found = (placed.sequence == sequence).then_some(placed.event);
                return Ok(ControlFlow::Break(()));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// The event with this sequence, one that needs no names from before it, if it is in a chunk where events of `at_ms` are or in one
    /// of the few after it: it was decided before its chunk began, at most as long as those who wait for a disk wait.
    pub fn event_apart(&self, at_ms: i64, sequence: u64) -> Result<Option<Event>, ReadError> {
        let Some((begin, _)) = self.store.at_or_before(&key(at_ms, sequence))? else {
            return Ok(None);
        };
        for pair in self.store.scan(&begin).take(APART_CHUNKS) {
            let (key, value) = pair?;
            let Ok(chunk) = Chunk::parse(&key, &value) else {
                return Ok(None);
            };
            let Some(place) = sequence.checked_sub(chunk.first_sequence) else {
                return Ok(None);
            };
            let place = usize::try_from(place).unwrap_or(usize::MAX);
            if let Some(bytes) = chunk.events.get(place) {
                return Ok(codec::decode(bytes, &mut Names::new()).ok());
            }
        }
        Ok(None)
    }

    /// The event with this sequence, wherever in the month.
    pub fn event_numbered(&self, sequence: u64) -> Result<Option<Event>, ReadError> {
        match self.time_of(sequence)? {
            Some(at_ms) => self.event(at_ms, sequence),
            None => Ok(None),
        }
    }

    /// The last `limit` events before the one with the sequence `before`, in their order, each with the hash of its chunk.
    pub fn latest(&self, before: u64, limit: usize) -> Result<Vec<(Placed, Hash)>, ReadError> {
        let last = self
            .store
            .last()?
            .map(|(key, value)| last_of(&key, &value))
            .unwrap_or_default();
        let before = before.min(last.saturating_add(1));
        let Some(at_ms) = self.time_of(before.saturating_sub(1))? else {
            return Ok(Vec::new());
        };
        let first = before.saturating_sub(limit as u64);
        let mut at = key(at_ms, before.saturating_sub(1)).to_vec();
        while let Some((found, _)) = self.store.at_or_before(&at)? {
            at = found;
            if first_of(&at) <= first {
                break;
            }
            at = key_before(&at);
        }
        let (mut rows, mut names): (Vec<(Placed, Hash)>, Names) = (Vec::new(), Names::new());
        let Some(begin) = self.fresh_before(&at)? else {
            return Ok(rows);
        };
        for pair in self.store.scan(&begin) {
            let (key, value) = pair?;
            let chunk = Chunk::parse(&key, &value).map_err(|damage| self.damaged(&Head::default(), damage))?;
            if chunk.first_sequence >= before {
                break;
            }
            let mut visit = |placed: Placed| {
                match placed.sequence {
                    after if after >= before => return Ok(ControlFlow::Break(())),
                    wanted if wanted >= first => rows.push((placed, chunk.hash)),
                    _ => {}
                }
                Ok(ControlFlow::Continue(()))
            };
            let visited = self.visit_chunk(&chunk, &Head::default(), None, &mut names, &mut visit)?;
            if visited.is_break() {
                break;
            }
        }
        Ok(rows)
    }

    /// When the event with this sequence was committed, if it is of this month: found by halves, a point read each.
    fn time_of(&self, sequence: u64) -> Result<Option<i64>, ReadError> {
        let place = |pair: &(Vec<u8>, Vec<u8>)| {
            let chunk = Chunk::parse(&pair.0, &pair.1).ok()?;
            Some((chunk.at_ms, chunk.first_sequence, chunk.last_sequence()))
        };
        let first = self.store.scan(&[]).next().transpose()?;
        let (first, last) = (
            first.as_ref().and_then(place),
            self.store.last()?.as_ref().and_then(place),
        );
        let (Some((mut low_ms, first, _)), Some((mut high_ms, _, last))) = (first, last) else {
            return Ok(None);
        };
        if !(first..=last).contains(&sequence) {
            return Ok(None);
        }
        // Keys ascend with both: the last moment at which the newest chunk is not a later one.
        while low_ms < high_ms {
            let middle_ms = low_ms + (high_ms - low_ms + 1) / 2;
            let pair = self.store.at_or_before(&key(middle_ms, sequence))?;
            match pair.as_ref().and_then(place) {
                Some((_, begins, _)) if begins <= sequence => low_ms = middle_ms,
                _ => high_ms = middle_ms - 1,
            }
        }
        Ok(Some(low_ms))
    }

    fn visit_chunk(
        &self,
        chunk: &Chunk<'_>,
        before: &Head,
        head: Option<Head>,
        names: &mut Names,
        visit: &mut impl FnMut(Placed) -> Result<ControlFlow<()>, Damage>,
    ) -> Result<ControlFlow<()>, ReadError> {
        if chunk.fresh {
            *names = Names::new();
        }
        let mut at = *before;
        at.sequence = chunk.first_sequence.saturating_sub(1);
        for (place, bytes) in chunk.events.iter().enumerate() {
            let event =
                codec::decode(bytes, names).map_err(|error| self.damaged(&at, Damage::Event(error.to_string())))?;
            let sequence = at.sequence + 1;
            let head = head.filter(|_| place + 1 == chunk.events.len());
            let placed = Placed {
                sequence,
                at_ms: chunk.at_ms,
                event,
                head,
            };
            if visit(placed).map_err(|damage| self.damaged(&at, damage))?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            at.sequence = sequence;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The key of the newest chunk at or before `at` that needs no earlier names; else of the first.
    fn fresh_before(&self, at: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        let mut at = at.to_vec();
        loop {
            let Some((key, value)) = self.store.at_or_before(&at)? else {
                return Ok(self.store.scan(&[]).next().transpose()?.map(|(key, _)| key));
            };
            if Chunk::parse(&key, &value).is_ok_and(|chunk| chunk.fresh) {
                return Ok(Some(key));
            }
            at = key_before(&key);
        }
    }
}

/// The sequences of a chunk's first and last events; 0 where it is none.
fn first_of(key: &[u8]) -> u64 {
    key.try_into().map_or(0, |key| u128::from_be_bytes(key) as u64)
}

fn last_of(key: &[u8], value: &[u8]) -> u64 {
    Chunk::parse(key, value).map_or(0, |chunk| chunk.last_sequence())
}

/// The greatest key below this one.
fn key_before(key: &[u8]) -> Vec<u8> {
    let number = key.try_into().map_or(0, u128::from_be_bytes);
    number.saturating_sub(1).to_be_bytes().to_vec()
}
