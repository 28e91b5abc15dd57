//! The methods about rules: those of the file, which are only shown, and those that operators keep.

pub(in crate::control) mod asked;
pub(in crate::control) mod change;
pub(in crate::control) mod effect;
pub(in crate::control) mod history;
pub(in crate::control) mod shortcuts;

use std::collections::BTreeMap;
use std::sync::Arc;

use jsonrpsee::server::RegisterMethodError;
use serde_json::Value;
use ulid::Ulid;

use crate::control::error::RpcError;
use crate::control::methods::rules::change::{Wish, change, decision_ms, ends_at, is_in_force, is_seen, no_rule, row};
use crate::control::rpc::call::{Call, Role};
use crate::control::rpc::params;
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::ControlState;
use crate::control::wire;
use crate::policy::{PolicySet, Shape};
use crate::runtime::{FileRule, Refused, Rule, RuleBook, documents_of, file_rules, policy_of, tenant_of};

pub(in crate::control) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    let method = |name, needs, summary, example| Method::new(name, needs, Scope::Tenant, summary, example);
    table.add(
        method(
            "rule.list",
            Role::Read,
            "The rules of the file and those kept at runtime, in the order in which they count.",
            r#"{"list": "budget.limits"}"#,
        ),
        list,
    )?;
    table.add(
        method(
            "rule.get",
            Role::Read,
            "One rule.",
            r#"{"id": "file:budget.default:1"}"#,
        ),
        get,
    )?;
    table.add(
        method(
            "rule.put",
            Role::Admin,
            "Makes or changes a rule: it is checked, kept, and in force with the next request.",
            r#"{"list": "budget.limits", "value": {"account": "agent:coder", "window": "day", "limit": "5"}, "dry_run": true}"#,
        ),
        put,
    )?;
    table.add(
        method(
            "rule.delete",
            Role::Admin,
            "Takes a runtime rule away.",
            r#"{"id": "01J00000000000000000000000", "dry_run": true}"#,
        ),
        delete,
    )
}

/// Rows in one answer.
const LIMIT_DEFAULT: usize = 1_000;
const LIMIT_MAX: usize = 10_000;

/// All rules, whether or not a gateway runs.
pub(in crate::control) struct AllRules {
    pub rules: Arc<RuleBook>,
    pub file: Arc<BTreeMap<String, Value>>,
    /// Of the running gateway.
    pub policies: Option<Arc<PolicySet>>,
}

impl AllRules {
    pub fn of(state: &ControlState) -> Result<AllRules, RpcError> {
        if let Some(in_force) = state.data_plane.in_force() {
            return Ok(AllRules {
                rules: in_force.parts.rules,
                file: in_force.file,
                policies: Some(in_force.policies),
            });
        }
        let parts = documents_of(&|prefix| state.ledger.documents(prefix)).map_err(RpcError::LedgerFailed)?;
        Ok(AllRules {
            rules: parts.rules,
            file: Arc::new(state.config.load().policies.conf.clone()),
            policies: None,
        })
    }

    pub fn of_file(&self) -> Vec<FileRule> {
        let shape = |policy: &str, field: &str| -> Option<Shape> { self.policies.as_ref()?.shape(policy, field) };
        file_rules(&self.file, &shape)
    }

    /// The rules of some lists, in the order in which they count.
    pub fn rows(&self, wanted: &dyn Fn(&str) -> bool) -> Vec<wire::RuleRow> {
        let of_file = self.of_file();
        let runtime = self.rules.iter().map(Known::Runtime);
        let mut known: Vec<Known<'_>> = runtime.chain(of_file.iter().map(Known::File)).collect();
        known.retain(|rule| wanted(rule.about().0));
        known.sort_by(|a, b| a.place().cmp(&b.place()));
        known.iter().map(|rule| self.row(rule)).collect()
    }

    fn row(&self, rule: &Known<'_>) -> wire::RuleRow {
        match rule {
            Known::Runtime(rule) => row(rule, self.policies.as_ref()),
            Known::File(rule) => self.file_row(rule),
        }
    }

    fn file_row(&self, rule: &FileRule) -> wire::RuleRow {
        let field = rule.list.split_once('.').map(|(_, field)| field);
        let policy = policy_of(&rule.list);
        wire::RuleRow {
            id: file_id(rule),
            list: rule.list.clone(),
            policy: policy.to_owned(),
            value: rule.value.clone(),
            source: "file".to_owned(),
            in_force: is_in_force(self.policies.as_ref(), policy, field),
            tenant: tenant_of(&rule.list, &rule.value).map(str::to_owned),
            ..wire::RuleRow::default()
        }
    }
}

fn file_id(rule: &FileRule) -> String {
    format!("file:{}:{}", rule.list, rule.at)
}

