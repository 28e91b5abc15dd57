//! Who holds calls before the server has them, and enters them after: the running gateway. Where none runs, what the
//! configuration says: they are refused, pass unseen, or pass and stand in a spool that the gateway takes in.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ulid::Ulid;

use super::calls::EndedCall;
use super::spool::Spool;
use crate::config::Offline;
use crate::control::wire::{
    BeginParams, BeginResult, CallEnding, EndParams, EndResult, KeepParams, KeepResult, ListParams, ListResult,
};
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::reply::Refusal;
use crate::timer::Timer;

/// Calls that one `mcp.keep` names.
const KEEP_MAX: usize = 1_000;
/// Kept so many times within the time that the gateway gives them.
const KEEPS: u32 = 3;
/// How often a gateway that was silent is asked to void a call that it knows nothing of.
const UNDO_MAX: u32 = 10;
/// When a refusal for want of a gateway is worth another try, seconds.
const RETRY_S: u64 = 5;

/// A way to call the gateway's methods.
pub trait Rpc: Send + 'static {
    fn call<P, A>(&self, method: &'static str, params: &P) -> impl Future<Output = Result<A, Away>>
    where
        P: Serialize + Sync,
        A: DeserializeOwned;
}

/// Why a method has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Away {
    /// No gateway runs there.
    Nobody(String),
    /// One does, and does not take the call.
    Refuses(String),
    /// One does, and has not answered for so long. Whether it takes the call is not known.
    Silent(Duration),
}

impl fmt::Display for Away {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Away::Nobody(text) | Away::Refuses(text) => f.write_str(text),
            Away::Silent(patience) => write!(f, "it has not answered for {patience:?}"),
        }
    }
}

/// What came of a call that was to be held.
pub enum Began {
    Held {
        wants_result: bool,
        is_spooled: bool,
    },
    /// With the answer for the client.
    Refused(Value),
    /// Nobody holds it.
    Unheld(Box<Refusal>),
}

/// Who may see a list of tools.
pub enum Shown {
    /// Nobody knows: it passes.
    All,
    /// All but the tools of these names.
    Without(Vec<String>),
    /// Not this caller; with the answer in its place.
    Refused(Value),
    /// Nobody knows, and so nobody sees it.
    Unknown(Box<Refusal>),
}

/// See the module.
pub struct Books<R> {
    rpc: R,
    offline: Offline,
    spool: Spool,
    /// It was told of already that no gateway runs.
    is_alone: AtomicBool,
    /// Within so many milliseconds a call is to be kept; 0: none was begun yet.
    keep_ms: AtomicU64,
    kept: Mutex<Timer>,
    /// Calls that were refused because the gateway was silent: should it hold them all the same, they are to be void. Each with how
    /// often it said that it knows of none.
    undone: Mutex<Vec<(Ulid, u32)>>,
}

impl<R: Rpc> Books<R> {
    /// `offline`: what becomes of calls while no gateway runs.
    pub fn new(rpc: R, offline: Offline, spool: Spool) -> Books<R> {
        Books {
            rpc,
            offline,
            spool,
            is_alone: AtomicBool::new(false),
            keep_ms: AtomicU64::new(0),
            kept: Mutex::new(Timer::start()),
            undone: Mutex::default(),
        }
    }

    /// Has a call held. Its id is its own, whoever holds it: it is entered once. `is_held`: it is, from its last round, and whether it
    /// may go on is the question.
    pub async fn begin(&self, call: &BeginParams, is_held: bool) -> Began {
        let began: Result<BeginResult, Away> = self.rpc.call("mcp.begin", call).await;
        match began {
            Ok(began) => {
                self.is_alone.store(false, Ordering::Relaxed);
                self.keep_ms.store(began.keep_ms, Ordering::Relaxed);
                if began.admitted {
                    return Began::Held {
                        wants_result: began.wants_result,
                        is_spooled: false,
                    };
                }
                match serde_json::from_str(&began.answer) {
                    Ok(answer) => Began::Refused(answer),
                    Err(_) => unheld(no_gateway(
                        "the gateway refused the call and does not say why".to_owned(),
                    )),
                }
            }
            Err(away @ (Away::Refuses(_) | Away::Silent(_))) => {
                tracing::error!("the gateway does not take tool calls: {away}");
                if let (Away::Silent(_), Ok(id), false) = (&away, Ulid::from_string(&call.id), is_held) {
                    self.undone.lock().push((id, 0));
                }
                unheld(no_gateway(format!("the gateway does not take the call: {away}")))
            }
            Err(Away::Nobody(text)) => self.begin_alone(call, is_held, &text),
        }
    }

