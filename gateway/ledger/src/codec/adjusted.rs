//! Corrections, as bytes.

use std::sync::Arc;

use ulid::Ulid;

use super::{read_amounts, read_facts, read_list, write_amounts, write_facts};
use crate::bill_id::BillId;
use crate::event::{Adjusted, Adjustee, HoldId};
use crate::names::Interner;
use crate::wire::{DecodeError, Reader, Writer};

pub(super) fn write_adjusted(w: &mut Writer, adjusted: &Adjusted, names: &mut impl Interner) {
    w.unsigned(adjusted.hold.0);
    w.raw(&adjusted.id.to_bytes());
    w.signed(adjusted.at_ms.wrapping_sub(adjusted.held_at_ms));
    write_amounts(w, &adjusted.amounts);
    w.name(&adjusted.reason, names);
    w.unsigned(adjusted.accounts.len() as u64);
    for account in &adjusted.accounts {
        w.name(account, names);
    }
    w.unsigned(adjusted.bill.iter().len() as u64);
    adjusted.bill.iter().for_each(|bill| w.raw(&bill.0));
    if let Some(of) = &adjusted.of {
        write_facts(w, &of.facts, adjusted.at_ms, names);
        w.name(&of.model, names);
    }
}

pub(super) fn read_adjusted(
    r: &mut Reader<'_>,
    at_ms: i64,
    bears_facts: bool,
    names: &mut impl Interner,
) -> Result<Adjusted, DecodeError> {
    Ok(Adjusted {
        at_ms,
        hold: HoldId(r.unsigned()?),
        id: Ulid::from_bytes(r.array()?),
        held_at_ms: at_ms.wrapping_sub(r.signed()?),
        amounts: read_amounts(r)?,
        reason: r.name(names)?,
        accounts: read_list(r, |r| r.name(names))?,
        bill: read_list(r, |r| Ok(BillId(r.array()?)))?.pop(),
        of: match bears_facts {
            false => None,
            true => Some(Adjustee {
                facts: Arc::new(read_facts(r, at_ms, names)?),
                model: r.name(names)?,
            }),
        },
    })
}
