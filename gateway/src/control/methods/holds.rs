//! The methods about budgets and open holds.

use std::collections::{BTreeMap, HashMap};

use agentledger_ledger::{BalanceRow, HeldBound, HoldId, OpenHold, Standing, Usd, rfc3339_ms};

use jsonrpsee::server::RegisterMethodError;
use serde_json::json;

use crate::control::error::RpcError;
use crate::control::key_names::prefix_of;
use crate::control::ledger_view::now_ms;
use crate::control::methods::limits::{self, Lately, Limit, amount, own_account};
use crate::control::rpc::call::{Call, Caller, Changed, Role};
use crate::control::rpc::params::{self, DAY_MS, Nothing};
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::{ControlState, LiveAnswer};
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
    let by_urgency = match asked.order.as_str() {
        "" | "name" => false,
        "urgency" => true,
        _ => return Err(RpcError::InvalidParams("order must be name or urgency".to_owned())),
    };
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
            let most = if by_urgency { LIMIT_MAX } else { limit };
            state.ledger.balances_after(&prefix, after, most)
        }
    };
    let wanted = |row: &&BalanceRow| asked.window.is_empty() || row.window.name() == asked.window;
    let rows: Vec<&BalanceRow> = page.rows.iter().filter(wanted).collect();
    let mut found = budgets(state, &rows);
    if by_urgency {
        found.retain(|(_, budget)| !budget.limits.is_empty());
        found.sort_by(|(one, a), (other, b)| one.cmp(other).then_with(|| named(a).cmp(&named(b))));
        found.truncate(limit);
    } else {
        found.sort_by(|(_, a), (_, b)| named(a).cmp(&named(b)));
    }
    let next = page.next.filter(|_| !by_urgency).map(|account| account.to_string());
    Ok(wire::BudgetStatus {
        budgets: found.into_iter().map(|(_, budget)| budget).collect(),
        next,
    })
}

fn named(row: &wire::BudgetRow) -> (&str, &str, &str) {
    (&row.account, &row.window, &row.zone)
}

/// Each row with its limits, and how urgent it is.
fn budgets(state: &ControlState, rows: &[&BalanceRow]) -> Vec<((u8, String, i64), wire::BudgetRow)> {
    let of_row = |row: &BalanceRow| -> Vec<Limit> {
        let asked = state.ledger.requested_limits(&row.account);
        let of_window = asked
            .iter()
            .filter(|asked| asked.window == row.window && asked.zone == row.zone);
        of_window.map(Limit::of).collect()
    };
    let limits: Vec<Vec<Limit>> = rows.iter().map(|row| of_row(row)).collect();
    let limited = rows.iter().zip(&limits).filter(|(_, limits)| !limits.is_empty());
    let lately = Lately::of(state, limited.map(|(row, _)| *row));
    let overage = overage(state, rows, lately.now_ms());
    let mut asked = 0;
    let with_limits = rows
        .iter()
        .zip(limits)
        .zip(overage)
        .map(|((row, limits), overage_usd)| {
            let asks = limits::asks(asked);
            asked += usize::from(!limits.is_empty());
            let shown = limits.iter().map(|limit| lately.stand(row, *limit, asks)).collect();
            let budget = budget(row, overage_usd, shown);
            (limits::urgency(&budget, row, &limits), budget)
        });
    with_limits.collect()
}

/// What was billed beyond holds. The books count what was imported as such, since no limit may refuse it; the sums know it apart.
fn overage(state: &ControlState, rows: &[&BalanceRow], now_ms: i64) -> Vec<Usd> {
    let mut shown: Vec<Usd> = rows.iter().map(|row| row.overage.usd).collect();
    let mut periods: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for (place, row) in rows.iter().enumerate() {
        let from_ms = row.period.start_s.saturating_mul(1_000).max(0);
        if !row.overage.usd.is_zero() {
            periods.entry(from_ms).or_default().push(place);
        }
    }
    for (from_ms, places) in periods {
        if !state.ledger.has_late_entries(from_ms, now_ms) {
            continue;
        }
        let accounts = places
            .iter()
            .filter_map(|place| rows.get(*place))
            .map(|row| &*row.account);
        let spent = limits::spent_of(state, accounts, (from_ms, now_ms.saturating_add(1)), DAY_MS);
        for place in places {
            let sums = rows.get(place).and_then(|row| spent.get(&*row.account));
            if let (Some(sums), Some(shown)) = (sums, shown.get_mut(place)) {
                let known = sums.iter().fold(Usd::ZERO, |sum, one| sum.saturating_add(one.overage));
                *shown = (*shown).min(known);
            }
        }
    }
    shown
}

fn budget(row: &BalanceRow, overage_usd: Usd, limits: Vec<wire::LimitRow>) -> wire::BudgetRow {
    let (from, to) = stretch(row.period.start_s, row.period.end_s);
    wire::BudgetRow {
        account: row.account.to_string(),
        window: row.window.name().to_owned(),
        zone: row.zone.to_string(),
        from,
        to,
        spent_usd: row.posted.usd,
        held_usd: row.held.usd,
        overage_usd,
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
    let live = state.data_plane.live_answers();
    Ok(wire::Holds {
        holds: seen.map(|hold| row(hold, live.as_ref(), now_ms)).collect(),
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
        hold: row(hold, state.data_plane.live_answers().as_ref(), now_ms()),
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
    let shown = row(&hold, state.data_plane.live_answers().as_ref(), now_ms());
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

fn row(hold: &OpenHold, live: Option<&HashMap<HoldId, LiveAnswer>>, now_ms: i64) -> wire::HoldRow {
    let facts = &hold.held.facts;
    let passing = live.and_then(|live| live.get(&hold.id));
    let state = live.map(|_| if passing.is_some() { "streams" } else { "waits" });
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
        state: state.map(str::to_owned),
        spent_usd: passing.map(|passing| passing.spent.min(hold.amounts.usd)),
        output_tokens: passing.map(|passing| passing.output_tokens),
    }
}

fn bound_row(hold: &OpenHold, bound: &HeldBound, standing: Option<&Standing>) -> wire::BoundRow {
    let (from, to) = stretch(bound.start_s, bound.end_s);
    let limit = Limit {
        unit: bound.unit,
        count: bound.limit,
        mode: bound.mode,
    }
    .row();
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

/// Start and end as text; a window without an end has neither.
fn stretch(start_s: i64, end_s: i64) -> (Option<String>, Option<String>) {
    let text = |seconds: i64| seconds.checked_mul(1_000).map(rfc3339_ms);
    (text(start_s), text(end_s))
}
