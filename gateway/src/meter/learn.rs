//! What answers taught about their models and the agents that call them: bytes per token, how long answers get, what calls cost.
//! Plain memory, with snapshot and restore; no clock, no I/O.

use std::collections::HashMap;
use std::hash::Hash;

use super::sketch::Sketch;

/// Models remembered. Beyond, the one that was not seen for longest is forgotten.
pub const MODELS_MAX: usize = 1_000;
/// Agents remembered, each with each of its models; some 600 bytes each.
pub const AGENTS_MAX: usize = 4_000;
/// Output tokens expected of a model that taught nothing yet.
pub const OUTPUT_TOKENS_UNLEARNED: u64 = 4_096;
/// Shares of a new ratio in the average: an eighth.
const RATIO_SHARE: i64 = 8;
/// Fewer tokens say little about a ratio.
const RATIO_TOKENS_MIN: u64 = 16;
/// Thousandths of a byte per token that can be believed.
const RATIO_RANGE: std::ops::RangeInclusive<u64> = 500..=64_000;
/// The share of a new cost in the mean is one in so many at least.
const COST_SHARE_MIN: i64 = 64;

/// Which text a ratio is about: they differ, as requests carry JSON schemas, and answers thoughts that are not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Input,
    Output,
}

/// Whose calls something was learned from: the narrowest that say enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LearnedOf {
    Agent,
    Model,
    All,
}

/// What an exact answer used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallSeen {
    /// Thoughts that are not shown included.
    pub output_tokens: u64,
    pub cost_nanos: i64,
}

/// Knowledge of all models.
#[derive(Debug)]
pub struct Learned {
    models: HashMap<String, Model>,
    models_max: usize,
    /// By agent and model.
    agents: HashMap<(String, String), Agent>,
    agents_max: usize,
    all: Calls,
    /// Counts what was learned: the age of each model's knowledge.
    turn: u64,
}

#[derive(Debug, Default)]
struct Model {
    /// Thousandths of a byte per token; 0: not learned.
    input_ratio: u32,
    output_ratio: u32,
    calls: Calls,
    turn: u64,
}

/// What an agent's calls of one model took.
#[derive(Debug, Default)]
struct Agent {
    calls: Calls,
    turn: u64,
}

/// What calls took.
#[derive(Clone, Debug, Default)]
struct Calls {
    outputs: Sketch,
    mean_cost_nanos: i64,
}

impl Calls {
    fn seen(&mut self, call: CallSeen) {
        self.outputs.seen(call.output_tokens);
        let share = i64::from(self.outputs.counts()).clamp(1, COST_SHARE_MIN);
        self.mean_cost_nanos += call.cost_nanos.saturating_sub(self.mean_cost_nanos) / share;
    }

    /// What a call costs on average. `None`: too few were seen.
    fn mean_cost(&self) -> Option<i64> {
        self.outputs.p99().map(|_| self.mean_cost_nanos)
    }

    fn snapshot(&self) -> CallsSnapshot {
        CallsSnapshot {
            outputs: self.outputs.filled(),
            mean_cost_nanos: self.mean_cost_nanos,
        }
    }

    fn restore(snapshot: &CallsSnapshot) -> Calls {
        Calls {
            outputs: Sketch::of_filled(&snapshot.outputs),
            mean_cost_nanos: snapshot.mean_cost_nanos.max(0),
        }
    }
}

/// One model's knowledge as plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ModelSnapshot {
    pub model: String,
    pub input_ratio: u32,
    pub output_ratio: u32,
    #[serde(flatten)]
    pub calls: CallsSnapshot,
    /// Of its calls those of each agent.
    #[serde(default)]
    pub agents: Vec<(String, CallsSnapshot)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CallsSnapshot {
    /// Bucket and answers in it. Empty buckets are left out.
    pub outputs: Vec<(u8, u32)>,
    #[serde(default)]
    pub mean_cost_nanos: i64,
}

impl Default for Learned {
    fn default() -> Learned {
        Learned::new(MODELS_MAX, AGENTS_MAX)
    }
}

