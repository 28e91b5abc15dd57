//! Where two candidates decide differently.

use std::collections::BTreeMap;

use agentledger_ledger::rfc3339_ms;

use super::outcome::Ended;
use super::report::{Diff, DiffExample, DiffKind};
use super::tally::{Counts, assumed, money};

const EXAMPLES_MAX: usize = 20;
/// Pairs of outcomes that are told apart; further ones are one.
const KINDS_MAX: usize = 200;

/// Two simulations side by side.
pub struct Comparison {
    a: String,
    b: String,
    a_counts: Counts,
    b_counts: Counts,
    same: u64,
    different: u64,
    /// How often, and what the second saves beside the first.
    kinds: BTreeMap<(String, String), (u64, i128)>,
    examples: Vec<(u64, DiffExample)>,
}

impl Comparison {
    pub fn new(a: &str, b: &str) -> Comparison {
        Comparison {
            a: a.to_owned(),
            b: b.to_owned(),
            a_counts: Counts::default(),
            b_counts: Counts::default(),
            same: 0,
            different: 0,
            kinds: BTreeMap::new(),
            examples: Vec::new(),
        }
    }

    /// The same call in both.
    pub fn add(&mut self, a: &Ended, b: &Ended) {
        if a.is_undecided || b.is_undecided {
            return;
        }
        self.a_counts.add(a);
        self.b_counts.add(b);
        if a.outcome == b.outcome && a.simulated == b.simulated {
            self.same += 1;
            return;
        }
        self.different += 1;
        let mut kind = (a.outcome.words(), b.outcome.words());
        if self.kinds.len() >= KINDS_MAX && !self.kinds.contains_key(&kind) {
            kind = ("other".to_owned(), "other".to_owned());
        }
        let saved = i128::from(a.simulated.nanos()) - i128::from(b.simulated.nanos());
        let (count, sum) = self.kinds.entry(kind).or_default();
        *count += 1;
        *sum += saved;
        let weight = a.simulated.nanos().abs_diff(b.simulated.nanos());
        let least = self.examples.last().map_or(0, |(weight, _)| *weight);
        if self.examples.len() >= EXAMPLES_MAX && weight <= least {
            return;
        }
        let facts = &a.facts;
        let example = DiffExample {
            id: facts.id.to_string(),
            at: rfc3339_ms(facts.at_ms),
            key: facts.key.to_string(),
            agent: facts.agent.to_string(),
            model: facts.requested_model.to_string(),
            a: a.outcome.words(),
            b: b.outcome.words(),
            a_usd: a.simulated.to_string(),
            b_usd: b.simulated.to_string(),
        };
        let at = self.examples.partition_point(|(known, _)| *known >= weight);
        self.examples.insert(at, (weight, example));
        self.examples.truncate(EXAMPLES_MAX);
    }

    pub fn finish(self) -> Diff {
        let kind = |((a, b), (count, saved)): ((String, String), (u64, i128))| DiffKind {
            a,
            b,
            count,
            saved_usd: money(saved),
        };
        let mut kinds: Vec<DiffKind> = self.kinds.into_iter().map(kind).collect();
        kinds.sort_by_key(|kind| std::cmp::Reverse(kind.count));
        Diff {
            a: self.a,
            b: self.b,
            a_totals: self.a_counts.sums(),
            b_totals: self.b_counts.sums(),
            same: self.same,
            different: self.different,
            kinds,
            examples: self.examples.into_iter().map(|(_, example)| example).collect(),
            assumed: assumed(),
        }
    }
}
