//! The method `alert.list`: what people should have noticed lately.

use std::sync::Arc;

use jsonrpsee::server::RegisterMethodError;

use crate::control::error::RpcError;
use crate::control::rows::alert_row;
use crate::control::rpc::call::{Call, Role};
use crate::control::rpc::params::{self, Span};
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::ControlState;
use crate::control::wire;
use crate::telemetry::alerts::{ALERTS_MAX, NumberedAlert};

const LIMIT_DEFAULT: usize = 100;

pub(in crate::control) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
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

pub(in crate::control) fn list(
    state: &ControlState,
    call: &Call,
    asked: wire::AlertsParams,
) -> Result<wire::AlertRows, RpcError> {
    let last = Span::new(&asked.last, &None, &None);
    let (from_ms, _) = last.ms(state.ledger.now_ms(), None)?;
    let limit = params::limit(asked.limit, LIMIT_DEFAULT, ALERTS_MAX)?;
    let wanted = |numbered: &Arc<NumberedAlert>| {
        let alert = &numbered.alert;
        alert.at_ms >= from_ms
            && (asked.r#type.is_empty() || alert.kind == asked.r#type)
            && call.caller.sees(&alert.tenant)
    };
    let recent = state.data_plane.alerts().recent();
    let found = recent.iter().rev().filter(|numbered| wanted(numbered)).take(limit);
    Ok(wire::AlertRows {
        alerts: found.map(|numbered| alert_row(numbered)).collect(),
    })
}
