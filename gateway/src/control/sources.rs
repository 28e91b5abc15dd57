//! Gauges that are asked for when `/metrics` is read: the ledger's and the breakers'.

use std::sync::{Arc, Weak};

use super::{BreakerState, ControlState};
use crate::telemetry::{Samples, Source};

/// Holds the state weakly: the state holds the metrics, which hold this.
pub(super) struct Gauges(Weak<ControlState>);

impl Gauges {
    pub(super) fn new(state: &Arc<ControlState>) -> Gauges {
        Gauges(Arc::downgrade(state))
    }
}

impl Source for Gauges {
    fn sample(&self, out: &mut Samples) {
        let Some(state) = self.0.upgrade() else { return };
        for provider in &state.config.load().providers {
            let breaker = state.providers.breaker(&provider.name);
            let value = match breaker.state {
                BreakerState::Off | BreakerState::Closed => 0,
                BreakerState::HalfOpen => 1,
                BreakerState::Open => 2,
            };
            let help = "Circuit breaker: 0 closed or off, 1 half open, 2 open.";
            out.gauge("agentledger_breaker_state", help, &[("provider", &provider.name)], value);
        }
        out.gauge("agentledger_start_time_seconds", "When it started.", &[], state.started_at_ms / 1_000);
    }
}
