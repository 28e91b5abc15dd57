//! A ledger without threads, whose writer and applier run only when they are called: for simulations, in which one seed is
//! one run.

use std::path::Path;
use std::sync::Arc;

pub use crate::books::{Adjustment, Recorded, accounts_of};
pub use crate::event::Held;
pub use crate::journal::{Damage, MonthReader};
pub use crate::rollup::Rollups;
pub use crate::verify::walk;

use crate::applier::Applier;
use crate::clock::Clock;
use crate::error::LedgerError;
use crate::ledger::{Assembled, Ledger};
use crate::options::Options;
use crate::store::Stores;
use crate::writer::Writer;

/// Changes a byte of every occurrence of `text` in the files of a closed ledger's folder; how many.
///
/// # Errors
/// A file cannot be read or written.
pub fn flip(dir: &Path, text: &[u8]) -> std::io::Result<usize> {
    let mut flipped = 0;
    for item in std::fs::read_dir(dir)? {
        let path = item?.path();
        if path.is_dir() {
            flipped += flip(&path, text)?;
            continue;
        }
        let mut bytes = std::fs::read(&path)?;
        let is_there = |at: &usize| bytes.get(*at..).is_some_and(|rest| rest.starts_with(text));
        let places: Vec<usize> = (0..bytes.len().saturating_sub(text.len())).filter(is_there).collect();
        for at in &places {
            if let Some(byte) = bytes.get_mut(*at) {
                *byte ^= 1;
            }
        }
        if !places.is_empty() {
            std::fs::write(&path, bytes)?;
        }
        flipped += places.len();
    }
    Ok(flipped)
}

pub struct Stepped {
    ledger: Arc<Ledger>,
    writer: Option<Writer>,
    applier: Arc<Applier>,
}

impl Stepped {
    /// As `Ledger::open_in`; nothing is written before `write` is called.
    ///
    /// # Errors
    /// As `Ledger::open_in`.
    pub fn open(stores: Arc<dyn Stores>, options: &Options, clock: Arc<dyn Clock>) -> Result<Stepped, LedgerError> {
        let Assembled {
            ledger,
            writer,
            applier,
        } = Ledger::assemble(stores, options, clock)?;
        Ok(Stepped {
            ledger: Arc::new(ledger),
            writer: Some(writer),
            applier,
        })
    }

    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// The writer takes what waits and commits it as one group. `false`: it has stopped for good.
    pub fn write(&mut self) -> bool {
        self.with_writer(|writer| writer.step())
    }

    /// What happens once a second: heads, denials that are due, checkpoints, another try of a suspended writer.
    pub fn tick(&mut self) -> bool {
        self.with_writer(|writer| writer.tick())
    }

    fn with_writer(&mut self, run: impl FnOnce(&mut Writer) -> Result<(), crate::store::StoreError>) -> bool {
        let Some(writer) = self.writer.as_mut() else {
            return false;
        };
        if let Err(error) = run(writer) {
            self.ledger.stop(&error.to_string());
        }
        if self.ledger.health().stopped.is_some() {
            self.writer = None;
        }
        self.writer.is_some()
    }

    /// The applier works through what was committed: derived state, and the checkpoints that are due.
    pub fn apply(&mut self) {
        self.applier.work();
    }

    /// An orderly end. Dropping it instead is a crash.
    pub fn close(mut self) {
        self.ledger.finish();
        // As the thread does: a suspended writer tries once more.
        if self.ledger.health().suspended.is_some() {
            self.tick();
        }
        while self.write() && self.ledger.health().waiting_events > 0 && self.ledger.health().suspended.is_none() {}
        self.with_writer(|writer| writer.end());
        self.apply();
    }
}
