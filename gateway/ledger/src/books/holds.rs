//! The open holds, each found by its number.

use std::sync::Arc;

use crate::amounts::Amounts;
use crate::bill_id::BillId;
use crate::event::{Held, HoldId};
use crate::map::Map;
use crate::slab::{Place, Slab};

#[derive(Clone, Debug)]
pub(super) struct Open {
    pub id: HoldId,
    pub held: Arc<Held>,
    /// Extensions included.
    pub amounts: Amounts,
    /// The balances it is counted on, each once.
    pub balances: Vec<Place>,
    /// The balance of each bound, in the order of the bounds.
    pub bounds: Vec<Place>,
    /// The result that it waits for.
    pub bill: Option<BillId>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Holds {
    places: Map<HoldId, Place>,
    open: Slab<Open>,
}

impl Holds {
    pub fn len(&self) -> usize {
        self.open.len()
    }

    pub fn is_open(&self, id: HoldId) -> bool {
        self.places.contains_key(&id)
    }

    pub fn get(&self, id: HoldId) -> Option<&Open> {
        self.open.get(*self.places.get(&id)?)
    }

    pub fn get_mut(&mut self, id: HoldId) -> Option<&mut Open> {
        self.open.get_mut(*self.places.get(&id)?)
    }

    /// `open` must not be here yet.
    pub fn insert(&mut self, open: Open) {
        let id = open.id;
        self.places.insert(id, self.open.insert(open));
    }

    pub fn remove(&mut self, id: HoldId) -> Option<Open> {
        self.open.remove(self.places.remove(&id)?)
    }

    /// In no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Open> {
        self.open.iter().map(|(_, open)| open)
    }

    /// As they are now, to be walked through: none of them is found by its number there.
    pub fn frozen(&mut self) -> Holds {
        Holds {
            places: Map::default(),
            open: self.open.frozen(),
        }
    }
}
