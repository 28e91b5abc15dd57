//! The gateway's metrics: the contract's names, the names its documentation promised, and ours.
//!
//! The hot path is one lookup an exchange: the first exchange of a kind (provider, model, key, status, stream) resolves
//! all its series, later ones find them ready. What others know best (balances, the journal's queue, breakers) is asked
//! for when `/metrics` is read, through [`Source`].

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use agentledger_ledger::{Entry, Kind, Outcome};
use parking_lot::RwLock;

use super::family::{self, Counter, Family, Gauge, Histogram, LabelValues, Money};
use crate::config::Limits;

/// Upper bounds of the duration histograms, milliseconds; the contract's.
pub const DURATION_BOUNDS_MS: &[u64] = &[10, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000];
/// Upper bounds of the journal's commit latency, milliseconds.
const COMMIT_BOUNDS_MS: &[u64] = &[1, 2, 5, 10, 20, 50, 100, 250, 1_000, 5_000];
/// Series of one family for each value that a label may have.
const SERIES_PER_LABEL_VALUE: usize = 10;
/// The provider name of tool calls.
const MCP: &str = "mcp";

/// Something whose present state becomes gauges when `/metrics` is read.
pub trait Source: Send + Sync {
    fn sample(&self, out: &mut Samples);
}

/// What the sources said, by metric name.
#[derive(Default)]
pub struct Samples {
    families: std::collections::BTreeMap<&'static str, Sampled>,
}

struct Sampled {
    help: &'static str,
    kind: &'static str,
    lines: Vec<(String, String)>,
}

impl Samples {
    /// A present value.
    pub fn gauge(&mut self, name: &'static str, help: &'static str, labels: &[(&str, &str)], value: impl ToString) {
        self.push(name, help, "gauge", labels, value.to_string());
    }

    /// A present value in dollars, given in nano-dollars.
    pub fn dollars(&mut self, name: &'static str, help: &'static str, labels: &[(&str, &str)], nanos: i64) {
        self.push(name, help, "gauge", labels, family::dollars(nanos));
    }

    /// A total that its owner counts.
    pub fn counter(&mut self, name: &'static str, help: &'static str, labels: &[(&str, &str)], value: u64) {
        self.push(name, help, "counter", labels, value.to_string());
    }

    fn push(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: &'static str,
        labels: &[(&str, &str)],
        value: String,
    ) {
        let sampled = self.families.entry(name).or_insert_with(|| Sampled {
            help,
            kind,
            lines: Vec::new(),
        });
        sampled.lines.push((family::pairs(labels.iter().copied()), value));
    }

    fn render(self, out: &mut String) {
        for (name, sampled) in self.families {
            family::header(out, name, sampled.help, sampled.kind);
            for (labels, value) in &sampled.lines {
                family::line(out, name, labels, value);
            }
        }
    }
}

/// Counts one running thing; its end is the drop, whatever happened.
#[must_use = "dropping it ends what it counts"]
pub struct Running(Gauge);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

/// All metrics of one gateway. Share it in an `Arc`.
pub struct Metrics {
    families: Families,
    providers: LabelValues,
    models: LabelValues,
    keys: LabelValues,
    reasons: LabelValues,
    names: LabelValues,
    /// Ready series of the exchanges seen, by hash; the list holds those that share one.
    ready: RwLock<HashMap<u64, Vec<Arc<Ready>>>>,
    ready_max: usize,
    hasher: RandomState,
    in_flight: Gauge,
    streams: Gauge,
    commits: Histogram,
    commit_events: Counter,
    sessions: Gauge,
    /// Whether the number of sessions was ever told; it is not shown before.
    sessions_told: AtomicI64,
    sources: RwLock<Vec<Arc<dyn Source>>>,
}

struct Families {
    requests: Family<Counter>,
    duration: Family<Histogram>,
    ttfb: Family<Histogram>,
    tokens: Family<Counter>,
    usage: Family<Counter>,
    input_tokens: Family<Counter>,
    output_tokens: Family<Counter>,
    cost: Family<Money>,
    held: Family<Money>,
    overage: Family<Money>,
    reported: Family<Money>,
    drift: Family<Money>,
    outcomes: Family<Counter>,
    estimated: Family<Counter>,
    refused: Family<Counter>,
    rate_limited: Family<Counter>,
    mcp_calls: Family<Counter>,
    alerts: Family<Counter>,
    loops: Family<Counter>,
    ghosts: Family<Counter>,
    plugin_traps: Family<Counter>,
    policy_errors: Family<Counter>,
    upstream_errors: Family<Counter>,
}

