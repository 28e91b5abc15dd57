//! Where calls wait until they are held. They reach the server in the order in which they came, each whole or not at all; one that
//! waits for the holds of others is overtaken. What is no call flows past them. Whatever ends a call is entered here, too.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use futures_util::future::{FusedFuture, LocalBoxFuture};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, UnboundedSender};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use ulid::Ulid;

use super::books::{Began, Books, Rpc};
use super::calls::{Calls, EndedCall, OpenCall, words_of};
use super::lists::{self, ListLine};
use super::pipe::{LinePipe, Queued};
use crate::config::ToolRefusals;
use crate::control::wire::{BeginParams, CallEnding, ToolCaller};
use crate::mcp::message::{Message, Messages, id_key};
use crate::mcp::post::{answers_to_batch, in_words};
use crate::proxy::shared::json_rpc;
use crate::timer::Timer;

/// Requests with calls that wait at one time; then the client waits, too.
pub const WAITING_MAX: usize = 256;
/// Ends that are being entered at one time.
const ERRANDS_MAX: usize = 32;
const TICK: Duration = Duration::from_secs(1);
/// A call that is not decided within this waits for others, perhaps for those behind it: they are no longer kept back.
const OVERTAKEN: Duration = Duration::from_millis(100);
/// How long what has ended may take to be entered once the server is gone.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// Longest arguments that are sent to the gateway. Of longer ones it gets length and hash.
const ARGUMENTS_BYTES_MAX: usize = 256 << 10;

pub type Pipe = LinePipe<Box<dyn Write + Send>>;

/// What a connection is wrapped with.
#[derive(Clone)]
pub struct Settings {
    /// The server's name.
    pub server: String,
    pub caller: ToolCaller,
    pub refusals: ToolRefusals,
    /// How long a call may go without an answer.
    pub answer_timeout: Duration,
    /// How long one that asked for input, or became a task, may go without what comes next.
    pub answer_wait: Duration,
}

/// What comes from the client's side, in its order.
pub enum FromClient {
    /// A line in which there are calls.
    Calls(Vec<u8>),
    /// It says nothing more.
    Over,
}

/// What became known by what the server said, or of calls by what the client did.
pub enum Known {
    Ended(EndedCall),
    /// The server lists its tools; the line that its client gets goes back to whoever passes on what the server says, so that nothing
    /// overtakes it.
    Listed(ListLine, mpsc::Sender<Vec<u8>>),
}

/// See the module.
pub struct Gate<R> {
    pub books: Books<R>,
    pub settings: Settings,
    pub calls: Arc<Calls>,
    pub to_server: Arc<Pipe>,
    pub to_client: Arc<Pipe>,
    /// Notified when lines leave the queues of the two.
    pub room: Arc<Notify>,
    pub tells: UnboundedSender<Known>,
}

/// A line that waited, and what was decided on it.
struct Decided {
    /// Which of all lines it is.
    number: u64,
    line: Vec<u8>,
    keys: Vec<String>,
    /// The ids of the lists of tools that are asked for beside its calls.
    lists: Vec<Box<RawValue>>,
    verdict: Verdict,
}

enum Verdict {
    Held(Vec<(String, OpenCall)>),
    /// With the answer for the client.
    Refused(Vec<u8>),
}

/// What runs in a gate at one time.
struct Work<'g> {
    /// Lines that wait for their holds.
    waiting: FuturesUnordered<LocalBoxFuture<'g, Decided>>,
    /// Ends that are being entered, and lists that are looked through.
    errands: FuturesUnordered<LocalBoxFuture<'g, ()>>,
    /// Ends that are to be.
    ended: VecDeque<EndedCall>,
    /// The lines that began to wait so far.
    begun: u64,
    /// The last of them is decided.
    is_decided: bool,
}

