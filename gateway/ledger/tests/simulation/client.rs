//! Clients: scripts that wait at the ledger's `await`s and between, and may be dropped at any of them.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use agentledger_ledger::{
    Amounts, Answered, BillId, BooksError, Bound, Change, Denial, Facts, HoldId, Kind, Ledger, Mark, Name, Outcome,
    Settled, Settlement, Usage,
};
use rand::Rng;
use rand::rngs::StdRng;
use ulid::Ulid;

use crate::oracle::{Response, Shared, Tracked, usd};
use crate::seen;

pub type Client = Pin<Box<dyn Future<Output = ()>>>;

/// Polls once. Whether the client has come to its end.
pub fn poll(client: &mut Client) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    client.as_mut().poll(&mut context).is_ready()
}

/// Lets others go on.
async fn pause() {
    let mut was_polled = false;
    std::future::poll_fn(|_| match std::mem::replace(&mut was_polled, true) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

/// What a client has to do with.
pub struct Scene {
    pub ledger: Arc<Ledger>,
    pub oracle: Shared,
    pub bounds: Rc<Vec<Bound>>,
    /// Whether a hold counts as placed only when it is on disk.
    pub is_strict: bool,
    pub rng: StdRng,
}

impl Scene {
    async fn pauses(&mut self, most: u32) {
        for _ in 0..self.rng.random_range(0..=most) {
            pause().await;
        }
    }

    fn facts(&mut self) -> Facts {
        let at_ms = self.ledger.now_ms();
        let mut tags = BTreeMap::new();
        for tag in ["team", "run"] {
            if self.rng.random_bool(0.2) {
                tags.insert(tag.into(), format!("{}", self.rng.random_range(0..3)).into());
            }
        }
        let session = match self.rng.random_range(0..6) {
            0 => String::new(),
            number => format!("s{number}"),
        };
        Facts {
            id: Ulid::from_parts(u64::try_from(at_ms).unwrap_or(0), self.rng.random()),
            at_ms,
            provider: "openai".into(),
            operation: "responses".into(),
            requested_model: "gpt-x".into(),
            stream: true,
            key: if self.rng.random_bool(0.5) { "a" } else { "b" }.into(),
            tenant: "acme".into(),
            agent: "coder".into(),
            session: session.into(),
            user: "".into(),
            task: "".into(),
            tags,
            path: "/v1/responses".into(),
            inferred: Default::default(),
        }
    }

    fn bounds_of(&self, facts: &Facts) -> Vec<Bound> {
        let key = format!("key:{}", facts.key);
        let wanted = |bound: &&Bound| ["global", &key].contains(&&**bound.account());
        self.bounds.iter().filter(wanted).cloned().collect()
    }

    fn settlement(&self, cost: i64, tokens: u64) -> Settlement {
        Settlement {
            at_ms: self.ledger.now_ms(),
            outcome: Outcome::Completed,
            status: 200,
            model: "gpt-x-1".into(),
            usage: Usage::ZERO.with(Kind::Output, tokens),
            parts: vec![],
            reasoning: 0,
            cost: usd(cost),
            reported_cost: None,
            upper_bound: None,
            price: None,
            estimate_reason: None,
            verdict: vec![],
            duration_ms: 1,
            ttfb_ms: None,
            request_id: None,
            response_id: None,
        }
    }

    /// Steps 1 to 5 of an exchange: a place in the queue, then a hold, on disk.
    async fn hold(&mut self) -> Option<Tracked> {
        let permit = self.ledger.admit().await.ok()?;
        self.pauses(1).await;
        let facts = self.facts();
        let (bounds, key) = (self.bounds_of(&facts), facts.key.clone());
        let amounts = Amounts::of_request(usd(self.rng.random_range(0..900)), self.rng.random_range(0..500));
        let hold = match self
            .ledger
            .reserve(permit, facts, &bounds, amounts, &"named_max".into())
        {
            Ok(hold) => Tracked::new(hold, None, &self.ledger, &self.oracle),
            Err(BooksError::Refused(refusal)) => {
                assert!(
                    refusal.standing.left() < i128::from(refusal.requested),
                    "refused although there was room: {refusal:?}"
                );
                seen("a refusal");
                self.deny(&key);
                return None;
            }
            Err(BooksError::ClockAhead(_)) => {
                seen("the clock ahead");
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        let mut hold = hold;
        if self.rng.random_bool(0.8) {
            let id = hold.get().id();
            match hold.get().durable().await {
                Ok(()) if self.is_strict => self.oracle.borrow_mut().acknowledges(id.0),
                Ok(()) => {}
                // As the gateway does: the request is refused, and nothing was sent.
                Err(_) => {
                    hold.take().void("not_durable");
                    return None;
                }
            }
        }
        Some(hold)
    }

    fn deny(&mut self, key: &Name) {
        let is_counted = self.ledger.health().suspended.is_none();
        self.ledger.deny(&Denial {
            account: format!("key:{key}").into(),
            tenant: "acme".into(),
            reason: "budget_exceeded".into(),
            policy: "budget".into(),
        });
        self.oracle.borrow_mut().denied += u64::from(is_counted);
    }

    /// The hold has grown while the answer came.
    fn extend(&mut self, hold: &mut Tracked) {
        let step = Amounts {
            usd: usd(self.rng.random_range(1..400)),
            tokens: 50,
            requests: 0,
        };
        if let Ok(granted) = hold.get().extend(step) {
            assert!(granted.usd <= step.usd && granted.tokens <= 50 && granted.is_valid_hold());
            hold.extended();
        }
    }

    fn settled(&mut self, id: HoldId, settled: &Option<Settled>) {
        if let Some(settled) = settled {
            let mut oracle = self.oracle.borrow_mut();
            if oracle.voided.contains(&id) {
                assert_eq!(settled.entry.held, usd(0));
                seen("an answer entered after its hold was voided");
            }
            oracle.posts(settled.entry.settlement.cost);
            oracle.entries.push(settled.entry.facts.id);
        }
    }

    async fn is_durable(&mut self, id: HoldId, settled: Option<Settled>) {
        if let Some(settled) = settled
            && self.rng.random_bool(0.7)
            && settled.durable().await.is_ok()
        {
            let mut oracle = self.oracle.borrow_mut();
            // What was entered after it was voided bears another number.
            if !oracle.is_over && !oracle.voided.contains(&id) {
                oracle.acknowledged_settled.insert(id);
            }
        }
    }

    /// What a call costs that held `amounts`: now and then ten times that.
    fn cost(&mut self, amounts: &Amounts) -> (i64, u64) {
        let times = if self.rng.random_bool(0.1) { 10 } else { 1 };
        let most = amounts.usd.nanos().max(0) * times;
        (
            self.rng.random_range(0..=most),
            self.rng.random_range(0..=amounts.tokens.max(0) as u64),
        )
    }
}

/// One call, from its first byte to its last.
pub async fn exchange(mut scene: Scene) {
    let Some(mut hold) = scene.hold().await else { return };
    scene.pauses(3).await;
    for _ in 0..scene.rng.random_range(0..3) {
        scene.extend(&mut hold);
        pause().await;
    }
    let (id, amounts) = (hold.get().id(), hold.get().amounts());
    match scene.rng.random_range(0..8) {
        0 => hold.take().void("connect_failed"),
        1 => drop(hold),
        _ => {
            let (cost, tokens) = scene.cost(&amounts);
            let settled = hold.take().settle(scene.settlement(cost, tokens));
            let settled = Some(settled);
            scene.settled(id, &settled);
            scene.is_durable(id, settled).await;
        }
    }
}

/// A call whose work goes on in the background: its stream may end with the result, break, or be left.
pub async fn background(mut scene: Scene, number: usize) {
    let Some(mut hold) = scene.hold().await else { return };
    let (id, tenant) = (hold.get().id(), hold.get().facts().tenant.clone());
    let amounts = hold.get().amounts();
    let (cost, tokens) = scene.cost(&amounts);
    let response = Rc::new(Response {
        bill: BillId::of(&[&tenant, &format!("resp_{number}")]),
        cost,
        tokens,
    });
    // From here on others may fetch it.
    scene.oracle.borrow_mut().responses.push(Rc::clone(&response));
    let place = scene.oracle.borrow().responses.len() - 1;
    scene.pauses(4).await;
    if scene.rng.random_bool(0.5) {
        let settlement = scene.settlement(cost, tokens);
        let settled = hold.take().settle_bills(settlement, None, vec![response.bill]);
        if settled.is_none() {
            seen("a hold voided when its result was entered");
        }
        scene.settled(id, &settled);
        scene.is_durable(id, settled).await;
        return;
    }
    // The stream ends without its final event, or its client has left: the hold waits for who fetches it.
    if let Some(hold) = hold.take().defer(response.bill) {
        let hold = Tracked::new(hold, Some(response.bill), &scene.ledger, &scene.oracle);
        seen("a hold deferred");
        scene.oracle.borrow_mut().deferred.insert(place, hold);
    }
}

/// Fetches the result of a background call: perhaps while its stream runs, perhaps twice, perhaps months later.
pub async fn fetch(mut scene: Scene, place: usize) {
    let response = Rc::clone(&scene.oracle.borrow().responses[place]);
    let waiting = scene.oracle.borrow_mut().deferred.remove(&place);
    if let Some(mut waiting) = waiting {
        let id = waiting.get().id();
        let settlement = scene.settlement(response.cost, response.tokens);
        let settled = waiting.take().settle_bills(settlement, None, vec![response.bill]);
        scene.settled(id, &settled);
        return scene.is_durable(id, settled).await;
    }
    if scene.ledger.is_guessed(&response.bill) {
        let used = Amounts::of_request(usd(response.cost), response.tokens);
        if let Ok(Some(correction)) = scene.ledger.correct(&response.bill, &used, &"fetched".into()) {
            seen("a guess corrected");
            scene.oracle.borrow_mut().posts(correction.usd);
        }
        return;
    }
    if scene.ledger.is_billed(&response.bill) {
        return;
    }
    let Ok(permit) = scene.ledger.admit().await else { return };
    scene.pauses(2).await;
    let facts = scene.facts();
    let bounds = scene.bounds_of(&facts);
    let settlement = scene.settlement(response.cost, response.tokens);
    let entered = scene
        .ledger
        .enter(
            permit,
            facts,
            &bounds,
            settlement,
            "fetched".into(),
            vec![response.bill],
        )
        .unwrap();
    scene.settled(HoldId(0), &entered);
    seen(match entered {
        Some(_) => "a result entered without a hold",
        None => "a result that was billed already",
    });
    if let Some(entered) = entered {
        let _ = entered.durable().await;
    }
}

/// Nobody fetched it in time: what was held is spent.
pub fn give_up(oracle: &Shared, place: usize) {
    let waiting = oracle.borrow_mut().deferred.remove(&place);
    drop(waiting);
}

/// An operator marks a session, audited or not.
pub async fn mark(mut scene: Scene) {
    let session: Name = format!("s{}", scene.rng.random_range(1..6)).into();
    let mark = Mark::ALL[scene.rng.random_range(0..Mark::ALL.len())];
    let sequence = match scene.rng.random_bool(0.5) {
        true => scene.ledger.mark_session(&"acme".into(), &session, mark),
        false => {
            let request = scene.request();
            let change = |_| told(request, &format!("session:{session}"), None);
            match scene
                .ledger
                .mark_session_audited(&"acme".into(), &session, mark, change)
            {
                Ok(sequence) => sequence,
                Err(_) => return,
            }
        }
    };
    if scene.ledger.durable(sequence).await.is_ok() {
        scene.oracle.borrow_mut().acknowledges(sequence);
    }
}

/// The change that tells of a request.
fn told(request: u64, subject: &str, after: Option<Name>) -> Change {
    Change {
        id: Ulid::from_parts(0, u128::from(request)),
        at_ms: i64::MAX,
        author: "ops".into(),
        peer: "socket".into(),
        action: subject.split(':').next().unwrap_or_default().into(),
        subject: subject.into(),
        tenant: "".into(),
        note: "".into(),
        before: None,
        kept: after.is_some() || subject.starts_with("rule:"),
        min_version: 0,
        after,
        request: Some(Answered {
            id: request.to_string().into(),
            digest: [0; 32],
            answer: request.to_string().into(),
        }),
    }
}

impl Scene {
    fn request(&self) -> u64 {
        let mut oracle = self.oracle.borrow_mut();
        oracle.requests += 1;
        oracle.requests
    }
}

/// An operator puts a rule, or takes one away.
pub async fn change(mut scene: Scene) {
    let request = scene.request();
    let subject: Name = format!("rule:{}", scene.rng.random_range(0..5)).into();
    let value = scene
        .rng
        .random_bool(0.8)
        .then(|| Name::from("x".repeat(scene.rng.random_range(0..9_000))));
    let Ok(sequence) = scene.ledger.change(told(request, &subject, value.clone())) else {
        return;
    };
    seen("a change");
    scene.oracle.borrow_mut().changes(&subject, value.as_ref());
    let answered = scene.ledger.answered("ops", &request.to_string());
    assert!(answered.is_some_and(|(_, answer)| *answer == *request.to_string()));
    if scene.ledger.durable(sequence).await.is_ok() {
        scene.oracle.borrow_mut().acknowledges(sequence);
    }
}

/// An operator voids a hold that looks stuck, whoever has it.
pub async fn void(mut scene: Scene) {
    let open: Vec<HoldId> = scene.oracle.borrow().open.keys().copied().collect();
    if open.is_empty() {
        return;
    }
    let hold = open[scene.rng.random_range(0..open.len())];
    let request = scene.request();
    let reason = format!("request-{request}");
    let voided = match scene.rng.random_bool(0.5) {
        true => scene.ledger.void(hold, "stuck"),
        false => scene
            .ledger
            .void_audited(hold, &reason, |_| told(request, &format!("hold:{}", hold.0), None)),
    };
    let Ok(sequence) = voided else { return };
    seen("a hold voided by an operator");
    {
        let mut oracle = scene.oracle.borrow_mut();
        oracle.open.remove(&hold);
        oracle.voided.insert(hold);
    }
    if scene.ledger.durable(sequence).await.is_ok() {
        scene.oracle.borrow_mut().acknowledges(sequence);
    }
}

/// Somebody corrects an entry by an invoice: a request that is made again until it is known to be answered, and corrects once.
pub async fn adjust(mut scene: Scene) {
    let again = {
        let mut oracle = scene.oracle.borrow_mut();
        match oracle.unanswered.is_empty() {
            true => None,
            false => Some(oracle.unanswered.swap_remove(0)),
        }
    };
    let (request, entry) = match again {
        Some(again) => again,
        None => {
            let request = scene.request();
            let oracle = scene.oracle.borrow();
            if oracle.entries.is_empty() {
                return;
            }
            (request, oracle.entries[scene.rng.random_range(0..oracle.entries.len())])
        }
    };
    if scene.ledger.answered("ops", &request.to_string()).is_some() {
        seen("a request answered again");
        return;
    }
    let delta = usd(scene.rng.random_range(1..50) * if scene.rng.random_bool(0.5) { 1 } else { -1 });
    let reason = format!("request-{request}");
    let told = |_| told(request, &format!("entry:{entry}"), None);
    // It may not be on disk yet, or no more.
    let Ok(sequence) = scene.ledger.adjust_audited(entry, delta, &reason, told) else {
        return;
    };
    seen("an entry adjusted");
    scene.oracle.borrow_mut().posts(delta);
    // Until it is known to be on disk, whoever asked for it does not know whether it was done.
    scene.oracle.borrow_mut().unanswered.push((request, entry));
    if scene.ledger.durable(sequence).await.is_ok() {
        let mut oracle = scene.oracle.borrow_mut();
        oracle.acknowledges(sequence);
        if !oracle.is_over {
            oracle.unanswered.retain(|(known, _)| *known != request);
        }
    }
}

/// Refusals, some of them alike.
pub async fn denied(mut scene: Scene) {
    for _ in 0..scene.rng.random_range(1..4) {
        let key = if scene.rng.random_bool(0.7) { "a" } else { "b" };
        scene.deny(&key.into());
        scene.pauses(1).await;
    }
}
