//! Many steps that are alike: how often, in what they ran one after the other, and at what cost.

use std::collections::VecDeque;

use agentledger_ledger::Usd;

use crate::proxy::session::steps::ring::{Ring, TakenStep};
use crate::proxy::session::steps::summaries::{Summaries, Summary};

/// What counting steps that are alike cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Likes {
    /// The numbers of the first and the last that count.
    pub span: Option<(u64, u64)>,
    pub cost: Usd,
    /// What the first cost that cost anything, and the last.
    pub first: Usd,
    pub last: Usd,
}

impl Likes {
    pub fn of(number: u64, step: &TakenStep) -> Likes {
        if !step.counts() {
            return Likes::default();
        }
        Likes {
            span: Some((number, number)),
            cost: step.cost,
            first: step.cost,
            last: step.cost.max(Usd::ZERO),
        }
    }
}

impl Summary for Likes {
    fn then(self, those: Likes) -> Likes {
        let span = match (self.span, those.span) {
            (Some((first, _)), Some((_, last))) => Some((first, last)),
            (one, other) => one.or(other),
        };
        let or = |cost: Usd, other: Usd| if cost == Usd::ZERO { other } else { cost };
        Likes {
            span,
            cost: self.cost.saturating_add(those.cost),
            first: or(self.first, those.first),
            last: or(those.last, self.last),
        }
    }
}

/// A step among its like.
#[derive(Clone, Copy, Debug)]
struct Member {
    label: u32,
    /// How far on the first of its like is that does not run at the same time; 1 where it does not count.
    next: u32,
    /// How far on a walk from one `next` to the next leads out of the block, as far as that was known when last looked, and the
    /// rounds on the way.
    out: u32,
    rounds: u16,
    is_round: bool,
}

/// All steps of a session with one digest, in order.
///
/// Rounds are a walk: a step that counts is one, and the walk goes on with the first of its like that began after it had ended. As each
/// step may end at any time, and be taken back, and the walk begin anywhere, it is kept in blocks: a step knows where the
/// walk leaves its block. Blocks of n steps are of 2√n to 4√n, for a hop costs more than a look at a neighbour: a walk takes √n/2
/// hops (and in the last block, which may not have been looked at, some more), a change a look at one block. Of 65,536
/// steps, the most there are, these are 128 hops and 512 looks, of 1,024 they are 16 and 64.
#[derive(Debug, Default)]
pub struct Kin {
    /// The place of the first member. Places go on where members leave.
    first: u64,
    members: VecDeque<Member>,
    /// A block is of `1 << bits` members.
    bits: u32,
    likes: Summaries<Likes>,
}

const BITS_MIN: u32 = 5;

