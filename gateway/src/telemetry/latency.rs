//! How long providers take, as percentiles over the last ten to twenty minutes, in bounded memory: counts in buckets an eighth
//! of a power of two wide, so that a percentile is at most a tenth too high.

use std::collections::HashMap;
use std::sync::Arc;

use agentledger_ledger::Entry;
use parking_lot::Mutex;

/// Providers that are told apart: as many as a configuration may reasonably have.
const PROVIDERS_MAX: usize = 1_000;
/// Of one of the two stretches that percentiles are over: the one that runs, and the one before.
const STRETCH_MS: i64 = 600_000;
/// Parts of a power of two.
const PARTS: u64 = 8;
/// Powers of two from 8 ms on: the last bucket begins above two days.
const POWERS: usize = 25;
/// Below 8 ms each millisecond is a bucket.
const BUCKETS: usize = (POWERS + 1) * PARTS as usize;

/// Percentiles of one provider, milliseconds, and counts since the gateway started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProviderFigures {
    pub requests: u64,
    /// Answers with a status of 400 and above, and what had no answer.
    pub errors: u64,
    pub duration: Percentiles,
    /// Time to the first byte.
    pub ttfb: Percentiles,
}

/// `None` where nothing was counted lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Percentiles {
    pub p50: Option<u64>,
    pub p90: Option<u64>,
    pub p99: Option<u64>,
}

#[derive(Debug, Default)]
struct Counts {
    stretch: i64,
    now: Buckets,
    before: Buckets,
}

/// Empty until something is counted.
#[derive(Debug, Default)]
struct Buckets(Vec<u32>);

#[derive(Debug, Default)]
struct OfProvider {
    requests: u64,
    errors: u64,
    duration: Counts,
    ttfb: Counts,
}

/// All providers.
#[derive(Debug, Default)]
pub struct Latencies(Mutex<HashMap<Arc<str>, OfProvider>>);

impl Latencies {
    /// Counts a settled exchange.
    pub fn count(&self, entry: &Entry) {
        let (facts, end) = (&entry.facts, &entry.settlement);
        let mut providers = self.0.lock();
        if !providers.contains_key(&facts.provider) {
            if providers.len() >= PROVIDERS_MAX {
                return;
            }
            providers.insert(Arc::clone(&facts.provider), OfProvider::default());
        }
        let Some(provider) = providers.get_mut(&facts.provider) else {
            return;
        };
        let stretch = facts.at_ms.div_euclid(STRETCH_MS);
        provider.requests += 1;
        provider.errors += u64::from(end.status >= 400 || end.status == 0);
        provider.duration.add(stretch, end.duration_ms);
        if let Some(ttfb_ms) = end.ttfb_ms {
            provider.ttfb.add(stretch, ttfb_ms);
        }
    }

    pub fn of(&self, provider: &str, now_ms: i64) -> ProviderFigures {
        let providers = self.0.lock();
        let Some(provider) = providers.get(provider) else {
            return ProviderFigures::default();
        };
        let stretch = now_ms.div_euclid(STRETCH_MS);
        ProviderFigures {
            requests: provider.requests,
            errors: provider.errors,
            duration: provider.duration.percentiles(stretch),
            ttfb: provider.ttfb.percentiles(stretch),
        }
    }
}

impl Counts {
    fn add(&mut self, stretch: i64, ms: u64) {
        if stretch > self.stretch {
            let now = std::mem::take(&mut self.now);
            self.before = if stretch == self.stretch + 1 {
                now
            } else {
                Buckets::default()
            };
            self.stretch = stretch;
        }
        self.now.add(ms);
    }

    fn percentiles(&self, stretch: i64) -> Percentiles {
        let stretches: &[&Buckets] = match stretch - self.stretch {
            ..=0 => &[&self.now, &self.before],
            1 => &[&self.now],
            _ => &[],
        };
        let mut sums = [0_u64; BUCKETS];
        for buckets in stretches {
            for (sum, count) in sums.iter_mut().zip(&buckets.0) {
                *sum += u64::from(*count);
            }
        }
        let all: u64 = sums.iter().sum();
        let at = |percent: u64| {
            let rank = (all * percent).div_ceil(100).max(1);
            let mut below = 0;
            let place = sums.iter().position(|count| {
                below += count;
                below >= rank
            });
            place.map(upper_ms)
        };
        Percentiles {
            p50: at(50),
            p90: at(90),
            p99: at(99),
        }
    }
}

impl Buckets {
    fn add(&mut self, ms: u64) {
        if self.0.is_empty() {
            self.0 = vec![0; BUCKETS];
        }
        if let Some(count) = self.0.get_mut(place(ms)) {
            *count = count.saturating_add(1);
        }
    }
}

fn place(ms: u64) -> usize {
    let power = ms.max(1).ilog2();
    let place = match power {
        0..=2 => ms,
        // The three bits behind the highest one.
        _ => u64::from(power - 2) * PARTS + ((ms >> (power - 3)) & (PARTS - 1)),
    };
    usize::try_from(place).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The longest time that falls into a bucket.
fn upper_ms(place: usize) -> u64 {
    let place = place as u64;
    if place < PARTS {
        return place;
    }
    let (power, part) = (place / PARTS + 2, place % PARTS);
    ((PARTS + part + 1) << (power - 3)) - 1
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_bucket_is_at_most_an_eighth_wide() {
        let mut last = 0;
        for ms in (0..5_000).chain((5_000..100_000_000).step_by(9_973)) {
            let upper = upper_ms(place(ms));
            assert!(upper >= ms && upper <= ms + ms / 8, "{ms}: {upper}");
            assert!(place(ms) >= last);
            last = place(ms);
        }
        assert_eq!(place(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_of_this_stretch_and_the_one_before() {
        let mut counts = Counts::default();
        for ms in 1..=100 {
            counts.add(7, ms * 10);
        }
        let is_near = |found: Option<u64>, exact: u64| found.is_some_and(|ms| ms >= exact && ms <= exact + exact / 8);
        for stretch in [7, 8] {
            let found = counts.percentiles(stretch);
            assert!(
                is_near(found.p50, 500) && is_near(found.p90, 900) && is_near(found.p99, 990),
                "{found:?}"
            );
        }
        assert_eq!(counts.percentiles(9), Percentiles::default());
        counts.add(8, 5);
        assert!(is_near(counts.percentiles(8).p50, 500), "the one before counts too");
        counts.add(9, 5);
        assert_eq!(counts.percentiles(9).p99, Some(5));
    }
}
