//! The native end of the intents: each field is checked here, once, with an error that names intent and field.
//! What passes the checks is gathered in [`IntentCollector`] and merged into the Verdict after the policy has returned.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use agentledger_alerts::Severity;
use agentledger_ledger::{Name, UnitPrice};
use http::HeaderName;
use mlua::{Error as LuaError, LightUserData, Lua, Table, Value};

use super::facts::Shared;
use super::read::{
    At, field, intent, list, name_text, number, people_name, people_text, plain_text, required_text, whole_number,
    wrong,
};
use super::set::Phase;
use super::terms::{Term, read_budget, read_parallel, read_rate};
use super::verdict::{self, Binding, Deny, RequestedAlert, RequestedBound, Route, Verdict, When};
use crate::price::Unpriced;
use crate::rates::{Parallel, Rate};

/// Intents that one policy may ask for on one call.
const INTENTS_MAX: usize = 256;
/// Longest cooldown of an alert.
const COOLDOWN_MINS_MAX: f64 = 366.0 * 24.0 * 60.0;
/// Longest message of a refusal or an alert, in bytes.
const MESSAGE_BYTES_MAX: usize = 2_048;
const CODE_BYTES_MAX: usize = 64;
const HEADER_VALUE_BYTES_MAX: usize = 1_024;
/// Longest name of a tenant, user, agent, session or task that a policy binds, in bytes.
const BOUND_NAME_BYTES_MAX: usize = 256;
const TAG_NAME_BYTES_MAX: usize = 64;
const TAG_VALUE_BYTES_MAX: usize = 256;
const MODEL_BYTES_MAX: usize = 256;
const ALTERNATIVES_MAX: usize = 16;
const DETAILS_MAX: usize = 16;
/// Longest `retry_after`, in seconds: a leap year.
const RETRY_AFTER_S_MAX: f64 = 366.0 * 86_400.0;
/// Longest delay, in milliseconds: clients give up soon after.
const DELAY_MS_MAX: f64 = 60_000.0;
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
#[derive(Clone)]
pub(super) enum Intent {
    Allow,
    Deny(Deny),
    Bound(RequestedBound),
    Rate(verdict::Requested<Rate>),
    Parallel(verdict::Requested<Parallel>),
    Clamp(u64),
    Route(verdict::Requested<Route>),
    Delay(Duration),
    Tag(Name, Name),
    Header(String, String),
    Alert(RequestedAlert),
    Unpriced(verdict::Requested<Unpriced>),
    Bind(Binding),
}

impl Intent {
    const fn name(&self) -> &'static str {
        match self {
            Intent::Allow => "allow",
            Intent::Deny(_) => "deny",
            Intent::Bound(_) => "budget",
            Intent::Rate(_) => "rate",
            Intent::Parallel(_) => "parallel",
            Intent::Clamp(_) => "clamp",
            Intent::Route(_) => "route",
            Intent::Delay(_) => "delay",
            Intent::Tag(..) => "tag",
            Intent::Header(..) => "header",
            Intent::Alert(_) => "alert",
            Intent::Unpriced(_) => "unpriced",
            Intent::Bind(_) => "bind",
        }
    }

    /// What it takes, roughly: itself, and the texts that it owns.
    pub fn bytes(&self) -> usize {
        let texts = match self {
            Intent::Allow | Intent::Clamp(_) | Intent::Delay(_) | Intent::Unpriced(_) => 0,
            Intent::Deny(deny) => deny.code.len() + deny.message.len(),
            Intent::Bound(bound) => bound.bound.account().len() + size_of_val(bound.soft.as_slice()),
            Intent::Rate(rate) => rate.requested.account.len(),
            Intent::Parallel(limit) => limit.requested.account.len(),
            Intent::Route(route) => route.requested.alternatives.iter().map(|name| name.len() + 16).sum(),
            Intent::Tag(name, value) => name.len() + value.len(),
            Intent::Header(name, value) => name.len() + value.len(),
            Intent::Alert(alert) => {
                let details = alert.details.iter().map(|(name, value)| name.len() + value.len() + 48);
                alert.kind.len() + alert.message.len() + alert.about.len() + details.sum::<usize>()
            }
            Intent::Bind(binding) => {
                let Binding {
                    tenant,
                    zone: _,
                    agent,
                    session,
                    user,
                    task,
                } = binding;
                let names = [tenant, agent, session, user, task];
                names.into_iter().flatten().map(|name| name.len()).sum()
            }
        };
        size_of::<Intent>() + texts
    }

    /// Which phases may ask for it: before the answer everything but a binding, which comes first; afterwards nothing that
    /// would still need a request to act on.
    const fn belongs_in(&self, phase: Phase) -> bool {
        match (self, phase) {
            (Intent::Allow | Intent::Alert(_), _) => true,
            (Intent::Deny(_) | Intent::Tag(..), Phase::Tenant | Phase::Request) => true,
            (Intent::Bind(_), phase) => matches!(phase, Phase::Tenant),
            (_, phase) => matches!(phase, Phase::Request),
        }
    }
}

