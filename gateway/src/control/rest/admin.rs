//! What the original's administrators read and change. What the contract calls budget rules and blocked keys are runtime rules
//! here (`budget.rules`, `block.keys`), changed by the methods that change any rule, and in the audit like them.
//!
//! Roles are those of the methods: a reader's token reads, an operator's blocks keys, an admin's changes rules.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use agentledger_ledger::{Unit, Usd, Window};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use http_body_util::{BodyExt, Limited};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::answer::{Answer, number};
use super::dashboard::month_start;
use super::params::Params;
use super::{Shared, refused, run};
use crate::control::error::RpcError;
use crate::control::methods::rules::change::{Wish, change, is_seen};
use crate::control::methods::{books, rules};
use crate::control::rpc::call::{Call, Caller, Role};
use crate::control::state::ControlState;
use crate::control::transport;
use crate::control::wire::{RuleRow, RulesParams};
use crate::runtime::{InForce, Rule, policy_of};

const RULES: &str = "budget.rules";
const BLOCKED: &str = "block.keys";
const BODY_BYTES_MAX: usize = 64 << 10;
const BODY_WAIT: Duration = Duration::from_secs(10);
/// Rules of one page, and accounts that a status looks at.
const PAGE: usize = 10_000;

/// A request as its handler sees it.
struct Asked<'a> {
    call: Call,
    params: &'a Params,
    body: &'a [u8],
}

type Handler = fn(&ControlState, &Asked<'_>) -> Result<Answer, RpcError>;

pub(super) fn routes() -> Router<Shared> {
    let on = |needs: Role, method: &'static str, handler: Handler| {
        move |State(shared): State<Shared>, request: Request| handle(shared, request, needs, method, handler)
    };
    Router::new()
        .route("/api/admin/api-keys", get(on(Role::Read, "key.list", api_keys)))
        .route("/api/admin/providers", get(on(Role::Read, "provider.list", providers)))
        .route(
            "/api/admin/budgets/status",
            get(on(Role::Read, "budget.status", budget_status)),
        )
        .route(
            "/api/admin/budgets/rules",
            get(on(Role::Read, "rule.list", budget_rules))
                .post(on(Role::Admin, "rule.put", put_rule))
                .delete(on(Role::Admin, "rule.delete", delete_rule)),
        )
        .route("/api/admin/api-keys/blocked", get(on(Role::Read, "rule.list", blocked)))
        .route(
            "/api/admin/api-keys/block",
            axum::routing::post(on(Role::Operate, "key.block", block)).delete(on(
                Role::Operate,
                "key.unblock",
                unblock,
            )),
        )
}

async fn handle(shared: Shared, request: Request, needs: Role, method: &'static str, handler: Handler) -> Response {
    let (parts, body) = request.into_parts();
    let body = match tokio::time::timeout(BODY_WAIT, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return transport::error(StatusCode::PAYLOAD_TOO_LARGE, "the request is too long"),
        Err(_) => return transport::error(StatusCode::REQUEST_TIMEOUT, "the request did not come in time"),
    };
    let caller = match shared.caller(&parts.headers) {
        Ok(caller) => caller,
        Err(denied) => return transport::refuse(denied),
    };
    if caller.role < needs {
        return refused(&RpcError::Forbidden);
    }
    let call = Call {
        caller,
        method,
        request: None,
    };
    let run_it = move |state: &ControlState, params: &Params| {
        let asked = Asked {
            call: call.clone(),
            params,
            body: &body,
        };
        handler(state, &asked)
    };
    run(shared.state, parts.uri, run_it).await
}

#[derive(Serialize)]
struct KeyRow {
    api_key_hash: String,
    requests: u64,
    #[serde(serialize_with = "number")]
    total_cost_usd: Usd,
}

/// The keys of this month, dearest first.
fn api_keys(state: &ControlState, asked: &Asked<'_>) -> Result<Answer, RpcError> {
    let tenant = asked.call.caller.tenant_of("")?;
    let now_ms = state.ledger.now_ms();
    state.ledger.flush()?;
    let (_, rows) = books::costs(state, (month_start(now_ms), now_ms.saturating_add(1)), "key", tenant);
    let rows: Vec<KeyRow> = rows
        .into_iter()
        .map(|row| KeyRow {
            api_key_hash: row.key,
            requests: row.requests,
            total_cost_usd: row.cost_usd,
        })
        .collect();
    Answer::list(&rows)
}

fn whole(caller: &Caller) -> Result<(), RpcError> {
    match caller.tenant {
        Some(_) => Err(RpcError::OtherTenant),
        None => Ok(()),
    }
}

