//! The calls of one connection, from the gate to their end: by which id the server answers them, and which of its answers ends
//! one. Bounded, and each ends once.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::value::RawValue;
use ulid::Ulid;

use crate::control::wire::CallEnding;
use crate::mcp::answer::{Answer, Says, Turn, is_over, result_of_task};
use crate::mcp::message::{Message, Messages, id_key, written_alike};
use crate::mcp::traffic::task_questions;
use crate::timer::Timer;

/// Calls that are open at one time. One beyond them is entered at what it holds, and passes.
const OPEN_MAX: usize = 10_000;
/// Longest result that is sent to be priced. In a text of JSON it is twice as long at most, and a request of a method 1 MiB.
const RESULT_BYTES_MAX: usize = 480 << 10;
/// Questions about tasks that wait for their answers.
const QUESTIONS_MAX: usize = 1_024;
/// Requests for lists of tools that wait for their answers.
const LISTS_MAX: usize = 256;

/// A call that the server has.
#[derive(Debug)]
pub struct OpenCall {
    pub id: Ulid,
    pub wants_result: bool,
    /// No gateway knows of it: it stands in the spool.
    pub is_spooled: bool,
    pub since: Timer,
    /// Of the tool and its arguments: by them the next round of a call that asked for input is known.
    pub words: blake3::Hash,
    /// The server has it from an earlier round.
    pub earlier: Option<Earlier>,
}

/// What a call was before: it asked for input, or goes on as a task.
#[derive(Clone, Copy, Debug)]
pub struct Earlier {
    /// Since it did so first, all rounds together.
    since: Timer,
    /// Of the round that comes next.
    round: Option<blake3::Hash>,
}

/// A call that is over.
#[derive(Debug)]
pub struct EndedCall {
    pub call: OpenCall,
    pub ending: CallEnding,
    /// Its JSON, where it is wanted.
    pub result: String,
    /// Length of the result; of the whole message where that was not read.
    pub bytes: u64,
    pub unread: bool,
}

impl EndedCall {
    pub fn without_answer(call: OpenCall, ending: CallEnding) -> EndedCall {
        EndedCall {
            call,
            ending,
            result: String::new(),
            bytes: 0,
            unread: false,
        }
    }

    fn by_answer(call: OpenCall, ending: CallEnding, result: Option<&str>, bytes: u64) -> EndedCall {
        let wanted = result.filter(|result| call.wants_result && result.len() <= RESULT_BYTES_MAX);
        EndedCall {
            ending,
            result: wanted.unwrap_or_default().to_owned(),
            bytes: result.map_or(bytes, |result| result.len() as u64),
            unread: result.is_none() && ending != CallEnding::Error,
            call,
        }
    }
}

/// See the module.
#[derive(Default)]
pub struct Calls {
    state: Mutex<State>,
    /// Answers of the server's that are looked for.
    expected: AtomicUsize,
    /// Those of them that are lists of tools.
    lists: AtomicUsize,
}

#[derive(Default)]
struct State {
    /// Requests at the gate, and whether their client wants them no more.
    waiting: HashMap<String, bool>,
    /// By the ids of their requests. An id that is used again before its answer has several: the first answer is the first one's.
    open: HashMap<String, VecDeque<OpenCall>>,
    open_count: usize,
    /// Calls that asked for input, by what their next round says: of those that say the same, the first round is the first one's.
    rounds: HashMap<blake3::Hash, VecDeque<OpenCall>>,
    rounds_count: usize,
    /// Calls that go on as tasks.
    tasks: HashMap<String, OpenCall>,
    /// Questions about tasks: by the ids of their requests, the task, and whether its result is asked for.
    questions: HashMap<String, (String, bool)>,
    /// Lists of tools that the server was asked for: their ids, as keys and as they were written. Whether or not somebody still wants
    /// it, the list is not for everybody to see.
    lists: Vec<AskedList>,
}

#[derive(Debug)]
struct AskedList {
    key: String,
    id: Box<RawValue>,
    since: Timer,
}

impl Calls {
    /// Whether an answer of the server's could say something about a call.
    pub fn are_expected(&self) -> bool {
        self.expected.load(Ordering::Acquire) > 0
    }

    /// Whether an answer of the server's could be a list of tools.
    pub fn are_lists_expected(&self) -> bool {
        self.lists.load(Ordering::Acquire) > 0
    }

