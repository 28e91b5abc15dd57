//! What the sessions did lately, so that policies can distinguish an agent that makes progress from one that repeats itself.
//!
//! A call is known by keyed digests of what its agent did last: the tool calls of the model's last turn, and what was
//! said or found since. The texts themselves go nowhere. Of each session a bounded window of such steps is kept.
//!
//! What is no repeat: a call that runs at the same time as its like (it was not sent for want of progress), one whose
//! like failed (it is tried again), and one that an SDK sends again because it lost the answer.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agentledger_ledger::Usd;
use parking_lot::Mutex;

use crate::config::Config;
use crate::plugin::ProgressPart;
use crate::plugin::outline::{Outline, Piece};
use crate::policy::History;

/// The code with which a policy refuses a call because its agent loops. Such a call counts as a repeat itself: who goes
/// on is not let in again by having been kept out.
pub const LOOP_CODE: &str = "loop_detected";
const SHARDS: usize = 32;
/// Steps in memory, all sessions together: some 48 MiB. Past that the sessions silent for longest are forgotten.
const STEPS_MAX: usize = 500_000;
/// Steps of one session that are remembered at least, and at most.
const SESSION_STEPS: std::ops::RangeInclusive<u64> = 1_024..=65_536;
/// How often sessions whose window is empty are taken out.
const SWEEP_MS: i64 = 10_000;

/// How far back is looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub window_ms: i64,
    /// Steps of one session.
    pub steps_max: usize,
}

impl Bounds {
    /// As the loop policy is configured: its window, and steps enough to reach its threshold.
    pub fn of(config: &Config) -> Bounds {
        let conf = config.policies.conf.get("loop");
        let number = |name: &str| conf.and_then(|conf| conf.get(name)).and_then(serde_json::Value::as_u64);
        let minutes = number("window_mins").filter(|minutes| *minutes > 0).unwrap_or(5);
        let steps = number("threshold").unwrap_or(0).saturating_mul(2);
        let steps = steps.clamp(*SESSION_STEPS.start(), *SESSION_STEPS.end());
        Bounds {
            window_ms: i64::try_from(minutes.saturating_mul(60_000)).unwrap_or(i64::MAX),
            steps_max: usize::try_from(steps).unwrap_or(1_024),
        }
    }
}

/// What a call does, in digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doing {
    /// The last tool calls and their results; without any, all from the model's last turn on.
    step: u64,
    /// The last tool calls with their arguments; 0 without any.
    tool: u64,
    /// The name of the answer or conversation, kept by the server, that it goes on from; 0 without any. `step` has it in it.
    continued: u64,
    /// What was said or found out, without that name.
    said: u64,
    path: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StepState {
    Running,
    Answered,
    /// Also: given up by its client, refused by somebody, never sent.
    Failed,
    /// Refused for looping.
    Looped,
}

#[derive(Clone, Copy, Debug)]
struct TakenStep {
    doing: Doing,
    at_ms: i64,
    /// Where it began and ended among the begins and ends of its session.
    began: u32,
    ended: u32,
    cost: Usd,
    state: StepState,
    /// The name of its answer, and the tool calls in it; 0 where they are not known.
    answer: u64,
    answer_calls: u64,
}

impl TakenStep {
    fn counts(&self) -> bool {
        matches!(self.state, StepState::Answered | StepState::Looped)
    }
}

#[derive(Debug, Default)]
struct Track {
    taken: VecDeque<TakenStep>,
    /// Begins and ends so far.
    turns: u32,
}

#[derive(Debug, Default)]
struct ProgressShard {
    tracks: HashMap<u64, Track>,
    swept_ms: i64,
}

/// The steps of all sessions.
#[derive(Debug)]
pub struct SessionProgress {
    key: [u8; 32],
    hasher: RandomState,
    shards: Box<[Mutex<ProgressShard>; SHARDS]>,
    steps: AtomicUsize,
}

