//! Sessions as stored bytes.

use std::sync::Arc;

use super::{ROW_PREFIX, Session, Who};
use crate::entry::Name;
use crate::journal::bytes::{Reader, put_i64, put_text, put_u64};
use crate::money::Usd;

const VERSION: u64 = 1;

/// A session's key with its prefix.
pub(super) fn stored_key(tenant: &str, id: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(3 + tenant.len() + id.len());
    out.push(ROW_PREFIX);
    put_text(&mut out, tenant);
    put_text(&mut out, id);
    out
}

pub(super) fn value(session: &Session) -> Vec<u8> {
    let mut out = Vec::with_capacity(96);
    put_u64(&mut out, VERSION);
    let who = &session.who;
    for text in [&who.agent, &who.user, &who.task, &who.parent] {
        put_text(&mut out, text);
    }
    put_i64(&mut out, session.started_ms);
    put_i64(&mut out, session.last_ms);
    put_u64(&mut out, session.calls);
    put_u64(&mut out, session.errors);
    put_i64(&mut out, session.cost.nanos());
    put_u64(&mut out, session.tokens);
    put_u64(&mut out, u64::from(session.running));
    let flags = [session.ended.is_some(), session.is_killed, session.is_alerted];
    put_u64(
        &mut out,
        flags.iter().rev().fold(0, |all, flag| all << 1 | u64::from(*flag)),
    );
    put_i64(&mut out, session.ended.unwrap_or(0));
    out
}

/// The session of a key, without its prefix, and its value; `None` for bytes that are none.
pub(super) fn read(key: &[u8], value: &[u8]) -> Option<Session> {
    let mut key = Reader::new(key);
    let (tenant, id) = (Name::from(key.text()?), Name::from(key.text()?));
    let mut reader = Reader::new(value);
    if !key.is_empty() || reader.u64()? != VERSION {
        return None;
    }
    let who = Who {
        tenant,
        agent: Name::from(reader.text()?),
        user: Name::from(reader.text()?),
        task: Name::from(reader.text()?),
        parent: Name::from(reader.text()?),
    };
    let mut session = Session {
        id,
        who: Arc::new(who),
        started_ms: reader.i64()?,
        last_ms: reader.i64()?,
        calls: reader.u64()?,
        errors: reader.u64()?,
        cost: Usd::from_nanos(reader.i64()?),
        tokens: reader.u64()?,
        running: u32::try_from(reader.u64()?).ok()?,
        ended: None,
        is_killed: false,
        is_alerted: false,
    };
    let (flags, ended) = (reader.u64()?, reader.i64()?);
    session.ended = (flags & 1 != 0).then_some(ended);
    session.is_killed = flags & 2 != 0;
    session.is_alerted = flags & 4 != 0;
    (reader.is_empty() && flags < 8).then_some(session)
}