impl<R: Rpc> Gate<R> {
    /// Works until the server is `gone` and all that became known is entered.
    pub async fn run(
        &self,
        mut asked: Receiver<FromClient>,
        mut known: UnboundedReceiver<Known>,
        mut gone: oneshot::Receiver<()>,
    ) {
        let mut work = Work {
            waiting: FuturesUnordered::new(),
            errands: FuturesUnordered::new(),
            ended: VecDeque::new(),
            begun: 0,
            is_decided: true,
        };
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut overtaken = std::pin::pin!(sleep(OVERTAKEN));
        // One at a time, so that a gateway that hangs is asked once.
        let mut looking = std::pin::pin!(futures_util::future::Fuse::terminated());
        let mut is_over = false;
        loop {
            self.enter(&mut work);
            let has_room = self.to_server.has_room() && self.to_client.has_room();
            let has_turn = work.is_decided || overtaken.is_elapsed();
            let begins = !is_over && work.waiting.len() < WAITING_MAX && has_turn && has_room;
            tokio::select! {
                biased;
                news = known.recv() => match news {
                    Some(news) => self.learn(&mut work, news),
                    None => break,
                },
                _ = &mut gone => break,
                Some(decided) = work.waiting.next() => {
                    work.is_decided |= decided.number == work.begun;
                    work.ended.extend(self.release(decided));
                }
                Some(()) = work.errands.next() => {}
                request = asked.recv(), if begins => match request {
                    Some(FromClient::Calls(line)) => {
                        work.begun += 1;
                        work.is_decided = false;
                        work.waiting.push(self.decide(work.begun, line).boxed_local());
                        overtaken.as_mut().reset(Instant::now() + OVERTAKEN);
                    }
                    Some(FromClient::Over) | None => is_over = true,
                },
                () = self.room.notified(), if !has_room => {}
                () = overtaken.as_mut(), if !overtaken.is_elapsed() => {}
                () = looking.as_mut() => {}
                _ = tick.tick() => {
                    let late = self.calls.late(self.settings.answer_timeout, self.settings.answer_wait);
                    for late in late {
                        tracing::warn!(id = %late.call.id, "a tool call was not answered in time: it is entered at what it held");
                        work.ended.push_back(late);
                    }
                    if looking.is_terminated() {
                        looking.set(self.books.look_after(self.calls.held()).fuse());
                    }
                }
            }
            if is_over && work.waiting.is_empty() {
                self.to_server.close();
            }
        }
        self.finish(work, known).await;
    }