impl Default for SessionProgress {
    fn default() -> SessionProgress {
        SessionProgress {
            key: rand::random(),
            hasher: RandomState::new(),
            shards: Box::new(std::array::from_fn(|_| Mutex::default())),
            steps: AtomicUsize::new(0),
        }
    }
}

impl SessionProgress {
    /// What a request does. `outline` is that of `json`; without one the whole body stands for it.
    pub fn doing(&self, path: &str, json: &[u8], outline: Option<&Outline>) -> Doing {
        let pieces = outline.map_or(&[][..], |outline| &outline.pieces);
        let turns = LastTurns::of(json, pieces);
        let mut tool = blake3::Hasher::new_keyed(&self.key);
        let mut said = blake3::Hasher::new_keyed(&self.key);
        let (mut has_tool, mut continued) = (false, 0);
        let model = pieces.get(turns.model..turns.since).unwrap_or_default();
        for piece in model.iter().filter(|piece| piece.part == ProgressPart::ToolCall) {
            has_tool = true;
            take(&mut tool, json, piece);
        }
        // What the model says around its tool calls differs each time and means nothing. What stands outside of the
        // conversation is part of the question.
        let said_from = if has_tool { turns.since } else { turns.model };
        for (at, piece) in pieces.iter().enumerate() {
            match piece.part {
                ProgressPart::Continued => continued = self.named(unquoted(json, piece)),
                ProgressPart::Content if at >= said_from || piece.item == 0 => take(&mut said, json, piece),
                _ => {}
            }
        }
        if pieces.is_empty() {
            said.update(json);
        }
        let (tool, said) = (if has_tool { short(&tool).max(1) } else { 0 }, short(&said));
        Doing {
            step: self.step(tool, said, continued),
            tool,
            continued,
            said,
            path: self.hasher.hash_one(path),
        }
    }