    /// What of a list of tools its caller may see.
    pub async fn list(&self, list: &ListParams) -> Shown {
        let listed: Result<ListResult, Away> = self.rpc.call("mcp.list", list).await;
        let unknown = |text: String| Shown::Unknown(Box::new(no_gateway(text)));
        match listed {
            Ok(ListResult { hidden, answer }) if answer.is_empty() => Shown::Without(hidden),
            Ok(ListResult { answer, .. }) => match serde_json::from_str(&answer) {
                Ok(answer) => Shown::Refused(answer),
                Err(_) => unknown("the gateway refused the list of tools and does not say why".to_owned()),
            },
            Err(away @ (Away::Refuses(_) | Away::Silent(_))) => {
                tracing::error!("the gateway does not take lists of tools: {away}");
                unknown(format!("the gateway does not take the list of tools: {away}"))
            }
            Err(Away::Nobody(text)) => {
                self.notice_alone(&text);
                match self.offline {
                    Offline::Spool | Offline::Pass => Shown::All,
                    Offline::Refuse => unknown(
                        "no gateway runs that could say which tools may be seen: start it (agentledger serve), and list them \
                         again"
                            .to_owned(),
                    ),
                }
            }
        }
    }

    fn notice_alone(&self, text: &str) {
        if !self.is_alone.swap(true, Ordering::Relaxed) {
            tracing::warn!("no gateway runs ({text}): {}", self.offline.meaning());
        }
    }

    fn begin_alone(&self, call: &BeginParams, is_held: bool, text: &str) -> Began {
        self.notice_alone(text);
        let held = Began::Held {
            wants_result: false,
            is_spooled: self.offline == Offline::Spool,
        };
        match self.offline {
            Offline::Pass => held,
            // The gateway that held it enters it when it runs again.
            Offline::Spool if is_held => held,
            Offline::Refuse => unheld(no_gateway(
                "no gateway runs that could hold this call: start it (agentledger serve), and call again".to_owned(),
            )),
            Offline::Spool => match self.spool.begun(call) {
                Ok(()) => held,
                Err(error) => {
                    tracing::error!(%error, "the spool cannot be written: calls are refused");
                    let message = format!("no gateway runs, and the spool cannot be written: {error}");
                    unheld(Refusal::new(RefusalCode::LedgerUnavailable, message))
                }
            },
        }
    }

    /// Enters how a call ended. Whoever does not take it will enter the call at what it held.
    pub async fn end(&self, ended: EndedCall) {
        let params = EndParams {
            id: ended.call.id.to_string(),
            ending: ended.ending,
            result: ended.result,
            result_bytes: ended.bytes,
            unread: ended.unread,
            milliseconds: ended.call.since.elapsed_ms(),
        };
        if ended.call.is_spooled {
            if let Err(error) = self.spool.ended(&params) {
                tracing::error!(%error, "the spool cannot be written: a call will be entered at what it would have held");
            }
            return;
        }
        let done: Result<EndResult, Away> = self.rpc.call("mcp.settle", &params).await;
        match done {
            Ok(EndResult { ended: true }) => {}
            Ok(EndResult { ended: false }) if ended.ending == CallEnding::NotAnswered => {}
            Ok(EndResult { ended: false }) => tracing::warn!(id = params.id, "a call had ended before its answer came"),
            Err(_) if self.offline == Offline::Pass => {}
            Err(away) => {
                tracing::warn!(
                    id = params.id,
                    "the gateway takes no answer, and enters the call at what it held: {away}"
                );
            }
        }
    }

    /// Tells the gateway which calls go on, in time; and lets it have the spool once it runs again.
    pub async fn look_after(&self, held: Vec<Ulid>) {
        let is_due = {
            let every = Duration::from_millis(self.keep_ms.load(Ordering::Relaxed)) / KEEPS;
            !every.is_zero() && self.kept.lock().elapsed() >= every
        };
        if is_due {
            *self.kept.lock() = Timer::start();
            for ids in held.chunks(KEEP_MAX) {
                let ids = ids.iter().map(Ulid::to_string).collect();
                // The gateway that held them may be gone, and they with it.
                let _: Result<KeepResult, Away> = self.rpc.call("mcp.keep", &KeepParams { ids }).await;
            }
        }
        self.undo().await;
        if self.spool.could_be_given_up() {
            let there: Result<KeepResult, Away> = self.rpc.call("mcp.keep", &KeepParams::default()).await;
            if there.is_ok() {
                self.spool.give_up();
            }
        }
    }

    /// Has calls voided that a silent gateway may have held. It may still be about to, so that it is asked more than once.
    async fn undo(&self) {
        let undone = std::mem::take(&mut *self.undone.lock());
        for (id, unknown) in undone {
            let end = EndParams {
                id: id.to_string(),
                ending: CallEnding::Unsent,
                ..EndParams::default()
            };
            let ended: Result<EndResult, Away> = self.rpc.call("mcp.settle", &end).await;
            let unknown = match ended {
                Ok(EndResult { ended: true }) => continue,
                Ok(EndResult { ended: false }) => unknown + 1,
                Err(_) => unknown,
            };
            if unknown < UNDO_MAX {
                self.undone.lock().push((id, unknown));
            }
        }
    }

    /// No call follows.
    pub fn close(&self) {
        self.spool.give_up();
    }
}

fn no_gateway(message: String) -> Refusal {
    Refusal::new(RefusalCode::NoGateway, message).retry_after(RETRY_S)
}

fn unheld(refusal: Refusal) -> Began {
    Began::Unheld(Box::new(refusal.retry_after(RETRY_S)))
}
