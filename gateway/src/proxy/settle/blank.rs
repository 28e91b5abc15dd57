//! What all settlements have in common.

use agentledger_ledger::{Name, Outcome, Settlement};

use crate::proxy::shared::exchange::Exchange;
use crate::proxy::shared::gateway::Gateway;

/// A settlement of an exchange that ends now, without usage and cost.
pub fn blank(gateway: &Gateway, exchange: &Exchange, outcome: Outcome, status: u16) -> Settlement {
    let (at_ms, model) = (gateway.clock.now_ms(), exchange.inspected.call.model.as_str());
    Settlement {
        response_id: exchange.ids.response.clone(),
        request_id: exchange.ids.request.clone(),
        ..Settlement::unanswered(at_ms, outcome, status, Name::from(model), exchange.started.elapsed_ms())
    }
}
