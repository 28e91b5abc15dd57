//! The device below the stores in memory: what goes wrong there, counted or by seeded chance.

use parking_lot::Mutex;

use super::StoreError;

/// What shall go wrong, counted over all databases of one [`MemoryStores`](super::MemoryStores).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// So many more writes succeed, to databases and to files, then all fail. `None`: none fails.
    pub applies_left: Option<u64>,
    /// The same for flushes and syncs.
    pub flushes_left: Option<u64>,
    /// Opening fails, as the real engine has done.
    pub open_fails: bool,
    /// No room: what needs some fails, until there is some again.
    pub is_full: bool,
    /// What fails by chance.
    pub chance: Option<Chance>,
    /// So many more operations are done, then the power is gone: the next may be done or not, all later ones fail.
    pub operations_left: Option<u64>,
}

/// Failures of a device that is about to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chance {
    /// One operation in so many fails.
    pub one_in: u32,
    /// Those on the state database alone: nothing that the journal needs.
    pub state_only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Area {
    Journal,
    State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Open,
    Apply,
    Flush,
    /// A write into a file, which grows by it or does not.
    Extend,
    Overwrite,
    Sync,
    Make,
    Rename,
    Delete,
    SyncFolder,
    Note,
    Check,
}

impl Operation {
    /// Whether a full disk refuses it.
    fn needs_room(self) -> bool {
        matches!(
            self,
            Operation::Apply | Operation::Flush | Operation::Extend | Operation::Make | Operation::Note
        )
    }
}

/// What becomes of an operation: who hears that it failed does not know whether it was done.
pub(super) struct Outcome {
    pub is_done: bool,
    pub result: Result<(), StoreError>,
}

#[derive(Default)]
pub(super) struct Device(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    faults: Faults,
    is_dead: bool,
    seed: u64,
}

impl Device {
    pub fn set_faults(&self, faults: Faults) {
        self.0.lock().faults = faults;
    }

    pub fn faults(&self) -> Faults {
        self.0.lock().faults
    }

    pub fn set_seed(&self, seed: u64) {
        self.0.lock().seed = seed;
    }

    pub fn is_dead(&self) -> bool {
        self.0.lock().is_dead
    }

    pub fn coin(&self) -> bool {
        self.below(2) == 0
    }

    /// A number from 0 up to, but not including, `end`.
    pub fn below(&self, end: usize) -> usize {
        self.0.lock().below(end)
    }

    /// Decides what becomes of an operation. The caller does it if `is_done`, whatever the result.
    pub fn begin(&self, area: Area, operation: Operation) -> Outcome {
        let inner = &mut *self.0.lock();
        if inner.is_dead {
            return Outcome::failed(false, "the power is gone");
        }
        if let Some(left) = &mut inner.faults.operations_left {
            if *left == 0 {
                inner.is_dead = true;
                let is_done = inner.below(2) == 0;
                return Outcome::failed(is_done, "the power is gone");
            }
            *left -= 1;
        }
        let counted = match operation {
            Operation::Apply | Operation::Extend | Operation::Overwrite => inner.faults.applies_left.as_mut(),
            Operation::Flush | Operation::Sync => inner.faults.flushes_left.as_mut(),
            _ => None,
        };
        match counted {
            Some(0) => return Outcome::failed(false, &format!("injected: {operation:?} failed")),
            Some(left) => *left -= 1,
            None => {}
        }
        if operation == Operation::Open && area == Area::Journal && inner.faults.open_fails {
            return Outcome::failed(false, "injected: it cannot be opened");
        }
        // An engine may take a write into its cache, and find no room for it when it is flushed.
        let is_cached = operation == Operation::Apply && inner.faults.is_full && inner.below(2) == 0;
        if inner.faults.is_full && operation.needs_room() && !is_cached {
            return Outcome {
                is_done: false,
                result: Err(StoreError::Full("injected".into())),
            };
        }
        if let Some(chance) = inner.faults.chance
            && (area == Area::State || !chance.state_only)
            && inner.below(chance.one_in.max(1) as usize) == 0
        {
            let is_done = inner.below(2) == 0;
            return Outcome::failed(is_done, &format!("injected: {operation:?} failed"));
        }
        Outcome {
            is_done: true,
            result: Ok(()),
        }
    }
}

impl Inner {
    /// SplitMix64: enough for tests, and the same everywhere.
    fn below(&mut self, end: usize) -> usize {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % (end.max(1) as u64)).unwrap_or(0)
    }
}

impl Outcome {
    fn failed(is_done: bool, why: &str) -> Outcome {
        Outcome {
            is_done,
            result: Err(StoreError::Io(why.to_owned())),
        }
    }
}
