//! Where a window goes: what is spent by its end, within which band, and when it reaches a limit.
//!
//! The method is a plain one. What is left of the window is compared with the same stretch of the days before: of each of the last
//! [`DAYS_MAX`] days what was spent from this time of day on. Their mean is the middle, so that nights and lunch hours count as they
//! do; how far the days lie apart is the band, wide enough for four futures of five if days are independent of each other. Where
//! there are fewer than [`SAMPLES_MIN`] whole days it goes by hours instead, and for a window of an hour by minutes. With fewer of
//! those there is nothing to say.
//!
//! All of it are whole numbers: nano-dollars, tokens, requests. No float has a part in it.

use agentledger_ledger::{Spent, Unit};

use crate::control::rpc::params::{DAY_MS, HOUR_MS, MINUTE_MS};

/// Two whole weeks: weekends have the part that they should.
pub const DAYS_MAX: i64 = 14;
const HOURS_MAX: i64 = 48;
const MINUTES_MAX: i64 = 60;
/// Fewer stretches before say nothing of how far such stretches lie apart.
pub const SAMPLES_MIN: i64 = 3;
/// The square of 1.2816, within which four of five lie of what is spread normally.
const Z_SQUARE: (u128, u128) = (16_425, 10_000);
/// Counts are brought below this many bits before they are squared.
const BITS_MAX: u32 = 40;

/// How far back a forecast may look.
pub const PAST_MS: i64 = DAYS_MAX * DAY_MS;

/// What was spent up to any moment, of one account and unit. Within a bucket it counts as spent evenly.
#[derive(Clone, Debug, Default)]
pub struct Past {
    layers: Vec<Layer>,
    now_ms: i64,
}

/// Buckets of one length: those of days lie beside those of hours where something was entered late.
#[derive(Clone, Debug, Default)]
struct Layer {
    length_ms: i64,
    /// In the order of time: where each begins and ends, and how much it counts.
    buckets: Vec<(i64, i64, i128)>,
    /// What was spent before each.
    before: Vec<i128>,
}

impl Layer {
    fn add(&mut self, from_ms: i64, to_ms: i64, count: i64) {
        let count = i128::from(count);
        match self.buckets.last_mut() {
            Some((last_ms, _, sum)) if *last_ms == from_ms => *sum += count,
            last => {
                let before = last.map_or(0, |(_, _, sum)| *sum) + self.before.last().copied().unwrap_or(0);
                self.before.push(before);
                self.buckets.push((from_ms, to_ms, count));
            }
        }
    }

    /// What was spent before a moment.
    fn until(&self, at_ms: i64) -> i128 {
        let begun = self.buckets.partition_point(|(from_ms, ..)| *from_ms < at_ms);
        let last = begun.checked_sub(1);
        let found = last.and_then(|last| Some((self.buckets.get(last)?, self.before.get(last)?)));
        let Some(((from_ms, to_ms, count), before)) = found else {
            return 0;
        };
        let length = i128::from(to_ms - from_ms).max(1);
        before + count * i128::from(at_ms - from_ms).min(length) / length
    }
}

impl Past {
    /// Of what accounts spent in one unit. What counts less than nothing (a correction) is left out, and so is what is later than now.
    pub fn new(spent: &[Spent], unit: Unit, now_ms: i64) -> Past {
        let mut past = Past {
            layers: Vec::new(),
            now_ms,
        };
        let mut sorted: Vec<&Spent> = spent
            .iter()
            .filter(|bucket| bucket.amounts.get(unit) > 0 && bucket.from_ms < now_ms)
            .collect();
        sorted.sort_unstable_by_key(|bucket| bucket.from_ms);
        for bucket in sorted {
            let length_ms = bucket.to_ms - bucket.from_ms;
            let known = past.layers.iter().position(|layer| layer.length_ms == length_ms);
            let place = known.unwrap_or(past.layers.len());
            if known.is_none() {
                past.layers.push(Layer {
                    length_ms,
                    ..Layer::default()
                });
            }
            if let Some(layer) = past.layers.get_mut(place) {
                layer.add(bucket.from_ms, bucket.to_ms.min(now_ms), bucket.amounts.get(unit));
            }
        }
        past
    }

