//! Sessions: what each run of an agent has called, used and cost. They follow from the journal, event by event, live as
//! in replay, so their totals are those of the entries, through every restart.
//!
//! Those that run are in memory; older ones rest in the state database and come back when a call takes them up again. A
//! row leaves the memory only once a checkpoint that bears it is on disk. Killed sessions stay, for they must be known.
//!
//! Not behind the lock of the other derived state: requests ask here, and no report shall keep them waiting.

mod rows;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::entry::{Entry, Facts, Name, Outcome};
use crate::event::{Mark, Marked};
use crate::money::Usd;
use crate::store::{Change, Store, StoreError};

/// The first byte of a session's row in the state database.
pub(crate) const ROW_PREFIX: u8 = b's';
/// The tag that names a session's parent: `X-Agent-Parent` is short for it.
pub const PARENT_TAG: &str = "parent";
/// Locks, so that a report that walks over all sessions stops few requests, and those shortly.
const SHARDS: usize = 32;
/// Names that one shard shares between its sessions.
const SHARED_NAMES_MAX: usize = 1_024;

/// What is kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Sessions in memory, killed ones not counted. Those silent for longest leave first.
    pub sessions_max: usize,
    /// A session that was silent for longer leaves in any case.
    pub silent_ms: i64,
}

impl Default for Kept {
    fn default() -> Kept {
        Kept {
            sessions_max: 100_000,
            silent_ms: 24 * 60 * 60 * 1_000,
        }
    }
}

/// How a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    Active,
    /// Ended by its client or an operator, or silent for longer than the time-out.
    Completed,
    /// Stopped by an operator; its calls are refused.
    Killed,
}

impl Status {
    pub const ALL: [Status; 3] = [Status::Active, Status::Completed, Status::Killed];

    pub const fn name(self) -> &'static str {
        match self {
            Status::Active => "active",
            Status::Completed => "completed",
            Status::Killed => "killed",
        }
    }

    pub fn from_name(name: &str) -> Option<Status> {
        Status::ALL.into_iter().find(|status| status.name() == name)
    }
}

/// One session. A session belongs to its tenant: two tenants' sessions of one name are two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub tenant: Name,
    pub id: Name,
    /// Who and what the last call said that said anything.
    pub agent: Name,
    pub user: Name,
    pub task: Name,
    /// The session that started this one; empty where nobody said.
    pub parent: Name,
    /// Start of its first request, milliseconds since the epoch.
    pub started_ms: i64,
    /// The last moment at which one of its calls began or ended.
    pub last_ms: i64,
    /// Settled calls; their sums, adjustments included.
    pub calls: u64,
    pub errors: u64,
    pub cost: Usd,
    pub tokens: u64,
    /// Calls that are running: held, not yet ended.
    pub running: u32,
    /// When its client or an operator said that it is over, or stopped it.
    pub ended: Option<i64>,
    pub is_killed: bool,
    /// People were told of it.
    pub is_alerted: bool,
}

impl Session {
    fn new(facts: &Facts, at_ms: i64) -> Session {
        Session {
            tenant: Name::clone(&facts.tenant),
            id: Name::clone(&facts.session),
            agent: Name::from(""),
            user: Name::from(""),
            task: Name::from(""),
            parent: Name::from(""),
            started_ms: facts.at_ms.min(at_ms),
            last_ms: at_ms,
            calls: 0,
            errors: 0,
            cost: Usd::ZERO,
            tokens: 0,
            running: 0,
            ended: None,
            is_killed: false,
            is_alerted: false,
        }
    }

    /// How it stands at `now_ms`, where silence for `timeout_ms` completes a session.
    pub fn status(&self, now_ms: i64, timeout_ms: i64) -> Status {
        match self.ended {
            Some(_) if self.is_killed => Status::Killed,
            Some(_) => Status::Completed,
            None if self.running > 0 || now_ms.saturating_sub(self.last_ms) < timeout_ms => Status::Active,
            None => Status::Completed,
        }
    }

    /// When it ended; `None` while it is active.
    pub fn ended_ms(&self, now_ms: i64, timeout_ms: i64) -> Option<i64> {
        match self.ended {
            Some(at_ms) => Some(at_ms),
            None if self.status(now_ms, timeout_ms) == Status::Active => None,
            None => Some(self.last_ms.saturating_add(timeout_ms)),
        }
    }
}

/// Which sessions are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionQuery {
    /// Those whose last call was not before.
    pub from_ms: i64,
    /// `None`: all tenants.
    pub tenant: Option<Name>,
    pub status: Option<Status>,
    pub now_ms: i64,
    pub timeout_ms: i64,
    pub limit: usize,
}

