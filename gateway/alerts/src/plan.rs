//! Who gets which alert, and when: routes, quiet hours, digests, retries.

use std::collections::BTreeSet;

use crate::alert::{Alert, Severity};
use crate::patterns::Patterns;
use crate::quiet::QuietHours;
use crate::random::Random;

/// Alerts of these types, of at least this severity, of these tenants go to these receivers.
#[derive(Clone, Debug)]
pub struct Route {
    pub kinds: Patterns,
    pub severity: Severity,
    pub tenants: Patterns,
    pub receivers: Vec<String>,
}

impl Route {
    fn fits(&self, alert: &Alert) -> bool {
        alert.severity >= self.severity && self.kinds.fit(&alert.kind) && self.tenants.fit(&alert.tenant)
    }
}

/// Alerts below a severity are gathered and sent as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    pub every_ms: i64,
    /// From which severity on an alert is sent by itself.
    pub passes: Severity,
}

/// How often and how long a delivery is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    pub attempts_max: u32,
    pub age_max_ms: i64,
    /// The longest wait after the first failed attempt; twice as long after each further one.
    pub first_ms: u64,
    pub longest_ms: u64,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry {
            attempts_max: 100,
            age_max_ms: 24 * 3_600_000,
            first_ms: 1_000,
            longest_ms: 600_000,
        }
    }
}

impl Retry {
    /// The wait after `attempts` failed attempts: exponential, with full jitter, so that receivers that come back are not
    /// called by all at once.
    pub(crate) fn wait_ms(&self, attempts: u32, random: &mut Random) -> i64 {
        let doublings = attempts.saturating_sub(1).min(32);
        let longest = self.first_ms.saturating_mul(1 << doublings).min(self.longest_ms);
        i64::try_from(random.up_to(longest)).unwrap_or(i64::MAX)
    }
}

#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Their names.
    pub receivers: Vec<String>,
    pub routes: Vec<Route>,
    pub quiet: Option<QuietHours>,
    pub digest: Option<Digest>,
    pub retry: Retry,
}

impl Plan {
    /// Whom an alert goes to: the receivers of each route that it fits, and all that no route names.
    pub fn receivers_of(&self, alert: &Alert) -> BTreeSet<&str> {
        let routed: BTreeSet<&str> = self
            .routes
            .iter()
            .flat_map(|route| &route.receivers)
            .map(String::as_str)
            .collect();
        let known = |name: &&str| self.receivers.iter().any(|receiver| receiver == name);
        let fitting = self.routes.iter().filter(|route| route.fits(alert));
        let fitting = fitting.flat_map(|route| &route.receivers).map(String::as_str);
        let unrouted = self
            .receivers
            .iter()
            .map(String::as_str)
            .filter(|name| !routed.contains(name));
        fitting.chain(unrouted).filter(known).collect()
    }

    /// Until when an alert is held; `None` where it is sent at once. `first_held_ms`: since when others wait.
    pub(crate) fn held_until_ms(&self, severity: Severity, now_ms: i64, first_due_ms: Option<i64>) -> Option<i64> {
        let quiet = self.quiet.as_ref().filter(|quiet| severity < quiet.passes);
        if let Some(end_ms) = quiet.and_then(|quiet| quiet.end_ms(now_ms)) {
            return Some(end_ms);
        }
        let digest = self.digest.as_ref().filter(|digest| severity < digest.passes)?;
        let next_ms = now_ms.saturating_add(digest.every_ms);
        Some(
            first_due_ms
                .filter(|due_ms| *due_ms > now_ms)
                .map_or(next_ms, |due_ms| due_ms.min(next_ms)),
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::alert::tests::alert;

    fn route(kinds: &[&str], severity: Severity, tenants: &[&str], receivers: &[&str]) -> Route {
        Route {
            kinds: Patterns::new(kinds.iter().copied()).unwrap(),
            severity,
            tenants: Patterns::new(tenants.iter().copied()).unwrap(),
            receivers: receivers.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn routes_go_by_type_severity_and_tenant() {
        let plan = Plan {
            receivers: ["pager", "acme", "chat"].map(str::to_owned).to_vec(),
            routes: vec![
                route(&[], Severity::Critical, &[], &["pager", "gone"]),
                route(&["budget_*"], Severity::Info, &["acme"], &["acme"]),
            ],
            ..Plan::default()
        };
        let of = |kind: &str, severity, tenant: &str| -> Vec<String> {
            let mut alert = alert(kind, "x");
            (alert.severity, alert.tenant) = (severity, tenant.to_owned());
            plan.receivers_of(&alert).into_iter().map(str::to_owned).collect()
        };
        assert_eq!(
            of("budget_exceeded", Severity::Critical, "acme"),
            ["acme", "chat", "pager"]
        );
        assert_eq!(of("budget_warning", Severity::Warning, "other"), ["chat"]);
        assert_eq!(of("loop_detected", Severity::Critical, "acme"), ["chat", "pager"]);
        assert!(Plan::default().receivers_of(&alert("x", "y")).is_empty());
    }

    #[test]
    fn waits_grow_up_to_the_longest() {
        let (retry, mut random) = (Retry::default(), Random::new(1));
        for (attempts, longest) in [(1, 1_000), (2, 2_000), (5, 16_000), (11, 600_000), (90, 600_000)] {
            let waits: Vec<i64> = (0..500).map(|_| retry.wait_ms(attempts, &mut random)).collect();
            assert!(waits.iter().all(|wait| (0..=longest).contains(wait)));
            assert!(
                waits.iter().any(|wait| *wait > longest / 2),
                "jitter takes the whole range"
            );
        }
    }
}
