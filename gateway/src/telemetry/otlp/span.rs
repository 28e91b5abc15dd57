//! The span of an exchange, or of a call that was refused: kind CLIENT, named by what was done with which model (`chat gpt-4o`), below the client's own span.
//! The gateway shows one span and not two: what it does itself takes milliseconds, and is in the same stretch of time.
//!
//! Names are those of OpenTelemetry's semantic conventions for generative AI, as of version 1.42.0
//! (<https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/gen-ai-spans.md>), whose status is
//! "development"; `gen_ai.system` is what `gen_ai.provider.name` was called up to 1.36. Ours begin with `agentledger.`.
//! Never what was asked or answered, never a key, no user and no task: a span's reader need not be who may know them.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use agentledger_ledger::{Kind, Outcome, Settlement, Unit, Usd};
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::super::family::LabelValues;
use super::super::trace::SpanIds;
use super::{Finished, RefusedCall};
use crate::config::Config;

pub(super) const OPERATION: &str = "gen_ai.operation.name";
pub(super) const PROVIDER: &str = "gen_ai.provider.name";
pub(super) const REQUEST_MODEL: &str = "gen_ai.request.model";
pub(super) const RESPONSE_MODEL: &str = "gen_ai.response.model";
pub(super) const TOKEN_TYPE: &str = "gen_ai.token.type";
pub(super) const SERVER_ADDRESS: &str = "server.address";
pub(super) const SERVER_PORT: &str = "server.port";
pub(super) const ERROR_TYPE: &str = "error.type";

/// Longest text of an attribute: clients name models, agents and sessions.
const TEXT_BYTES_MAX: usize = 256;

/// Who made the spans.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("agentledger")
        .with_version(env!("CARGO_PKG_VERSION"))
        .with_schema_url("https://opentelemetry.io/schemas/1.42.0")
        .build()
}

/// A provider as the conventions name it.
pub(super) struct Provider {
    pub name: Arc<str>,
    /// Where it is reached.
    pub server: Option<(String, u16)>,
}

impl Provider {
    /// `name` is the config's.
    pub fn of(config: &Config, name: &Arc<str>) -> Provider {
        let Some(provider) = config.providers.iter().find(|one| *one.name == **name) else {
            return Provider {
                name: Arc::clone(name),
                server: None,
            };
        };
        let known = match provider.vendor.as_str() {
            "azure" => "azure.ai.openai",
            "bedrock" => "aws.bedrock",
            "gemini" => "gcp.gemini",
            "vertex" => "gcp.vertex_ai",
            "mistral" => "mistral_ai",
            "moonshot" => "moonshot_ai",
            "xai" => "x_ai",
            "" => name,
            vendor => vendor,
        };
        Provider {
            name: known.into(),
            server: Some((provider.upstream.host.clone(), provider.upstream.port)),
        }
    }
}

/// What was done, in the conventions' words where they have one.
pub(super) fn operation(operation: &str) -> &str {
    match operation {
        "chat" | "messages" | "responses" | "converse" | "invoke" | "chat.async" | "chat.deferred" | "native.chat"
        | "interactions" | "realtime" => "chat",
        "agents.completions" | "conversations.run" => "invoke_agent",
        "completions" | "generate" => "text_completion",
        "embeddings" | "embed" | "native.embed" => "embeddings",
        "generateContent" | "streamGenerateContent" => "generate_content",
        other => other,
    }
}

/// The class of its failure; `None` where it did not fail.
pub(super) fn error_type(end: &Settlement) -> Option<Cow<'static, str>> {
    match end.outcome {
        _ if end.status >= 400 => Some(Cow::Owned(end.status.to_string())),
        Outcome::Completed => None,
        other => Some(Cow::Borrowed(other.name())),
    }
}

fn text(value: &str) -> StringValue {
    let mut end = value.len().min(TEXT_BYTES_MAX);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    StringValue::from(value.get(..end).unwrap_or_default().to_owned())
}

