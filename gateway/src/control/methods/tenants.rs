//! The methods about tenants: what they spend, and which keys act for them.

use std::collections::BTreeMap;

use agentledger_ledger::{Dimension, SummaryQuery, Usd, Window};
use jsonrpsee::server::RegisterMethodError;
use serde_json::{Map, Value};

use crate::control::error::RpcError;
use crate::control::methods::keys::SEEN_DEFAULT;
use crate::control::methods::rules::AllRules;
use crate::control::methods::rules::change::{Wish, change, decision_ms, ends_at};
use crate::control::methods::rules::shortcuts::{at_parameter, found, needed, put};
use crate::control::rpc::call::{Call, Role};
use crate::control::rpc::params::Span;
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::ControlState;
use crate::control::wire;
use crate::runtime::{InForce, Refused};

const MAPPINGS: &str = "tenant.key_mappings";
const BINDINGS: &str = "tenant.bindings";
const ENABLED: &str = "tenant.enabled";
/// Accounts of one page of balances.
const PAGE: usize = 10_000;

pub(in crate::control) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    table.add(
        Method::new(
            "tenant.list",
            Role::Read,
            Scope::Tenant,
            "The tenants, what they spent, and which keys act for them.",
            r#"{"last": "7d"}"#,
        ),
        list,
    )?;
    table.add(
        Method::new(
            "tenant.get",
            Role::Read,
            Scope::Tenant,
            "One tenant.",
            r#"{"tenant": "acme"}"#,
        ),
        get,
    )?;
    table.add(
        Method::new(
            "tenant.map",
            Role::Admin,
            Scope::Whole,
            "Lets the keys that match a pattern act for a tenant.",
            r#"{"api_key_pattern": "sk-acme-*", "tenant": "acme", "enable": true, "dry_run": true}"#,
        ),
        map,
    )?;
    table.add(
        Method::new(
            "tenant.unmap",
            Role::Admin,
            Scope::Whole,
            "Takes a mapping of `tenant.map` away.",
            r#"{"api_key_pattern": "sk-acme-*", "tenant": "acme", "dry_run": true}"#,
        ),
        unmap,
    )?;
    table.add(
        Method::new(
            "tenant.bind",
            Role::Admin,
            Scope::Whole,
            "Gives the keys that match a pattern a user, agent, session or task, whatever their clients say.",
            r#"{"api_key_pattern": "sk-ci-*", "agent": "ci", "dry_run": true}"#,
        ),
        bind,
    )
}

pub(in crate::control) fn list(
    state: &ControlState,
    call: &Call,
    asked: wire::TenantsParams,
) -> Result<wire::Tenants, RpcError> {
    let span = Span::new(&asked.last, &None, &None);
    let now_ms = state.ledger.now_ms();
    let (from_ms, to_ms) = span.ms(now_ms, Some(SEEN_DEFAULT))?;
    state.ledger.flush()?;
    let own = call.caller.tenant.as_deref();
    let mut tenants: BTreeMap<String, wire::TenantRow> = BTreeMap::new();
    let query = SummaryQuery {
        from_ms,
        to_ms,
        by: Dimension::Tenant,
        tenant: call.caller.tenant.clone(),
    };
    for row in state.ledger.summary(&query) {
        let tenant = tenant_in(&mut tenants, &row.tenant);
        (tenant.requests, tenant.cost_usd) = (row.requests, row.cost);
    }
    let all = AllRules::of(state)?;
    for row in all.rows(&|list| list == MAPPINGS) {
        if let Some(name) = row.value.get("tenant_id").and_then(Value::as_str) {
            tenant_in(&mut tenants, name).mappings.push(row);
        }
    }
    tenants.retain(|name, _| !name.is_empty() && own.is_none_or(|own| own == name));
    add_spent(state, &mut tenants, now_ms);
    let mut tenants: Vec<wire::TenantRow> = tenants.into_values().collect();
    if own.is_some() {
        // Patterns over keys are the installation's.
        tenants.iter_mut().for_each(|tenant| tenant.mappings.clear());
    }
    Ok(wire::Tenants { tenants })
}

fn tenant_in<'a>(tenants: &'a mut BTreeMap<String, wire::TenantRow>, name: &str) -> &'a mut wire::TenantRow {
    tenants.entry(name.to_owned()).or_insert_with(|| wire::TenantRow {
        tenant: name.to_owned(),
        ..wire::TenantRow::default()
    })
}

