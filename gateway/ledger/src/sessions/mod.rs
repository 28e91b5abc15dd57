//! Sessions: what each run of an agent has called, used and cost. They follow from the journal, event by event, live as
//! in replay, so their totals are those of the entries, through every restart.
//!
//! Those that run are in memory; older ones rest in the state database and come back when a call takes them up again. A
//! row leaves the memory only once a checkpoint that bears it is on disk. Killed sessions stay, for they must be known.
//!
//! Clients make sessions up: past so many new ones a day further ones are not listed. Their calls are billed and entered
//! as any others, and they can be killed.
//!
//! Not behind the lock of the other derived state: requests ask here, and no report shall keep them waiting.

mod rest;
mod rows;
mod shard;
#[cfg(test)]
mod tests;
mod types;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use self::shard::{Shard, Shared};
pub use self::types::{Kept, Kin, Session, SessionOrder, SessionQuery, Status, Who};
use crate::entry::{Entry, Facts, Name};
use crate::event::{Mark, Marked};
use crate::money::Usd;
use crate::store::{Store, StoreError};

/// The first byte of a session's row in the state database.
pub(crate) const ROW_PREFIX: u8 = b's';
/// The tag that names a session's parent: `X-Agent-Parent` is short for it.
pub const PARENT_TAG: &str = "parent";
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
/// Locks, so that a report that walks over all sessions stops few requests, and those shortly.
const SHARDS: usize = 32;

/// How many sessions have begun on a day.
#[derive(Debug, Default)]
struct NewToday {
    day: i64,
    count: usize,
}

