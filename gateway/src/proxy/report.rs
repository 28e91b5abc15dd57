//! Last step: metrics and one log line an exchange. Neither holds a key or a prompt. What is counted as it happens, on the
//! way through the other steps, is counted here too.

use std::sync::Arc;

use agentledger_ledger::{Correction, Denial, Entry, Name, Standing, Unit, Usd, Window};

use crate::policy::{AskedAlert, AskedBound, Event, PolicyFailure};
use crate::proxy::exchange::Exchange;
use crate::proxy::gateway::{Gateway, Way};
use crate::proxy::place::{Missed, due_share};
use crate::proxy::rated;
use crate::proxy::reply::Refusal;
use crate::telemetry::Running;
use crate::telemetry::alerts::Alert;

/// Tells that an exchange begins; it runs until the guard is dropped.
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

/// Tells of an upstream that failed, or was not asked because it had.
pub fn upstream_failed(gateway: &Gateway, way: &Way, error: UpstreamError) {
    let kind = match error {
        UpstreamError::Connect => "connect",
        UpstreamError::Timeout => "timeout",
        UpstreamError::Broken => "broken",
        UpstreamError::BreakerOpen => "breaker_open",
    };
    gateway.metrics.upstream_error(&way.name, kind);
}

/// Tells of calls that a way's plugin failed.
pub fn plugin_failed(gateway: &Gateway, way: &Way, count: u32) {
    gateway.metrics.plugin_traps(&way.plugin.dialect.info().name, count);
}

/// Tells of a settled exchange: metrics, the log, and the policies that want to know. One that fails there is counted and
/// changes nothing: the money is spent.
pub fn settled(gateway: &Gateway, entry: Entry, trace: &str) {
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
        trace = (!trace.is_empty()).then_some(trace),
        duration_ms = end.duration_ms,
        "exchange"
    );
    let (asked, failures) =
        gateway
            .policies
            .settled(&gateway.rules.load().policies, &Arc::new(entry), &gateway.balances);
    log_failures(&failures);
    alerts(gateway, asked);
}

/// Tells of an entry that a result corrected which was fetched late.
pub fn corrected(gateway: &Gateway, way: &Way, correction: &Correction) {
    gateway.metrics.corrected(&way.name, correction.usd);
    tracing::info!(id = %correction.id, provider = %way.name, by_usd = %correction.usd, "an entry is corrected: its result was fetched late");
}

/// Puts out the alerts that policies asked for: each thing once a cooldown, counted and logged.
pub fn alerts(gateway: &Gateway, asked: Vec<AskedAlert>) {
    if asked.is_empty() {
        return;
    }
    let cooldown = gateway.rules.load().config.alerts.cooldown;
    for asked in asked {
        let alert = Alert {
            at_ms: gateway.clock.now_ms(),
            kind: asked.kind,
            severity: asked.severity.name(),
            message: asked.message,
            details: asked.details,
            about: asked.about,
            policy: asked.policy,
        };
        let (kind, message, policy) = (alert.kind.clone(), alert.message.clone(), alert.policy.clone());
        if gateway.alerts.put(gateway.clock.monotonic_ms(), alert, cooldown) {
            gateway.metrics.alert(&kind);
            tracing::warn!(r#type = kind, message, policy = &*policy, "alert");
        }
    }
}

/// Tells the policies of something that happened beside a request's decision, and puts out what they say to it. Whether
/// they said anything.
pub fn event(gateway: &Gateway, event: Event) -> bool {
    let (asked, failures) = gateway
        .policies
        .alert(&gateway.rules.load().policies, event, &gateway.balances);
    log_failures(&failures);
    let is_alarming = !asked.is_empty();
    alerts(gateway, asked);
    is_alarming
}

fn log_failures(failures: &[PolicyFailure]) {
    for failure in failures {
        tracing::error!(
            policy = failure.policy,
            message = failure.message,
            "a policy failed; nothing else did"
        );
    }
}

/// Tells the policies of budgets that have reached a threshold, each once a cooldown.
pub fn thresholds(gateway: &Gateway, exchange: &Exchange, asked: &[AskedBound], standings: &[Standing]) {
    for (asked, standing) in asked.iter().zip(standings) {
        if let Some(share) = due_share(asked, standing) {
            let bound = &asked.bound;
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

/// A budget as events tell of it.
struct Budget<'a> {
    account: &'a str,
    window: Window,
    unit: Unit,
    spent: i64,
    limit: i64,
}

fn budget_event(gateway: &Gateway, exchange: &Exchange, state: &str, share_ppm: u32, budget: &Budget<'_>) {
    let cooldown = gateway.rules.load().config.alerts.cooldown;
    let share = share_ppm.to_string();
    let thing = [state, &share, budget.account, budget.window.name(), budget.unit.name()];
    if !gateway.alerts.is_due(gateway.clock.monotonic_ms(), cooldown, &thing) {
        return;
    }
    let told = Event::new("budget", gateway.clock.now_ms())
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
    event(gateway, told);
}

/// Tells of a request that a policy denied: the books keep refusals, by account and minute.
pub fn denied(gateway: &Gateway, exchange: &Exchange, code: &str) {
    let account = format!("key:{}", exchange.identity.fingerprint);
    deny(gateway, exchange, &account, code);
}

fn deny(gateway: &Gateway, exchange: &Exchange, account: &str, code: &str) {
    gateway.ledger.deny(&Denial {
        account: Name::from(account),
        tenant: exchange.tenant.clone(),
        reason: Name::from(code),
    });
}

/// Tells of a request that got no hold.
pub fn missed(gateway: &Gateway, exchange: &Exchange, missed: &Missed) {
    if missed.account.is_empty() {
        return;
    }
    deny(gateway, exchange, &missed.account, &missed.refusal.code);
    match missed.refusal.code.as_str() {
        rated::CODE => gateway.metrics.rate_limited(&exchange.identity.fingerprint),
        "budget_exceeded" => {
            if let Some(over) = &missed.over {
                budget_event(
                    gateway,
                    exchange,
                    "exceeded",
                    1_000_000,
                    &Budget {
                        account: &missed.account,
                        window: over.window,
                        unit: over.unit,
                        spent: over.standing.posted,
                        limit: over.standing.limit,
                    },
                );
            }
        }
        _ => {}
    }
}

/// Tells of a refusal that a policy in shadow would have made.
pub fn shadow_refused(gateway: &Gateway, exchange: &Exchange, policy: &str, code: &str) {
    gateway.metrics.shadow_refused(policy, code);
    tracing::info!(id = %exchange.id, policy, code, "would have been refused, by a policy in shadow");
}

/// Tells of a refusal.
pub fn refused(gateway: &Gateway, provider: &str, refusal: &Refusal) {
    gateway.metrics.refused(provider, &refusal.code);
    tracing::info!(provider, status = refusal.status, code = refusal.code, "refused");
}