/// What is posted in the day and the month that run, in UTC.
fn add_spent(state: &ControlState, tenants: &mut BTreeMap<String, wire::TenantRow>, now_ms: i64) {
    let mut after = None;
    loop {
        let page = state.ledger.balances_after("tenant:", after.as_deref(), PAGE);
        for row in &page.rows {
            let runs =
                row.period.start_s.saturating_mul(1_000) <= now_ms && now_ms < row.period.end_s.saturating_mul(1_000);
            let tenant = row
                .account
                .strip_prefix("tenant:")
                .and_then(|name| tenants.get_mut(name));
            let Some(tenant) = tenant.filter(|_| runs && &*row.zone == "UTC") else {
                continue;
            };
            let spent: Usd = row.posted.usd;
            match row.window {
                Window::Day => tenant.spent_day_usd = spent,
                Window::Month => tenant.spent_month_usd = spent,
                _ => {}
            }
        }
        after = page.next;
        if after.is_none() {
            return;
        }
    }
}

fn get(state: &ControlState, call: &Call, asked: wire::TenantParams) -> Result<wire::TenantRow, RpcError> {
    needed("tenant", &asked.tenant)?;
    call.caller.tenant_of(&asked.tenant)?;
    let all = list(state, call, wire::TenantsParams { last: asked.last })?;
    let found = all.tenants.into_iter().find(|row| row.tenant == asked.tenant);
    found.ok_or_else(|| RpcError::NotFound(format!("no tenant {:?} made requests or has keys", asked.tenant)))
}

/// Whether requests have tenants at all.
fn is_on(in_force: &InForce) -> bool {
    let policy = in_force.policies.policy("tenant");
    policy.is_some_and(|policy| policy.conf.get("enabled") == Some(&Value::Bool(true)))
}

fn map(state: &ControlState, call: &Call, asked: wire::TenantMapParams) -> Result<wire::RuleChanged, RpcError> {
    needed("api_key_pattern", &asked.api_key_pattern)?;
    needed("tenant", &asked.tenant)?;
    let expires_ms = ends_at(&asked.expires, decision_ms(state))?;
    let mut value = Map::new();
    put(&mut value, "api_key_pattern", &asked.api_key_pattern);
    put(&mut value, "tenant_id", &asked.tenant);
    change(state, call, asked.dry_run, &mut |in_force| {
        let mut wishes = Vec::new();
        if !is_on(in_force) {
            if !asked.enable {
                let text = "is needed: tenants are off, and a mapping would do nothing";
                return Err(Refused::unfit("enable", text).into());
            }
            let known = in_force.parts.rules.of("tenant").find(|rule| rule.list == ENABLED);
            wishes.push(Wish {
                id: known.map(|rule| rule.id),
                list: ENABLED.to_owned(),
                value: Some(Value::Bool(true)),
                note: asked.note.clone(),
                ..Wish::default()
            });
        }
        let same = [
            ("api_key_pattern", asked.api_key_pattern.as_str()),
            ("tenant_id", &asked.tenant),
        ];
        wishes.push(Wish {
            id: found(in_force, MAPPINGS, None, &same).map(|rule| rule.id),
            list: MAPPINGS.to_owned(),
            value: Some(Value::Object(value.clone())),
            expires_ms,
            note: asked.note.clone(),
            ..Wish::default()
        });
        Ok(wishes)
    })
    .map_err(|error| at_parameter(error, &[("tenant_id", "tenant")]))
}

fn unmap(state: &ControlState, call: &Call, asked: wire::TenantMapParams) -> Result<wire::RuleChanged, RpcError> {
    needed("api_key_pattern", &asked.api_key_pattern)?;
    needed("tenant", &asked.tenant)?;
    change(state, call, asked.dry_run, &mut |in_force| {
        let same = [
            ("api_key_pattern", asked.api_key_pattern.as_str()),
            ("tenant_id", &asked.tenant),
        ];
        let rule = found(in_force, MAPPINGS, None, &same);
        let rule =
            rule.ok_or_else(|| RpcError::NotFound("no runtime rule maps these keys to this tenant".to_owned()))?;
        Ok(vec![Wish::removal(rule, &asked.note)])
    })
}

fn bind(state: &ControlState, call: &Call, asked: wire::TenantBindParams) -> Result<wire::RuleChanged, RpcError> {
    needed("api_key_pattern", &asked.api_key_pattern)?;
    let expires_ms = ends_at(&asked.expires, decision_ms(state))?;
    let mut value = Map::new();
    for (name, given) in [
        ("user", &asked.user),
        ("agent", &asked.agent),
        ("session", &asked.session),
        ("task", &asked.task),
    ] {
        put(&mut value, name, given);
    }
    if value.is_empty() {
        return Err(Refused::unfit("user or agent or session or task", "is missing").into());
    }
    put(&mut value, "api_key_pattern", &asked.api_key_pattern);
    change(state, call, asked.dry_run, &mut |in_force| {
        let same = [("api_key_pattern", asked.api_key_pattern.as_str())];
        Ok(vec![Wish {
            id: found(in_force, BINDINGS, None, &same).map(|rule| rule.id),
            list: BINDINGS.to_owned(),
            value: Some(Value::Object(value.clone())),
            expires_ms,
            note: asked.note.clone(),
            ..Wish::default()
        }])
    })
    .map_err(|error| at_parameter(error, &[]))
}
