//! An exchange in the books: what is known before the answer (`Facts`), what its end adds (`Settlement`), and both
//! together, settled and immutable (`Entry`).

use std::collections::BTreeMap;
use std::sync::Arc;

use ulid::Ulid;

use crate::inferred::Inferred;
use crate::money::Usd;
use crate::usage::Usage;

/// Shared text: names repeat in every event.
pub type Name = Arc<str>;

/// What is known of an exchange when its hold is placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub id: Ulid,
    /// Start of the request, milliseconds since the epoch.
    pub at_ms: i64,
    /// The provider's name in the config.
    pub provider: Name,
    pub operation: Name,
    pub requested_model: Name,
    pub stream: bool,
    /// Fingerprint of the API key; empty for a request without one.
    pub key: Name,
    /// Empty names: not said.
    pub tenant: Name,
    pub agent: Name,
    pub session: Name,
    pub user: Name,
    pub task: Name,
    pub tags: BTreeMap<Name, Name>,
    /// The request's path as the client sent it, without its query.
    pub path: Name,
    /// Which of the names above the client did not say outright; the parent is one of the tags.
    pub inferred: Inferred,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Outcome {
    Completed,
    ClientGone,
    UpstreamFailed,
    Cut,
    Recovered,
    /// The upstream's whole answer was an error (400 or above).
    UpstreamError,
}

impl Outcome {
    pub const ALL: [Outcome; 6] = [
        Outcome::Completed,
        Outcome::ClientGone,
        Outcome::UpstreamFailed,
        Outcome::Cut,
        Outcome::Recovered,
        Outcome::UpstreamError,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Completed => "completed",
            Outcome::ClientGone => "client_gone",
            Outcome::UpstreamFailed => "upstream_failed",
            Outcome::Cut => "cut",
            Outcome::Recovered => "recovered",
            Outcome::UpstreamError => "upstream_error",
        }
    }

    pub fn from_name(name: &str) -> Option<Outcome> {
        Outcome::ALL.into_iter().find(|outcome| outcome.name() == name)
    }
}

/// The row of the price book that a cost was computed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceRef {
    pub provider: Name,
    pub id: Name,
    /// Date from which the row holds, `YYYY-MM-DD`.
    pub effective: Name,
    /// Service tier that was billed, as the book names it; `None`: the standard one.
    pub tier: Option<Name>,
}

/// Usage and cost of one model within an answer that billed several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub model: Name,
    pub usage: Usage,
    pub cost: Usd,
}

/// What the end of an exchange adds to its facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Milliseconds since the epoch.
    pub at_ms: i64,
    pub outcome: Outcome,
    /// HTTP status sent to the client; 0 where none was sent.
    pub status: u16,
    /// The model as the answer names it, else the requested one.
    pub model: Name,
    pub usage: Usage,
    /// Empty unless the answer billed several models; then their sum is `usage` and `cost`.
    pub parts: Vec<Part>,
    pub reasoning: u64,
    pub cost: Usd,
    pub reported_cost: Option<Usd>,
    /// What may still be billed at most, for a cut or abandoned answer.
    pub upper_bound: Option<Usd>,
    pub price: Option<PriceRef>,
    /// Why the usage or the price is an estimate; `None` for exact.
    pub estimate_reason: Option<Name>,
    /// Policies that spoke, `name@version`, shadow ones with a leading `~`.
    pub verdict: Vec<Name>,
    pub duration_ms: u64,
    pub ttfb_ms: Option<u64>,
    /// The id that the provider gave its answer, as it wrote it; `None` where none was read.
    pub response_id: Option<Name>,
    /// The id that the provider gave the request, by which its support and its logs know it.
    pub request_id: Option<Name>,
}

impl Settlement {
    /// Answered with 400 or above, or failed upstream: what sums and sessions count as an error.
    pub fn has_failed(&self) -> bool {
        self.status >= 400 || self.outcome == Outcome::UpstreamFailed
    }
}

impl Settlement {
    /// Of an exchange without an answer: nothing was used, as far as anyone can tell.
    pub fn unanswered(at_ms: i64, outcome: Outcome, status: u16, model: Name, duration_ms: u64) -> Settlement {
        Settlement {
            at_ms,
            outcome,
            status,
            model,
            usage: Usage::ZERO,
            parts: Vec::new(),
            reasoning: 0,
            cost: Usd::ZERO,
            reported_cost: None,
            upper_bound: None,
            price: None,
            estimate_reason: None,
            verdict: Vec::new(),
            duration_ms,
            ttfb_ms: None,
            response_id: None,
            request_id: None,
        }
    }

    /// Of a hold whose answer nobody will read: what was held is taken as spent, and said to be an estimate.
    pub fn recovered(at_ms: i64, facts: &Facts, held: Usd, reason: Name) -> Settlement {
        let duration_ms = u64::try_from(at_ms.saturating_sub(facts.at_ms)).unwrap_or_default();
        Settlement {
            cost: held,
            upper_bound: Some(held),
            estimate_reason: Some(reason),
            ..Settlement::unanswered(at_ms, Outcome::Recovered, 0, facts.requested_model.clone(), duration_ms)
        }
    }
}

/// The settled record of one exchange. Never changed; corrected only by an adjustment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub facts: Facts,
    pub settlement: Settlement,
    /// What was held for it, extensions included.
    pub held: Usd,
    /// The part of the cost beyond what was held.
    pub overage: Usd,
    /// Why there is overage; `None` where there is none.
    pub overage_reason: Option<Name>,
    /// What it was imported from; `None` for an exchange of this gateway.
    pub source: Option<Name>,
}
