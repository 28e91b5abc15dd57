//! Where a calendar window starts and ends, in a time zone with all its leaps.

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

use crate::bound::{Window, Zone};

/// One instance of a window: seconds since the epoch, the end excluded. The instances of a window follow each other
/// without gap or overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period {
    pub start_s: i64,
    pub end_s: i64,
}

impl Period {
    /// The one instance of `total`.
    pub const ALWAYS: Period = Period {
        start_s: i64::MIN,
        end_s: i64::MAX,
    };

    pub const fn contains(&self, at_s: i64) -> bool {
        self.start_s <= at_s && at_s < self.end_s
    }

    /// When the window turns, milliseconds since the epoch; `None` for `total`.
    pub const fn resets_at_ms(&self) -> Option<i64> {
        if self.end_s == i64::MAX {
            None
        } else {
            Some(self.end_s.saturating_mul(1_000))
        }
    }
}

/// The last moment that windows are computed for (in the year 9000): clocks beyond it stand still.
pub const AT_MS_MAX: i64 = 221_845_000_000_000;

const MINUTE_S: i64 = 60;
const HOUR_S: i64 = 3_600;
const DAY_S: i64 = 86_400;

impl Window {
    /// The instance that `at_ms` lies in.
    pub fn period(self, zone: &Zone, at_ms: i64) -> Period {
        let at_s = at_ms.clamp(0, AT_MS_MAX).div_euclid(1_000);
        match self {
            Window::Total => Period::ALWAYS,
            Window::Minute => within_local(zone, at_s, MINUTE_S),
            Window::Hour => within_local(zone, at_s, HOUR_S),
            Window::Day if zone.is_utc() => aligned(at_s, DAY_S, 0),
            // The epoch was a Thursday.
            Window::Week if zone.is_utc() => aligned(at_s, 7 * DAY_S, 3 * DAY_S),
            Window::Day | Window::Week | Window::Month => {
                // A zone whose rules fail so far out is taken as UTC days: a window must always turn.
                local_dates(self, zone.rules(), at_s).unwrap_or_else(|| aligned(at_s, DAY_S, 0))
            }
        }
    }
}

fn aligned(at_s: i64, len_s: i64, shift_s: i64) -> Period {
    let start_s = (at_s + shift_s).div_euclid(len_s) * len_s - shift_s;
    Period {
        start_s,
        end_s: start_s + len_s,
    }
}

/// Minutes and hours of the local clock. One that a leap falls into ends there, and another starts.
fn within_local(zone: &Zone, at_s: i64, len_s: i64) -> Period {
    if zone.is_utc() {
        return aligned(at_s, len_s, 0);
    }
    let Ok(at) = Timestamp::from_second(at_s) else {
        return aligned(at_s, len_s, 0);
    };
    let rules = zone.rules();
    let mut period = aligned(at_s, len_s, i64::from(rules.to_offset(at).seconds()));
    let next = rules.following(at).next().map(|leap| leap.timestamp().as_second());
    let last = Timestamp::from_second(at_s + 1)
        .ok()
        .and_then(|after| rules.preceding(after).next())
        .map(|leap| leap.timestamp().as_second());
    if let Some(leap_s) = last {
        period.start_s = period.start_s.max(leap_s);
    }
    if let Some(leap_s) = next {
        period.end_s = period.end_s.min(leap_s);
    }
    period
}

