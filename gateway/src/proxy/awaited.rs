//! Work that goes on at a provider after its answer: the hold waits here until the result is fetched, or until it has waited
//! too long. Each ends exactly once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use agentledger_ledger::{BillId, Entry, Hold, Name, Settlement};
use parking_lot::Mutex;

use crate::meter::{Text, reason};
use crate::proxy::exchange::Exchange;
use crate::proxy::gateway::Gateway;
use crate::proxy::report;

/// An exchange whose result is still to be fetched.
pub struct Waiting {
    pub exchange: Box<Exchange>,
    pub hold: Hold,
    pub verdict: Vec<Name>,
    /// The request's input as estimated for the hold.
    pub input_tokens: u64,
    pub ttfb_ms: Option<u64>,
}

/// All that wait, and who fetches results right now.
#[derive(Default)]
pub struct Awaited {
    waiting: Mutex<HashMap<BillId, Waiting>>,
    turns: Mutex<HashMap<BillId, Arc<tokio::sync::Mutex<()>>>>,
}

impl Awaited {
    /// Ends a waiting exchange. Under the lock, so that of two fetches of one result one ends it and the other finds it
    /// billed. `None`: nothing waits for this.
    pub fn end<T>(&self, bill: &BillId, end: impl FnOnce(Waiting) -> T) -> Option<T> {
        let mut waiting = self.waiting.lock();
        waiting.remove(bill).map(end)
    }

    pub fn len(&self) -> usize {
        self.waiting.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One turn after the other for results that are billed line by line: a second fetch must see what the first billed.
    pub async fn turn(&self, bill: BillId) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = Arc::clone(self.turns.lock().entry(bill).or_default());
        let guard = turn.lock_owned().await;
        // Who waits, or has its turn, holds a handle of its own.
        self.turns.lock().retain(|_, turn| Arc::strong_count(turn) > 1);
        guard
    }
}

/// Lets a hold wait for the result with this id. After `limits.background_wait_ms` it is entered as spent.
pub fn wait_for(gateway: &Arc<Gateway>, bill: BillId, mut waiting: Waiting) {
    let limits = &waiting.exchange.rules.config.limits;
    let patience = Duration::from_millis(limits.background_wait_ms);
    if gateway.awaited.len() >= limits.background_holds_max {
        tracing::warn!("too many background requests wait for their results: this one is entered at what it held");
        let (entry, trace) = give_up(gateway, waiting, vec![bill]);
        return report::settled(gateway, entry, &trace);
    }
    waiting.hold.defer(bill);
    // Of the request only its facts are needed any more.
    waiting.exchange.inspected.text = Text::default();
    waiting.exchange.step = None;
    waiting.exchange.session_end = None;
    gateway.awaited.waiting.lock().insert(bill, waiting);
    let gateway = Arc::downgrade(gateway);
    tokio::spawn(async move {
        tokio::time::sleep(patience).await;
        let Some(gateway) = gateway.upgrade() else { return };
        let gave_up = |waiting| give_up(&gateway, waiting, vec![bill]);
        if let Some((entry, trace)) = gateway.awaited.end(&bill, gave_up) {
            report::settled(&gateway, entry, &trace);
        }
    });
}

/// The result was not fetched in time: what was held is taken as spent, until a later fetch corrects it. The entry, and the
/// trace of its request.
fn give_up(gateway: &Gateway, waiting: Waiting, bills: Vec<BillId>) -> (Entry, Name) {
    let Waiting {
        exchange,
        hold,
        verdict,
        ttfb_ms,
        ..
    } = waiting;
    let (at_ms, reason) = (gateway.clock.now_ms(), Name::from(reason::NOT_FETCHED));
    let settlement = Settlement {
        status: 200,
        verdict,
        duration_ms: exchange.elapsed_ms(),
        ttfb_ms,
        response_id: exchange.ids.response.clone(),
        request_id: exchange.ids.request.clone(),
        ..Settlement::recovered(at_ms, hold.facts(), hold.held(), reason)
    };
    let entry = hold.settle_bills(settlement, None, bills).entry;
    (entry, exchange.identity.trace)
}
