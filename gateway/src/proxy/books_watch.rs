//! Looks at the ledger now and then, whether or not a call comes, and shows the policies what people may have to know of it:
//! faults, holds that stay open, budgets that end early at their pace.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use agentledger_alerts::burn::{Budget, Burning, Recent, burning};
use agentledger_ledger::{
    Dimension, Health, Ledger, Name, OpenHold, RequestedLimit, SummaryQuery, SummaryRow, Unit, Usd, Window, Zone,
};
use jiff::Timestamp;

use crate::policy::Event;
use crate::proxy::alerts::{Origin, due, event};
use crate::proxy::shared::gateway::Gateway;
use crate::tasks::Watch;
use crate::telemetry::alerts::Occurrence;

/// How often it looks.
const TICK: Duration = Duration::from_secs(5);
/// How often it looks at paces: sums are by the minute.
const BURN_EVERY_MS: i64 = 60_000;
/// Holds younger than this are of no interest to anybody.
const HOLD_AGE_MIN_MS: i64 = 60_000;
/// Holds that are shown at once, the oldest.
const HOLDS_MAX: usize = 20;
const HOUR_MS: i64 = 3_600_000;
/// How often what models have cost is noted.
const SAMPLE_EVERY_MS: i64 = 5 * 60_000;
/// The two windows of a pace: the long one says that it is no spike, the short one that it goes on.
const PACES_MS: [i64; 2] = [HOUR_MS, 6 * HOUR_MS];

/// Starts the thread that looks.
///
/// # Errors
/// It cannot be started.
pub fn start(gateway: &Arc<Gateway>) -> std::io::Result<Watch> {
    let (mut burn_at_ms, mut samples) = (i64::MIN, Samples::default());
    Watch::start("books-watch", TICK, gateway, move |gateway| {
        look(gateway, &mut burn_at_ms, &mut samples)
    })
}

fn look(gateway: &Gateway, burn_at_ms: &mut i64, samples: &mut Samples) {
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
        burns(gateway, samples);
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
            show_fault(gateway, state, &format!("{what}: {reason}"), Occurrence::Standing);
        }
    }
}

/// Notifies of a fault of the ledger.
pub fn fault(gateway: &Gateway, state: &str, message: &str) {
    show_fault(gateway, state, message, Occurrence::New);
}

fn show_fault(gateway: &Gateway, state: &str, message: &str, occurrence: Occurrence) {
    let Some(folded) = due(gateway, "ledger", &[state], occurrence) else {
        return;
    };
    let told = Event::new("ledger", gateway.clock.now_ms())
        .text("state", state)
        .text("message", message);
    let origin = Origin::new("").folding(folded);
    event(gateway, Origin { occurrence, ..origin }, told);
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
    event(gateway, Origin::new(&facts.tenant).standing(), told);
}

/// What models had cost in total, now and then. Sums over time are by the model that answered, which may be a dated one of those
/// that were asked for; accounts are by the one that was asked for, and only their balances say what a budget of one lost.
#[derive(Default)]
struct Samples(HashMap<Name, VecDeque<Sample>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    at_ms: i64,
    /// In nano-dollars.
    total: i64,
}

impl Samples {
    /// Notes what an account has spent by now. At first, what it had at the beginning of the day is known as well.
    fn note(&mut self, account: &Name, now: Sample, at_day_start: Sample) {
        let samples = self.0.entry(account.clone()).or_default();
        // A date set back makes the future of what was the past.
        samples.retain(|sample| sample.at_ms <= now.at_ms);
        if samples.is_empty() {
            samples.push_back(at_day_start);
        }
        if samples
            .back()
            .is_some_and(|last| now.at_ms >= last.at_ms.saturating_add(SAMPLE_EVERY_MS))
        {
            samples.push_back(now);
        }
        let oldest_ms = now.at_ms.saturating_sub(PACES_MS.into_iter().max().unwrap_or_default());
        while samples.get(1).is_some_and(|second| second.at_ms <= oldest_ms) {
            samples.pop_front();
        }
    }

    /// What was spent since `from_ms`, and in how long: from the last sample before that, or the first there is.
    fn recent(&self, account: &str, now: Sample, from_ms: i64) -> Option<Recent> {
        let samples = self.0.get(account)?;
        let before = samples.iter().rev().find(|sample| sample.at_ms <= from_ms);
        let base = before.or_else(|| samples.front())?;
        Some(Recent {
            span_ms: now.at_ms.saturating_sub(base.at_ms),
            spent: now.total.saturating_sub(base.total),
        })
    }

    /// Forgets accounts that no limit is on any more.
    fn keep(&mut self, limited: &[(Name, Vec<RequestedLimit>)]) {
        let limited: HashSet<&Name> = limited.iter().map(|(account, _)| account).collect();
        self.0.retain(|account, _| limited.contains(account));
    }
}

/// What each account spent lately.
struct Spending<'a> {
    ledger: &'a Ledger,
    now_ms: i64,
    samples: &'a mut Samples,
    /// Sums by the names of accounts of a kind, since a moment.
    sums: HashMap<(Name, i64), HashMap<Name, i64>>,
}

