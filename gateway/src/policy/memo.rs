//! What policies answered, remembered by the facts that they read. A VM has one memo, which goes with it: with another set of
//! policies, or other confs, everything begins anew.
//!
//! A policy is a function of what it reads, so the first thing that it reads is always the same, the second hangs on what the first was,
//! and so on. The memo keeps these steps: from a fact and its value, compared whole, to the fact that is read next, and at the end to
//! what was answered. Finding an answer takes a step a fact and no interpreter.
//!
//! Kept is only what can be found again: the answer of a policy whose file keeps nothing between calls (`lint::keeps_nothing`), in
//! which it read no more than facts. One that fails is asked again. The numbers of an attacker's names are bounded by [`ROOM`].

use std::rc::Rc;

use super::fact::{Fact, KnownFacts};
use super::intent::Intent;
use crate::recent::{Recent, Room};

/// For each thread and generation.
const ROOM: Room = Room {
    entries: 8_192,
    bytes: 1 << 20,
    entry_bytes: 4 << 10,
};
/// Steps that one answer may take.
const STEPS_MAX: usize = 64;

/// What a policy answered.
pub(super) struct Remembered {
    pub intents: Vec<Intent>,
    /// What it was told of the raw key, for the record.
    pub keys: Vec<u32>,
}

impl Remembered {
    fn bytes(&self) -> usize {
        let intents: usize = self.intents.iter().map(Intent::bytes).sum();
        size_of::<Remembered>() + intents + size_of_val(self.keys.as_slice())
    }
}

#[derive(Clone)]
enum Step {
    /// A fact is read, and the steps behind it are under this number with its value.
    Read(Rc<Fact>, u64),
    Answer(Rc<Remembered>),
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    Yes,
    /// It is too large.
    No,
    /// With the same facts so far another one was read before: it is no function of them.
    Contradicted,
}

pub(super) struct Memo {
    steps: Recent<Box<[u8]>, Step>,
    /// The key of a step: a number, and the value of the fact that it belongs to.
    key: Vec<u8>,
    /// None is given twice: what stands behind a step that was forgotten is not found by another.
    next_number: u64,
}

impl Memo {
    pub fn new() -> Memo {
        Memo {
            steps: Recent::new(ROOM),
            key: Vec::new(),
            // Those below are the members'.
            next_number: 1 << 32,
        }
    }

    /// What a member answered when the facts that it read were what they are now.
    pub fn find(&mut self, member: u32, facts: &KnownFacts) -> Option<Rc<Remembered>> {
        self.begin(member.into());
        for _ in 0..STEPS_MAX {
            match self.steps.get(self.key.as_slice())? {
                Step::Read(fact, number) => {
                    self.begin(number);
                    facts.append(&fact, &mut self.key);
                }
                Step::Answer(answer) => return Some(answer),
            }
        }
        None
    }

    /// Keeps what a member answered after it had read these facts.
    pub fn keep(&mut self, member: u32, read: Vec<Fact>, facts: &KnownFacts, answer: Remembered) -> Kept {
        if read.len() >= STEPS_MAX {
            return Kept::No;
        }
        self.begin(member.into());
        for fact in read {
            let number = match self.steps.get(self.key.as_slice()) {
                Some(Step::Read(known, number)) if *known == fact => number,
                Some(_) => return Kept::Contradicted,
                None => {
                    let number = self.next_number;
                    self.next_number += 1;
                    let (bytes, step) = (fact.bytes(), Step::Read(Rc::new(fact.clone()), number));
                    if !self.put(step, bytes) {
                        return Kept::No;
                    }
                    number
                }
            };
            self.begin(number);
            facts.append(&fact, &mut self.key);
        }
        if let Some(Step::Read(..)) = self.steps.get(self.key.as_slice()) {
            return Kept::Contradicted;
        }
        let bytes = answer.bytes();
        match self.put(Step::Answer(Rc::new(answer)), bytes) {
            true => Kept::Yes,
            false => Kept::No,
        }
    }

    fn begin(&mut self, number: u64) {
        self.key.clear();
        self.key.extend_from_slice(&number.to_le_bytes());
    }

    fn put(&mut self, step: Step, bytes: usize) -> bool {
        self.steps.put(self.key.as_slice().into(), step, self.key.len() + bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_member_that_reads_something_else_than_before_is_no_function() {
        let (mut memo, facts) = (Memo::new(), KnownFacts::default());
        let mut keep = |member: u32, read: &[Fact]| {
            let (intents, keys) = (Vec::new(), vec![member]);
            memo.keep(member, read.to_vec(), &facts, Remembered { intents, keys })
        };
        assert_eq!(keep(1, &[Fact::Free, Fact::Stream]), Kept::Yes);
        assert_eq!(keep(1, &[Fact::Free, Fact::Stream]), Kept::Yes, "the same again");
        assert_eq!(keep(1, &[Fact::Free, Fact::Zone]), Kept::Contradicted);
        assert_eq!(
            keep(1, &[Fact::Free]),
            Kept::Contradicted,
            "it answers before it read what it read before"
        );
        assert_eq!(keep(1, &[]), Kept::Contradicted);
        assert_eq!(keep(1, &[Fact::Free, Fact::Stream, Fact::Zone]), Kept::Contradicted);
        assert_eq!(keep(2, &[Fact::Zone]), Kept::Yes, "another member's is its own");
        assert_eq!(keep(3, &vec![Fact::Zone; STEPS_MAX]), Kept::No);
        for (member, found) in [(1, true), (2, true), (3, false)] {
            let answer = memo.find(member, &facts);
            assert_eq!(answer.map(|answer| answer.keys.clone()), found.then(|| vec![member]));
        }
    }
}
