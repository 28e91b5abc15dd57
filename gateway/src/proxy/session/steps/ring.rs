//! A session's steps in the order in which they began.

use std::collections::VecDeque;

use agentledger_ledger::Usd;

/// What a call does, in digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doing {
    /// The last tool calls and their results; without any, all from the model's last turn on.
    pub step: u64,
    /// The last tool calls with their arguments; 0 without any.
    pub tool: u64,
    /// The name of the answer or conversation, kept by the server, that it goes on from; 0 without any. `step` has it in it.
    pub continued: u64,
    /// What was said or found out, without that name.
    pub said: u64,
    pub path: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepState {
    Running,
    Answered,
    /// Also: given up by its client, refused by somebody, never sent.
    Failed,
    /// Refused for looping.
    Looped,
}

impl StepState {
    /// Only what was answered, or refused for looping, is a step to be repeated.
    pub fn counts(self) -> bool {
        matches!(self, StepState::Answered | StepState::Looped)
    }
}

/// In what steps are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    Step,
    Tool,
    Path,
}

/// From a step to its like: how far back the one before is, while they are few; else which kin they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link(u32);

impl Link {
    const KIN: u32 = 1 << 31;

    /// `distance`: to the step before that is like it.
    pub fn back(distance: u64) -> Link {
        let distance = u32::try_from(distance).ok().filter(|far| *far < Link::KIN);
        Link(distance.unwrap_or(0))
    }

    pub fn kin(place: usize) -> Link {
        Link(u32::try_from(place).unwrap_or(0) | Link::KIN)
    }

    pub fn distance(self) -> Option<u64> {
        (self.0 != 0 && self.0 < Link::KIN).then(|| u64::from(self.0))
    }

    pub fn as_kin(self) -> Option<usize> {
        let place = self.0.checked_sub(Link::KIN)?;
        usize::try_from(place).ok()
    }
}

#[derive(Clone, Copy, Debug)]
pub struct TakenStep {
    pub step: u64,
    pub tool: u64,
    pub continued: u64,
    pub path: u64,
    pub at_ms: i64,
    pub cost: Usd,
    /// The name of its answer, and the tool calls in it; 0 where they are not known.
    pub answer: u64,
    pub answer_calls: u64,
    /// How many steps on the first one is that began after this one had ended.
    pub until: u32,
    /// Steps of its path up to it; right in the path's last one only.
    pub path_calls: u32,
    pub like: Link,
    pub tool_like: Link,
    pub state: StepState,
    /// Of the steps with its digest that count it is the last.
    pub is_newest: bool,
}

impl TakenStep {
    pub fn counts(&self) -> bool {
        self.state.counts()
    }

    /// Steps without a tool call are not alike for that.
    pub fn digest(&self, likeness: Likeness) -> Option<u64> {
        match likeness {
            Likeness::Step => Some(self.step),
            Likeness::Tool => Some(self.tool).filter(|tool| *tool != 0),
            Likeness::Path => Some(self.path),
        }
    }

    pub fn link(&self, likeness: Likeness) -> Link {
        match likeness {
            Likeness::Step => self.like,
            Likeness::Tool => self.tool_like,
            Likeness::Path => Link::default(),
        }
    }

    pub fn set_link(&mut self, likeness: Likeness, link: Link) {
        match likeness {
            Likeness::Step => self.like = link,
            Likeness::Tool => self.tool_like = link,
            Likeness::Path => {}
        }
    }

    /// The names under which a later step may go on from it.
    pub fn names(&self) -> impl Iterator<Item = u64> + use<> {
        [self.answer, self.continued].into_iter().filter(|name| *name != 0)
    }
}

/// The steps that are remembered. Each has a number, one more than that of the step before.
#[derive(Debug, Default)]
pub struct Ring {
    first: u64,
    steps: VecDeque<TakenStep>,
}

impl Ring {
    pub fn starting_at(first: u64) -> Ring {
        Ring {
            first,
            steps: VecDeque::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.steps.len()
    }

    pub fn first(&self) -> u64 {
        self.first
    }

    /// The number of the next one.
    pub fn end(&self) -> u64 {
        self.first + self.steps.len() as u64
    }

    pub fn get(&self, number: u64) -> Option<&TakenStep> {
        let place = number.checked_sub(self.first)?;
        self.steps.get(usize::try_from(place).ok()?)
    }

    pub fn get_mut(&mut self, number: u64) -> Option<&mut TakenStep> {
        let place = number.checked_sub(self.first)?;
        self.steps.get_mut(usize::try_from(place).ok()?)
    }

    pub fn push(&mut self, step: TakenStep) {
        // Many sessions are short, and room for four would be the least otherwise.
        if self.steps.capacity() == 0 {
            self.steps.reserve_exact(2);
        }
        self.steps.push_back(step);
    }

    pub fn pop(&mut self) {
        if self.steps.pop_front().is_some() {
            self.first += 1;
        }
    }

    /// The last one of which this is so.
    pub fn last(&self, is: impl Fn(&TakenStep) -> bool) -> Option<u64> {
        let place = self.steps.iter().rposition(is)?;
        Some(self.first + place as u64)
    }

    /// A number's short form, never 0: as many steps as it distinguishes are never remembered.
    #[allow(clippy::cast_possible_truncation)]
    pub fn label(number: u64) -> u32 {
        number as u32 | LABEL
    }

    /// The number of a step that is remembered, by its label.
    pub fn number(&self, label: u32) -> u64 {
        let ahead = label.wrapping_sub(Ring::label(self.first)) & !LABEL;
        self.first + u64::from(ahead)
    }

    pub fn digest(&self, label: u32, likeness: Likeness) -> Option<u64> {
        self.get(self.number(label))?.digest(likeness)
    }
}

const LABEL: u32 = 1 << 31;
