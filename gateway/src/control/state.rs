//! What the control plane answers from.

use std::collections::HashMap;
use std::sync::Arc;

use agentledger_ledger::{HoldId, Usd};
use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use crate::alerting::Dispatch;
use crate::config::Config;
use crate::control::access::IssuedTokens;
use crate::control::error::RpcError;
use crate::control::ledger_view::{LedgerView, on_disk};
use crate::control::verifications::Verifications;
use crate::control::wire::{
    BackupRow, BeginParams, BeginResult, EndParams, EndResult, ListParams, ListResult, PriceDriftRow,
};
use crate::plugin::Route;
use crate::price::PriceBook;
use crate::rates::RateNow;
use crate::replay::jobs::Jobs;
use crate::runtime::{InForce, Step, Wanted};
use crate::secret::Secret;
use crate::telemetry::Metrics;
use crate::telemetry::alerts::Outbox;

/// What the control plane answers from.
pub struct ControlState {
    pub ledger: LedgerView,
    pub config: Arc<ArcSwap<Config>>,
    pub metrics: Arc<Metrics>,
    pub data_plane: Arc<dyn DataPlane>,
    pub version: &'static str,
    /// Milliseconds since the epoch.
    pub started_at_ms: i64,
    /// Held while a request that bears a `request_id` is answered.
    pub requests: Mutex<()>,
    /// Held while an entry is corrected to a cost: what it costs is read first.
    pub corrections: Mutex<()>,
    /// Replays that run, and the latest results.
    pub replays: Arc<Jobs>,
    /// The walk over the journal that runs, or the latest.
    pub verifications: Arc<Verifications>,
    /// Tokens that were given out since the start.
    pub issued_tokens: IssuedTokens,
}

impl ControlState {
    /// Changes what is in force, and waits until the journal's record of it is on disk.
    pub fn change(&self, plan: &mut Plan<'_>, record: &mut Record<'_>) -> Result<(), RpcError> {
        match self.data_plane.change(plan, record)? {
            Some(sequence) => on_disk(self.ledger.live()?, sequence),
            None => Ok(()),
        }
    }
}

/// What the data plane knows beyond the config, and what can be done to it.
pub trait DataPlane: Send + Sync {
    fn breaker(&self, provider: &str) -> BreakerStatus;

    /// The routes of a provider, each with its dialect; none where no data plane runs.
    fn routes(&self, _provider: &str) -> Vec<(String, Route)> {
        Vec::new()
    }

    /// Alerts; none where no data plane runs.
    fn alerts(&self) -> Arc<Outbox> {
        Arc::default()
    }

    /// What delivers them; `None` where no data plane runs.
    fn dispatch(&self) -> Option<Arc<Dispatch>> {
        None
    }

    /// Notifies people that the journal is damaged.
    fn damaged(&self, _what: &str) {}

    /// Plugins in use.
    fn plugins(&self) -> Vec<PluginInfo> {
        Vec::new()
    }

    /// Closes a provider's breaker, whatever it has counted. `false`: there is no such provider.
    fn reset_breaker(&self, _provider: &str) -> bool {
        false
    }

    /// The price book in force; `None` where no data plane runs.
    fn prices(&self) -> Option<PriceBook> {
        None
    }

    /// What operators changed, with what it lies over; `None` where no data plane runs.
    fn in_force(&self) -> Option<InForce> {
        None
    }

    /// Changes what is in force: `plan` says how, with nobody else changing anything meanwhile; it is checked; `record` keeps it;
    /// and the next request goes by it. Where `record` says `false`, nothing was kept and nothing changes.
    ///
    /// # Errors
    /// It does not fit, or what `plan` or `record` say.
    fn change(&self, _plan: &mut Plan<'_>, _record: &mut Record<'_>) -> Result<Option<u64>, RpcError> {
        Err(RpcError::NoGateway)
    }

    /// Versions of policies that should be in force and cannot be, each with why.
    fn refused_policies(&self) -> Arc<Vec<String>> {
        Arc::default()
    }

    /// How far the answers that pass have come, by their holds; `None` where no data plane runs.
    fn live_answers(&self) -> Option<HashMap<HoldId, LiveAnswer>> {
        None
    }

    /// How rates stand on which anything is counted, the fullest first, `most` of them; `own`: only of this account.
    fn rates(&self, _own: Option<&str>, _most: usize) -> Vec<RateNow> {
        Vec::new()
    }

    /// The last comparison of prices with their sources; `None` before the first.
    fn price_drift(&self) -> Option<PriceDriftRow> {
        None
    }

    /// Archives of the schedule, and the last backup that failed.
    fn backups(&self) -> Vec<BackupRow> {
        Vec::new()
    }

    /// MCP servers that are served, and those whose tools were seen, each with its tools as they are pinned.
    fn tool_servers(&self) -> Vec<ToolServerNow> {
        Vec::new()
    }

