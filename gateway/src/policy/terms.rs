//! Limits that were read and checked once, at load, to be put on an account by each call: `limits(list)`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use agentledger_ledger::{Bound, Limit, Mode, Name, Unit, Usd, Window, Zone};
use mlua::{Error as LuaError, Function, Lua, MetaMethod, Table, UserData, UserDataMethods, Value};

use super::decimal::{BadNumber, ppm_of_number};
use super::facts::Shared;
use super::intent::{Intent, IntentCollector};
use super::read::{At, count, limit, list, name_text, number, required_text, wrong};
use super::verdict::{self, RequestedBound, Thresholds};
use super::zones::Zones;
use crate::rates::{Parallel, Per, Rate};

/// Limits that one list may have.
const LIMITS_MAX: usize = 64;
/// Thresholds that one budget may have.
const THRESHOLDS_MAX: usize = 8;

/// A limit without its account.
#[derive(Clone, Debug)]
pub(super) enum Term {
    Budget(Budget),
    Rate { per: Per, unit: Unit, limit: u64 },
    Parallel { limit: u64 },
}

#[derive(Clone, Debug)]
pub(super) struct Budget {
    window: Window,
    limit: Limit,
    mode: Mode,
    clamps: bool,
    soft: Thresholds,
    /// `None`: the zone of the call.
    zone: Option<Zone>,
}

/// The fields of a [`Budget`] as Lua has them: window, limit, unit, soft, action, zone.
pub(super) type BudgetFields = (Value, Value, Value, Value, Value, Value);

pub(super) fn read_budget(zones: &Zones, at: At, fields: &BudgetFields) -> Result<Term, LuaError> {
    let (window, limit_value, unit, soft, action, zone) = fields;
    let window = Window::from_name(&name_text(at, "budget.window", window)?)
        .ok_or_else(|| wrong(at, "budget.window", "must be minute, hour, day, week, month or total"))?;
    let unit = match unit {
        Value::Nil => Unit::Usd,
        other => Unit::from_name(&name_text(at, "budget.unit", other)?)
            .ok_or_else(|| wrong(at, "budget.unit", "must be usd, tokens or requests"))?,
    };
    let (mode, clamps) = match action {
        Value::Nil => (Mode::Hard, false),
        other => match &*required_text(at, "budget.action", other)?.as_bytes() {
            b"block" => (Mode::Hard, false),
            b"clamp" => (Mode::Hard, true),
            b"warn" => (Mode::Watch, false),
            _ => return Err(wrong(at, "budget.action", "must be block, clamp or warn")),
        },
    };
    let zone = match zone {
        Value::Nil => None,
        other => {
            let zone = name_text(at, "budget.zone", other)?;
            Some(zones.named(&zone).map_err(|why| wrong(at, "budget.zone", why))?)
        }
    };
    Ok(Term::Budget(Budget {
        window,
        limit: limit(at, "budget.limit", limit_value, unit)?,
        mode,
        clamps,
        soft: thresholds(at, soft)?,
        zone,
    }))
}

/// A share, or a list of shares.
fn thresholds(at: At, soft: &Value) -> Result<Thresholds, LuaError> {
    let share = |value: &Value| match number(value) {
        Some(share) => ppm_of_number(share).map_err(|bad| match bad {
            BadNumber::TooLarge(_) => wrong(at, "budget.soft", "is above 1: write 0.8 for 80 %"),
            other => wrong(at, "budget.soft", other),
        }),
        None => Err(wrong(
            at,
            "budget.soft",
            format_args!("must be a number or a list of numbers, not a {}", value.type_name()),
        )),
    };
    match soft {
        Value::Nil => Ok(Thresholds::default()),
        Value::Table(table) if table.raw_len() == 0 => Ok(Thresholds::default()),
        Value::Table(_) => {
            let shares = list(at, "budget.soft", soft, THRESHOLDS_MAX)?;
            let shares: Result<Vec<u32>, LuaError> = shares.iter().map(share).collect();
            Ok(Thresholds::new(shares?))
        }
        one => Ok(Thresholds::new(vec![share(one)?])),
    }
}

