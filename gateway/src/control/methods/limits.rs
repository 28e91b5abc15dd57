//! How limits stand: what is left of them, from where on they warn, where their window goes, and when they run out.

use std::collections::{BTreeMap, HashMap};

use agentledger_ledger::{
    Amounts, BalanceRow, Dimension, Mode, Name, RequestedLimit, Spent, Unit, Usd, Window, rfc3339_ms,
};
use jsonrpsee::server::RegisterMethodError;

use crate::control::error::RpcError;
use crate::control::forecast::{Forecast, Outlook, PAST_MS, Past};
use crate::control::key_names::account_of;
use crate::control::methods::rules::asked::{Asked, AskedLimit, Which};
use crate::control::methods::rules::shortcuts::needed;
use crate::control::rpc::call::{Call, Caller, Role};
use crate::control::rpc::params::{DAY_MS, HOUR_MS, MINUTE_MS};
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::ControlState;
use crate::control::wire;

/// Points of a forecast: hours where a window is no longer than this, else days.
const BY_HOUR_MS: i64 = 2 * DAY_MS;
/// Of so many accounts the policies are asked from where on they warn; a made-up call for each.
const ASKED_MAX: usize = 1_000;

pub(in crate::control) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    table.add(
        Method::new(
            "ledger.forecast",
            Role::Read,
            Scope::Tenant,
            "Where the money goes that an account spends in a window that runs: by the same hours of the days before.",
            r#"{"account": "global", "window": "month"}"#,
        ),
        forecast,
    )
}

/// The one account whose every cent is the caller's tenant's; `None`: it may see all.
pub(in crate::control) fn own_account(caller: &Caller) -> Option<String> {
    caller.tenant.as_ref().map(|tenant| format!("tenant:{tenant}"))
}

/// A limit in some unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) struct Limit {
    pub unit: Unit,
    pub count: i64,
    pub mode: Mode,
}

impl Limit {
    pub fn of(requested: &RequestedLimit) -> Limit {
        Limit {
            unit: requested.unit,
            count: requested.limit,
            mode: requested.mode,
        }
    }

    /// Without what is known of how it stands.
    pub fn row(self) -> wire::LimitRow {
        let mode = match self.mode {
            Mode::Hard => "hard",
            Mode::Watch => "watch",
        };
        wire::LimitRow {
            unit: self.unit.name().to_owned(),
            limit: amount(self.unit, self.count),
            mode: mode.to_owned(),
            ..wire::LimitRow::default()
        }
    }
}

/// Decimal dollars, or the count itself.
pub(in crate::control) fn amount(unit: Unit, count: i64) -> String {
    match unit {
        Unit::Usd => Usd::from_nanos(count).to_string(),
        Unit::Tokens | Unit::Requests => count.to_string(),
    }
}

/// What accounts spent lately, and what the policies ask for them: read once for a whole answer.
pub(in crate::control) struct Lately {
    now_ms: i64,
    spent: HashMap<String, Vec<Spent>>,
    by_minute: HashMap<String, Vec<Spent>>,
    asked: Option<Asked>,
}

impl Lately {
    /// Of accounts in windows that are limited.
    pub fn of<'r>(state: &ControlState, rows: impl Iterator<Item = &'r BalanceRow> + Clone) -> Lately {
        let now_ms = state.ledger.now_ms();
        let minutes = rows.clone().filter(|row| row.window == Window::Hour);
        let accounts = rows.map(|row| &*row.account);
        // The hour that has begun is a whole step, too.
        let range = |back_ms: i64| (now_ms - back_ms, now_ms.saturating_add(1));
        let in_force = state.data_plane.in_force();
        Lately {
            spent: spent_of(state, accounts, range(PAST_MS), HOUR_MS),
            by_minute: spent_of(state, minutes.map(|row| &*row.account), range(HOUR_MS), MINUTE_MS),
            asked: in_force.and_then(|in_force| Asked::of(&in_force.policies, &in_force, None, now_ms)),
            now_ms,
        }
    }

    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    fn past(&self, row: &BalanceRow, unit: Unit) -> Past {
        let spent = match row.window {
            Window::Hour => &self.by_minute,
            _ => &self.spent,
        };
        let spent = spent.get(&*row.account).map_or(&[][..], Vec::as_slice);
        Past::new(spent, unit, self.now_ms)
    }

    /// A limit as it stands. `asks`: whether the policies are asked about it.
    pub fn stand(&self, row: &BalanceRow, limit: Limit, asks: bool) -> wire::LimitRow {
        let which = Which {
            account: &row.account,
            window: row.window,
            unit: limit.unit,
        };
        let asked = self.asked.as_ref().filter(|_| asks);
        let asked = asked.and_then(|asked| asked.find(which, limit.mode, limit.count));
        self.standing(row, limit, asked.as_ref())
    }

    /// The same, of a limit that was asked for, in force or to come.
    pub fn standing(&self, row: &BalanceRow, limit: Limit, asked: Option<&AskedLimit>) -> wire::LimitRow {
        let unit = limit.unit;
        let show = |count: i64| Some(amount(unit, count));
        let (spent, held) = (row.posted.get(unit), row.held.get(unit));
        let left = i128::from(limit.count) - i128::from(spent) - i128::from(held);
        let mut shown = wire::LimitRow {
            left: show(i64::try_from(left.max(0)).unwrap_or(i64::MAX)),
            over: (spent > limit.count).then(|| amount(unit, spent.saturating_sub(limit.count))),
            ..limit.row()
        };
        if let Some(asked) = asked {
            let shares = asked.bound.soft.as_slice().iter();
            shown.soft = Some(shares.map(|ppm| f64::from(*ppm) / 1e6).collect());
            if asked.topped_up > 0 {
                shown.topped_up = show(asked.topped_up);
                shown.topped_up_until = asked.until_ms.map(rfc3339_ms);
            }
        }
        let past = self.past(row, unit);
        let from_ms = row.period.start_s.saturating_mul(1_000);
        shown.used_up_since = past.reached(from_ms, spent, limit.count).map(rfc3339_ms);
        if let Some(forecast) = forecast_of(&past, row, unit) {
            let Outlook { middle, low, high } = forecast.end();
            shown.forecast = show(middle);
            shown.forecast_low = show(low);
            shown.forecast_high = show(high);
            shown.runs_out_at = forecast.reaches(limit.count).map(rfc3339_ms);
        }
        shown
    }
}

