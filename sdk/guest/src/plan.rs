//! Reading plans: what `read` would say of the common answers, as a table that the host reads by itself, in place of a call.
//!
//! A plugin without one works. One with some answers faster where they fit, and must say in [`crate::Provider::read`] what
//! they say: what a plan is not certain of is read there, and the host's tests compare both. A plan is closed: each member of
//! the outline must have its row, or the frame goes to `read`. What costs beside the counts is left out for that very reason.
//!
//! ```
//! use agentledger_guest::Kind;
//! use agentledger_guest::plan::whole;
//!
//! whole(&["chat"])
//!     .usage_at(&["usage"])
//!     .model("model")
//!     .count("@usage.prompt_tokens", Kind::Input)
//!     .inside("@usage.prompt_tokens", "@usage.cached_tokens", Kind::CacheRead)
//!     .count("@usage.completion_tokens", Kind::Output)
//!     .sum("@usage.total_tokens", &["@usage.prompt_tokens", "@usage.completion_tokens"])
//!     .ignored(&["id"])
//!     .plan();
//! ```

use crate::bindings::agentledger::plugin::types::{PlanRow, Role, Tally, Word, WordMeaning};
use crate::{Kind, ReadingPlan, strings};

/// A plan in the making. Its rows stand in the order in which it has them; kinds are told in that order.
#[derive(Clone, Debug)]
pub struct Plan(ReadingPlan);

/// A plan for whole answers of these operations.
pub fn whole(operations: &[&str]) -> Plan {
    Plan::new(operations, false)
}

/// A plan for events of streams of these operations.
pub fn streamed(operations: &[&str]) -> Plan {
    Plan::new(operations, true)
}

impl Plan {
    fn new(operations: &[&str], streamed: bool) -> Plan {
        Plan(ReadingPlan {
            operations: strings(operations),
            streamed,
            usage: vec![],
            rows: vec![],
        })
    }

    /// For events of these names alone, of which the latter end the stream.
    pub fn of_events(self, plain: &[&str], last: &[&str]) -> Plan {
        self.words_to_end("@event", plain, last)
    }

    /// Where the answer may report its usage. `@usage` in paths stands for each of these places.
    pub fn usage_at(mut self, places: &[&str]) -> Plan {
        self.0.usage = strings(places);
        self
    }

    pub fn model(self, path: &str) -> Plan {
        self.model_behind("", path)
    }

    /// The model, this prefix left out.
    pub fn model_behind(self, prefix: &str, path: &str) -> Plan {
        self.row(path, Role::Model(prefix.to_owned()))
    }

    /// The service tier as it stands there.
    pub fn tier(self, path: &str) -> Plan {
        self.tiers(path, &[])
    }

    /// The service tier: what the answer may say, and the price book's name for it.
    pub fn tiers(self, path: &str, pairs: &[(&str, &str)]) -> Plan {
        let owned = |(said, tier): &(&str, &str)| ((*said).to_owned(), (*tier).to_owned());
        self.row(path, Role::ServiceTier(pairs.iter().map(owned).collect()))
    }

    pub fn bill_id(self, path: &str) -> Plan {
        self.row(path, Role::BillId)
    }

    /// The text is one of these, `true` and `false` among them, none of which says anything.
    pub fn words(self, path: &str, plain: &[&str]) -> Plan {
        self.words_that(path, plain, WordMeaning::Nothing, &[])
    }

    /// The same; the latter ones say that the stream ends.
    pub fn words_to_end(self, path: &str, plain: &[&str], last: &[&str]) -> Plan {
        self.words_that(path, plain, WordMeaning::Final, last)
    }

    /// The same; the latter ones say that the provider is still at work.
    pub fn words_to_wait(self, path: &str, plain: &[&str], waiting: &[&str]) -> Plan {
        self.words_that(path, plain, WordMeaning::Pending, waiting)
    }

    fn words_that(self, path: &str, plain: &[&str], meaning: WordMeaning, others: &[&str]) -> Plan {
        let word = |text: &&str, meaning| Word {
            text: (*text).to_owned(),
            meaning,
        };
        let plain = plain.iter().map(|text| word(text, WordMeaning::Nothing));
        let words = plain.chain(others.iter().map(|text| word(text, meaning)));
        self.row(path, Role::Words(words.collect()))
    }

    /// Where this list is empty in an event that bears usage, the event says nothing else, and is the last.
    pub fn usage_alone(self, path: &str) -> Plan {
        self.row(path, Role::UsageAlone)
    }

    /// Units of a kind.
    pub fn count(self, path: &str, kind: Kind) -> Plan {
        self.counted(path, Some(kind), tally())
    }

    /// Units of a kind that lie inside of another count, from which they are taken.
    pub fn inside(self, whole: &str, path: &str, kind: Kind) -> Plan {
        let inside = Some(whole.to_owned());
        self.counted(path, Some(kind), Tally { inside, ..tally() })
    }

    /// Units of a kind, where none of these is there of which they are the sum.
    pub fn unless_told_apart(self, path: &str, kind: Kind, parts: &[&str]) -> Plan {
        let sum_of = strings(parts);
        self.counted(path, Some(kind), Tally { sum_of, ..tally() })
    }

    /// Thoughts, which lie inside of the output.
    pub fn thoughts(self, path: &str) -> Plan {
        let thoughts = true;
        self.counted(path, None, Tally { thoughts, ..tally() })
    }

    /// Thoughts on top of another count, as whose kind they are billed.
    pub fn thoughts_beside(self, other: &str, path: &str) -> Plan {
        let (thoughts, beside) = (true, Some(other.to_owned()));
        self.counted(
            path,
            None,
            Tally {
                thoughts,
                beside,
                ..tally()
            },
        )
    }

    /// A count that must be the sum of those of these that are there.
    pub fn sum(self, path: &str, parts: &[&str]) -> Plan {
        let sum_of = strings(parts);
        self.counted(path, None, Tally { sum_of, ..tally() })
    }

    /// A count that is nothing by itself.
    pub fn looked_at(self, path: &str) -> Plan {
        self.counted(path, None, tally())
    }

    /// Where this list is there, these kinds are told as zero: what it may have of them is left to `read`.
    pub fn zero(self, path: &str, kinds: &[Kind]) -> Plan {
        self.row(path, Role::Zero(kinds.to_vec()))
    }

    /// Nothing that is billed.
    pub fn ignored(self, paths: &[&str]) -> Plan {
        let row = |plan: Plan, path: &&str| plan.row(path, Role::Ignored);
        paths.iter().fold(self, row)
    }

    /// Objects and lists with nothing wanted in them.
    pub fn empty(self, paths: &[&str]) -> Plan {
        let row = |plan: Plan, path: &&str| plan.row(path, Role::Empty);
        paths.iter().fold(self, row)
    }

    fn counted(self, path: &str, kind: Option<Kind>, tally: Tally) -> Plan {
        self.row(path, Role::Counted(Tally { kind, ..tally }))
    }

    fn row(mut self, path: &str, role: Role) -> Plan {
        self.0.rows.push(PlanRow {
            path: path.to_owned(),
            role,
        });
        self
    }

    /// The plan as `info` has it.
    pub fn plan(self) -> ReadingPlan {
        self.0
    }
}

fn tally() -> Tally {
    Tally {
        kind: None,
        inside: None,
        beside: None,
        thoughts: false,
        sum_of: vec![],
    }
}
