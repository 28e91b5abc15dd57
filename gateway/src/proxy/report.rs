//! Last step: metrics and one log line an exchange. Neither holds a key or a prompt. What is counted as it happens, on the
//! way through the other steps, is counted here too.

use std::sync::Arc;

use agentledger_ledger::{Correction, Denial, Entry, Name, RefusalRecord, Standing, Unit, Usd, Window};
use ulid::Ulid;

use crate::meter::Metered;
use crate::policy::record::RefusedBy;
use crate::policy::{Event, RequestedBound};
use crate::proxy::alerts::{due, policies_failed};
use crate::proxy::facts;
use crate::proxy::forward::breaker::Attempt;
use crate::proxy::shared::exchange::Exchange;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::identity::Target;
use crate::proxy::shared::reply::Refusal;
use crate::proxy::shared::rules::ProviderEndpoint;
use crate::telemetry::alerts::Occurrence;
use crate::telemetry::trace::{TightestBudget, TraceParent, Traced};
use crate::telemetry::{RefusedCall, Running};
use crate::timer::Timer;

pub use crate::proxy::alerts::{Origin, OwnAlert, alerts, event, own_alert};

/// The event of a budget that is near or over its limit.
const BUDGET: &str = "budget";

/// Counts an exchange that begins; it runs until the guard is dropped.
pub fn begun(gateway: &Gateway) -> Running {
    gateway.metrics.exchange_started()
}

/// How an upstream failed, as metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamError {
    Connect,
    Timeout,
    Broken,
    BreakerOpen,
}

/// Counts an upstream that failed, or was not called because it had.
pub fn upstream_failed(gateway: &Gateway, endpoint: &ProviderEndpoint, error: UpstreamError) {
    let kind = match error {
        UpstreamError::Connect => "connect",
        UpstreamError::Timeout => "timeout",
        UpstreamError::Broken => "broken",
        UpstreamError::BreakerOpen => "breaker_open",
    };
    gateway.metrics.upstream_error(&endpoint.name, kind);
}

/// What became of a call: the breaker hears of it, and people where it opens.
pub fn attempted(gateway: &Gateway, exchange: &Exchange, attempt: Attempt<'_>, succeeded: bool) {
    let settings = &exchange.rules.config.breaker;
    if attempt.done(succeeded, settings, gateway.clock.monotonic_ms()) {
        facts::circuit_opened(gateway, &exchange.endpoint, settings);
    }
}

/// Counts how the frames of an answer were read, and the calls that its plugin failed.
pub fn answer_read(gateway: &Gateway, endpoint: &ProviderEndpoint, metered: &Metered) {
    let frames = metered.frames_read;
    let plugin = &endpoint.plugin.dialect.info().name;
    gateway.metrics.frames_read(plugin, frames.by_plan, frames.by_call);
    plugin_failed(gateway, endpoint, metered.plugin_errors);
}

/// Counts calls that an endpoint's plugin failed.
pub fn plugin_failed(gateway: &Gateway, endpoint: &ProviderEndpoint, count: u32) {
    gateway
        .metrics
        .plugin_traps(&endpoint.plugin.dialect.info().name, count);
    if count > 0 {
        facts::plugin_failed(gateway, endpoint, count);
    }
}

/// Reports a settled exchange: metrics, the log, and the policies that want to know. One that fails there is counted and
/// changes nothing: the money is spent.
pub fn settled(gateway: &Gateway, entry: Entry, traced: &Traced) {
    gateway.metrics.settled(&entry);
    let (facts, end) = (&entry.facts, &entry.settlement);
    tracing::info!(
        id = %facts.id,
        provider = %facts.provider,
        operation = %facts.operation,
        model = %end.model,
        status = end.status,
        outcome = end.outcome.name(),
        input = end.usage.input_tokens(),
        output = end.usage.output_tokens(),
        cost_usd = %end.cost,
        estimated = end.estimate_reason.as_deref(),
        key = %facts.key,
        agent = %facts.agent,
        session = %facts.session,
        trace = traced.parent.map(|parent| parent.trace_id()),
        duration_ms = end.duration_ms,
        request_id = end.request_id.as_deref(),
        "exchange"
    );
    facts::settled(gateway, &entry);
    let entry = Arc::new(entry);
    if let Some(otlp) = &gateway.otlp {
        otlp.settled(&entry, traced);
    }
    let (requested, failures) = gateway
        .policies
        .settled(&gateway.rules.load().policies, &entry, &gateway.balances);
    policies_failed(gateway, &failures);
    alerts(gateway, Origin::new(&entry.facts.tenant), requested);
}