impl Spending<'_> {
    /// Since `from_ms`, in nano-dollars; `None` for an account of which it is not known.
    fn of(&mut self, account: &Name, from_ms: i64) -> Option<Recent> {
        if account.starts_with("model:") {
            return self.of_model(account, from_ms);
        }
        let (kind, name) = match account.strip_prefix("tag:").and_then(|tag| tag.split_once('=')) {
            Some((tag, value)) => (format!("tag:{tag}"), value),
            None => match account.split_once(':') {
                Some((kind, name)) => (kind.to_owned(), name),
                None => (account.to_string(), ""),
            },
        };
        let (by, name_of) = dimension(&kind)?;
        let (ledger, now_ms) = (self.ledger, self.now_ms);
        let sums = self.sums.entry((kind.as_str().into(), from_ms)).or_insert_with(|| {
            let mut sums: HashMap<Name, i64> = HashMap::new();
            for row in ledger.summary(&SummaryQuery {
                from_ms,
                to_ms: now_ms.saturating_add(1),
                by,
                tenant: None,
            }) {
                let sum = sums.entry(name_of(&row)).or_default();
                *sum = sum.saturating_add(row.cost.nanos());
            }
            sums
        });
        Some(Recent {
            span_ms: now_ms.saturating_sub(from_ms),
            spent: sums.get(name).copied().unwrap_or_default(),
        })
    }

    fn of_model(&mut self, account: &Name, from_ms: i64) -> Option<Recent> {
        let utc = Zone::utc();
        let spent_in = |window| self.ledger.spent_in(account, window, &utc).usd.nanos();
        let (total, today) = (spent_in(Window::Total), spent_in(Window::Day));
        let now = Sample {
            at_ms: self.now_ms,
            total,
        };
        let at_day_start = Sample {
            at_ms: Window::Day.period(&utc, self.now_ms).start_s.saturating_mul(1_000),
            total: total.saturating_sub(today),
        };
        self.samples.note(account, now, at_day_start);
        self.samples.recent(account, now, from_ms)
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
        "provider" => (Dimension::Provider, |row| row.provider.clone()),
        tag => (Dimension::Tag(tag.strip_prefix("tag:")?.into()), |row| row.tag.clone()),
    })
}

/// Shows the policies each limit in dollars of a standing window, one that only warns too, that ends before its window does, at
/// the pace of late.
fn burns(gateway: &Gateway, samples: &mut Samples) {
    let limited = gateway.ledger.all_requested_limits();
    samples.keep(&limited);
    let mut spending = Spending {
        ledger: &gateway.ledger,
        now_ms: gateway.clock.now_ms(),
        samples,
        sums: HashMap::new(),
    };
    for (account, limits) in limited {
        for limit in limits {
            if limit.unit == Unit::Usd && is_standing(limit.window) {
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
    let spent = gateway.ledger.spent_in(account, limit.window, &zone).usd;
    let budget = Budget {
        limit: limit.limit,
        spent: spent.nanos(),
        starts_ms: period.start_s.saturating_mul(1_000),
        ends_ms: period.end_s.saturating_mul(1_000),
    };
    let recent = PACES_MS.map(|window_ms| spending.of(account, budget.since_ms(now_ms, window_ms)));
    let [Some(short), Some(long)] = recent else { return };
    let Some(found) = burning(budget, now_ms, [short, long], 1.0) else {
        return;
    };
    let tenant = account.strip_prefix("tenant:").unwrap_or_default();
    let told = burn_event(account, limit, &zone, now_ms, &found).usd("spent", spent);
    event(gateway, Origin::new(tenant).standing(), told);
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
            "global", "key", "tenant", "agent", "session", "user", "task", "provider", "tag:team",
        ] {
            assert!(dimension(kind).is_some(), "{kind}");
        }
        assert!(dimension("other").is_none());
        assert!(dimension("model").is_none(), "sums are of the model that answered");
    }

    #[test]
    fn a_models_pace_is_its_balances() {
        const MINUTE: i64 = 60_000;
        let (account, at) = (Name::from("model:gpt-4o"), |minute: i64, total| Sample {
            at_ms: minute * MINUTE,
            total,
        });
        let mut samples = Samples::default();
        // Ten are known of the day before; then ten an hour.
        let total = |minute: i64| 10 + minute / 6;
        let recent = |samples: &mut Samples, minute: i64, window: i64| {
            let now = at(minute, total(minute));
            samples.note(&account, now, at(0, 10));
            samples.recent(&account, now, (minute - window) * MINUTE)
        };
        let first = recent(&mut samples, 120, 60).unwrap();
        let since_midnight = Recent {
            span_ms: 120 * MINUTE,
            spent: 20,
        };
        assert_eq!(first, since_midnight, "the day's beginning is all that is known");
        for minute in 121..=1_000 {
            recent(&mut samples, minute, 60);
        }
        let hour = recent(&mut samples, 1_001, 60).unwrap();
        assert!((60 * MINUTE..=65 * MINUTE).contains(&hour.span_ms), "{hour:?}");
        assert!((10..=11).contains(&hour.spent), "{hour:?}");
        assert!(samples.0[&account].len() <= 75, "no more than the longest window needs");
        assert_eq!(samples.recent("model:other", at(1_001, 0), 0), None);
        samples.keep(&[]);
        assert!(samples.0.is_empty());
    }
}
