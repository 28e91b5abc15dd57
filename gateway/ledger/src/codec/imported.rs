//! What was taken over from elsewhere, as bytes.

use std::sync::Arc;

use super::{read_facts, read_flag, read_list, read_settled, write_facts, write_settled};
use crate::amounts::Amounts;
use crate::event::{HoldId, Imported, ImportedEntry, Settled};
use crate::names::Interner;
use crate::wire::{DecodeError, Reader, Writer};

pub(super) fn write_imported(w: &mut Writer, imported: &Imported, names: &mut impl Interner) {
    w.name(&imported.source, names);
    w.unsigned(imported.place);
    w.byte(u8::from(imported.has_legacy_keys));
    w.unsigned(imported.entries.len() as u64);
    for entry in &imported.entries {
        write_facts(w, &entry.facts, imported.at_ms, names);
        // As what settled a hold of nothing at the moment at which the request began.
        let settled = Settled {
            at_ms: entry.facts.at_ms,
            hold: HoldId(0),
            held: Amounts::ZERO,
            overage_reason: None,
            settlement: entry.settlement.clone(),
            bills: Vec::new(),
        };
        write_settled(w, &settled, names);
    }
}

pub(super) fn read_imported(
    r: &mut Reader<'_>,
    at_ms: i64,
    names: &mut impl Interner,
) -> Result<Imported, DecodeError> {
    Ok(Imported {
        at_ms,
        source: r.name(names)?,
        place: r.unsigned()?,
        has_legacy_keys: read_flag(r)?,
        entries: read_list(r, |r| {
            let facts = read_facts(r, at_ms, names)?;
            let settled = read_settled(r, facts.at_ms, names)?;
            let is_plain = settled.hold.0 == 0 && settled.held.is_zero() && settled.bills.is_empty();
            if !is_plain || settled.overage_reason.is_some() {
                return Err(DecodeError::Malformed("an imported entry with a hold"));
            }
            Ok(ImportedEntry {
                facts: Arc::new(facts),
                settlement: settled.settlement,
            })
        })?,
    })
}
