//! The method `alert.list`: what people should have noticed lately.

use std::sync::Arc;

use agentledger_ledger::rfc3339_ms;
use jsonrpsee::server::RegisterMethodError;

use super::call::{Call, Role};
use super::error::RpcError;
use super::methods::{Method, Scope, Table};
use super::params::{self, Span};
use super::state::ControlState;
use super::wire;
use crate::telemetry::alerts::{ALERTS_MAX, Alert, NumberedAlert};

const LIMIT_DEFAULT: usize = 100;

pub(super) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    table.add(
        Method {
            name: "alert.list",
            needs: Role::Read,
            scope: Scope::Tenant,
            summary: "Alerts since the gateway started, latest first.",
            example: r#"{"last": "24h"}"#,
        },
        list,
    )
}

pub(super) fn list(state: &ControlState, call: &Call, asked: wire::AlertsParams) -> Result<wire::AlertRows, RpcError> {
    let last = Span {
        last: asked.last.as_deref(),
        from: None,
        to: None,
    };
    let (from_ms, _) = params::span(last, state.ledger.now_ms(), None).map_err(RpcError::InvalidParams)?;
    let limit = params::limit(asked.limit, LIMIT_DEFAULT, ALERTS_MAX)?;
    let wanted = |numbered: &Arc<NumberedAlert>| {
        let alert = &numbered.alert;
        alert.at_ms >= from_ms
            && (asked.r#type.is_empty() || alert.kind == asked.r#type)
            && call.caller.sees(tenant_of(alert))
    };
    let recent = state.data_plane.alerts().recent();
    let found = recent.iter().rev().filter(|numbered| wanted(numbered)).take(limit);
    Ok(wire::AlertRows {
        alerts: found.map(|numbered| row(numbered)).collect(),
    })
}

/// Whose matter an alert is: what it says of itself, or the account that it is about.
pub(super) fn tenant_of(alert: &Alert) -> &str {
    let said = alert.details.iter().find(|(name, _)| name == "tenant");
    match said {
        Some((_, tenant)) => tenant,
        None => alert.about.strip_prefix("tenant:").unwrap_or_default(),
    }
}

pub(super) fn row(numbered: &NumberedAlert) -> wire::AlertRow {
    let alert = &numbered.alert;
    wire::AlertRow {
        sequence: numbered.sequence,
        at: rfc3339_ms(alert.at_ms),
        r#type: alert.kind.clone(),
        severity: alert.severity.to_owned(),
        message: alert.message.clone(),
        details: alert.details.iter().cloned().collect(),
        about: alert.about.clone(),
        policy: alert.policy.to_string(),
    }
}
