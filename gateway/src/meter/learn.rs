//! What answers taught about their models: bytes per token, and how long answers get. Plain memory, with snapshot and
//! restore; no clock, no I/O.

use std::collections::HashMap;

/// Models remembered. Beyond, the one that was not seen for longest is forgotten.
pub const MODELS_MAX: usize = 1_000;
/// Output tokens expected of a model that taught nothing yet.
pub const OUTPUT_TOKENS_UNLEARNED: u64 = 4_096;
/// Answers from which a 99th percentile may be taken.
const ANSWERS_MIN: u32 = 32;
/// Answers after which the older half of the weight is let go, so that a model's change is followed.
const ANSWERS_MAX: u32 = 4_096;
/// Shares of a new ratio in the average: an eighth.
const RATIO_SHARE: i64 = 8;
/// Fewer tokens say little about a ratio.
const RATIO_TOKENS_MIN: u64 = 16;
/// Thousandths of a byte per token that can be believed.
const RATIO_RANGE: std::ops::RangeInclusive<u64> = 500..=64_000;
/// Four buckets for each power of two, up to 2^30 and beyond.
const BUCKETS: usize = 124;

/// Which text a ratio is about: they differ, as requests carry JSON schemas, and answers thoughts that are not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Input,
    Output,
}

/// Knowledge of all models.
#[derive(Debug)]
pub struct Learned {
    models: HashMap<String, Model>,
    models_max: usize,
    /// Counts what was learned: the age of each model's knowledge.
    turn: u64,
}

#[derive(Debug)]
struct Model {
    /// Thousandths of a byte per token; 0: not learned.
    input_ratio: u32,
    output_ratio: u32,
    answers: u32,
    buckets: [u32; BUCKETS],
    turn: u64,
}

/// One model's knowledge as plain data. Empty buckets are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ModelSnapshot {
    pub model: String,
    pub input_ratio: u32,
    pub output_ratio: u32,
    /// Bucket and answers in it.
    pub outputs: Vec<(u8, u32)>,
}

impl Default for Learned {
    fn default() -> Learned {
        Learned::new(MODELS_MAX)
    }
}

impl Learned {
    pub fn new(models_max: usize) -> Learned {
        Learned {
            models: HashMap::new(),
            models_max: models_max.max(1),
            turn: 0,
        }
    }

    /// An answer's text of `bytes`, for which the provider counted `tokens`.
    pub fn ratio_seen(&mut self, model: &str, side: Side, bytes: u64, tokens: u64) {
        let Some(seen) = bytes.saturating_mul(1_000).checked_div(tokens) else {
            return;
        };
        if tokens < RATIO_TOKENS_MIN || !RATIO_RANGE.contains(&seen) {
            return;
        }
        let entry = self.entry(model);
        let ratio = match side {
            Side::Input => &mut entry.input_ratio,
            Side::Output => &mut entry.output_ratio,
        };
        let (old, seen) = (i64::from(*ratio), i64::try_from(seen).unwrap_or(i64::MAX));
        let new = if old == 0 {
            seen
        } else {
            old + (seen - old) / RATIO_SHARE
        };
        *ratio = u32::try_from(new).unwrap_or(*ratio);
    }

    /// Thousandths of a byte per token, if learned.
    pub fn ratio(&self, model: &str, side: Side) -> Option<u32> {
        let entry = self.models.get(model)?;
        let ratio = match side {
            Side::Input => entry.input_ratio,
            Side::Output => entry.output_ratio,
        };
        (ratio > 0).then_some(ratio)
    }

    /// An exact answer used this many output tokens.
    pub fn output_seen(&mut self, model: &str, tokens: u64) {
        let entry = self.entry(model);
        if let Some(count) = entry.buckets.get_mut(bucket_of(tokens)) {
            *count += 1;
            entry.answers += 1;
        }
        if entry.answers >= ANSWERS_MAX {
            entry.buckets.iter_mut().for_each(|count| *count /= 2);
            entry.answers = entry.buckets.iter().sum();
        }
    }

    /// Output tokens that 99 of 100 answers of this model do not exceed.
    pub fn output_expected(&self, model: &str) -> u64 {
        let Some(entry) = self.models.get(model).filter(|entry| entry.answers >= ANSWERS_MIN) else {
            return OUTPUT_TOKENS_UNLEARNED;
        };
        // Rounded up: with fewer than a hundred answers, the longest.
        let needed = entry.answers - entry.answers / 100;
        let mut below = 0;
        for (bucket, count) in entry.buckets.iter().enumerate() {
            below += count;
            if below >= needed {
                return bucket_top(bucket);
            }
        }
        OUTPUT_TOKENS_UNLEARNED
    }

    /// All that was learned, sorted by model.
    pub fn snapshot(&self) -> Vec<ModelSnapshot> {
        let mut models: Vec<ModelSnapshot> = self.models.iter().map(|(name, model)| model.snapshot(name)).collect();
        models.sort_by(|a, b| a.model.cmp(&b.model));
        models
    }

    /// Learned knowledge of earlier; what cannot be believed in it is left out.
    pub fn restore(snapshots: &[ModelSnapshot], models_max: usize) -> Learned {
        let mut learned = Learned::new(models_max);
        let believed = |ratio: u32| {
            if RATIO_RANGE.contains(&u64::from(ratio)) {
                ratio
            } else {
                0
            }
        };
        for snapshot in snapshots.iter().take(learned.models_max) {
            let entry = learned.entry(&snapshot.model);
            entry.input_ratio = believed(snapshot.input_ratio);
            entry.output_ratio = believed(snapshot.output_ratio);
            for (bucket, count) in &snapshot.outputs {
                if let Some(place) = entry.buckets.get_mut(usize::from(*bucket)) {
                    *place = (*count).min(ANSWERS_MAX);
                }
            }
            entry.answers = entry.buckets.iter().sum();
        }
        learned
    }