    /// What was spent before a moment.
    fn until(&self, at_ms: i64) -> i128 {
        self.layers.iter().map(|layer| layer.until(at_ms)).sum()
    }

    fn between(&self, from_ms: i64, to_ms: i64) -> i128 {
        self.until(to_ms) - self.until(from_ms)
    }

    fn begins_ms(&self) -> Option<i64> {
        let firsts = self.layers.iter().filter_map(|layer| layer.buckets.first());
        firsts.map(|(from_ms, ..)| *from_ms).min()
    }

    /// Since when at least `limit` is spent of a window that began at `from_ms` and in which `spent` is by now: to the grain of the
    /// sums that are kept. `None`: it is not, or nothing is known of when.
    pub fn reached(&self, from_ms: i64, spent: i64, limit: i64) -> Option<i64> {
        let beyond = i128::from(spent) - i128::from(limit);
        if beyond < 0 || self.layers.is_empty() {
            return None;
        }
        first(from_ms.max(0), self.now_ms, |at_ms| {
            self.between(at_ms, self.now_ms) <= beyond
        })
    }
}

/// The first moment of a stretch, its end included, from which on something is so.
fn first(from_ms: i64, to_ms: i64, is_so: impl Fn(i64) -> bool) -> Option<i64> {
    if from_ms > to_ms || !is_so(to_ms) {
        return None;
    }
    let (mut low, mut high) = (from_ms, to_ms);
    while low < high {
        let middle = low + (high - low) / 2;
        if is_so(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Some(high)
}

/// What is spent in all at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlook {
    pub middle: i64,
    /// Four of five futures lie between these.
    pub low: i64,
    pub high: i64,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Forecast<'p> {
    past: &'p Past,
    spent: i64,
    to_ms: i64,
    /// The length of a stretch, and how many of them there were.
    unit_ms: i64,
    samples: i64,
    whole: Sums,
}

/// Sums of samples, and of their squares.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    sum: i128,
    /// Times the number of samples and one less: how far they lie apart, in squares of `1 << shift`.
    spread: u128,
    shift: u32,
}

impl Sums {
    fn of(samples: &[i128]) -> Sums {
        let sum = samples.iter().sum();
        let most = samples.iter().copied().max().unwrap_or(0).max(0).unsigned_abs();
        let shift = (u128::BITS - most.leading_zeros()).saturating_sub(BITS_MAX);
        let scaled = samples.iter().map(|sample| sample.max(&0).unsigned_abs() >> shift);
        let (mut all, mut squares) = (0_u128, 0_u128);
        for sample in scaled {
            all += sample;
            squares += sample * sample;
        }
        Sums {
            sum,
            spread: (samples.len() as u128 * squares).saturating_sub(all * all),
            shift,
        }
    }

    /// The spread in squares of a coarser unit.
    fn at(&self, shift: u32) -> u128 {
        self.spread.checked_shr(2 * (shift - self.shift)).unwrap_or(0)
    }
}

