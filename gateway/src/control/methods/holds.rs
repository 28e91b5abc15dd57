//! The methods about budgets and open holds.

use agentledger_ledger::{BalanceRow, HeldBound, Mode, OpenHold, Standing, Unit, Usd, rfc3339_ms};

use jsonrpsee::server::RegisterMethodError;
use serde_json::json;

use crate::control::error::RpcError;
use crate::control::key_names::prefix_of;
use crate::control::ledger_view::{LedgerView, now_ms};
use crate::control::rpc::call::{Call, Caller, Changed, Role};
use crate::control::rpc::params::{self, Nothing};
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::ControlState;
use crate::control::wire;

pub(in crate::control) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    table.add(
        Method::new(
            "budget.status",
            Role::Read,
            Scope::Tenant,
            "What accounts have spent and hold in the windows that run.",
            r#"{"account": "tenant:"}"#,
        ),
        budget_status,
    )?;
    table.add(
        Method::new(
            "hold.list",
            Role::Read,
            Scope::Tenant,
            "Open holds, oldest first.",
            r#"{}"#,
        ),
        list,
    )?;
    table.add(
        Method::new(
            "hold.explain",
            Role::Read,
            Scope::Tenant,
            "An open hold with the bounds that it touches.",
            r#"{"id": "1"}"#,
        ),
        explain,
    )?;
    table.add(
        Method::new(
            "hold.void",
            Role::Operate,
            Scope::Tenant,
            "Ends an open hold without an entry: what it reserved is free at once.",
            r#"{"id": "1", "reason": "its agent is gone"}"#,
        ),
        void,
    )
}

/// Accounts in one answer.
const LIMIT_DEFAULT: usize = 1_000;
const LIMIT_MAX: usize = 10_000;

pub(in crate::control) fn budget_status(
    state: &ControlState,
    call: &Call,
    asked: wire::BudgetParams,
) -> Result<wire::BudgetStatus, RpcError> {
    let limit = params::limit(asked.limit, LIMIT_DEFAULT, LIMIT_MAX)?;
    state.ledger.flush()?;
    let page = match own_account(&call.caller) {
        // Any other account has sums of others in it too.
        Some(own) => {
            let mut page = state.ledger.balances_after(&own, None, 1);
            page.rows
                .retain(|row| *row.account == *own && own.starts_with(&asked.account));
            page.next = None;
            page
        }
        None => {
            let after = (!asked.after.is_empty()).then_some(asked.after.as_str());
            let prefix = prefix_of(state, &call.caller, &asked.account);
            state.ledger.balances_after(&prefix, after, limit)
        }
    };
    let wanted = |row: &&BalanceRow| asked.window.is_empty() || row.window.name() == asked.window;
    let mut budgets: Vec<wire::BudgetRow> = page
        .rows
        .iter()
        .filter(wanted)
        .map(|row| budget(row, &state.ledger))
        .collect();
    budgets.sort_by(|a, b| (&a.account, &a.window, &a.zone).cmp(&(&b.account, &b.window, &b.zone)));
    let next = page.next.map(|account| account.to_string());
    Ok(wire::BudgetStatus { budgets, next })
}

/// The one account whose every cent is the caller's tenant's; `None`: it may see all.
fn own_account(caller: &Caller) -> Option<String> {
    caller.tenant.as_ref().map(|tenant| format!("tenant:{tenant}"))
}

fn budget(row: &BalanceRow, ledger: &LedgerView) -> wire::BudgetRow {
    let (from, to) = stretch(row.period.start_s, row.period.end_s);
    let asked = ledger.requested_limits(&row.account);
    let of_window = asked
        .iter()
        .filter(|asked| asked.window == row.window && asked.zone == row.zone);
    let limits = of_window
        .map(|asked| limit(asked.unit, asked.limit, asked.mode))
        .collect();
    wire::BudgetRow {
        account: row.account.to_string(),
        window: row.window.name().to_owned(),
        zone: row.zone.to_string(),
        from,
        to,
        spent_usd: row.posted.usd,
        held_usd: row.held.usd,
        overage_usd: row.overage.usd,
        spent_tokens: row.posted.tokens,
        held_tokens: row.held.tokens,
        spent_requests: row.posted.requests,
        held_requests: row.held.requests,
        limits,
    }
}

pub(in crate::control) fn list(state: &ControlState, call: &Call, _: Nothing) -> Result<wire::Holds, RpcError> {
    let now_ms = now_ms();
    let holds = state.ledger.open_holds();
    let seen = holds.iter().filter(|hold| call.caller.sees(&hold.held.facts.tenant));
    Ok(wire::Holds {
        holds: seen.map(|hold| row(hold, now_ms)).collect(),
    })
}

