//! Work that goes on at a provider after its answer: the hold waits here until the result is fetched, or until it has waited
//! too long. Each ends exactly once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use agentledger_ledger::{BillId, Entry, Hold, Name, Outcome, Settlement, Usage};
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
        if let Some((entry, trace)) = give_up(gateway, waiting, vec![bill]) {
            report::settled(gateway, entry, &trace);
        }
        return;
    }
    // Else it was fetched, and entered, while its stream was still running here.
    let Some(hold) = waiting.hold.defer(bill) else { return };
    waiting.hold = hold;
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
        if let Some((entry, trace)) = gateway.awaited.end(&bill, gave_up).flatten() {
            report::settled(&gateway, entry, &trace);
        }
    });
}

/// The result was not fetched in time: what was held is taken as spent, until a later fetch corrects it. The entry, and the
/// trace of its request.
fn give_up(gateway: &Gateway, waiting: Waiting, bills: Vec<BillId>) -> Option<(Entry, Name)> {
    let Waiting {
        exchange,
        hold,
        verdict,
        ttfb_ms,
        ..
    } = waiting;
    let settlement = Settlement {
        at_ms: gateway.clock.now_ms(),
        outcome: Outcome::Recovered,
        status: 200,
        model: Name::from(exchange.inspected.call.model.as_str()),
        usage: Usage::default(),
        parts: Vec::new(),
        reasoning: 0,
        cost: hold.held(),
        reported_cost: None,
        upper_bound: Some(hold.held()),
        price: None,
        estimate_reason: Some(Name::from(reason::NOT_FETCHED)),
        verdict,
        duration_ms: u64::try_from(exchange.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        ttfb_ms,
    };
    let settled = hold.settle_bills(settlement, None, bills)?;
    Some((settled.entry, exchange.identity.trace))
}
