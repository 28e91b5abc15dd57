//! What one session did, step by step, and what that says of its next step. No clock, no lock, no keys.
//!
//! | room | does |
//! |---|---|
//! | `ring` | the steps, in the order in which they began |
//! | `table` | the last step with a digest, found by the digest |
//! | `kin` | many steps that are alike: rounds and cost |
//! | `summaries` | sums over a sliding sequence |
//!
//! Neither a begin nor an end looks at all steps, whatever the steps are and in whatever order they end. What is few (16 steps of
//! a session, 16 that are alike) is looked through and has no index, so that a short session takes no more memory than its
//! steps. Above that sums over n steps go by [`summaries`] (14 short steps for each factor of eight in n), and the rounds of n steps
//! that are alike by [`kin`] (some √n, 128 at most).

pub mod kin;
pub mod ring;
pub mod summaries;
pub mod table;

use std::collections::BTreeSet;

use agentledger_ledger::Usd;

use crate::policy::History;
use crate::proxy::session::steps::kin::{Kin, Likes};
use crate::proxy::session::steps::ring::{Doing, Likeness, Link, Ring, StepState, TakenStep};
use crate::proxy::session::steps::summaries::{Summaries, Summary};
use crate::proxy::session::steps::table::Table;

/// So many are looked through one by one: steps of a session, and steps that are alike.
const LOOKED_THROUGH: u64 = 16;

/// How a step ended.
#[derive(Clone, Copy, Debug)]
pub struct StepEnd {
    pub state: StepState,
    pub cost: Usd,
    /// The name of its answer, and the tool calls in it; 0 where they are not known.
    pub answer: u64,
    pub answer_calls: u64,
}

/// The steps of a session that are remembered.
#[derive(Debug, Default)]
pub struct Steps {
    ring: Ring,
    /// Of more than a few steps.
    index: Option<Box<Index>>,
}

/// How counting steps in a row stand to each other.
#[derive(Clone, Copy, Debug, Default)]
struct Stretch {
    counting: u32,
    /// Those after which no other step with their digest counts.
    newest: u32,
    /// The tool calls of the last one, and the number of the first one since when all have had the same.
    tool: u64,
    run_from: u64,
    /// All have the same.
    is_run: bool,
}

impl Stretch {
    fn of(number: u64, step: &TakenStep) -> Stretch {
        if !step.counts() {
            return Stretch::default();
        }
        Stretch {
            counting: 1,
            newest: u32::from(step.is_newest),
            tool: step.tool,
            run_from: number,
            is_run: true,
        }
    }
}

impl Summary for Stretch {
    fn then(self, those: Stretch) -> Stretch {
        if self.counting == 0 || those.counting == 0 {
            return if those.counting == 0 { self } else { those };
        }
        let goes_on = those.is_run && self.tool == those.tool;
        Stretch {
            counting: self.counting + those.counting,
            newest: self.newest + those.newest,
            tool: those.tool,
            run_from: if goes_on { self.run_from } else { those.run_from },
            is_run: goes_on && self.is_run,
        }
    }
}

#[derive(Debug, Default)]
struct Index {
    by_step: Table,
    by_tool: Table,
    by_path: Table,
    /// Of more than a few steps that are alike, at the place that their links name.
    kins: Vec<Kin>,
    /// Places in it that are free.
    free: Vec<usize>,
    stretches: Summaries<Stretch>,
    /// The names under which counting steps are gone on from, and the steps' numbers.
    names: BTreeSet<(u64, u64)>,
}

const LIKENESSES: [Likeness; 3] = [Likeness::Step, Likeness::Tool, Likeness::Path];

impl Index {
    fn of(ring: &Ring) -> Index {
        let mut index = Index::default();
        for number in ring.first()..ring.end() {
            index.begun(number, ring);
            if let Some(step) = ring.get(number).filter(|step| step.counts()) {
                index.names.extend(step.names().map(|name| (name, number)));
            }
        }
        index
    }

    fn table(&mut self, likeness: Likeness) -> &mut Table {
        match likeness {
            Likeness::Step => &mut self.by_step,
            Likeness::Tool => &mut self.by_tool,
            Likeness::Path => &mut self.by_path,
        }
    }

    fn last(&self, likeness: Likeness, digest: u64, ring: &Ring) -> Option<u64> {
        let table = match likeness {
            Likeness::Step => &self.by_step,
            Likeness::Tool => &self.by_tool,
            Likeness::Path => &self.by_path,
        };
        let label = table.find(digest, |label| ring.digest(label, likeness))?;
        Some(ring.number(label))
    }

