//! Calls whose answer comes by another way than the answer to their request: on a stream that is resumed, or on the one stream
//! of the older transport; in the next round of a call that asked for input; as a task's result. Their holds wait here, boundedly,
//! and each ends once.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use agentledger_ledger::Outcome;
use parking_lot::Mutex;

use super::call::OpenCall;
use crate::estimate_reason;
use crate::proxy::shared::gateway::Gateway;
use crate::tasks::spawn_named;
use crate::timer::Timer;

/// The status of what was accepted, and never answered.
const ACCEPTED: u16 = 202;

/// By what a call that waits is found: a hash of what names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WaitKey([u8; 32]);

impl WaitKey {
    /// The answer to the request with this id, on a channel.
    pub fn answer(channel: &str, id: &str) -> WaitKey {
        WaitKey::of(&["answer", channel, id])
    }

    /// A channel itself.
    pub fn channel(channel: &str) -> WaitKey {
        WaitKey::of(&["channel", channel])
    }

    /// The next round of a call: by the same caller, of the same tool with the same arguments, and with the state that the server
    /// gave.
    pub fn round(channel: &str, tool: &str, arguments: &blake3::Hash, state: &str) -> WaitKey {
        WaitKey::of(&["round", channel, tool, &arguments.to_hex(), state])
    }

    /// A task's result.
    pub fn task(channel: &str, task: &str) -> WaitKey {
        WaitKey::of(&["task", channel, task])
    }

    fn of(parts: &[&str]) -> WaitKey {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            // Its length goes first: two lists of parts are not one that reads like both.
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        WaitKey(*hasher.finalize().as_bytes())
    }
}

/// All calls that wait.
#[derive(Default)]
pub struct WaitingCalls {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Of those that wait under one key, the first is found first.
    calls: HashMap<WaitKey, VecDeque<(u64, OpenCall)>>,
    count: usize,
}

impl State {
    fn take(&mut self, key: &WaitKey, fits: impl Fn(u64) -> bool) -> Option<OpenCall> {
        let calls = self.calls.get_mut(key)?;
        let at = calls.iter().position(|(serial, _)| fits(*serial))?;
        let (_, call) = calls.remove(at)?;
        if calls.is_empty() {
            self.calls.remove(key);
        }
        self.count -= 1;
        Some(call)
    }
}

impl WaitingCalls {
    /// Takes a call out that waits under this key.
    pub fn take(&self, key: &WaitKey) -> Option<OpenCall> {
        self.state.lock().take(key, |_| true)
    }

    /// Its client wants no answer any more: what it held is entered as spent, since the server has it.
    pub fn abandon(&self, gateway: &Gateway, key: &WaitKey) {
        if let Some(call) = self.take(key) {
            call.unseen(gateway, Outcome::ClientGone, ACCEPTED, estimate_reason::CLIENT_GONE);
        }
    }

    /// Lets a call wait. Where too many wait already, or it has waited for long enough in its earlier rounds, it is entered as
    /// spent at once. Two that wait under one key cannot be told apart: the first answer, or the next round, is the first one's.
    pub fn put(self: &Arc<Self>, gateway: &Arc<Gateway>, key: WaitKey, mut call: OpenCall) {
        let config = &call.exchange.rules.config;
        call.waits_for = Some(key);
        let since = *call.waits_since.get_or_insert_with(Timer::start);
        let left = config.mcp.answer_wait.saturating_sub(since.elapsed());
        let serial = rand::random();
        let before = {
            let mut state = self.state.lock();
            if state.count >= config.limits.background_holds_max || left.is_zero() {
                Some(call)
            } else {
                state.calls.entry(key).or_default().push_back((serial, call));
                state.count += 1;
                None
            }
        };
        if let Some(before) = before {
            return give_up(gateway, before);
        }
        let (waiting, gateway) = (Arc::downgrade(self), Arc::downgrade(gateway));
        spawn_named("waiting-tool-call", async move {
            tokio::time::sleep(left).await;
            let Some((waiting, gateway)) = waiting.upgrade().zip(gateway.upgrade()) else {
                return;
            };
            let late = waiting.state.lock().take(&key, |known| known == serial);
            if let Some(late) = late {
                give_up(&gateway, late);
            }
        });
    }
}

/// It was never answered, as far as anybody saw.
pub fn give_up(gateway: &Gateway, call: OpenCall) {
    tracing::warn!(
        id = %call.exchange.id,
        model = call.exchange.inspected.call.model,
        "a tool call was not answered in time: it is entered at what it held"
    );
    call.unseen(gateway, Outcome::Recovered, ACCEPTED, estimate_reason::NOT_ANSWERED);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_different_things_differ() {
        assert_eq!(WaitKey::answer("c", "n1"), WaitKey::answer("c", "n1"));
        assert_ne!(WaitKey::answer("c", "n1"), WaitKey::answer("cn", "1"));
        assert_ne!(WaitKey::answer("c", "n1"), WaitKey::task("c", "n1"));
        let round = |arguments: &[u8]| WaitKey::round("c", "t", &blake3::hash(arguments), "s");
        assert_ne!(round(b"{}"), round(b"{ }"));
    }
}
