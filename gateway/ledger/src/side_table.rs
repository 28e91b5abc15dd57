//! Small tables beside the journal, in the database of derived state: what has to outlive a restart and is no part of the
//! books. Nothing of them is in the journal, its chain or its exports; a state database that is put aside takes them along.

use std::sync::Arc;

use crate::applier::Applier;
use crate::error::LedgerError;
use crate::store::{Change, Pair, Store, StoreError};

/// What rows of these tables begin with in the state database.
const ROW_PREFIX: u8 = b't';

/// One table: keys to bytes.
#[derive(Clone)]
pub struct SideTable {
    prefix: Vec<u8>,
    state: Arc<dyn Store>,
    applier: Arc<Applier>,
}

impl SideTable {
    pub(crate) fn new(name: &str, state: Arc<dyn Store>, applier: Arc<Applier>) -> SideTable {
        let prefix = prefix_of(name);
        SideTable { prefix, state, applier }
    }

    /// Puts a value under each key, and removes the keys without one: all of it or nothing. On disk when it returns. Blocks.
    ///
    /// # Errors
    /// The disk fails.
    pub fn apply(&self, changes: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Result<(), LedgerError> {
        let key = |key: Vec<u8>| [self.prefix.as_slice(), &key].concat();
        let change = |(at, value): (Vec<u8>, Option<Vec<u8>>)| match value {
            Some(value) => Change::Put(key(at), value),
            None => Change::Remove(key(at)),
        };
        Ok(self.applier.write_rows(changes.into_iter().map(change).collect())?)
    }

    /// All keys and their values, in the keys' order. Blocks.
    ///
    /// # Errors
    /// The disk fails.
    pub fn rows(&self) -> Result<Vec<Pair>, LedgerError> {
        Ok(rows_in(&*self.state, &self.prefix)?)
    }
}

fn prefix_of(name: &str) -> Vec<u8> {
    [&[ROW_PREFIX], name.as_bytes(), &[0]].concat()
}

/// The rows of a table, of a database that no gateway has open.
pub(crate) fn rows_of(state: &dyn Store, name: &str) -> Result<Vec<Pair>, StoreError> {
    rows_in(state, &prefix_of(name))
}

fn rows_in(state: &dyn Store, prefix: &[u8]) -> Result<Vec<Pair>, StoreError> {
    let mut rows = Vec::new();
    for pair in state.scan(prefix) {
        let (key, value) = pair?;
        match key.strip_prefix(prefix) {
            Some(own) => rows.push((own.to_vec(), value)),
            None => break,
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::clock::SystemClock;
    use crate::ledger::Ledger;
    use crate::options::Options;
    use crate::store::{MemoryStores, Stores};

    fn outlives_a_restart(open: impl Fn() -> Arc<Ledger>) {
        let ledger = open();
        let (table, other) = (ledger.side_table("a"), ledger.side_table("ab"));
        table
            .apply(vec![(vec![2], Some(vec![20])), (vec![1], Some(vec![10]))])
            .unwrap();
        other.apply(vec![(vec![9], Some(vec![9]))]).unwrap();
        table.apply(vec![(vec![3], Some(vec![30])), (vec![1], None)]).unwrap();
        drop((table, other));
        ledger.close();
        drop(ledger);
        let ledger = open();
        let expected = [(vec![2], vec![20]), (vec![3], vec![30])];
        assert_eq!(ledger.side_table("a").rows().unwrap(), expected);
        assert_eq!(ledger.side_table("b").rows().unwrap(), []);
    }

    #[test]
    fn a_table_outlives_a_restart_on_disk_and_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new(dir.path());
        outlives_a_restart(|| Ledger::open(options.clone(), Arc::new(SystemClock::default())).unwrap());
        let stores = MemoryStores::new();
        outlives_a_restart(|| {
            let stores: Arc<dyn Stores> = Arc::new(stores.clone());
            Ledger::open_in(stores, &Options::new(""), Arc::new(SystemClock::default())).unwrap()
        });
    }
}