    /// The step with this number, the last one of the ring or one that the index has not had yet, is taken in.
    fn begun(&mut self, number: u64, ring: &Ring) {
        let Some(step) = ring.get(number) else { return };
        for likeness in LIKENESSES {
            if let Some(digest) = step.digest(likeness) {
                let table = self.table(likeness);
                table.set(digest, Ring::label(number), |label| ring.digest(label, likeness));
            }
            if let Some(kin) = self.kin_mut(step.link(likeness)) {
                kin.push(number, ring);
            }
        }
        self.stretches.pushed(number + 1, |number| stretch_at(ring, number));
    }

    /// A step has ended, or counts no more.
    fn changed(&mut self, number: u64, ring: &Ring) {
        let Some(step) = ring.get(number) else { return };
        for likeness in LIKENESSES {
            if let Some(kin) = self.kin_mut(step.link(likeness)) {
                kin.changed(number, ring);
            }
        }
        for name in step.names() {
            if step.counts() {
                self.names.insert((name, number));
            } else {
                self.names.remove(&(name, number));
            }
        }
        self.stretches.changed(number, |number| stretch_at(ring, number));
    }

    /// The ring's first step is about to leave.
    fn leaving(&mut self, ring: &Ring) {
        let number = ring.first();
        let Some(step) = ring.get(number) else { return };
        for likeness in LIKENESSES {
            let digest = step.digest(likeness);
            if let Some(digest) = digest.filter(|digest| self.last(likeness, *digest, ring) == Some(number)) {
                let table = self.table(likeness);
                table.remove(digest, |label| ring.digest(label, likeness));
            }
            self.leaves_kin(step.link(likeness));
        }
        for name in step.names() {
            self.names.remove(&(name, number));
        }
        self.stretches.forget_before(number + 1);
    }

    fn leaves_kin(&mut self, link: Link) {
        let Some(kin) = self.kin_mut(link) else { return };
        kin.pop();
        if kin.is_empty() {
            *kin = Kin::default();
            self.free.extend(link.as_kin());
        }
    }

    fn kin(&self, link: Link) -> Option<&Kin> {
        self.kins.get(link.as_kin()?)
    }

    fn kin_mut(&mut self, link: Link) -> Option<&mut Kin> {
        self.kins.get_mut(link.as_kin()?)
    }

    fn add_kin(&mut self, kin: Kin) -> Link {
        let free = self.free.pop();
        match free.and_then(|place| self.kins.get_mut(place)) {
            Some(empty) => *empty = kin,
            None => self.kins.push(kin),
        }
        Link::kin(free.unwrap_or(self.kins.len() - 1))
    }
}

fn stretch_at(ring: &Ring, number: u64) -> Stretch {
    let step = ring.get(number);
    step.map_or_else(Stretch::default, |step| Stretch::of(number, step))
}

impl Steps {
    /// Its first step gets this number.
    pub fn starting_at(number: u64) -> Steps {
        Steps {
            ring: Ring::starting_at(number),
            index: None,
        }
    }

    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// When the last one began.
    pub fn last_ms(&self) -> Option<i64> {
        let last = self.ring.get(self.ring.end().checked_sub(1)?)?;
        Some(last.at_ms)
    }

    /// Forgets the steps that began before, and so many that one more is within `steps_max`.
    pub fn forget(&mut self, oldest_ms: i64, steps_max: usize) {
        while let Some(first) = self.ring.get(self.ring.first()) {
            if first.at_ms >= oldest_ms && self.len() < steps_max {
                return;
            }
            let (number, path) = (self.ring.first(), first.path);
            if let Some(last) = self.last(Likeness::Path, path).filter(|last| *last != number)
                && let Some(last) = self.ring.get_mut(last)
            {
                last.path_calls -= 1;
            }
            if let Some(index) = &mut self.index {
                index.leaving(&self.ring);
            }
            self.ring.pop();
        }
    }

    /// The tool calls in the answer that a call goes on from without repeating it: by that answer's name, or the last of the
    /// conversation's.
    pub fn calls_before(&self, doing: &Doing) -> Option<u64> {
        let name = doing.continued;
        if doing.tool != 0 || name == 0 {
            return None;
        }
        let before = match &self.index {
            Some(index) => index
                .names
                .range((name, 0)..=(name, u64::MAX))
                .next_back()
                .map(|at| at.1),
            None => self
                .ring
                .last(|one| one.counts() && (one.answer == name || one.continued == name)),
        };
        let calls = self.ring.get(before?)?.answer_calls;
        Some(calls).filter(|calls| *calls != 0)
    }