    /// The server is asked for these lists of tools now. `false`: it owes too many already.
    pub fn lists<'m>(&self, ids: impl Iterator<Item = &'m RawValue>) -> bool {
        let mut state = self.state.lock();
        let before = state.lists.len();
        state.lists.extend(ids.map(|id| AskedList {
            key: id_key(id),
            id: id.to_owned(),
            since: Timer::start(),
        }));
        let fits = state.lists.len() <= LISTS_MAX;
        if !fits {
            state.lists.truncate(before);
        }
        self.count(&state);
        fits
    }

    /// The id of the request for a list of tools that is answered by this key.
    pub fn list_answered(&self, key: &str) -> Option<Box<RawValue>> {
        let mut state = self.state.lock();
        let position = |key: &str| state.lists.iter().position(|list| list.key == key);
        let at = position(key).or_else(|| position(&written_alike(key)?))?;
        let list = state.lists.remove(at);
        self.count(&state);
        Some(list.id)
    }

    /// A request with a call waits at the gate.
    pub fn waits(&self, key: &str) {
        self.state.lock().waiting.insert(key.to_owned(), false);
    }

    /// It waits no more. `false`: its client has cancelled it meanwhile.
    pub fn leaves_gate(&self, key: &str) -> bool {
        self.state.lock().waiting.remove(key) != Some(true)
    }

    /// The server gets the call now.
    ///
    /// # Errors
    /// Too many are open: it is not looked after.
    pub fn opens(&self, key: String, call: OpenCall) -> Result<(), EndedCall> {
        let mut state = self.state.lock();
        if state.open_count >= OPEN_MAX {
            return Err(EndedCall::without_answer(call, CallEnding::NotAnswered));
        }
        state.open.entry(key).or_default().push_back(call);
        state.open_count += 1;
        self.count(&state);
        Ok(())
    }

    /// Takes a call back that did not reach the server.
    pub fn taken_back(&self, key: &str, id: Ulid) -> Option<EndedCall> {
        let call = {
            let mut state = self.state.lock();
            let call = state.take(key, |call| call.id == id)?;
            self.count(&state);
            call
        };
        self.unsent(call)
    }

    /// A call does not go to the server now: it waits on for its next round where the server has it from the last, and is over
    /// otherwise.
    pub fn unsent(&self, call: OpenCall) -> Option<EndedCall> {
        let mut state = self.state.lock();
        match call.earlier.and_then(|earlier| earlier.round) {
            Some(round) => {
                state.rounds.entry(round).or_default().push_front(call);
                state.rounds_count += 1;
                None
            }
            None => Some(EndedCall::without_answer(call, CallEnding::Unsent)),
        }
    }

    /// The call of which this request is the next round.
    pub fn next_round(&self, message: &Message<'_>) -> Option<OpenCall> {
        let words = words_of(message);
        let round = round_of(
            &words,
            message.params.request_state.map(RawValue::get).unwrap_or_default(),
        );
        self.state.lock().take_round(&round)
    }

    /// What is no call itself passes, and may be about calls. `false`: it is about one at the gate alone, and goes no further.
    pub fn passes(&self, messages: &Messages<'_>, ended: &mut Vec<EndedCall>) -> bool {
        let mut state = self.state.lock();
        if !state.tasks.is_empty() {
            for (id, task, wants_result) in task_questions(&messages.all) {
                if state.questions.len() < QUESTIONS_MAX {
                    state.questions.insert(id, (task, wants_result));
                }
            }
        }
        let mut passes = true;
        for key in messages.cancelled().map(id_key) {
            if let Some(is_cancelled) = state.waiting.get_mut(&key) {
                *is_cancelled = true;
                passes = messages.is_batch;
            } else if let Some(call) = state.take(&key, |_| true) {
                ended.push(EndedCall::without_answer(call, CallEnding::ClientGone));
            }
        }
        self.count(&state);
        passes
    }

    /// An answer of the server's. `None`: it ends no call.
    pub fn answered(&self, answer: &Answer<'_>) -> Option<EndedCall> {
        let mut state = self.state.lock();
        let ended = state.answered(answer);
        self.count(&state);
        ended
    }

    /// Those that wait for longer: for an answer of the server's, or, having asked for input or become a task, for what comes next.
    pub fn late(&self, for_answer: Duration, for_next: Duration) -> Vec<EndedCall> {
        let mut state = self.state.lock();
        let mut late = Vec::new();
        for calls in state.open.values_mut() {
            while calls.front().is_some_and(|call| call.since.elapsed() > for_answer) {
                late.extend(calls.pop_front());
            }
        }
        state.open.retain(|_, calls| !calls.is_empty());
        state.open_count -= late.len();
        let is_late = |call: &OpenCall| call.earlier.is_some_and(|earlier| earlier.since.elapsed() > for_next);
        let before = late.len();
        for calls in state.rounds.values_mut() {
            while calls.front().is_some_and(is_late) {
                late.extend(calls.pop_front());
            }
        }
        state.rounds.retain(|_, calls| !calls.is_empty());
        state.rounds_count -= late.len() - before;
        late.extend(state.tasks.extract_if(|_, call| is_late(call)).map(|(_, call)| call));
        // No client waits so long for a list.
        state.lists.retain(|list| list.since.elapsed() <= for_answer);
        self.count(&state);
        let ended = |call| EndedCall::without_answer(call, CallEnding::NotAnswered);
        late.into_iter().map(ended).collect()
    }

    /// No answer comes any more, since the server is gone, or the client.
    pub fn all_over(&self, ending: CallEnding) -> Vec<EndedCall> {
        let state = std::mem::take(&mut *self.state.lock());
        self.expected.store(0, Ordering::Release);
        self.lists.store(0, Ordering::Release);
        let ended = |call| EndedCall::without_answer(call, ending);
        let open = state.open.into_values().flatten();
        let others = state.rounds.into_values().flatten().chain(state.tasks.into_values());
        open.chain(others).map(ended).collect()
    }

    /// The open calls that a gateway holds.
    pub fn held(&self) -> Vec<Ulid> {
        let state = self.state.lock();
        let open = state.open.values().flatten();
        let all = open.chain(state.rounds.values().flatten()).chain(state.tasks.values());
        all.filter(|call| !call.is_spooled).map(|call| call.id).collect()
    }

    fn count(&self, state: &State) {
        let expected = state.open_count + state.questions.len() + state.lists.len();
        self.expected.store(expected, Ordering::Release);
        self.lists.store(state.lists.len(), Ordering::Release);
    }
}