impl Families {
    fn new(max: usize) -> Families {
        let counter = |name, help, labels| Family::new(name, help, labels, max, Counter::default);
        let money = |name, help, labels| Family::new(name, help, labels, max, Money::default);
        let ms = |name, help, labels| Family::new(name, help, labels, max, || Histogram::new(DURATION_BOUNDS_MS));
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
            rate_limited: counter(
                "agentledger_rate_limited_total",
                "Requests over a rate.",
                &["api_key_hash"],
            ),
            mcp_calls: counter("agentledger_mcp_calls_total", "Tool calls, `server:tool`.", &["tool"]),
            alerts: counter("agentledger_alerts_total", "Alerts raised.", &["type"]),
            loops: counter("agentledger_loop_detected_total", "Loops found.", &[]),
            ghosts: counter("agentledger_ghost_detected_total", "Ghost sessions found.", &[]),
            plugin_traps: counter(
                "agentledger_plugin_traps_total",
                "Plugin calls that failed.",
                &["plugin"],
            ),
            policy_errors: counter(
                "agentledger_policy_errors_total",
                "Policy runs that failed.",
                &["policy", "phase"],
            ),
            upstream_errors: counter(
                "agentledger_upstream_errors_total",
                "Failures upstream.",
                &["provider", "kind"],
            ),
        }
    }
}

/// The series of one kind of exchange, resolved.
struct Ready {
    provider: Box<str>,
    model: Box<str>,
    key: Box<str>,
    status: u16,
    stream: bool,
    /// The admitted label values.
    provider_label: Arc<str>,
    model_label: Arc<str>,
    requests: Counter,
    duration: Histogram,
    ttfb: Histogram,
    prompt: Counter,
    completion: Counter,
    input_tokens: Counter,
    output_tokens: Counter,
    cost: Money,
    held: Money,
    completed: Counter,
    tool_calls: Option<Counter>,
    /// By kind, made at its first use: most kinds never come.
    usage: [OnceLock<Counter>; Kind::COUNT],
}

impl Metrics {
    pub fn new(limits: &Limits) -> Metrics {
        let values_max = limits.metric_label_values_max;
        let series_max = values_max.saturating_mul(SERIES_PER_LABEL_VALUE);
        Metrics {
            families: Families::new(series_max),
            providers: LabelValues::new(values_max),
            models: LabelValues::new(values_max),
            keys: LabelValues::new(values_max),
            reasons: LabelValues::new(values_max),
            names: LabelValues::new(values_max),
            ready: RwLock::default(),
            ready_max: series_max,
            hasher: RandomState::new(),
            in_flight: Gauge::default(),
            streams: Gauge::default(),
            commits: Histogram::new(COMMIT_BOUNDS_MS),
            commit_events: Counter::default(),
            sessions: Gauge::default(),
            sessions_told: AtomicI64::new(0),
            sources: RwLock::default(),
        }
    }

    /// Counts a settled exchange.
    pub fn settled(&self, entry: &Entry) {
        let settlement = &entry.settlement;
        let ready = self.ready(entry);
        ready.requests.add(1);
        ready.duration.observe(settlement.duration_ms);
        if let Some(ttfb_ms) = settlement.ttfb_ms {
            ready.ttfb.observe(ttfb_ms);
        }
        for (kind, counter) in Kind::ALL.into_iter().zip(&ready.usage) {
            let count = settlement.usage.get(kind);
            if count == 0 {
                continue;
            }
            let series = || {
                self.families.usage.get(&[
                    &ready.provider_label,
                    &ready.model_label,
                    &self.names.admit(kind.name()),
                ])
            };
            counter.get_or_init(series).add(count);
        }
        let (input, output) = (settlement.usage.input_tokens(), settlement.usage.output_tokens());
        ready.prompt.add(input);
        ready.input_tokens.add(input);
        ready.completion.add(output);
        ready.output_tokens.add(output);
        ready.cost.add_nanos(settlement.cost.nanos());
        ready.held.add_nanos(entry.held.nanos());
        if let Some(tool_calls) = &ready.tool_calls {
            tool_calls.add(1);
        }
        match settlement.outcome {
            Outcome::Completed => ready.completed.add(1),
            other => {
                let outcome = self.names.admit(other.name());
                self.families.outcomes.get(&[&ready.provider_label, &outcome]).add(1);
            }
        }
        if let Some(reason) = &settlement.estimate_reason {
            self.families
                .estimated
                .get(&[&ready.provider_label, &self.reasons.admit(reason)])
                .add(1);
        }
        if entry.overage.nanos() > 0 {
            self.families
                .overage
                .get(&[&ready.provider_label, &ready.model_label])
                .add_nanos(entry.overage.nanos());
        }
        self.drift(&ready, entry);
    }

