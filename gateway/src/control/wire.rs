//! Parameters and results of the JSON-RPC methods. Every parameter object may be left out, and so may each of its
//! fields. Times are RFC 3339, money is decimal text in USD.

use agentledger_ledger::{Usage, Usd};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// `ledger.summary`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SummaryParams {
    /// A stretch of time up to now (`24h`, `30d`, `1h30m`). Without it, and without `from` and `to`: 24 hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// Inclusive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Exclusive; now where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// `model` (the default, and what an unknown word means), `provider`, `key`, `agent`, `session`, `user`, `task`,
    /// `tenant`, `tag:NAME`; the usual tags go by their names alone: `feature`, `team`, `project`, `cost_centre`, `page`.
    pub by: String,
    /// Empty: all tenants together.
    pub tenant: String,
}

/// Sums for one value of what was asked by. Names that this does not bear are left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CostRow {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub provider: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// Fingerprint.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub agent: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub session: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub task: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tenant: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tag: String,
    pub requests: u64,
    pub errors: u64,
    pub estimated: u64,
    /// All that was read, cached or not.
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub usage: Usage,
    pub cost_usd: Usd,
    /// Held for the settled exchanges, extensions included.
    pub held_usd: Usd,
    /// Billed beyond what was held.
    pub overage_usd: Usd,
}

/// Result of `ledger.summary`: rows by cost, dearest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub from: String,
    pub to: String,
    pub by: String,
    pub rows: Vec<CostRow>,
}

/// `ledger.query`. A filter that is left out or empty lets everything pass.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueryParams {
    /// As in `ledger.summary`; without any of the three: everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub provider: String,
    /// As the answer names it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// Fingerprint.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tenant: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub agent: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub session: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Entries in one answer; default 100, at most 1,000. With a filter there may be fewer, even none, though `next` says
    /// that there are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// The `next` of the answer before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Result of `ledger.query`: entries in the order in which they were settled.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entries {
    /// Each as it is in exports.
    pub entries: Vec<Box<RawValue>>,
    /// Where to go on; null at the end.
    pub next: Option<String>,
}

/// `ledger.verify`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VerifyParams {
    /// A head that was kept elsewhere, `SEQUENCE:HASH` or the hash alone: the chain must contain it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
}

/// Result of `ledger.verify`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verified {
    /// No damage, and the expected head, if one was given, is in the chain.
    pub ok: bool,
    /// The last event that could be believed, `SEQUENCE:HASH`.
    pub head: String,
    pub months: Vec<String>,
    pub events: u64,
    pub entries: u64,
    pub open_holds: u64,
    /// What is wrong, one sentence each.
    pub damage: Vec<String>,
    /// Of the secret that the ledger's keys are named by, in hex: to know it again by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint_check: Option<String>,
}

/// `provider.list`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProvidersParams {
    /// Only this one; empty: all.
    pub provider: String,
    /// With the table of their routes: what is metered, free or refused, and why.
    pub routes: bool,
}

/// Result of `provider.list`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Providers {
    pub providers: Vec<ProviderRow>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProviderRow {
    pub name: String,
    pub dialect: String,
    /// Whose API the upstream has; empty where it is not known.
    #[serde(default)]
    pub vendor: String,
    /// Empty: served at the root.
    pub prefix: String,
    /// `host:port`.
    pub upstream: String,
    pub enabled: bool,
    /// `off`, `closed`, `open`, `half_open`.
    pub breaker: String,
    /// Consecutive failures the breaker has counted.
    pub failures: u32,
    /// What it serves, where that was requested: the first row that fits a request counts, and what none fits is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouteRow>,
}

/// One row of a provider's table of routes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteRow {
    pub dialect: String,
    pub method: String,
    /// Behind the provider's prefix.
    pub path: String,
    pub operation: String,
    /// `metered`, `free`, `fetched`, `fetched_lines`, `refused`.
    pub billing: String,
    /// Why it is free or refused, or how else it is billed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Where its vendor says so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
}

/// `budget.status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetParams {
    /// Only accounts that begin so: `key:`, `tenant:acme`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub account: String,
    /// `minute`, `hour`, `day`, `week`, `month` or `total`; empty is all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub window: String,
    /// Accounts in the answer; default 1,000, at most 10,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Goes on after this account: `next` of the page before.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub after: String,
}

