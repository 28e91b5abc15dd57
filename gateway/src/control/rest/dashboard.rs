//! What the original's dashboard reads: sums, series and sessions.

use agentledger_ledger::{
    Dimension, Name, SeriesQuery, SessionOrder, SessionQuery, Status, SummaryQuery, SummaryRow, Usd, rfc3339_ms,
};

use super::answer::Answer;
use super::params::Params;
use super::rows::{CostPoint, PastSession, SessionRow, StatsAnswer, SummaryAnswer, TokenPoint};
use crate::control::contract_forms;
use crate::control::error::RpcError;
use crate::control::methods::books;
use crate::control::rpc::call::Caller;
use crate::control::rpc::params::{DAY_MS, HOUR_MS, MINUTE_MS};
use crate::control::state::ControlState;

const HOURS: f64 = 24.0;
const EXPORT_HOURS: f64 = 720.0;
const HISTORY_ROWS: usize = 50;
/// Sessions in one answer, as many as the original kept.
const SESSIONS_MAX: usize = 10_000;
const EXPORT_FILE: &str = "agentledger-costs.csv";

pub(super) fn summary(state: &ControlState, caller: &Caller, params: &Params) -> Result<Answer, RpcError> {
    let tenant = caller.tenant_of(params.text("tenant"))?;
    let now_ms = state.ledger.now_ms();
    state.ledger.flush()?;
    let since = |from_ms| totals(state, (from_ms, now_ms.saturating_add(1)), tenant.clone());
    let (today, month) = (since(day_start(now_ms)), since(month_start(now_ms)));
    let active = sessions_of(state, tenant, i64::MIN, Some(Status::Active), usize::MAX)?.len();
    Answer::json(&SummaryAnswer {
        today_spend_usd: today.cost,
        month_spend_usd: month.cost,
        today_requests: today.requests,
        active_sessions: active,
    })
}

fn day_start(at_ms: i64) -> i64 {
    at_ms.div_euclid(DAY_MS).saturating_mul(DAY_MS)
}

/// Of the UTC calendar month.
pub(super) fn month_start(at_ms: i64) -> i64 {
    let day = jiff::Timestamp::from_millisecond(at_ms)
        .unwrap_or_default()
        .to_zoned(jiff::tz::TimeZone::UTC)
        .day();
    day_start(at_ms).saturating_sub(DAY_MS.saturating_mul(i64::from(day) - 1))
}

/// All entries of a stretch of time together.
fn totals(state: &ControlState, (from_ms, to_ms): (i64, i64), tenant: Option<Name>) -> SummaryRow {
    let rows = state.ledger.summary(&SummaryQuery {
        from_ms,
        to_ms,
        by: Dimension::Provider,
        tenant,
    });
    rows.into_iter().fold(SummaryRow::default(), |mut all, row| {
        all.requests += row.requests;
        all.errors += row.errors;
        all.status_429 += row.status_429;
        all.status_5xx += row.status_5xx;
        all.duration_ms = all.duration_ms.saturating_add(row.duration_ms);
        all.cost = all.cost.saturating_add(row.cost);
        all
    })
}

/// Periods without entries are left out, as in the contract.
fn series(state: &ControlState, caller: &Caller, params: &Params) -> Result<Vec<(i64, SummaryRow)>, RpcError> {
    let tenant = caller.tenant_of(params.text("tenant"))?;
    let step_ms = match params.text("interval") {
        "minute" => MINUTE_MS,
        "day" => DAY_MS,
        _ => HOUR_MS,
    };
    let (from_ms, to_ms) = params.hours(state.ledger.now_ms(), HOURS);
    state.ledger.flush()?;
    Ok(state.ledger.sums_over_time(&SeriesQuery {
        from_ms,
        to_ms,
        step_ms,
        by: None,
        tenant,
    }))
}

pub(super) fn timeseries(state: &ControlState, caller: &Caller, params: &Params) -> Result<Answer, RpcError> {
    let points = series(state, caller, params)?;
    let points: Vec<CostPoint> = points
        .iter()
        .map(|(at_ms, row)| CostPoint {
            timestamp: rfc3339_ms(*at_ms),
            cost: row.cost,
            requests: row.requests,
        })
        .collect();
    Answer::list(&points)
}

pub(super) fn timeseries_tokens(state: &ControlState, caller: &Caller, params: &Params) -> Result<Answer, RpcError> {
    let points = series(state, caller, params)?;
    let points: Vec<TokenPoint> = points
        .iter()
        .map(|(at_ms, row)| TokenPoint {
            timestamp: rfc3339_ms(*at_ms),
            input_tokens: row.input_tokens,
            output_tokens: row.output_tokens,
        })
        .collect();
    Answer::list(&points)
}

