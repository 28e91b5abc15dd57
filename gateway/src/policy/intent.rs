//! The native end of the intents: each field is checked here, once, with an error that names intent and field.
//! What passes the checks is gathered in [`Asked`] and merged into the Verdict after the policy has returned.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use agentledger_ledger::{Bound, Limit, Mode, Name, Unit, Usd, Window, Zone};
use http::HeaderName;
use mlua::{
    Error as LuaError, Function, LightUserData, Lua, LuaString, MetaMethod, Table, UserData, UserDataMethods, Value,
};

use super::decimal::{BadNumber, count_of_number, count_of_text, nanos_of_number, nanos_of_text, ppm_of_number};
use super::facts::Shared;
use super::verdict::{AskedBound, Deny, Verdict, check_account};
use super::zones::Zones;

/// Intents that one policy may ask for on one call.
const INTENTS_MAX: usize = 256;
/// Longest message of a refusal, in bytes.
const MESSAGE_BYTES_MAX: usize = 2_048;
const CODE_BYTES_MAX: usize = 64;
const HEADER_VALUE_BYTES_MAX: usize = 1_024;
/// Longest `retry_after`, in seconds: a leap year.
const RETRY_AFTER_S_MAX: f64 = 366.0 * 86_400.0;
/// Headers that frame the answer or belong to one connection: ours alone.
const HEADERS_REFUSED: [&str; 11] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "keep-alive",
    "proxy-authenticate",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What one policy asked for on one call, in its order.
pub(super) enum Intent {
    Allow,
    Deny(Deny),
    Bound(AskedBound),
    Clamp(u64),
    Header(String, String),
}

/// What the policy that is running has asked for so far, and its name.
#[derive(Default)]
pub(super) struct Asked {
    pub intents: Vec<Intent>,
    pub policy: Option<Name>,
    /// What `limits(…):on(account)` made in this run; the number that Lua has for it is the place here, and the run.
    noted: Vec<(Rc<[Terms]>, Name)>,
    run: usize,
}

impl Asked {
    /// Forgets all of the run before and begins another.
    pub fn begin(&mut self, policy: &Name) {
        self.intents.clear();
        self.noted.clear();
        self.policy = Some(Name::clone(policy));
        self.run = self.run.wrapping_add(1);
    }

    fn note(&mut self, terms: Rc<[Terms]>, account: Name) -> Result<LightUserData, LuaError> {
        if self.policy.is_none() {
            return Err(LuaError::runtime(
                "limits: an account is named during a call, not at load",
            ));
        }
        if self.noted.len() >= INTENTS_MAX {
            return Err(LuaError::runtime(format!("more than {INTENTS_MAX} intents")));
        }
        let number = self.run.wrapping_mul(INTENTS_MAX).wrapping_add(self.noted.len());
        self.noted.push((terms, account));
        Ok(LightUserData(std::ptr::without_provenance_mut(number)))
    }

    /// What was noted under the number, if it is one of this run.
    fn noted(&self, number: LightUserData) -> Option<(Rc<[Terms]>, Name)> {
        let place = number.0.addr().checked_sub(self.run.wrapping_mul(INTENTS_MAX))?;
        self.noted
            .get(place)
            .map(|(terms, account)| (Rc::clone(terms), Name::clone(account)))
    }

    fn add(&mut self, intent: Intent) -> Result<(), LuaError> {
        if self.intents.len() >= INTENTS_MAX {
            return Err(LuaError::runtime(format!("more than {INTENTS_MAX} intents")));
        }
        self.intents.push(intent);
        Ok(())
    }

    /// Moves what was asked into the verdict. A deny is the policy's last word, whatever stood beside it.
    pub fn merge_into(&mut self, verdict: &mut Verdict) {
        if let (Some(policy), false) = (&self.policy, self.intents.is_empty()) {
            verdict.spoke.push(Name::clone(policy));
        }
        for intent in self.intents.drain(..) {
            match intent {
                Intent::Allow => {}
                Intent::Deny(deny) if verdict.deny.is_none() => verdict.deny = Some(deny),
                Intent::Deny(_) => {}
                Intent::Bound(bound) => verdict.add_bound(bound),
                Intent::Clamp(max_output) => verdict.add_clamp(max_output),
                Intent::Header(name, value) => verdict.add_header(name, value),
            }
        }
    }
}

