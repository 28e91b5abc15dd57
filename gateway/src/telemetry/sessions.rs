//! Which sessions are active: a request named them within the session timeout. For a gauge, not for rules: at most
//! [`SESSIONS_MAX`] are told apart, so that made-up names cannot fill the memory.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Sessions counted at most; further ones are not counted until one has timed out.
pub const SESSIONS_MAX: usize = 100_000;
/// How often a full table is searched for sessions that have timed out.
const PRUNE_EVERY: Duration = Duration::from_secs(1);

/// The sessions seen, by the hash of their name.
pub struct Sessions {
    hasher: RandomState,
    max: usize,
    seen: Mutex<Seen>,
}

struct Seen {
    last: HashMap<u64, Instant>,
    pruned: Option<Instant>,
}

impl Default for Sessions {
    fn default() -> Sessions {
        Sessions::new(SESSIONS_MAX)
    }
}

impl Sessions {
    fn new(max: usize) -> Sessions {
        Sessions {
            hasher: RandomState::new(),
            max,
            seen: Mutex::new(Seen {
                last: HashMap::new(),
                pruned: None,
            }),
        }
    }

    /// A request names this session; empty is none.
    pub fn seen(&self, session: &str, timeout: Duration) {
        self.seen_at(Instant::now(), session, timeout);
    }

    fn seen_at(&self, now: Instant, session: &str, timeout: Duration) {
        if session.is_empty() {
            return;
        }
        let hash = self.hasher.hash_one(session);
        let mut seen = self.seen.lock();
        if seen.last.len() >= self.max && !seen.last.contains_key(&hash) {
            let lately = |pruned: Instant| now.saturating_duration_since(pruned) < PRUNE_EVERY;
            if seen.pruned.is_some_and(lately) {
                return;
            }
            seen.prune(now, timeout);
            if seen.last.len() >= self.max {
                return;
            }
        }
        seen.last.insert(hash, now);
    }

    /// A request says that this session ends with it.
    pub fn ended(&self, session: &str) {
        self.seen.lock().last.remove(&self.hasher.hash_one(session));
    }

    /// How many are active now.
    pub fn active(&self, timeout: Duration) -> usize {
        self.active_at(Instant::now(), timeout)
    }

    fn active_at(&self, now: Instant, timeout: Duration) -> usize {
        let mut seen = self.seen.lock();
        seen.prune(now, timeout);
        seen.last.len()
    }
}

impl Seen {
    fn prune(&mut self, now: Instant, timeout: Duration) {
        self.last
            .retain(|_, last| now.saturating_duration_since(*last) < timeout);
        self.pruned = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    #[test]
    fn a_session_is_active_until_its_timeout_or_its_end() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        for session in ["a", "b", "a", ""] {
            sessions.seen_at(start, session, TIMEOUT);
        }
        assert_eq!(sessions.active_at(start, TIMEOUT), 2);
        sessions.seen_at(start + TIMEOUT / 2, "a", TIMEOUT);
        assert_eq!(sessions.active_at(start + TIMEOUT, TIMEOUT), 1, "b timed out");
        sessions.ended("a");
        assert_eq!(sessions.active_at(start + TIMEOUT, TIMEOUT), 0);
    }

    #[test]
    fn made_up_names_are_bounded_and_make_room_again() {
        let (sessions, start) = (Sessions::new(3), Instant::now());
        for n in 0..1_000 {
            sessions.seen_at(start, &n.to_string(), TIMEOUT);
        }
        assert_eq!(sessions.active_at(start, TIMEOUT), 3);
        sessions.seen_at(start + TIMEOUT, "new", TIMEOUT);
        assert_eq!(sessions.active_at(start + TIMEOUT, TIMEOUT), 1);
    }
}
