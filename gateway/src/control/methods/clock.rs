//! The methods about the clock that decisions go by.

use agentledger_ledger::{Clock, ClockState, SystemClock, rfc3339_ms};

use jsonrpsee::server::RegisterMethodError;
use serde_json::json;
use ulid::Ulid;

use crate::control::error::RpcError;
use crate::control::ledger_view::LedgerView;
use crate::control::rpc::call::{Call, Changed, Role};
use crate::control::rpc::params::Nothing;
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::ControlState;
use crate::control::wire;

pub(in crate::control) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    table.add(
        Method::new(
            "clock.status",
            Role::Read,
            Scope::Whole,
            "How the machine's clock stands to the ledger's.",
            r#"{}"#,
        ),
        status,
    )?;
    table.add(
        Method::new(
            "clock.accept",
            Role::Admin,
            Scope::Whole,
            "Believes the machine's clock from now on.",
            r#"{}"#,
        ),
        accept,
    )
}

/// How the machine's clock stands to the time of the last decision.
pub(in crate::control) fn status(state: &ControlState, _: &Call, _: Nothing) -> Result<wire::ClockStatus, RpcError> {
    let (machine_ms, decision_ms, clock) = match &state.ledger {
        LedgerView::Live(ledger) => {
            let clock = ledger.health().clock;
            (ledger.now_ms(), ledger.decision_ms(), clock)
        }
        LedgerView::Offline(ledger) => {
            let (machine_ms, decision_ms) = (SystemClock::default().now_ms(), ledger.decision_ms());
            (machine_ms, decision_ms, ClockState::at_start(machine_ms, decision_ms))
        }
    };
    let (word, offset_ms) = match clock {
        ClockState::Sound => ("sound", 0),
        ClockState::Ahead { ms } => ("ahead", ms),
        ClockState::Behind { ms } => ("behind", -ms),
    };
    Ok(wire::ClockStatus {
        machine: rfc3339_ms(machine_ms),
        ledger: rfc3339_ms(decision_ms),
        state: word.to_owned(),
        offset_ms,
    })
}

/// The machine's clock is right: decisions go by it from now on.
pub(in crate::control) fn accept(state: &ControlState, call: &Call, _: Nothing) -> Result<wire::ClockStatus, RpcError> {
    let ledger = state.ledger.live()?;
    let before = status(state, call, Nothing::default())?;
    if let Some(sequence) = ledger.accept_clock() {
        tokio::runtime::Handle::current()
            .block_on(ledger.durable(sequence))
            .map_err(RpcError::ledger)?;
    }
    let after = status(state, call, Nothing::default())?;
    let changed = Changed {
        subject: "clock".to_owned(),
        before: Some(json!({ "ledger": before.ledger, "state": before.state })),
        after: Some(json!({ "ledger": after.ledger, "state": after.state })),
        ..Changed::default()
    };
    call.commit(&state.ledger, Ulid::new(), changed, &after)?;
    Ok(after)
}