/// Which intent (or which item of a list) an error is about, counted from 1.
#[derive(Clone, Copy)]
struct At(&'static str, i64);

const fn intent(at: i64) -> At {
    At("intent", at)
}

fn wrong(at: At, field: &str, why: impl std::fmt::Display) -> LuaError {
    LuaError::runtime(format!("{} {}: {field} {why}", at.0, at.1))
}

/// A required text field.
fn required_text(at: At, field: &str, value: &Value) -> Result<LuaString, LuaError> {
    match value {
        Value::String(found) => Ok(found.clone()),
        Value::Nil => Err(wrong(at, field, "is missing")),
        other => Err(wrong(
            at,
            field,
            format_args!("must be text, not a {}", other.type_name()),
        )),
    }
}

/// A required text field as UTF-8.
fn name_text(at: At, field: &str, value: &Value) -> Result<mlua::BorrowedStr, LuaError> {
    required_text(at, field, value)?
        .to_str()
        .map_err(|_| wrong(at, field, "is not valid UTF-8"))
}

fn plain_text(at: At, field: &str, value: &Value, bytes_max: usize) -> Result<Option<String>, LuaError> {
    if value.is_nil() {
        return Ok(None);
    }
    let found = required_text(at, field, value)?;
    let found = found.to_str().map_err(|_| wrong(at, field, "is not valid UTF-8"))?;
    if found.len() > bytes_max {
        return Err(wrong(at, field, format_args!("is longer than {bytes_max} bytes")));
    }
    if found.chars().any(char::is_control) {
        return Err(wrong(at, field, "has control characters"));
    }
    Ok(Some(found.to_owned()))
}

/// Text for people, in which names that clients chose may stand: what does not belong is replaced, what is too long is
/// cut. A client must not be able to make a policy fail.
fn people_text(at: At, field: &str, value: &Value, bytes_max: usize) -> Result<Option<String>, LuaError> {
    if value.is_nil() {
        return Ok(None);
    }
    let found = required_text(at, field, value)?.to_string_lossy();
    let mut text: String = found
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    text.truncate(text.floor_char_boundary(bytes_max));
    Ok(Some(text))
}

/// A Lua number, whichever of mlua's two forms it comes in.
#[allow(clippy::cast_precision_loss)]
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => Some(*number),
        Value::Integer(number) => Some(*number as f64),
        _ => None,
    }
}

fn limit(at: At, field: &str, value: &Value, unit: Unit) -> Result<Limit, LuaError> {
    let read = if let Some(number) = number(value) {
        if unit == Unit::Usd {
            nanos_of_number(number)
        } else {
            count_of_number(number)
        }
    } else if let Value::String(found) = value {
        let found = found.to_str().map_err(|_| wrong(at, field, BadNumber::NotDecimal))?;
        if unit == Unit::Usd {
            nanos_of_text(&found)
        } else {
            count_of_text(&found)
        }
    } else if value.is_nil() {
        return Err(wrong(at, field, "is missing"));
    } else {
        return Err(wrong(
            at,
            field,
            format_args!("must be a number or decimal text, not a {}", value.type_name()),
        ));
    };
    let count = read.map_err(|bad| wrong(at, field, bad))?;
    let counted = u64::try_from(count).unwrap_or_default();
    let limit = match unit {
        Unit::Usd => Limit::usd(Usd::from_nanos(count)),
        Unit::Tokens => Limit::tokens(counted),
        Unit::Requests => Limit::requests(counted),
    };
    limit.map_err(|bad| wrong(at, field, bad))
}

fn whole_number(at: At, field: &str, value: &Value, low: f64, high: f64) -> Result<f64, LuaError> {
    match number(value) {
        Some(found) if found.fract() == 0.0 && (low..=high).contains(&found) => Ok(found),
        Some(_) => Err(wrong(
            at,
            field,
            format_args!("must be a whole number from {low} to {high}"),
        )),
        None if value.is_nil() => Err(wrong(at, field, "is missing")),
        None => Err(wrong(
            at,
            field,
            format_args!("must be a number, not a {}", value.type_name()),
        )),
    }
}

/// What a budget says beside its account.
struct Terms {
    window: Window,
    limit: Limit,
    mode: Mode,
    soft_ppm: u32,
    /// `None`: the zone of the call.
    zone: Option<Zone>,
}

/// The fields of [`Terms`] as Lua has them: window, limit, unit, soft, action, zone.
type TermFields = (Value, Value, Value, Value, Value, Value);

fn read_terms(zones: &Zones, at: At, fields: &TermFields) -> Result<Terms, LuaError> {
    let (window, limit_value, unit, soft, action, zone) = fields;
    let window = Window::from_name(&name_text(at, "budget.window", window)?)
        .ok_or_else(|| wrong(at, "budget.window", "must be minute, hour, day, week, month or total"))?;
    let unit = match unit {
        Value::Nil => Unit::Usd,
        other => Unit::from_name(&name_text(at, "budget.unit", other)?)
            .ok_or_else(|| wrong(at, "budget.unit", "must be usd, tokens or requests"))?,
    };
    let mode = match action {
        Value::Nil => Mode::Hard,
        other => match &*required_text(at, "budget.action", other)?.as_bytes() {
            b"block" => Mode::Hard,
            b"warn" => Mode::Watch,
            _ => return Err(wrong(at, "budget.action", "must be block or warn")),
        },
    };
    let zone = match zone {
        Value::Nil => None,
        other => {
            let zone = name_text(at, "budget.zone", other)?;
            Some(zones.named(&zone).map_err(|why| wrong(at, "budget.zone", why))?)
        }
    };
    let limit = limit(at, "budget.limit", limit_value, unit)?;
    Ok(Terms {
        window,
        limit,
        mode,
        soft_ppm: soft_ppm(at, soft)?,
        zone,
    })
}

