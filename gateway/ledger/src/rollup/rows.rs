//! What a sum is kept under, in memory and as stored bytes.

use crate::map::Set;

use super::{DAY_MS, HOUR_MS, MINUTE_MS};
use crate::entry::{Entry, Facts, Name};
use crate::journal::bytes::{Reader, put_text};

/// What rows are kept by. The byte is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Axis {
    /// Provider, model.
    Model = 0,
    /// Fingerprint.
    Key = 1,
    /// Agent, session.
    Session = 2,
    User = 3,
    /// Tag, value.
    Tag = 4,
    Task = 5,
}

impl Axis {
    pub(super) const ALL: [Axis; 6] = [Axis::Model, Axis::Key, Axis::Session, Axis::User, Axis::Tag, Axis::Task];
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RowKey {
    pub(super) tenant: Name,
    pub(super) axis: Axis,
    pub(super) first: Name,
    pub(super) second: Name,
}

/// The byte is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(super) enum Grain {
    Minute = 0,
    Hour = 1,
    Day = 2,
}

impl Grain {
    pub(super) const ALL: [Grain; 3] = [Grain::Minute, Grain::Hour, Grain::Day];

    pub(super) fn ms(self) -> i64 {
        match self {
            Grain::Minute => MINUTE_MS,
            Grain::Hour => HOUR_MS,
            Grain::Day => DAY_MS,
        }
    }
}

pub(super) type Address = (Grain, i64, RowKey);

/// Shares equal texts while rows are loaded.
#[derive(Debug, Default)]
pub struct Names {
    known: Set<Name>,
}

impl Names {
    pub fn share(&mut self, text: &str) -> Name {
        if let Some(name) = self.known.get(text) {
            return Name::clone(name);
        }
        let name = Name::from(text);
        self.known.insert(Name::clone(&name));
        name
    }
}

pub(super) fn row(facts: &Facts, axis: Axis, first: &Name, second: &Name) -> RowKey {
    RowKey {
        tenant: Name::clone(&facts.tenant),
        axis,
        first: Name::clone(first),
        second: Name::clone(second),
    }
}

pub(super) fn model_of(entry: &Entry) -> &Name {
    if entry.settlement.model.is_empty() {
        &entry.facts.requested_model
    } else {
        &entry.settlement.model
    }
}

pub(super) fn stored_key(grain: Grain, bucket_ms: i64, key: &RowKey) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.push(grain as u8);
    out.extend_from_slice(&bucket_ms.to_be_bytes());
    out.push(key.axis as u8);
    for text in [&key.tenant, &key.first, &key.second] {
        put_text(&mut out, text);
    }
    out
}

pub(super) fn parse_key(bytes: &[u8], names: &mut Names) -> Option<Address> {
    let mut reader = Reader::new(bytes);
    let [grain] = reader.array()?;
    let grain = Grain::ALL.into_iter().find(|known| *known as u8 == grain)?;
    let bucket_ms = i64::from_be_bytes(reader.array()?);
    let [axis] = reader.array()?;
    let axis = Axis::ALL.into_iter().find(|known| *known as u8 == axis)?;
    let tenant = names.share(reader.text()?);
    let first = names.share(reader.text()?);
    let second = names.share(reader.text()?);
    reader.is_empty().then_some((
        grain,
        bucket_ms,
        RowKey {
            tenant,
            axis,
            first,
            second,
        },
    ))
}
