//! What refusals and cuts say to people: the one place that words them, as pure functions over facts.
//!
//! A message names AgentLedger, what stands in the way and how it stands, what the request would take, when that ends, and
//! what to do. Phrases that scripts of the original's users look for stay whole in it. Texts are ASCII where names are: some
//! clients show them from a header.

use agentledger_ledger::{HeldBound, Refusal, Standing, Unit, Window, Zone};
use jiff::Timestamp;

use crate::plugin::Ending;
use crate::proxy::shared::top_up_command::top_up_command;
use crate::rates::{Parallel, Rate};
use crate::thousands::thousands;

/// So much of a fingerprint names a key to people; commands show all of it.
const FINGERPRINT_SHOWN: usize = 8;
const NANOS_PER_DOLLAR: u64 = 1_000_000_000;
/// What was spent is shown to a hundredth of a cent.
const SHOWN_STEP: i64 = 100_000;

/// The policy that `agentledger budgets` steers.
const BUDGET_POLICY: &str = "budget";

/// How people call a key, by its fingerprint.
pub type Aliases<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Says whose words these are: a client shows them among its own and its provider's.
pub fn signed(message: &str) -> String {
    if message.starts_with("AgentLedger") {
        message.to_owned()
    } else {
        format!("AgentLedger: {message}")
    }
}

/// An account as a person knows it: `key 3f2a9c01`, `tenant acme`, `tag team=ml`.
pub fn account_name(account: &str, aliases: Aliases<'_>) -> String {
    match account.split_once(':') {
        None => "all requests together".to_owned(),
        Some((kind, "")) => format!("requests without {} {kind}", if kind == "agent" { "an" } else { "a" }),
        Some(("key", fingerprint)) => match aliases(fingerprint) {
            Some(alias) => format!("key {alias}"),
            None => format!("key {}", fingerprint.get(..FINGERPRINT_SHOWN).unwrap_or(fingerprint)),
        },
        Some((kind, name)) => format!("{kind} {name}"),
    }
}

/// A limit is reached, or what is left of it does not cover the request, which may take `most` of its unit in the end. `policy`:
/// `name@version` of the one that set it.
pub fn over_budget(refused: &Refusal, most: i64, policy: &str, aliases: Aliases<'_>) -> String {
    let (bound, standing) = (&refused.bound, &refused.standing);
    let budget = budget(bound, standing, aliases);
    let takes = taken(refused, most);
    let raise = match policy.split('@').next() {
        // Top-ups are its conf: they raise no limit of another policy.
        Some(BUDGET_POLICY) => format!("raise the limit: `{}`, or in the config", top_up_command(refused)),
        _ => format!("raise the limit, which policy {policy} sets"),
    };
    if standing.posted >= standing.limit {
        return match resets(bound) {
            Some(when) => format!(
                "spending limit exceeded. {budget} It resets {when}. This request {takes}. To go on before then, {raise}."
            ),
            None => {
                format!("spending limit exceeded. {budget} It never resets. This request {takes}. To go on, {raise}.")
            }
        };
    }
    let wait = resets(bound).map_or_else(String::new, |when| format!(", wait until it resets {when}"));
    format!(
        "estimated cost of request exceeds remaining budget. This request {takes}. {budget} Ask for a shorter answer \
         (max_tokens){wait}, or {raise}."
    )
}

/// Only running requests are in the way of one that may take `most` of the limit's unit in the end.
pub fn held_budget(refused: &Refusal, most: i64, aliases: Aliases<'_>) -> String {
    let takes = taken(refused, most);
    let budget = budget(&refused.bound, &refused.standing, aliases);
    let reset = reset(&refused.bound);
    format!(
        "what is left of the budget is held by requests that are running. This request {takes}. {budget} {reset} Try again \
         when one of them has ended."
    )
}

/// A stream ran out of what its hold could be extended by.
pub fn cut_by_budget(refused: &Refusal, aliases: Aliases<'_>) -> String {
    let budget = budget(&refused.bound, &refused.standing, aliases);
    let after = match resets(&refused.bound) {
        Some(when) => format!("It resets {when}. To go on before then, raise the limit."),
        None => "It never resets. To go on, raise the limit.".to_owned(),
    };
    format!("the budget is used up, so this answer was cut short. {budget} {after}")
}