/// Which providers are served.
fn providers(state: &ControlState, asked: &Asked<'_>) -> Result<Answer, RpcError> {
    whole(&asked.call.caller)?;
    let config = state.config.load();
    let disabled = state.data_plane.in_force().map(|in_force| in_force.parts.disabled);
    let is_on = |name: &str| disabled.as_ref().is_none_or(|disabled| !disabled.contains(name));
    let served = config
        .providers
        .iter()
        .map(|provider| (provider.name.as_str(), is_on(&provider.name)));
    let absent = config.absent.iter().map(|provider| (provider.name.as_str(), false));
    Answer::json(&absent.chain(served).collect::<BTreeMap<&str, bool>>())
}

/// The runtime rules of a list, in the order in which they count.
fn rows_of(state: &ControlState, call: &Call, list: &str, source: &str) -> Result<Vec<RuleRow>, RpcError> {
    let mut rows = Vec::new();
    let mut after = String::new();
    loop {
        let params = RulesParams {
            list: list.to_owned(),
            source: source.to_owned(),
            limit: Some(PAGE),
            after,
            ..RulesParams::default()
        };
        let page = rules::list(state, call, params)?;
        rows.extend(page.rules);
        match page.next {
            Some(next) => after = next,
            None => return Ok(rows),
        }
    }
}

/// A budget rule in the contract's fields.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct BudgetRule {
    api_key_pattern: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    tenant_id: String,
    daily_limit_usd: Number,
    monthly_limit_usd: Number,
    soft_limit_pct: Number,
    action: String,
}

/// A number as it was written: of JSON, or as text.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Number {
    Number(serde_json::Number),
    Text(String),
}

impl Default for Number {
    fn default() -> Number {
        Number::Number(0.into())
    }
}

impl Number {
    /// Without an exponent, which only a JSON number may have.
    fn text(&self) -> String {
        match self {
            Number::Number(number) => number
                .as_f64()
                .map_or_else(|| number.to_string(), |number| number.to_string()),
            Number::Text(text) => text.clone(),
        }
    }

    /// As a JSON number, whatever it was written as.
    fn plain(self) -> Number {
        match self {
            Number::Text(text) => match serde_json::from_str(&text) {
                Ok(number) => Number::Number(number),
                Err(_) => Number::Text(text),
            },
            number => number,
        }
    }

    fn usd(&self) -> Usd {
        Usd::parse(&self.text()).unwrap_or_default()
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match RawValue::from_string(self.text()) {
            Ok(number) => number.serialize(serializer),
            Err(_) => self.text().serialize(serializer),
        }
    }
}

impl BudgetRule {
    fn of(value: &Value) -> BudgetRule {
        let rule: BudgetRule = serde_json::from_value(value.clone()).unwrap_or_default();
        BudgetRule {
            daily_limit_usd: rule.daily_limit_usd.plain(),
            monthly_limit_usd: rule.monthly_limit_usd.plain(),
            soft_limit_pct: rule.soft_limit_pct.plain(),
            ..rule
        }
    }

    fn is_about(&self, pattern: &str, tenant: &str) -> bool {
        self.api_key_pattern == pattern && self.tenant_id == tenant
    }
}

fn budget_rules(state: &ControlState, asked: &Asked<'_>) -> Result<Answer, RpcError> {
    let rows = rows_of(state, &asked.call, RULES, "runtime")?;
    let rules: Vec<BudgetRule> = rows.iter().map(|row| BudgetRule::of(&row.value)).collect();
    Answer::list(&rules)
}

/// Makes a rule, or changes the one of the same pattern and tenant.
fn put_rule(state: &ControlState, asked: &Asked<'_>) -> Result<Answer, RpcError> {
    let invalid = |text: String| RpcError::InvalidParams(format!("invalid rule: {text}"));
    let mut value: Value = serde_json::from_slice(asked.body).map_err(|error| invalid(error.to_string()))?;
    if let Value::Object(fields) = &mut value {
        // What says nothing is as good as left out.
        fields.retain(|_, value| !value.is_null() && value.as_str() != Some(""));
    }
    let rule: BudgetRule = serde_json::from_value(value.clone()).map_err(|error| invalid(error.to_string()))?;
    if rule.api_key_pattern.is_empty() && rule.tenant_id.is_empty() {
        return Err(invalid("api_key_pattern or tenant_id is needed".to_owned()));
    }
    let is_same = |known: &Value| BudgetRule::of(known).is_about(&rule.api_key_pattern, &rule.tenant_id);
    put(state, &asked.call, RULES, &value, &is_same).map_err(|error| match error {
        RpcError::Unfit { path, text } => {
            let path = path.strip_prefix("value.").unwrap_or(&path);
            invalid(format!("{path} {text}"))
        }
        error => error,
    })?;
    Ok(Answer::json(&BudgetRule::of(&value))?.created())
}