    /// The client did not get the answer of its last call like this one, whatever we think of it.
    pub fn supersede(&mut self, step: u64) {
        let last = self.last(Likeness::Step, step);
        let Some(number) = last.filter(|last| self.ring.get(*last).is_some_and(|one| one.state == StepState::Answered))
        else {
            return;
        };
        if let Some(one) = self.ring.get_mut(number) {
            (one.state, one.is_newest) = (StepState::Failed, false);
        }
        self.changed(number);
        if let Some(newest) = self.newest(step) {
            self.mark_newest(newest, true);
        }
    }

    /// A step that does this begins. Its number.
    pub fn begin(&mut self, doing: &Doing, at_ms: i64) -> u64 {
        if self.index.is_none() && self.ring.len() as u64 >= LOOKED_THROUGH {
            self.index = Some(Box::new(Index::of(&self.ring)));
        }
        let number = self.ring.end();
        let mut step = TakenStep {
            step: doing.step,
            tool: doing.tool,
            continued: doing.continued,
            path: doing.path,
            at_ms,
            cost: Usd::ZERO,
            answer: 0,
            answer_calls: 0,
            until: 0,
            path_calls: self.path_calls(doing.path) + 1,
            like: Link::default(),
            tool_like: Link::default(),
            state: StepState::Running,
            is_newest: false,
        };
        for likeness in [Likeness::Step, Likeness::Tool] {
            let last = step.digest(likeness).and_then(|digest| self.last(likeness, digest));
            if let Some(last) = last {
                step.set_link(likeness, self.link_to(last, likeness));
            }
        }
        self.ring.push(step);
        if let Some(index) = &mut self.index {
            index.begun(number, &self.ring);
        }
        number
    }

    /// A step has ended. Nothing where it is forgotten.
    pub fn end(&mut self, number: u64, end: &StepEnd) {
        let Some(step) = self.ring.get(number).map(|one| one.step) else {
            return;
        };
        let counts = end.state.counts();
        let newest = if counts { self.newest(step) } else { None };
        let until = u32::try_from(self.ring.end() - number).unwrap_or(u32::MAX);
        let Some(one) = self.ring.get_mut(number) else { return };
        (one.state, one.cost, one.until) = (end.state, end.cost, until);
        (one.answer, one.answer_calls) = (end.answer, end.answer_calls);
        if !counts {
            return;
        }
        one.is_newest = newest.is_none_or(|newest| newest < number);
        if let Some(newest) = newest.filter(|newest| *newest < number) {
            self.mark_newest(newest, false);
        }
        self.changed(number);
    }

    /// How a call that does this stands to those before it; the call itself is counted in.
    pub fn history(&self, doing: &Doing, window_ms: i64) -> History {
        let (end, first) = (self.ring.end(), self.ring.first());
        let same = self.rounds(Likeness::Step, doing.step, first);
        let run = match self.run_from(doing.tool) {
            Some(from) => self.rounds(Likeness::Tool, doing.tool, from),
            None => (0, Likes::default()),
        };
        let stretch = match same.1.span {
            Some((from, _)) => self.stretch(from, end, |_| false),
            None => Stretch::default(),
        };
        let costs = if same.0 >= run.0 { same.1 } else { run.1 };
        History {
            window_ms,
            repeats: same.0.saturating_add(1),
            tool_repeats: if doing.tool == 0 { 0 } else { run.0.saturating_add(1) },
            stretch: stretch.counting + 1,
            // Where there is a stretch, it begins with one that did the same.
            distinct: stretch.newest.max(1),
            path_calls: self.path_calls(doing.path) + 1,
            repeats_cost: costs.cost,
            first_cost: costs.first,
            last_cost: costs.last,
            ..History::default()
        }
    }

    /// The number of the last step with this digest.
    fn last(&self, likeness: Likeness, digest: u64) -> Option<u64> {
        match &self.index {
            Some(index) => index.last(likeness, digest, &self.ring),
            None => self.ring.last(|one| one.digest(likeness) == Some(digest)),
        }
    }

    fn path_calls(&self, path: u64) -> u32 {
        let last = self.last(Likeness::Path, path);
        last.and_then(|last| self.ring.get(last))
            .map_or(0, |last| last.path_calls)
    }

