//! Events as bytes: compact, deterministic, versioned. An event has exactly one form for a given table of names.

mod adjusted;
mod held;
mod imported;
mod recorded;

use std::collections::BTreeMap;
use std::sync::Arc;

use ulid::Ulid;

use self::adjusted::{read_adjusted, write_adjusted};
use self::held::{read_held, write_held};
use self::imported::{read_imported, write_imported};
use self::recorded::{read_denied, read_in_force, read_refused, write_denied, write_in_force, write_refused};
use crate::amounts::{Amounts, Unit};
use crate::bill_id::BillId;
use crate::change_bytes::{read_change, write_change};
use crate::entry::{Facts, Name, Outcome, Part, PriceRef, Settlement};
use crate::event::{
    ClockSet, Deferred, Event, Extended, HoldId, Linked, Mark, Marked, Opening, SecretChecked, Settled, Voided,
};
use crate::inferred::Inferred;
use crate::money::Usd;
use crate::names::Interner;
use crate::usage::{Kind, Usage};
pub use crate::wire::DecodeError;
use crate::wire::{Reader, Writer};

/// The first byte of an event: this version in its upper half, the kind of event in its lower one.
const VERSION: u8 = 1;

const OPENING: u8 = 0;
const HELD: u8 = 1;
const EXTENDED: u8 = 2;
const SETTLED: u8 = 3;
const VOIDED: u8 = 4;
const DENIED: u8 = 5;
const ADJUSTED: u8 = 6;
const MARKED: u8 = 7;
const DEFERRED: u8 = 8;
/// As `ADJUSTED`, with the facts of the entry.
const ADJUSTED_OF: u8 = 9;
const CLOCK_SET: u8 = 10;
const SECRET_CHECKED: u8 = 11;
const CHANGED: u8 = 12;
const IMPORTED: u8 = 13;
const LINKED: u8 = 14;
/// Its kind is in the byte after it.
const FURTHER: u8 = 15;

/// The event's bytes. Names that the table does not know yet are defined in it: encode in the order of the journal.
pub fn encode(event: &Event, names: &mut impl Interner) -> Vec<u8> {
    let mut w = Writer::with_capacity(192);
    let kind = match event {
        Event::Opening(_) => OPENING,
        Event::Held(_) => HELD,
        Event::Extended(_) => EXTENDED,
        Event::Settled(_) => SETTLED,
        Event::Voided(_) => VOIDED,
        Event::Denied(denied) if denied.of.policy.is_empty() => DENIED,
        Event::Adjusted(adjusted) if adjusted.of.is_some() => ADJUSTED_OF,
        Event::Adjusted(_) => ADJUSTED,
        Event::Deferred(_) => DEFERRED,
        Event::Marked(_) => MARKED,
        Event::ClockSet(_) => CLOCK_SET,
        Event::SecretChecked(_) => SECRET_CHECKED,
        Event::Imported(_) => IMPORTED,
        Event::Linked(_) => LINKED,
        Event::Changed(_) => CHANGED,
        Event::Denied(_) | Event::Refused(_) | Event::InForce(_) => FURTHER,
    };
    w.byte(VERSION << 4 | kind);
    w.signed(event.at_ms());
    match event {
        Event::Opening(opening) => write_opening(&mut w, opening, names),
        Event::Held(held) => write_held(&mut w, held, names),
        Event::Extended(extended) => {
            w.unsigned(extended.hold.0);
            write_amounts(&mut w, &extended.amounts);
        }
        Event::Settled(settled) => write_settled(&mut w, settled, names),
        Event::Voided(voided) => {
            w.unsigned(voided.hold.0);
            w.name(&voided.reason, names);
        }
        Event::Denied(denied) => {
            if kind == FURTHER {
                w.byte(recorded::DENIED_BY);
            }
            write_denied(&mut w, denied, names);
        }
        Event::Adjusted(adjusted) => write_adjusted(&mut w, adjusted, names),
        Event::Deferred(deferred) => {
            w.unsigned(deferred.hold.0);
            w.raw(&deferred.bill.0);
        }
        Event::Marked(marked) => {
            w.name(&marked.tenant, names);
            w.name(&marked.session, names);
            w.byte(marked.mark as u8);
        }
        Event::ClockSet(set) => w.signed(set.to_ms),
        Event::SecretChecked(checked) => w.raw(&checked.check),
        Event::Imported(imported) => write_imported(&mut w, imported, names),
        Event::Linked(linked) => {
            w.name(&linked.legacy, names);
            w.name(&linked.key, names);
        }
        Event::Changed(change) => write_change(&mut w, change),
        Event::Refused(refused) => {
            w.byte(recorded::REFUSED);
            write_refused(&mut w, refused, names);
        }
        Event::InForce(in_force) => {
            w.byte(recorded::IN_FORCE);
            write_in_force(&mut w, in_force);
        }
    }
    w.finish()
}

