//! Rows as the contract names their fields. Serialised in this order.

use agentledger_ledger::{Session, Usd, rfc3339_ms};
use serde::Serialize;

use super::answer::number;

#[derive(Serialize)]
pub(super) struct SummaryAnswer {
    #[serde(serialize_with = "number")]
    pub today_spend_usd: Usd,
    #[serde(serialize_with = "number")]
    pub month_spend_usd: Usd,
    pub today_requests: u64,
    pub active_sessions: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CostPoint {
    pub timestamp: String,
    #[serde(rename = "CostUSD", serialize_with = "number")]
    pub cost: Usd,
    pub requests: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TokenPoint {
    pub timestamp: String,
    pub input_tokens: u64,
    pub output_tokens: u64,
}

/// A session among those that run or ran lately.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SessionRow {
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(rename = "AgentID")]
    pub agent_id: String,
    #[serde(rename = "UserID")]
    pub user_id: String,
    pub task: String,
    pub started_at: String,
    /// Null while it is active.
    pub ended_at: Option<String>,
    pub status: &'static str,
    pub call_count: u64,
    #[serde(rename = "TotalCostUSD", serialize_with = "number")]
    pub total_cost_usd: Usd,
    pub total_tokens: u64,
}

/// The same in the history's names.
#[derive(Serialize)]
pub(super) struct PastSession {
    pub id: String,
    pub agent_id: String,
    pub user_id: String,
    pub task: String,
    pub started_at: String,
    pub ended_at: Option<String>,
    pub status: &'static str,
    pub call_count: u64,
    #[serde(serialize_with = "number")]
    pub total_cost_usd: Usd,
    pub total_tokens: u64,
}

impl SessionRow {
    pub fn of(session: &Session, now_ms: i64, timeout_ms: i64) -> SessionRow {
        SessionRow {
            id: session.id.to_string(),
            agent_id: session.who.agent.to_string(),
            user_id: session.who.user.to_string(),
            task: session.who.task.to_string(),
            started_at: rfc3339_ms(session.started_ms),
            ended_at: session.ended_ms(now_ms, timeout_ms).map(rfc3339_ms),
            status: session.status(now_ms, timeout_ms).name(),
            call_count: session.calls,
            total_cost_usd: session.cost,
            total_tokens: session.tokens,
        }
    }
}

impl From<SessionRow> for PastSession {
    fn from(row: SessionRow) -> PastSession {
        PastSession {
            id: row.id,
            agent_id: row.agent_id,
            user_id: row.user_id,
            task: row.task,
            started_at: row.started_at,
            ended_at: row.ended_at,
            status: row.status,
            call_count: row.call_count,
            total_cost_usd: row.total_cost_usd,
            total_tokens: row.total_tokens,
        }
    }
}

#[derive(Serialize)]
pub(super) struct StatsAnswer {
    pub total_requests: u64,
    pub error_requests: u64,
    /// From 0 to 1.
    pub error_rate: f64,
    pub count_429: u64,
    pub count_5xx: u64,
    pub avg_duration_ms: f64,
    #[serde(serialize_with = "number")]
    pub avg_cost_per_request: Usd,
}

#[derive(Serialize)]
pub(super) struct ExpensiveRow {
    pub timestamp: String,
    pub provider: String,
    pub model: String,
    pub agent_id: String,
    pub input_tokens: u64,
    pub output_tokens: u64,
    #[serde(serialize_with = "number")]
    pub cost_usd: Usd,
    pub duration_ms: u64,
}

#[derive(Serialize)]
pub(super) struct LatencyAnswer {
    pub p50_ms: u64,
    pub p90_ms: u64,
    pub p99_ms: u64,
    pub buckets: Vec<Bucket>,
}

#[derive(Serialize)]
pub(super) struct Bucket {
    pub label: &'static str,
    pub count: u64,
}
