//! Sessions in memory behind one lock.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use super::{Session, Who};
use crate::entry::Name;
use crate::index::Index;
use crate::slab::{Place, Slab};

/// What one shard knows at most to share it between its sessions.
const SHARED_MAX: usize = 1_024;

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
    pub shared: Shared,
}

impl Shard {
    fn hash(&self, tenant: &str, id: &str) -> u64 {
        self.index.hash(&(tenant, id))
    }

    pub fn find(&self, tenant: &str, id: &str) -> Option<Place> {
        let is_it = |place| {
            let live = self.live.get(place);
            live.is_some_and(|live| *live.session.id == *id && *live.session.who.tenant == *tenant)
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
        let hash = self.hash(&session.who.tenant, &session.id);
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
        let hash = self.hash(&leaving.session.who.tenant, &leaving.session.id);
        self.index
            .remove(hash, place, |hasher, place| hash_of(hasher, live.get(place)));
        self.live.remove(place);
    }
}

fn hash_of(hasher: &impl BuildHasher, live: Option<&Live>) -> u64 {
    let names = live.map_or(("", ""), |live| (&*live.session.who.tenant, &*live.session.id));
    hasher.hash_one(names)
}

/// What sessions of a shard have in common, in memory once.
#[derive(Debug, Default)]
pub(super) struct Shared {
    whos: HashSet<Arc<Who>>,
    names: HashSet<Name>,
}

impl Shared {
    pub fn share(&mut self, who: &Who) -> Arc<Who> {
        if let Some(known) = self.whos.get(who) {
            return Arc::clone(known);
        }
        let who = Arc::new(Who {
            tenant: self.name(&who.tenant),
            agent: self.name(&who.agent),
            user: self.name(&who.user),
            task: self.name(&who.task),
            parent: self.name(&who.parent),
        });
        insert_bounded(&mut self.whos, Arc::clone(&who));
        who
    }

    fn name(&mut self, name: &Name) -> Name {
        if let Some(known) = self.names.get(name) {
            return Name::clone(known);
        }
        insert_bounded(&mut self.names, Name::clone(name));
        Name::clone(name)
    }
}

/// Forgets all where there are too many: those that come again are shared anew.
fn insert_bounded<T: Eq + Hash>(known: &mut HashSet<T>, item: T) {
    if known.len() >= SHARED_MAX {
        known.clear();
    }
    known.insert(item);
}
