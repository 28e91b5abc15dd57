//! Sessions in memory behind one lock.

use std::collections::HashSet;
use std::hash::BuildHasher;

use super::Session;
use crate::entry::Name;
use crate::index::Index;
use crate::slab::{Place, Slab};

/// Names that one shard shares between its sessions.
const SHARED_NAMES_MAX: usize = 1_024;

#[derive(Clone, Debug)]
pub(super) struct Live {
    pub session: Session,
    /// Sequence of the event that changed it last.
    pub changed: u64,
    /// Changed since the last checkpoint took it in.
    pub dirty: bool,
}

#[derive(Debug, Default)]
pub(super) struct Shard {
    pub live: Slab<Live>,
    index: Index,
    pub names: SharedNames,
}

impl Shard {
    fn hash(&self, tenant: &str, id: &str) -> u64 {
        self.index.hash(&(tenant, id))
    }

    pub fn find(&self, tenant: &str, id: &str) -> Option<Place> {
        let is_it = |place| {
            let live = self.live.get(place);
            live.is_some_and(|live| *live.session.id == *id && *live.session.tenant == *tenant)
        };
        self.index.find(self.hash(tenant, id), is_it)
    }

    pub fn session(&self, tenant: &str, id: &str) -> Option<&Session> {
        Some(&self.live.get(self.find(tenant, id)?)?.session)
    }

    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.live.iter().map(|(_, live)| &live.session)
    }

    pub fn put(&mut self, session: Session) -> Place {
        let hash = self.hash(&session.tenant, &session.id);
        let place = self.live.insert(Live {
            session,
            changed: 0,
            dirty: false,
        });
        let live = &self.live;
        self.index
            .insert(hash, place, |hasher, place| hash_of(hasher, live.get(place)));
        place
    }

    pub fn remove(&mut self, place: Place) {
        let live = &self.live;
        let Some(leaving) = live.get(place) else { return };
        let hash = self.hash(&leaving.session.tenant, &leaving.session.id);
        self.index
            .remove(hash, place, |hasher, place| hash_of(hasher, live.get(place)));
        self.live.remove(place);
    }
}

fn hash_of(hasher: &impl BuildHasher, live: Option<&Live>) -> u64 {
    let names = live.map_or(("", ""), |live| (&*live.session.tenant, &*live.session.id));
    hasher.hash_one(names)
}

/// Names that sessions of a shard have in common, in memory once.
#[derive(Debug, Default)]
pub(super) struct SharedNames(HashSet<Name>);

impl SharedNames {
    pub fn share(&mut self, name: &Name) -> Name {
        if let Some(known) = self.0.get(name) {
            return Name::clone(known);
        }
        if self.0.len() >= SHARED_NAMES_MAX {
            self.0.clear();
        }
        self.0.insert(Name::clone(name));
        Name::clone(name)
    }
}