    /// The link of a step to the one before that is like it. One too many to be looked through, and they become kin.
    fn link_to(&mut self, last: u64, likeness: Likeness) -> Link {
        let link = self.link(last, likeness);
        if link.as_kin().is_some() {
            return link;
        }
        let (few, count) = self.few(last, likeness);
        let numbers = few.into_iter().take(count).rev();
        let Some(index) = self.index.as_mut().filter(|_| count as u64 == LOOKED_THROUGH) else {
            return Link::back(self.ring.end() - last);
        };
        let link = index.add_kin(Kin::of(numbers.clone(), &self.ring));
        for number in numbers {
            if let Some(one) = self.ring.get_mut(number) {
                one.set_link(likeness, link);
            }
        }
        link
    }

    fn link(&self, number: u64, likeness: Likeness) -> Link {
        let one = self.ring.get(number);
        one.map_or_else(Link::default, |one| one.link(likeness))
    }

    /// The few steps that are alike, the last one first, and how many they are.
    fn few(&self, last: u64, likeness: Likeness) -> ([u64; LOOKED_THROUGH as usize], usize) {
        let before = |number: &u64| {
            let distance = self.link(*number, likeness).distance()?;
            let before = number.checked_sub(distance)?;
            self.ring.get(before).map(|_| before)
        };
        let (mut few, mut count) = ([0; LOOKED_THROUGH as usize], 0);
        for (place, number) in few.iter_mut().zip(std::iter::successors(Some(last), before)) {
            *place = number;
            count += 1;
        }
        (few, count)
    }

    fn kin(&self, number: u64, likeness: Likeness) -> Option<&Kin> {
        self.index.as_ref()?.kin(self.link(number, likeness))
    }

    /// Calls that are alike, from one on: those that ran at the same time counted once, and what all of them cost.
    fn rounds(&self, likeness: Likeness, digest: u64, from: u64) -> (u32, Likes) {
        let Some(last) = self.last(likeness, digest) else {
            return (0, Likes::default());
        };
        if let Some(kin) = self.kin(last, likeness) {
            return kin.rounds(from, &self.ring);
        }
        let (few, count) = self.few(last, likeness);
        let (mut rounds, mut ended, mut likes) = (0, 0, Likes::default());
        for number in few.into_iter().take(count).rev().filter(|number| *number >= from) {
            let Some(step) = self.ring.get(number).filter(|step| step.counts()) else {
                continue;
            };
            if number >= ended {
                rounds += 1;
                ended = number + u64::from(step.until);
            }
            likes = likes.then(Likes::of(number, step));
        }
        (rounds, likes)
    }

    /// The last step with this digest that counts.
    fn newest(&self, step: u64) -> Option<u64> {
        let last = self.last(Likeness::Step, step)?;
        if let Some(kin) = self.kin(last, Likeness::Step) {
            return kin.newest(&self.ring);
        }
        let (few, count) = self.few(last, Likeness::Step);
        let counts = |number: &u64| self.ring.get(*number).is_some_and(TakenStep::counts);
        few.into_iter().take(count).find(counts)
    }

    /// The first one of the steps with these tool calls after which no counting step had others.
    fn run_from(&self, tool: u64) -> Option<u64> {
        if tool == 0 {
            return None;
        }
        let has_others = |run: &Stretch| run.counting > 0 && (!run.is_run || run.tool != tool);
        let run = self.stretch(self.ring.first(), self.ring.end(), has_others);
        (run.counting > 0 && run.tool == tool).then_some(run.run_from)
    }

    fn stretch(&self, from: u64, end: u64, enough: impl Fn(&Stretch) -> bool) -> Stretch {
        let stretch = |number| stretch_at(&self.ring, number);
        match &self.index {
            Some(index) => index.stretches.over(from, end, stretch, enough),
            None => Summaries::default().over(from, end, stretch, enough),
        }
    }

    fn mark_newest(&mut self, number: u64, is_newest: bool) {
        if let Some(one) = self.ring.get_mut(number) {
            one.is_newest = is_newest;
        }
        if let Some(index) = &mut self.index {
            index.stretches.changed(number, |number| stretch_at(&self.ring, number));
        }
    }

    fn changed(&mut self, number: u64) {
        if let Some(index) = &mut self.index {
            index.changed(number, &self.ring);
        }
    }
}

#[cfg(test)]
#[path = "../steps_tests.rs"]
mod tests;
