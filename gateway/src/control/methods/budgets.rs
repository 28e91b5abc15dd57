//! Short ways to limits and rates: `budget.set`, `budget.top_up`, `rate.set`.

use agentledger_ledger::{Unit, Window, rfc3339_ms};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use jsonrpsee::server::RegisterMethodError;
use serde_json::{Map, Value};

use crate::control::error::RpcError;
use crate::control::key_names::account_of;
use crate::control::methods::limits::stands_after;
use crate::control::methods::rules::asked::{Asked, AskedLimit, Which};
use crate::control::methods::rules::change::{Wish, change, change_seen, decision_ms, ends_at};
use crate::control::methods::rules::effect::{SetLimit, TopUp};
use crate::control::methods::rules::shortcuts::{at_parameter, found, needed, one_of, put};
use crate::control::rpc::call::{Call, Role};
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::ControlState;
use crate::control::wire;
use crate::policy::PolicySet;
use crate::runtime::{InForce, Refused};

pub(in crate::control) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    let method = |name, summary, example| Method::new(name, Role::Admin, Scope::Tenant, summary, example);
    table.add(
        method(
            "budget.set",
            "Sets a spending limit; a runtime rule for the same account, window and unit is replaced.",
            r#"{"account": "agent:coder", "window": "day", "limit": "5", "dry_run": true}"#,
        ),
        set,
    )?;
    table.add(
        method(
            "budget.top_up",
            "Raises the limits of an account for a while.",
            r#"{"account": "tenant:acme", "amount": "20", "until": "7d", "reason": "a launch", "dry_run": true}"#,
        ),
        top_up,
    )?;
    table.add(
        method(
            "rate.set",
            "Sets rates of an account or of keys; of a runtime rule for the same one those that are not named stay.",
            r#"{"account": "agent:coder", "requests_per_minute": 60, "dry_run": true}"#,
        ),
        rate,
    )
}

/// A wish to replace a rule that was found, or to make one.
fn over(
    in_force: &InForce,
    call: &Call,
    list: &str,
    fields: &[(&str, &str)],
    keep: bool,
    value: &Map<String, Value>,
) -> Wish {
    let known = found(in_force, list, call.caller.tenant.as_deref(), fields);
    let mut merged = match known.and_then(|known| known.value.as_object()) {
        Some(before) if keep => before.clone(),
        _ => Map::new(),
    };
    merged.extend(value.clone());
    Wish {
        id: known.map(|known| known.id),
        list: list.to_owned(),
        value: Some(Value::Object(merged)),
        ..Wish::default()
    }
}

fn set(state: &ControlState, call: &Call, asked: wire::BudgetSetParams) -> Result<wire::RuleChanged, RpcError> {
    let (which, named) = one_of(&[
        ("account", &asked.account),
        ("api_key_pattern", &asked.api_key_pattern),
        ("tenant", &asked.tenant),
    ])?;
    needed("window", &asked.window)?;
    if asked.limit.is_null() {
        return Err(Refused::unfit("limit", "is missing").into());
    }
    let expires_ms = ends_at(&asked.expires, decision_ms(state))?;
    let mut value = Map::new();
    if which == "api_key_pattern" {
        let field = key_field(&asked)?;
        value.insert("api_key_pattern".to_owned(), named.into());
        value.insert(field.to_owned(), asked.limit.clone());
        let action = if asked.action.is_empty() {
            "block"
        } else {
            &asked.action
        };
        value.insert("action".to_owned(), action.into());
        if let Some(soft) = asked.soft.first() {
            value.insert("soft_limit_pct".to_owned(), (*soft).into());
        }
        let renamed = [(field, "limit"), ("soft_limit_pct", "soft")];
        return change(state, call, asked.dry_run, &mut |in_force| {
            let same = [("api_key_pattern", named), ("tenant_id", "")];
            Ok(vec![Wish {
                expires_ms,
                note: asked.note.clone(),
                if_version: asked.if_version,
                ..over(in_force, call, "budget.rules", &same, true, &value)
            }])
        })
        .map_err(|error| at_parameter(error, &renamed));
    }
    let account = match which {
        "tenant" => format!("tenant:{named}"),
        _ => account_of(state, &call.caller, "account", named)?,
    };
    put(&mut value, "account", &account);
    put(&mut value, "window", &asked.window);
    value.insert("limit".to_owned(), asked.limit.clone());
    put(&mut value, "unit", &asked.unit);
    put(&mut value, "action", &asked.action);
    put(&mut value, "zone", &asked.zone);
    if !asked.soft.is_empty() {
        value.insert("soft".to_owned(), asked.soft.clone().into());
    }
    let unit = if asked.unit.is_empty() { "usd" } else { &asked.unit };
    let limit = SetLimit {
        account: &account,
        window: &asked.window,
        unit,
        limit: &asked.limit,
        at_ms: decision_ms(state),
    };
    let plan = &mut |in_force: &InForce| {
        let same = [("account", account.as_str()), ("window", &asked.window), ("unit", unit)];
        Ok(vec![Wish {
            expires_ms,
            note: asked.note.clone(),
            if_version: asked.if_version,
            ..over(in_force, call, "budget.limits", &same, false, &value)
        }])
    };
    let mut binds = None;
    let look = &mut |before: &InForce, after: &PolicySet| {
        if asked.dry_run {
            binds = binding(state, (before, after), (&account, &asked.window, unit), None);
        }
        Ok(limit.stricter(after))
    };
    let changed = change_seen(state, call, asked.dry_run, plan, Some(look))
        .map_err(|error| at_parameter(error, &[("account", which)]))?;
    Ok(with_after(state, call, (&account, &asked.window, unit), binds, changed))
}

