//! Adds up what a simulation comes to.

use std::collections::{BTreeMap, HashMap, HashSet};

use agentledger_ledger::{Facts, Name, Usd, rfc3339_ms};

use super::outcome::{Ended, Outcome};
use super::report::{Example, Row, Simulated, Sums};

/// Names that are told apart by each dimension; further ones are `other`.
const NAMES_MAX: usize = 10_000;
const ROWS_MAX: usize = 50;
const EXAMPLES_MAX: usize = 20;

const DIMENSIONS: [&str; 6] = ["key", "tenant", "agent", "session", "model", "user"];

/// What is taken for granted in a simulation.
const ASSUMED: [&str; 7] = [
    "a call that is denied costs nothing, and is not tried again",
    "the calls that followed in its session went on as they are recorded, with the histories that they had",
    "a call that was refused then and is let through costs what it was sized as",
    "no call waits for others' holds: where they are in the way it is denied (budget_held)",
    "any request's output can be clamped and its model changed, and it asks for one answer",
    "rates begin empty, and count by the times of the calls",
    "imported entries and corrections of entries change nothing here",
];

pub fn assumed() -> Vec<String> {
    ASSUMED.iter().map(|text| (*text).to_owned()).collect()
}

/// Counts, exact.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    calls: u64,
    denied: u64,
    clamped: u64,
    routed: u64,
    delayed: u64,
    cut: u64,
    newly_allowed: u64,
    different: u64,
    cost: i128,
    simulated: i128,
    delay_ms: u64,
}

impl Counts {
    pub fn add(&mut self, ended: &Ended) {
        let outcome = &ended.outcome;
        self.cost += i128::from(ended.cost.nanos());
        self.simulated += i128::from(ended.simulated.nanos());
        self.different += u64::from(is_other(ended));
        if ended.refused.is_some() {
            self.newly_allowed += u64::from(outcome.denied.is_none());
            return;
        }
        self.calls += 1;
        self.denied += u64::from(outcome.denied.is_some());
        self.clamped += u64::from(outcome.clamped.is_some());
        self.routed += u64::from(outcome.routed.is_some());
        self.delayed += u64::from(!outcome.delay.is_zero());
        self.cut += u64::from(outcome.cut);
        self.delay_ms += u64::try_from(outcome.delay.as_millis()).unwrap_or_default();
    }

    fn is_different(&self) -> bool {
        let all = [
            self.denied,
            self.clamped,
            self.routed,
            self.delayed,
            self.cut,
            self.newly_allowed,
        ];
        self.cost != self.simulated || all.iter().any(|count| *count > 0)
    }

    pub fn sums(&self) -> Sums {
        Sums {
            calls: self.calls,
            denied: self.denied,
            clamped: self.clamped,
            routed: self.routed,
            delayed: self.delayed,
            cut: self.cut,
            newly_allowed: self.newly_allowed,
            different: self.different,
            cost_usd: money(self.cost),
            simulated_usd: money(self.simulated),
            saved_usd: money(self.cost - self.simulated),
            delay_ms: self.delay_ms,
        }
    }
}

/// Whether anything would have been different about a call.
fn is_other(ended: &Ended) -> bool {
    match ended.refused {
        Some(_) => ended.outcome.denied.is_none(),
        None => ended.outcome != ended.was || ended.cost != ended.simulated,
    }
}

/// Decimal dollars; past nine billion at the end of the range.
pub fn money(nanos: i128) -> String {
    let nanos = nanos.clamp(i64::MIN.into(), i64::MAX.into());
    Usd::from_nanos(i64::try_from(nanos).unwrap_or_default()).to_string()
}

/// All of a simulation.
#[derive(Default)]
pub struct Tally {
    totals: Counts,
    by: [HashMap<Name, Counts>; DIMENSIONS.len()],
    people: HashSet<Name>,
    examples: Vec<(u64, Example)>,
}

impl Tally {
    pub fn add(&mut self, ended: &Ended) {
        self.totals.add(ended);
        let facts = &ended.facts;
        let names = [
            &facts.key,
            &facts.tenant,
            &facts.agent,
            &facts.session,
            &facts.requested_model,
            &facts.user,
        ];
        for (counts, name) in self.by.iter_mut().zip(names) {
            let is_room = counts.len() < NAMES_MAX || counts.contains_key(name);
            let name = if is_room {
                Name::clone(name)
            } else {
                Name::from("other")
            };
            counts.entry(name).or_default().add(ended);
        }
        let is_hit = ended.refused.is_none() && (ended.outcome.denied.is_some() || ended.outcome.cut);
        if is_hit && self.people.len() < NAMES_MAX * 10 {
            self.people.insert(person(facts));
        }
        self.example(ended);
    }

    fn example(&mut self, ended: &Ended) {
        let weight = ended.cost.nanos().abs_diff(ended.simulated.nanos());
        let least = self.examples.last().map_or(0, |(weight, _)| *weight);
        if !is_other(ended) || (self.examples.len() >= EXAMPLES_MAX && weight <= least) {
            return;
        }
        let at = self.examples.partition_point(|(known, _)| *known >= weight);
        self.examples.insert(at, (weight, example_of(ended)));
        self.examples.truncate(EXAMPLES_MAX);
    }

    pub fn finish(self) -> Simulated {
        let by: BTreeMap<String, Vec<Row>> = DIMENSIONS
            .iter()
            .zip(self.by)
            .map(|(dimension, counts)| ((*dimension).to_owned(), rows(counts)))
            .collect();
        Simulated {
            totals: self.totals.sums(),
            by,
            people_hit: self.people.len() as u64,
            examples: self.examples.into_iter().map(|(_, example)| example).collect(),
            assumed: assumed(),
        }
    }
}

fn person(facts: &Facts) -> Name {
    let is_named = !facts.user.is_empty();
    Name::clone(if is_named { &facts.user } else { &facts.key })
}

/// Where anything is different, most saved first.
fn rows(counts: HashMap<Name, Counts>) -> Vec<Row> {
    let mut different: Vec<(Name, Counts)> = counts.into_iter().filter(|(_, counts)| counts.is_different()).collect();
    different.sort_by(|(one_name, one), (other_name, other)| {
        let saved = |counts: &Counts| counts.cost - counts.simulated;
        saved(other).cmp(&saved(one)).then_with(|| one_name.cmp(other_name))
    });
    different.truncate(ROWS_MAX);
    let row = |(name, counts): (Name, Counts)| Row {
        name: name.to_string(),
        sums: counts.sums(),
    };
    different.into_iter().map(row).collect()
}

/// What came of it then, in words.
pub fn was_in_words(refused: Option<&Name>, was: &Outcome) -> String {
    refused.map_or_else(|| was.words(), |code| format!("denied: {code}"))
}

fn example_of(ended: &Ended) -> Example {
    let facts = &ended.facts;
    Example {
        id: facts.id.to_string(),
        at: rfc3339_ms(facts.at_ms),
        key: facts.key.to_string(),
        tenant: facts.tenant.to_string(),
        agent: facts.agent.to_string(),
        user: facts.user.to_string(),
        model: facts.requested_model.to_string(),
        outcome: ended.outcome.words(),
        was: was_in_words(ended.refused.as_ref(), &ended.was),
        cost_usd: ended.cost.to_string(),
        simulated_usd: ended.simulated.to_string(),
        saved_usd: ended.cost.saturating_sub(ended.simulated).to_string(),
    }
}
