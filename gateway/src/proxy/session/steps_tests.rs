#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

//! The history of any sequence of calls, beside that of a plain reading of what it means: all steps looked through each time.

use std::collections::{HashSet, VecDeque};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy)]
struct PlainStep {
    doing: Doing,
    at_ms: i64,
    /// Where it began and ended among the begins and ends of its session.
    began: u32,
    ended: u32,
    cost: Usd,
    state: StepState,
    answer: u64,
    answer_calls: u64,
}

#[derive(Default)]
struct PlainSteps {
    taken: VecDeque<PlainStep>,
    turns: u32,
}

impl PlainSteps {
    fn turn(&mut self) -> u32 {
        self.turns += 1;
        self.turns
    }

    fn forget(&mut self, oldest_ms: i64, steps_max: usize) {
        while self.taken.len() >= steps_max || self.taken.front().is_some_and(|one| one.at_ms < oldest_ms) {
            self.taken.pop_front();
        }
    }

    fn calls_before(&self, doing: &Doing) -> Option<u64> {
        if doing.tool != 0 || doing.continued == 0 {
            return None;
        }
        let is_before = |one: &&PlainStep| one.answer == doing.continued || one.doing.continued == doing.continued;
        let before = self.taken.iter().rev().filter(|one| one.state.counts()).find(is_before);
        before.map(|one| one.answer_calls).filter(|calls| *calls != 0)
    }

    fn supersede(&mut self, step: u64) {
        let like = self.taken.iter_mut().rev().find(|one| one.doing.step == step);
        if let Some(one) = like.filter(|one| one.state == StepState::Answered) {
            one.state = StepState::Failed;
        }
    }

    fn begin(&mut self, doing: &Doing, at_ms: i64) -> u32 {
        let began = self.turn();
        self.taken.push_back(PlainStep {
            doing: *doing,
            at_ms,
            began,
            ended: u32::MAX,
            cost: Usd::ZERO,
            state: StepState::Running,
            answer: 0,
            answer_calls: 0,
        });
        began
    }

    fn end(&mut self, began: u32, end: &StepEnd) {
        let ended = self.turn();
        if let Some(one) = self.taken.iter_mut().rev().find(|one| one.began == began) {
            (one.ended, one.state, one.cost) = (ended, end.state, end.cost);
            (one.answer, one.answer_calls) = (end.answer, end.answer_calls);
        }
    }

    fn history(&self, doing: &Doing, window_ms: i64) -> History {
        let counting = || self.taken.iter().filter(|one| one.state.counts());
        let is_same = |one: &&PlainStep| one.doing.step == doing.step;
        let same = PlainRound::over(counting().filter(is_same));
        let in_a_row = counting()
            .rev()
            .take_while(|one| doing.tool != 0 && one.doing.tool == doing.tool)
            .count();
        let run = PlainRound::over(counting().skip(counting().count() - in_a_row));
        let stretch = || counting().skip_while(|one| !is_same(one));
        let mut steps: HashSet<u64> = stretch().map(|one| one.doing.step).collect();
        steps.insert(doing.step);
        let path_calls = self.taken.iter().filter(|one| one.doing.path == doing.path).count();
        let told = if same.rounds >= run.rounds { &same } else { &run };
        let count = |count: usize| u32::try_from(count).unwrap();
        History {
            window_ms,
            repeats: same.rounds + 1,
            tool_repeats: if doing.tool == 0 { 0 } else { run.rounds + 1 },
            stretch: count(stretch().count() + 1),
            distinct: count(steps.len()),
            path_calls: count(path_calls + 1),
            repeats_cost: told.cost,
            first_cost: told.first,
            last_cost: told.last,
            ..History::default()
        }
    }
}

#[derive(Default)]
struct PlainRound {
    rounds: u32,
    cost: Usd,
    first: Usd,
    last: Usd,
}

impl PlainRound {
    fn over<'m>(taken: impl Iterator<Item = &'m PlainStep>) -> PlainRound {
        let mut found = PlainRound::default();
        let mut ended = 0;
        for one in taken {
            if one.began > ended {
                found.rounds += 1;
                ended = one.ended;
            }
            if found.first == Usd::ZERO {
                found.first = one.cost;
            }
            if one.cost > Usd::ZERO {
                found.last = one.cost;
            }
            found.cost = found.cost.saturating_add(one.cost);
        }
        found
    }
}

/// Which of the running calls ends.
#[derive(Clone, Copy, Debug)]
enum Which {
    Oldest,
    Newest,
    Any(usize),
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Begin { doing: Doing, is_retry: bool },
    End { which: Which, end: StepEnd },
    Pass { ms: i64 },
}

const WINDOW_MS: i64 = 1_000;

/// Both of them, and the calls that run.
struct Both {
    steps: Steps,
    plain: PlainSteps,
    running: Vec<(u64, u32)>,
    now_ms: i64,
    steps_max: usize,
}

impl Both {
    fn new(first: u64, steps_max: usize) -> Both {
        Both {
            steps: Steps::starting_at(first),
            plain: PlainSteps::default(),
            running: Vec::new(),
            now_ms: 0,
            steps_max,
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Begin { doing, is_retry } => self.begin(doing, is_retry),
            Event::End { which, end } => self.end(which, end),
            Event::Pass { ms } => self.now_ms += ms,
        }
    }