    /// What a tool's call does: the tool and its arguments, as they were sent.
    pub fn doing_tool(&self, tool: &str, arguments: &[u8]) -> Doing {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&(tool.len() as u64).to_le_bytes());
        hasher.update(tool.as_bytes());
        hasher.update(arguments);
        let call = short(&hasher).max(1);
        Doing {
            step: self.step(call, 0, 0),
            tool: call,
            continued: 0,
            said: 0,
            path: self.hasher.hash_one(tool),
        }
    }

    /// What calls with these tool calls and this said after them do. Where the calls before are known by the name of what they
    /// stand in alone, that name is another each time.
    fn step(&self, tool: u64, said: u64, continued: u64) -> u64 {
        self.hasher.hash_one((tool, said, continued))
    }

    /// The number of an answer's or a conversation's name; never 0.
    fn named(&self, name: &[u8]) -> u64 {
        short(blake3::Hasher::new_keyed(&self.key).update(name)).max(1)
    }

    /// A call of a session begins. What its session did before, as far as this window knows, and the step to be ended.
    pub fn begin(
        self: &Arc<Self>,
        bounds: Bounds,
        now_ms: i64,
        session: (&str, &str),
        mut doing: Doing,
        is_retry: bool,
    ) -> (History, SessionStep) {
        let track = self.hasher.hash_one(session);
        let mut shard = self.shard(track).lock();
        if now_ms.saturating_sub(shard.swept_ms) >= SWEEP_MS {
            shard.swept_ms = now_ms;
            self.sweep(&mut shard, now_ms.saturating_sub(bounds.window_ms));
        }
        if self.steps.load(Ordering::Relaxed) >= STEPS_MAX {
            self.forget_silent(&mut shard, track);
        }
        let known = shard.tracks.entry(track).or_default();
        let before = known.taken.len();
        let oldest_ms = now_ms.saturating_sub(bounds.window_ms);
        while known.taken.len() >= bounds.steps_max || known.taken.front().is_some_and(|one| one.at_ms < oldest_ms) {
            known.taken.pop_front();
        }
        if let Some(calls) = known.calls_before(&doing) {
            doing.tool = calls;
            doing.step = self.step(calls, doing.said, 0);
        }
        if is_retry {
            known.supersede(&doing);
        }
        let history = known.history(&doing, bounds.window_ms);
        let began = known.turn();
        known.taken.push_back(TakenStep {
            doing,
            at_ms: now_ms,
            began,
            ended: u32::MAX,
            cost: Usd::ZERO,
            state: StepState::Running,
            answer: 0,
            answer_calls: 0,
        });
        let after = known.taken.len();
        if after >= before {
            self.steps.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.steps.fetch_sub(before - after, Ordering::Relaxed);
        }
        let step = SessionStep {
            progress: Arc::clone(self),
            track,
            began,
            is_over: false,
        };
        (history, step)
    }

    fn shard(&self, track: u64) -> &Mutex<ProgressShard> {
        let [first, ..] = &*self.shards;
        let place = usize::try_from(track % SHARDS as u64).unwrap_or(0);
        self.shards.get(place).unwrap_or(first)
    }

    fn sweep(&self, shard: &mut ProgressShard, oldest_ms: i64) {
        let mut gone = 0;
        shard.tracks.retain(|_, track| {
            let stays = track.taken.back().is_some_and(|one| one.at_ms >= oldest_ms);
            gone += if stays { 0 } else { track.taken.len() };
            stays
        });
        self.steps.fetch_sub(gone, Ordering::Relaxed);
    }

    fn forget_silent(&self, shard: &mut ProgressShard, except: u64) {
        let others = shard.tracks.iter().filter(|(known, _)| **known != except);
        let last_ms = |track: &Track| track.taken.back().map_or(i64::MIN, |one| one.at_ms);
        let silent = others.min_by_key(|(_, track)| last_ms(track)).map(|(known, _)| *known);
        if let Some(track) = silent.and_then(|silent| shard.tracks.remove(&silent)) {
            self.steps.fetch_sub(track.taken.len(), Ordering::Relaxed);
        }
    }

    fn end(&self, track: u64, began: u32, state: StepState, cost: Usd, (answer, answer_calls): (u64, u64)) {
        let mut shard = self.shard(track).lock();
        let Some(track) = shard.tracks.get_mut(&track) else {
            return;
        };
        let ended = track.turn();
        if let Some(one) = track.taken.iter_mut().rev().find(|one| one.began == began) {
            (one.ended, one.state, one.cost) = (ended, state, cost);
            (one.answer, one.answer_calls) = (answer, answer_calls);
        }
    }
}

impl Track {
    fn turn(&mut self) -> u32 {
        self.turns = self.turns.saturating_add(1);
        self.turns
    }

    /// The tool calls in the answer that a call goes on from without repeating it: by that answer's name, or the last of the
    /// conversation's.
    fn calls_before(&self, doing: &Doing) -> Option<u64> {
        if doing.tool != 0 || doing.continued == 0 {
            return None;
        }
        let is_before = |one: &&TakenStep| one.answer == doing.continued || one.doing.continued == doing.continued;
        let before = self.taken.iter().rev().filter(|one| one.counts()).find(is_before);
        before.map(|one| one.answer_calls).filter(|calls| *calls != 0)
    }

    /// The client did not get the answer of its last call like this one, whatever we think of it.
    fn supersede(&mut self, doing: &Doing) {
        let like = self.taken.iter_mut().rev().find(|one| one.doing.step == doing.step);
        if let Some(one) = like.filter(|one| one.state == StepState::Answered) {
            one.state = StepState::Failed;
        }
    }

