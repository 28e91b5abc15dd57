//! The outbox's store: a small table of the ledger's database.

use agentledger_alerts::outbox::Row;
use agentledger_alerts::{Store, StoreFailed, Write};
use agentledger_ledger::SideTable;

pub(super) const NAME: &str = "alerts";

pub struct Table(SideTable);

impl Table {
    pub fn of(ledger: &agentledger_ledger::Ledger) -> Table {
        Table(ledger.side_table(NAME))
    }
}

impl Store for Table {
    fn apply(&mut self, writes: Vec<Write>) -> Result<(), StoreFailed> {
        let change = |write| match write {
            Write::Put(key, value) => (key, Some(value)),
            Write::Remove(key) => (key, None),
        };
        let changes = writes.into_iter().map(change).collect();
        self.0.apply(changes).map_err(|error| StoreFailed(error.to_string()))
    }

    fn scan(&self) -> Result<Vec<Row>, StoreFailed> {
        self.0.rows().map_err(|error| StoreFailed(error.to_string()))
    }
}
