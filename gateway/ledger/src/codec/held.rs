//! Holds as bytes, with their bounds and what their decisions read.

use std::sync::Arc;

use super::recorded::{read_record, write_record};
use super::{read_amounts, read_facts, read_list, write_amounts, write_facts};
use crate::amounts::Unit;
use crate::bound::{Mode, Window};
use crate::entry::Name;
use crate::event::{Held, HeldBound};
use crate::names::Interner;
use crate::wire::{DecodeError, Reader, Writer};

pub(super) fn write_held(w: &mut Writer, held: &Held, names: &mut impl Interner) {
    write_facts(w, &held.facts, held.at_ms, names);
    write_amounts(w, &held.amounts);
    w.name(&held.basis, names);
    w.unsigned(held.bounds.len() as u64);
    for bound in &held.bounds {
        write_bound(w, bound, held.at_ms.div_euclid(1_000), names);
    }
    // What older journals do not have stands at the end.
    if let Some(record) = &held.record {
        write_record(w, record, names);
    }
}

pub(super) fn read_held(r: &mut Reader<'_>, at_ms: i64, names: &mut impl Interner) -> Result<Held, DecodeError> {
    let facts = read_facts(r, at_ms, names)?;
    let amounts = read_amounts(r)?;
    let basis = r.name(names)?;
    let bounds = read_list(r, |r| read_bound(r, at_ms.div_euclid(1_000), names))?;
    let record = if r.left() > 0 {
        Some(read_record(r, names)?)
    } else {
        None
    };
    Ok(Held {
        at_ms,
        facts: Arc::new(facts),
        amounts,
        basis,
        bounds,
        record,
    })
}

/// Window, unit and mode share a byte. The period is told by its distance from the hold: a few bytes each.
fn write_bound(w: &mut Writer, bound: &HeldBound, at_s: i64, names: &mut impl Interner) {
    w.byte((bound.window as u8) << 3 | (bound.unit as u8) << 1 | bound.mode as u8);
    w.name(&bound.account, names);
    w.unsigned(bound.limit.unsigned_abs());
    if bound.window != Window::Total {
        w.name(&bound.zone, names);
        w.signed(at_s.wrapping_sub(bound.start_s));
        w.signed(bound.end_s.wrapping_sub(at_s));
    }
}

fn read_bound(r: &mut Reader<'_>, at_s: i64, names: &mut impl Interner) -> Result<HeldBound, DecodeError> {
    let shape = r.byte()?;
    let pick = |part: u8| usize::from(part);
    let window = Window::ALL
        .get(pick(shape >> 3))
        .copied()
        .ok_or(DecodeError::Malformed("unknown window"))?;
    let unit = Unit::ALL
        .get(pick(shape >> 1 & 3))
        .copied()
        .ok_or(DecodeError::Malformed("unknown unit"))?;
    let mode = if shape & 1 == 0 { Mode::Hard } else { Mode::Watch };
    let account = r.name(names)?;
    let limit = r.natural()?;
    let (zone, start_s, end_s) = match window {
        Window::Total => (Name::from("UTC"), i64::MIN, i64::MAX),
        _ => (
            r.name(names)?,
            at_s.wrapping_sub(r.signed()?),
            at_s.wrapping_add(r.signed()?),
        ),
    };
    Ok(HeldBound {
        account,
        window,
        zone,
        unit,
        mode,
        limit,
        start_s,
        end_s,
    })
}