impl State {
    /// The first open call under an id that fits.
    fn take(&mut self, key: &str, fits: impl Fn(&OpenCall) -> bool) -> Option<OpenCall> {
        let calls = self.open.get_mut(key)?;
        let at = calls.iter().position(fits)?;
        let call = calls.remove(at)?;
        if calls.is_empty() {
            self.open.remove(key);
        }
        self.open_count -= 1;
        Some(call)
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Option<EndedCall> {
        let alike = written_alike(&answer.id);
        let keys = || [Some(answer.id.as_str()), alike.as_deref()].into_iter().flatten();
        if let Some(call) = keys().find_map(|key| self.take(key, |_| true)) {
            return self.called(call, answer);
        }
        let (task, wants_result) = keys().find_map(|key| self.questions.remove(key))?;
        let says = is_over(&answer.says, wants_result)?;
        let call = self.tasks.remove(&task)?;
        let result = answer.result.map(|result| result_of_task(result).unwrap_or(result));
        Some(EndedCall::by_answer(call, ending_of(&says), result, answer.bytes))
    }

    /// An answer that asks for input, or goes on as a task, is none yet.
    fn called(&mut self, mut call: OpenCall, answer: &Answer<'_>) -> Option<EndedCall> {
        let since = call.earlier.map_or_else(Timer::start, |earlier| earlier.since);
        let before = match answer.says.turn() {
            Turn::WantsInput(state) => {
                let round = round_of(&call.words, state);
                call.earlier = Some(Earlier {
                    since,
                    round: Some(round),
                });
                self.rounds.entry(round).or_default().push_back(call);
                self.rounds_count += 1;
                None
            }
            Turn::GoesOn(task) => {
                call.earlier = Some(Earlier { since, round: None });
                // A task has one result.
                self.tasks.insert(task.to_owned(), call)
            }
            Turn::Ended(says) => {
                let result = answer.of_call().result;
                return Some(EndedCall::by_answer(call, ending_of(&says), result, answer.bytes));
            }
        };
        let before = before.or_else(|| self.too_many());
        before.map(|before| EndedCall::without_answer(before, CallEnding::NotAnswered))
    }

    /// The first call that waits for this round.
    fn take_round(&mut self, round: &blake3::Hash) -> Option<OpenCall> {
        let calls = self.rounds.get_mut(round)?;
        let call = calls.pop_front()?;
        if calls.is_empty() {
            self.rounds.remove(round);
        }
        self.rounds_count -= 1;
        Some(call)
    }

    fn too_many(&mut self) -> Option<OpenCall> {
        if self.rounds_count + self.tasks.len() <= OPEN_MAX {
            return None;
        }
        if let Some(round) = self.rounds.keys().next().copied() {
            return self.take_round(&round);
        }
        let task = self.tasks.keys().next().cloned()?;
        self.tasks.remove(&task)
    }
}

fn ending_of(says: &Says) -> CallEnding {
    match says {
        Says::ToolError => CallEnding::ToolError,
        Says::Error => CallEnding::Error,
        _ => CallEnding::Result,
    }
}

/// What a call says: the tool and its arguments.
pub fn words_of(message: &Message<'_>) -> blake3::Hash {
    let (name, arguments) = (message.params.name.as_deref(), message.params.arguments);
    let mut hasher = blake3::Hasher::new();
    let name = name.unwrap_or_default();
    hasher.update(&(name.len() as u64).to_le_bytes());
    hasher.update(name.as_bytes());
    hasher.update(arguments.map(RawValue::get).unwrap_or_default().as_bytes());
    hasher.finalize()
}

fn round_of(words: &blake3::Hash, state: &str) -> blake3::Hash {
    blake3::keyed_hash(words.as_bytes(), state.as_bytes())
}

#[cfg(test)]
#[path = "calls_tests.rs"]
mod tests;
