//! Long cooldowns outlive a restart: what is said once a day is not said again by each new process. They stand in the outbox's
//! table, by the date, which is the only clock that goes on meanwhile.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::Write;

/// From how long on a cooldown is kept, in milliseconds.
pub const COOLED_MIN_MS: i64 = 3_600_000;
/// Cooldowns that are kept; past that those go that end first, of the type that has most.
pub const COOLED_MAX: usize = 10_000;
/// How the keys of their rows begin. Those of deliveries begin with an id.
const PREFIX: &str = "~cooldown/";

/// A thing that was said, and is not said again for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cooled {
    /// The alert's type.
    #[serde(rename = "type")]
    pub kind: String,
    pub about: String,
    /// When it was said, milliseconds since the epoch.
    pub since_ms: i64,
    pub cooldown_ms: i64,
}

impl Cooled {
    /// How long it goes on; no longer than from its beginning, wherever the date was set.
    pub fn left_ms(&self, now_ms: i64) -> i64 {
        let end_ms = self.since_ms.saturating_add(self.cooldown_ms);
        end_ms.saturating_sub(now_ms).min(self.cooldown_ms)
    }

    fn key(&self) -> Vec<u8> {
        // As JSON no two pairs of texts are written alike.
        let pair = serde_json::to_string(&(&self.kind, &self.about)).unwrap_or_default();
        format!("{PREFIX}{pair}").into_bytes()
    }
}

/// Whether a row is one of a cooldown.
pub(super) fn is_cooled(key: &[u8]) -> bool {
    key.starts_with(PREFIX.as_bytes())
}

/// Those that are kept, by the keys of their rows.
#[derive(Debug, Default)]
pub(super) struct Kept {
    rows: BTreeMap<Vec<u8>, Cooled>,
    unsaved: BTreeSet<Vec<u8>>,
}

impl Kept {
    /// Takes a row in as it was stored; whether it could be read.
    pub fn read(&mut self, key: &[u8], value: &[u8]) -> bool {
        let read = serde_json::from_slice::<Cooled>(value).ok();
        let Some(cooled) = read.filter(|cooled| cooled.key() == key) else {
            return false;
        };
        self.rows.insert(key.to_vec(), cooled);
        true
    }

    pub fn put(&mut self, cooled: Cooled) {
        let now_ms = cooled.since_ms;
        let key = cooled.key();
        self.unsaved.insert(key.clone());
        self.rows.insert(key, cooled);
        if self.rows.len() > COOLED_MAX {
            self.forget_ended(now_ms);
        }
        while self.rows.len() > COOLED_MAX {
            let Some(key) = self.least_missed(now_ms) else {
                return;
            };
            self.rows.remove(&key);
            self.unsaved.insert(key);
        }
    }

    /// Of the type that has most, the one that ends first: clients name things, and a flood of one type costs no other.
    fn least_missed(&self, now_ms: i64) -> Option<Vec<u8>> {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for cooled in self.rows.values() {
            *counts.entry(&cooled.kind).or_default() += 1;
        }
        let (most, _) = counts.into_iter().max_by_key(|(_, count)| *count)?;
        let of_it = self.rows.iter().filter(|(_, cooled)| cooled.kind == most);
        let first = of_it.min_by_key(|(_, cooled)| cooled.left_ms(now_ms));
        first.map(|(key, _)| key.clone())
    }

    fn forget_ended(&mut self, now_ms: i64) {
        let Kept { rows, unsaved } = self;
        rows.retain(|key, cooled| {
            let goes_on = cooled.left_ms(now_ms) > 0;
            if !goes_on {
                unsaved.insert(key.clone());
            }
            goes_on
        });
    }

    /// Those that go on, with how long.
    pub fn going_on(&mut self, now_ms: i64) -> Vec<(Cooled, i64)> {
        self.forget_ended(now_ms);
        let left = |cooled: &Cooled| (cooled.clone(), cooled.left_ms(now_ms));
        self.rows.values().map(left).collect()
    }

    pub fn is_saved(&self) -> bool {
        self.unsaved.is_empty()
    }

    pub fn writes(&self) -> impl Iterator<Item = Write> {
        let value = |key: &Vec<u8>| serde_json::to_vec(self.rows.get(key)?).ok();
        self.unsaved.iter().map(move |key| match value(key) {
            Some(value) => Write::Put(key.clone(), value),
            None => Write::Remove(key.clone()),
        })
    }

    pub fn saved(&mut self) {
        self.unsaved.clear();
    }
}