/// The limit of a stretch of time, of which `taken` is used. `wait_s`: `None` where the request alone is more than the limit.
pub fn over_rate(rate: &Rate, taken: u64, requested_tokens: u64, wait_s: Option<u64>, aliases: Aliases<'_>) -> String {
    let limit = format!(
        "The limit of {} is {} a {}",
        account_name(&rate.account, aliases),
        counted(rate.unit, i64::try_from(rate.limit).unwrap_or(i64::MAX)),
        rate.per.name()
    )
    .replace(" a hour", " an hour");
    let takes = match rate.unit {
        Unit::Tokens => format!(", and this request takes up to {}", thousands(requested_tokens)),
        Unit::Requests | Unit::Usd => String::new(),
    };
    match wait_s {
        Some(wait) => format!(
            "rate limit exceeded. {limit}, of which {} {} taken{takes}. Try again in {}.",
            thousands(taken),
            if taken == 1 { "is" } else { "are" },
            stretch(wait)
        ),
        None => format!(
            "rate limit exceeded. {limit}, and this request alone takes {} tokens. Make it smaller: waiting does not help.",
            thousands(requested_tokens)
        ),
    }
}

/// Too many requests at one time.
pub fn over_parallel(limit: &Parallel, aliases: Aliases<'_>) -> String {
    format!(
        "rate limit exceeded. {} may have {} running at one time, and that many are. Try again when one has ended.",
        capital(&account_name(&limit.account, aliases)),
        counted(Unit::Requests, i64::try_from(limit.limit).unwrap_or(i64::MAX))
    )
}

/// A policy's own words, and what it is that says them.
pub fn denied(policy: &str, message: &str, retry_after_s: Option<u32>) -> String {
    let message = message.trim().trim_end_matches('.');
    let then = match retry_after_s {
        Some(seconds) => format!("try again in {}", stretch(u64::from(seconds))),
        None => "ask whoever runs this gateway".to_owned(),
    };
    format!("{message}. Policy {policy} refuses this request; {then}.")
}

/// The agent goes round in circles.
pub fn looping(message: &str) -> String {
    let message = message.trim().trim_end_matches('.');
    format!(
        "{message}. Do something else than before, or go on in a new session; agent.loop_threshold in the config sets how \
         often is too often."
    )
}

pub fn killed(session: &str) -> String {
    format!("session {session} was killed by an operator: its calls are refused. Go on in a new session.")
}

/// No model that the rules lead to can serve the request.
pub fn no_route_fits(policy: &str) -> String {
    format!(
        "no model that the rules route this request to is priced, allowed and within its budgets. Policy {policy} routes it; \
         ask for another model, or have the rules changed."
    )
}

/// What a stream that is ended from here says last, but for budgets.
pub fn ended(ending: Ending, session: &str) -> String {
    match ending {
        Ending::BudgetExceeded => "the budget is used up, so this answer was cut short.".to_owned(),
        Ending::Denied => {
            format!(
                "session {session} was killed by an operator, so this answer was cut short. Go on in a new session."
            )
        }
        Ending::UpstreamFailed => "the upstream broke off its answer. Try again.".to_owned(),
        Ending::ShuttingDown => "the gateway is going down, so this answer was cut short; try again.".to_owned(),
    }
}

fn budget(bound: &HeldBound, standing: &Standing, aliases: Aliases<'_>) -> String {
    let each = match bound.window {
        Window::Hour => "an hour".to_owned(),
        Window::Total => "in all".to_owned(),
        other => format!("a {}", other.name()),
    };
    format!(
        "The budget of {} is {} {each}: {} spent, {} held by running requests.",
        account_name(&bound.account, aliases),
        limit_of(bound.unit, standing.limit),
        counted(bound.unit, standing.posted),
        counted(bound.unit, standing.held),
    )
}

/// When the window turns, in the words of its own time zone; `None` for one that never does.
fn resets(bound: &HeldBound) -> Option<String> {
    if bound.end_s == i64::MAX {
        return None;
    }
    let zone = Zone::named(&bound.zone).unwrap_or_else(|_| Zone::utc());
    let local = Timestamp::from_second(bound.end_s).ok()?.to_zoned(zone.rules().clone());
    Some(format!(
        "on {} ({})",
        local.strftime("%a %Y-%m-%d at %H:%M"),
        zone.name()
    ))
}

/// When the window turns, as a sentence.
fn reset(bound: &HeldBound) -> String {
    resets(bound).map_or_else(|| "It never resets.".to_owned(), |when| format!("It resets {when}."))
}

/// What a request may take in the end, and what of it must be free before it begins, where that is less.
fn taken(refused: &Refusal, most: i64) -> String {
    let unit = refused.bound.unit;
    // What it may cost is never more than is said.
    let said = |count: i64| match unit {
        Unit::Usd => dollars(rounded_up(count)),
        Unit::Tokens | Unit::Requests => counted(unit, count),
    };
    let (begins, most) = (said(refused.requested), said(most.max(refused.requested)));
    let verb = match unit {
        Unit::Usd => "may cost",
        Unit::Tokens => "takes",
        Unit::Requests => return format!("counts as {begins}"),
    };
    if begins == most {
        return format!("{verb} up to {most}");
    }
    format!("{verb} up to {most}, of which {begins} must be free for it to begin")
}

