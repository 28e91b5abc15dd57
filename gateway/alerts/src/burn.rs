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

/// What was spent lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recent {
    pub window_ms: i64,
    pub spent: i64,
}

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
    // A window reaches no further back than the period: what was spent before is of another budget.
    let age_ms = now_ms.checked_sub(starts_ms).filter(|age| *age > 0)?;
    let slower = windows
        .into_iter()
        .map(|recent| {
            (
                i128::from(recent.spent.max(0)),
                i128::from(recent.window_ms.min(age_ms).max(1)),
            )
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
                window_ms: HOUR,
                spent: spent[0],
            },
            Recent {
                window_ms: 6 * HOUR,
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

    #[test]
    fn a_young_period_counts_by_its_age() {
        // Half an hour old: 100 in it, of 3,000: 2,900 left at 200 an hour.
        let young = Budget { spent: 100, ..EVEN };
        let burning = burning(young, HOUR / 2, recent([100, 100]), 2.0).unwrap();
        assert_eq!(burning.ends_ms, HOUR / 2 + 2_900 * HOUR / 200);
    }
}