/// From the first moment of a local date to the first moment of a later one: also where midnight does not exist.
fn local_dates(window: Window, rules: &TimeZone, at_s: i64) -> Option<Period> {
    let at = Timestamp::from_second(at_s).ok()?.to_zoned(rules.clone());
    let today = at.date();
    let (first, next) = match window {
        Window::Week => {
            let first = today
                .checked_sub(i64::from(today.weekday().since(Weekday::Monday)).days())
                .ok()?;
            (first, first.checked_add(1.week()).ok()?)
        }
        Window::Month => {
            let first = today.first_of_month();
            (first, first.checked_add(1.month()).ok()?)
        }
        _ => (today, today.tomorrow().ok()?),
    };
    let start_of = |date: jiff::civil::Date| -> Option<i64> {
        let midnight: Zoned = date.to_zoned(rules.clone()).ok()?;
        Some(midnight.start_of_day().ok()?.timestamp().as_second())
    };
    let period = Period {
        start_s: start_of(first)?,
        end_s: start_of(next)?,
    };
    period.contains(at_s).then_some(period)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;

    fn at_ms(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn shown(period: Period) -> (String, String) {
        let text = |s| Timestamp::from_second(s).unwrap().to_string();
        (text(period.start_s), text(period.end_s))
    }

    fn check(window: Window, zone: &str, at: &str, start: &str, end: &str) {
        let period = window.period(&Zone::named(zone).unwrap(), at_ms(at));
        assert_eq!(
            shown(period),
            (start.to_owned(), end.to_owned()),
            "{} in {zone} at {at}",
            window.name()
        );
    }

    #[test]
    fn utc_windows() {
        let at = "2026-02-28T23:59:59.999Z";
        check(
            Window::Minute,
            "UTC",
            at,
            "2026-02-28T23:59:00Z",
            "2026-03-01T00:00:00Z",
        );
        check(Window::Hour, "UTC", at, "2026-02-28T23:00:00Z", "2026-03-01T00:00:00Z");
        check(Window::Day, "UTC", at, "2026-02-28T00:00:00Z", "2026-03-01T00:00:00Z");
        check(Window::Week, "UTC", at, "2026-02-23T00:00:00Z", "2026-03-02T00:00:00Z");
        check(Window::Month, "UTC", at, "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z");
        assert_eq!(Window::Total.period(&Zone::utc(), 5), Period::ALWAYS);
        assert_eq!(Period::ALWAYS.resets_at_ms(), None);
    }

    #[test]
    fn days_have_23_and_25_hours_where_the_clock_leaps() {
        let berlin = "Europe/Berlin";
        check(
            Window::Day,
            berlin,
            "2026-03-29T12:00:00Z",
            "2026-03-28T23:00:00Z",
            "2026-03-29T22:00:00Z",
        );
        check(
            Window::Day,
            berlin,
            "2026-10-25T12:00:00Z",
            "2026-10-24T22:00:00Z",
            "2026-10-25T23:00:00Z",
        );
        check(
            Window::Month,
            berlin,
            "2026-03-01T00:00:00Z",
            "2026-02-28T23:00:00Z",
            "2026-03-31T22:00:00Z",
        );
        check(
            Window::Week,
            berlin,
            "2026-10-25T22:59:59Z",
            "2026-10-18T22:00:00Z",
            "2026-10-25T23:00:00Z",
        );
        // No midnight on this day in Cairo: the clock leaps from 0:00 to 1:00.
        check(
            Window::Day,
            "Africa/Cairo",
            "2024-04-26T10:00:00Z",
            "2024-04-25T22:00:00Z",
            "2024-04-26T21:00:00Z",
        );
    }

    #[test]
    fn stretches_follow_each_other_without_gap_or_overlap() {
        // Half-hour leaps, a skipped day, a leap at midnight, and a plain zone.
        for (zone, from) in [
            ("Australia/Lord_Howe", "2026-04-04T00:00:00Z"),
            ("Australia/Lord_Howe", "2026-10-03T00:00:00Z"),
            ("Pacific/Apia", "2011-12-28T00:00:00Z"),
            ("America/Sao_Paulo", "2018-11-03T00:00:00Z"),
            ("Africa/Cairo", "2024-04-25T00:00:00Z"),
            ("Asia/Kathmandu", "2026-01-01T00:00:00Z"),
        ] {
            let zone = Zone::named(zone).unwrap();
            for window in [Window::Minute, Window::Hour, Window::Day, Window::Week, Window::Month] {
                let mut at = at_ms(from);
                let until = at + 3 * DAY_S * 1_000;
                let mut last = window.period(&zone, at);
                while at < until {
                    let period = window.period(&zone, at);
                    assert!(period.contains(at / 1_000));
                    assert!(
                        period == last || period.start_s == last.end_s,
                        "{zone:?} {last:?} {period:?}"
                    );
                    last = period;
                    at += 600_000;
                    if window == Window::Minute {
                        last = window.period(&zone, at);
                    }
                }
            }
        }
    }

    #[test]
    fn absurd_clocks_still_have_windows() {
        for zone in ["UTC", "Europe/Berlin", "Pacific/Apia"] {
            let zone = Zone::named(zone).unwrap();
            for window in Window::ALL {
                for at in [i64::MIN, -1, 0, AT_MS_MAX, i64::MAX] {
                    assert!(window.period(&zone, at).contains(at.clamp(0, AT_MS_MAX) / 1_000));
                }
            }
        }
    }
}