/// An account, the name of a window and that of a unit.
type Named<'a> = (&'a str, &'a str, &'a str);

fn which<'a>((account, window, unit): Named<'a>) -> Option<Which<'a>> {
    Some(Which {
        account,
        window: Window::ALL.into_iter().find(|known| known.name() == window)?,
        unit: Unit::from_name(unit)?,
    })
}

/// The limit that will bind on an account. Its key, where it is one's, is known by what its calls were given last.
fn binding(
    state: &ControlState,
    (before, after): (&InForce, &PolicySet),
    named: Named<'_>,
    ends_ms: Option<i64>,
) -> Option<AskedLimit> {
    let which = which(named)?;
    let now_ms = state.ledger.now_ms();
    let was = Asked::of(&before.policies, before, None, now_ms)?;
    let limits = state.ledger.requested_limits(which.account).into_iter();
    let limits: Vec<i64> = limits
        .filter(|limit| limit.window == which.window && limit.unit == which.unit)
        .map(|limit| limit.limit)
        .collect();
    Asked::of(after, before, ends_ms, now_ms)?.binding(which, |key| was.gives(which, key, &limits))
}

fn with_after(
    state: &ControlState,
    call: &Call,
    named: Named<'_>,
    binds: Option<AskedLimit>,
    mut changed: wire::RuleChanged,
) -> wire::RuleChanged {
    let binds = binds.zip(which(named));
    changed.after = binds.and_then(|(asked, which)| stands_after(state, &call.caller, which, &asked));
    changed
}

/// The limit of a rule over keys, which has but two.
fn key_field(asked: &wire::BudgetSetParams) -> Result<&'static str, RpcError> {
    let only = |path: &'static str, text: &str| Err(Refused::unfit(path, text).into());
    match (asked.window.as_str(), asked.unit.as_str(), asked.zone.as_str()) {
        (_, _, zone) if !zone.is_empty() => only("zone", "is UTC for keys: leave it out, or name an account"),
        (_, unit, _) if !matches!(unit, "" | "usd") => only("unit", "is usd for keys: name an account for another"),
        ("day", ..) => Ok("daily_limit_usd"),
        ("month", ..) => Ok("monthly_limit_usd"),
        _ => only("window", "is day or month for keys: name an account for another"),
    }
}

