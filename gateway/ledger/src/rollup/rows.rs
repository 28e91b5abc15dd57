//! What a sum is kept under, in memory and as stored bytes.

use super::names::Names;
use super::{DAY_MS, HOUR_MS, MINUTE_MS};
use crate::entry::{Entry, Name};
use crate::journal::bytes::{Reader, put_text};
use crate::slab::Place;

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
    // From here on in memory alone, and of days alone: made of the rows above.
    /// A provider's models in all tenants together; so users, tags' values and tasks.
    ModelOfAll = 6,
    UserOfAll = 7,
    TagOfAll = 8,
    TaskOfAll = 9,
    /// All sessions of an agent.
    Agent = 10,
    /// All keys of a tenant: each entry once.
    Tenant = 11,
}

impl Axis {
    /// In the order of their bytes.
    pub(super) const STORED: [Axis; 6] = [Axis::Model, Axis::Key, Axis::Session, Axis::User, Axis::Tag, Axis::Task];
    pub(super) const MADE: [Axis; 6] = [
        Axis::ModelOfAll,
        Axis::UserOfAll,
        Axis::TagOfAll,
        Axis::TaskOfAll,
        Axis::Agent,
        Axis::Tenant,
    ];

    /// Whether the second name tells rows apart, too.
    pub(super) fn has_two_names(self) -> bool {
        matches!(self, Axis::Model | Axis::Session | Axis::Tag)
    }
}

/// What a row is kept under within its axis: numbers of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct RowKey {
    pub(super) tenant: Place,
    pub(super) first: Place,
    pub(super) second: Place,
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

pub(super) type Address = (Grain, i64, Axis, RowKey);

pub(super) fn model_of(entry: &Entry) -> &Name {
    if entry.settlement.model.is_empty() {
        &entry.facts.requested_model
    } else {
        &entry.settlement.model
    }
}

pub(super) fn stored_key(names: &Names, (grain, bucket_ms, axis, key): Address) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.push(grain as u8);
    out.extend_from_slice(&bucket_ms.to_be_bytes());
    out.push(axis as u8);
    for place in [key.tenant, key.first, key.second] {
        put_text(&mut out, names.text(place));
    }
    out
}

pub(super) fn parse_key(bytes: &[u8], names: &mut Names) -> Option<Address> {
    let mut reader = Reader::new(bytes);
    let [grain] = reader.array()?;
    let grain = Grain::ALL.into_iter().find(|known| *known as u8 == grain)?;
    let bucket_ms = i64::from_be_bytes(reader.array()?);
    let [axis] = reader.array()?;
    let axis = Axis::STORED.into_iter().find(|known| *known as u8 == axis)?;
    let texts = [reader.text()?, reader.text()?, reader.text()?];
    if !reader.is_empty() {
        return None;
    }
    let [tenant, first, second] = texts.map(|text| match names.find(text) {
        Some(place) => place,
        None => names.number(&Name::from(text)),
    });
    let key = RowKey { tenant, first, second };
    Some((grain, bucket_ms, axis, key))
}
