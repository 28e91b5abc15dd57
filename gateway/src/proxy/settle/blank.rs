//! What all settlements have in common.

use agentledger_ledger::{Name, Outcome, Settlement, Usage, Usd};

use crate::proxy::shared::exchange::Exchange;
use crate::proxy::shared::gateway::Gateway;

/// A settlement of an exchange that ends now, without usage and cost.
pub fn blank(gateway: &Gateway, exchange: &Exchange, outcome: Outcome, status: u16) -> Settlement {
    Settlement {
        at_ms: gateway.clock.now_ms(),
        outcome,
        status,
        model: Name::from(exchange.inspected.call.model.as_str()),
        usage: Usage::default(),
        parts: Vec::new(),
        reasoning: 0,
        cost: Usd::ZERO,
        reported_cost: None,
        upper_bound: None,
        price: None,
        estimate_reason: None,
        verdict: Vec::new(),
        duration_ms: exchange.started.elapsed_ms(),
        ttfb_ms: None,
    }
}