impl Kin {
    /// Of steps with these numbers, in order.
    pub fn of(numbers: impl Iterator<Item = u64> + Clone, ring: &Ring) -> Kin {
        let mut kin = Kin {
            bits: BITS_MIN,
            ..Kin::default()
        };
        numbers.clone().for_each(|number| kin.push(number, ring));
        numbers.for_each(|number| kin.changed(number, ring));
        kin
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// A step begins.
    pub fn push(&mut self, number: u64, ring: &Ring) {
        self.members.push_back(Member {
            label: Ring::label(number),
            next: 1,
            out: 1,
            rounds: 0,
            is_round: false,
        });
        let end = self.end();
        if self.members.len() * 4 > 1 << (2 * self.bits) {
            self.bits += 1;
            self.shorten(self.first, end);
        } else if (end >> self.bits) << self.bits == end {
            self.shorten(end - (1 << self.bits), end);
        }
        let (first, members) = (self.first, &self.members);
        self.likes.pushed(end, |place| likes_at(first, members, ring, place));
    }

    /// A step has ended, or does not count any more.
    pub fn changed(&mut self, number: u64, ring: &Ring) {
        let (Some(step), place) = (ring.get(number), self.place(number, ring)) else {
            return;
        };
        let ended = number.saturating_add(u64::from(step.until));
        let next = if step.counts() {
            u32::try_from(self.place(ended, ring).saturating_sub(place)).unwrap_or(1)
        } else {
            1
        };
        match self.get_mut(place) {
            Some(member) if (member.next, member.is_round) != (next, step.counts()) => {
                (member.next, member.is_round) = (next, step.counts());
            }
            _ => return,
        }
        self.shorten((place >> self.bits) << self.bits, place + 1);
        let (first, members) = (self.first, &self.members);
        self.likes.changed(place, |place| likes_at(first, members, ring, place));
    }

    /// The first step has left.
    pub fn pop(&mut self) {
        if self.members.pop_front().is_some() {
            self.first += 1;
            self.likes.forget_before(self.first);
        }
    }

    /// The last one that counts.
    pub fn newest(&self, ring: &Ring) -> Option<u64> {
        let likes = self.sum(self.first, ring, |likes| likes.span.is_some());
        likes.span.map(|(_, last)| last)
    }

    /// The rounds from a step on, and what all of them cost.
    pub fn rounds(&self, from: u64, ring: &Ring) -> (u32, Likes) {
        let from = self.place(from, ring);
        let (mut rounds, mut at) = (0_u32, from);
        while let Some(member) = self.get(at) {
            rounds = rounds.saturating_add(u32::from(member.rounds));
            at += u64::from(member.out);
        }
        (rounds, self.sum(from, ring, |_| false))
    }

    fn sum(&self, from: u64, ring: &Ring, enough: impl Fn(&Likes) -> bool) -> Likes {
        let likes = |place| likes_at(self.first, &self.members, ring, place);
        self.likes.over(from, self.end(), likes, enough)
    }

    fn end(&self) -> u64 {
        self.first + self.members.len() as u64
    }

    /// Of the first step from this number on.
    fn place(&self, number: u64, ring: &Ring) -> u64 {
        let before = self.members.partition_point(|one| ring.number(one.label) < number);
        self.first + before as u64
    }

    fn get(&self, place: u64) -> Option<&Member> {
        member(self.first, &self.members, place)
    }

    fn get_mut(&mut self, place: u64) -> Option<&mut Member> {
        let place = place.checked_sub(self.first)?;
        self.members.get_mut(usize::try_from(place).ok()?)
    }

    /// Looks anew where the walk leads from these places.
    fn shorten(&mut self, from: u64, end: u64) {
        for place in (from.max(self.first)..end).rev() {
            let Some(member) = self.get(place).copied() else { return };
            let next = place + u64::from(member.next);
            let within = self.get(next).filter(|_| next >> self.bits == place >> self.bits);
            let (further, rounds) = within.map_or((0, 0), |then| (then.out, then.rounds));
            if let Some(known) = self.get_mut(place) {
                known.out = member.next.saturating_add(further);
                known.rounds = rounds.saturating_add(u16::from(member.is_round));
            }
        }
    }
}

fn member(first: u64, members: &VecDeque<Member>, place: u64) -> Option<&Member> {
    let place = place.checked_sub(first)?;
    members.get(usize::try_from(place).ok()?)
}

fn likes_at(first: u64, members: &VecDeque<Member>, ring: &Ring, place: u64) -> Likes {
    let number = member(first, members, place).map(|member| ring.number(member.label));
    let step = number.and_then(|number| ring.get(number).map(|step| (number, step)));
    step.map_or_else(Likes::default, |(number, step)| Likes::of(number, step))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;
    use crate::proxy::session::steps::ring::{Link, StepState};

    fn running() -> TakenStep {
        TakenStep {
            step: 1,
            tool: 1,
            continued: 0,
            path: 1,
            at_ms: 0,
            cost: Usd::ZERO,
            answer: 0,
            answer_calls: 0,
            until: 0,
            path_calls: 0,
            like: Link::default(),
            tool_like: Link::default(),
            state: StepState::Running,
            is_newest: false,
        }
    }

    /// So many steps that are alike, of which so many run at a time; all still run where that many do.
    fn loop_of(steps: u64, side_by_side: u64) -> Kin {
        let (mut ring, mut kin) = (Ring::default(), Kin::of(std::iter::empty(), &Ring::default()));
        for number in 0..steps {
            ring.push(running());
            kin.push(number, &ring);
            if let Some(ended) = (number + 1).checked_sub(side_by_side) {
                let one = ring.get_mut(ended).unwrap();
                (one.state, one.until) = (StepState::Answered, u32::try_from(side_by_side).unwrap());
                kin.changed(ended, &ring);
            }
        }
        kin
    }

    #[test]
    fn a_walk_takes_few_hops_whatever_runs() {
        for steps in [100, 1_024, 5_000, 65_536] {
            for side_by_side in [1, 2, 7, 500, u64::MAX] {
                let kin = loop_of(steps, side_by_side);
                let ahead = |place: &u64| kin.get(*place).map(|member| place + u64::from(member.out));
                let hops = std::iter::successors(Some(0), ahead).count() as u64;
                let block = 1 << kin.bits;
                assert!(block * block <= 16 * steps.max(256), "blocks of {block} among {steps}");
                assert!(
                    hops <= steps / block + block + 2,
                    "{hops} hops over {steps}, {side_by_side} side by side"
                );
            }
        }
    }
}
