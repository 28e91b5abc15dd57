//! Burn rate: at the pace of late, when does a budget end? Two windows, as for an error budget: the long one says that it is no
//! spike, the short one that it still goes on.

/// A budget's period and what was spent in it. Amounts are in one unit, times in milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    pub limit: i64,
    /// In the period so far.
    pub spent: i64,
    pub starts_ms: i64,
    pub ends_ms: i64,
}

impl Budget {
    /// From when on the pace of a window counts: it reaches no further back than the period, for what was spent before is of
    /// another budget.
    pub fn since_ms(&self, now_ms: i64, window_ms: i64) -> i64 {
        now_ms.saturating_sub(window_ms).max(self.starts_ms)
    }
}

/// What was spent lately, and in how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recent {
    pub span_ms: i64,
    pub spent: i64,
}

/// A shorter span counts as one of this: a call in a period's first minute is no pace.
pub const SPAN_MIN_MS: i64 = 30 * 60_000;

/// A pace at which the budget ends before its period does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Burning {
    /// When nothing is left.
    pub ends_ms: i64,
    /// The pace as a multiple of the one that uses the limit up just at the period's end.
    pub rate: f64,
}

/// Whether the budget ends early at the slower of the two paces; both must be at least `rate_min` times the even one.
/// `None` also where it has ended already, which is another alert's matter.
#[allow(clippy::cast_precision_loss)]
pub fn burning(budget: Budget, now_ms: i64, windows: [Recent; 2], rate_min: f64) -> Option<Burning> {
    let Budget {
        limit,
        spent,
        starts_ms,
        ends_ms,
    } = budget;
    let left = i128::from(limit) - i128::from(spent);
    let period_ms = ends_ms.checked_sub(starts_ms).filter(|period| *period > 0)?;
    if limit <= 0 || left <= 0 || now_ms >= ends_ms {
        return None;
    }
    let slower = windows
        .into_iter()
        .map(|recent| {
            let span_ms = recent.span_ms.max(SPAN_MIN_MS);
            (i128::from(recent.spent.max(0)), i128::from(span_ms))
        })
        .min_by(|a, b| (a.0 * b.1).cmp(&(b.0 * a.1)))?;
    let (pace_spent, pace_ms) = slower;
    if pace_spent == 0 {
        return None;
    }
    let rate = (pace_spent as f64 / pace_ms as f64) / (limit as f64 / period_ms as f64);
    // Rounded up: at this millisecond nothing is left.
    let wait_ms = (left * pace_ms + pace_spent - 1) / pace_spent;
    let ends_early_ms = i128::from(now_ms) + wait_ms;
    let fits = i64::try_from(ends_early_ms)
        .ok()
        .filter(|early| *early < ends_ms && rate >= rate_min);
    fits.map(|ends_ms| Burning { ends_ms, rate })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    const HOUR: i64 = 3_600_000;
    const DAY: i64 = 24 * HOUR;

    fn recent(spent: [i64; 2]) -> [Recent; 2] {
        [
            Recent {
                span_ms: HOUR,
                spent: spent[0],
            },
            Recent {
                span_ms: 6 * HOUR,
                spent: spent[1],
            },
        ]
    }

    /// 3,000 a month of 30 days is 100 a day; 1,000 are spent after ten days.
    const EVEN: Budget = Budget {
        limit: 3_000,
        spent: 1_000,
        starts_ms: 0,
        ends_ms: 30 * DAY,
    };

    #[test]
    fn the_months_budget_ends_on_the_nineteenth() {
        // 10 an hour in the last hour, 60 in six: 240 a day, 2,000 left: 8⅓ days after day ten, so within the 19th.
        let burning = burning(EVEN, 10 * DAY, recent([10, 60]), 2.0).unwrap();
        assert_eq!(burning.ends_ms, 10 * DAY + 200 * HOUR);
        assert_eq!(burning.ends_ms / DAY + 1, 19);
        assert!((burning.rate - 2.4).abs() < 1e-9);
    }

    #[test]
    fn both_windows_must_burn() {
        assert_eq!(burning(EVEN, 10 * DAY, recent([0, 600]), 1.0), None, "it is over");
        assert_eq!(
            burning(EVEN, 10 * DAY, recent([60, 61]), 3.0),
            None,
            "a spike of one hour"
        );
        let slow = burning(EVEN, 10 * DAY, recent([100, 60]), 1.0).unwrap();
        assert_eq!(slow.ends_ms, 10 * DAY + 200 * HOUR, "the slower pace counts");
    }

    #[test]
    fn an_even_pace_and_a_used_up_budget_are_none() {
        // 100 a day, even: 25 in six hours; the hour is above it.
        assert_eq!(
            burning(EVEN, 10 * DAY, recent([5, 25]), 1.0),
            None,
            "it ends with the month"
        );
        let over = Budget { spent: 3_000, ..EVEN };
        assert_eq!(burning(over, 10 * DAY, recent([500, 500]), 1.0), None);
        assert_eq!(burning(EVEN, 30 * DAY, recent([500, 500]), 1.0), None);
        assert_eq!(burning(Budget { limit: 0, ..EVEN }, DAY, recent([1, 1]), 1.0), None);
    }

    /// Both windows as they are at `now_ms`, at a steady pace an hour.
    fn steady(budget: &Budget, now_ms: i64, an_hour: i64) -> [Recent; 2] {
        [HOUR, 6 * HOUR].map(|window_ms| {
            let span_ms = now_ms - budget.since_ms(now_ms, window_ms);
            Recent {
                span_ms,
                spent: an_hour * span_ms / HOUR,
            }
        })
    }

    #[test]
    fn a_young_period_counts_by_its_age_and_by_nothing_before_it() {
        // Half an hour old: 100 in it, of 3,000: 2,900 left at 200 an hour.
        let young = Budget { spent: 100, ..EVEN };
        let burning = burning(young, HOUR / 2, steady(&young, HOUR / 2, 200), 2.0).unwrap();
        assert_eq!(burning.ends_ms, HOUR / 2 + 2_900 * HOUR / 200);
        assert_eq!(young.since_ms(HOUR / 2, HOUR), 0);
        assert_eq!(young.since_ms(2 * HOUR, HOUR), HOUR);
    }

    #[test]
    fn an_even_pace_is_no_alert_in_the_first_minutes_of_a_day() {
        // 2 an hour of 50 a day, in thousandths.
        let day = |spent| Budget {
            limit: 50_000,
            spent,
            starts_ms: 10 * DAY,
            ends_ms: 11 * DAY,
        };
        for minute in 1..180 {
            let now_ms = 10 * DAY + minute * 60_000;
            let budget = day(2_000 * minute / 60);
            assert_eq!(
                burning(budget, now_ms, steady(&budget, now_ms, 2_000), 1.0),
                None,
                "minute {minute}"
            );
        }
        // One call of half a dollar in the first minute is no pace of 720 a day; ten of them are worth a word.
        let first_minute = |spent| {
            let recent = Recent { span_ms: 60_000, spent };
            burning(day(spent), 10 * DAY + 60_000, [recent; 2], 2.0)
        };
        assert_eq!(first_minute(500), None);
        assert!((first_minute(5_000).unwrap().rate - 4.8).abs() < 1e-9);
    }
}