/// Result of `budget.status`: what accounts have spent and hold in the windows that run, by name. Accounts without a limit
/// are shown where something is posted or held.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BudgetStatus {
    pub budgets: Vec<BudgetRow>,
    /// Where the next page begins; null after the last one.
    #[serde(default)]
    pub next: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BudgetRow {
    /// `global`, `key:FINGERPRINT`, `tenant:NAME`, …
    pub account: String,
    pub window: String,
    pub zone: String,
    /// Start and end of the running window; null for `total`.
    pub from: Option<String>,
    pub to: Option<String>,
    pub spent_usd: Usd,
    pub held_usd: Usd,
    /// The part of what is spent that was billed beyond holds.
    pub overage_usd: Usd,
    pub spent_tokens: i64,
    pub held_tokens: i64,
    pub spent_requests: i64,
    pub held_requests: i64,
    /// The limits that policies asked for last: they say them anew for each request. None where no gateway runs.
    pub limits: Vec<LimitRow>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LimitRow {
    /// `usd`, `tokens`, `requests`.
    pub unit: String,
    /// Decimal dollars, or a count.
    pub limit: String,
    /// `hard` or `watch`.
    pub mode: String,
}

/// `hold.explain`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HoldParams {
    /// As `hold.list` names it, or the exchange's id.
    pub id: String,
}

/// Result of `hold.list`: open holds, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Holds {
    pub holds: Vec<HoldRow>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HoldRow {
    /// Sequence of the event that placed it.
    pub id: u64,
    /// Id of its exchange, and of the entry that it will become.
    pub exchange: String,
    pub since: String,
    pub age_ms: u64,
    pub provider: String,
    pub model: String,
    /// Fingerprint.
    pub key: String,
    pub tenant: String,
    pub agent: String,
    pub session: String,
    /// Extensions included.
    pub held_usd: Usd,
    pub held_tokens: i64,
    /// As it was placed.
    pub first_usd: Usd,
    /// Why it has this size.
    pub basis: String,
}

/// Result of `hold.explain`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Explained {
    pub hold: HoldRow,
    pub bounds: Vec<BoundRow>,
}

/// A bound that a hold touches. Numbers are decimal dollars, or counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BoundRow {
    pub account: String,
    pub window: String,
    pub zone: String,
    pub from: Option<String>,
    pub to: Option<String>,
    pub unit: String,
    pub mode: String,
    pub limit: String,
    /// This hold's share; the next four are the account's now, null where no gateway runs.
    pub held_here: String,
    pub spent: Option<String>,
    pub held: Option<String>,
    pub overage: Option<String>,
    pub left: Option<String>,
}

/// `prices.list` and `prices.show`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PricesParams {
    /// One provider only; empty is all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub provider: String,
    /// `prices.show`: a model's name, as a request may have it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// A day, `YYYY-MM-DD`: the prices that hold then. Without it: now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// Result of `prices.list` and `prices.show`: rows of the providers that are served.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Prices {
    pub rows: Vec<PriceRow>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PriceRow {
    pub provider: String,
    pub id: String,
    pub aliases: Vec<String>,
    /// The day since which these prices hold, and all days on which prices of this row begin.
    pub from: String,
    pub days: Vec<String>,
    /// Tokens; null where it is not known.
    pub max_output: Option<u64>,
    /// The first day without it.
    pub retired: Option<String>,
    pub source: String,
    /// When it was compared with its source.
    pub checked: Option<String>,
    pub note: Option<String>,
    pub file: String,
    pub line: u64,
    /// Tier (`standard`, `standard >200000`, `batch`, …) → kind → decimal USD, per million tokens or per unit.
    pub prices: std::collections::BTreeMap<String, std::collections::BTreeMap<String, String>>,
}

/// `session.list`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionsParams {
    /// Only sessions with a call since; without it all that are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// `active`, `completed` or `killed`; empty is all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tenant: String,
    /// Sessions in the answer; default 100, at most 10,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// `session.get`, `session.end`, `session.kill`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionParams {
    pub id: String,
    /// One tenant's session only, `""` for the one without a tenant; left out: every tenant's session of this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// Sessions, the one with the latest call first; of one name, by tenant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sessions {
    pub sessions: Vec<SessionRow>,
}

/// How the machine's clock stands to the time of the ledger's last decision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClockStatus {
    /// RFC 3339.
    pub machine: String,
    /// RFC 3339.
    pub ledger: String,
    /// `sound`, `ahead` (no request is admitted) or `behind` (windows stand still).
    pub state: String,
    /// Milliseconds that the machine's clock is ahead; below zero, behind; 0 while it is sound.
    pub offset_ms: i64,
}

/// A session. Its sums are those of its settled calls.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionRow {
    pub id: String,
    pub tenant: String,
    pub agent: String,
    pub user: String,
    /// What the latest call said.
    pub task: String,
    /// The session that started this one.
    pub parent: String,
    pub started: String,
    pub last_seen: String,
    /// Null while it is active.
    pub ended: Option<String>,
    /// `active`, `completed`, `killed`.
    pub status: String,
    pub calls: u64,
    /// Calls that are not answered yet.
    pub running: u32,
    pub errors: u64,
    pub tokens: u64,
    pub cost_usd: Usd,
}