/// The runtime rules of a list that the caller sees, newest first.
fn kept<'a>(in_force: &'a InForce, call: &'a Call, list: &'a str) -> impl Iterator<Item = &'a Arc<Rule>> {
    let rules = in_force.parts.rules.of(policy_of(list)).rev();
    let own = call.caller.tenant.as_deref();
    rules.filter(move |rule| rule.list == list && own.is_none_or(|own| is_seen(own, rule)))
}

/// Makes a rule, or changes the one that is the same: of two requests about one rule the second finds what the first made.
fn put(
    state: &ControlState,
    call: &Call,
    list: &str,
    value: &Value,
    is_same: &dyn Fn(&Value) -> bool,
) -> Result<(), RpcError> {
    let mut plan = |in_force: &InForce| {
        let same = kept(in_force, call, list).find(|rule| is_same(&rule.value));
        Ok(vec![Wish {
            id: same.map(|rule| rule.id),
            list: list.to_owned(),
            value: Some(value.clone()),
            ..Wish::default()
        }])
    };
    change(state, call, false, &mut plan).map(drop)
}

fn delete_rule(state: &ControlState, asked: &Asked<'_>) -> Result<Answer, RpcError> {
    let (pattern, tenant) = (asked.params.text("pattern"), asked.params.text("tenant_id"));
    if pattern.is_empty() && tenant.is_empty() {
        return Err(RpcError::InvalidParams("pattern query parameter required".to_owned()));
    }
    let is_it = |known: &Value| {
        let rule = BudgetRule::of(known);
        // In the contract a pattern alone names its rule.
        rule.is_about(pattern, tenant) || (tenant.is_empty() && rule.api_key_pattern == pattern)
    };
    take_away(state, &asked.call, RULES, &is_it, "rule not found")
}

/// Takes all rules away that are meant, in one change.
fn take_away(
    state: &ControlState,
    call: &Call,
    list: &str,
    is_it: &dyn Fn(&Value) -> bool,
    missing: &str,
) -> Result<Answer, RpcError> {
    let mut plan = |in_force: &InForce| {
        let meant = kept(in_force, call, list).filter(|rule| is_it(&rule.value));
        let wishes: Vec<Wish> = meant.map(|rule| Wish::removal(rule, "")).collect();
        match wishes.is_empty() {
            true => Err(RpcError::NotFound(missing.to_owned())),
            false => Ok(wishes),
        }
    };
    change(state, call, false, &mut plan).map(|_| Answer::nothing())
}

/// The pattern of a blocked key.
fn pattern_of(value: &Value) -> Option<&str> {
    value.as_str()
}

fn blocked(state: &ControlState, asked: &Asked<'_>) -> Result<Answer, RpcError> {
    let rows = rows_of(state, &asked.call, BLOCKED, "runtime")?;
    let patterns: Vec<&str> = rows.iter().filter_map(|row| pattern_of(&row.value)).collect();
    Answer::list(&patterns)
}

#[derive(Deserialize)]
struct Blocked {
    pattern: String,
}

fn block(state: &ControlState, asked: &Asked<'_>) -> Result<Answer, RpcError> {
    whole(&asked.call.caller)?;
    let invalid = |text: &str| RpcError::InvalidParams(format!("invalid request: {text}"));
    let wanted: Blocked = serde_json::from_slice(asked.body).map_err(|error| invalid(&error.to_string()))?;
    if wanted.pattern.is_empty() {
        return Err(invalid("pattern is empty"));
    }
    let value = json!(wanted.pattern);
    put(state, &asked.call, BLOCKED, &value, &|known| *known == value)?;
    Ok(Answer::json(&json!({ "pattern": wanted.pattern }))?.created())
}

fn unblock(state: &ControlState, asked: &Asked<'_>) -> Result<Answer, RpcError> {
    whole(&asked.call.caller)?;
    let pattern = asked.params.text("pattern");
    if pattern.is_empty() {
        return Err(RpcError::InvalidParams("pattern query parameter required".to_owned()));
    }
    let is_it = |known: &Value| pattern_of(known) == Some(pattern);
    take_away(state, &asked.call, BLOCKED, &is_it, "pattern not found")
}

