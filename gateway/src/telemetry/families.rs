//! The families of the data plane's counts, and the registry's view of them. What another part knows best comes from a
//! [`super::Source`] instead.

use std::sync::Arc;

use prometheus::Registry;
use prometheus::core::Collector;

use super::family::{Counter, Exposed, Family, Gauge, Histogram, Money, Series};

/// Upper bounds of the duration histograms, milliseconds; the contract's.
pub const DURATION_BOUNDS_MS: &[u64] = &[10, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000];
/// Upper bounds of the journal's commit latency, milliseconds.
const COMMIT_BOUNDS_MS: &[u64] = &[1, 2, 5, 10, 20, 50, 100, 250, 1_000, 5_000];

pub(super) struct Families {
    pub requests: Arc<Family<Counter>>,
    pub duration: Arc<Family<Histogram>>,
    pub ttfb: Arc<Family<Histogram>>,
    pub tokens: Arc<Family<Counter>>,
    pub usage: Arc<Family<Counter>>,
    pub input_tokens: Arc<Family<Counter>>,
    pub output_tokens: Arc<Family<Counter>>,
    pub cost: Arc<Family<Money>>,
    pub held: Arc<Family<Money>>,
    pub overage: Arc<Family<Money>>,
    pub reported: Arc<Family<Money>>,
    pub drift: Arc<Family<Money>>,
    pub corrected: Arc<Family<Money>>,
    pub outcomes: Arc<Family<Counter>>,
    pub estimated: Arc<Family<Counter>>,
    pub refused: Arc<Family<Counter>>,
    pub refusals_ignored: Arc<Family<Counter>>,
    pub rate_limited: Arc<Family<Counter>>,
    pub shadow_refused: Arc<Family<Counter>>,
    pub mcp_calls: Arc<Family<Counter>>,
    pub alerts: Arc<Family<Counter>>,
    pub alert_deliveries: Arc<Family<Counter>>,
    pub alerts_waiting: Arc<Family<Gauge>>,
    pub alerts_dead: Arc<Family<Gauge>>,
    pub loops: Arc<Family<Counter>>,
    pub ghosts: Arc<Family<Counter>>,
    pub plugin_traps: Arc<Family<Counter>>,
    pub frames_read: Arc<Family<Counter>>,
    pub policy_errors: Arc<Family<Counter>>,
    pub remembered: Arc<Family<Counter>>,
    pub upstream_errors: Arc<Family<Counter>>,
    pub commits: Arc<Family<Histogram>>,
    pub commit_events: Arc<Family<Counter>>,
    pub in_flight: Arc<Family<Gauge>>,
    pub streams: Arc<Family<Gauge>>,
    pub build_info: Arc<Family<Gauge>>,
}