    /// The server is gone: what became known is entered, as long as the gateway goes on taking it. Calls that still wait for their
    /// holds keep nothing else from being entered.
    async fn finish<'g>(&'g self, mut work: Work<'g>, mut known: UnboundedReceiver<Known>) {
        self.to_server.close();
        self.to_client.close();
        while let Ok(news) = known.try_recv() {
            self.learn(&mut work, news);
        }
        work.ended.extend(self.calls.all_over(CallEnding::ServerGone));
        loop {
            self.enter(&mut work);
            let all_told = work.errands.is_empty() && self.to_client.is_closed();
            if all_told && work.waiting.is_empty() {
                break;
            }
            let step = async {
                tokio::select! {
                    Some(()) = work.errands.next() => {}
                    Some(decided) = work.waiting.next() => work.ended.extend(self.release(decided)),
                    () = self.room.notified() => {}
                }
            };
            if timeout(LAST_WORDS, step).await.is_err() {
                if !all_told {
                    tracing::warn!(
                        "the gateway does not answer, or the client does not read: what ended last is entered at what it held"
                    );
                }
                break;
            }
        }
        self.books.close();
    }

    fn learn<'g>(&'g self, work: &mut Work<'g>, news: Known) {
        match news {
            Known::Ended(ended) => work.ended.push_back(ended),
            Known::Listed(listed, to) => work.errands.push(self.show(listed, to).boxed_local()),
        }
    }

    /// Begins to enter ends, as many as may be under way.
    fn enter<'g>(&'g self, work: &mut Work<'g>) {
        while work.errands.len() < ERRANDS_MAX
            && let Some(ended) = work.ended.pop_front()
        {
            work.errands.push(self.books.end(ended).boxed_local());
        }
    }

    /// Gives a list of tools back, as its client may see it.
    async fn show(&self, listed: ListLine, to: mpsc::Sender<Vec<u8>>) {
        // Whoever waits for it may have given up.
        let _ = to.send(lists::shown(&self.books, &self.settings, listed).await);
    }

    /// Has the calls of a line held, all or none of them.
    async fn decide(&self, number: u64, line: Vec<u8>) -> Decided {
        let (mut keys, mut held, mut lists) = (Vec::new(), Vec::new(), Vec::new());
        let mut refused = None;
        // It was read before it came here.
        if let Ok(messages) = Messages::read(&line) {
            keys.extend(messages.calls().filter_map(|call| call.id.map(id_key)));
            lists.extend(messages.lists().map(ToOwned::to_owned));
            for call in messages.calls() {
                match self.begin(call).await {
                    Ok(open) => held.push((call.id.map(id_key).unwrap_or_default(), open)),
                    Err(answer) => {
                        refused = Some(self.answer_to(&messages, call, answer));
                        break;
                    }
                }
            }
        }
        let verdict = match refused {
            None => Verdict::Held(held),
            Some(answer) => {
                for unsent in held.into_iter().filter_map(|(_, call)| self.calls.unsent(call)) {
                    self.books.end(unsent).await;
                }
                Verdict::Refused(answer)
            }
        };
        Decided {
            number,
            line,
            keys,
            lists,
            verdict,
        }
    }

    /// Holds one call, or finds the hold that it has from its last round. An error is the answer for the client.
    async fn begin(&self, message: &Message<'_>) -> Result<OpenCall, Value> {
        let words = words_of(message);
        if message.params.continues
            && let Some(call) = self.calls.next_round(message)
        {
            return self.go_on(call, message).await;
        }
        let id = Ulid::new();
        match self.books.begin(&self.params(id, message, &words), false).await {
            Began::Held {
                wants_result,
                is_spooled,
            } => Ok(OpenCall {
                id,
                wants_result,
                is_spooled,
                since: Timer::start(),
                words,
                earlier: None,
            }),
            Began::Refused(answer) => Err(answer),
            Began::Unheld(refusal) => Err(in_words(self.settings.refusals, &refusal, message.id)),
        }
    }

    /// Another round of a call is the same spend; whether it may still be made is asked anew.
    async fn go_on(&self, call: OpenCall, message: &Message<'_>) -> Result<OpenCall, Value> {
        if call.is_spooled {
            // The gateway knows nothing of it.
            return Ok(call);
        }
        let answer = match self
            .books
            .begin(&self.params(call.id, message, &call.words), true)
            .await
        {
            Began::Held { .. } => return Ok(call),
            Began::Refused(answer) => answer,
            Began::Unheld(refusal) => in_words(self.settings.refusals, &refusal, message.id),
        };
        // It waits on for a round that may be made.
        drop(self.calls.unsent(call));
        Err(answer)
    }

    fn params(&self, id: Ulid, message: &Message<'_>, words: &blake3::Hash) -> BeginParams {
        let arguments = message.params.arguments.map(RawValue::get).unwrap_or_default();
        let is_sent = arguments.len() <= ARGUMENTS_BYTES_MAX;
        BeginParams {
            id: id.to_string(),
            server: self.settings.server.clone(),
            tool: message.params.name.as_deref().unwrap_or_default().to_owned(),
            arguments: if is_sent { arguments.to_owned() } else { String::new() },
            argument_bytes: arguments.len() as u64,
            argument_hash: if is_sent {
                String::new()
            } else {
                words.to_hex().to_string()
            },
            request: message.id.map(RawValue::get).unwrap_or_default().to_owned(),
            refusals: self.settings.refusals.word().to_owned(),
            caller: self.settings.caller.clone(),
        }
    }

    /// The line that answers a request of which a call is refused: of a batch nothing is sent then.
    fn answer_to(&self, messages: &Messages<'_>, call: &Message<'_>, answer: Value) -> Vec<u8> {
        let said = match messages.is_batch {
            true => answers_to_batch(self.settings.refusals, messages, call, answer),
            false => answer,
        };
        json_rpc::body(&said).to_vec()
    }

    /// Lets a line through, or answers it. What is over with it.
    fn release(&self, decided: Decided) -> Vec<EndedCall> {
        let Decided {
            line,
            keys,
            lists,
            verdict,
            ..
        } = decided;
        // All of them are let go, whatever the first one says.
        let wanted: Vec<bool> = keys.iter().map(|key| self.calls.leaves_gate(key)).collect();
        match verdict {
            Verdict::Refused(answer) => {
                self.to_client.put(Queued::answer(answer));
                Vec::new()
            }
            Verdict::Held(held) if wanted.contains(&false) => {
                // The server has an earlier round of some.
                let ending = |call: &OpenCall| match call.earlier {
                    Some(_) => CallEnding::ClientGone,
                    None => CallEnding::Unsent,
                };
                let ended = held.into_iter().map(|(_, call)| {
                    let ending = ending(&call);
                    EndedCall::without_answer(call, ending)
                });
                ended.collect()
            }
            Verdict::Held(held) => {
                self.calls.lists(lists.iter().map(Box::as_ref));
                let ids: Vec<(String, Ulid)> = held.iter().map(|(key, call)| (key.clone(), call.id)).collect();
                let opened = held.into_iter().map(|(key, call)| self.calls.opens(key, call));
                let undone = opened.filter_map(Result::err).collect();
                // Its answer may come at once: so it is open before the server has it.
                let (calls, tells) = (Arc::clone(&self.calls), self.tells.clone());
                let lost = move || {
                    for (key, id) in ids {
                        // The gate is gone with the server.
                        let _ = calls.taken_back(&key, id).map(|ended| tells.send(Known::Ended(ended)));
                    }
                };
                self.to_server.put(Queued {
                    line,
                    lost: Some(Box::new(lost)),
                });
                undone
            }
        }
    }
}
