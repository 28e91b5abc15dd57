//! What the sessions did lately, so that policies can distinguish an agent that makes progress from one that repeats itself.
//!
//! A call is known by keyed digests of what its agent did last: the tool calls of the model's last turn, and what was
//! said or found since. The texts themselves go nowhere. Of each session a bounded window of such steps is kept.
//!
//! What is no repeat: a call that runs at the same time as its like (it was not sent for want of progress), one whose
//! like failed (it is tried again), and one that an SDK sends again because it lost the answer.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agentledger_ledger::Usd;
use parking_lot::Mutex;

use crate::config::Config;
use crate::plugin::ProgressPart;
use crate::plugin::outline::{Outline, Piece};
use crate::policy::History;
use crate::proxy::session::steps::ring::{Doing, StepState};
use crate::proxy::session::steps::{StepEnd, Steps};

/// The code with which a policy refuses a call because its agent loops. Such a call counts as a repeat itself: who goes
/// on is not let in again by having been kept out.
pub const LOOP_CODE: &str = "loop_detected";
const SHARDS: usize = 32;
/// Steps in memory, all sessions together: some 52 MiB (109 B a step), 66 where all are alike, 100 at worst (17 of each). Past
/// that the sessions silent for longest are forgotten.
const STEPS_MAX: usize = 500_000;
/// Steps of one session that are remembered at least, and at most.
const SESSION_STEPS: std::ops::RangeInclusive<u64> = 1_024..=65_536;
/// Sessions that a call looks at at most, to take out those whose window is empty: more than one, so that they become fewer.
const SWEPT_AT_ONCE: usize = 4;

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

/// Sessions by what is a keyed hash already. The shard is chosen by the lowest bits, so that these say nothing within one.
#[derive(Debug, Default)]
struct Keyed(u64);

impl Hasher for Keyed {
    fn finish(&self) -> u64 {
        self.0.rotate_left(32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[derive(Debug, Default)]
struct ProgressShard {
    tracks: HashMap<u64, Steps, BuildHasherDefault<Keyed>>,
    /// Each of them once, by a time at which it had begun a step, the longest ago first. A later step is not entered: it is seen
    /// when the session would have to go.
    silent: BinaryHeap<Reverse<(i64, u64)>>,
    /// Steps so far. A session that was forgotten and comes back numbers its steps from here on, so that a call from before ends none of
    /// the new ones.
    begun: u64,
}

impl ProgressShard {
    /// Looks at the session that was entered the longest ago, if that was before `since_ms`, and takes it out unless it has begun a
    /// step since or does so now, which is `now`'s. Its steps; 0 where it stays.
    fn look_at_silent(&mut self, since_ms: i64, now: (i64, u64)) -> Option<usize> {
        let Reverse((entered_ms, track)) = *self.silent.peek()?;
        if entered_ms >= since_ms {
            return None;
        }
        self.silent.pop();
        let last_ms = self.tracks.get(&track).and_then(Steps::last_ms);
        let last_ms = if track == now.1 { Some(now.0) } else { last_ms };
        if let Some(last_ms) = last_ms.filter(|last_ms| *last_ms > entered_ms) {
            self.silent.push(Reverse((last_ms, track)));
            return Some(0);
        }
        self.tracks.remove(&track).map(|steps| steps.len())
    }
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
        let oldest_ms = now_ms.saturating_sub(bounds.window_ms);
        let mut shard = self.shard(track).lock();
        self.make_room(&mut shard, oldest_ms, (now_ms, track));
        let shard = &mut *shard;
        let known = shard.tracks.entry(track).or_insert_with(|| {
            shard.silent.push(Reverse((now_ms, track)));
            Steps::starting_at(shard.begun)
        });
        let before = known.len();
        known.forget(oldest_ms, bounds.steps_max);
        if let Some(calls) = known.calls_before(&doing) {
            doing.tool = calls;
            doing.step = self.step(calls, doing.said, 0);
        }
        if is_retry {
            known.supersede(doing.step);
        }
        let history = known.history(&doing, bounds.window_ms);
        let number = known.begin(&doing, now_ms);
        shard.begun += 1;
        let after = known.len();
        if after >= before {
            self.steps.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.steps.fetch_sub(before - after, Ordering::Relaxed);
        }
        let step = SessionStep {
            progress: Arc::clone(self),
            track,
            number,
            is_over: false,
        };
        (history, step)
    }

    fn shard(&self, track: u64) -> &Mutex<ProgressShard> {
        let [first, ..] = &*self.shards;
        let place = usize::try_from(track % SHARDS as u64).unwrap_or(0);
        self.shards.get(place).unwrap_or(first)
    }

    /// Forgets sessions whose window is empty, a few at a time, and one more where there are too many steps. Each begun step brings at
    /// most one look at its session.
    fn make_room(&self, shard: &mut ProgressShard, oldest_ms: i64, now: (i64, u64)) {
        for _ in 0..SWEPT_AT_ONCE {
            let Some(gone) = shard.look_at_silent(oldest_ms, now) else {
                break;
            };
            self.steps.fetch_sub(gone, Ordering::Relaxed);
        }
        if self.steps.load(Ordering::Relaxed) < STEPS_MAX {
            return;
        }
        while let Some(gone) = shard.look_at_silent(now.0, now) {
            self.steps.fetch_sub(gone, Ordering::Relaxed);
            if gone > 0 {
                return;
            }
        }
    }

    fn end(&self, track: u64, number: u64, end: &StepEnd) {
        let mut shard = self.shard(track).lock();
        if let Some(known) = shard.tracks.get_mut(&track) {
            known.end(number, end);
        }
    }
}

/// A call on its way. Dropped without a word it has failed.
#[derive(Debug)]
pub struct SessionStep {
    progress: Arc<SessionProgress>,
    track: u64,
    number: u64,
    is_over: bool,
}

impl SessionStep {
    /// It was answered in full: by an answer of this name with these tool calls, where both are known.
    pub fn answered(mut self, cost: Usd, answer: Option<(&str, &[u8; 32])>) {
        let progress = &self.progress;
        let named = answer.map(|(name, calls)| (progress.named(name.as_bytes()), progress.named(calls)));
        self.end(StepState::Answered, cost, named.unwrap_or_default());
    }

    /// A policy refused it.
    pub fn denied(mut self, code: &str) {
        if code == LOOP_CODE {
            self.end(StepState::Looped, Usd::ZERO, (0, 0));
        }
    }

    fn end(&mut self, state: StepState, cost: Usd, (answer, answer_calls): (u64, u64)) {
        self.is_over = true;
        let end = StepEnd {
            state,
            cost,
            answer,
            answer_calls,
        };
        self.progress.end(self.track, self.number, &end);
    }
}

impl Drop for SessionStep {
    fn drop(&mut self) {
        if !self.is_over {
            self.end(StepState::Failed, Usd::ZERO, (0, 0));
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