impl Families {
    /// At most `max` series a family, and one more for all others.
    pub fn new(max: usize) -> Families {
        let counter = |name, help, labels| Arc::new(Family::new(name, help, labels, max, Counter::default));
        let money = |name, help, labels| Arc::new(Family::new(name, help, labels, max, Money::default));
        let gauge = |name, help, labels| Arc::new(Family::new(name, help, labels, max, Gauge::default));
        let ms = |name, help, labels| {
            let make = || Histogram::new(DURATION_BOUNDS_MS);
            Arc::new(Family::new(name, help, labels, max, make))
        };
        let by_exchange: &[&str] = &["provider", "model", "status_code", "streaming"];
        let by_model: &[&str] = &["provider", "model"];
        Families {
            requests: counter("agentledger_request_total", "Settled exchanges.", by_exchange),
            duration: ms(
                "agentledger_request_duration_ms",
                "Request's start to the answer's end, ms.",
                by_exchange,
            ),
            ttfb: ms(
                "agentledger_ttfb_ms",
                "Request's start to the answer's first byte, ms.",
                by_model,
            ),
            tokens: counter(
                "agentledger_tokens_total",
                "Tokens read and written.",
                &["provider", "model", "type"],
            ),
            usage: counter(
                "agentledger_usage_total",
                "Billed units by kind.",
                &["provider", "model", "kind"],
            ),
            input_tokens: counter(
                "agentledger_input_tokens_total",
                "Tokens read, cached ones too.",
                by_model,
            ),
            output_tokens: counter(
                "agentledger_output_tokens_total",
                "Tokens written, reasoning too.",
                by_model,
            ),
            cost: money(
                "agentledger_cost_usd_total",
                "Settled cost.",
                &["provider", "model", "api_key_hash"],
            ),
            held: money(
                "agentledger_held_usd_total",
                "Held for settled exchanges, extensions included.",
                by_model,
            ),
            overage: money(
                "agentledger_overage_usd_total",
                "Billed beyond what was held.",
                by_model,
            ),
            reported: money(
                "agentledger_reported_cost_usd_total",
                "Cost as providers report it.",
                by_model,
            ),
            drift: money(
                "agentledger_price_drift_usd_total",
                "Difference between a provider's reported cost and ours, by its direction.",
                &["provider", "model", "reported"],
            ),
            corrected: money(
                "agentledger_corrected_usd_total",
                "What results that were fetched late changed of entered costs, by its direction.",
                &["provider", "direction"],
            ),
            outcomes: counter(
                "agentledger_outcomes_total",
                "How exchanges ended.",
                &["provider", "outcome"],
            ),
            estimated: counter(
                "agentledger_estimated_total",
                "Estimated entries by reason.",
                &["provider", "reason"],
            ),
            refused: counter(
                "agentledger_refused_total",
                "Requests refused before forwarding.",
                &["provider", "code"],
            ),
            refusals_ignored: counter(
                "agentledger_refusals_ignored_total",
                "Connections closed because their client went on whatever it was refused.",
                &["provider"],
            ),
            rate_limited: counter(
                "agentledger_rate_limited_total",
                "Requests over a rate.",
                &["api_key_hash"],
            ),
            shadow_refused: counter(
                "agentledger_shadow_refused_total",
                "Requests that a policy in shadow would have refused.",
                &["policy", "code"],
            ),
            mcp_calls: counter("agentledger_mcp_calls_total", "Tool calls, `server:tool`.", &["tool"]),
            alerts: counter("agentledger_alerts_total", "Alerts raised.", &["type"]),
            alert_deliveries: counter(
                "agentledger_alert_deliveries_total",
                "Attempts to deliver an alert: delivered, failed (tried again) or refused (a dead letter).",
                &["receiver", "result"],
            ),
            alerts_waiting: gauge(
                "agentledger_alert_deliveries_waiting",
                "Deliveries of alerts that wait or are held.",
                &[],
            ),
            alerts_dead: gauge(
                "agentledger_alert_deliveries_dead",
                "Deliveries of alerts that were given up, see `alert.retry`.",
                &[],
            ),
            loops: counter("agentledger_loop_detected_total", "Loops found.", &[]),
            ghosts: counter("agentledger_ghost_detected_total", "Ghost sessions found.", &[]),
            plugin_traps: counter(
                "agentledger_plugin_traps_total",
                "Plugin calls that failed.",
                &["plugin"],
            ),
            frames_read: counter(
                "agentledger_answer_frames_read_total",
                "Frames of answers read for usage: by the dialect's reading plan, or by a call into its plugin.",
                &["plugin", "by"],
            ),
            policy_errors: counter(
                "agentledger_policy_errors_total",
                "Policy runs that failed.",
                &["policy", "phase"],
            ),
            remembered: counter(
                "agentledger_remembered_total",
                "What was made of requests' heads, and answers of policies and plugins: hit (remembered), miss (made, and remembered since) or unkept.",
                &["of", "result"],
            ),
            upstream_errors: counter(
                "agentledger_upstream_errors_total",
                "Failures upstream.",
                &["provider", "kind"],
            ),
            commits: Arc::new(Family::new(
                "agentledger_journal_commit_ms",
                "Time of one group commit, ms.",
                &[],
                max,
                || Histogram::new(COMMIT_BOUNDS_MS),
            )),
            commit_events: counter("agentledger_journal_events_total", "Events made durable.", &[]),
            in_flight: gauge("agentledger_in_flight", "Exchanges running.", &[]),
            streams: gauge("agentledger_streams_open", "Streamed answers open.", &[]),
            build_info: gauge("agentledger_build_info", "1; the version is a label.", &["version"]),
        }
    }

    /// Shows every family, and those that have two names under both.
    pub fn register(&self, registry: &Registry) {
        show(registry, &self.requests);
        let alias = Exposed::alias(
            &self.requests,
            "agentledger_requests_total",
            "Alias of agentledger_request_total.",
        );
        add(registry, alias);
        show(registry, &self.duration);
        show(registry, &self.ttfb);
        show(registry, &self.commits);
        for counters in [
            &self.tokens,
            &self.usage,
            &self.input_tokens,
            &self.output_tokens,
            &self.outcomes,
            &self.estimated,
            &self.refused,
            &self.refusals_ignored,
            &self.rate_limited,
            &self.shadow_refused,
            &self.mcp_calls,
            &self.alerts,
            &self.alert_deliveries,
            &self.loops,
            &self.ghosts,
            &self.plugin_traps,
            &self.frames_read,
            &self.policy_errors,
            &self.remembered,
            &self.upstream_errors,
            &self.commit_events,
        ] {
            show(registry, counters);
        }
        for money in [
            &self.cost,
            &self.held,
            &self.overage,
            &self.reported,
            &self.drift,
            &self.corrected,
        ] {
            show(registry, money);
        }
        for gauges in [
            &self.in_flight,
            &self.streams,
            &self.alerts_waiting,
            &self.alerts_dead,
            &self.build_info,
        ] {
            show(registry, gauges);
        }
    }
}

fn show<S: Series>(registry: &Registry, family: &Arc<Family<S>>) {
    add(registry, Exposed::new(family));
}

/// Adds what shows metrics. It is refused only where a name is misspelt or given twice, which the tests would show.
pub(super) fn add(registry: &Registry, collector: prometheus::Result<impl Collector + 'static>) {
    let added = collector.and_then(|collector| registry.register(Box::new(collector)));
    if let Err(error) = added {
        tracing::error!(%error, "a metric is not shown");
    }
}