/// All sessions.
pub struct Sessions {
    shards: Box<[Mutex<Shard>; SHARDS]>,
    hasher: RandomState,
    /// `None`: nothing rests there.
    state: Option<Arc<dyn Store>>,
    kept: Kept,
    new_today: Mutex<NewToday>,
    /// Calls whose session is not listed.
    folded: AtomicU64,
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
            new_today: Mutex::default(),
            folded: AtomicU64::new(0),
            kills: watch::Sender::new(0),
        }
    }

    fn shard(&self, tenant: &str, id: &str) -> &Mutex<Shard> {
        let [first, ..] = &*self.shards;
        let place = self.hasher.hash_one((tenant, id)) % SHARDS as u64;
        self.shards.get(usize::try_from(place).unwrap_or(0)).unwrap_or(first)
    }

    /// The session as far as its events are on disk and it is in memory: for the request path, which waits for nothing.
    pub fn running(&self, tenant: &Name, id: &Name) -> Option<Session> {
        self.shard(tenant, id).lock().session(tenant, id).cloned()
    }

    /// Whether its calls are to be refused.
    pub fn is_killed(&self, tenant: &Name, id: &Name) -> bool {
        let shard = self.shard(tenant, id).lock();
        shard.session(tenant, id).is_some_and(|session| session.is_killed)
    }

    /// Calls whose session is not listed, for there were too many new ones that day.
    pub fn folded(&self) -> u64 {
        self.folded.load(Ordering::Relaxed)
    }

    /// The session that started it, that one's own, and so on, as far as they are in memory and at most so many.
    pub fn ancestors(&self, tenant: &Name, id: &Name, levels_max: usize) -> Vec<Name> {
        let mut found: Vec<Name> = Vec::new();
        while found.len() < levels_max {
            let child = found.last().unwrap_or(id);
            let shard = self.shard(tenant, child).lock();
            let parent = shard
                .session(tenant, child)
                .map(|session| Name::clone(&session.who.parent));
            drop(shard);
            match parent {
                // Clients name parents: they may go round in a circle.
                Some(parent) if !parent.is_empty() && parent != *id && !found.contains(&parent) => found.push(parent),
                _ => break,
            }
        }
        found
    }

    /// Returns the first of these sessions that is killed, when it is.
    pub async fn killed(&self, tenant: &Name, ids: &[Name]) -> Name {
        let mut kills = self.kills.subscribe();
        loop {
            if let Some(killed) = ids.iter().find(|id| self.is_killed(tenant, id)) {
                return Name::clone(killed);
            }
            // The sender lives in `self`, so waiting cannot fail.
            if kills.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The sessions of this name, of all tenants or of one, wherever they are. Reads the disk.
    pub fn find(&self, tenant: Option<&Name>, id: &str) -> Result<Vec<Session>, StoreError> {
        let mut found = Vec::new();
        self.each(&mut |session| {
            if *session.id == *id && tenant.is_none_or(|tenant| *tenant == session.who.tenant) {
                found.push(session.clone());
            }
        })?;
        found.sort_by(|a, b| a.who.tenant.cmp(&b.who.tenant));
        Ok(found)
    }

    /// The names of sessions that begin so, of all tenants or of one, wherever they are. Reads the disk.
    pub fn names_from(&self, tenant: Option<&Name>, beginning: &str) -> Result<BTreeSet<Name>, StoreError> {
        let mut found = BTreeSet::new();
        self.each(&mut |session| {
            if session.id.starts_with(beginning) && tenant.is_none_or(|tenant| *tenant == session.who.tenant) {
                found.insert(Name::clone(&session.id));
            }
        })?;
        Ok(found)
    }

    /// What a session started, and what that started: at most so many. Reads the disk.
    pub fn started_by(&self, tenant: &Name, id: &Name, sessions_max: usize) -> Result<Kin, StoreError> {
        let mut by_parent: HashMap<Name, Vec<Session>> = HashMap::new();
        self.each(&mut |session| {
            if session.who.tenant == *tenant && !session.who.parent.is_empty() {
                let siblings = by_parent.entry(Name::clone(&session.who.parent)).or_default();
                siblings.push(session.clone());
            }
        })?;
        // Clients name parents: each is taken once, wherever they lead.
        let (mut kin, mut seen) = (Kin::default(), HashSet::from([Name::clone(id)]));
        let mut parents = VecDeque::from([Name::clone(id)]);
        while let Some(parent) = parents.pop_front() {
            for session in by_parent.remove(&parent).unwrap_or_default() {
                if !seen.insert(Name::clone(&session.id)) {
                    continue;
                }
                if kin.started.len() >= sessions_max {
                    kin.is_cut = true;
                    return Ok(kin);
                }
                parents.push_back(Name::clone(&session.id));
                kin.started.push(session);
            }
        }
        Ok(kin)
    }

    /// The sessions that a query wants, in its order. Reads the disk.
    pub fn list(&self, query: &SessionQuery) -> Result<Vec<Session>, StoreError> {
        let mut found = Vec::new();
        let in_order = |a: &Session, b: &Session| query.order.compare(a, b);
        self.each(&mut |session| {
            if query.wants(session) {
                found.push(session.clone());
            }
            if found.len() > query.limit.saturating_mul(2).max(1_024) {
                found.sort_by(in_order);
                found.truncate(query.limit);
            }
        })?;
        found.sort_by(in_order);
        found.truncate(query.limit);
        Ok(found)
    }

    /// Sessions in memory that `wanted` picks.
    pub fn select(&self, mut wanted: impl FnMut(&Session) -> bool) -> Vec<Session> {
        let mut found = Vec::new();
        for shard in self.shards.iter() {
            let shard = shard.lock();
            found.extend(shard.sessions().filter(|session| wanted(session)).cloned());
        }
        found
    }

    /// How many are active, of those in memory.
    pub fn active(&self, now_ms: i64, timeout_ms: i64) -> usize {
        let of_shard = |shard: &Mutex<Shard>| {
            let shard = shard.lock();
            shard
                .sessions()
                .filter(|session| session.status(now_ms, timeout_ms) == Status::Active)
                .count()
        };
        self.shards.iter().map(of_shard).sum()
    }

    /// Visits each session once: those in memory as they are there, the others as they rest.
    fn each(&self, visit: &mut dyn FnMut(&Session)) -> Result<(), StoreError> {
        let mut seen: HashSet<(Name, Name)> = HashSet::new();
        // Memory first: one that leaves it meanwhile is met again on disk and known by its name.
        for shard in self.shards.iter() {
            for session in shard.lock().sessions() {
                seen.insert(key_of(session));
                visit(session);
            }
        }
        self.each_at_rest(&mut |_, session| {
            let is_new = |session: &Session| !seen.contains(&key_of(session));
            if let Some(session) = session.filter(is_new) {
                visit(&session);
            }
        })
    }

    /// Whether one more new session is listed today.
    fn may_list(&self, at_ms: i64) -> bool {
        let mut today = self.new_today.lock();
        let day = at_ms.div_euclid(DAY_MS);
        if day != today.day {
            *today = NewToday { day, count: 0 };
        }
        let may = today.count < self.kept.new_per_day_max;
        today.count += usize::from(may);
        may
    }

    /// A call of a session was held.
    pub(crate) fn held(&self, sequence: u64, at_ms: i64, facts: &Facts) {
        self.change(sequence, at_ms, facts, |shared, session| {
            session.running = session.running.saturating_add(1);
            let is_news = |known: &Name, said: &Name| !said.is_empty() && said != known;
            if let Some(who) = session.who.told_by(facts, facts.tags.get(PARENT_TAG), is_news) {
                session.who = shared.share(&who);
            }
            if !session.is_killed {
                session.ended = None;
            }
        });
    }

    /// A call of a session was settled.
    pub(crate) fn settled(&self, sequence: u64, at_ms: i64, entry: &Entry) {
        self.change(sequence, at_ms, &entry.facts, |_, session| {
            session.running = session.running.saturating_sub(1);
            session.count(&entry.settlement);
        });
    }

    /// A call that was taken over from elsewhere. It is older than what the session has done here: it names what nobody else
    /// named, and takes up nothing that has ended.
    pub(crate) fn imported(&self, sequence: u64, entry: &Entry) {
        let (facts, end) = (&entry.facts, &entry.settlement);
        let first = First::Imported(facts.at_ms, end.at_ms.max(facts.at_ms));
        let key = (&facts.tenant, &facts.session);
        self.change_named(sequence, key, first, |shared, session| {
            let is_news = |known: &Name, said: &Name| !said.is_empty() && known.is_empty();
            if let Some(who) = session.who.told_by(facts, None, is_news) {
                session.who = shared.share(&who);
            }
            session.started_ms = session.started_ms.min(facts.at_ms);
            session.count(end);
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
        self.change_named(sequence, (&facts.tenant, &facts.session), First::No, |_, session| {
            session.cost = session.cost.saturating_add(delta);
        });
    }

    /// A session was marked. One that is not known is left unknown, but killed: then it must be.
    pub(crate) fn marked(&self, sequence: u64, marked: &Marked) {
        let first = match marked.mark {
            Mark::Killed => First::At(marked.at_ms),
            _ => First::No,
        };
        let key = (&marked.tenant, &marked.session);
        self.change_named(sequence, key, first, |_, session| match marked.mark {
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

    fn change(&self, sequence: u64, at_ms: i64, facts: &Facts, change: impl FnOnce(&mut Shared, &mut Session)) {
        let first = First::Call(facts.at_ms, at_ms);
        self.change_named(sequence, (&facts.tenant, &facts.session), first, change);
    }

    /// Changes a session, brought back from disk where it rests there. `first` says whether one that was never seen is made.
    fn change_named(
        &self,
        sequence: u64,
        (tenant, id): (&Name, &Name),
        first: First,
        change: impl FnOnce(&mut Shared, &mut Session),
    ) {
        if id.is_empty() {
            return;
        }
        let mut shard = self.shard(tenant, id).lock();
        let mut known = shard.find(tenant, id);
        if known.is_none() {
            // Requests wait for this lock, so not while the disk is read.
            drop(shard);
            let rested = match self.at_rest(tenant, id) {
                Ok(rested) => rested,
                Err(error) => {
                    // Counted from zero it would be a smaller truth: better none until the disk answers.
                    tracing::error!(%error, "a session cannot be read back: its totals lack an event");
                    return;
                }
            };
            let found = rested.or_else(|| self.made(tenant, id, first));
            shard = self.shard(tenant, id).lock();
            known = match (shard.find(tenant, id), found) {
                (Some(place), _) => Some(place),
                (None, Some(mut session)) => {
                    session.who = shard.shared.share(&session.who);
                    Some(shard.put(session))
                }
                (None, None) => None,
            };
        }
        let shard = &mut *shard;
        let Some(live) = known.and_then(|place| shard.live.get_mut(place)) else {
            return;
        };
        if let First::Call(_, at_ms) | First::Imported(_, at_ms) = first {
            live.session.last_ms = live.session.last_ms.max(at_ms);
        }
        change(&mut shard.shared, &mut live.session);
        live.changed = sequence;
        live.dirty = true;
    }

    /// A session that was never seen.
    fn made(&self, tenant: &Name, id: &Name, first: First) -> Option<Session> {
        let (started_ms, at_ms) = match first {
            First::Call(started_ms, at_ms) if self.may_list(at_ms) => (started_ms, at_ms),
            First::At(at_ms) => (at_ms, at_ms),
            // As many as its source has, which an operator has chosen.
            First::Imported(started_ms, at_ms) => (started_ms, at_ms),
            First::No => return None,
            First::Call(..) => {
                if self.folded.fetch_add(1, Ordering::Relaxed) == 0 {
                    tracing::warn!(
                        limit = self.kept.new_per_day_max,
                        "more new sessions in a day than limits.names_per_kind_max: further ones are billed but not listed"
                    );
                }
                return None;
            }
        };
        Some(Session::new(tenant, id, started_ms, at_ms))
    }
}

fn key_of(session: &Session) -> (Name, Name) {
    (Name::clone(&session.who.tenant), Name::clone(&session.id))
}

/// Whether a session that was never seen is made.
#[derive(Clone, Copy)]
enum First {
    No,
    /// At this moment.
    At(i64),
    /// By a call: when its request began, and now.
    Call(i64, i64),
    /// By a call elsewhere: when its request began, and its end.
    Imported(i64, i64),
}
