//! The command that raises a limit which refused a request: as an operator types it, with all its arguments.

use agentledger_ledger::{Refusal, Unit, Usd};
use jiff::Timestamp;

const CENT_NANOS: i128 = 10_000_000;
/// Beside what the request lacks, so that the next ones go through, too: a part of the limit.
const MORE_PART: i128 = 10;
/// How long more is granted for a limit that never resets.
const STANDING_UNTIL: &str = "30d";
const DAY_S: i64 = 24 * 60 * 60;

/// `agentledger budgets top-up …`: enough for the refused request and a tenth of the limit more, until the window turns.
pub fn top_up_command(refused: &Refusal) -> String {
    let (bound, standing) = (&refused.bound, &refused.standing);
    let [posted, held, limit, requested] =
        [standing.posted, standing.held, standing.limit, refused.requested].map(i128::from);
    let lacking = (posted + held + requested - limit).max(1) + limit / MORE_PART;
    let (amount, unit) = match bound.unit {
        Unit::Usd => (cents(lacking), String::new()),
        unit => (lacking.to_string(), format!(" --unit {}", unit.name())),
    };
    let account = quoted(&bound.account);
    let until = until(bound.end_s);
    format!("agentledger budgets top-up {account} {amount}{unit} --until {until}")
}

/// Dollars, rounded up to a cent.
fn cents(nanos: i128) -> String {
    let rounded = (nanos + CENT_NANOS - 1) / CENT_NANOS * CENT_NANOS;
    Usd::from_nanos(i64::try_from(rounded).unwrap_or(i64::MAX)).to_string()
}

/// The moment at which the window turns; a day alone where it is a day's beginning in UTC.
fn until(end_s: i64) -> String {
    let Some(end) = Timestamp::from_second(end_s).ok().filter(|_| end_s != i64::MAX) else {
        return STANDING_UNTIL.to_owned();
    };
    match end_s % DAY_S {
        0 => end.strftime("%Y-%m-%d").to_string(),
        _ => end.to_string(),
    }
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let is_plain =
        |sign: char| sign.is_ascii_alphanumeric() || matches!(sign, ':' | '=' | '-' | '_' | '.' | '/' | '@' | '+');
    if word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use agentledger_ledger::{HeldBound, Mode, Obstacle, Period, Standing, Window};

    use super::*;

    fn refused(account: &str, unit: Unit, end_s: i64, [posted, held, limit, requested]: [i64; 4]) -> Refusal {
        let period = Period { start_s: 0, end_s };
        Refusal {
            obstacle: Obstacle::Exceeded,
            place: 0,
            bound: HeldBound {
                account: account.into(),
                window: Window::Day,
                zone: "UTC".into(),
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
    fn it_grants_what_the_request_lacks_and_a_tenth_more_until_the_window_turns() {
        let dollars = refused(
            "key:abc",
            Unit::Usd,
            1_795_996_800,
            [500_000_000, 1, 500_000_000, 60_000_000],
        );
        assert_eq!(
            top_up_command(&dollars),
            "agentledger budgets top-up key:abc 0.12 --until 2026-11-30"
        );
        let tokens = refused("agent:ci", Unit::Tokens, 1_795_995_000, [90, 0, 100, 30]);
        assert_eq!(
            top_up_command(&tokens),
            "agentledger budgets top-up agent:ci 30 --unit tokens --until 2026-11-29T23:30:00Z"
        );
        let never = refused("global", Unit::Requests, i64::MAX, [1, 0, 1, 1]);
        assert_eq!(
            top_up_command(&never),
            "agentledger budgets top-up global 1 --unit requests --until 30d"
        );
    }

    #[test]
    fn a_name_that_clients_made_up_is_one_word_to_a_shell() {
        for (name, word) in [
            ("tag:team=ml", "tag:team=ml"),
            ("agent:a b", "'agent:a b'"),
            ("agent:it's;$(rm)", r"'agent:it'\''s;$(rm)'"),
            ("user:ann@x.org", "user:ann@x.org"),
            ("user:ü", "'user:ü'"),
        ] {
            assert_eq!(quoted(name), word);
        }
    }
}