    /// Keeps a provider's own figure beside ours.
    fn drift(&self, ready: &Ready, entry: &Entry) {
        let Some(reported) = entry.settlement.reported_cost else {
            return;
        };
        let (provider, model) = (&ready.provider_label, &ready.model_label);
        self.families
            .reported
            .get(&[provider, model])
            .add_nanos(reported.nanos());
        let above = reported.nanos().saturating_sub(entry.settlement.cost.nanos());
        if above != 0 {
            let direction = self.names.admit(if above > 0 { "above" } else { "below" });
            self.families
                .drift
                .get(&[provider, model, &direction])
                .add_nanos(above.saturating_abs());
        }
    }

    fn ready(&self, entry: &Entry) -> Arc<Ready> {
        let (provider, key) = (&*entry.facts.provider, &*entry.facts.key);
        let (model, status) = (&*entry.settlement.model, entry.settlement.status);
        let stream = entry.facts.stream;
        let hash = self.hasher.hash_one((provider, model, key, status, stream));
        let is_it = |ready: &&Arc<Ready>| {
            ready.status == status
                && ready.stream == stream
                && &*ready.provider == provider
                && &*ready.model == model
                && &*ready.key == key
        };
        if let Some(found) = self.ready.read().get(&hash).and_then(|same| same.iter().find(is_it)) {
            return found.clone();
        }
        let new = Arc::new(self.resolve(provider, model, key, status, stream));
        let mut ready = self.ready.write();
        if ready.len() < self.ready_max {
            let same = ready.entry(hash).or_default();
            if same.iter().find(is_it).is_none() {
                same.push(new.clone());
            }
        }
        new
    }

    fn resolve(&self, provider: &str, model: &str, key: &str, status: u16, stream: bool) -> Ready {
        let families = &self.families;
        let provider_label = self.providers.admit(provider);
        let model_label = self.models.admit(model);
        let key_label = self.keys.admit(key);
        let status_label: Arc<str> = Arc::from(status.to_string());
        let stream_label: Arc<str> = Arc::from(if stream { "true" } else { "false" });
        let by_exchange = [&provider_label, &model_label, &status_label, &stream_label];
        let by_model = [&provider_label, &model_label];
        let name = |name| self.names.admit(name);
        Ready {
            requests: families.requests.get(&by_exchange),
            duration: families.duration.get(&by_exchange),
            ttfb: families.ttfb.get(&by_model),
            prompt: families.tokens.get(&[&provider_label, &model_label, &name("prompt")]),
            completion: families
                .tokens
                .get(&[&provider_label, &model_label, &name("completion")]),
            input_tokens: families.input_tokens.get(&by_model),
            output_tokens: families.output_tokens.get(&by_model),
            cost: families.cost.get(&[&provider_label, &model_label, &key_label]),
            held: families.held.get(&by_model),
            completed: families
                .outcomes
                .get(&[&provider_label, &name(Outcome::Completed.name())]),
            tool_calls: (provider == MCP).then(|| families.mcp_calls.get(&[&model_label])),
            usage: Default::default(),
            provider: provider.into(),
            model: model.into(),
            key: key.into(),
            status,
            stream,
            provider_label,
            model_label,
        }
    }

    /// Counts a request refused before it was forwarded, by the refusal's stable code. `provider` is empty where no
    /// route was found.
    pub fn refused(&self, provider: &str, code: &str) {
        self.families
            .refused
            .get(&[&self.providers.admit(provider), &self.reasons.admit(code)])
            .add(1);
    }

    /// Counts a request over a rate. `key` is a fingerprint.
    pub fn rate_limited(&self, key: &str) {
        self.families.rate_limited.get(&[&self.keys.admit(key)]).add(1);
    }

    /// Counts an exchange as running until the guard is dropped.
    pub fn exchange_started(&self) -> Running {
        self.in_flight.add(1);
        Running(self.in_flight.clone())
    }

    /// Counts a streamed answer as open until the guard is dropped.
    pub fn stream_opened(&self) -> Running {
        self.streams.add(1);
        Running(self.streams.clone())
    }

