//! A verdict in words, one line an intent: what specs expect and what people read.

use agentledger_ledger::{Limit, Mode, Unit, Usd};

use super::verdict::{Binding, RequestedAlert, RequestedBound, Route, Verdict, When};
use crate::price::Unpriced;

impl Verdict {
    /// One line for each thing that was asked for, in a fixed order; those of policies in shadow begin with `~`.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(deny) = &self.deny {
            let again = deny
                .retry_after
                .map_or(String::new(), |seconds| format!(" (again in {seconds} s)"));
            lines.push(format!("deny {} {}: {}{again}", deny.status, deny.code, deny.message));
        }
        lines.extend(binding_line(&self.binding));
        lines.extend(self.bounds.iter().map(bound_line));
        lines.extend(self.rates.iter().map(|rate| {
            let rate = &rate.requested;
            format!(
                "rate {} {} {}/{}",
                rate.account,
                rate.limit,
                rate.unit.name(),
                rate.per.name()
            )
        }));
        let parallel = self.parallel.iter();
        lines.extend(parallel.map(|limit| format!("parallel {} {}", limit.requested.account, limit.requested.limit)));
        lines.extend(self.clamp.map(|most| format!("clamp {most}")));
        lines.extend(self.routes.iter().map(|route| route_line(&route.requested)));
        if !self.delay.is_zero() {
            lines.push(format!("delay {} s", self.delay.as_secs_f64()));
        }
        lines.extend(self.unpriced.iter().map(|unpriced| match unpriced.requested {
            Unpriced::Refuse => "unpriced refuse".to_owned(),
            Unpriced::Dearest => "unpriced dearest".to_owned(),
            Unpriced::Free => "unpriced free".to_owned(),
            Unpriced::Price { input, output } => {
                format!("unpriced input {} output {}", input.per_million(), output.per_million())
            }
        }));
        lines.extend(self.tags.iter().map(|(name, value)| format!("tag {name}={value}")));
        lines.extend(
            self.headers
                .iter()
                .map(|(name, value)| format!("header {name}: {value}")),
        );
        lines.extend(self.alerts.iter().map(alert_line));
        for shadow in &self.shadow {
            lines.extend(shadow.verdict.lines().into_iter().map(|line| format!("~{line}")));
        }
        lines
    }
}

fn bound_line(requested: &RequestedBound) -> String {
    let bound = &requested.bound;
    let action = match (bound.mode(), requested.clamps) {
        (Mode::Hard, true) => "clamp",
        (Mode::Hard, false) => "block",
        (Mode::Watch, _) => "warn",
    };
    let mut line = format!(
        "budget {} {} {} {} {action}",
        bound.account(),
        bound.window().name(),
        amount(bound.limit()),
        bound.unit().name()
    );
    let soft: Vec<String> = requested
        .soft
        .as_slice()
        .iter()
        .map(|ppm| (f64::from(*ppm) / 1e6).to_string())
        .collect();
    if !soft.is_empty() {
        line.push_str(&format!(" soft {}", soft.join(",")));
    }
    if !bound.zone().is_utc() {
        line.push_str(&format!(" zone {}", bound.zone().name()));
    }
    line
}

fn amount(limit: Limit) -> String {
    match limit.unit() {
        Unit::Usd => Usd::from_nanos(limit.count()).to_string(),
        Unit::Tokens | Unit::Requests => limit.count().to_string(),
    }
}

fn route_line(route: &Route) -> String {
    let when = match route.when {
        When::Always => "always",
        When::OverBudget => "over_budget",
    };
    format!("route {when} {}", route.alternatives.join(", "))
}

pub(super) fn alert_line(alert: &RequestedAlert) -> String {
    format!("alert {} {}: {}", alert.severity.name(), alert.kind, alert.message)
}

fn binding_line(binding: &Binding) -> Option<String> {
    let names = [
        ("tenant", binding.tenant.as_ref()),
        ("zone", binding.zone.as_ref().map(agentledger_ledger::Zone::name)),
        ("agent", binding.agent.as_ref()),
        ("session", binding.session.as_ref()),
        ("user", binding.user.as_ref()),
        ("task", binding.task.as_ref()),
    ];
    let bound: Vec<String> = names
        .iter()
        .filter_map(|(name, value)| value.map(|value| format!("{name}={value}")))
        .collect();
    (!bound.is_empty()).then(|| format!("bind {}", bound.join(" ")))
}
