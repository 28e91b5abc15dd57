//! Gauges that are asked for when `/metrics` is read: the ledger's, the breakers' and the sessions'.

use std::sync::{Arc, Weak};

use crate::control::ledger_view::LedgerView;
use crate::control::state::{BreakerState, ControlState};
use agentledger_ledger::{ClockState, Ledger, Window};

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
            let breaker = state.data_plane.breaker(&provider.name);
            let value = match breaker.state {
                BreakerState::Off | BreakerState::Closed => 0,
                BreakerState::HalfOpen => 1,
                BreakerState::Open => 2,
            };
            let help = "Circuit breaker: 0 closed or off, 1 half open, 2 open.";
            out.gauge(
                "agentledger_breaker_state",
                help,
                &[("provider", &provider.name)],
                value,
            );
        }
        if let LedgerView::Live(ledger) = &state.ledger {
            let timeout_ms = state.config.load().agent.session_timeout_ms();
            let active = ledger.sessions().active(ledger.now_ms(), timeout_ms);
            let help = "Sessions that run: not ended, and not silent for the session timeout.";
            out.gauge("agentledger_active_sessions", help, &[], active);
            let help = "Alias of agentledger_active_sessions.";
            out.gauge("agentledger_sessions_active", help, &[], active);
            self::ledger(ledger, out);
        }
        out.gauge(
            "agentledger_start_time_seconds",
            "When it started.",
            &[],
            state.started_at_ms / 1_000,
        );
    }
}

fn ledger(ledger: &Ledger, out: &mut Samples) {
    let health = ledger.health();
    out.gauge(
        "agentledger_journal_head_sequence",
        "Last event on disk.",
        &[],
        health.head.sequence,
    );
    let head = health.head.hash.to_string();
    out.gauge(
        "agentledger_journal_head_info",
        "1; the chain's hash is a label.",
        &[("hash", &head)],
        1,
    );
    out.gauge(
        "agentledger_journal_queue_depth",
        "Events decided, not yet on disk.",
        &[],
        health.waiting_events,
    );
    out.gauge(
        "agentledger_journal_places_left",
        "Places for further events.",
        &[],
        health.permits_left,
    );
    let stopped = u8::from(health.stopped.is_some());
    out.gauge(
        "agentledger_journal_stopped",
        "1: nothing is written any more.",
        &[],
        stopped,
    );
    out.gauge(
        "agentledger_ledger_suspended",
        "1: the disk takes no more for now, and nothing is admitted until it does.",
        &[],
        u8::from(health.suspended.is_some()),
    );
    out.gauge(
        "agentledger_checkpoint_age_seconds",
        "Since when no checkpoint was written though there was something to write down.",
        &[],
        health.checkpoint_age_ms / 1_000,
    );
    let offset_ms = match health.clock {
        ClockState::Sound => 0,
        ClockState::Ahead { ms } => ms,
        ClockState::Behind { ms } => -ms,
    };
    out.gauge(
        "agentledger_clock_offset_seconds",
        "The machine's clock ahead of (below zero: behind) what the ledger believes; 0 while it is sound.",
        &[],
        offset_ms / 1_000,
    );
    out.gauge("agentledger_holds_open", "Open holds.", &[], health.open_holds);
    let global = ledger.held("global").usd.nanos();
    out.dollars("agentledger_held_usd", "Held by open holds.", &[], global);
    for (kind, count) in ledger.folded_names() {
        out.counter(
            "agentledger_names_folded_total",
            "Names counted on `other` of their kind, beyond limits.names_per_kind_max: accounts, cost sums, sessions.",
            &[("kind", kind)],
            count,
        );
    }
    for window in [Window::Day, Window::Month] {
        let spent = ledger.spent("global", window).usd.nanos();
        out.dollars(
            "agentledger_spent_usd",
            "Posted in the running window, UTC.",
            &[("window", window.name())],
            spent,
        );
    }
}