    /// How a call that does this stands to those before it; the call itself is counted in.
    fn history(&self, doing: &Doing, window_ms: i64) -> History {
        let counting = || self.taken.iter().filter(|one| one.counts());
        let is_same = |one: &&TakenStep| one.doing.step == doing.step;
        let same = Round::over(counting().filter(is_same));
        let in_a_row = counting()
            .rev()
            .take_while(|one| doing.tool != 0 && one.doing.tool == doing.tool)
            .count();
        let run = Round::over(counting().skip(counting().count() - in_a_row));
        let stretch = || counting().skip_while(|one| !is_same(one));
        let mut steps: HashSet<u64> = stretch().map(|one| one.doing.step).collect();
        steps.insert(doing.step);
        let path_calls = self.taken.iter().filter(|one| one.doing.path == doing.path).count();
        let told = if same.rounds >= run.rounds { &same } else { &run };
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        History {
            window_ms,
            repeats: same.rounds.saturating_add(1),
            tool_repeats: if doing.tool == 0 {
                0
            } else {
                run.rounds.saturating_add(1)
            },
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

/// Calls of one kind, those that ran at the same time counted once.
#[derive(Default)]
struct Round {
    rounds: u32,
    cost: Usd,
    first: Usd,
    last: Usd,
}

impl Round {
    fn over<'m>(taken: impl Iterator<Item = &'m TakenStep>) -> Round {
        let mut found = Round::default();
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

/// A call on its way. Dropped without a word it has failed.
#[derive(Debug)]
pub struct SessionStep {
    progress: Arc<SessionProgress>,
    track: u64,
    began: u32,
    is_over: bool,
}

impl SessionStep {
    /// It was answered in full: by an answer of this name with these tool calls, where both are known.
    pub fn answered(mut self, cost: Usd, answer: Option<(&str, &[u8; 32])>) {
        self.is_over = true;
        let progress = &self.progress;
        let named = answer.map(|(name, calls)| (progress.named(name.as_bytes()), progress.named(calls)));
        progress.end(
            self.track,
            self.began,
            StepState::Answered,
            cost,
            named.unwrap_or_default(),
        );
    }

    /// A policy refused it.
    pub fn denied(mut self, code: &str) {
        if code == LOOP_CODE {
            self.is_over = true;
            self.progress
                .end(self.track, self.began, StepState::Looped, Usd::ZERO, (0, 0));
        }
    }
}

impl Drop for SessionStep {
    fn drop(&mut self) {
        if !self.is_over {
            self.progress
                .end(self.track, self.began, StepState::Failed, Usd::ZERO, (0, 0));
        }
    }
}

/// Where the last turns of a conversation begin among its pieces.
struct LastTurns {
    /// The model's last turn; where it has not spoken yet, that of all.
    model: usize,
    /// All after it.
    since: usize,
}

impl LastTurns {
    fn of(json: &[u8], pieces: &[Piece]) -> LastTurns {
        let (mut model, mut since) = (0, 0);
        let mut at = pieces.len();
        for element in pieces.chunk_by(|a, b| a.item == b.item).rev() {
            let is_model = element.iter().any(|piece| is_by_model(json, piece));
            if !is_model && since > 0 {
                break;
            }
            if is_model && since == 0 {
                since = at;
            }
            at -= element.len();
            if is_model {
                model = at;
            }
        }
        LastTurns { model, since }
    }
}

/// The piece says that the model wrote its element.
fn is_by_model(json: &[u8], piece: &Piece) -> bool {
    let text = || json.get(piece.range.clone()).unwrap_or_default();
    match piece.part {
        ProgressPart::ToolCall => piece.item > 0,
        ProgressPart::Role => [&b"\"assistant\""[..], b"\"model\"", b"\"chatbot\""]
            .iter()
            .any(|model| text().eq_ignore_ascii_case(model)),
        ProgressPart::Content | ProgressPart::Continued => false,
    }
}

/// A string without its quotes; what is none as it stands.
fn unquoted<'j>(json: &'j [u8], piece: &Piece) -> &'j [u8] {
    let text = json.get(piece.range.clone()).unwrap_or_default();
    let inner = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\""));
    inner.unwrap_or(text)
}

/// Its length goes first: two values are not one that reads like both.
fn take(hasher: &mut blake3::Hasher, json: &[u8], piece: &Piece) {
    let bytes = json.get(piece.range.clone()).unwrap_or_default();
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

fn short(hasher: &blake3::Hasher) -> u64 {
    let hash = hasher.finalize();
    hash.as_bytes()
        .first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