/// Reports an entry that a result corrected which was fetched late.
pub fn corrected(gateway: &Gateway, endpoint: &ProviderEndpoint, correction: &Correction) {
    gateway.metrics.corrected(&endpoint.name, correction.usd);
    tracing::info!(id = %correction.id, provider = %endpoint.name, by_usd = %correction.usd, "an entry is corrected: its result was fetched late");
}

/// Notes for the exchange's span which of its budgets has least left.
pub fn tightest(gateway: &Gateway, exchange: &Exchange, requested: &[RequestedBound], standings: &[Standing]) {
    if gateway.otlp.is_none() {
        return;
    }
    // Shares of the limits: budgets may be in any unit.
    let left = |standing: &Standing| standing.left().saturating_mul(1_000_000) / i128::from(standing.limit.max(1));
    let least = requested
        .iter()
        .zip(standings)
        .min_by_key(|(_, standing)| left(standing));
    if let Some((requested, standing)) = least {
        let bound = &requested.bound;
        let left = standing.left().clamp(i64::MIN.into(), i64::MAX.into());
        exchange.traced.tightest.get_or_init(|| TightestBudget {
            account: Name::clone(bound.account()),
            window: bound.window(),
            unit: bound.unit(),
            limit: standing.limit,
            left: i64::try_from(left).unwrap_or_default(),
        });
    }
}

/// Notifies the policies of budgets that have reached a threshold, each once a cooldown.
pub fn thresholds(gateway: &Gateway, exchange: &Exchange, requested: &[RequestedBound], standings: &[Standing]) {
    for (requested, standing) in requested.iter().zip(standings) {
        if let Some(share) = requested.due_share(standing) {
            let bound = &requested.bound;
            budget_event(
                gateway,
                exchange,
                "reached",
                share,
                &Budget {
                    account: bound.account(),
                    window: bound.window(),
                    unit: bound.unit(),
                    spent: standing.posted,
                    limit: standing.limit,
                },
            );
        }
    }
}

/// A budget as events show it.
pub struct Budget<'a> {
    pub account: &'a str,
    pub window: Window,
    pub unit: Unit,
    pub spent: i64,
    pub limit: i64,
}

fn budget_event(gateway: &Gateway, exchange: &Exchange, state: &str, share_ppm: u32, budget: &Budget<'_>) {
    let share = share_ppm.to_string();
    let thing = [state, &share, budget.account, budget.window.name(), budget.unit.name()];
    let Some(folded) = due(gateway, BUDGET, &thing, Occurrence::New) else {
        return;
    };
    let told = Event::new(BUDGET, gateway.clock.now_ms())
        .text("state", state)
        .number("share", f64::from(share_ppm) / 1e6)
        .text("account", budget.account)
        .text("window", budget.window.name())
        .text("unit", budget.unit.name())
        .text("key", &*exchange.identity.fingerprint)
        .text("tenant", &*exchange.tenant)
        .text("agent", &*exchange.identity.agent)
        .text("session", &*exchange.identity.session);
    let told = match budget.unit {
        Unit::Usd => told
            .usd("spent", Usd::from_nanos(budget.spent))
            .usd("limit", Usd::from_nanos(budget.limit)),
        Unit::Tokens | Unit::Requests => told
            .text("spent", budget.spent.to_string())
            .text("limit", budget.limit.to_string()),
    };
    event(gateway, Origin::new(&exchange.tenant).folding(folded), told);
}