fn top_up(state: &ControlState, call: &Call, asked: wire::BudgetTopUpParams) -> Result<wire::RuleChanged, RpcError> {
    let (which, named) = one_of(&[("account", &asked.account), ("api_key_pattern", &asked.api_key_pattern)])?;
    if asked.amount.is_null() {
        return Err(Refused::unfit("amount", "is missing").into());
    }
    needed("until", &asked.until)?;
    let now_ms = decision_ms(state);
    let until_ms = moment("until", &asked.until, now_ms)?;
    let named = &match which {
        "account" => account_of(state, &call.caller, which, named)?,
        _ => named.to_owned(),
    };
    let mut value = Map::new();
    put(&mut value, which, named);
    value.insert("amount".to_owned(), asked.amount.clone());
    put(&mut value, "window", &asked.window);
    put(&mut value, "unit", &asked.unit);
    let mut from_ms = now_ms;
    if !asked.from.is_empty() {
        from_ms = moment("from", &asked.from, now_ms)?;
        put(&mut value, "from", &rfc3339_ms(from_ms));
    }
    put(&mut value, "until", &rfc3339_ms(until_ms));
    if until_ms <= now_ms {
        return Err(Refused::unfit("until", "is not in the future").into());
    }
    let top_up = TopUp {
        path: which,
        named,
        at_ms: from_ms.max(now_ms),
    };
    let plan = &mut |_: &InForce| {
        Ok(vec![Wish {
            list: "budget.top_ups".to_owned(),
            value: Some(Value::Object(value.clone())),
            // It has nothing more to say then.
            expires_ms: Some(until_ms),
            note: asked.reason.clone(),
            ..Wish::default()
        }])
    };
    let unit = if asked.unit.is_empty() { "usd" } else { &asked.unit };
    let named_limit = (named.as_str(), asked.window.as_str(), unit);
    let mut binds = None;
    let look = &mut |before: &InForce, after: &PolicySet| {
        if asked.dry_run && which == "account" {
            binds = binding(state, (before, after), named_limit, Some(until_ms));
        }
        top_up.raises_something(before, after).map(|()| None)
    };
    let changed =
        change_seen(state, call, asked.dry_run, plan, Some(look)).map_err(|error| at_parameter(error, &[]))?;
    Ok(with_after(state, call, named_limit, binds, changed))
}

/// A time, a date (its first moment in UTC), or a time span from now on.
fn moment(name: &'static str, text: &str, now_ms: i64) -> Result<i64, RpcError> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at.as_millisecond());
    }
    let date = text.parse::<jiff::civil::Date>().ok();
    if let Some(at) = date.and_then(|date| date.to_zoned(TimeZone::UTC).ok()) {
        return Ok(at.timestamp().as_millisecond());
    }
    match ends_at(text, now_ms) {
        Ok(Some(at_ms)) => Ok(at_ms),
        _ => Err(Refused::unfit(name, "is no RFC 3339 time, no date, and no time span such as 90m or 7d").into()),
    }
}

fn rate(state: &ControlState, call: &Call, asked: wire::RateSetParams) -> Result<wire::RuleChanged, RpcError> {
    let (which, named) = one_of(&[("account", &asked.account), ("api_key_pattern", &asked.api_key_pattern)])?;
    let expires_ms = ends_at(&asked.expires, decision_ms(state))?;
    let mut value = Map::new();
    let rates = [
        ("requests_per_second", asked.requests_per_second),
        ("requests_per_minute", asked.requests_per_minute),
        ("requests_per_hour", asked.requests_per_hour),
        ("requests_per_day", asked.requests_per_day),
        ("tokens_per_minute", asked.tokens_per_minute),
        ("tokens_per_hour", asked.tokens_per_hour),
        ("tokens_per_day", asked.tokens_per_day),
        ("parallel", asked.parallel),
    ];
    for (name, rate) in rates {
        value.extend(rate.map(|rate| (name.to_owned(), rate.into())));
    }
    if value.is_empty() {
        let names: Vec<&str> = rates.iter().map(|(name, _)| *name).collect();
        return Err(Refused::unfit(names.join(" or "), "is missing").into());
    }
    let named = &match which {
        "account" => account_of(state, &call.caller, which, named)?,
        _ => named.to_owned(),
    };
    put(&mut value, which, named);
    let list = match which {
        "account" => "rate_limit.limits",
        _ => "rate_limit.rules",
    };
    change(state, call, asked.dry_run, &mut |in_force| {
        Ok(vec![Wish {
            expires_ms,
            note: asked.note.clone(),
            if_version: asked.if_version,
            ..over(in_force, call, list, &[(which, named)], true, &value)
        }])
    })
    .map_err(|error| at_parameter(error, &[]))
}