/// Sums in the contract's forms.
fn cost_rows(
    state: &ControlState,
    caller: &Caller,
    params: &Params,
    hours: f64,
) -> Result<(String, Vec<crate::control::wire::CostRow>), RpcError> {
    let tenant = caller.tenant_of(params.text("tenant"))?;
    let span_ms = params.hours(state.ledger.now_ms(), hours);
    state.ledger.flush()?;
    Ok(books::costs(state, span_ms, params.text("group_by"), tenant))
}

pub(super) fn costs(state: &ControlState, caller: &Caller, params: &Params) -> Result<Answer, RpcError> {
    let (by, rows) = cost_rows(state, caller, params, HOURS)?;
    Ok(Answer::written(contract_forms::json(&by, &rows)))
}

pub(super) fn export(state: &ControlState, caller: &Caller, params: &Params) -> Result<Answer, RpcError> {
    let (by, rows) = cost_rows(state, caller, params, EXPORT_HOURS)?;
    Ok(match params.text("format") {
        "csv" => Answer::text("text/csv", contract_forms::csv(&by, &rows)).file(EXPORT_FILE),
        _ => Answer::written(contract_forms::json(&by, &rows)),
    })
}

pub(super) fn stats(state: &ControlState, caller: &Caller, params: &Params) -> Result<Answer, RpcError> {
    let tenant = caller.tenant_of(params.text("tenant"))?;
    let span_ms = params.hours(state.ledger.now_ms(), HOURS);
    state.ledger.flush()?;
    let all = totals(state, span_ms, tenant);
    // Of nothing everything is 0.
    let each = |sum: u64| sum as f64 / all.requests.max(1) as f64;
    let requests = i64::try_from(all.requests.max(1)).unwrap_or(i64::MAX);
    Answer::json(&StatsAnswer {
        total_requests: all.requests,
        error_requests: all.errors,
        error_rate: each(all.errors),
        count_429: all.status_429,
        count_5xx: all.status_5xx,
        avg_duration_ms: each(all.duration_ms),
        avg_cost_per_request: Usd::from_nanos(all.cost.nanos() / requests),
    })
}

fn sessions_of(
    state: &ControlState,
    tenant: Option<Name>,
    from_ms: i64,
    status: Option<Status>,
    limit: usize,
) -> Result<Vec<SessionRow>, RpcError> {
    let (now_ms, timeout_ms) = (state.ledger.now_ms(), state.config.load().agent.session_timeout_ms());
    let found = state.ledger.sessions().list(&SessionQuery {
        from_ms,
        tenant,
        status,
        now_ms,
        timeout_ms,
        order: SessionOrder::Last,
        limit,
    });
    let found = found.map_err(RpcError::ledger)?;
    let row = |session| SessionRow::of(session, now_ms, timeout_ms);
    Ok(found.iter().map(row).collect())
}

/// Those of the last day, whether they run or not; in the contract: those in memory. It takes no tenant from the query, but
/// keeps to the token's own.
pub(super) fn sessions(state: &ControlState, caller: &Caller, _: &Params) -> Result<Answer, RpcError> {
    let tenant = caller.tenant_of("")?;
    let since_ms = state.ledger.now_ms().saturating_sub(DAY_MS);
    state.ledger.flush()?;
    Answer::list(&sessions_of(state, tenant, since_ms, None, SESSIONS_MAX)?)
}

/// An empty list is `[]` here, and here alone.
pub(super) fn sessions_history(state: &ControlState, caller: &Caller, params: &Params) -> Result<Answer, RpcError> {
    let tenant = caller.tenant_of("")?;
    let (since_ms, _) = params.hours(state.ledger.now_ms(), HOURS);
    let status = match params.text("status") {
        "" => None,
        word => match Status::from_name(word) {
            Some(status) => Some(status),
            // No session stands so.
            None => return Answer::json(&[(); 0]),
        },
    };
    let limit = params.limit(HISTORY_ROWS, SESSIONS_MAX);
    state.ledger.flush()?;
    let rows = sessions_of(state, tenant, since_ms, status, limit)?;
    let rows: Vec<PastSession> = rows.into_iter().map(PastSession::from).collect();
    Answer::json(&rows)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn days_and_months_begin_in_utc() {
        let ms = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_millisecond();
        let at = ms("2028-02-29T23:59:59.999Z");
        assert_eq!(day_start(at), ms("2028-02-29T00:00:00Z"));
        assert_eq!(month_start(at), ms("2028-02-01T00:00:00Z"));
        assert_eq!(month_start(ms("2026-12-01T00:00:00Z")), ms("2026-12-01T00:00:00Z"));
    }
}