    fn entry(&mut self, model: &str) -> &mut Model {
        self.turn += 1;
        let turn = self.turn;
        if !self.models.contains_key(model)
            && self.models.len() >= self.models_max
            && let Some(oldest) = self
                .models
                .iter()
                .min_by_key(|(_, model)| model.turn)
                .map(|(name, _)| name.clone())
        {
            self.models.remove(&oldest);
        }
        let entry = self.models.entry(model.to_owned()).or_default();
        entry.turn = turn;
        entry
    }
}

impl Default for Model {
    fn default() -> Model {
        Model {
            input_ratio: 0,
            output_ratio: 0,
            answers: 0,
            buckets: [0; BUCKETS],
            turn: 0,
        }
    }
}

impl Model {
    fn snapshot(&self, name: &str) -> ModelSnapshot {
        let filled = self.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        let outputs = filled
            .map(|(bucket, count)| (u8::try_from(bucket).unwrap_or(u8::MAX), *count))
            .collect();
        ModelSnapshot {
            model: name.to_owned(),
            input_ratio: self.input_ratio,
            output_ratio: self.output_ratio,
            outputs,
        }
    }
}

/// Tokens 0 to 3 have a bucket each; from there, four to each power of two.
fn bucket_of(tokens: u64) -> usize {
    if tokens < 4 {
        return usize::try_from(tokens).unwrap_or_default();
    }
    let power = tokens.ilog2();
    let quarter = (tokens >> (power - 2)) & 3;
    ((power as usize - 1) * 4 + quarter as usize).min(BUCKETS - 1)
}

/// The most tokens in a bucket.
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

    #[test]
    fn every_count_is_in_the_bucket_that_holds_it() {
        for tokens in (0..100_000).chain([1 << 20, (1 << 30) - 1, 1 << 30]) {
            let bucket = bucket_of(tokens);
            assert!(tokens <= bucket_top(bucket), "{tokens}");
            assert!(bucket == 0 || tokens > bucket_top(bucket - 1), "{tokens}");
            assert!(
                bucket_top(bucket) <= tokens + tokens / 4,
                "{tokens} is at most a quarter too high"
            );
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn outputs_are_expected_as_learned() {
        let mut learned = Learned::default();
        for answer in 0..ANSWERS_MIN {
            assert_eq!(
                learned.output_expected("m"),
                OUTPUT_TOKENS_UNLEARNED,
                "{answer} answers are too few"
            );
            learned.output_seen("m", 100);
        }
        assert_eq!(learned.output_expected("m"), bucket_top(bucket_of(100)));
        assert_eq!(learned.output_expected("other"), OUTPUT_TOKENS_UNLEARNED);
        for _ in 0..500 {
            learned.output_seen("m", 100);
        }
        for _ in 0..4 {
            learned.output_seen("m", 20_000);
        }
        assert_eq!(
            learned.output_expected("m"),
            bucket_top(bucket_of(100)),
            "one in a hundred may be longer"
        );
        for _ in 0..10 {
            learned.output_seen("m", 20_000);
        }
        assert_eq!(learned.output_expected("m"), bucket_top(bucket_of(20_000)));
        for _ in 0..200_000 {
            learned.output_seen("m", 50);
        }
        assert_eq!(
            learned.output_expected("m"),
            bucket_top(bucket_of(50)),
            "the past fades"
        );
    }

    #[test]
    fn ratios_follow_and_nonsense_teaches_nothing() {
        let mut learned = Learned::default();
        learned.ratio_seen("m", Side::Output, 4_000, 1_000);
        assert_eq!(learned.ratio("m", Side::Output), Some(4_000));
        assert_eq!(learned.ratio("m", Side::Input), None);
        learned.ratio_seen("m", Side::Output, 3_200, 1_000);
        assert_eq!(learned.ratio("m", Side::Output), Some(3_900));
        for (bytes, tokens) in [(10, 0), (10, 5), (0, 1_000), (1_000_000, 20), (u64::MAX, 1_000)] {
            learned.ratio_seen("m", Side::Output, bytes, tokens);
        }
        assert_eq!(learned.ratio("m", Side::Output), Some(3_900));
    }

    #[test]
    fn models_are_bounded_and_the_oldest_goes() {
        let mut learned = Learned::new(2);
        learned.output_seen("a", 1);
        learned.output_seen("b", 1);
        learned.output_seen("a", 1);
        learned.output_seen("c", 1);
        let names: Vec<_> = learned.snapshot().into_iter().map(|model| model.model).collect();
        assert_eq!(names, ["a", "c"]);
    }

    #[test]
    fn a_snapshot_restores_all_of_it() {
        let mut learned = Learned::default();
        for answer in 0..100 {
            learned.output_seen("m", answer * 7);
            learned.ratio_seen("m", Side::Input, 3_000 + answer, 1_000);
        }
        learned.ratio_seen("n", Side::Output, 5_000, 1_000);
        let snapshot = learned.snapshot();
        let restored = Learned::restore(&snapshot, MODELS_MAX);
        assert_eq!(restored.snapshot(), snapshot);
        assert_eq!(restored.output_expected("m"), learned.output_expected("m"));
        let nonsense = ModelSnapshot {
            model: "x".into(),
            input_ratio: 1,
            outputs: vec![(255, 9), (3, u32::MAX)],
            ..snapshot[0].clone()
        };
        assert_eq!(Learned::restore(&[nonsense], 10).ratio("x", Side::Input), None);
    }
}
