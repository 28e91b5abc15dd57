//! What a session is, and which ones are requested.

use std::cmp::Ordering;
use std::sync::Arc;

use super::DAY_MS;
use crate::entry::{Facts, Name, Settlement};
use crate::money::Usd;

/// What is kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Sessions in memory, killed ones not counted. Those silent for longest leave first.
    pub sessions_max: usize,
    /// A session that was silent for longer leaves in any case.
    pub silent_ms: i64,
    /// New sessions of one day that are listed.
    pub new_per_day_max: usize,
}

impl Default for Kept {
    fn default() -> Kept {
        Kept {
            sessions_max: 100_000,
            silent_ms: DAY_MS,
            new_per_day_max: 100_000,
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

/// Whose a session is and what it is for. Most sessions have it in common with others: they share it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Who {
    pub tenant: Name,
    /// Who and what the last call said that said anything.
    pub agent: Name,
    pub user: Name,
    pub task: Name,
    /// The session that started this one; empty where nobody said.
    pub parent: Name,
}

impl Who {
    /// With what a call says that is news; `None` where nothing of it is.
    pub(super) fn told_by(
        &self,
        facts: &Facts,
        parent: Option<&Name>,
        is_news: impl Fn(&Name, &Name) -> bool,
    ) -> Option<Who> {
        let mut told: Option<Who> = None;
        let mut tell = |known: &Name, said: Option<&Name>, part: fn(&mut Who) -> &mut Name| {
            if let Some(said) = said.filter(|said| is_news(known, said)) {
                *part(told.get_or_insert_with(|| self.clone())) = Name::clone(said);
            }
        };
        tell(&self.agent, Some(&facts.agent), |who| &mut who.agent);
        tell(&self.user, Some(&facts.user), |who| &mut who.user);
        tell(&self.task, Some(&facts.task), |who| &mut who.task);
        tell(&self.parent, parent, |who| &mut who.parent);
        told
    }
}

/// One session. A session belongs to its tenant: two tenants' sessions of one name are two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub id: Name,
    pub who: Arc<Who>,
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
    pub(super) fn new(tenant: &Name, id: &Name, started_ms: i64, at_ms: i64) -> Session {
        let who = Who {
            tenant: Name::clone(tenant),
            ..Who::default()
        };
        Session {
            id: Name::clone(id),
            who: Arc::new(who),
            started_ms: started_ms.min(at_ms),
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

    /// One call more.
    pub(super) fn count(&mut self, end: &Settlement) {
        self.calls += 1;
        self.errors += u64::from(end.has_failed());
        self.cost = self.cost.saturating_add(end.cost);
        self.tokens = self.tokens.saturating_add(end.usage.tokens());
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

/// What comes first in a list of sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionOrder {
    /// The latest call.
    #[default]
    Last,
    /// The dearest.
    Cost,
    /// The most calls.
    Calls,
    /// The one that began last.
    Started,
}

impl SessionOrder {
    pub fn from_name(name: &str) -> Option<SessionOrder> {
        Some(match name {
            "last" => SessionOrder::Last,
            "cost" => SessionOrder::Cost,
            "calls" => SessionOrder::Calls,
            "started" => SessionOrder::Started,
            _ => return None,
        })
    }

    /// Equal ones by their latest calls, then always in the same order.
    pub(super) fn compare(self, a: &Session, b: &Session) -> Ordering {
        let first = match self {
            SessionOrder::Last => Ordering::Equal,
            SessionOrder::Cost => b.cost.cmp(&a.cost),
            SessionOrder::Calls => b.calls.cmp(&a.calls),
            SessionOrder::Started => b.started_ms.cmp(&a.started_ms),
        };
        first
            .then_with(|| b.last_ms.cmp(&a.last_ms))
            .then_with(|| (&a.who.tenant, &a.id).cmp(&(&b.who.tenant, &b.id)))
    }
}

/// A session and what it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kin {
    /// Those that name it as what started them, those that name these, and so on; parents before what they started.
    pub started: Vec<Session>,
    /// There are more.
    pub is_cut: bool,
}

/// Which sessions are requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionQuery {
    /// Those whose last call was not before.
    pub from_ms: i64,
    /// `None`: all tenants.
    pub tenant: Option<Name>,
    pub status: Option<Status>,
    pub now_ms: i64,
    pub timeout_ms: i64,
    pub order: SessionOrder,
    pub limit: usize,
}

impl SessionQuery {
    pub(super) fn wants(&self, session: &Session) -> bool {
        session.last_ms >= self.from_ms
            && self.tenant.as_ref().is_none_or(|tenant| *tenant == session.who.tenant)
            && self
                .status
                .is_none_or(|status| status == session.status(self.now_ms, self.timeout_ms))
    }
}