impl SessionQuery {
    fn wants(&self, session: &Session) -> bool {
        session.last_ms >= self.from_ms
            && self.tenant.as_ref().is_none_or(|tenant| *tenant == session.tenant)
            && self
                .status
                .is_none_or(|status| status == session.status(self.now_ms, self.timeout_ms))
    }
}

type Key = (Name, Name);

#[derive(Debug)]
struct Live {
    session: Session,
    /// Sequence of the event that changed it last.
    changed: u64,
    /// Changed since the last checkpoint took it in.
    dirty: bool,
}

#[derive(Debug, Default)]
struct Shard {
    live: HashMap<Key, Live>,
    names: HashSet<Name>,
}

impl Shard {
    /// The same text, in memory once.
    fn share(&mut self, name: &Name) -> Name {
        if let Some(known) = self.names.get(name) {
            return Name::clone(known);
        }
        if self.names.len() >= SHARED_NAMES_MAX {
            self.names.clear();
        }
        self.names.insert(Name::clone(name));
        Name::clone(name)
    }
}

/// All sessions.
pub struct Sessions {
    shards: Box<[Mutex<Shard>; SHARDS]>,
    hasher: RandomState,
    /// `None`: nothing rests there.
    state: Option<Arc<dyn Store>>,
    kept: Kept,
    /// Counts kills, so that running calls can look whether they are meant.
    kills: watch::Sender<u64>,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions")
            .field("kept", &self.kept)
            .finish_non_exhaustive()
    }
}

impl Sessions {
    /// Sessions over the state database; nothing is read yet.
    pub(crate) fn new(state: Option<Arc<dyn Store>>, kept: Kept) -> Sessions {
        Sessions {
            shards: Box::new(std::array::from_fn(|_| Mutex::default())),
            hasher: RandomState::new(),
            state,
            kept,
            kills: watch::Sender::new(0),
        }
    }

    fn shard(&self, key: &Key) -> &Mutex<Shard> {
        let [first, ..] = &*self.shards;
        let place = self.hasher.hash_one(key) % SHARDS as u64;
        self.shards.get(usize::try_from(place).unwrap_or(0)).unwrap_or(first)
    }

    /// The session as far as its events are on disk and it is in memory: for the request path, which waits for nothing.
    pub fn running(&self, tenant: &Name, id: &Name) -> Option<Session> {
        let key = (Name::clone(tenant), Name::clone(id));
        let shard = self.shard(&key).lock();
        shard.live.get(&key).map(|live| live.session.clone())
    }

    /// Whether its calls are to be refused.
    pub fn is_killed(&self, tenant: &Name, id: &Name) -> bool {
        let key = (Name::clone(tenant), Name::clone(id));
        self.shard(&key)
            .lock()
            .live
            .get(&key)
            .is_some_and(|live| live.session.is_killed)
    }

    /// Returns when the session is killed.
    pub async fn killed(&self, tenant: &Name, id: &Name) {
        let mut kills = self.kills.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        while !self.is_killed(tenant, id) && kills.changed().await.is_ok() {}
    }

    /// The sessions of this name, of all tenants or of one, wherever they are. Reads the disk.
    pub fn find(&self, tenant: Option<&Name>, id: &str) -> Result<Vec<Session>, StoreError> {
        let mut found = Vec::new();
        self.each(&mut |session| {
            if *session.id == *id && tenant.is_none_or(|tenant| *tenant == session.tenant) {
                found.push(session.clone());
            }
        })?;
        found.sort_by(|a, b| a.tenant.cmp(&b.tenant));
        Ok(found)
    }

    /// The sessions that a query wants, the one with the latest call first. Reads the disk.
    pub fn list(&self, query: &SessionQuery) -> Result<Vec<Session>, StoreError> {
        let mut found = Vec::new();
        let latest_first = |a: &Session, b: &Session| {
            b.last_ms
                .cmp(&a.last_ms)
                .then_with(|| (&a.tenant, &a.id).cmp(&(&b.tenant, &b.id)))
        };
        self.each(&mut |session| {
            if query.wants(session) {
                found.push(session.clone());
            }
            if found.len() > query.limit.saturating_mul(2).max(1_024) {
                found.sort_by(latest_first);
                found.truncate(query.limit);
            }
        })?;
        found.sort_by(latest_first);
        found.truncate(query.limit);
        Ok(found)
    }

    /// Sessions in memory that `wanted` picks.
    pub fn select(&self, mut wanted: impl FnMut(&Session) -> bool) -> Vec<Session> {
        let mut found = Vec::new();
        for shard in self.shards.iter() {
            let shard = shard.lock();
            let sessions = shard.live.values().map(|live| &live.session);
            found.extend(sessions.filter(|session| wanted(session)).cloned());
        }
        found
    }

