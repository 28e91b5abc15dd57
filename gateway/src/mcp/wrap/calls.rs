//! The calls of one connection, from the gate to their end: by which id the server answers them, and which of its answers ends
//! one. Bounded, and each ends once.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::value::RawValue;
use ulid::Ulid;

use crate::control::wire::CallEnding;
use crate::mcp::answer::{Answer, Says, result_of_task};
use crate::mcp::message::{Message, Messages, id_key};
use crate::mcp::traffic::{is_over, task_questions};
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
    /// Calls that asked for input, by what their next round says.
    rounds: HashMap<blake3::Hash, OpenCall>,
    /// Calls that go on as tasks.
    tasks: HashMap<String, OpenCall>,
    /// Questions about tasks: by the ids of their requests, the task, and whether its result is asked for.
    questions: HashMap<String, (String, bool)>,
    /// Lists of tools that the server was asked for: their ids, as keys and as they were written. Whether or not somebody still wants
    /// it, the list is not for everybody to see.
    lists: Vec<(String, Box<RawValue>)>,
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
        state.lists.extend(ids.map(|id| (id_key(id), id.to_owned())));
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
        let at = state.lists.iter().position(|(known, _)| known == key)?;
        let (_, id) = state.lists.remove(at);
        self.count(&state);
        Some(id)
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
        let mut state = self.state.lock();
        let call = state.take(key, |call| call.id == id)?;
        self.count(&state);
        Some(EndedCall::without_answer(call, CallEnding::Unsent))
    }

    /// The call of which this request is the next round.
    pub fn next_round(&self, message: &Message<'_>) -> Option<OpenCall> {
        let words = words_of(message);
        let round = round_of(
            &words,
            message.params.request_state.map(RawValue::get).unwrap_or_default(),
        );
        self.state.lock().rounds.remove(&round)
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

    /// Those that wait for their answers for longer.
    pub fn late(&self, patience: Duration) -> Vec<EndedCall> {
        let mut state = self.state.lock();
        let is_late = |call: &OpenCall| call.since.elapsed() > patience;
        let mut late = Vec::new();
        for calls in state.open.values_mut() {
            while calls.front().is_some_and(is_late) {
                late.extend(calls.pop_front());
            }
        }
        state.open.retain(|_, calls| !calls.is_empty());
        state.open_count -= late.len();
        late.extend(state.rounds.extract_if(|_, call| is_late(call)).map(|(_, call)| call));
        late.extend(state.tasks.extract_if(|_, call| is_late(call)).map(|(_, call)| call));
        self.count(&state);
        let ended = |call| EndedCall::without_answer(call, CallEnding::NotAnswered);
        late.into_iter().map(ended).collect()
    }

    /// No answer comes any more.
    pub fn server_gone(&self) -> Vec<EndedCall> {
        let state = std::mem::take(&mut *self.state.lock());
        self.expected.store(0, Ordering::Release);
        self.lists.store(0, Ordering::Release);
        let ended = |call| EndedCall::without_answer(call, CallEnding::ServerGone);
        let open = state.open.into_values().flatten();
        let others = state.rounds.into_values().chain(state.tasks.into_values());
        open.chain(others).map(ended).collect()
    }

    /// The open calls that a gateway holds.
    pub fn held(&self) -> Vec<Ulid> {
        let state = self.state.lock();
        let open = state.open.values().flatten();
        let all = open.chain(state.rounds.values()).chain(state.tasks.values());
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
        if let Some(call) = self.take(&answer.id, |_| true) {
            return self.called(call, answer);
        }
        let (task, wants_result) = self.questions.remove(&answer.id)?;
        let says = is_over(&answer.says, wants_result)?;
        let call = self.tasks.remove(&task)?;
        let result = answer.result.map(|result| result_of_task(result).unwrap_or(result));
        Some(EndedCall::by_answer(call, ending_of(&says), result, answer.bytes))
    }

    /// An answer that asks for input, or goes on as a task, is none yet.
    fn called(&mut self, call: OpenCall, answer: &Answer<'_>) -> Option<EndedCall> {
        let before = match &answer.says {
            Says::InputRequired { state } => self.rounds.insert(round_of(&call.words, state), call),
            Says::Task { id, .. } => self.tasks.insert(id.clone(), call),
            says => return Some(EndedCall::by_answer(call, ending_of(says), answer.result, answer.bytes)),
        };
        // Two that cannot be told apart have only one answer.
        let before = before.or_else(|| self.too_many());
        before.map(|before| EndedCall::without_answer(before, CallEnding::NotAnswered))
    }

    fn too_many(&mut self) -> Option<OpenCall> {
        if self.rounds.len() + self.tasks.len() <= OPEN_MAX {
            return None;
        }
        let round = self.rounds.keys().next().copied();
        round.and_then(|round| self.rounds.remove(&round)).or_else(|| {
            let task = self.tasks.keys().next().cloned()?;
            self.tasks.remove(&task)
        })
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
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn call(line: &str) -> (String, OpenCall) {
        let messages = Messages::read(line.as_bytes()).unwrap();
        let message = &messages.all[0];
        let call = OpenCall {
            id: Ulid::new(),
            wants_result: true,
            is_spooled: false,
            since: Timer::start(),
            words: words_of(message),
        };
        (id_key(message.id.unwrap()), call)
    }

    fn opened(calls: &Calls, line: &str) -> Ulid {
        let (key, call) = call(line);
        let id = call.id;
        calls.opens(key, call).unwrap();
        id
    }

    const CALL: &str = r#"{"id":1,"method":"tools/call","params":{"name":"t","arguments":{"a":1}}}"#;

    fn answer<'a>(id: &str, says: Says, result: Option<&'a str>) -> Answer<'a> {
        Answer {
            id: id.to_owned(),
            says,
            result,
            bytes: 99,
        }
    }

    #[test]
    fn each_call_ends_by_its_answer_once() {
        let calls = Calls::default();
        assert!(!calls.are_expected());
        let id = opened(&calls, CALL);
        assert!(calls.are_expected() && calls.held() == [id]);
        assert!(
            calls.answered(&answer("n2", Says::Result, Some("{}"))).is_none(),
            "another's"
        );
        let ended = calls
            .answered(&answer("n1", Says::ToolError, Some("{\"a\":1}")))
            .unwrap();
        assert_eq!(
            (
                ended.call.id,
                ended.ending,
                ended.result.as_str(),
                ended.bytes,
                ended.unread
            ),
            (id, CallEnding::ToolError, "{\"a\":1}", 7, false)
        );
        assert!(
            calls.answered(&answer("n1", Says::Result, Some("{}"))).is_none(),
            "it is over"
        );
        assert!(!calls.are_expected());
    }

    #[test]
    fn an_id_that_is_used_again_has_its_answers_in_turn() {
        let calls = Calls::default();
        let ids = [opened(&calls, CALL), opened(&calls, CALL)];
        let ended: Vec<Ulid> = (0..3)
            .filter_map(|_| calls.answered(&answer("n1", Says::Result, None)))
            .map(|ended| ended.call.id)
            .collect();
        assert_eq!(ended, ids);
    }

    #[test]
    fn a_call_that_asks_for_input_goes_on_with_the_same_words_and_state() {
        let calls = Calls::default();
        let id = opened(&calls, CALL);
        let state = || Says::InputRequired {
            state: "\"s\"".to_owned(),
        };
        assert!(calls.answered(&answer("n1", state(), Some("{}"))).is_none());
        let round = |line: &str| {
            let messages = Messages::read(line.as_bytes()).unwrap();
            calls.next_round(&messages.all[0]).map(|call| call.id)
        };
        let other = r#"{"id":2,"method":"tools/call","params":{"name":"t","arguments":{"a":2},"requestState":"s"}}"#;
        assert_eq!(round(other), None);
        let next = r#"{"id":2,"method":"tools/call","params":{"name":"t","arguments":{"a":1},"requestState":"s"}}"#;
        assert_eq!((round(next), round(next)), (Some(id), None));
    }

    #[test]
    fn a_task_ends_its_call_when_its_result_is_fetched() {
        let calls = Calls::default();
        let id = opened(&calls, CALL);
        let task = |status: &str| Says::Task {
            id: "t1".to_owned(),
            status: status.to_owned(),
        };
        assert!(calls.answered(&answer("n1", task("working"), Some("{}"))).is_none());
        let mut ended = Vec::new();
        for (method, key) in [("tasks/get", "n7"), ("tasks/result", "n8")] {
            let asked = format!(
                r#"{{"id":{},"method":"{method}","params":{{"taskId":"t1"}}}}"#,
                &key[1..]
            );
            assert!(calls.passes(&Messages::read(asked.as_bytes()).unwrap(), &mut ended));
        }
        assert!(calls.answered(&answer("n7", task("working"), Some("{}"))).is_none());
        let over = calls.answered(&answer("n8", Says::Result, Some("{}"))).unwrap();
        assert_eq!((over.call.id, over.ending), (id, CallEnding::Result));
        assert!(ended.is_empty());
    }

    #[test]
    fn what_is_cancelled_ends_and_what_waits_at_the_gate_goes_no_further() {
        let calls = Calls::default();
        let id = opened(&calls, CALL);
        let cancel = |id: &str| format!(r#"{{"method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#);
        let mut ended = Vec::new();
        let mut passes = |id: &str| calls.passes(&Messages::read(cancel(id).as_bytes()).unwrap(), &mut ended);
        calls.waits("n2");
        calls.waits("n3");
        assert!(passes("1") && passes("9") && !passes("2"));
        assert!(!calls.leaves_gate("n2") && calls.leaves_gate("n3"));
        let ended: Vec<_> = ended.iter().map(|ended| (ended.call.id, ended.ending)).collect();
        assert_eq!(ended, [(id, CallEnding::ClientGone)]);
    }

    #[test]
    fn with_the_server_all_calls_end() {
        let calls = Calls::default();
        let mut ids = [opened(&calls, CALL), opened(&calls, &CALL.replace(":1,", ":2,"))];
        ids.sort_unstable();
        assert!(calls.late(Duration::from_secs(60)).is_empty());
        let mut ended: Vec<Ulid> = calls.server_gone().iter().map(|ended| ended.call.id).collect();
        ended.sort_unstable();
        assert_eq!(ended, ids);
        assert!(!calls.are_expected() && calls.server_gone().is_empty());
        opened(&calls, CALL);
        assert_eq!(calls.late(Duration::ZERO).len(), 1, "it waited too long");
        assert!(!calls.are_expected());
    }

    #[test]
    fn open_calls_are_bounded() {
        let calls = Calls::default();
        for _ in 0..OPEN_MAX {
            opened(&calls, CALL);
        }
        let (key, beyond) = call(CALL);
        let ended = calls.opens(key, beyond).unwrap_err();
        assert_eq!(ended.ending, CallEnding::NotAnswered);
    }
}
