//! How large things get: a quantile of counts from a fixed few bytes. Four buckets for each power of two, so that a quantile is at
//! most a quarter too high and never too low.

/// Counts from which a 99th percentile may be taken.
pub const COUNTS_MIN: u32 = 20;
/// Counts after which the older half of the weight is let go, so that a change is followed.
const COUNTS_MAX: u32 = 4_096;
/// Up to 2^30 and beyond.
const BUCKETS: usize = 124;

/// The counts seen, the older ones with less weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sketch {
    counts: u32,
    buckets: [u32; BUCKETS],
}

impl Default for Sketch {
    fn default() -> Sketch {
        Sketch {
            counts: 0,
            buckets: [0; BUCKETS],
        }
    }
}

impl Sketch {
    pub fn seen(&mut self, count: u64) {
        if let Some(bucket) = self.buckets.get_mut(bucket_of(count)) {
            *bucket += 1;
            self.counts += 1;
        }
        self.fade();
    }

    /// How many counts it rests on.
    pub fn counts(&self) -> u32 {
        self.counts
    }

    /// What 99 of 100 counts do not exceed; with fewer than a hundred, none of them. `None`: too few were seen.
    pub fn p99(&self) -> Option<u64> {
        if self.counts < COUNTS_MIN {
            return None;
        }
        let needed = self.counts - self.counts / 100;
        let mut below = 0;
        let reached = self.buckets.iter().position(|in_bucket| {
            below += in_bucket;
            below >= needed
        });
        reached.map(bucket_top)
    }

    /// Takes in what another has seen.
    pub fn add(&mut self, other: &Sketch) {
        for (own, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *own += more;
        }
        self.counts += other.counts;
        self.fade();
    }

    /// Bucket and counts in it, without the empty ones.
    pub fn filled(&self) -> Vec<(u8, u32)> {
        let filled = self.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        filled
            .map(|(bucket, count)| (u8::try_from(bucket).unwrap_or(u8::MAX), *count))
            .collect()
    }

    /// What `filled` gave; what cannot be believed in it is left out.
    pub fn of_filled(filled: &[(u8, u32)]) -> Sketch {
        let mut sketch = Sketch::default();
        for (bucket, count) in filled {
            if let Some(place) = sketch.buckets.get_mut(usize::from(*bucket)) {
                *place = (*count).min(COUNTS_MAX);
            }
        }
        sketch.counts = sketch.buckets.iter().sum();
        sketch
    }

    fn fade(&mut self) {
        while self.counts >= COUNTS_MAX {
            self.buckets.iter_mut().for_each(|count| *count /= 2);
            self.counts = self.buckets.iter().sum();
        }
    }
}

/// Counts 0 to 3 have a bucket each; from there, four to each power of two.
fn bucket_of(count: u64) -> usize {
    if count < 4 {
        return usize::try_from(count).unwrap_or_default();
    }
    let power = count.ilog2();
    let quarter = (count >> (power - 2)) & 3;
    ((power as usize - 1) * 4 + quarter as usize).min(BUCKETS - 1)
}

/// The most that is in a bucket.
fn bucket_top(bucket: usize) -> u64 {
    if bucket < 4 {
        return bucket as u64;
    }
    let (power, quarter) = ((bucket / 4 + 1) as u32, (bucket % 4) as u64);
    ((4 + quarter + 1) << (power - 2)) - 1
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    fn of(counts: &[u64]) -> Sketch {
        let mut sketch = Sketch::default();
        counts.iter().for_each(|count| sketch.seen(*count));
        sketch
    }

    #[test]
    fn every_count_is_in_the_bucket_that_holds_it() {
        for count in (0..100_000).chain([1 << 20, (1 << 30) - 1, 1 << 30]) {
            let bucket = bucket_of(count);
            assert!(count <= bucket_top(bucket), "{count}");
            assert!(bucket == 0 || count > bucket_top(bucket - 1), "{count}");
            assert!(
                bucket_top(bucket) <= count + count / 4,
                "{count} is at most a quarter too high"
            );
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    proptest! {
        #[test]
        fn a_percentile_is_that_of_the_sorted_counts_or_a_quarter_above(
            counts in prop::collection::vec(0..2_000_000_u64, COUNTS_MIN as usize..1_000)
        ) {
            let mut sorted = counts.clone();
            sorted.sort_unstable();
            let exact = sorted[counts.len() - counts.len() / 100 - 1];
            let p99 = of(&counts).p99().unwrap();
            prop_assert!((exact..=exact + exact / 4).contains(&p99), "{p99} for {exact}");
        }

        #[test]
        fn what_fills_a_sketch_makes_it_again(counts in prop::collection::vec(any::<u64>(), 0..6_000)) {
            let sketch = of(&counts);
            prop_assert_eq!(&Sketch::of_filled(&sketch.filled()), &sketch);
            prop_assert!(sketch.counts() < COUNTS_MAX);
            prop_assert_eq!(sketch.p99().is_some(), sketch.counts() >= COUNTS_MIN);
        }

        #[test]
        fn two_sketches_together_are_the_sketch_of_both(
            one in prop::collection::vec(0..100_000_u64, 0..500),
            other in prop::collection::vec(0..100_000_u64, 0..500)
        ) {
            let mut both = of(&one);
            both.add(&of(&other));
            prop_assert_eq!(both, of(&[one, other].concat()));
        }

        #[test]
        fn whatever_was_seen_is_forgotten_for_what_is(past in prop::collection::vec(0..1_000_000_u64, 0..5_000), now in 0..1_000_000_u64) {
            let mut sketch = of(&past);
            for _ in 0..50_000 {
                sketch.seen(now);
            }
            prop_assert_eq!(sketch.p99(), Some(bucket_top(bucket_of(now))));
        }
    }
}