    /// How many are active, of those in memory.
    pub fn active(&self, now_ms: i64, timeout_ms: i64) -> usize {
        let of_shard = |shard: &Mutex<Shard>| {
            let shard = shard.lock();
            let sessions = shard.live.values().map(|live| &live.session);
            sessions
                .filter(|session| session.status(now_ms, timeout_ms) == Status::Active)
                .count()
        };
        self.shards.iter().map(of_shard).sum()
    }

    /// Visits each session once: those in memory as they are there, the others as they rest.
    fn each(&self, visit: &mut dyn FnMut(&Session)) -> Result<(), StoreError> {
        let mut seen: HashSet<Key> = HashSet::new();
        // Memory first: one that leaves it meanwhile is met again on disk and known by its name.
        for shard in self.shards.iter() {
            let shard = shard.lock();
            for (key, live) in &shard.live {
                seen.insert(key.clone());
                visit(&live.session);
            }
        }
        self.each_at_rest(&mut |_, session| {
            let is_new = |session: &Session| !seen.contains(&(Name::clone(&session.tenant), Name::clone(&session.id)));
            if let Some(session) = session.filter(is_new) {
                visit(&session);
            }
        })
    }

    /// Visits each row on disk with its whole key; no session for one that cannot be read.
    fn each_at_rest(&self, visit: &mut dyn FnMut(Vec<u8>, Option<Session>)) -> Result<(), StoreError> {
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
        let mut loaded = 0;
        self.each_at_rest(&mut |_, session| {
            let Some(session) = session else {
                tracing::warn!("a session's row in the state database cannot be read");
                return;
            };
            let recent =
                at_ms.saturating_sub(session.last_ms) <= self.kept.silent_ms && loaded < self.kept.sessions_max;
            if recent || session.is_killed || session.running > 0 {
                loaded += 1;
                self.put(session, 0);
            }
        })
    }

    fn put(&self, session: Session, changed: u64) {
        let key = (Name::clone(&session.tenant), Name::clone(&session.id));
        let live = Live {
            session,
            changed,
            dirty: false,
        };
        self.shard(&key).lock().live.insert(key, live);
    }

    /// A call of a session was held.
    pub(crate) fn held(&self, sequence: u64, at_ms: i64, facts: &Facts) {
        self.change(sequence, at_ms, facts, |shard, session| {
            session.running = session.running.saturating_add(1);
            let parent = facts.tags.get(PARENT_TAG);
            for (known, said) in [
                (&mut session.agent, Some(&facts.agent)),
                (&mut session.user, Some(&facts.user)),
                (&mut session.task, Some(&facts.task)),
                (&mut session.parent, parent),
            ] {
                if let Some(said) = said.filter(|said| !said.is_empty() && *said != known) {
                    *known = shard.share(said);
                }
            }
            if !session.is_killed {
                session.ended = None;
            }
        });
    }

    /// A call of a session was settled.
    pub(crate) fn settled(&self, sequence: u64, at_ms: i64, entry: &Entry) {
        let end = &entry.settlement;
        let failed = end.status >= 400 || end.outcome == Outcome::UpstreamFailed;
        self.change(sequence, at_ms, &entry.facts, |_, session| {
            session.running = session.running.saturating_sub(1);
            session.calls += 1;
            session.errors += u64::from(failed);
            session.cost = session.cost.saturating_add(end.cost);
            session.tokens = session.tokens.saturating_add(end.usage.tokens());
        });
    }

    /// A hold of a session ended without a call.
    pub(crate) fn voided(&self, sequence: u64, at_ms: i64, facts: &Facts) {
        self.change(sequence, at_ms, facts, |_, session| {
            session.running = session.running.saturating_sub(1);
        });
    }

    /// A call of a session was corrected.
    pub(crate) fn adjusted(&self, sequence: u64, facts: &Facts, delta: Usd) {
        // A correction is no sign of life.
        self.change(sequence, i64::MIN, facts, |_, session| {
            session.cost = session.cost.saturating_add(delta);
        });
    }

    /// A session was marked. One that is not known is left unknown.
    pub(crate) fn marked(&self, sequence: u64, marked: &Marked) {
        let key = (Name::clone(&marked.tenant), Name::clone(&marked.session));
        self.change_key(sequence, &key, None, |_, session| match marked.mark {
            Mark::Alerted => session.is_alerted = true,
            _ if session.is_killed => {}
            mark => {
                session.ended = Some(marked.at_ms);
                session.is_killed = mark == Mark::Killed;
            }
        });
        if marked.mark == Mark::Killed {
            self.kills.send_modify(|kills| *kills = kills.wrapping_add(1));
        }
    }