/// The event of these bytes, which must be all of it. Never panics and takes memory in proportion to the bytes.
/// On an error the table of names is as it was.
pub fn decode(bytes: &[u8], names: &mut impl Interner) -> Result<Event, DecodeError> {
    let known = names.len();
    let event = read_event(bytes, names);
    if event.is_err() {
        names.truncate(known);
    }
    event
}

fn read_event(bytes: &[u8], names: &mut impl Interner) -> Result<Event, DecodeError> {
    let mut reader = Reader::new(bytes);
    let r = &mut reader;
    let head = r.byte()?;
    if head >> 4 != VERSION {
        return Err(DecodeError::Version);
    }
    let at_ms = r.signed()?;
    let event = match head & 0x0f {
        OPENING => Event::Opening(Arc::new(read_opening(r, at_ms, names)?)),
        HELD => Event::Held(Arc::new(read_held(r, at_ms, names)?)),
        EXTENDED => Event::Extended(Extended {
            at_ms,
            hold: HoldId(r.unsigned()?),
            amounts: read_amounts(r)?,
        }),
        SETTLED => Event::Settled(Arc::new(read_settled(r, at_ms, names)?)),
        VOIDED => Event::Voided(Voided {
            at_ms,
            hold: HoldId(r.unsigned()?),
            reason: r.name(names)?,
        }),
        DENIED => Event::Denied(read_denied(r, at_ms, false, names)?),
        ADJUSTED => Event::Adjusted(Arc::new(read_adjusted(r, at_ms, false, names)?)),
        ADJUSTED_OF => Event::Adjusted(Arc::new(read_adjusted(r, at_ms, true, names)?)),
        CLOCK_SET => Event::ClockSet(ClockSet {
            at_ms,
            to_ms: r.signed()?,
        }),
        SECRET_CHECKED => Event::SecretChecked(SecretChecked {
            at_ms,
            check: r.array()?,
        }),
        IMPORTED => Event::Imported(Arc::new(read_imported(r, at_ms, names)?)),
        LINKED => Event::Linked(Linked {
            at_ms,
            legacy: r.name(names)?,
            key: r.name(names)?,
        }),
        CHANGED => Event::Changed(Arc::new(read_change(r, at_ms)?)),
        FURTHER => match r.byte()? {
            recorded::REFUSED => Event::Refused(Arc::new(read_refused(r, at_ms, names)?)),
            recorded::DENIED_BY => Event::Denied(read_denied(r, at_ms, true, names)?),
            recorded::IN_FORCE => Event::InForce(Arc::new(read_in_force(r, at_ms)?)),
            _ => return Err(DecodeError::Malformed("unknown kind of event")),
        },
        DEFERRED => Event::Deferred(Deferred {
            at_ms,
            hold: HoldId(r.unsigned()?),
            bill: BillId(r.array()?),
        }),
        MARKED => Event::Marked(Arc::new(Marked {
            at_ms,
            tenant: r.name(names)?,
            session: r.name(names)?,
            mark: Mark::ALL
                .get(usize::from(r.byte()?))
                .copied()
                .ok_or(DecodeError::Malformed("unknown mark of a session"))?,
        })),
        _ => return Err(DecodeError::Malformed("unknown kind of event")),
    };
    reader.end()?;
    Ok(event)
}

fn write_opening(w: &mut Writer, opening: &Opening, names: &mut impl Interner) {
    w.byte(u8::from(opening.previous.is_some()));
    if let Some(previous) = &opening.previous {
        w.raw(previous);
    }
    w.blob(&opening.books);
    w.unsigned(opening.digests.len() as u64);
    for (what, digest) in &opening.digests {
        w.name(what, names);
        w.raw(digest);
    }
}

