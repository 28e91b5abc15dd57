//! Sessions on disk: how they come back, what a checkpoint writes of them, and which are forgotten.

use super::shard::Live;
use super::{DAY_MS, NewToday, ROW_PREFIX, SHARDS, Session, Sessions, rows};
use crate::entry::Name;
use crate::slab::Place;
use crate::store::{Change, StoreError};

/// Rows that may go, and where to look for more.
pub(crate) struct Forgotten {
    pub changes: Vec<Change>,
    /// `None`: all rows have been looked at.
    pub next: Option<Vec<u8>>,
}

impl Sessions {
    /// Visits each row on disk with its whole key; no session for one that cannot be read.
    pub(super) fn each_at_rest(&self, visit: &mut dyn FnMut(Vec<u8>, Option<Session>)) -> Result<(), StoreError> {
        let Some(state) = &self.state else { return Ok(()) };
        for pair in state.scan(&[ROW_PREFIX]) {
            let (key, value) = pair?;
            let Some((&ROW_PREFIX, rest)) = key.split_first() else {
                break;
            };
            let session = rows::read(rest, &value);
            visit(key, session);
        }
        Ok(())
    }

    /// Takes in what a checkpoint left: sessions that were killed, and those that were not silent for too long at `at_ms`.
    pub(crate) fn load(&self, at_ms: i64) -> Result<(), StoreError> {
        let (mut loaded, mut new, today) = (0, 0, at_ms.div_euclid(DAY_MS));
        self.each_at_rest(&mut |_, session| {
            let Some(mut session) = session else {
                tracing::warn!("a session's row in the state database cannot be read");
                return;
            };
            new += usize::from(session.started_ms.div_euclid(DAY_MS) == today);
            let recent =
                at_ms.saturating_sub(session.last_ms) <= self.kept.silent_ms && loaded < self.kept.sessions_max;
            if recent || session.is_killed || session.running > 0 {
                loaded += 1;
                let mut shard = self.shard(&session.who.tenant, &session.id).lock();
                session.who = shard.shared.share(&session.who);
                shard.put(session);
            }
        })?;
        *self.new_today.lock() = NewToday { day: today, count: new };
        Ok(())
    }

    pub(super) fn at_rest(&self, tenant: &Name, id: &Name) -> Result<Option<Session>, StoreError> {
        let Some(state) = &self.state else { return Ok(None) };
        let stored = rows::stored_key(tenant, id);
        let pair = state.at_or_before(&stored)?;
        Ok(pair
            .filter(|(found, _)| *found == stored)
            .and_then(|(found, value)| rows::read(found.get(1..)?, &value)))
    }

    /// The rows that have changed and are not `saved` yet, for a checkpoint; keys with their prefix.
    pub(crate) fn changes(&self) -> impl Iterator<Item = Change> + '_ {
        // A shard at a time: all sessions at once would be in memory a second time, as bytes.
        self.shards.iter().flat_map(|shard| {
            let shard = shard.lock();
            let dirty = shard.live.iter().filter(|(_, live)| live.dirty);
            let change = |(_, live): (Place, &Live)| {
                let session = &live.session;
                Change::Put(rows::stored_key(&session.who.tenant, &session.id), rows::value(session))
            };
            dirty.map(change).collect::<Vec<_>>()
        })
    }

    /// What `changes` gave at this sequence is on disk: what is no longer needed leaves the memory.
    pub(crate) fn saved(&self, sequence: u64, now_ms: i64) {
        let may_leave = |live: &Live| !live.dirty && live.session.running == 0 && !live.session.is_killed;
        let silent_before_ms = now_ms.saturating_sub(self.kept.silent_ms);
        let per_shard = self.kept.sessions_max.div_ceil(SHARDS);
        for shard in self.shards.iter() {
            let mut shard = shard.lock();
            let mut leaving: Vec<(i64, Place)> = Vec::new();
            for place in (0..shard.live.given())
                .map(|index| shard.live.nth(index))
                .collect::<Vec<_>>()
            {
                let Some(live) = shard.live.get_mut(place) else {
                    continue;
                };
                live.dirty &= live.changed > sequence;
                if may_leave(live) {
                    leaving.push((live.session.last_ms, place));
                }
            }
            leaving.sort_unstable();
            let silent = leaving.partition_point(|(last_ms, _)| *last_ms < silent_before_ms);
            let surplus = shard.live.len().saturating_sub(per_shard);
            for (_, place) in leaving.into_iter().take(silent.max(surplus)) {
                shard.remove(place);
            }
        }
    }

    /// Looks at `rows_max` rows at rest from `from` on: which of them go whose last call was before `before_ms`. They leave the
    /// memory now and are to be removed with the next checkpoint, before what it puts there. Writes nothing itself. Killed sessions
    /// are never forgotten.
    pub(crate) fn forget_before(
        &self,
        before_ms: i64,
        from: Option<&[u8]>,
        rows_max: usize,
    ) -> Result<Forgotten, StoreError> {
        let is_gone = |session: &Session| session.last_ms < before_ms && session.running == 0 && !session.is_killed;
        let mut forgotten = Forgotten {
            changes: Vec::new(),
            next: None,
        };
        let Some(state) = &self.state else {
            return Ok(forgotten);
        };
        for (count, pair) in state.scan(from.unwrap_or(&[ROW_PREFIX])).enumerate() {
            let (key, value) = pair?;
            let Some((&ROW_PREFIX, rest)) = key.split_first() else {
                break;
            };
            if count >= rows_max {
                forgotten.next = Some(key);
                break;
            }
            let session = rows::read(rest, &value);
            if session
                .as_ref()
                .is_none_or(|session| is_gone(session) && self.leaves(session, &is_gone))
            {
                forgotten.changes.push(Change::Remove(key));
            }
        }
        Ok(forgotten)
    }

    /// Lets a session leave the memory unless what is there has gone on.
    fn leaves(&self, session: &Session, is_gone: &impl Fn(&Session) -> bool) -> bool {
        let mut shard = self.shard(&session.who.tenant, &session.id).lock();
        let Some(place) = shard.find(&session.who.tenant, &session.id) else {
            return true;
        };
        let leaves = shard
            .live
            .get(place)
            .is_some_and(|live| !live.dirty && is_gone(&live.session));
        if leaves {
            shard.remove(place);
        }
        leaves
    }
}