    /// Decides what becomes of a tool whose definition changed: `definition` names what it is now. What was decided, before and after;
    /// nothing is done where `commit` says so.
    ///
    /// # Errors
    /// It is not known, is another by now, or what `commit` says.
    fn decide_tool(&self, _decision: &ToolDecision<'_>, _commit: &mut Commit<'_>) -> Result<(), RpcError> {
        Err(RpcError::NoGateway)
    }

    /// What such calls cost on average; `None` where too few were seen, or no data plane runs.
    fn expected_cost(&self, _model: &str, _agent: &str) -> Option<Usd> {
        None
    }

    /// Holds a tool call of a wrapped MCP server, or refuses it. An error: the parameters are none, or no data plane runs.
    fn begin_call(&self, _call: BeginParams) -> BoxFuture<'_, Result<BeginResult, RpcError>> {
        Box::pin(std::future::ready(Err(RpcError::NoGateway)))
    }

    /// Which tools of a wrapped MCP server's list its caller may not see.
    ///
    /// # Errors
    /// As of [`DataPlane::begin_call`].
    fn list_tools(&self, _list: &ListParams) -> Result<ListResult, RpcError> {
        Err(RpcError::NoGateway)
    }

    /// These tool calls go on; how many of them are open.
    ///
    /// # Errors
    /// As of [`DataPlane::begin_call`].
    fn keep_calls(&self, _ids: &[String]) -> Result<u64, RpcError> {
        Err(RpcError::NoGateway)
    }

    /// A tool call is over.
    ///
    /// # Errors
    /// As of [`DataPlane::begin_call`].
    fn end_call(&self, _ended: &EndParams) -> Result<EndResult, RpcError> {
        Err(RpcError::NoGateway)
    }

    /// The fingerprint of a key; `None` where no data plane runs.
    fn fingerprint(&self, _key: &Secret<String>) -> Option<String> {
        None
    }
}

pub type Plan<'a> = dyn FnMut(&InForce) -> Result<Wanted, RpcError> + 'a;
/// Given what is in force before, and the rules that change. The sequence of what was entered; `None`: nothing was.
pub type Record<'a> = dyn FnMut(&InForce, &[Step]) -> Result<Option<u64>, RpcError> + 'a;

/// Records a decision on a tool: what its definition was pinned to.
pub type Commit<'a> = dyn FnMut(Option<&str>) -> Result<(), RpcError> + 'a;

/// An answer that passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveAnswer {
    pub output_tokens: u64,
    pub spent: Usd,
}

/// What an operator decided about a tool whose definition changed.
#[derive(Clone, Copy, Debug)]
pub struct ToolDecision<'a> {
    pub server: &'a str,
    pub tool: &'a str,
    /// Names the definition that it is about.
    pub definition: &'a str,
    pub accept: bool,
    pub author: &'a str,
}

/// An MCP server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolServerNow {
    pub name: String,
    /// `http`, or `stdio` for one that its client starts.
    pub transport: &'static str,
    /// Under which it is served; empty for one that is not.
    pub path: String,
    /// `refuse` or `alert`; `None`: its tools are not pinned.
    pub pin: Option<&'static str>,
    pub tools: Vec<PinnedTool>,
}

/// A tool as it is pinned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PinnedTool {
    pub name: String,
    pub pinned: String,
    /// When, and who accepted it; unknown of old pins, and nobody where it was pinned when it was first seen.
    pub pinned_ms: Option<i64>,
    pub pinned_by: String,
    pub changed: Option<ChangedTool>,
}

/// What a tool is said to be now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangedTool {
    /// Names its definition now; empty where it was not seen since a start of an older version.
    pub now: String,
    pub since_ms: Option<i64>,
    /// Calls since that were refused.
    pub refused: u64,
    /// Somebody has decided that it stays refused.
    pub is_refused: bool,
    /// Lines of its definition with what came (`+`) and went (`-`).
    pub lines: Vec<(char, String)>,
}

/// A plugin in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginInfo {
    /// The dialect that it reads.
    pub name: String,
    pub version: String,
    /// `built-in`, or the file it came from.
    pub source: String,
    /// Providers that it serves.
    pub providers: Vec<String>,
    /// Calls into it that trapped, ran out of their limits or answered outside their contract, since the start.
    pub failures: u64,
}

/// A provider's circuit breaker as it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BreakerStatus {
    pub state: BreakerState,
    /// Consecutive failures.
    pub failures: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BreakerState {
    /// No breaker is configured.
    #[default]
    Off,
    Closed,
    Open,
    HalfOpen,
}

impl BreakerState {
    pub const fn name(self) -> &'static str {
        match self {
            BreakerState::Off => "off",
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half_open",
        }
    }
}

/// Where no data plane runs: every breaker is off.
pub struct NoDataPlane;

impl DataPlane for NoDataPlane {
    fn breaker(&self, _provider: &str) -> BreakerStatus {
        BreakerStatus::default()
    }
}
