//! Looks at the ledger now and then, whether or not a call comes, and shows the policies what people may have to know of it:
//! faults, holds that stay open, budgets that end early at their pace.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use agentledger_alerts::burn::{Budget, Burning, Recent, burning};
use agentledger_ledger::{
    Dimension, Health, Ledger, Mode, Name, OpenHold, RequestedLimit, SummaryQuery, SummaryRow, Unit, Usd, Window, Zone,
};
use jiff::Timestamp;

use crate::policy::Event;
use crate::proxy::alerts::{Origin, due, event};
use crate::proxy::shared::gateway::Gateway;
use crate::tasks::Watch;

/// How often it looks.
const TICK: Duration = Duration::from_secs(5);
/// How often it looks at paces: sums are by the minute.
const BURN_EVERY_MS: i64 = 60_000;
/// Holds younger than this are of no interest to anybody.
const HOLD_AGE_MIN_MS: i64 = 60_000;
/// Holds that are shown at once, the oldest.
const HOLDS_MAX: usize = 20;
const HOUR_MS: i64 = 3_600_000;
/// The two windows of a pace: the long one says that it is no spike, the short one that it goes on.
const PACES_MS: [i64; 2] = [HOUR_MS, 6 * HOUR_MS];

/// Starts the thread that looks.
///
/// # Errors
/// It cannot be started.
pub fn start(gateway: &Arc<Gateway>) -> std::io::Result<Watch> {
    let mut burn_at_ms = i64::MIN;
    Watch::start("books-watch", TICK, gateway, move |gateway| {
        look(gateway, &mut burn_at_ms)
    })
}

fn look(gateway: &Gateway, burn_at_ms: &mut i64) {
    let hears = |kind| gateway.rules.load().policies.hears(kind);
    if hears("ledger") {
        faults(gateway, &gateway.ledger.health());
    }
    if hears("hold") {
        holds(gateway);
    }
    let monotonic_ms = gateway.clock.monotonic_ms();
    if hears("burn") && monotonic_ms >= *burn_at_ms {
        *burn_at_ms = monotonic_ms.saturating_add(BURN_EVERY_MS);
        burns(gateway);
    }
}

/// What is wrong with the ledger, by a word for each kind of fault.
fn faults(gateway: &Gateway, health: &Health) {
    let all = [
        ("stopped", &health.stopped, "nothing is written any more"),
        ("suspended", &health.suspended, "nothing is written for now"),
        ("checkpoint", &health.checkpoint_failed, "no checkpoint can be written"),
    ];
    for (state, reason, what) in all {
        if let Some(reason) = reason {
            fault(gateway, state, &format!("{what}: {reason}"));
        }
    }
}

/// Notifies of a fault of the ledger.
pub fn fault(gateway: &Gateway, state: &str, message: &str) {
    let Some(folded) = due(gateway, &["ledger", state]) else {
        return;
    };
    let told = Event::new("ledger", gateway.clock.now_ms())
        .text("state", state)
        .text("message", message);
    event(gateway, Origin { tenant: "", folded }, told);
}

fn holds(gateway: &Gateway) {
    let now_ms = gateway.clock.now_ms();
    let age_ms = |hold: &OpenHold| now_ms.saturating_sub(hold.held.at_ms);
    let mut old = gateway.ledger.open_holds();
    old.retain(|hold| age_ms(hold) >= HOLD_AGE_MIN_MS);
    old.sort_by_key(|hold| hold.held.at_ms);
    for hold in old.iter().take(HOLDS_MAX) {
        hold_event(gateway, hold, now_ms, age_ms(hold));
    }
}

/// Ages fit a number of Lua's exactly up to 2^53.
#[allow(clippy::cast_precision_loss)]
fn hold_event(gateway: &Gateway, hold: &OpenHold, now_ms: i64, age_ms: i64) {
    let facts = &hold.held.facts;
    let told = Event::new("hold", now_ms)
        .text("hold", hold.id.0.to_string())
        .text("provider", &*facts.provider)
        .text("model", &*facts.requested_model)
        .text("key", &*facts.key)
        .text("tenant", &*facts.tenant)
        .text("agent", &*facts.agent)
        .text("session", &*facts.session)
        .usd("usd", hold.amounts.usd)
        .number("age_s", (age_ms / 1_000) as f64);
    let origin = Origin {
        tenant: &facts.tenant,
        folded: 0,
    };
    event(gateway, origin, told);
}

/// What each account spent lately, by the dimension of its kind.
struct Spending<'a> {
    ledger: &'a Ledger,
    now_ms: i64,
    known: HashMap<(Name, i64), HashMap<Name, i64>>,
}

impl Spending<'_> {
    /// In the last `window_ms`, in nano-dollars; `None` for an account that sums over time do not bear.
    fn of(&mut self, account: &str, window_ms: i64) -> Option<i64> {
        let (kind, name) = match account.strip_prefix("tag:").and_then(|tag| tag.split_once('=')) {
            Some((tag, value)) => (format!("tag:{tag}"), value),
            None => match account.split_once(':') {
                Some((kind, name)) => (kind.to_owned(), name),
                None => (account.to_owned(), ""),
            },
        };
        let (by, name_of) = dimension(&kind)?;
        let (ledger, now_ms) = (self.ledger, self.now_ms);
        let sums = self.known.entry((kind.as_str().into(), window_ms)).or_insert_with(|| {
            let mut sums: HashMap<Name, i64> = HashMap::new();
            for row in ledger.summary(&SummaryQuery {
                from_ms: now_ms.saturating_sub(window_ms),
                to_ms: now_ms.saturating_add(1),
                by,
                tenant: None,
            }) {
                let sum = sums.entry(name_of(&row)).or_default();
                *sum = sum.saturating_add(row.cost.nanos());
            }
            sums
        });
        Some(sums.get(name).copied().unwrap_or_default())
    }
}