    fn begin(&mut self, mut doing: Doing, is_retry: bool) {
        let oldest_ms = self.now_ms - WINDOW_MS;
        self.steps.forget(oldest_ms, self.steps_max);
        self.plain.forget(oldest_ms, self.steps_max);
        assert_eq!(self.steps.len(), self.plain.taken.len());
        let calls = self.plain.calls_before(&doing);
        assert_eq!(self.steps.calls_before(&doing), calls);
        if let Some(calls) = calls {
            (doing.tool, doing.step) = (calls, calls * 10 + doing.said);
        }
        if is_retry {
            self.steps.supersede(doing.step);
            self.plain.supersede(doing.step);
        }
        let history = self.plain.history(&doing, WINDOW_MS);
        assert_eq!(self.steps.history(&doing, WINDOW_MS), history);
        let number = self.steps.begin(&doing, self.now_ms);
        self.running.push((number, self.plain.begin(&doing, self.now_ms)));
    }

    fn end(&mut self, which: Which, end: StepEnd) {
        let Some(last) = self.running.len().checked_sub(1) else {
            return;
        };
        let (number, began) = self.running.remove(match which {
            Which::Oldest => 0,
            Which::Newest => last,
            Which::Any(at) => at % (last + 1),
        });
        self.steps.end(number, &end);
        self.plain.end(began, &end);
    }
}

/// Few digests, so that everything is like something: tools 0 to 2, and a few results of each.
fn any_doing(digests: u64) -> impl Strategy<Value = Doing> {
    (0..3_u64, 0..digests, 0..3_u64, 0..4_u64).prop_map(|(tool, said, path, continued)| {
        let continued = if continued == 1 { said + 1 } else { 0 };
        Doing {
            step: tool * 10 + said,
            tool,
            continued,
            said,
            path,
        }
    })
}

fn any_end() -> impl Strategy<Value = StepEnd> {
    let state = prop_oneof![
        6 => Just(StepState::Answered),
        2 => Just(StepState::Failed),
        1 => Just(StepState::Looped),
    ];
    (state, 0..3_i64, 0..6_u64, 0..3_u64).prop_map(|(state, cost, answer, answer_calls)| StepEnd {
        state,
        cost: Usd::from_nanos(if state == StepState::Answered { cost * cost } else { 0 }),
        answer: if state == StepState::Answered { answer } else { 0 },
        answer_calls,
    })
}

fn any_event(digests: u64, ends: u32) -> impl Strategy<Value = Event> {
    let which = prop_oneof![
        1 => Just(Which::Oldest),
        2 => Just(Which::Newest),
        2 => any::<usize>().prop_map(Which::Any),
    ];
    prop_oneof![
        10 => (any_doing(digests), prop::bool::weighted(0.1)).prop_map(|(doing, is_retry)| Event::Begin { doing, is_retry }),
        ends => (which, any_end()).prop_map(|(which, end)| Event::End { which, end }),
        1 => prop_oneof![9 => 0..5_i64, 1 => 0..600_i64].prop_map(|ms| Event::Pass { ms }),
    ]
}

/// How many digests there are, how often calls end, and how many steps are remembered.
fn any_session() -> impl Strategy<Value = (Vec<Event>, usize, u64)> {
    let shape = (
        prop_oneof![Just(1_u64), Just(4), Just(9), Just(500)],
        prop_oneof![Just(3_u32), Just(9), Just(20)],
    );
    let steps_max = prop_oneof![1..20_usize, 20..60_usize, 200..900_usize];
    let first = prop_oneof![Just(0_u64), Just((1 << 31) - 100), Just((1 << 32) - 7)];
    shape.prop_flat_map(move |(digests, ends)| {
        let events = prop::collection::vec(any_event(digests, ends), 0..1_500);
        (events, steps_max.clone(), first.clone())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_history_of_any_session_is_that_of_all_its_steps_looked_through((events, steps_max, first) in any_session()) {
        let mut both = Both::new(first, steps_max);
        events.into_iter().for_each(|event| both.happens(event));
    }
}

fn alike() -> Doing {
    Doing {
        step: 1,
        tool: 2,
        continued: 0,
        said: 0,
        path: 3,
    }
}

fn answered(cost: i64) -> StepEnd {
    StepEnd {
        state: StepState::Answered,
        cost: Usd::from_nanos(cost),
        answer: 0,
        answer_calls: 0,
    }
}

/// Sessions as an adversary would have them.
#[test]
fn long_loops_are_counted_in_any_order_of_their_ends() {
    let endings: [fn(usize) -> Which; 3] = [|_| Which::Oldest, |_| Which::Newest, |at| Which::Any(at * 7_919)];
    for which in endings {
        for side_by_side in [1, 2, 3, 50, 300] {
            let mut both = Both::new(0, 300);
            for at in 0..900 {
                both.begin(alike(), false);
                if both.running.len() >= side_by_side {
                    both.end(which(at), answered(i64::try_from(at % 3).unwrap()));
                }
            }
            // All that still runs ends, and a call between now and then.
            for at in 0..both.running.len() {
                both.end(which(at), answered(1));
                if at % 16 == 0 {
                    both.begin(alike(), at % 32 == 0);
                }
            }
        }
    }
}

#[test]
fn a_long_session_takes_memory_for_the_steps_that_are_remembered_only() {
    assert!(size_of::<TakenStep>() <= 88 && size_of::<Steps>() <= 48);
    let mut steps = Steps::default();
    for at in 0..50_000_u64 {
        // Loops of forty calls, each of which goes on from the last one's answer.
        let doing = Doing {
            step: at / 40,
            tool: at / 40 + 1,
            continued: at + 1,
            path: at % 50,
            ..alike()
        };
        steps.forget(0, 200);
        let number = steps.begin(&doing, 0);
        let end = StepEnd {
            answer: at + 2,
            ..answered(1)
        };
        steps.end(number, &end);
    }
    let index = steps.index.unwrap();
    assert_eq!(steps.ring.len(), 200);
    assert!(index.kins.len() <= 14, "{}", index.kins.len());
    assert_eq!(index.names.len(), 400);
}