/// Attributes, left out where they say nothing.
struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn text(&mut self, name: &'static str, value: &str) {
        if !value.is_empty() {
            self.0.push(KeyValue::new(name, Value::String(text(value))));
        }
    }

    fn count(&mut self, name: &'static str, value: u64) {
        self.0
            .push(KeyValue::new(name, i64::try_from(value).unwrap_or(i64::MAX)));
    }

    fn flag(&mut self, name: &'static str, value: bool) {
        self.0.push(KeyValue::new(name, value));
    }

    /// A float, which backends can add up; the books have it exactly.
    fn usd(&mut self, name: &'static str, value: Usd) {
        self.0.push(KeyValue::new(name, value.nanos() as f64 / 1e9));
    }

    fn texts<'a>(&mut self, name: &'static str, values: impl Iterator<Item = &'a str>) {
        let values: Vec<StringValue> = values.map(text).collect();
        if !values.is_empty() {
            self.0.push(KeyValue::new(name, Value::Array(Array::String(values))));
        }
    }
}

/// The span of a settled exchange.
pub(super) fn of(finished: &Finished, provider: &Provider, scope: &InstrumentationScope) -> SpanData {
    let (facts, end) = (&finished.entry.facts, &finished.entry.settlement);
    let operation = operation(&facts.operation);
    let error = error_type(end);
    let attributes = attributes(finished, provider, operation, error.as_deref());
    let (model, took) = (text(&facts.requested_model), Duration::from_millis(end.duration_ms));
    let named = format!("{operation} {model}");
    span(
        &finished.ids,
        named,
        (moment(facts.at_ms), took),
        attributes,
        error,
        scope,
    )
}

/// The span of a call that was refused. It reached no server.
pub(super) fn of_refused(
    call: &RefusedCall,
    ids: &SpanIds,
    provider: &Provider,
    names: &LabelValues,
    scope: &InstrumentationScope,
) -> SpanData {
    let operation = operation(&call.operation);
    let model = match call.model.is_empty() {
        true => Arc::clone(&call.model),
        false => names.admit(&call.model),
    };
    let mut all = Attributes(Vec::with_capacity(16));
    all.text(OPERATION, operation);
    all.text(PROVIDER, &provider.name);
    all.text("gen_ai.system", &provider.name);
    all.text(REQUEST_MODEL, &model);
    all.text("gen_ai.conversation.id", &call.session);
    all.text("gen_ai.agent.name", &call.agent);
    all.count("http.response.status_code", u64::from(call.status));
    let code = names.admit(&call.code);
    all.text(ERROR_TYPE, &code);
    all.text("agentledger.exchange.id", &call.id.to_string());
    all.text("agentledger.provider", &call.provider);
    all.text("agentledger.tenant", &call.tenant);
    all.text("agentledger.agent", &call.agent);
    all.text("agentledger.session", &call.session);
    all.text("agentledger.outcome", "refused");
    all.texts("agentledger.verdict", call.verdict.iter().map(|policy| &**policy));
    let took = Duration::from_millis(call.duration_ms);
    let (named, error) = (format!("{operation} {model}"), Some(Cow::Owned(code.to_string())));
    span(ids, named, (moment(call.at_ms), took), all.0, error, scope)
}

fn span(
    ids: &SpanIds,
    named: String,
    (start, took): (SystemTime, Duration),
    attributes: Vec<KeyValue>,
    error: Option<Cow<'static, str>>,
    scope: &InstrumentationScope,
) -> SpanData {
    SpanData {
        span_context: SpanContext::new(
            TraceId::from_bytes(ids.own.trace.to_be_bytes()),
            SpanId::from_bytes(ids.own.span.to_be_bytes()),
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        ),
        parent_span_id: ids
            .parent
            .map_or(SpanId::INVALID, |parent| SpanId::from_bytes(parent.to_be_bytes())),
        parent_span_is_remote: ids.parent.is_some(),
        span_kind: SpanKind::Client,
        name: Cow::Owned(named.trim_end().to_owned()),
        start_time: start,
        end_time: start + took,
        attributes,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: match error {
            Some(error) => Status::error(error),
            None => Status::Unset,
        },
        instrumentation_scope: scope.clone(),
    }
}

fn moment(at_ms: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(at_ms).unwrap_or_default())
}