impl Learned {
    pub fn new(models_max: usize, agents_max: usize) -> Learned {
        Learned {
            models: HashMap::new(),
            models_max: models_max.max(1),
            agents: HashMap::new(),
            agents_max: agents_max.max(1),
            all: Calls::default(),
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
        let entry = self.model(model);
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

    /// A call of an exact answer. `agent` is empty where nobody knows it.
    pub fn call_seen(&mut self, model: &str, agent: &str, call: CallSeen) {
        self.model(model).calls.seen(call);
        if !agent.is_empty() {
            self.agent(agent, model).calls.seen(call);
        }
        self.all.seen(call);
    }

    /// Output tokens that 99 of 100 answers of this model do not exceed.
    pub fn output_expected(&self, model: &str) -> u64 {
        let learned = self.models.get(model).and_then(|model| model.calls.outputs.p99());
        learned.unwrap_or(OUTPUT_TOKENS_UNLEARNED)
    }

    /// Output tokens that 99 of 100 such calls do not exceed; `None`: nothing like them was seen often enough.
    pub fn output_of_calls(&self, model: &str, agent: &str) -> Option<(u64, LearnedOf)> {
        self.narrowest(model, agent, |calls| calls.outputs.p99())
    }

    /// What such calls cost on average, in nano-dollars. What other models cost says nothing of it.
    pub fn mean_cost_of_calls(&self, model: &str, agent: &str) -> Option<i64> {
        let (mean, of) = self.narrowest(model, agent, Calls::mean_cost)?;
        (of != LearnedOf::All).then_some(mean)
    }

    fn narrowest<T>(&self, model: &str, agent: &str, known: impl Fn(&Calls) -> Option<T>) -> Option<(T, LearnedOf)> {
        let of_agent = || self.agents.get(&(agent.to_owned(), model.to_owned()));
        let of_agent = (!agent.is_empty()).then(of_agent).flatten();
        let of_model = self.models.get(model).map(|model| &model.calls);
        let ways = [
            (of_agent.map(|agent| &agent.calls), LearnedOf::Agent),
            (of_model, LearnedOf::Model),
            (Some(&self.all), LearnedOf::All),
        ];
        ways.into_iter().find_map(|(calls, of)| Some((known(calls?)?, of)))
    }

    /// All that was learned, sorted by model and agent.
    pub fn snapshot(&self) -> Vec<ModelSnapshot> {
        let snapshot = |name: &String, model: &Model| ModelSnapshot {
            model: name.clone(),
            input_ratio: model.input_ratio,
            output_ratio: model.output_ratio,
            calls: model.calls.snapshot(),
            agents: Vec::new(),
        };
        let models = self.models.iter();
        let mut models: HashMap<&str, ModelSnapshot> = models
            .map(|(name, model)| (name.as_str(), snapshot(name, model)))
            .collect();
        for ((agent, model), known) in &self.agents {
            if let Some(snapshot) = models.get_mut(model.as_str()) {
                snapshot.agents.push((agent.clone(), known.calls.snapshot()));
            }
        }
        let mut models: Vec<ModelSnapshot> = models.into_values().collect();
        for model in &mut models {
            model.agents.sort_by(|(one, _), (other, _)| one.cmp(other));
        }
        models.sort_by(|a, b| a.model.cmp(&b.model));
        models
    }

    /// Learned knowledge of earlier; what cannot be believed in it is left out.
    pub fn restore(snapshots: &[ModelSnapshot], models_max: usize, agents_max: usize) -> Learned {
        let mut learned = Learned::new(models_max, agents_max);
        let believed = |ratio: u32| {
            if RATIO_RANGE.contains(&u64::from(ratio)) {
                ratio
            } else {
                0
            }
        };
        for snapshot in snapshots.iter().take(learned.models_max) {
            let calls = Calls::restore(&snapshot.calls);
            learned.all.outputs.add(&calls.outputs);
            let entry = learned.model(&snapshot.model);
            entry.input_ratio = believed(snapshot.input_ratio);
            entry.output_ratio = believed(snapshot.output_ratio);
            entry.calls = calls;
            for (agent, calls) in &snapshot.agents {
                learned.agent(agent, &snapshot.model).calls = Calls::restore(calls);
            }
        }
        learned
    }

    fn model(&mut self, model: &str) -> &mut Model {
        self.turn += 1;
        if !self.models.contains_key(model) {
            make_room(&mut self.models, self.models_max, |model| model.turn);
        }
        let entry = self.models.entry(model.to_owned()).or_default();
        entry.turn = self.turn;
        entry
    }

    fn agent(&mut self, agent: &str, model: &str) -> &mut Agent {
        self.turn += 1;
        let key = (agent.to_owned(), model.to_owned());
        if !self.agents.contains_key(&key) {
            make_room(&mut self.agents, self.agents_max, |agent| agent.turn);
        }
        let entry = self.agents.entry(key).or_default();
        entry.turn = self.turn;
        entry
    }
}

/// Where all places are taken, what was not seen for longest goes.
fn make_room<K: Clone + Eq + Hash, V>(known: &mut HashMap<K, V>, most: usize, turn: impl Fn(&V) -> u64) {
    if known.len() < most {
        return;
    }
    let oldest = known.iter().min_by_key(|(_, value)| turn(value));
    if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
        known.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;
    use crate::meter::sketch::COUNTS_MIN;

    fn call(output_tokens: u64, cost_nanos: i64) -> CallSeen {
        CallSeen {
            output_tokens,
            cost_nanos,
        }
    }

    fn seen(learned: &mut Learned, model: &str, agent: &str, calls: u32, output_tokens: u64) {
        for _ in 0..calls {
            learned.call_seen(model, agent, call(output_tokens, 1_000));
        }
    }

    #[test]
    fn outputs_are_expected_as_learned() {
        let mut learned = Learned::default();
        for answer in 0..COUNTS_MIN {
            assert_eq!(
                learned.output_expected("m"),
                OUTPUT_TOKENS_UNLEARNED,
                "{answer} answers are too few"
            );
            seen(&mut learned, "m", "", 1, 100);
        }
        assert_eq!(learned.output_expected("m"), 111);
        assert_eq!(learned.output_expected("other"), OUTPUT_TOKENS_UNLEARNED);
        seen(&mut learned, "m", "", 500, 100);
        seen(&mut learned, "m", "", 4, 20_000);
        assert_eq!(learned.output_expected("m"), 111, "one in a hundred may be longer");
        seen(&mut learned, "m", "", 10, 20_000);
        assert_eq!(learned.output_expected("m"), 20_479);
        seen(&mut learned, "m", "", 200_000, 50);
        assert_eq!(learned.output_expected("m"), 55, "the past fades");
    }

    #[test]
    fn an_agents_own_calls_say_most_then_its_models_then_all() {
        let mut learned = Learned::default();
        assert_eq!(learned.output_of_calls("opus", "coder"), None);
        seen(&mut learned, "haiku", "", COUNTS_MIN, 10);
        assert_eq!(learned.output_of_calls("opus", "coder"), Some((11, LearnedOf::All)));
        assert_eq!(
            learned.mean_cost_of_calls("opus", "coder"),
            None,
            "another model's price is another"
        );
        seen(&mut learned, "opus", "writer", COUNTS_MIN, 5_000);
        assert_eq!(
            learned.output_of_calls("opus", "coder"),
            Some((5_119, LearnedOf::Model))
        );
        seen(&mut learned, "opus", "coder", COUNTS_MIN - 1, 100);
        assert_eq!(
            learned.output_of_calls("opus", "coder"),
            Some((5_119, LearnedOf::Model))
        );
        seen(&mut learned, "opus", "coder", 1, 100);
        assert_eq!(learned.output_of_calls("opus", "coder"), Some((111, LearnedOf::Agent)));
        assert_eq!(learned.output_of_calls("opus", ""), Some((5_119, LearnedOf::Model)));
        assert_eq!(learned.mean_cost_of_calls("opus", "coder"), Some(1_000));
    }

    #[test]
    fn a_mean_cost_follows_what_calls_cost() {
        let mut learned = Learned::default();
        for cost in 1..=40 {
            learned.call_seen("m", "a", call(1, cost * 1_000_000));
        }
        let mean = learned.mean_cost_of_calls("m", "a").unwrap();
        assert!((20_000_000..21_000_000).contains(&mean), "{mean}");
        for _ in 0..1_000 {
            learned.call_seen("m", "a", call(1, 5_000_000));
        }
        let mean = learned.mean_cost_of_calls("m", "a").unwrap();
        assert!((5_000_000..5_001_000).contains(&mean), "{mean}");
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
    fn models_and_agents_are_bounded_and_the_oldest_goes() {
        let mut learned = Learned::new(2, 3);
        for (model, agent) in [("a", "x"), ("b", "x"), ("a", "y"), ("c", "z"), ("c", "x")] {
            seen(&mut learned, model, agent, 1, 1);
        }
        let names: Vec<(String, Vec<String>)> = learned
            .snapshot()
            .into_iter()
            .map(|model| (model.model, model.agents.into_iter().map(|(agent, _)| agent).collect()))
            .collect();
        let expected: [(String, Vec<String>); 2] = [
            ("a".into(), vec!["y".into()]),
            ("c".into(), vec!["x".into(), "z".into()]),
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_snapshot_restores_all_of_it() {
        let mut learned = Learned::default();
        for answer in 0..100 {
            learned.call_seen("m", "coder", call(answer * 7, 2_000_000));
            learned.ratio_seen("m", Side::Input, 3_000 + answer, 1_000);
        }
        learned.ratio_seen("n", Side::Output, 5_000, 1_000);
        let snapshot = learned.snapshot();
        let restored = Learned::restore(&snapshot, MODELS_MAX, AGENTS_MAX);
        assert_eq!(restored.snapshot(), snapshot);
        for (model, agent) in [("m", "coder"), ("m", ""), ("n", "coder")] {
            assert_eq!(
                restored.output_of_calls(model, agent),
                learned.output_of_calls(model, agent),
                "{model} {agent}"
            );
        }
        assert_eq!(restored.mean_cost_of_calls("m", "coder"), Some(2_000_000));
        let nonsense = ModelSnapshot {
            model: "x".into(),
            input_ratio: 1,
            calls: CallsSnapshot {
                outputs: vec![(255, 9), (3, u32::MAX)],
                mean_cost_nanos: -1,
            },
            ..snapshot[0].clone()
        };
        let restored = Learned::restore(&[nonsense], 10, 10);
        assert_eq!(restored.ratio("x", Side::Input), None);
        assert_eq!(restored.mean_cost_of_calls("x", ""), Some(0));
    }
}