fn counted(unit: Unit, count: i64) -> String {
    let (noun, one) = match unit {
        Unit::Usd => return dollars(rounded(count)),
        Unit::Tokens => ("tokens", "token"),
        Unit::Requests => ("requests", "request"),
    };
    let noun = if count == 1 { one } else { noun };
    format!("{} {noun}", thousands(u64::try_from(count).unwrap_or_default()))
}

/// A limit, with every digit that it has: nobody set another one.
fn limit_of(unit: Unit, count: i64) -> String {
    match unit {
        Unit::Usd => dollars(count),
        _ => counted(unit, count),
    }
}

/// Nano-dollars that end in the last digit that is shown, of what was spent or is held: as tables show it.
fn rounded(nanos: i64) -> i64 {
    nanos.max(0).saturating_add(SHOWN_STEP / 2) / SHOWN_STEP * SHOWN_STEP
}

fn rounded_up(nanos: i64) -> i64 {
    nanos.max(0).saturating_add(SHOWN_STEP - 1) / SHOWN_STEP * SHOWN_STEP
}

/// Dollars, exactly: `$0.50`, `$0.0154`, `$1,250.00`.
fn dollars(nanos: i64) -> String {
    let nanos = nanos.max(0).unsigned_abs();
    let (whole, rest) = (nanos / NANOS_PER_DOLLAR, nanos % NANOS_PER_DOLLAR);
    let fraction = format!("{rest:09}");
    format!("${}.{:0<2}", thousands(whole), fraction.trim_end_matches('0'))
}