fn read_opening(r: &mut Reader<'_>, at_ms: i64, names: &mut impl Interner) -> Result<Opening, DecodeError> {
    let previous = if read_flag(r)? { Some(r.array()?) } else { None };
    let books = r.blob()?.to_vec();
    let digests = read_list(r, |r| Ok((r.name(names)?, r.array()?)))?;
    Ok(Opening {
        at_ms,
        previous,
        books,
        digests,
    })
}

/// The start of the request is a short distance from the event at `at_ms`. What was inferred stands above the bit that says
/// whether it is a stream, where older journals have nothing.
fn write_facts(w: &mut Writer, facts: &Facts, at_ms: i64, names: &mut impl Interner) {
    w.raw(&facts.id.to_bytes());
    w.signed(at_ms.wrapping_sub(facts.at_ms));
    w.byte(facts.inferred.bits() << 1 | u8::from(facts.stream));
    for name in [
        &facts.provider,
        &facts.operation,
        &facts.requested_model,
        &facts.key,
        &facts.tenant,
        &facts.agent,
        &facts.session,
        &facts.user,
        &facts.task,
        &facts.path,
    ] {
        w.name(name, names);
    }
    w.unsigned(facts.tags.len() as u64);
    for (tag, value) in &facts.tags {
        w.name(tag, names);
        w.name(value, names);
    }
}

fn read_facts(r: &mut Reader<'_>, at_ms: i64, names: &mut impl Interner) -> Result<Facts, DecodeError> {
    let id = Ulid::from_bytes(r.array()?);
    let facts_at_ms = at_ms.wrapping_sub(r.signed()?);
    let flags = r.byte()?;
    let inferred = Inferred::from_bits(flags >> 1).ok_or(DecodeError::Malformed("inferred names that are none"))?;
    Ok(Facts {
        id,
        at_ms: facts_at_ms,
        stream: flags & 1 == 1,
        inferred,
        provider: r.name(names)?,
        operation: r.name(names)?,
        requested_model: r.name(names)?,
        key: r.name(names)?,
        tenant: r.name(names)?,
        agent: r.name(names)?,
        session: r.name(names)?,
        user: r.name(names)?,
        task: r.name(names)?,
        path: r.name(names)?,
        tags: read_tags(r, names)?,
    })
}

fn read_tags(r: &mut Reader<'_>, names: &mut impl Interner) -> Result<BTreeMap<Name, Name>, DecodeError> {
    let mut tags = BTreeMap::new();
    for _ in 0..r.count()? {
        let tag = r.name(names)?;
        if tags.last_key_value().is_some_and(|(last, _)| *last >= tag) {
            return Err(DecodeError::Malformed("tags out of order"));
        }
        tags.insert(tag, r.name(names)?);
    }
    Ok(tags)
}

/// Which optional fields of a settlement follow.
const HAS_PARTS: u64 = 1;
const HAS_REASONING: u64 = 1 << 1;
const HAS_REPORTED: u64 = 1 << 2;
const HAS_UPPER: u64 = 1 << 3;
const HAS_PRICE: u64 = 1 << 4;
const HAS_ESTIMATE: u64 = 1 << 5;
const HAS_TTFB: u64 = 1 << 6;
const HAS_OVERAGE: u64 = 1 << 7;
const HAS_VERDICT: u64 = 1 << 8;
/// The settlement's own time differs from the event's.
const HAS_TIME: u64 = 1 << 9;
/// The price is that of a service tier other than the standard one.
const HAS_TIER: u64 = 1 << 10;
const HAS_BILLS: u64 = 1 << 11;
const HAS_RESPONSE_ID: u64 = 1 << 12;
const HAS_REQUEST_ID: u64 = 1 << 13;
const HAS_MAX: u64 = 1 << 14;