    /// Exchanges running now; what a drain waits for.
    pub fn in_flight(&self) -> i64 {
        self.in_flight.get()
    }

    /// Counts a failure upstream: `connect`, `first_byte`, `idle`, `reset`, `breaker`, `retry`.
    pub fn upstream_error(&self, provider: &str, kind: &'static str) {
        self.families
            .upstream_errors
            .get(&[&self.providers.admit(provider), &self.reasons.admit(kind)])
            .add(1);
    }

    /// Counts a plugin call that trapped or ran out of its limits.
    pub fn plugin_trap(&self, plugin: &str) {
        self.families.plugin_traps.get(&[&self.names.admit(plugin)]).add(1);
    }

    /// Counts a policy that erred, by phase (`request`, `settled`, …).
    pub fn policy_error(&self, policy: &str, phase: &'static str) {
        self.families
            .policy_errors
            .get(&[&self.names.admit(policy), &self.names.admit(phase)])
            .add(1);
    }

    /// Counts an alert by its type in the contract: `budget_warning`, `budget_exceeded`, `loop_detected`,
    /// `ghost_detected`.
    pub fn alert(&self, kind: &str) {
        self.families.alerts.get(&[&self.names.admit(kind)]).add(1);
        match kind {
            "loop_detected" => self.families.loops.get(&[]).add(1),
            "ghost_detected" => self.families.ghosts.get(&[]).add(1),
            _ => {}
        }
    }

    /// Tells how many sessions are live. The gauge appears with the first call.
    pub fn active_sessions(&self, count: usize) {
        self.sessions.set(i64::try_from(count).unwrap_or(i64::MAX));
        self.sessions_told.store(1, Ordering::Relaxed);
    }

    /// Counts one group commit of the journal: how many events it made durable, and how long it took.
    pub fn journal_commit(&self, events: usize, took: Duration) {
        self.commits
            .observe(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        self.commit_events.add(events as u64);
    }

    /// Adds something to ask whenever the metrics are read.
    pub fn add_source(&self, source: Arc<dyn Source>) {
        self.sources.write().push(source);
    }

    /// The Prometheus text, format 0.0.4.
    pub fn render(&self) -> String {
        let mut out = String::with_capacity(16 << 10);
        self.families.render(&mut out);
        let mut samples = Samples::default();
        samples.gauge("agentledger_in_flight", "Exchanges running.", &[], self.in_flight.get());
        samples.gauge(
            "agentledger_streams_open",
            "Streamed answers open.",
            &[],
            self.streams.get(),
        );
        samples.gauge(
            "agentledger_build_info",
            "1; the version is a label.",
            &[("version", env!("CARGO_PKG_VERSION"))],
            1,
        );
        if self.sessions_told.load(Ordering::Relaxed) != 0 {
            samples.gauge(
                "agentledger_active_sessions",
                "Sessions live.",
                &[],
                self.sessions.get(),
            );
            samples.gauge(
                "agentledger_sessions_active",
                "Alias of agentledger_active_sessions.",
                &[],
                self.sessions.get(),
            );
        }
        for source in self.sources.read().iter() {
            source.sample(&mut samples);
        }
        samples.render(&mut out);
        if self.commit_events.get() > 0 {
            let name = "agentledger_journal_commit_ms";
            family::header(&mut out, name, "Time of one group commit, ms.", "histogram");
            family::Series::write(&self.commits, &mut out, name, "");
            let name = "agentledger_journal_events_total";
            family::header(&mut out, name, "Events made durable.", "counter");
            family::line(&mut out, name, "", self.commit_events.get());
        }
        out
    }
}

impl Families {
    fn render(&self, out: &mut String) {
        self.requests.render(out);
        self.requests
            .render_as("agentledger_requests_total", "Alias of agentledger_request_total.", out);
        self.duration.render(out);
        self.ttfb.render(out);
        for counters in [
            &self.tokens,
            &self.usage,
            &self.input_tokens,
            &self.output_tokens,
            &self.outcomes,
            &self.estimated,
            &self.refused,
            &self.rate_limited,
            &self.mcp_calls,
            &self.alerts,
            &self.loops,
            &self.ghosts,
            &self.plugin_traps,
            &self.policy_errors,
            &self.upstream_errors,
        ] {
            counters.render(out);
        }
        for money in [&self.cost, &self.held, &self.overage, &self.reported, &self.drift] {
            money.render(out);
        }
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