impl<'p> Forecast<'p> {
    /// Of a window in which `spent` is by now. `None`: it has no end ahead, or too little is known of the time before.
    pub fn of(past: &'p Past, spent: i64, from_ms: i64, to_ms: i64) -> Option<Forecast<'p>> {
        let begins_ms = past.begins_ms()?;
        let length_ms = to_ms.checked_sub(from_ms).filter(|length| *length > MINUTE_MS)?;
        if to_ms <= past.now_ms {
            return None;
        }
        let units: &[(i64, i64)] = if length_ms > HOUR_MS {
            &[(DAY_MS, DAYS_MAX), (HOUR_MS, HOURS_MAX)]
        } else {
            &[(MINUTE_MS, MINUTES_MAX)]
        };
        let (unit_ms, samples) = units.iter().find_map(|(unit_ms, most)| {
            let samples = ((past.now_ms - begins_ms) / unit_ms).min(*most);
            (samples >= SAMPLES_MIN).then_some((*unit_ms, samples))
        })?;
        let mut forecast = Forecast {
            past,
            spent,
            to_ms,
            unit_ms,
            samples,
            whole: Sums::default(),
        };
        forecast.whole = forecast.sums(unit_ms);
        Some(forecast)
    }

    /// Of what was spent in the first part of each stretch before.
    fn sums(&self, part_ms: i64) -> Sums {
        let sample = |back: i64| {
            let from_ms = self.past.now_ms - back * self.unit_ms;
            self.past.between(from_ms, from_ms + part_ms)
        };
        let samples: Vec<i128> = (1..=self.samples).map(sample).collect();
        Sums::of(&samples)
    }

    /// At a moment between now and the window's end.
    pub fn at(&self, at_ms: i64) -> Outlook {
        let ahead_ms = at_ms.clamp(self.past.now_ms, self.to_ms) - self.past.now_ms;
        let (stretches, rest_ms) = (ahead_ms / self.unit_ms, ahead_ms % self.unit_ms);
        let rest = self.sums(rest_ms);
        let more = (i128::from(stretches) * self.whole.sum + rest.sum) / i128::from(self.samples);
        let half = i128::try_from(self.half(stretches, &rest)).unwrap_or(i128::MAX);
        let (spent, middle) = (i128::from(self.spent), i128::from(self.spent) + more);
        Outlook {
            middle: bounded(middle),
            low: bounded(spent.max(middle - half)),
            high: bounded(middle.saturating_add(half)),
        }
    }

    /// How far the band reaches to each side: of so many whole stretches and a part of one that are to come, and of the mean that the
    /// middle goes by.
    fn half(&self, stretches: i64, rest: &Sums) -> u128 {
        let whole = |number: i64| u128::from(number.unsigned_abs());
        let (ahead, samples) = (whole(stretches), whole(self.samples));
        let shift = self.whole.shift.max(rest.shift);
        let of_whole = (ahead * (samples + ahead)).saturating_mul(self.whole.at(shift));
        let of_rest = (samples + 1).saturating_mul(rest.at(shift));
        let over = samples * samples * (samples - 1).max(1) * Z_SQUARE.1;
        let variance = of_whole.saturating_add(of_rest).saturating_mul(Z_SQUARE.0) / over;
        variance.isqrt() << shift
    }

    pub fn end(&self) -> Outlook {
        self.at(self.to_ms)
    }

    /// When the middle reaches a limit that is not reached yet, if it does before the window's end.
    pub fn reaches(&self, limit: i64) -> Option<i64> {
        if self.spent >= limit {
            return None;
        }
        let reached = first(self.past.now_ms, self.to_ms, |at_ms| self.at(at_ms).middle >= limit);
        // What is full only when it is over does not run out.
        reached.filter(|at_ms| *at_ms < self.to_ms)
    }
}

fn bounded(count: i128) -> i64 {
    let bounded = count.clamp(i64::MIN.into(), i64::MAX.into());
    i64::try_from(bounded).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use agentledger_ledger::{Amounts, Usd, Window, Zone};
    use proptest::prelude::*;

    use super::*;

    /// 2026-10-20T09:30:00Z, a Tuesday.
    const NOW_MS: i64 = 1_792_488_600_000;

    fn hour(from_ms: i64, nanos: i64) -> Spent {
        Spent {
            from_ms,
            to_ms: from_ms + HOUR_MS,
            amounts: Amounts {
                usd: Usd::from_nanos(nanos),
                ..Amounts::ZERO
            },
            overage: Usd::ZERO,
        }
    }

    /// Whole hours back from the one that has begun, the latest first.
    fn hours(nanos: &[i64]) -> Vec<Spent> {
        let begun_ms = NOW_MS - NOW_MS % HOUR_MS;
        (0..)
            .zip(nanos)
            .map(|(back, nanos)| hour(begun_ms - back * HOUR_MS, *nanos))
            .collect()
    }

    fn past(nanos: &[i64]) -> Past {
        Past::new(&hours(nanos), Unit::Usd, NOW_MS)
    }

    fn window(window: Window, zone: &str) -> (i64, i64) {
        let period = window.period(&Zone::named(zone).unwrap(), NOW_MS);
        (period.start_s * 1_000, period.end_s * 1_000)
    }

    #[test]
    fn who_spends_evenly_goes_on_so_through_days_of_23_and_25_hours_and_months_of_any_length() {
        let past = past(&[60_000; 15 * 24]);
        // The hour that has begun counts as if it were half over, as it is: its 60,000 are of half an hour.
        let (from_ms, to_ms) = window(Window::Day, "UTC");
        assert_eq!(
            Forecast::of(&past, 7, from_ms, to_ms).unwrap().at(NOW_MS),
            Outlook {
                middle: 7,
                low: 7,
                high: 7
            }
        );
        for hours in [1, 23, 25, 28 * 24, 29 * 24, 30 * 24 + 1, 31 * 24 - 1] {
            let to_ms = NOW_MS + hours * HOUR_MS;
            let end = Forecast::of(&past, 1_000, to_ms - 31 * DAY_MS, to_ms).unwrap().end();
            // A day has 60,000 more than 24 of its hours, which is what this half hour spent beyond the others.
            let even = 1_000 + 60_000 * hours;
            assert!(
                (even..=even + 60_000 * (hours / 24 + 1)).contains(&end.middle),
                "{hours} {end:?}"
            );
        }
    }

    #[test]
    fn the_rest_of_a_day_is_what_it_was_on_the_days_before() {
        // From nine to ten, and in the evening from 20:00; more on some days than on others.
        let begun_ms = NOW_MS - NOW_MS % HOUR_MS;
        let mut spent = Vec::new();
        for day in 1..=10 {
            spent.push(hour(begun_ms - day * DAY_MS, 500));
            spent.push(hour(begun_ms - day * DAY_MS + 11 * HOUR_MS, 1_000 + 200 * (day % 2)));
        }
        let past = Past::new(&spent, Unit::Usd, NOW_MS);
        let (from_ms, to_ms) = window(Window::Day, "UTC");
        let forecast = Forecast::of(&past, 500, from_ms, to_ms).unwrap();
        // Half of the hour after nine is ahead.
        assert_eq!(forecast.at(NOW_MS + HOUR_MS).middle, 750);
        assert_eq!(forecast.end().middle, 500 + 250 + 1_100);
        // Ten samples of 100 to each side of the mean: 1.2816 * sqrt(100^2 * 10 / 9 * 1.1).
        assert_eq!(
            (forecast.end().middle - forecast.end().low, forecast.end().high),
            (141, 1_850 + 141)
        );
        assert_eq!(forecast.reaches(750), Some(NOW_MS + HOUR_MS / 2));
        assert_eq!((forecast.reaches(500), forecast.reaches(1_900)), (None, None));
    }

    #[test]
    fn where_too_little_is_known_nothing_is_said() {
        let (from_ms, to_ms) = window(Window::Month, "Europe/Berlin");
        assert!(Forecast::of(&past(&[]), 0, from_ms, to_ms).is_none());
        assert!(Forecast::of(&past(&[5, 5, 5]), 15, from_ms, to_ms).is_none());
        // By hours, until there are three days.
        assert_eq!(
            Forecast::of(&past(&[5; 4]), 20, from_ms, to_ms).unwrap().unit_ms,
            HOUR_MS
        );
        assert_eq!(
            Forecast::of(&past(&[5; 73]), 20, from_ms, to_ms).unwrap().unit_ms,
            DAY_MS
        );
        assert!(
            Forecast::of(&past(&[5; 73]), 20, i64::MIN, i64::MAX).is_none(),
            "it has no end"
        );
        assert!(
            Forecast::of(&past(&[5; 73]), 20, from_ms, NOW_MS).is_none(),
            "it is over"
        );
    }

    #[test]
    fn since_when_a_limit_is_reached() {
        let past = past(&[0, 100, 100, 100]);
        let begun_ms = NOW_MS - NOW_MS % HOUR_MS;
        assert_eq!(past.reached(0, 300, 200), Some(begun_ms - HOUR_MS));
        assert_eq!(past.reached(0, 300, 150), Some(begun_ms - HOUR_MS - HOUR_MS / 2));
        assert_eq!(
            past.reached(begun_ms - HOUR_MS, 300, 10),
            Some(begun_ms - HOUR_MS),
            "no sooner than it began"
        );
        assert_eq!(past.reached(0, 300, 301), None);
    }

    #[test]
    fn days_that_are_kept_whole_and_hours_within_them_are_both_counted() {
        let day_ms = NOW_MS - NOW_MS % DAY_MS - 2 * DAY_MS;
        let day = Spent {
            to_ms: day_ms + DAY_MS,
            ..hour(day_ms, 2_400)
        };
        let past = Past::new(&[day, hour(day_ms, 7)], Unit::Usd, NOW_MS);
        assert_eq!(past.between(day_ms, day_ms + HOUR_MS), 107);
        assert_eq!(past.between(day_ms, NOW_MS), 2_407);
    }

    proptest! {
        #[test]
        fn a_forecast_rises_from_what_is_spent_and_its_band_holds_the_middle(
            nanos in prop::collection::vec(prop_oneof![Just(0), 0i64..1_000_000, 0i64..4_000_000_000_000_000_000], 4..400),
            spent in 0i64..1_000_000_000_000,
            steps in prop::collection::vec(0i64..31 * DAY_MS, 1..8),
            kind in 0usize..3,
        ) {
            let past = past(&nanos);
            let of = [Window::Day, Window::Week, Window::Month][kind];
            let (from_ms, to_ms) = window(of, "America/Sao_Paulo");
            let Some(forecast) = Forecast::of(&past, spent, from_ms, to_ms) else { return Ok(()) };
            prop_assert_eq!(forecast.at(NOW_MS), Outlook { middle: spent, low: spent, high: spent });
            let mut moments: Vec<i64> = steps.iter().map(|step| (NOW_MS + step).min(to_ms)).collect();
            moments.sort_unstable();
            let mut last = forecast.at(NOW_MS);
            for at_ms in moments.into_iter().chain([to_ms]) {
                let now = forecast.at(at_ms);
                prop_assert!(last.middle <= now.middle);
                prop_assert!(spent <= now.low && now.low <= now.middle && now.middle <= now.high);
                last = now;
            }
            for limit in [spent + 1, spent + (last.middle - spent) / 2, last.middle] {
                if let Some(at_ms) = forecast.reaches(limit) {
                    prop_assert!(forecast.at(at_ms).middle >= limit && forecast.at(at_ms - 1).middle < limit);
                } else {
                    prop_assert!(limit <= spent || forecast.at(to_ms - 1).middle < limit);
                }
            }
            // Nobody's forecast is lower for having spent more.
            let twice: Vec<i64> = nanos.iter().map(|nanos| nanos / 2).collect();
            let halved = self::past(&twice);
            if let Some(less) = Forecast::of(&halved, spent, from_ms, to_ms) {
                prop_assert!(less.samples != forecast.samples || less.end().middle <= last.middle);
            }
        }
    }
}