fn write_settled(w: &mut Writer, settled: &Settled, names: &mut impl Interner) {
    let settlement = &settled.settlement;
    let mut has = 0;
    for (flag, there) in [
        (HAS_PARTS, !settlement.parts.is_empty()),
        (HAS_REASONING, settlement.reasoning != 0),
        (HAS_REPORTED, settlement.reported_cost.is_some()),
        (HAS_UPPER, settlement.upper_bound.is_some()),
        (HAS_PRICE, settlement.price.is_some()),
        (HAS_ESTIMATE, settlement.estimate_reason.is_some()),
        (HAS_TTFB, settlement.ttfb_ms.is_some()),
        (HAS_OVERAGE, settled.overage_reason.is_some()),
        (HAS_VERDICT, !settlement.verdict.is_empty()),
        (HAS_TIME, settlement.at_ms != settled.at_ms),
        (
            HAS_TIER,
            settlement.price.as_ref().is_some_and(|price| price.tier.is_some()),
        ),
        (HAS_BILLS, !settled.bills.is_empty()),
        (HAS_RESPONSE_ID, settlement.response_id.is_some()),
        (HAS_REQUEST_ID, settlement.request_id.is_some()),
    ] {
        has |= if there { flag } else { 0 };
    }
    w.unsigned(settled.hold.0);
    w.unsigned(has);
    w.byte(settlement.outcome as u8);
    w.unsigned(u64::from(settlement.status));
    w.name(&settlement.model, names);
    write_usage(w, &settlement.usage);
    w.signed(settlement.cost.nanos());
    write_amounts(w, &settled.held);
    w.unsigned(settlement.duration_ms);
    if has & HAS_PARTS != 0 {
        w.unsigned(settlement.parts.len() as u64);
        for part in &settlement.parts {
            w.name(&part.model, names);
            write_usage(w, &part.usage);
            w.signed(part.cost.nanos());
        }
    }
    if has & HAS_REASONING != 0 {
        w.unsigned(settlement.reasoning);
    }
    for money in [settlement.reported_cost, settlement.upper_bound].into_iter().flatten() {
        w.signed(money.nanos());
    }
    if let Some(price) = &settlement.price {
        for name in [&price.provider, &price.id, &price.effective]
            .into_iter()
            .chain(&price.tier)
        {
            w.name(name, names);
        }
    }
    for name in [&settlement.estimate_reason, &settled.overage_reason]
        .into_iter()
        .flatten()
    {
        w.name(name, names);
    }
    if let Some(ttfb_ms) = settlement.ttfb_ms {
        w.unsigned(ttfb_ms);
    }
    if has & HAS_VERDICT != 0 {
        w.unsigned(settlement.verdict.len() as u64);
        for policy in &settlement.verdict {
            w.name(policy, names);
        }
    }
    if has & HAS_TIME != 0 {
        w.signed(settlement.at_ms.wrapping_sub(settled.at_ms));
    }
    if has & HAS_BILLS != 0 {
        w.unsigned(settled.bills.len() as u64);
        settled.bills.iter().for_each(|bill| w.raw(&bill.0));
    }
    // No two are alike: the table of names would only grow by them.
    for id in [&settlement.response_id, &settlement.request_id].into_iter().flatten() {
        w.text(id);
    }
}

