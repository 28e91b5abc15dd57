//! Sums over time, corrections of entries, and exports.

use agentledger_ledger::{SeriesQuery, Usd, rfc3339_ms};
use jsonrpsee::server::RegisterMethodError;
use serde_json::json;
use ulid::Ulid;

use crate::control::contract_forms;
use crate::control::error::RpcError;
use crate::control::ledger_view::now_ms;
use crate::control::methods::books;
use crate::control::methods::filtered::{self, filters};
use crate::control::rpc::call::{Call, Changed, Role};
use crate::control::rpc::params::{self, DAY_MS, HOUR_MS, LAST_DEFAULT, MINUTE_MS, Span};
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::ControlState;
use crate::control::wire;

/// Points in one answer.
const LIMIT_DEFAULT: usize = 1_000;
const LIMIT_MAX: usize = 100_000;
/// Periods that are looked through for one answer.
const PERIODS_MAX: i64 = 100_000;
/// Entries in one answer of an export.
const EXPORT_ENTRIES: usize = 1_000;
/// What sums are exported where no time is given; of entries all are.
const EXPORT_LAST_DEFAULT: &str = "30d";
/// The word for single entries.
const BY_ENTRY: &str = "entry";

pub(in crate::control) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    table.add(
        Method::new(
            "ledger.series",
            Role::Read,
            Scope::Tenant,
            "Sums by minute, hour or day, of all or by one dimension.",
            r#"{"last": "24h", "step": "hour", "by": "model"}"#,
        ),
        series,
    )?;
    table.add(
        Method::new(
            "ledger.adjust",
            Role::Admin,
            Scope::Whole,
            "Corrects the cost of a settled entry, with a reason, by an event of its own.",
            r#"{"entry": "01J0000000000000000000000A", "usd": "-0.25", "reason": "credited by the provider"}"#,
        ),
        adjust,
    )?;
    table.add(
        Method::new(
            "ledger.export",
            Role::Read,
            Scope::Tenant,
            "Sums as CSV or JSON in the contract's forms, or every entry as JSON lines, page by page.",
            r#"{"last": "30d", "by": "model", "format": "csv"}"#,
        ),
        export,
    )
}

pub(in crate::control) fn series(
    state: &ControlState,
    call: &Call,
    asked: wire::SeriesParams,
) -> Result<wire::Series, RpcError> {
    let step_ms = match asked.step.as_str() {
        "minute" => MINUTE_MS,
        "hour" => HOUR_MS,
        "day" => DAY_MS,
        _ => {
            return Err(RpcError::InvalidParams("step must be minute, hour or day".to_owned()));
        }
    };
    let limit = params::limit(asked.limit, LIMIT_DEFAULT, LIMIT_MAX)?;
    let span = Span::new(&asked.last, &asked.from, &asked.to);
    let (from_ms, to_ms) = span.ms(now_ms(), Some(LAST_DEFAULT))?;
    if to_ms.saturating_sub(from_ms) / step_ms > PERIODS_MAX {
        return Err(RpcError::InvalidParams(format!(
            "more than {PERIODS_MAX} periods: request less time, or longer steps"
        )));
    }
    let by = (!asked.by.is_empty()).then(|| params::dimension(&asked.by));
    let filters = filters!(state, call, asked)?;
    let query = SeriesQuery {
        from_ms,
        to_ms,
        step_ms,
        by: by.clone(),
        tenant: filters.tenant.clone(),
    };
    state.ledger.flush()?;
    let (mut points, since_ms) = filtered::series(state, &query, &filters)?;
    let next = cut(&mut points, limit, |(at_ms, _)| *at_ms);
    let point = |(at_ms, row)| wire::SeriesPoint {
        at: rfc3339_ms(at_ms),
        row,
    };
    Ok(wire::Series {
        from: rfc3339_ms(from_ms),
        to: rfc3339_ms(to_ms),
        step: asked.step,
        by: by.as_ref().map(params::dimension_name).unwrap_or_default(),
        points: points.into_iter().map(point).collect(),
        next: next.map(rfc3339_ms),
        since: since_ms.map(rfc3339_ms),
    })
}