#[derive(Serialize)]
struct StatusRow {
    pattern: String,
    #[serde(serialize_with = "number")]
    daily_spent: Usd,
    #[serde(serialize_with = "number")]
    daily_limit: Usd,
    #[serde(serialize_with = "number")]
    monthly_spent: Usd,
    #[serde(serialize_with = "number")]
    monthly_limit: Usd,
    action: String,
}

/// What one account has spent, and the limits that its last request was put on; of a day and of a month.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Standing {
    spent: [Usd; 2],
    limits: [Usd; 2],
}

/// How the rules stand, file and runtime, and last what holds where none fits. A limit is each key's own: a row shows the key
/// under its limits that has spent most, by the limits that its last request was put on.
fn budget_status(state: &ControlState, asked: &Asked<'_>) -> Result<Answer, RpcError> {
    whole(&asked.call.caller)?;
    state.ledger.flush()?;
    let keys = standings(state, "key:");
    let tenants = standings(state, "tenant:");
    let rules = rows_of(state, &asked.call, RULES, "")?;
    let default = rows_of(state, &asked.call, "budget.default", "")?;
    let default = default
        .first()
        .map(|row| BudgetRule::of(&row.value))
        .unwrap_or_default();
    let of_default = [&default.daily_limit_usd, &default.monthly_limit_usd].map(Number::usd);
    let mut rows = Vec::new();
    for row in &rules {
        let rule = BudgetRule::of(&row.value);
        let own = [&rule.daily_limit_usd, &rule.monthly_limit_usd].map(Number::usd);
        let is_tenants = rule.api_key_pattern.is_empty();
        let limits = match is_tenants {
            true => own,
            // What it leaves out comes from the default.
            false => [0, 1].map(|at| filled(own, of_default, at)),
        };
        let spent = match is_tenants {
            true => tenants
                .get(&format!("tenant:{}", rule.tenant_id))
                .map(|known| known.spent),
            false => most_spent(keys.values(), limits),
        };
        let pattern = if is_tenants {
            rule.tenant_id
        } else {
            rule.api_key_pattern
        };
        let action = if rule.action.is_empty() {
            &default.action
        } else {
            &rule.action
        };
        rows.push(status_row(&pattern, spent.unwrap_or_default(), limits, action));
    }
    let spent = most_spent(keys.values(), of_default).unwrap_or_default();
    rows.push(status_row("(default)", spent, of_default, &default.action));
    Answer::list(&rows)
}

fn filled(own: [Usd; 2], default: [Usd; 2], at: usize) -> Usd {
    let of = |limits: [Usd; 2]| limits.get(at).copied().unwrap_or_default();
    match of(own) {
        Usd::ZERO => of(default),
        own => own,
    }
}

fn most_spent<'a>(all: impl Iterator<Item = &'a Standing>, limits: [Usd; 2]) -> Option<[Usd; 2]> {
    all.filter(|known| known.limits == limits)
        .map(|known| known.spent)
        .max()
}

fn status_row(pattern: &str, [daily_spent, monthly_spent]: [Usd; 2], limits: [Usd; 2], action: &str) -> StatusRow {
    let [daily_limit, monthly_limit] = limits;
    StatusRow {
        pattern: pattern.to_owned(),
        daily_spent,
        daily_limit,
        monthly_spent,
        monthly_limit,
        action: action.to_owned(),
    }
}

/// How the accounts stand whose names begin so.
fn standings(state: &ControlState, prefix: &str) -> BTreeMap<String, Standing> {
    let mut all: BTreeMap<String, Standing> = BTreeMap::new();
    let page = state.ledger.balances_after(prefix, None, PAGE);
    for row in page.rows {
        let at = match row.window {
            Window::Day => 0,
            Window::Month => 1,
            _ => continue,
        };
        let standing = all.entry(row.account.to_string()).or_insert_with(|| {
            let mut limits = [Usd::ZERO; 2];
            for limit in state.ledger.requested_limits(&row.account) {
                let is_usd = limit.unit == Unit::Usd && &*limit.zone == "UTC";
                let place = match limit.window {
                    Window::Day if is_usd => limits.first_mut(),
                    Window::Month if is_usd => limits.last_mut(),
                    _ => None,
                };
                place
                    .into_iter()
                    .for_each(|place| *place = Usd::from_nanos(limit.limit));
            }
            Standing {
                limits,
                ..Standing::default()
            }
        });
        if let Some(spent) = standing.spent.get_mut(at).filter(|_| &*row.zone == "UTC") {
            *spent = row.posted.usd;
        }
    }
    all
}