/// A rule of either source, with its place in the list of all.
enum Known<'a> {
    Runtime(&'a Arc<Rule>),
    File(&'a FileRule),
}

impl Known<'_> {
    /// By list, runtime first, the newest before all others.
    fn place(&self) -> (&str, u8, u128) {
        match self {
            Known::Runtime(rule) => (&rule.list, 0, u128::MAX - u128::from(rule.id)),
            Known::File(rule) => (&rule.list, 1, u128::try_from(rule.at).unwrap_or_default()),
        }
    }

    fn about(&self) -> (&str, &Value) {
        match self {
            Known::Runtime(rule) => (&rule.list, &rule.value),
            Known::File(rule) => (&rule.list, &rule.value),
        }
    }
}

pub(in crate::control) fn list(
    state: &ControlState,
    call: &Call,
    asked: wire::RulesParams,
) -> Result<wire::Rules, RpcError> {
    let limit = params::limit(asked.limit, LIMIT_DEFAULT, LIMIT_MAX)?;
    let (runtime, file) = match asked.source.as_str() {
        "" => (true, true),
        "runtime" => (true, false),
        "file" => (false, true),
        _ => return Err(RpcError::InvalidParams("source must be file or runtime".to_owned())),
    };
    let after = match asked.after.as_str() {
        "" => None,
        text => Some(place_of(text).ok_or_else(|| RpcError::InvalidParams("after is no `next` of a page".to_owned()))?),
    };
    let all = AllRules::of(state)?;
    let of_file = all.of_file();
    let runtime = all.rules.iter().filter(|_| runtime).map(Known::Runtime);
    let mut known: Vec<Known<'_>> = runtime
        .chain(of_file.iter().filter(|_| file).map(Known::File))
        .collect();
    known.retain(|rule| {
        let (list, value) = rule.about();
        let own = call.caller.tenant.as_deref();
        own.is_none_or(|own| tenant_of(list, value) == Some(own))
            && (asked.policy.is_empty() || policy_of(list) == asked.policy)
            && (asked.list.is_empty() || list == asked.list)
            && after
                .as_ref()
                .is_none_or(|(after, source, at)| rule.place() > (after.as_str(), *source, *at))
    });
    known.sort_by(|a, b| a.place().cmp(&b.place()));
    let more = known.len() > limit;
    known.truncate(limit);
    let next = known.last().filter(|_| more).map(|last| {
        let (list, source, at) = last.place();
        format!("{list} {source} {at}")
    });
    Ok(wire::Rules {
        rules: known.iter().map(|rule| all.row(rule)).collect(),
        next,
    })
}

fn place_of(text: &str) -> Option<(String, u8, u128)> {
    let mut parts = text.rsplitn(3, ' ');
    let (at, source, list) = (parts.next()?, parts.next()?, parts.next()?);
    Some((list.to_owned(), source.parse().ok()?, at.parse().ok()?))
}

fn get(state: &ControlState, call: &Call, asked: wire::RuleParams) -> Result<wire::RuleRow, RpcError> {
    let all = AllRules::of(state)?;
    let found = if asked.id.starts_with("file:") {
        let rules = all.of_file();
        let found = rules.iter().find(|rule| file_id(rule) == asked.id);
        found.map(|rule| all.file_row(rule))
    } else {
        let found = Ulid::from_string(&asked.id).ok().and_then(|id| all.rules.get(id));
        found.map(|rule| row(rule, all.policies.as_ref()))
    };
    let own = call.caller.tenant.as_deref();
    let found = found.filter(|row| own.is_none() || row.tenant.as_deref() == own);
    found.ok_or_else(|| no_rule(&asked.id))
}

/// The id of a runtime rule.
pub(in crate::control) fn rule_id(id: &str) -> Result<Ulid, RpcError> {
    if id.starts_with("file:") {
        let text = "is a rule of the file: it is changed there";
        return Err(Refused::unfit("id", text).into());
    }
    Ulid::from_string(id).map_err(|_| Refused::unfit("id", "is no id of a rule: 26 letters and digits").into())
}

fn put(state: &ControlState, call: &Call, asked: wire::RulePutParams) -> Result<wire::RuleChanged, RpcError> {
    let id = (!asked.id.is_empty()).then(|| rule_id(&asked.id)).transpose()?;
    if asked.list.is_empty() {
        return Err(Refused::unfit("list", "is missing").into());
    }
    if asked.value.is_null() {
        return Err(Refused::unfit("value", "is missing").into());
    }
    let wish = Wish {
        id,
        list: asked.list,
        value: Some(asked.value),
        expires_ms: ends_at(&asked.expires, decision_ms(state))?,
        note: asked.note,
        if_version: asked.if_version,
        tenant: None,
    };
    change(state, call, asked.dry_run, &mut |_| Ok(vec![wish.clone()]))
}

fn delete(state: &ControlState, call: &Call, asked: wire::RuleDeleteParams) -> Result<wire::RuleChanged, RpcError> {
    let id = rule_id(&asked.id)?;
    change(state, call, asked.dry_run, &mut |in_force| {
        let known = in_force.parts.rules.get(id);
        let own = call.caller.tenant.as_deref();
        let known = known.filter(|rule| own.is_none_or(|own| is_seen(own, rule)));
        let known = known.ok_or_else(|| no_rule(id))?;
        Ok(vec![Wish {
            if_version: asked.if_version,
            ..Wish::removal(known, &asked.note)
        }])
    })
}