/// Cuts to whole periods of at most `limit` rows together, the first at least; the moment where the rest begins.
fn cut<T>(rows: &mut Vec<T>, limit: usize, at: impl Fn(&T) -> i64) -> Option<i64> {
    let over = at(rows.get(limit)?);
    let first = rows.first().map(&at)?;
    // The period that does not fit goes to the next page; of the first one all rows stay.
    let begins = rows.iter().position(|row| match over == first {
        true => at(row) > first,
        false => at(row) == over,
    })?;
    let next = rows.get(begins).map(&at);
    rows.truncate(begins);
    next
}

pub(in crate::control) fn adjust(
    state: &ControlState,
    call: &Call,
    asked: wire::AdjustParams,
) -> Result<wire::AdjustResult, RpcError> {
    let invalid = |text: String| RpcError::InvalidParams(text);
    let entry: Ulid = asked
        .entry
        .parse()
        .map_err(|_| invalid("entry: not an entry's id".to_owned()))?;
    let usd: Usd = asked.usd.parse().map_err(|error| invalid(format!("usd: {error}")))?;
    if usd == Usd::ZERO || asked.reason.trim().is_empty() {
        return Err(invalid("usd must not be 0, and a reason is needed".to_owned()));
    }
    let ledger = state.ledger.live()?;
    state.ledger.flush()?;
    let changed = Changed {
        subject: format!("entry:{entry}"),
        note: asked.reason.clone(),
        after: Some(json!({ "adjusted_usd": usd.to_string() })),
        ..Changed::default()
    };
    let answer = |sequence| wire::AdjustResult {
        entry: entry.to_string(),
        sequence,
        usd,
    };
    call.act(ledger, &changed, answer, |change| {
        ledger.adjust_audited(entry, usd, &asked.reason, change)
    })
}

pub(in crate::control) fn export(
    state: &ControlState,
    call: &Call,
    asked: wire::ExportParams,
) -> Result<wire::Export, RpcError> {
    let refused = |text: &str| Err(RpcError::InvalidParams(text.to_owned()));
    if asked.by == BY_ENTRY {
        if !matches!(asked.format.as_str(), "" | "jsonl") {
            return refused("single entries are exported as jsonl");
        }
        let query = wire::QueryParams {
            last: asked.last,
            from: asked.from,
            to: asked.to,
            tenant: asked.tenant,
            limit: Some(EXPORT_ENTRIES),
            cursor: asked.cursor,
            ..wire::QueryParams::default()
        };
        let page = books::query(state, call, query)?;
        return Ok(wire::Export {
            content_type: "application/jsonl".to_owned(),
            text: page.entries.iter().map(|entry| format!("{}\n", entry.get())).collect(),
            next: page.next,
        });
    }
    let (content_type, shape): (_, fn(&str, &[wire::CostRow]) -> String) = match asked.format.as_str() {
        "" | "csv" => ("text/csv", contract_forms::csv),
        "json" => ("application/json", contract_forms::json),
        _ => return refused("sums are exported as csv or json"),
    };
    let is_unbounded = asked.last.is_none() && asked.from.is_none() && asked.to.is_none();
    let query = wire::SummaryParams {
        last: asked
            .last
            .or_else(|| is_unbounded.then(|| EXPORT_LAST_DEFAULT.to_owned())),
        from: asked.from,
        to: asked.to,
        by: asked.by,
        tenant: asked.tenant,
        ..wire::SummaryParams::default()
    };
    let summary = books::summary(state, call, query)?;
    Ok(wire::Export {
        content_type: content_type.to_owned(),
        text: shape(&summary.by, &summary.rows),
        next: None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn pages_of_a_series_are_whole_periods() {
        let page = |limit| {
            let mut rows = vec![(1, 'a'), (1, 'b'), (1, 'c'), (2, 'a'), (2, 'b'), (3, 'a')];
            let next = cut(&mut rows, limit, |(at, _)| *at);
            (rows.len(), next)
        };
        assert_eq!(page(6), (6, None));
        assert_eq!(page(5), (5, Some(3)));
        assert_eq!(page(4), (3, Some(2)));
        assert_eq!(page(3), (3, Some(2)));
        assert_eq!(page(1), (3, Some(2)), "the first at least");
    }
}