/// `per`, `limit` and `unit` of a rate.
pub(super) fn read_rate(at: At, per: &Value, limit: &Value, unit: &Value) -> Result<Term, LuaError> {
    let per = Per::from_name(&name_text(at, "rate.per", per)?)
        .ok_or_else(|| wrong(at, "rate.per", "must be second, minute, hour or day"))?;
    let unit = match unit {
        Value::Nil => Unit::Requests,
        other => match Unit::from_name(&name_text(at, "rate.unit", other)?) {
            Some(unit @ (Unit::Requests | Unit::Tokens)) => unit,
            _ => return Err(wrong(at, "rate.unit", "must be requests or tokens")),
        },
    };
    Ok(Term::Rate {
        per,
        unit,
        limit: count(at, "rate.limit", limit, unit)?,
    })
}

pub(super) fn read_parallel(at: At, field: &str, limit: &Value) -> Result<Term, LuaError> {
    Ok(Term::Parallel {
        limit: count(at, field, limit, Unit::Requests)?,
    })
}

impl Term {
    /// The limit on an account, as an intent of the policy that is running.
    pub fn on(&self, at: At, account: Name, shared: &Shared, policy: &Name) -> Result<Intent, LuaError> {
        let policy = Name::clone(policy);
        Ok(match self {
            Term::Budget(budget) => {
                let zone = match &budget.zone {
                    Some(zone) => zone.clone(),
                    None => shared.zone()?,
                };
                let bound = Bound::new(account, budget.window, zone, budget.limit, budget.mode);
                Intent::Bound(RequestedBound {
                    bound: bound.map_err(|bad| wrong(at, "budget", bad))?,
                    soft: budget.soft.clone(),
                    clamps: budget.clamps,
                    policy,
                })
            }
            Term::Rate { per, unit, limit } => Intent::Rate(verdict::Requested {
                requested: Rate {
                    account,
                    per: *per,
                    unit: *unit,
                    limit: *limit,
                },
                policy,
            }),
            Term::Parallel { limit } => Intent::Parallel(verdict::Requested {
                requested: Parallel { account, limit: *limit },
                policy,
            }),
        })
    }
}

/// What `limits(list)` gives. `:on(account)` is an intent, worth one for each of its limits, without a table made or a
/// text read on the call: Lua gets a mere number for it.
pub(super) struct Limits {
    pub terms: Arc<[Term]>,
    pub shared: Rc<Shared>,
    pub collector: Rc<RefCell<IntentCollector>>,
}

impl UserData for Limits {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("on", |_, this, (account, top_ups): (Value, Option<Vec<Table>>)| {
            let account = this.shared.account(At("limits", 1), "budget.account", &account)?;
            let terms = match top_ups {
                Some(top_ups) if !top_ups.is_empty() => topped_up(&this.terms, &top_ups)?,
                _ => Arc::clone(&this.terms),
            };
            this.collector.borrow_mut().note(terms, account)
        });
        methods.add_meta_method(MetaMethod::Len, |_, this, ()| Ok(this.terms.len()));
    }
}

/// Fields of the three kinds of limits that a list may have, told apart by the first.
const BUDGET_NAMES: [&str; 7] = ["window", "limit", "unit", "soft", "action", "zone", "plus"];
/// Amounts that one budget may have on top of its limit.
const TOP_UPS_MAX: usize = 64;
const RATE_NAMES: [&str; 3] = ["per", "limit", "unit"];
const PARALLEL_NAMES: [&str; 1] = ["parallel"];

/// The global `limits`.
pub(super) fn limits_function(
    lua: &Lua,
    shared: &Rc<Shared>,
    collector: &Rc<RefCell<IntentCollector>>,
    loading: Rc<Cell<bool>>,
) -> Result<Function, LuaError> {
    let (shared, collector) = (Rc::clone(shared), Rc::clone(collector));
    lua.create_function(move |_, list: Vec<Table>| {
        if !loading.get() {
            return Err(LuaError::runtime("limits: check limits in setup, not during a call"));
        }
        if list.len() > LIMITS_MAX {
            return Err(LuaError::runtime(format!("limits: more than {LIMITS_MAX}")));
        }
        let mut terms = Vec::with_capacity(list.len());
        for (at, fields) in (1..).zip(&list) {
            terms.push(read_term(&shared.zones, At("limits", at), fields)?);
        }
        Ok(Limits {
            terms: terms.into(),
            shared: Rc::clone(&shared),
            collector: Rc::clone(&collector),
        })
    })
}