fn attributes(finished: &Finished, provider: &Provider, operation: &str, error: Option<&str>) -> Vec<KeyValue> {
    let (facts, end) = (&finished.entry.facts, &finished.entry.settlement);
    let mut all = Attributes(Vec::with_capacity(40));
    all.text(OPERATION, operation);
    all.text(PROVIDER, &provider.name);
    all.text("gen_ai.system", &provider.name);
    all.text(REQUEST_MODEL, &facts.requested_model);
    all.flag("gen_ai.request.stream", facts.stream);
    all.text(RESPONSE_MODEL, &end.model);
    all.text("gen_ai.response.id", end.response_id.as_deref().unwrap_or_default());
    all.text("gen_ai.conversation.id", &facts.session);
    all.text("gen_ai.agent.name", &facts.agent);
    all.count("gen_ai.usage.input_tokens", end.usage.input_tokens());
    all.count("gen_ai.usage.output_tokens", end.usage.output_tokens());
    let written = [Kind::CacheWrite5m, Kind::CacheWrite1h].map(|kind| end.usage.get(kind));
    for (name, tokens) in [
        ("gen_ai.usage.cache_read.input_tokens", end.usage.get(Kind::CacheRead)),
        ("gen_ai.usage.cache_creation.input_tokens", written.iter().sum()),
        ("gen_ai.usage.reasoning.output_tokens", end.reasoning),
    ] {
        if tokens > 0 {
            all.count(name, tokens);
        }
    }
    if let Some(ttfb_ms) = end.ttfb_ms.filter(|_| facts.stream) {
        let seconds = Duration::from_millis(ttfb_ms).as_secs_f64();
        all.0
            .push(KeyValue::new("gen_ai.response.time_to_first_chunk", seconds));
    }
    if let Some((host, port)) = &provider.server {
        all.text(SERVER_ADDRESS, host);
        all.count(SERVER_PORT, u64::from(*port));
    }
    if end.status > 0 {
        all.count("http.response.status_code", u64::from(end.status));
    }
    all.text(ERROR_TYPE, error.unwrap_or_default());
    ours(finished, &mut all);
    all.0
}

/// What only the ledger knows.
fn ours(finished: &Finished, all: &mut Attributes) {
    let entry = &finished.entry;
    let (facts, end) = (&entry.facts, &entry.settlement);
    all.text("agentledger.exchange.id", &facts.id.to_string());
    all.text("agentledger.provider", &facts.provider);
    all.text("agentledger.tenant", &facts.tenant);
    all.text("agentledger.agent", &facts.agent);
    all.text("agentledger.session", &facts.session);
    all.text("agentledger.outcome", end.outcome.name());
    all.usd("agentledger.cost_usd", end.cost);
    all.usd("agentledger.held_usd", entry.held);
    all.usd("agentledger.overage_usd", entry.overage);
    all.text(
        "agentledger.overage_reason",
        entry.overage_reason.as_deref().unwrap_or_default(),
    );
    all.flag("agentledger.estimated", end.estimate_reason.is_some());
    all.text(
        "agentledger.estimate_reason",
        end.estimate_reason.as_deref().unwrap_or_default(),
    );
    if let Some(reported) = end.reported_cost {
        all.usd("agentledger.reported_cost_usd", reported);
    }
    all.texts("agentledger.verdict", end.verdict.iter().map(|policy| &**policy));
    let Some(budget) = finished.traced.tightest.get() else {
        return;
    };
    let is_user = budget.account.starts_with("user:");
    all.text(
        "agentledger.budget.account",
        if is_user { "user" } else { &budget.account },
    );
    all.text("agentledger.budget.window", budget.window.name());
    all.text("agentledger.budget.unit", budget.unit.name());
    for (name, amount) in [
        ("agentledger.budget.limit", budget.limit),
        ("agentledger.budget.left", budget.left),
    ] {
        match budget.unit {
            Unit::Usd => all.usd(name, Usd::from_nanos(amount)),
            Unit::Tokens | Unit::Requests => all.0.push(KeyValue::new(name, amount)),
        }
    }
}