/// Notifies of a budget that is used up, once a cooldown.
pub fn budget_exceeded(gateway: &Gateway, exchange: &Exchange, budget: &Budget<'_>) {
    budget_event(gateway, exchange, "exceeded", 1_000_000, budget);
}

/// Records a request that a policy denied: the books keep refusals, by account and minute.
pub fn denied(gateway: &Gateway, exchange: &Exchange, code: &str, by: RefusedBy) {
    let account = format!("key:{}", exchange.identity.fingerprint);
    denied_on(gateway, exchange, &account, code, Some(by));
}

/// The same of a request that the limit of an account refused.
pub fn denied_on(gateway: &Gateway, exchange: &Exchange, account: &str, code: &str, by: Option<RefusedBy>) {
    let denial = Denial {
        account: Name::from(account),
        tenant: exchange.tenant.clone(),
        reason: Name::from(code),
        policy: by
            .as_ref()
            .map_or_else(|| Name::from(""), |by| Name::clone(by.policy())),
    };
    gateway.ledger.deny_recorded(&denial, || {
        let facts = exchange.facts();
        let record = exchange.record(&facts, None, by.as_ref())?;
        Some(RefusalRecord {
            facts: Arc::new(facts),
            record,
        })
    });
}

/// Counts a refusal that a policy in shadow would have made.
pub fn shadow_refused(gateway: &Gateway, exchange: &Exchange, policy: &str, code: &str) {
    gateway.metrics.shadow_refused(policy, code);
    tracing::info!(id = %exchange.id, policy, code, "would have been refused, by a policy in shadow");
}

/// A call that was refused before its body was read: its span says why.
pub fn turned_away(
    gateway: &Gateway,
    target: &Target,
    (at_ms, started, parent): (i64, Timer, Option<TraceParent>),
    refusal: &Refusal,
) {
    let nothing = || Name::from("");
    if let Some(otlp) = &gateway.otlp {
        otlp.refused(RefusedCall {
            id: Ulid::from_parts(u64::try_from(at_ms).unwrap_or_default(), rand::random()),
            at_ms,
            duration_ms: started.elapsed_ms(),
            provider: Name::clone(&target.endpoint.name),
            operation: Name::clone(&target.operation),
            model: nothing(),
            tenant: nothing(),
            agent: nothing(),
            session: nothing(),
            verdict: Vec::new(),
            status: refusal.status,
            code: Name::from(refusal.code.as_str()),
            parent,
        });
    }
}

/// A call that was refused, and has no entry: its span says why. What is free has none either way.
pub fn not_entered(gateway: &Gateway, exchange: &Exchange, refusal: &Refusal) {
    let Some(otlp) = gateway.otlp.as_ref().filter(|_| exchange.is_metered()) else {
        return;
    };
    let identity = &exchange.identity;
    otlp.refused(RefusedCall {
        id: exchange.id,
        at_ms: exchange.at_ms,
        duration_ms: exchange.started.elapsed_ms(),
        provider: Name::clone(&exchange.endpoint.name),
        operation: Name::clone(&exchange.operation),
        model: Name::from(exchange.inspected.call.model.as_str()),
        tenant: Name::clone(&exchange.tenant),
        agent: Name::clone(&identity.agent),
        session: Name::clone(&identity.session),
        verdict: exchange.policies_applied.clone(),
        status: refusal.status,
        code: Name::from(refusal.code.as_str()),
        parent: exchange.traced.parent,
    });
}

/// Counts a connection that is closed because its client goes on whatever it is refused.
pub fn refusals_ignored(gateway: &Gateway, provider: &str) {
    gateway.metrics.refusals_ignored(provider);
    tracing::info!(
        provider,
        "a client goes on after its refusals: its connection is closed"
    );
}

/// Counts and logs a refusal.
pub fn refused(gateway: &Gateway, provider: &str, refusal: &Refusal) {
    gateway.metrics.refused(provider, refusal.code.as_str());
    tracing::info!(
        provider,
        status = refusal.status,
        code = refusal.code.as_str(),
        "refused"
    );
}