/// What the policy that is running has asked for so far, and its name.
#[derive(Default)]
pub(super) struct IntentCollector {
    intents: Vec<Intent>,
    /// The policy, and in which phase it runs.
    running: Option<(Name, Phase)>,
    /// It asked for what its phase does not have.
    pub misplaced: bool,
    /// What `limits(…):on(account)` made in this run; the number that Lua has for it is the place here, and the run.
    noted: Vec<(Arc<[Term]>, Name)>,
    run: usize,
}

impl IntentCollector {
    /// Forgets all of the run before and begins another.
    pub fn begin(&mut self, policy: &Name, phase: Phase) {
        self.intents.clear();
        self.noted.clear();
        self.misplaced = false;
        self.running = Some((Name::clone(policy), phase));
        self.run = self.run.wrapping_add(1);
    }

    /// What the run has asked for so far.
    pub fn intents(&self) -> &[Intent] {
        &self.intents
    }

    /// A run that is remembered: it asks for what it asked for before.
    pub fn repeat(&mut self, policy: &Name, phase: Phase, intents: &[Intent]) {
        self.begin(policy, phase);
        self.intents.extend_from_slice(intents);
    }

    fn policy(&self) -> Result<Name, LuaError> {
        let running = self.running.as_ref();
        running
            .map(|(policy, _)| Name::clone(policy))
            .ok_or_else(|| LuaError::runtime("no policy is running"))
    }

