//! Where calls wait until they are held. They reach the server in the order in which they came, each whole or not at all; one that
//! waits for the holds of others is overtaken. What is no call flows past them. Whatever ends a call is entered here, too.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver};
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use ulid::Ulid;

use super::books::{Began, Books, Rpc};
use super::calls::{Calls, EndedCall, OpenCall, words_of};
use super::lists::{self, ListLine};
use super::pipe::LinePipe;
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
    /// The server lists its tools.
    Listed(ListLine),
    /// The server has closed its end of the client's pipe.
    Silent,
}

/// See the module.
pub struct Gate<R> {
    pub books: Books<R>,
    pub settings: Settings,
    pub calls: Arc<Calls>,
    pub to_server: Arc<Pipe>,
    pub to_client: Arc<Pipe>,
}

/// A line that waited, and what was decided on it.
struct Decided {
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

impl<R: Rpc> Gate<R> {
    /// Works until the server is `gone` and all that became known is entered.
    pub async fn run(
        &self,
        mut asked: Receiver<FromClient>,
        mut known: UnboundedReceiver<Known>,
        mut gone: oneshot::Receiver<()>,
    ) {
        let (mut waiting, mut errands) = (FuturesUnordered::new(), FuturesUnordered::new());
        let mut lists = FuturesUnordered::new();
        let mut is_silent = false;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut overtaken = std::pin::pin!(sleep(OVERTAKEN));
        let mut is_over = false;
        loop {
            let begins = !is_over && waiting.len() < WAITING_MAX && (waiting.is_empty() || overtaken.is_elapsed());
            tokio::select! {
                biased;
                news = known.recv(), if errands.len() < ERRANDS_MAX => match news {
                    Some(Known::Ended(ended)) => errands.push(self.books.end(ended).boxed_local()),
                    Some(Known::Listed(listed)) => lists.push(self.show(listed)),
                    Some(Known::Silent) => is_silent = true,
                    None => break,
                },
                _ = &mut gone => break,
                Some(()) = lists.next() => {}
                Some(decided) = waiting.next() => {
                    for undone in self.release(decided) {
                        errands.push(self.books.end(undone).boxed_local());
                    }
                }
                Some(()) = errands.next() => {}
                request = asked.recv(), if begins => match request {
                    Some(FromClient::Calls(line)) => {
                        waiting.push(self.decide(line));
                        overtaken.as_mut().reset(Instant::now() + OVERTAKEN);
                    }
                    Some(FromClient::Over) | None => is_over = true,
                },
                () = overtaken.as_mut(), if !overtaken.is_elapsed() => {}
                _ = tick.tick() => {
                    for late in self.calls.late(self.settings.answer_timeout) {
                        tracing::warn!(id = %late.call.id, "a tool call was not answered in time: it is entered at what it held");
                        errands.push(self.books.end(late).boxed_local());
                    }
                    errands.push(self.books.look_after(self.calls.held()).boxed_local());
                }
            }
            if is_over && waiting.is_empty() {
                self.to_server.close();
            }
            if is_silent && lists.is_empty() {
                self.to_client.close();
            }
        }
        self.to_server.close();
        let left = async {
            while let Ok(news) = known.try_recv() {
                match news {
                    Known::Ended(ended) => errands.push(self.books.end(ended).boxed_local()),
                    Known::Listed(listed) => lists.push(self.show(listed)),
                    Known::Silent => {}
                }
            }
            while lists.next().await.is_some() {}
            self.to_client.close();
            while let Some(decided) = waiting.next().await {
                for undone in self.release(decided) {
                    errands.push(self.books.end(undone).boxed_local());
                }
            }
            for ended in self.calls.server_gone() {
                errands.push(self.books.end(ended).boxed_local());
            }
            while errands.next().await.is_some() {}
        };
        if timeout(LAST_WORDS, left).await.is_err() {
            tracing::warn!("the gateway does not answer: what ended last is entered at what it held");
        }
        self.books.close();
    }

    /// Gives the client a list of tools, as it may see it.
    async fn show(&self, listed: ListLine) {
        let line = lists::shown(&self.books, &self.settings, listed).await;
        // A client that has gone is shown nothing.
        let _ = self.to_client.put(line);
    }

    /// Has the calls of a line held, all or none of them.
    async fn decide(&self, line: Vec<u8>) -> Decided {
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
                for (_, call) in held {
                    let unsent = EndedCall::without_answer(call, CallEnding::Unsent);
                    self.books.end(unsent).await;
                }
                Verdict::Refused(answer)
            }
        };
        Decided {
            line,
            keys,
            lists,
            verdict,
        }
    }

    /// Holds one call, or finds the hold that it has from its last round. An error is the answer for the client.
    async fn begin(&self, message: &Message<'_>) -> Result<OpenCall, Value> {
        if message.params.continues
            && let Some(call) = self.calls.next_round(message)
        {
            return Ok(call);
        }
        let (id, words) = (Ulid::new(), words_of(message));
        let arguments = message.params.arguments.map(RawValue::get).unwrap_or_default();
        let is_sent = arguments.len() <= ARGUMENTS_BYTES_MAX;
        let params = BeginParams {
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
        };
        match self.books.begin(&params).await {
            Began::Held {
                wants_result,
                is_spooled,
            } => Ok(OpenCall {
                id,
                wants_result,
                is_spooled,
                since: Timer::start(),
                words,
            }),
            Began::Refused(answer) => Err(answer),
            Began::Unheld(refusal) => Err(in_words(self.settings.refusals, &refusal, message.id)),
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

    /// Lets a line through, or answers it. What was held for nothing.
    fn release(&self, decided: Decided) -> Vec<EndedCall> {
        let Decided {
            line,
            keys,
            lists,
            verdict,
        } = decided;
        // All of them are let go, whatever the first one says.
        let wanted: Vec<bool> = keys.iter().map(|key| self.calls.leaves_gate(key)).collect();
        match verdict {
            Verdict::Refused(answer) => {
                // A client that has gone is told nothing.
                let _ = self.to_client.put(answer);
                Vec::new()
            }
            Verdict::Held(held) if wanted.contains(&false) => {
                let unsent = |(_, call)| EndedCall::without_answer(call, CallEnding::Unsent);
                held.into_iter().map(unsent).collect()
            }
            Verdict::Held(held) => {
                self.calls.lists(lists.iter().map(Box::as_ref));
                let ids: Vec<(String, Ulid)> = held.iter().map(|(key, call)| (key.clone(), call.id)).collect();
                let opened = held.into_iter().map(|(key, call)| self.calls.opens(key, call));
                let mut undone: Vec<EndedCall> = opened.filter_map(Result::err).collect();
                // Its answer may come at once: so it is open before the server has it.
                if self.to_server.put(line).is_err() {
                    undone.extend(ids.iter().filter_map(|(key, id)| self.calls.taken_back(key, *id)));
                }
                undone
            }
        }
    }
}
