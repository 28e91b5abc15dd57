//! Verdicts in words, for people.

use agentledger_ledger::{Mode, Unit, Usd, Window};

use crate::policy::{Verdict, When};
use crate::price::Unpriced;

/// An amount of a unit: `$1.5`, `300 tokens`.
pub fn amount_in_words(unit: Unit, count: i64) -> String {
    match unit {
        Unit::Usd => format!("${}", Usd::from_nanos(count)),
        Unit::Tokens => format!("{count} tokens"),
        Unit::Requests => format!("{count} requests"),
    }
}

/// A limit: `at most $10 a day on key:a1b2`.
pub fn bound_in_words(account: &str, window: Window, unit: Unit, limit: i64, mode: Mode) -> String {
    let period = match window {
        Window::Total => "in total".to_owned(),
        window => format!("a {}", window.name()),
    };
    let warns = match mode {
        Mode::Hard => "",
        Mode::Watch => ", warning only",
    };
    format!("at most {} {period} on {account}{warns}", amount_in_words(unit, limit))
}

/// All that a verdict requests, one line each; nothing where it says nothing.
pub fn verdict_in_words(verdict: &Verdict) -> Vec<String> {
    let mut said = Vec::new();
    if let Some(deny) = &verdict.deny {
        said.push(format!("deny: {} ({}): {}", deny.code, deny.policy, deny.message));
    }
    let binding = &verdict.binding;
    let names = [
        ("tenant", &binding.tenant),
        ("agent", &binding.agent),
        ("session", &binding.session),
        ("user", &binding.user),
        ("task", &binding.task),
    ];
    for (what, name) in names {
        said.extend(name.as_ref().map(|name| format!("it is of {what} {name}")));
    }
    for requested in &verdict.bounds {
        let bound = &requested.bound;
        let words = bound_in_words(
            bound.account(),
            bound.window(),
            bound.unit(),
            bound.limit().count(),
            bound.mode(),
        );
        let clamps = if requested.clamps {
            ", else its output is clamped"
        } else {
            ""
        };
        said.push(format!("{words}{clamps}"));
    }
    for rate in &verdict.rates {
        let rate = &rate.requested;
        let limit = i64::try_from(rate.limit).unwrap_or(i64::MAX);
        said.push(format!(
            "at most {} a {} on {}",
            amount_in_words(rate.unit, limit),
            rate.per.name(),
            rate.account
        ));
    }
    for parallel in &verdict.parallel {
        let (limit, account) = (parallel.requested.limit, &parallel.requested.account);
        said.push(format!("at most {limit} at one time on {account}"));
    }
    said.extend(verdict.clamp.map(|most| format!("at most {most} tokens of output")));
    for route in &verdict.routes {
        let models: Vec<&str> = route.requested.alternatives.iter().map(|model| &**model).collect();
        let when = match route.requested.when {
            When::Always => "",
            When::OverBudget => " where it does not fit its budgets",
        };
        said.push(format!("go to {}{when}", models.join(", else ")));
    }
    if !verdict.delay.is_zero() {
        said.push(format!("wait {} ms", verdict.delay.as_millis()));
    }
    said.extend(verdict.tags.iter().map(|(name, value)| format!("tag {name}={value}")));
    said.extend(
        verdict
            .headers
            .iter()
            .map(|(name, value)| format!("header {name}: {value}")),
    );
    if let Some(unpriced) = &verdict.unpriced {
        said.push(match &unpriced.requested {
            Unpriced::Refuse => "a model without a price is refused".to_owned(),
            Unpriced::Free => "a model without a price is free".to_owned(),
            Unpriced::Dearest => "a model without a price costs as the dearest".to_owned(),
            Unpriced::Price { .. } => "a model without a price costs what it says".to_owned(),
        });
    }
    said.extend(
        verdict
            .alerts
            .iter()
            .map(|alert| format!("alert {}: {}", alert.kind, alert.message)),
    );
    for shadow in &verdict.shadow {
        let words = verdict_in_words(&shadow.verdict).join("; ");
        said.push(format!("in shadow, {}: {words}", shadow.policy));
    }
    said
}
