//! The gateway's metrics: the contract's names, the names its documentation promised, and ours.
//!
//! The hot path is one lookup an exchange: the first exchange of a kind (provider, model, key, status, stream) resolves
//! all its series, later ones find them ready. What others know best (balances, the journal's queue, breakers) is asked
//! for when `/metrics` is read, through [`Source`].

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use agentledger_ledger::{Entry, Kind, Outcome, Usd};
use parking_lot::RwLock;
use prometheus::{Registry, TextEncoder};

use super::families::{Families, add};
use super::family::{Counter, Gauge, Histogram, LabelValues, Money};
use super::latency::{Latencies, ProviderFigures};
use super::samples::{Source, Sources};
use crate::limits::Limits;
use crate::plugin::Recall;
use crate::policy::Lookups;

/// Series of one family for each value that a label may have.
const SERIES_PER_LABEL_VALUE: usize = 10;
/// The provider name of tool calls.
const MCP: &str = "mcp";

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
    registry: Registry,
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
    policies_asked: Recalls,
    inspected: Recalls,
    heads: Recalls,
    sources: Sources,
    latencies: Latencies,
}

/// Answers by whether they were remembered.
struct Recalls {
    hit: Counter,
    miss: Counter,
    unkept: Counter,
}

impl Recalls {
    fn of(what: &str, families: &Families) -> Recalls {
        let counter = |result: &str| families.remembered.get(&[&Arc::from(what), &Arc::from(result)]);
        Recalls {
            hit: counter("hit"),
            miss: counter("miss"),
            unkept: counter("unkept"),
        }
    }

    fn count(&self, recall: Recall) {
        let counter = match recall {
            Recall::Hit => &self.hit,
            Recall::Miss => &self.miss,
            Recall::Unkept => &self.unkept,
        };
        counter.add(1);
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
        let (registry, families, sources) = (Registry::new(), Families::new(series_max), Sources::default());
        families.register(&registry);
        add(&registry, Ok(sources.clone()));
        families.build_info.get(&[&Arc::from(env!("CARGO_PKG_VERSION"))]).set(1);
        Metrics {
            providers: LabelValues::new(values_max),
            models: LabelValues::new(values_max),
            keys: LabelValues::new(values_max),
            reasons: LabelValues::new(values_max),
            names: LabelValues::new(values_max),
            ready: RwLock::default(),
            ready_max: series_max,
            hasher: RandomState::new(),
            in_flight: families.in_flight.get(&[]),
            streams: families.streams.get(&[]),
            policies_asked: Recalls::of("policy", &families),
            inspected: Recalls::of("inspect", &families),
            heads: Recalls::of("head", &families),
            registry,
            families,
            sources,
            latencies: Latencies::default(),
        }
    }

    /// Counts a settled exchange.
    pub fn settled(&self, entry: &Entry) {
        let settlement = &entry.settlement;
        self.latencies.count(entry);
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

    /// An entry was corrected by so much.
    pub fn corrected(&self, provider: &str, by: Usd) {
        let direction = self.names.admit(if by.is_negative() { "down" } else { "up" });
        self.families
            .corrected
            .get(&[&self.names.admit(provider), &direction])
            .add_nanos(by.nanos().saturating_abs());
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

    /// Counts a connection closed because its client went on whatever it was refused.
    pub fn refusals_ignored(&self, provider: &str) {
        self.families
            .refusals_ignored
            .get(&[&self.providers.admit(provider)])
            .add(1);
    }

    /// Counts a request over a rate. `key` is a fingerprint.
    pub fn rate_limited(&self, key: &str) {
        self.families.rate_limited.get(&[&self.keys.admit(key)]).add(1);
    }

    /// Counts a refusal that a policy in shadow would have made.
    pub fn shadow_refused(&self, policy: &str, code: &str) {
        self.families
            .shadow_refused
            .get(&[&self.names.admit(policy), &self.reasons.admit(code)])
            .add(1);
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

    /// How a provider did, by the wall clock's `now_ms`.
    pub fn provider_figures(&self, provider: &str, now_ms: i64) -> ProviderFigures {
        self.latencies.of(provider, now_ms)
    }

    /// Exchanges running now.
    pub fn in_flight(&self) -> i64 {
        self.in_flight.get()
    }

    /// Counts an exchange that failed upstream: `connect` (no connection could be made), `timeout` (no byte in time),
    /// `broken` (it broke off) or `breaker_open` (it was not asked). An answer that says an error is none of these.
    pub fn upstream_error(&self, provider: &str, kind: &'static str) {
        self.families
            .upstream_errors
            .get(&[&self.providers.admit(provider), &self.reasons.admit(kind)])
            .add(1);
    }

    /// Counts plugin calls that trapped, ran out of their limits or answered outside their contract.
    pub fn plugin_traps(&self, plugin: &str, count: u32) {
        if count > 0 {
            self.families
                .plugin_traps
                .get(&[&self.names.admit(plugin)])
                .add(count.into());
        }
    }

    /// How many such calls there were since the start.
    pub fn plugin_failures(&self, plugin: &str) -> u64 {
        self.families.plugin_traps.get(&[&self.names.admit(plugin)]).get()
    }

    /// Counts frames of an answer that were read, by whom.
    pub fn frames_read(&self, plugin: &str, by_plan: u32, by_call: u32) {
        for (by, count) in [("plan", by_plan), ("call", by_call)] {
            if count > 0 {
                let (plugin, by) = (self.names.admit(plugin), self.names.admit(by));
                self.families.frames_read.get(&[&plugin, &by]).add(count.into());
            }
        }
    }

    /// Counts what policies were asked about one call.
    pub fn policies_asked(&self, lookups: Lookups) {
        let Lookups { hits, misses, unkept } = lookups;
        let Recalls { hit, miss, unkept: not } = &self.policies_asked;
        for (counter, count) in [(hit, hits), (miss, misses), (not, unkept)] {
            if count > 0 {
                counter.add(count.into());
            }
        }
    }

    /// Counts what a plugin said of a request.
    pub fn inspected(&self, recall: Recall) {
        self.inspected.count(recall);
    }

    /// Counts a request's head.
    pub fn head_read(&self, recall: Recall) {
        self.heads.count(recall);
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

    /// Counts an attempt to deliver an alert.
    pub fn alert_delivery(&self, receiver: &str, result: &'static str) {
        let (receiver, result) = (self.names.admit(receiver), self.names.admit(result));
        self.families.alert_deliveries.get(&[&receiver, &result]).add(1);
    }

    /// Deliveries of alerts as they stand.
    pub fn alerts_kept(&self, waiting: usize, dead: usize) {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.families.alerts_waiting.get(&[]).set(count(waiting));
        self.families.alerts_dead.get(&[]).set(count(dead));
    }

    /// Counts one group commit of the journal: how many events it made durable, and how long it took.
    pub fn journal_commit(&self, events: usize, took: Duration) {
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.families.commits.get(&[]).observe(took_ms);
        self.families.commit_events.get(&[]).add(events as u64);
    }

    /// Adds something to ask whenever the metrics are read.
    pub fn add_source(&self, source: Arc<dyn Source>) {
        self.sources.add(source);
    }

    /// The Prometheus text, format 0.0.4.
    pub fn render(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
