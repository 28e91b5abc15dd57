//! What decisions recorded, and refusals, as bytes.

use std::sync::Arc;

use super::{read_facts, read_list, write_facts};
use crate::entry::Name;
use crate::event::{Denial, Denied};
use crate::names::Interner;
use crate::recorded::{Base, InForce, Record, Refused};
use crate::wire::{DecodeError, Reader, Writer};

/// Further kinds of events, in a byte of their own: the first byte has no room left.
pub(super) const REFUSED: u8 = 0;
pub(super) const IN_FORCE: u8 = 1;
/// A denial with the policy that refused; one without is as it always was.
pub(super) const DENIED_BY: u8 = 2;

/// How a base stands in the bytes.
const BASE_WHOLE: u8 = 0;
const BASE_OF: u8 = 1;

pub(super) fn write_record(w: &mut Writer, record: &Record, names: &mut impl Interner) {
    w.unsigned(record.numbers.len() as u64);
    for number in &record.numbers {
        w.signed(*number);
    }
    w.unsigned(record.names.len() as u64);
    for name in &record.names {
        w.name(name, names);
    }
}

pub(super) fn read_record(r: &mut Reader<'_>, names: &mut impl Interner) -> Result<Record, DecodeError> {
    Ok(Record {
        numbers: read_list(r, Reader::signed)?,
        names: read_list(r, |r| r.name(names))?,
    })
}

pub(super) fn write_refused(w: &mut Writer, refused: &Refused, names: &mut impl Interner) {
    write_facts(w, &refused.facts, refused.at_ms, names);
    w.name(&refused.account, names);
    w.name(&refused.reason, names);
    write_record(w, &refused.record, names);
}

pub(super) fn read_refused(r: &mut Reader<'_>, at_ms: i64, names: &mut impl Interner) -> Result<Refused, DecodeError> {
    Ok(Refused {
        at_ms,
        facts: Arc::new(read_facts(r, at_ms, names)?),
        account: r.name(names)?,
        reason: r.name(names)?,
        record: read_record(r, names)?,
    })
}

pub(super) fn write_denied(w: &mut Writer, denied: &Denied, names: &mut impl Interner) {
    let of = &denied.of;
    for name in [&of.account, &of.tenant, &of.reason] {
        w.name(name, names);
    }
    if !of.policy.is_empty() {
        w.name(&of.policy, names);
    }
    w.unsigned(denied.count);
}

pub(super) fn read_denied(
    r: &mut Reader<'_>,
    at_ms: i64,
    has_policy: bool,
    names: &mut impl Interner,
) -> Result<Denied, DecodeError> {
    let of = Denial {
        account: r.name(names)?,
        tenant: r.name(names)?,
        reason: r.name(names)?,
        policy: if has_policy { r.name(names)? } else { Name::from("") },
    };
    if has_policy && of.policy.is_empty() {
        return Err(DecodeError::Malformed("a denial by a policy without a name"));
    }
    let count = r.unsigned()?;
    Ok(Denied { at_ms, of, count })
}

pub(super) fn write_in_force(w: &mut Writer, in_force: &InForce) {
    w.unsigned(in_force.id);
    w.raw(&in_force.digest);
    match &in_force.base {
        Base::Whole(bytes) => {
            w.byte(BASE_WHOLE);
            w.blob(bytes);
        }
        Base::Of(id) => {
            w.byte(BASE_OF);
            w.unsigned(*id);
        }
    }
}

pub(super) fn read_in_force(r: &mut Reader<'_>, at_ms: i64) -> Result<InForce, DecodeError> {
    Ok(InForce {
        at_ms,
        id: r.unsigned()?,
        digest: r.array()?,
        base: match r.byte()? {
            BASE_WHOLE => Base::Whole(r.blob()?.into()),
            BASE_OF => Base::Of(r.unsigned()?),
            _ => return Err(DecodeError::Malformed("unknown base of what is in force")),
        },
    })
}
