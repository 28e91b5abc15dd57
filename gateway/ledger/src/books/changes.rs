//! What operators change, beside what is spent.

use std::sync::Arc;

use super::{Books, BooksError, Recorded};
use crate::change::{Change, Documents};
use crate::event::Event;

impl Books {
    /// Enters what somebody changed, which is in force from now on. It was changed no later than now, whatever it says.
    pub fn change(&mut self, now_ms: i64, mut change: Change) -> Result<Recorded, BooksError> {
        self.state.documents.check(&change)?;
        self.state.turn(now_ms);
        change.at_ms = change.at_ms.min(self.state.now_ms);
        Ok(self.record(Event::Changed(Arc::new(change))))
    }

    /// What the changes so far keep in force.
    pub fn documents(&self) -> &Documents {
        &self.state.documents
    }
}
