//! The names of one journal month: a name's text is written once, by the event that uses it first, and is a short
//! number from then on. Reading the month's events in order rebuilds the table.

use crate::map::Map;

use crate::entry::Name;

/// How many names a table takes before further ones are written out each time.
pub const NAMES_MAX: usize = 1 << 20;
/// Longer names are written out each time: they seldom repeat.
pub const NAME_BYTES_MAX: usize = 128;

/// What the codec needs of a table of names. Numbers are given in order from 0.
pub trait Interner {
    fn number_of(&self, name: &str) -> Option<u32>;
    fn name_of(&self, number: u32) -> Option<Name>;
    /// Takes in a name that has no number yet. False where there is no room: it must then be written out.
    fn define(&mut self, name: &Name) -> bool;
    fn len(&self) -> usize;
    /// Forgets all names from `len` on: what a broken event had defined.
    fn truncate(&mut self, len: usize);
}

/// A table of names in memory.
#[derive(Clone, Debug, Default)]
pub struct Names {
    by_number: Vec<Name>,
    by_name: Map<Name, u32>,
}

impl Names {
    pub fn new() -> Names {
        Names::default()
    }
}

impl Interner for Names {
    fn number_of(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    fn name_of(&self, number: u32) -> Option<Name> {
        self.by_number.get(usize::try_from(number).ok()?).cloned()
    }

    fn define(&mut self, name: &Name) -> bool {
        let Ok(number) = u32::try_from(self.by_number.len()) else {
            return false;
        };
        if self.by_number.len() >= NAMES_MAX || name.len() > NAME_BYTES_MAX || self.by_name.contains_key(name) {
            return false;
        }
        self.by_number.push(name.clone());
        self.by_name.insert(name.clone(), number);
        true
    }

    fn len(&self) -> usize {
        self.by_number.len()
    }

    fn truncate(&mut self, len: usize) {
        for name in self.by_number.drain(len.min(self.by_number.len())..) {
            self.by_name.remove(&name);
        }
    }
}
