//! Heads that were on disk once, against which a walk over the journal is measured: the chain alone cannot tell that its
//! end is missing.

use std::collections::BTreeMap;

use crate::head::{Hash, Head};
use crate::journal::frame::Damage;
use crate::journal::reader::Damaged;
use crate::store::Month;

/// Heads not met yet, by their sequences.
#[derive(Debug, Default)]
pub(crate) struct KnownHeads {
    heads: BTreeMap<u64, Hash>,
}

impl KnownHeads {
    /// Those of `heads` up to the sequence `until`.
    pub fn new(heads: impl IntoIterator<Item = Head>, until: u64) -> KnownHeads {
        let heads = heads.into_iter().filter(|head| head.sequence <= until);
        KnownHeads {
            heads: heads.map(|head| (head.sequence, head.hash)).collect(),
        }
    }

    /// Drops those that lie before what is walked over.
    pub fn begin_after(&mut self, sequence: u64) {
        self.heads = self.heads.split_off(&sequence.saturating_add(1));
    }

    /// The walk has come to `found`. Heads are noted where a record ends, so one that was passed by was another's.
    pub fn pass(&mut self, found: Head) -> Result<(), Damage> {
        while let Some(first) = self.heads.first_entry().filter(|first| *first.key() <= found.sequence) {
            let named = Head {
                sequence: *first.key(),
                hash: first.remove(),
            };
            if named != found {
                return Err(Damage::Behind { named, found });
            }
        }
        Ok(())
    }

    /// The walk has ended at `found`: nothing may be left.
    pub fn end(&self, month: Option<Month>, found: Head) -> Result<(), Damaged> {
        let Some((&sequence, &hash)) = self.heads.last_key_value() else {
            return Ok(());
        };
        let named = Head { sequence, hash };
        Err(Damaged {
            month: month.unwrap_or_else(|| Month::of_ms(0)),
            after_sequence: found.sequence,
            damage: Damage::Behind { named, found },
        })
    }
}