fn soft_ppm(at: At, soft: &Value) -> Result<u32, LuaError> {
    match (soft, number(soft)) {
        (Value::Nil, _) => Ok(0),
        (_, Some(share)) => ppm_of_number(share).map_err(|bad| match bad {
            BadNumber::TooLarge(_) => wrong(at, "budget.soft", "is above 1: write 0.8 for 80 %"),
            other => wrong(at, "budget.soft", other),
        }),
        (other, None) => Err(wrong(
            at,
            "budget.soft",
            format_args!("must be a number, not a {}", other.type_name()),
        )),
    }
}

fn account_name(at: At, account: &Value) -> Result<Name, LuaError> {
    let account = name_text(at, "budget.account", account)?;
    check_account(&account).map_err(|why| wrong(at, "budget.account", why))?;
    Ok(Arc::from(&*account))
}

impl Terms {
    fn on(&self, at: At, account: Name, shared: &Shared, policy: &Name) -> Result<AskedBound, LuaError> {
        let zone = match &self.zone {
            Some(zone) => zone.clone(),
            None => shared.zone()?,
        };
        let bound = Bound::new(account, self.window, zone, self.limit, self.mode);
        Ok(AskedBound {
            bound: bound.map_err(|bad| wrong(at, "budget", bad))?,
            soft_ppm: self.soft_ppm,
            policy: Name::clone(policy),
        })
    }
}

/// What `limits(list)` gives: terms that were checked when the policy loaded. `:on(account)` is an intent, worth a budget
/// for each of them, without a table made or a text read on the call: Lua gets a mere number for it.
struct Limits(Rc<[Terms]>, Rc<RefCell<Asked>>);

impl UserData for Limits {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("on", |_, this, account: Value| {
            let account = account_name(At("limits", 1), &account)?;
            this.1.borrow_mut().note(Rc::clone(&this.0), account)
        });
        methods.add_meta_method(MetaMethod::Len, |_, this, ()| Ok(this.0.len()));
    }
}

/// Budgets that one list of limits may have.
const LIMITS_MAX: usize = 64;
const TERM_NAMES: [&str; 6] = ["window", "limit", "unit", "soft", "action", "zone"];

/// The global `limits`.
pub(super) fn limits_function(
    lua: &Lua,
    shared: &Rc<Shared>,
    asked: &Rc<RefCell<Asked>>,
    loading: Rc<Cell<bool>>,
) -> Result<Function, LuaError> {
    let (shared, asked) = (Rc::clone(shared), Rc::clone(asked));
    lua.create_function(move |_, list: Vec<Table>| {
        if !loading.get() {
            return Err(LuaError::runtime("limits: check limits in setup, not during a call"));
        }
        if list.len() > LIMITS_MAX {
            return Err(LuaError::runtime(format!("limits: more than {LIMITS_MAX}")));
        }
        let mut terms = Vec::with_capacity(list.len());
        for (at, fields) in (1..).zip(&list) {
            let at = At("limits", at);
            for pair in fields.pairs::<Value, Value>() {
                let name = pair?.0.to_string()?;
                if !TERM_NAMES.contains(&name.as_str()) {
                    return Err(wrong(at, "budget", format_args!("has no field {name} here")));
                }
            }
            let [window, limit, unit, soft, action, zone] = TERM_NAMES.map(|name| fields.raw_get::<Value>(name));
            terms.push(read_terms(
                &shared.zones,
                at,
                &(window?, limit?, unit?, soft?, action?, zone?),
            )?);
        }
        Ok(Limits(terms.into(), Rc::clone(&asked)))
    })
}

fn read_deny(policy: &Name, fields: &(i64, Value, Value, Value, Value)) -> Result<Deny, LuaError> {
    let (at, status, code, message, retry_after) = fields;
    let at = intent(*at);
    let status = if status.is_nil() {
        403.0
    } else {
        whole_number(at, "deny.status", status, 400.0, 599.0)?
    };
    let code = plain_text(at, "deny.code", code, CODE_BYTES_MAX)?.unwrap_or_else(|| "policy_denied".to_owned());
    let message = people_text(at, "deny.message", message, MESSAGE_BYTES_MAX)?;
    let retry_after = if retry_after.is_nil() {
        None
    } else {
        Some(whole_number(
            at,
            "deny.retry_after",
            retry_after,
            0.0,
            RETRY_AFTER_S_MAX,
        )?)
    };
    // Both are whole and within the ranges just checked.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Ok(Deny {
        policy: Name::clone(policy),
        status: status as u16,
        code,
        message: message.unwrap_or_else(|| format!("refused by policy {policy}")),
        retry_after: retry_after.map(|seconds| seconds as u32),
    })
}