    fn change(&self, sequence: u64, at_ms: i64, facts: &Facts, change: impl FnOnce(&mut Shard, &mut Session)) {
        if facts.session.is_empty() {
            return;
        }
        let key = (Name::clone(&facts.tenant), Name::clone(&facts.session));
        self.change_key(sequence, &key, Some((facts, at_ms)), change);
    }

    /// Changes a session, brought back from disk where it rests there. `first` makes one that was never seen.
    fn change_key(
        &self,
        sequence: u64,
        key: &Key,
        first: Option<(&Facts, i64)>,
        change: impl FnOnce(&mut Shard, &mut Session),
    ) {
        let mut shard = self.shard(key).lock();
        let known = match shard.live.remove_entry(key) {
            Some(known) => Some(known),
            None => match self.at_rest(key) {
                Ok(Some(session)) => Some((
                    key.clone(),
                    Live {
                        session,
                        changed: 0,
                        dirty: false,
                    },
                )),
                Ok(None) => None,
                Err(error) => {
                    // Counted from zero it would be a smaller truth: better none until the disk answers.
                    tracing::error!(%error, "a session cannot be read back: its totals lack an event");
                    return;
                }
            },
        };
        let (key, mut live) = match (known, first) {
            (Some(known), _) => known,
            (None, Some((facts, at_ms))) => {
                let mut session = Session::new(facts, at_ms);
                session.tenant = shard.share(&facts.tenant);
                let key = (Name::clone(&session.tenant), Name::clone(&session.id));
                (
                    key,
                    Live {
                        session,
                        changed: 0,
                        dirty: false,
                    },
                )
            }
            (None, None) => return,
        };
        if let Some((_, at_ms)) = first {
            live.session.last_ms = live.session.last_ms.max(at_ms);
        }
        change(&mut shard, &mut live.session);
        live.changed = sequence;
        live.dirty = true;
        shard.live.insert(key, live);
    }

    fn at_rest(&self, key: &Key) -> Result<Option<Session>, StoreError> {
        let Some(state) = &self.state else { return Ok(None) };
        let stored = rows::stored_key(&key.0, &key.1);
        let pair = state.at_or_before(&stored)?;
        Ok(pair
            .filter(|(found, _)| *found == stored)
            .and_then(|(found, value)| rows::read(found.get(1..)?, &value)))
    }

    /// The rows that have changed since `saved`, for a checkpoint; keys with their prefix.
    pub(crate) fn changes(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        for shard in self.shards.iter() {
            for live in shard.lock().live.values().filter(|live| live.dirty) {
                let session = &live.session;
                changes.push(Change::Put(
                    rows::stored_key(&session.tenant, &session.id),
                    rows::value(session),
                ));
            }
        }
        changes
    }

    /// Everything up to this sequence that `changes` gave is on disk: what is no longer needed leaves the memory.
    pub(crate) fn saved(&self, sequence: u64, now_ms: i64) {
        let may_leave = |live: &Live| live.changed <= sequence && live.session.running == 0 && !live.session.is_killed;
        let silent_before_ms = now_ms.saturating_sub(self.kept.silent_ms);
        let per_shard = self.kept.sessions_max.div_ceil(SHARDS);
        for shard in self.shards.iter() {
            let mut shard = shard.lock();
            for live in shard.live.values_mut().filter(|live| live.changed <= sequence) {
                live.dirty = false;
            }
            shard
                .live
                .retain(|_, live| !may_leave(live) || live.session.last_ms >= silent_before_ms);
            let surplus = shard.live.len().saturating_sub(per_shard);
            if surplus > 0 {
                let mut leaving: Vec<(i64, Key)> = shard
                    .live
                    .iter()
                    .filter(|(_, live)| may_leave(live))
                    .map(|(key, live)| (live.session.last_ms, key.clone()))
                    .collect();
                leaving.sort();
                for (_, key) in leaving.iter().take(surplus) {
                    shard.live.remove(key);
                }
                shard.live.shrink_to(per_shard);
            }
        }
    }

    /// Forgets sessions whose last call was before, unless they were killed: those must be known. What a checkpoint is to
    /// remove.
    pub(crate) fn forget_before(&self, before_ms: i64) -> Result<Vec<Change>, StoreError> {
        let is_gone = |session: &Session| session.last_ms < before_ms && session.running == 0 && !session.is_killed;
        let mut batch = Vec::new();
        self.each_at_rest(&mut |key, session| {
            if session.as_ref().is_none_or(is_gone) {
                batch.push(Change::Remove(key));
            }
        })?;
        for shard in self.shards.iter() {
            shard.lock().live.retain(|_, live| !is_gone(&live.session));
        }
        Ok(batch)
    }
}