/// The limit that would bind on an account by `after`, as it would stand. `None`: it is no single account, or the caller's to see, or no
/// policy would ask for one.
pub(in crate::control) fn stands_after(
    state: &ControlState,
    caller: &Caller,
    which: Which<'_>,
    asked: &AskedLimit,
) -> Option<wire::LimitRow> {
    if !is_one(which.account) || own_account(caller).is_some_and(|own| own != which.account) {
        return None;
    }
    let bound = &asked.bound.bound;
    let page = state.ledger.balances_after(which.account, None, 1);
    let known = page
        .rows
        .into_iter()
        .find(|row| *row.account == *which.account && row.window == which.window && row.zone == *bound.zone().name());
    let row = known.unwrap_or_else(|| BalanceRow {
        account: Name::from(which.account),
        window: which.window,
        zone: bound.zone().name().clone(),
        period: which.window.period(bound.zone(), state.ledger.now_ms()),
        posted: Amounts::ZERO,
        held: Amounts::ZERO,
        overage: Amounts::ZERO,
    });
    let limit = Limit {
        unit: which.unit,
        count: bound.limit().count(),
        mode: bound.mode(),
    };
    Some(Lately::of(state, std::iter::once(&row)).standing(&row, limit, Some(asked)))
}

/// Whether it names one account, no pattern and no kind of them.
fn is_one(account: &str) -> bool {
    let (kind, name) = parts(account);
    (kind == "global" || !name.is_empty()) && !account.contains(['*', '?', '[', '\\'])
}

fn forecast_of<'p>(past: &'p Past, row: &BalanceRow, unit: Unit) -> Option<Forecast<'p>> {
    if matches!(row.window, Window::Total) {
        return None;
    }
    let (from_ms, to_ms) = (
        row.period.start_s.checked_mul(1_000)?,
        row.period.end_s.checked_mul(1_000)?,
    );
    Forecast::of(past, row.posted.get(unit), from_ms, to_ms)
}

/// How full an account is, for an order in which somebody should look: what is used up, then what runs out, the soonest first, then
/// what may run out within its band, then the fullest.
pub(in crate::control) fn urgency(budget: &wire::BudgetRow, row: &BalanceRow, limits: &[Limit]) -> (u8, String, i64) {
    let of_limit = |(shown, limit): (&wire::LimitRow, &Limit)| {
        let (spent, held) = (row.posted.get(limit.unit), row.held.get(limit.unit));
        let full = (i128::from(spent) + i128::from(held)) * 1_000_000 / i128::from(limit.count.max(1));
        let emptiness = i64::try_from(-full).unwrap_or(i64::MIN);
        let is_hard = limit.mode == Mode::Hard;
        match &shown.runs_out_at {
            _ if is_hard && spent >= limit.count => (0, String::new(), emptiness),
            Some(at) if is_hard => (1, at.clone(), emptiness),
            _ if is_hard && reads_above(shown.forecast_high.as_deref(), limit) => (2, String::new(), emptiness),
            _ => (3, String::new(), emptiness),
        }
    };
    let all = budget.limits.iter().zip(limits).map(of_limit);
    all.min().unwrap_or((4, String::new(), 0))
}

fn reads_above(text: Option<&str>, limit: &Limit) -> bool {
    let count = text.and_then(|text| match limit.unit {
        Unit::Usd => text.parse().ok().map(Usd::nanos),
        Unit::Tokens | Unit::Requests => text.parse().ok(),
    });
    count.is_some_and(|count| count > limit.count)
}