fn read_header(at: At, name: &Value, value: &Value) -> Result<Intent, LuaError> {
    let name = required_text(at, "header.name", name)?;
    let name = HeaderName::from_bytes(&name.as_bytes()).map_err(|_| wrong(at, "header.name", "is no header name"))?;
    if HEADERS_REFUSED.contains(&name.as_str()) {
        return Err(wrong(
            at,
            "header.name",
            format_args!("{name} frames the answer and cannot be set"),
        ));
    }
    let value = required_text(at, "header.value", value)?;
    let value = value.to_string_lossy();
    if value.len() > HEADER_VALUE_BYTES_MAX {
        return Err(wrong(
            at,
            "header.value",
            format_args!("is longer than {HEADER_VALUE_BYTES_MAX} bytes"),
        ));
    }
    // Names that clients chose may stand in it: what no header may carry becomes a question mark.
    let value: String = value
        .chars()
        .map(|found| if matches!(found, ' '..='~') { found } else { '?' })
        .collect();
    Ok(Intent::Header(name.as_str().to_owned(), value))
}

/// The table of native functions that the prelude calls with the fields of each intent.
pub(super) fn host_table(lua: &Lua, shared: &Rc<Shared>, asked: &Rc<RefCell<Asked>>) -> Result<Table, LuaError> {
    fn policy(asked: &Asked) -> Result<Name, LuaError> {
        asked
            .policy
            .clone()
            .ok_or_else(|| LuaError::runtime("no policy is running"))
    }
    let host = lua.create_table()?;
    let (to, facts) = (Rc::clone(asked), Rc::clone(shared));
    type BudgetFields = (i64, Value, Value, Value, Value, Value, Value, Value);
    let budget = lua.create_function(move |_, fields: BudgetFields| {
        let (at, account, window, limit, unit, soft, action, zone) = fields;
        let mut asked = to.borrow_mut();
        let terms = read_terms(&facts.zones, intent(at), &(window, limit, unit, soft, action, zone))?;
        let bound = terms.on(
            intent(at),
            account_name(intent(at), &account)?,
            &facts,
            &policy(&asked)?,
        )?;
        asked.add(Intent::Bound(bound))
    })?;
    host.raw_set("budget", budget)?;
    let (to, facts) = (Rc::clone(asked), Rc::clone(shared));
    let limits = lua.create_function(move |_, (at, on): (i64, Value)| {
        let mut asked = to.borrow_mut();
        let noted = if let Value::LightUserData(number) = on {
            asked.noted(number)
        } else {
            None
        };
        let Some((terms, account)) = noted else {
            return Err(LuaError::runtime(format!(
                "intent {at} is none: it is a fact, a list of limits without an account, or of another call"
            )));
        };
        let policy = policy(&asked)?;
        for terms in terms.iter() {
            asked.add(Intent::Bound(terms.on(
                intent(at),
                Name::clone(&account),
                &facts,
                &policy,
            )?))?;
        }
        Ok(())
    })?;
    host.raw_set("limits", limits)?;
    let to = Rc::clone(asked);
    let deny = lua.create_function(move |_, fields: (i64, Value, Value, Value, Value)| {
        let mut asked = to.borrow_mut();
        let deny = read_deny(&policy(&asked)?, &fields)?;
        asked.add(Intent::Deny(deny))
    })?;
    host.raw_set("deny", deny)?;
    let to = Rc::clone(asked);
    let clamp = lua.create_function(move |_, (at, max_output): (i64, Value)| {
        let max_output = whole_number(intent(at), "clamp.max_output", &max_output, 1.0, f64::from(u32::MAX))?;
        // Whole, positive and below 2³² by the check.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        to.borrow_mut().add(Intent::Clamp(max_output as u64))
    })?;
    host.raw_set("clamp", clamp)?;
    let to = Rc::clone(asked);
    let header = lua.create_function(move |_, (at, name, value): (i64, Value, Value)| {
        to.borrow_mut().add(read_header(intent(at), &name, &value)?)
    })?;
    host.raw_set("header", header)?;
    let to = Rc::clone(asked);
    let allow = lua.create_function(move |_, _at: i64| to.borrow_mut().add(Intent::Allow))?;
    host.raw_set("allow", allow)?;
    Ok(host)
}