/// A budget with amounts on top of its limit, added exactly.
fn raised(at: At, term: Term, plus: &Value) -> Result<Term, LuaError> {
    let (Term::Budget(mut budget), Value::Table(amounts)) = (term.clone(), plus) else {
        return match plus {
            Value::Nil => Ok(term),
            _ => Err(wrong(at, "budget.plus", "must be a list of amounts")),
        };
    };
    if amounts.raw_len() == 0 {
        return Ok(term);
    }
    for amount in list(at, "budget.plus", plus, TOP_UPS_MAX)? {
        raise(at, &mut budget, &amount)?;
    }
    Ok(Term::Budget(budget))
}

/// Adds an amount to the limit, exactly.
fn raise(at: At, budget: &mut Budget, amount: &Value) -> Result<(), LuaError> {
    let unit = budget.limit.unit();
    let more = limit(at, "budget.plus", amount, unit)?.count();
    let sum = u64::try_from(budget.limit.count().saturating_add(more)).unwrap_or_default();
    let raised = match unit {
        Unit::Usd => Limit::usd(Usd::from_nanos(i64::try_from(sum).unwrap_or(i64::MAX))),
        Unit::Tokens => Limit::tokens(sum),
        Unit::Requests => Limit::requests(sum),
    };
    budget.limit = raised.map_err(|bad| wrong(at, "budget.plus", bad))?;
    Ok(())
}

/// Budgets with the top-ups that are of their unit, and of their window where one is named; other limits stay as they are.
fn topped_up(terms: &[Term], top_ups: &[Table]) -> Result<Arc<[Term]>, LuaError> {
    let mut raised_terms = terms.to_vec();
    for (place, top_up) in (1..).zip(top_ups) {
        let at = At("top_ups", place);
        let named = |name: &'static str| match top_up.raw_get::<Value>(name)? {
            Value::Nil => Ok(None),
            value => name_text(at, name, &value).map(|text| Some(text.to_string())),
        };
        let (window, unit) = (named("window")?, named("unit")?);
        let amount: Value = top_up.raw_get("amount")?;
        for term in &mut raised_terms {
            let Term::Budget(budget) = term else { continue };
            let fits = window.as_deref().is_none_or(|window| window == budget.window.name())
                && unit.as_deref().unwrap_or("usd") == budget.limit.unit().name();
            if fits {
                raise(at, budget, &amount)?;
            }
        }
    }
    Ok(raised_terms.into())
}

fn read_term(zones: &Zones, at: At, fields: &Table) -> Result<Term, LuaError> {
    let given = |name: &str| fields.raw_get::<Value>(name);
    let (kind, names): (&str, &[&str]) = if !given("per")?.is_nil() {
        ("rate", &RATE_NAMES)
    } else if !given("parallel")?.is_nil() {
        ("parallel", &PARALLEL_NAMES)
    } else {
        ("budget", &BUDGET_NAMES)
    };
    for pair in fields.pairs::<Value, Value>() {
        let name = pair?.0.to_string()?;
        if !names.contains(&name.as_str()) {
            return Err(wrong(at, kind, format_args!("has no field {name} here")));
        }
    }
    match kind {
        "rate" => read_rate(at, &given("per")?, &given("limit")?, &given("unit")?),
        "parallel" => read_parallel(at, "parallel", &given("parallel")?),
        _ => {
            let [window, limit, unit, soft, action, zone, plus] = BUDGET_NAMES.map(given);
            let term = read_budget(zones, at, &(window?, limit?, unit?, soft?, action?, zone?))?;
            raised(at, term, &plus?)
        }
    }
}