/// Whether the policies are asked about the account at this place of an answer.
pub(in crate::control) const fn asks(place: usize) -> bool {
    place < ASKED_MAX
}

/// What each account spent, bucket by bucket: one walk over the sums for all accounts of a kind.
pub(in crate::control) fn spent_of<'a>(
    state: &ControlState,
    accounts: impl Iterator<Item = &'a str>,
    range: (i64, i64),
    step_ms: i64,
) -> HashMap<String, Vec<Spent>> {
    let mut kinds: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    for account in accounts {
        let (kind, name) = parts(account);
        let names = kinds.entry(kind).or_default();
        if names.last().is_none_or(|(last, _)| *last != account) {
            names.push((account, name));
        }
    }
    let mut found = HashMap::new();
    for (kind, accounts) in kinds {
        let Ok(by) = dimension(kind) else { continue };
        let names: Vec<&str> = accounts.iter().map(|(_, name)| *name).collect();
        let spent = state.ledger.past(by.as_ref(), &names, range, step_ms);
        let named = accounts.into_iter().zip(spent);
        found.extend(named.map(|((account, _), spent)| (account.to_owned(), spent)));
    }
    found
}

/// `agent` and a name; `tag:team` and a value.
fn parts(account: &str) -> (&str, &str) {
    match account.strip_prefix("tag:").and_then(|rest| rest.split_once('=')) {
        Some((tag, value)) => (account.get(.."tag:".len() + tag.len()).unwrap_or(account), value),
        None => account.split_once(':').unwrap_or((account, "")),
    }
}

/// What the sums have a kind of accounts by; `None`: all together. An error: they do not have it.
fn dimension(kind: &str) -> Result<Option<Dimension>, ()> {
    Ok(Some(match kind {
        "global" => return Ok(None),
        "key" => Dimension::Key,
        "tenant" => Dimension::Tenant,
        "agent" => Dimension::Agent,
        "session" => Dimension::Session,
        "user" => Dimension::User,
        "task" => Dimension::Task,
        "model" => Dimension::Model,
        "provider" => Dimension::Provider,
        _ => match kind.strip_prefix("tag:") {
            Some(tag) => Dimension::Tag(Name::from(tag)),
            None => return Err(()),
        },
    }))
}

pub(in crate::control) fn forecast(
    state: &ControlState,
    call: &Call,
    asked: wire::ForecastParams,
) -> Result<wire::Forecast, RpcError> {
    needed("account", &asked.account)?;
    let account = account_of(state, &call.caller, "account", &asked.account)?;
    if own_account(&call.caller).is_some_and(|own| own != account) {
        return Err(RpcError::OtherTenant);
    }
    let window = match asked.window.as_str() {
        "" => Window::Month,
        name => Window::ALL
            .into_iter()
            .find(|window| window.name() == name)
            .ok_or_else(|| RpcError::InvalidParams("window must be hour, day, week or month".to_owned()))?,
    };
    state.ledger.flush()?;
    let page = state.ledger.balances_after(&account, None, 1);
    let row = page
        .rows
        .into_iter()
        .find(|row| *row.account == *account && row.window == window);
    let row = row.ok_or_else(|| RpcError::NotFound(format!("nothing counts for {account} by {}", window.name())))?;
    let lately = Lately {
        asked: None,
        ..Lately::of(state, std::iter::once(&row))
    };
    let past = lately.past(&row, Unit::Usd);
    let too_little = || RpcError::NotFound(format!("too little is known of {account} for a forecast"));
    let forecast = forecast_of(&past, &row, Unit::Usd).ok_or_else(too_little)?;
    let (from_ms, to_ms) = (
        row.period.start_s.saturating_mul(1_000),
        row.period.end_s.saturating_mul(1_000),
    );
    let step_ms = if to_ms - from_ms > BY_HOUR_MS {
        DAY_MS
    } else {
        HOUR_MS.min((to_ms - from_ms) / 6)
    };
    let point = |at_ms: i64| {
        let Outlook { middle, low, high } = forecast.at(at_ms);
        wire::ForecastPoint {
            at: rfc3339_ms(at_ms),
            usd: Usd::from_nanos(middle),
            low_usd: Usd::from_nanos(low),
            high_usd: Usd::from_nanos(high),
        }
    };
    let next = (lately.now_ms - from_ms) / step_ms + 1;
    let ahead = (next..)
        .map(|step| from_ms + step * step_ms)
        .take_while(|at_ms| *at_ms < to_ms);
    let ahead: Vec<wire::ForecastPoint> = ahead.chain([to_ms]).map(point).collect();
    Ok(wire::Forecast {
        account,
        window: window.name().to_owned(),
        zone: row.zone.to_string(),
        from: rfc3339_ms(from_ms),
        to: rfc3339_ms(to_ms),
        end: point(to_ms),
        ahead,
    })
}