fn read_settled(r: &mut Reader<'_>, at_ms: i64, names: &mut impl Interner) -> Result<Settled, DecodeError> {
    let hold = HoldId(r.unsigned()?);
    let flags = r.unsigned()?;
    if flags >= HAS_MAX {
        return Err(DecodeError::Malformed("unknown field of a settlement"));
    }
    let has = |flag: u64| flags & flag != 0;
    let outcome = Outcome::ALL
        .get(usize::from(r.byte()?))
        .copied()
        .ok_or(DecodeError::Malformed("unknown outcome"))?;
    let status = r.small()?;
    let model = r.name(names)?;
    let usage = read_usage(r)?;
    let cost = Usd::from_nanos(r.signed()?);
    let held = read_amounts(r)?;
    let duration_ms = r.unsigned()?;
    let parts = if has(HAS_PARTS) {
        read_some(r, |r| read_part(r, names))?
    } else {
        Vec::new()
    };
    let reasoning = if has(HAS_REASONING) { r.unsigned()? } else { 0 };
    if has(HAS_REASONING) && reasoning == 0 {
        return Err(DecodeError::Malformed("a field that says nothing"));
    }
    let reported_cost = if has(HAS_REPORTED) {
        Some(Usd::from_nanos(r.signed()?))
    } else {
        None
    };
    let upper_bound = if has(HAS_UPPER) {
        Some(Usd::from_nanos(r.signed()?))
    } else {
        None
    };
    let price = match has(HAS_PRICE) {
        true => Some(PriceRef {
            provider: r.name(names)?,
            id: r.name(names)?,
            effective: r.name(names)?,
            tier: if has(HAS_TIER) { Some(r.name(names)?) } else { None },
        }),
        false if has(HAS_TIER) => return Err(DecodeError::Malformed("a tier without a price")),
        false => None,
    };
    let estimate_reason = if has(HAS_ESTIMATE) { Some(r.name(names)?) } else { None };
    let overage_reason = if has(HAS_OVERAGE) { Some(r.name(names)?) } else { None };
    let ttfb_ms = if has(HAS_TTFB) { Some(r.unsigned()?) } else { None };
    let verdict = if has(HAS_VERDICT) {
        read_some(r, |r| r.name(names))?
    } else {
        Vec::new()
    };
    let apart_ms = if has(HAS_TIME) { r.signed()? } else { 0 };
    if has(HAS_TIME) && apart_ms == 0 {
        return Err(DecodeError::Malformed("a field that says nothing"));
    }
    let bills = if has(HAS_BILLS) {
        read_some(r, |r| Ok(BillId(r.array()?)))?
    } else {
        Vec::new()
    };
    let response_id = if has(HAS_RESPONSE_ID) { Some(read_id(r)?) } else { None };
    let request_id = if has(HAS_REQUEST_ID) { Some(read_id(r)?) } else { None };
    let settlement = Settlement {
        at_ms: at_ms.wrapping_add(apart_ms),
        outcome,
        status,
        model,
        usage,
        parts,
        reasoning,
        cost,
        reported_cost,
        upper_bound,
        price,
        estimate_reason,
        verdict,
        duration_ms,
        ttfb_ms,
        response_id,
        request_id,
    };
    Ok(Settled {
        at_ms,
        hold,
        held,
        overage_reason,
        settlement,
        bills,
    })
}

fn read_id(r: &mut Reader<'_>) -> Result<Name, DecodeError> {
    match r.text()? {
        "" => Err(DecodeError::Malformed("a field that says nothing")),
        id => Ok(Name::from(id)),
    }
}

fn read_part(r: &mut Reader<'_>, names: &mut impl Interner) -> Result<Part, DecodeError> {
    Ok(Part {
        model: r.name(names)?,
        usage: read_usage(r)?,
        cost: Usd::from_nanos(r.signed()?),
    })
}

/// One bit a kind, then the counts of those that are there.
fn write_usage(w: &mut Writer, usage: &Usage) {
    w.unsigned(usage.iter().fold(0, |mask, (kind, _)| mask | 1 << kind as u64));
    for (_, units) in usage.iter() {
        w.unsigned(units);
    }
}

fn read_usage(r: &mut Reader<'_>) -> Result<Usage, DecodeError> {
    let mask = r.unsigned()?;
    if mask >> Kind::COUNT != 0 {
        return Err(DecodeError::Malformed("unknown usage kind"));
    }
    let mut usage = Usage::ZERO;
    for kind in Kind::ALL {
        if mask >> kind as u64 & 1 == 1 {
            usage.set(kind, r.unsigned()?);
            if usage.get(kind) == 0 {
                return Err(DecodeError::Malformed("a count that says nothing"));
            }
        }
    }
    Ok(usage)
}

pub(crate) fn write_amounts(w: &mut Writer, amounts: &Amounts) {
    for unit in Unit::ALL {
        w.signed(amounts.get(unit));
    }
}

pub(crate) fn read_amounts(r: &mut Reader<'_>) -> Result<Amounts, DecodeError> {
    let mut amounts = Amounts::ZERO;
    for unit in Unit::ALL {
        amounts.set(unit, r.signed()?);
    }
    Ok(amounts)
}

fn read_flag(r: &mut Reader<'_>) -> Result<bool, DecodeError> {
    match r.byte()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Malformed("neither yes nor no")),
    }
}

fn read_list<'a, T>(
    r: &mut Reader<'a>,
    mut item: impl FnMut(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = r.count()?;
    // Grows with what is really there, not with what the count claims.
    let mut items = Vec::with_capacity(count.min(16));
    for _ in 0..count {
        items.push(item(r)?);
    }
    Ok(items)
}

fn read_some<'a, T>(
    r: &mut Reader<'a>,
    item: impl FnMut(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let items = read_list(r, item)?;
    if items.is_empty() {
        Err(DecodeError::Malformed("a field that says nothing"))
    } else {
        Ok(items)
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