/// Seconds as people say them.
fn stretch(seconds: u64) -> String {
    let plural = |count: u64, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    match seconds {
        0..120 => plural(seconds, "second"),
        120..7_200 => plural(seconds.div_ceil(60), "minute"),
        _ => plural(seconds.div_ceil(3_600), "hour"),
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use agentledger_ledger::{Mode, Obstacle, Period};

    use super::*;
    use crate::rates::Per;

    fn no_aliases(_fingerprint: &str) -> Option<String> {
        None
    }

    /// 2026-11-30T00:00:00Z.
    const MIDNIGHT_S: i64 = 1_795_996_800;

    fn refused(
        unit: Unit,
        window: Window,
        zone: &str,
        end_s: i64,
        [posted, held, limit, requested]: [i64; 4],
    ) -> Refusal {
        let period = Period { start_s: 0, end_s };
        Refusal {
            obstacle: Obstacle::Exceeded,
            place: 0,
            bound: HeldBound {
                account: "key:3f2a9c01d4e5f60718293a4b".into(),
                window,
                zone: zone.into(),
                unit,
                mode: Mode::Hard,
                limit,
                start_s: 0,
                end_s,
            },
            standing: Standing {
                posted,
                held,
                overage: 0,
                limit,
                period,
            },
            requested,
        }
    }

    #[test]
    fn a_budget_says_whose_it_is_how_it_stands_when_it_resets_and_what_to_do() {
        let day = |amounts| refused(Unit::Usd, Window::Day, "UTC", MIDNIGHT_S, amounts);
        assert_eq!(
            over_budget(
                &day([500_000_000, 0, 500_000_000, 1_690_000_000]),
                1_690_000_000,
                "budget@2",
                &no_aliases
            ),
            "spending limit exceeded. The budget of key 3f2a9c01 is $0.50 a day: $0.50 spent, $0.00 held by running requests. \
             It resets on Mon 2026-11-30 at 00:00 (UTC). This request may cost up to $1.69. To go on before then, raise the \
             limit: `agentledger budgets top-up \
             key:3f2a9c01d4e5f60718293a4b 1.74 --until 2026-11-30`, or in the config."
        );
        let ci: Aliases<'_> = &|_| Some("ci".to_owned());
        assert_eq!(
            over_budget(
                &day([15_400_001, 2_000_000_000, 2_500_000_000, 690_000_000]),
                1_690_000_000,
                "house@1",
                ci
            ),
            "estimated cost of request exceeds remaining budget. This request may cost up to $1.69, of which $0.69 must be \
             free for it to begin. The budget of key ci is $2.50 a day: $0.0154 spent, $2.00 held by running requests. Ask for a shorter answer (max_tokens), wait until it \
             resets on Mon 2026-11-30 at 00:00 (UTC), or raise the limit, which policy house@1 sets."
        );
    }

    #[test]
    fn a_window_of_another_zone_resets_at_that_zones_time() {
        let tokens = refused(
            Unit::Tokens,
            Window::Hour,
            "Asia/Kolkata",
            MIDNIGHT_S - 1_800,
            [90_000, 9_000, 100_000, 1_700],
        );
        let said = held_budget(&tokens, 1_700, &no_aliases);
        assert!(said.contains("takes up to 1,700 tokens. "), "{said}");
        assert!(
            said.contains("It resets on Mon 2026-11-30 at 05:00 (Asia/Kolkata). Try again"),
            "{said}"
        );
        assert!(
            said.contains("is 100,000 tokens an hour: 90,000 tokens spent"),
            "{said}"
        );
        let said = over_budget(&tokens, 1_700, "budget@2", &no_aliases);
        assert!(said.contains("on Mon 2026-11-30 at 05:00 (Asia/Kolkata)"), "{said}");
        let total = refused(Unit::Requests, Window::Total, "UTC", i64::MAX, [1, 0, 1, 1]);
        let said = over_budget(&total, 1, "budget@2", &no_aliases);
        assert!(
            said.contains("is 1 request in all: 1 request spent") && said.contains("never resets"),
            "{said}"
        );
        assert!(cut_by_budget(&total, &no_aliases).ends_with("It never resets. To go on, raise the limit."));
    }

    #[test]
    fn accounts_are_named_as_people_know_them() {
        let name = |account| account_name(account, &no_aliases);
        assert_eq!(name("global"), "all requests together");
        assert_eq!(name("tag:team=ml"), "tag team=ml");
        assert_eq!(name("agent:"), "requests without an agent");
        assert_eq!(name("key:abc"), "key abc");
        assert_eq!(name("session:a:b"), "session a:b");
    }

    #[test]
    fn what_is_spent_is_rounded_as_tables_do_and_a_limit_is_shown_as_it_was_set() {
        let spent = [0, 1, 5_549_999, 5_550_000, 154_000_000, 1_250_000_000_000].map(|nanos| counted(Unit::Usd, nanos));
        assert_eq!(spent, ["$0.00", "$0.00", "$0.0055", "$0.0056", "$0.154", "$1,250.00"]);
        let limits = [1_000, 5_540_000, 10_000_000_000, 1].map(|nanos| limit_of(Unit::Usd, nanos));
        assert_eq!(limits, ["$0.000001", "$0.00554", "$10.00", "$0.000000001"]);
        let usd = refused(Unit::Usd, Window::Day, "UTC", MIDNIGHT_S, [0, 0, 1, 5_500_001]);
        assert_eq!(taken(&usd, 5_500_001), "may cost up to $0.0056");
        assert_eq!(taken(&usd, 0), "may cost up to $0.0056");
    }

    #[test]
    fn rates_say_when_to_come_back() {
        let rate = |unit| Rate {
            account: "agent:ci".into(),
            per: Per::Hour,
            unit,
            limit: 2_500,
        };
        assert_eq!(
            over_rate(&rate(Unit::Requests), 2_500, 10, Some(3_540), &no_aliases),
            "rate limit exceeded. The limit of agent ci is 2,500 requests an hour, of which 2,500 are taken. Try again in 59 \
             minutes."
        );
        assert_eq!(
            over_rate(&rate(Unit::Tokens), 2_100, 1_000, Some(60), &no_aliases),
            "rate limit exceeded. The limit of agent ci is 2,500 tokens an hour, of which 2,100 are taken, and this \
             request takes up to 1,000. Try again in 60 seconds."
        );
        assert_eq!(
            over_rate(&rate(Unit::Tokens), 0, 3_000, None, &no_aliases),
            "rate limit exceeded. The limit of agent ci is 2,500 tokens an hour, and this request alone takes 3,000 tokens. \
             Make it smaller: waiting does not help."
        );
        assert_eq!(
            [1, 119, 121, 7_201].map(stretch),
            ["1 second", "119 seconds", "3 minutes", "3 hours"]
        );
    }

    #[test]
    fn a_message_is_signed_once() {
        assert_eq!(signed("no"), "AgentLedger: no");
        assert_eq!(signed(&signed("no")), "AgentLedger: no");
    }

    #[test]
    fn what_stands_in_the_way_is_never_mistaken_for_another() {
        let budget = refused(Unit::Usd, Window::Day, "UTC", MIDNIGHT_S, [0, 0, 1, 2]);
        let texts = [
            denied("house@1", "ask the owner.", None),
            looping("loop detected: the same request"),
            killed("s1"),
            held_budget(&budget, 2, &no_aliases),
            over_budget(&budget, 2, "budget@2", &no_aliases),
            cut_by_budget(&budget, &no_aliases),
            no_route_fits("budget@2"),
        ];
        let begins: std::collections::BTreeSet<String> =
            texts.iter().map(|text| text.chars().take(24).collect()).collect();
        assert_eq!(begins.len(), texts.len(), "{texts:#?}");
        assert_eq!(
            texts[0],
            "ask the owner. Policy house@1 refuses this request; ask whoever runs this gateway."
        );
    }
}