type NameOf = fn(&SummaryRow) -> Name;

/// By which dimension sums of accounts of a kind are kept, and whose each sum is.
fn dimension(kind: &str) -> Option<(Dimension, NameOf)> {
    Some(match kind {
        "global" => (Dimension::Provider, |_| Name::from("")),
        "key" => (Dimension::Key, |row| row.key.clone()),
        "tenant" => (Dimension::Tenant, |row| row.tenant.clone()),
        "agent" => (Dimension::Agent, |row| row.agent.clone()),
        "session" => (Dimension::Session, |row| row.session.clone()),
        "user" => (Dimension::User, |row| row.user.clone()),
        "task" => (Dimension::Task, |row| row.task.clone()),
        "model" => (Dimension::Model, |row| row.model.clone()),
        "provider" => (Dimension::Provider, |row| row.provider.clone()),
        tag => (Dimension::Tag(tag.strip_prefix("tag:")?.into()), |row| row.tag.clone()),
    })
}

/// Shows the policies each hard limit in dollars of a standing window that ends before its window does, at the pace of late.
fn burns(gateway: &Gateway) {
    let now_ms = gateway.clock.now_ms();
    let mut spending = Spending {
        ledger: &gateway.ledger,
        now_ms,
        known: HashMap::new(),
    };
    for (account, limits) in gateway.ledger.all_requested_limits() {
        for limit in limits {
            if limit.unit == Unit::Usd && limit.mode == Mode::Hard && is_standing(limit.window) {
                burn(gateway, &mut spending, &account, &limit);
            }
        }
    }
}

/// Windows in which a pace of hours says something.
fn is_standing(window: Window) -> bool {
    matches!(window, Window::Day | Window::Week | Window::Month)
}

fn burn(gateway: &Gateway, spending: &mut Spending<'_>, account: &Name, limit: &RequestedLimit) {
    let now_ms = spending.now_ms;
    let Ok(zone) = Zone::named(&limit.zone) else { return };
    let period = limit.window.period(&zone, now_ms);
    let recent = PACES_MS.map(|window_ms| {
        let spent = spending.of(account, window_ms);
        spent.map(|spent| Recent { window_ms, spent })
    });
    let [Some(short), Some(long)] = recent else { return };
    let spent = gateway.ledger.spent_in(account, limit.window, &zone).usd;
    let budget = Budget {
        limit: limit.limit,
        spent: spent.nanos(),
        starts_ms: period.start_s.saturating_mul(1_000),
        ends_ms: period.end_s.saturating_mul(1_000),
    };
    let Some(found) = burning(budget, now_ms, [short, long], 1.0) else {
        return;
    };
    let tenant = account.strip_prefix("tenant:").unwrap_or_default();
    let told = burn_event(account, limit, &zone, now_ms, &found).usd("spent", spent);
    event(gateway, Origin { tenant, folded: 0 }, told);
}

fn burn_event(account: &str, limit: &RequestedLimit, zone: &Zone, now_ms: i64, found: &Burning) -> Event {
    let at = Timestamp::from_millisecond(found.ends_ms).unwrap_or_default();
    Event::new("burn", now_ms)
        .text("account", account)
        .text("window", limit.window.name())
        .text("ends", ends_text(limit.window, zone, at))
        .text("ends_at", format!("{at:.0}"))
        .number("rate", found.rate)
        .usd("limit", Usd::from_nanos(limit.limit))
}

/// `on the 19th`, and for a day `at 14:05`, in the budget's zone.
fn ends_text(window: Window, zone: &Zone, at: Timestamp) -> String {
    let there = at.to_zoned(zone.rules().clone());
    match window {
        Window::Month => {
            let day = there.day();
            let ending = match (day % 10, day / 10) {
                (1, 0 | 2 | 3) => "st",
                (2, 0 | 2) => "nd",
                (3, 0 | 2) => "rd",
                _ => "th",
            };
            format!("on the {day}{ending}")
        }
        Window::Week => format!("on {}", there.strftime("%A")),
        _ => format!("at {}", there.strftime("%H:%M")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn an_end_is_said_in_the_budgets_zone() {
        let at: Timestamp = "2026-03-18T23:30:00Z".parse().unwrap();
        let berlin = Zone::named("Europe/Berlin").unwrap();
        assert_eq!(ends_text(Window::Month, &Zone::utc(), at), "on the 18th");
        assert_eq!(ends_text(Window::Month, &berlin, at), "on the 19th");
        assert_eq!(ends_text(Window::Day, &berlin, at), "at 00:30");
        assert_eq!(ends_text(Window::Week, &berlin, at), "on Thursday");
        for (day, text) in [
            (1, "1st"),
            (2, "2nd"),
            (3, "3rd"),
            (11, "11th"),
            (12, "12th"),
            (13, "13th"),
            (21, "21st"),
            (22, "22nd"),
            (23, "23rd"),
            (31, "31st"),
        ] {
            let at: Timestamp = format!("2026-03-{day:02}T12:00:00Z").parse().unwrap();
            assert_eq!(ends_text(Window::Month, &Zone::utc(), at), format!("on the {text}"));
        }
    }

    #[test]
    fn accounts_have_their_sums() {
        for kind in [
            "global", "key", "tenant", "agent", "session", "user", "task", "model", "provider", "tag:team",
        ] {
            assert!(dimension(kind).is_some(), "{kind}");
        }
        assert!(dimension("other").is_none());
    }
}
