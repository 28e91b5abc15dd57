//! The subscriptions: what each takes, and whose news they are.

use jsonrpsee::server::RegisterMethodError;

use crate::control::error::RpcError;
use crate::control::feeds::{Facet, Feed, Following};
use crate::control::key_names::key_of;
use crate::control::rpc::call::{Caller, Role};
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::ControlState;
use crate::control::wire;

pub(in crate::control) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    let method = |name, scope, summary, example| Method::new(name, Role::Read, scope, summary, example);
    table.follow::<wire::FollowParams, wire::TailItem>(
        method(
            "ledger.tail",
            Scope::Tenant,
            "Entries as they are settled, and corrections of entries.",
            r#"{"provider": "openai"}"#,
        ),
        "ledger.tail.end",
        |state, caller, asked| exchanges(Feed::Tail, state, caller, &asked),
    )?;
    table.follow::<wire::FollowParams, wire::HoldItem>(
        method(
            "hold.changes",
            Scope::Tenant,
            "Holds as they are placed, grow and end.",
            r#"{}"#,
        ),
        "hold.changes.end",
        |state, caller, asked| exchanges(Feed::Holds, state, caller, &asked),
    )?;
    table.follow::<_, wire::SessionItem>(
        method(
            "session.changes",
            Scope::Tenant,
            "Calls of sessions as they begin and end, and what is done to sessions.",
            r#"{}"#,
        ),
        "session.changes.end",
        sessions,
    )?;
    table.follow::<_, wire::AlertRow>(
        method("alert.feed", Scope::Tenant, "Alerts as they are raised.", r#"{}"#),
        "alert.feed.end",
        alerts,
    )?;
    table.follow::<_, wire::ChangeRow>(
        method(
            "rule.changes",
            Scope::Tenant,
            "Changes of rules, prices and providers.",
            r#"{"subject": "rule:"}"#,
        ),
        "rule.changes.end",
        rules,
    )
}

fn exchanges(
    feed: Feed,
    state: &ControlState,
    caller: &Caller,
    asked: &wire::FollowParams,
) -> Result<Following, RpcError> {
    let key = key_of(state, caller, &asked.key);
    let tenant = caller.tenant_of(&asked.tenant)?.unwrap_or_default();
    let filters = [
        (Facet::Provider, asked.provider.as_str()),
        (Facet::Model, &asked.model),
        (Facet::Key, &key),
        (Facet::Tenant, &tenant),
        (Facet::Agent, &asked.agent),
        (Facet::Session, &asked.session),
        (Facet::User, &asked.user),
    ];
    Ok(Following::new(feed, &filters, asked.every_ms))
}

fn sessions(_: &ControlState, caller: &Caller, asked: wire::FollowSessionsParams) -> Result<Following, RpcError> {
    let tenant = caller.tenant_of(&asked.tenant)?.unwrap_or_default();
    let filters = [(Facet::Session, asked.session.as_str()), (Facet::Tenant, &tenant)];
    Ok(Following::new(Feed::Sessions, &filters, asked.every_ms))
}

fn alerts(_: &ControlState, caller: &Caller, asked: wire::FollowAlertsParams) -> Result<Following, RpcError> {
    let tenant = caller.tenant.clone().unwrap_or_default();
    let filters = [(Facet::Kind, asked.r#type.as_str()), (Facet::Tenant, &tenant)];
    Ok(Following::new(Feed::Alerts, &filters, asked.every_ms))
}

fn rules(_: &ControlState, caller: &Caller, asked: wire::FollowRulesParams) -> Result<Following, RpcError> {
    let tenant = caller.tenant.clone().unwrap_or_default();
    let filters = [(Facet::Subject, asked.subject.as_str()), (Facet::Tenant, &tenant)];
    Ok(Following::new(Feed::Rules, &filters, asked.every_ms))
}