    pub fn note(&mut self, terms: Arc<[Term]>, account: Name) -> Result<LightUserData, LuaError> {
        if self.running.is_none() {
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
    fn noted(&self, number: LightUserData) -> Option<(Arc<[Term]>, Name)> {
        let place = number.0.addr().checked_sub(self.run.wrapping_mul(INTENTS_MAX))?;
        self.noted
            .get(place)
            .map(|(terms, account)| (Arc::clone(terms), Name::clone(account)))
    }

    fn add(&mut self, at: At, intent: Intent) -> Result<(), LuaError> {
        if self.intents.len() >= INTENTS_MAX {
            return Err(LuaError::runtime(format!("more than {INTENTS_MAX} intents")));
        }
        if let Some((_, phase)) = &self.running
            && !intent.belongs_in(*phase)
        {
            self.misplaced = true;
            let why = format!("cannot be asked for in {}", phase.name());
            return Err(wrong(at, intent.name(), why));
        }
        self.intents.push(intent);
        Ok(())
    }

    /// Moves what was asked into the verdict. A deny is the policy's last word, whatever stood beside it.
    pub fn merge_into(&mut self, verdict: &mut Verdict) {
        if let (Some((policy, _)), false) = (&self.running, self.intents.is_empty()) {
            verdict.policies_applied.push(Name::clone(policy));
        }
        for intent in self.intents.drain(..) {
            match intent {
                Intent::Allow => {}
                Intent::Deny(deny) if verdict.deny.is_none() => verdict.deny = Some(deny),
                Intent::Deny(_) => {}
                Intent::Bound(bound) => verdict.add_bound(bound),
                Intent::Rate(rate) => verdict.add_rate(rate),
                Intent::Parallel(parallel) => verdict.add_parallel(parallel),
                Intent::Clamp(max_output) => verdict.add_clamp(max_output),
                Intent::Route(route) => verdict.routes.push(route),
                Intent::Delay(delay) => verdict.delay = verdict.delay.max(delay),
                Intent::Tag(name, value) => verdict.add_tag(name, value),
                Intent::Header(name, value) => verdict.add_header(name, value),
                Intent::Alert(alert) => verdict.alerts.push(alert),
                Intent::Unpriced(unpriced) => {
                    verdict.unpriced.get_or_insert(unpriced);
                }
                Intent::Bind(binding) => verdict.binding.or(binding),
            }
        }
    }
}

type DenyFields = (i64, Value, Value, Value, Value);

fn read_deny(policy: Name, fields: &DenyFields) -> Result<Deny, LuaError> {
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
        status: status as u16,
        code,
        message: message.unwrap_or_else(|| format!("refused by policy {policy}")),
        retry_after: retry_after.map(|seconds| seconds as u32),
        policy,
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

fn read_route(at: At, policy: Name, fields: &Table) -> Result<Intent, LuaError> {
    let mut alternatives = Vec::new();
    for model in list(
        at,
        "route.alternatives",
        &field(fields, "alternatives")?,
        ALTERNATIVES_MAX,
    )? {
        let model = plain_text(at, "route.alternatives", &model, MODEL_BYTES_MAX)?.unwrap_or_default();
        if model.is_empty() {
            return Err(wrong(at, "route.alternatives", "has an empty name"));
        }
        alternatives.push(Name::from(model));
    }
    let when = match field(fields, "when")? {
        Value::Nil => When::Always,
        other => match &*required_text(at, "route.when", &other)?.as_bytes() {
            b"always" => When::Always,
            b"over_budget" => When::OverBudget,
            _ => return Err(wrong(at, "route.when", "must be always or over_budget")),
        },
    };
    Ok(Intent::Route(verdict::Requested {
        requested: Route { alternatives, when },
        policy,
    }))
}

/// Whole milliseconds of `seconds`, which may have a fraction.
fn read_delay(at: At, fields: &Table) -> Result<Intent, LuaError> {
    let seconds = field(fields, "seconds")?;
    let ms = match number(&seconds) {
        Some(seconds) if seconds >= 0.0 && seconds * 1_000.0 <= DELAY_MS_MAX => (seconds * 1_000.0).round(),
        Some(_) => return Err(wrong(at, "delay.seconds", "must be from 0 to 60")),
        None if seconds.is_nil() => return Err(wrong(at, "delay.seconds", "is missing")),
        None => {
            let why = format!("must be a number, not a {}", seconds.type_name());
            return Err(wrong(at, "delay.seconds", why));
        }
    };
    // Whole and from 0 to a minute by the check.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Ok(Intent::Delay(Duration::from_millis(ms as u64)))
}

fn read_tag(at: At, fields: &Table) -> Result<Intent, LuaError> {
    let name = plain_text(at, "tag.name", &field(fields, "name")?, TAG_NAME_BYTES_MAX)?;
    let name = name.filter(|name| !name.is_empty() && !name.contains(['=', ',']));
    let name = name.ok_or_else(|| wrong(at, "tag.name", "must be text without = and ,"))?;
    let value = people_name(at, "tag.value", &field(fields, "value")?, TAG_VALUE_BYTES_MAX)?;
    Ok(Intent::Tag(Name::from(name), value))
}

fn read_alert(at: At, policy: Name, fields: &Table) -> Result<Intent, LuaError> {
    let kind = plain_text(at, "alert.type", &field(fields, "type")?, CODE_BYTES_MAX)?;
    let kind = kind.filter(|kind| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        !kind.is_empty() && kind.bytes().all(plain)
    });
    let kind = kind.ok_or_else(|| wrong(at, "alert.type", "must be a word of a-z, 0-9 and _"))?;
    let severity = match field(fields, "severity")? {
        Value::Nil => Severity::Warning,
        other => Severity::parse(&name_text(at, "alert.severity", &other)?)
            .ok_or_else(|| wrong(at, "alert.severity", "must be info, warning or critical"))?,
    };
    let message = people_text(at, "alert.message", &field(fields, "message")?, MESSAGE_BYTES_MAX)?;
    let message = message.ok_or_else(|| wrong(at, "alert.message", "is missing"))?;
    let mut details = Vec::new();
    match field(fields, "details")? {
        Value::Nil => {}
        Value::Table(table) => {
            for pair in table.pairs::<Value, Value>() {
                let (name, value) = pair?;
                let name = plain_text(at, "alert.details", &name, CODE_BYTES_MAX)?.unwrap_or_default();
                let value = match number(&value) {
                    Some(number) => number.to_string(),
                    None => people_text(at, "alert.details", &value, TAG_VALUE_BYTES_MAX)?.unwrap_or_default(),
                };
                details.push((name, value));
            }
        }
        other => {
            let why = format!("must be a table, not a {}", other.type_name());
            return Err(wrong(at, "alert.details", why));
        }
    }
    if details.len() > DETAILS_MAX {
        return Err(wrong(
            at,
            "alert.details",
            format_args!("has more than {DETAILS_MAX} fields"),
        ));
    }
    details.sort();
    let about = people_text(at, "alert.about", &field(fields, "about")?, TAG_VALUE_BYTES_MAX)?;
    let cooldown = match field(fields, "cooldown_mins")? {
        Value::Nil => None,
        other => {
            let mins = whole_number(at, "alert.cooldown_mins", &other, 0.0, COOLDOWN_MINS_MAX)?;
            Some(Duration::from_secs_f64(mins * 60.0))
        }
    };
    Ok(Intent::Alert(RequestedAlert {
        kind,
        severity,
        message,
        details,
        about: about.unwrap_or_default(),
        cooldown,
        policy,
    }))
}

/// `as = "refuse" | "dearest" | "free"`, or `input` and `output` in USD for a million tokens.
fn read_unpriced(at: At, policy: Name, fields: &Table) -> Result<Intent, LuaError> {
    let price = |name: &'static str, value: Value| -> Result<UnitPrice, LuaError> {
        let text = match &value {
            Value::String(_) => name_text(at, name, &value)?.to_owned(),
            other => match number(other) {
                Some(number) => number.to_string(),
                None => {
                    return Err(wrong(
                        at,
                        name,
                        "must be a number or decimal text, in USD for a million tokens",
                    ));
                }
            },
        };
        let price = UnitPrice::parse_per_million(&text)
            .ok()
            .filter(|price| price.picos() >= 0);
        price.ok_or_else(|| wrong(at, name, "is no price: write 2.5, in USD for a million tokens"))
    };
    let (input, output) = (field(fields, "input")?, field(fields, "output")?);
    let requested = match field(fields, "as")? {
        Value::Nil => Unpriced::Price {
            input: price("unpriced.input", input)?,
            output: price("unpriced.output", output)?,
        },
        _ if !input.is_nil() || !output.is_nil() => {
            return Err(wrong(at, "unpriced.as", "stands alone, or input and output do"));
        }
        other => match &*required_text(at, "unpriced.as", &other)?.as_bytes() {
            b"refuse" => Unpriced::Refuse,
            b"dearest" => Unpriced::Dearest,
            b"free" => Unpriced::Free,
            _ => return Err(wrong(at, "unpriced.as", "must be refuse, dearest or free")),
        },
    };
    Ok(Intent::Unpriced(verdict::Requested { requested, policy }))
}

/// Tenant, zone, agent, session, user and task.
type BindFields = (i64, Value, Value, Value, Value, Value, Value);

fn read_bind(shared: &Shared, fields: &BindFields) -> Result<Binding, LuaError> {
    let (at, tenant, zone, agent, session, user, task) = fields;
    let at = intent(*at);
    let name = |field: &str, value: &Value| match value {
        Value::Nil => Ok(None),
        other => people_name(at, field, other, BOUND_NAME_BYTES_MAX).map(Some),
    };
    let zone = match zone {
        Value::Nil => None,
        other => {
            let zone = name_text(at, "bind.zone", other)?;
            Some(shared.zones.named(&zone).map_err(|why| wrong(at, "bind.zone", why))?)
        }
    };
    Ok(Binding {
        tenant: name("bind.tenant", tenant)?,
        zone,
        agent: name("bind.agent", agent)?,
        session: name("bind.session", session)?,
        user: name("bind.user", user)?,
        task: name("bind.task", task)?,
    })
}

/// The table of native functions that the prelude calls with the fields of each intent: those that every request may ask
/// for get their fields one by one, the others their table.
pub(super) fn host_table(
    lua: &Lua,
    shared: &Rc<Shared>,
    collector: &Rc<RefCell<IntentCollector>>,
) -> Result<Table, LuaError> {
    let host = lua.create_table()?;
    add_limits(lua, &host, shared, collector)?;
    let to = Rc::clone(collector);
    let deny = lua.create_function(move |_, fields: DenyFields| {
        let mut collector = to.borrow_mut();
        let deny = read_deny(collector.policy()?, &fields)?;
        collector.add(intent(fields.0), Intent::Deny(deny))
    })?;
    host.raw_set("deny", deny)?;
    let to = Rc::clone(collector);
    let clamp = lua.create_function(move |_, (at, max_output): (i64, Value)| {
        let at = intent(at);
        let max_output = whole_number(at, "clamp.max_output", &max_output, 1.0, f64::from(u32::MAX))?;
        // Whole, positive and below 2³² by the check.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        to.borrow_mut().add(at, Intent::Clamp(max_output as u64))
    })?;
    host.raw_set("clamp", clamp)?;
    let to = Rc::clone(collector);
    let header = lua.create_function(move |_, (at, name, value): (i64, Value, Value)| {
        let at = intent(at);
        to.borrow_mut().add(at, read_header(at, &name, &value)?)
    })?;
    host.raw_set("header", header)?;
    let (to, facts) = (Rc::clone(collector), Rc::clone(shared));
    let bind = lua.create_function(move |_, fields: BindFields| {
        let binding = read_bind(&facts, &fields)?;
        to.borrow_mut().add(intent(fields.0), Intent::Bind(binding))
    })?;
    host.raw_set("bind", bind)?;
    let to = Rc::clone(collector);
    let allow = lua.create_function(move |_, at: i64| to.borrow_mut().add(intent(at), Intent::Allow))?;
    host.raw_set("allow", allow)?;
    type IntentReader = fn(At, Name, &Table) -> Result<Intent, LuaError>;
    let readers: [(&str, IntentReader); 5] = [
        ("route", read_route),
        ("delay", |at, _, fields| read_delay(at, fields)),
        ("tag", |at, _, fields| read_tag(at, fields)),
        ("alert", read_alert),
        ("unpriced", read_unpriced),
    ];
    for (name, read) in readers {
        let to = Rc::clone(collector);
        let function = lua.create_function(move |_, (at, fields): (i64, Table)| {
            let mut collector = to.borrow_mut();
            let intent_read = read(intent(at), collector.policy()?, &fields)?;
            collector.add(intent(at), intent_read)
        })?;
        host.raw_set(name, function)?;
    }
    Ok(host)
}

/// Budgets, rates and parallel limits: written out, or noted by `limits(…):on(account)`.
fn add_limits(
    lua: &Lua,
    host: &Table,
    shared: &Rc<Shared>,
    collector: &Rc<RefCell<IntentCollector>>,
) -> Result<(), LuaError> {
    let (to, facts) = (Rc::clone(collector), Rc::clone(shared));
    type Fields = (i64, Value, Value, Value, Value, Value, Value, Value);
    let budget = lua.create_function(move |_, fields: Fields| {
        let (at, account, window, limit, unit, soft, action, zone) = fields;
        let (at, mut collector) = (intent(at), to.borrow_mut());
        let term = read_budget(&facts.zones, at, &(window, limit, unit, soft, action, zone))?;
        let account = facts.account(at, "budget.account", &account)?;
        let bound = term.on(at, account, &facts, &collector.policy()?)?;
        collector.add(at, bound)
    })?;
    host.raw_set("budget", budget)?;
    let (to, facts) = (Rc::clone(collector), Rc::clone(shared));
    let rate = lua.create_function(move |_, fields: (i64, Value, Value, Value, Value)| {
        let (at, account, per, limit, unit) = fields;
        let (at, mut collector) = (intent(at), to.borrow_mut());
        let account = facts.account(at, "rate.account", &account)?;
        let rate = read_rate(at, &per, &limit, &unit)?.on(at, account, &facts, &collector.policy()?)?;
        collector.add(at, rate)
    })?;
    host.raw_set("rate", rate)?;
    let (to, facts) = (Rc::clone(collector), Rc::clone(shared));
    let parallel = lua.create_function(move |_, (at, account, limit): (i64, Value, Value)| {
        let (at, mut collector) = (intent(at), to.borrow_mut());
        let account = facts.account(at, "parallel.account", &account)?;
        let term = read_parallel(at, "parallel.limit", &limit)?;
        let parallel = term.on(at, account, &facts, &collector.policy()?)?;
        collector.add(at, parallel)
    })?;
    host.raw_set("parallel", parallel)?;
    let (to, facts) = (Rc::clone(collector), Rc::clone(shared));
    let noted = lua.create_function(move |_, (at, on): (i64, Value)| {
        let mut collector = to.borrow_mut();
        let noted = if let Value::LightUserData(number) = on {
            collector.noted(number)
        } else {
            None
        };
        let Some((terms, account)) = noted else {
            return Err(LuaError::runtime(format!(
                "intent {at} is none: it is a fact, a list of limits without an account, or of another call"
            )));
        };
        let (at, policy) = (intent(at), collector.policy()?);
        for term in terms.iter() {
            let limit = term.on(at, Name::clone(&account), &facts, &policy)?;
            collector.add(at, limit)?;
        }
        Ok(())
    })?;
    host.raw_set("noted", noted)
}