/// The open hold of this id, among those that the caller sees.
fn find(state: &ControlState, caller: &Caller, id: &str) -> Result<OpenHold, RpcError> {
    let is_it = |hold: &OpenHold| {
        (hold.id.0.to_string() == id || hold.held.facts.id.to_string() == id) && caller.sees(&hold.held.facts.tenant)
    };
    let found = state.ledger.open_holds().into_iter().find(is_it);
    found.ok_or_else(|| RpcError::NotFound(format!("no open hold {id:?}")))
}

pub(in crate::control) fn explain(
    state: &ControlState,
    call: &Call,
    asked: wire::HoldParams,
) -> Result<wire::Explained, RpcError> {
    let hold = &find(state, &call.caller, &asked.id)?;
    let own = own_account(&call.caller);
    // It may end between the two questions; then it has no standings any more.
    let standings = state.ledger.standings(hold.id);
    let bounds = hold.held.bounds.iter().enumerate();
    let bounds = bounds
        .filter(|(_, bound)| own.as_ref().is_none_or(|own| *bound.account == **own))
        .map(|(place, bound)| bound_row(hold, bound, standings.get(place)))
        .collect();
    Ok(wire::Explained {
        hold: row(hold, now_ms()),
        bounds,
    })
}

/// Ends a hold without an entry: what it reserved is free at once. Should its exchange be billed all the same, that is entered.
pub(in crate::control) fn void(
    state: &ControlState,
    call: &Call,
    asked: wire::VoidParams,
) -> Result<wire::VoidedHold, RpcError> {
    if asked.reason.trim().is_empty() {
        return Err(RpcError::InvalidParams("reason: say why".to_owned()));
    }
    let ledger = state.ledger.live()?;
    let hold = find(state, &call.caller, &asked.id)?;
    let shown = row(&hold, now_ms());
    let changed = Changed {
        subject: format!("hold:{}", hold.id.0),
        tenant: hold.held.facts.tenant.clone(),
        note: asked.reason.clone(),
        before: Some(json!({ "exchange": shown.exchange, "held_usd": shown.held_usd })),
        ..Changed::default()
    };
    let answer = |sequence| wire::VoidedHold {
        hold: shown.clone(),
        sequence,
    };
    call.act(ledger, &changed, answer, |change| {
        ledger.void_audited(hold.id, &asked.reason, change)
    })
}

fn row(hold: &OpenHold, now_ms: i64) -> wire::HoldRow {
    let facts = &hold.held.facts;
    wire::HoldRow {
        id: hold.id.0,
        exchange: facts.id.to_string(),
        since: rfc3339_ms(hold.held.at_ms),
        age_ms: u64::try_from(now_ms.saturating_sub(hold.held.at_ms)).unwrap_or(0),
        provider: facts.provider.to_string(),
        model: facts.requested_model.to_string(),
        key: facts.key.to_string(),
        tenant: facts.tenant.to_string(),
        agent: facts.agent.to_string(),
        session: facts.session.to_string(),
        held_usd: hold.amounts.usd,
        held_tokens: hold.amounts.tokens,
        first_usd: hold.held.amounts.usd,
        basis: hold.held.basis.to_string(),
    }
}

fn bound_row(hold: &OpenHold, bound: &HeldBound, standing: Option<&Standing>) -> wire::BoundRow {
    let (from, to) = stretch(bound.start_s, bound.end_s);
    let limit = limit(bound.unit, bound.limit, bound.mode);
    let show = |count: i64| Some(amount(bound.unit, count));
    let left = |standing: &Standing| i64::try_from(standing.left()).unwrap_or(i64::MIN);
    wire::BoundRow {
        account: bound.account.to_string(),
        window: bound.window.name().to_owned(),
        zone: bound.zone.to_string(),
        from,
        to,
        unit: limit.unit,
        mode: limit.mode,
        limit: limit.limit,
        held_here: amount(bound.unit, hold.amounts.get(bound.unit)),
        spent: standing.and_then(|standing| show(standing.posted)),
        held: standing.and_then(|standing| show(standing.held)),
        overage: standing.and_then(|standing| show(standing.overage)),
        left: standing.and_then(|standing| show(left(standing))),
    }
}

fn limit(unit: Unit, count: i64, mode: Mode) -> wire::LimitRow {
    let mode = match mode {
        Mode::Hard => "hard",
        Mode::Watch => "watch",
    };
    wire::LimitRow {
        unit: unit.name().to_owned(),
        limit: amount(unit, count),
        mode: mode.to_owned(),
    }
}

/// Decimal dollars, or the count itself.
fn amount(unit: Unit, count: i64) -> String {
    match unit {
        Unit::Usd => Usd::from_nanos(count).to_string(),
        Unit::Tokens | Unit::Requests => count.to_string(),
    }
}

/// Start and end as text; a window without an end has neither.
fn stretch(start_s: i64, end_s: i64) -> (Option<String>, Option<String>) {
    let text = |seconds: i64| seconds.checked_mul(1_000).map(rfc3339_ms);
    (text(start_s), text(end_s))
}
