//! The answers that run on one connection: each has an Exchange, a Hold and a Meter of its own, and ends exactly once,
//! whatever becomes of the connection.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use agentledger_ledger::{Amounts, Bound, Hold, Kind, Mode, Name, Usd};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use ulid::Ulid;

use super::open_answers::{AnswerStop, Busy, ConnectionState, HeldAnswer, HeldBack, OpenAnswer, Setting, UnsentAnswer};
use super::upgrade::ConnectionIdentity;
use crate::meter::frames::websocket::Message;
use crate::meter::{End, Meter, Metered, SoundOrText, sound_tokens};
use crate::plugin::outline::Outline;
use crate::plugin::{Meaning, Medium, Step};
use crate::proxy::forward::edited_body;
use crate::proxy::inspect::inspect;
use crate::proxy::reserve::extend::wait_covered;
use crate::proxy::reserve::place::WaitPolicy;
use crate::proxy::reserve::{self, Reservation, estimate};
use crate::proxy::settle::{AnswerEnd, settle, settlement};
use crate::proxy::shared::allowance::Uncovered;
use crate::proxy::shared::body::Body;
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::drain::DrainPhase;
use crate::proxy::shared::exchange::Exchange;
use crate::proxy::shared::expected_use::ExpectedUse;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::inspected::Inspected;
use crate::proxy::shared::reply::Refusal;
use crate::proxy::shared::rules::Rules;
use crate::proxy::{decide, report, session};
use crate::tasks::spawn_named;
use crate::telemetry::Running;
use crate::timer::Timer;

/// Answers that one connection may have requested and not got. Providers stop far below.
const ANSWERS_MAX: usize = 64;
/// Base64 bytes of sound that are one token when a client speaks, on the low side: 10 tokens a second
/// (https://platform.openai.com/docs/guides/realtime-costs), at least 10,667 bytes where it is telephone quality (G.711).
const HEARD_BYTES_PER_TOKEN: u64 = 1_066;
const STATUS_OK: u16 = 200;
/// Of an answer that was refused, where the provider says no status.
const STATUS_REFUSED: u16 = 400;

/// What to write upstream, and the answer that it requests.
pub struct AdmittedMessage {
    pub id: Ulid,
    pub message: Bytes,
}

/// Whether a part of an answer goes on to the client.
pub enum Passing {
    Pass,
    Drop,
    /// Passes, and is the last that does.
    Last(AnswerStop),
    /// Held back, with what its answer says from here on, until [`ConnectionAnswers::covered`] says what becomes of them.
    Wait(Ulid, Uncovered),
    /// Held back with others before it.
    Held,
}

/// What becomes of an answer that waited for others' holds.
pub enum Waited {
    /// It goes on, with what was held back of it.
    GoesOn(Vec<Message>),
    Ends(AnswerStop),
}

/// An answer that was running when its connection ended, for the client to know.
pub struct UnfinishedAnswer {
    pub answer: Option<String>,
    pub echo: Option<String>,
}

pub struct ConnectionAnswers {
    gateway: Arc<Gateway>,
    who: ConnectionIdentity,
    state: Mutex<ConnectionState>,
    running: watch::Sender<usize>,
}

impl ConnectionAnswers {
    pub fn new(gateway: &Arc<Gateway>, who: ConnectionIdentity) -> ConnectionAnswers {
        let setting = Setting {
            model: who.model.clone().or_else(|| who.target.path_model.clone()),
            ..Setting::default()
        };
        ConnectionAnswers {
            gateway: Arc::clone(gateway),
            who,
            state: Mutex::new(ConnectionState {
                setting,
                ..ConnectionState::default()
            }),
            running: watch::Sender::new(0),
        }
    }

    pub fn who(&self) -> &ConnectionIdentity {
        &self.who
    }

    pub fn is_running(&self) -> bool {
        *self.running.borrow() > 0
    }

    /// Returns when no answer runs.
    pub async fn quiet(&self) {
        // The sender lives in `self`, so this cannot fail.
        let _ = self.running.subscribe().wait_for(|count| *count == 0).await;
    }

    /// A message of the client's that requests nothing: it is part of the next answer's input.
    pub fn heard(&self, outline: &Outline) {
        let mut state = self.state.lock();
        let setting = &mut state.setting;
        setting.heard_text_bytes = setting.heard_text_bytes.saturating_add(outline.text_bytes);
        let (_, sound) = outline.medium(Medium::Audio);
        setting.heard_sound_bytes = setting.heard_sound_bytes.saturating_add(sound);
        let (pictures, _) = outline.medium(Medium::Image);
        let each = self.gateway.rules.load().config.hold.allowances.get("image").copied();
        let pictures = u64::from(pictures).saturating_mul(each.unwrap_or(0));
        setting.kept_tokens = setting.kept_tokens.saturating_add(pictures);
    }

    pub fn set(&self, meaning: &Meaning) {
        let mut state = self.state.lock();
        if meaning.model.is_some() {
            state.setting.model.clone_from(&meaning.model);
        }
        state.setting.aside_model.clone_from(&meaning.aside_model);
        state.setting.max_output = meaning.max_output;
    }

    /// The client requests an answer: it is held before a byte of the message leaves.
    ///
    /// # Errors
    /// Why there is no answer to be had: nothing was held and nothing was sent.
    pub async fn request(&self, message: Bytes, meaning: &Meaning) -> Result<AdmittedMessage, Refusal> {
        let busy = Busy::new(&self.running);
        if self.gateway.drain.phase() > DrainPhase::Running {
            return Err(Refusal::going_down());
        }
        if self.state.lock().open.len() >= ANSWERS_MAX {
            let message = "too many answers are asked for on this connection at one time";
            return Err(Refusal::new(RefusalCode::TooManyAnswers, message).retry_after(1));
        }
        let rules = self.gateway.rules.load_full();
        let target = crate::proxy::shared::identity::Target {
            path_model: self.state.lock().setting.model.clone(),
            ..self.who.target.clone()
        };
        let (body, limits) = (Body::own(message), &rules.config.limits);
        let mut inspected = inspect(&self.gateway, &self.who.header, &target, body, limits)?;
        if target.path_model.is_some() || inspected.call.continues {
            inspected.kept_tokens = self.kept_tokens(&inspected.call.model);
        }
        let mut exchange = self.exchange(&rules, inspected);
        let guards = self.guards(busy);
        let reserved = self.hold(&mut exchange, Some(rules.config.hold.wait)).await?;
        let edited = edited_body(&exchange, &reserved.changes);
        let mut unsent = UnsentAnswer(Some(reserved.into()));
        let (message, ..) = edited?;
        if let Some(held) = &unsent.0 {
            let durable = held.hold.durable().await;
            durable.map_err(|error| Refusal::ledger_stopped(&error))?;
        }
        exchange.inspected.release_body();
        let id = exchange.id;
        if let Some(held) = unsent.0.take() {
            self.open(exchange, held, guards, meaning);
        }
        Ok(AdmittedMessage { id, message })
    }

    /// The requesting message was written: what it requests may be billed.
    pub fn sent(&self, id: Ulid) {
        if let Some(open_answer) = self
            .state
            .lock()
            .open
            .iter_mut()
            .find(|open_answer| open_answer.id == id)
        {
            open_answer.sent = true;
        }
    }

    /// The server begins an answer: the first of its lane that was requested, or one that nobody requested, which is held
    /// now. `Some`: there is no money for it; it is to be stopped, and settled at what it is billed for until then.
    pub async fn begin(self: &Arc<Self>, meaning: &Meaning, data: &Bytes, outline: Outline) -> Option<AnswerStop> {
        {
            let mut state = self.state.lock();
            let waiting = state
                .open
                .iter_mut()
                .find(|open_answer| !open_answer.begun && open_answer.lane == meaning.lane);
            if let Some(open_answer) = waiting {
                open_answer.begin(meaning);
                open_answer.meter.message(data, outline, SoundOrText::Text, true);
                return None;
            }
        }
        // On a task of its own: it is billed from its first token on, also where the client leaves before it is held.
        let (answers, meaning, data) = (Arc::clone(self), meaning.clone(), data.clone());
        let begin = async move { answers.begin_unrequested(&meaning, &data, outline).await };
        spawn_named("unrequested-answer", begin).await.ok().flatten()
    }

    async fn begin_unrequested(&self, meaning: &Meaning, data: &[u8], outline: Outline) -> Option<AnswerStop> {
        let _in_flight = self.gateway.drain.enter();
        let busy = Busy::new(&self.running);
        let rules = self.gateway.rules.load_full();
        let mut exchange = self.unasked(&rules, meaning);
        let guards = self.guards(busy);
        let (held, refusal) = match self.hold(&mut exchange, None).await {
            Ok(reserved) => (reserved.into(), None),
            Err(refusal) => (self.uncovered(&mut exchange).await?, Some(refusal)),
        };
        let id = exchange.id;
        self.open(exchange, held, guards, meaning);
        let mut state = self.state.lock();
        let open_answer = state.open.iter_mut().find(|open_answer| open_answer.id == id)?;
        open_answer.begin(meaning);
        open_answer.meter.message(data, outline, SoundOrText::Text, true);
        if state.over.is_some() {
            self.end_open(&mut state);
            return None;
        }
        let open_answer = state.open.iter_mut().find(|open_answer| open_answer.id == id)?;
        let refusal = refusal?;
        report::refused(&self.gateway, &self.who.endpoint().provider.name, &refusal);
        let stop = open_answer.cut(refusal.message);
        self.end_if_unstoppable(&mut state, id);
        Some(stop)
    }

    /// A part of an answer.
    pub fn part(&self, meaning: &Meaning, message: &Message, data: &[u8], outline: Outline) -> Passing {
        let mut state = self.state.lock();
        let Some(open_answer) = state.find(meaning).and_then(|at| state.open.get_mut(at)) else {
            return Passing::Pass;
        };
        open_answer
            .ttfb_ms
            .get_or_insert_with(|| open_answer.exchange.started.elapsed_ms());
        let kind = if meaning.step == Step::Sound {
            SoundOrText::Sound
        } else {
            SoundOrText::Text
        };
        let passed = open_answer.meter.message(data, outline, kind, false);
        if open_answer.cut {
            return Passing::Drop;
        }
        let said = (passed.text_bytes, sound_tokens(passed.sound_bytes));
        let id = open_answer.id;
        let uncovered = if let Some(held_back) = &mut open_answer.held_back {
            if held_back.keep(message.clone(), said) {
                return Passing::Held;
            }
            // Too much to wait with.
            Uncovered::Held(Name::from(""))
        } else {
            match open_answer.covers(said) {
                Ok(()) => return Passing::Pass,
                Err(uncovered @ Uncovered::Held(_)) => {
                    let mut held_back = HeldBack::default();
                    held_back.keep(message.clone(), said);
                    open_answer.held_back = Some(held_back);
                    return Passing::Wait(id, uncovered);
                }
                Err(uncovered) => uncovered,
            }
        };
        let stop = open_answer.cut(uncovered.message().to_owned());
        self.end_if_unstoppable(&mut state, id);
        Passing::Last(stop)
    }

    /// Waits until an answer that only others' holds keep from going on may go on, as the stream of a request does. `None`: it has
    /// ended meanwhile.
    pub async fn covered(&self, id: Ulid, uncovered: Uncovered) -> Option<Waited> {
        let longest = self.gateway.rules.load().config.hold.wait;
        let again = || {
            let mut state = self.state.lock();
            let open_answer = state.waiting(id)?;
            let said = open_answer.held_back.as_ref().map(HeldBack::said)?;
            open_answer.covers(said).err()
        };
        let uncovered = wait_covered(&self.gateway.ledger, longest, uncovered, again).await;
        let mut state = self.state.lock();
        let open_answer = state.waiting(id)?;
        let Some(uncovered) = uncovered else {
            return Some(Waited::GoesOn(open_answer.let_go()));
        };
        let stop = open_answer.cut(uncovered.message().to_owned());
        self.end_if_unstoppable(&mut state, id);
        Some(Waited::Ends(stop))
    }

    /// The last message of an answer: it is settled before the client sees it. What was held back of it until then, for it is billed
    /// in full.
    pub fn end(&self, meaning: &Meaning, data: &[u8], outline: Outline) -> Vec<Message> {
        let mut state = self.state.lock();
        let Some(at) = state.find(meaning) else {
            return Vec::new();
        };
        let mut open_answer = state.open.remove(at);
        open_answer
            .ttfb_ms
            .get_or_insert_with(|| open_answer.exchange.started.elapsed_ms());
        open_answer.meter.message(data, outline, SoundOrText::Text, true);
        let end = if open_answer.cut { End::Cut } else { End::Completed };
        let held_back = open_answer.let_go();
        self.settle(
            &mut state.setting,
            open_answer,
            end,
            meaning.status.unwrap_or(STATUS_OK),
        );
        held_back
    }

    /// The server refuses what was requested.
    pub fn refuse(&self, meaning: &Meaning, data: &[u8], outline: Outline) {
        let mut state = self.state.lock();
        let asked = |open_answer: &OpenAnswer| !open_answer.begun && open_answer.requested_by == meaning.asked_by;
        let Some(at) = state.open.iter().position(asked) else {
            return;
        };
        let mut open_answer = state.open.remove(at);
        open_answer.meter.message(data, outline, SoundOrText::Text, true);
        let status = meaning.status.unwrap_or(STATUS_REFUSED);
        self.settle(&mut state.setting, open_answer, End::Completed, status);
    }

    /// Something was billed beside the answers: entered at once, at what it cost, also where the client leaves meanwhile.
    pub async fn aside(self: &Arc<Self>, data: &Bytes, outline: Outline) {
        let (answers, data) = (Arc::clone(self), data.clone());
        let enter = async move { answers.enter_aside(&data, outline).await };
        // A panic has been logged where it happened.
        let _ = spawn_named("billed-aside", enter).await;
    }

    async fn enter_aside(&self, data: &[u8], outline: Outline) {
        let _in_flight = self.gateway.drain.enter();
        let rules = self.gateway.rules.load_full();
        let model = {
            let state = self.state.lock();
            let setting = &state.setting;
            setting.aside_model.clone().or_else(|| setting.model.clone())
        };
        let mut inspected = Inspected::plain(Body::own(Bytes::new()), model);
        inspected.has_media = true;
        let mut exchange = self.exchange(&rules, inspected);
        if let Err(refusal) = decide::bind(&self.gateway, &mut exchange) {
            tracing::warn!(
                code = refusal.code.as_str(),
                "what is billed already is entered without a tenant"
            );
        }
        let mut meter = self.meter(&exchange);
        meter.message(data, outline, SoundOrText::Text, true);
        let metered = meter.finish(&mut |_| {});
        report::answer_read(&self.gateway, self.who.endpoint(), &metered);
        let ended = AnswerEnd {
            end: End::Completed,
            status: STATUS_OK,
            ttfb_ms: None,
            verdict: &[],
            expected: ExpectedUse::default(),
            held: Usd::ZERO,
        };
        let cost = settlement(&self.gateway, &exchange, &metered, &ended).cost;
        let tokens = tokens_of(&metered);
        if let Some(hold) = self.book(&mut exchange, Amounts::of_request(cost, tokens)).await {
            settle(&self.gateway, &mut exchange, hold, None, &metered, &ended);
        }
    }

    /// The connection ends: so does every answer on it. What was never written upstream is void.
    pub fn end_all(&self, end: End) -> Vec<UnfinishedAnswer> {
        let mut state = self.state.lock();
        state.over.get_or_insert(end);
        self.end_open(&mut state)
    }

    fn end_open(&self, state: &mut ConnectionState) -> Vec<UnfinishedAnswer> {
        let mut left = Vec::new();
        let end = state.over.unwrap_or(End::Completed);
        for open_answer in std::mem::take(&mut state.open) {
            if !open_answer.sent {
                open_answer.held.hold.void("not_forwarded");
                continue;
            }
            left.push(UnfinishedAnswer {
                answer: open_answer.answer.clone(),
                echo: open_answer.echo.clone(),
            });
            let end = if open_answer.cut { End::Cut } else { end };
            self.settle(&mut state.setting, open_answer, end, STATUS_OK);
        }
        left
    }

    /// An answer that only the end of its connection stops is settled when it is cut.
    fn end_if_unstoppable(&self, state: &mut ConnectionState, id: Ulid) {
        let unstoppable = |open_answer: &OpenAnswer| open_answer.id == id && open_answer.cancel.is_none();
        if let Some(at) = state.open.iter().position(unstoppable) {
            let open_answer = state.open.remove(at);
            self.settle(&mut state.setting, open_answer, End::Cut, STATUS_OK);
        }
    }

    fn settle(&self, setting: &mut Setting, mut open_answer: OpenAnswer, end: End, status: u16) {
        let metered = open_answer.meter.finish(&mut |_| {});
        report::answer_read(&self.gateway, self.who.endpoint(), &metered);
        if !metered.parts.is_empty() {
            setting.kept_tokens = tokens_of(&metered);
            (setting.heard_text_bytes, setting.heard_sound_bytes) = (0, 0);
        }
        let ended = AnswerEnd {
            end,
            status,
            ttfb_ms: open_answer.ttfb_ms,
            verdict: &open_answer.held.verdict,
            expected: open_answer.held.expected,
            held: open_answer.held.hold.held(),
        };
        let (hold, rates) = (open_answer.held.hold, open_answer.held.rates.as_mut());
        settle(&self.gateway, &mut open_answer.exchange, hold, rates, &metered, &ended);
    }

    /// What the connection keeps of its answers so far, and what was said since.
    fn kept_tokens(&self, model: &str) -> u64 {
        let state = self.state.lock();
        let setting = &state.setting;
        let text = self
            .gateway
            .estimator
            .input_tokens_of_bytes(model, setting.heard_text_bytes);
        let sound = setting.heard_sound_bytes.div_ceil(HEARD_BYTES_PER_TOKEN);
        setting.kept_tokens.saturating_add(text.tokens).saturating_add(sound)
    }

    fn exchange(&self, rules: &Arc<Rules>, mut inspected: Inspected) -> Exchange {
        inspected.over_socket = true;
        // What was said before teaches nothing of how long this message's text is in tokens.
        inspected.has_media |= inspected.kept_tokens > 0;
        let at_ms = self.gateway.clock.now_ms();
        let id = Ulid::from_parts(u64::try_from(at_ms).unwrap_or_default(), rand::random());
        let (target, identity) = (self.who.target.clone(), self.who.identity.clone());
        let (rules, header) = (Arc::clone(rules), &self.who.header);
        let mut exchange = Exchange::new(id, at_ms, Timer::start(), rules, target, identity, header, inspected);
        exchange.ids.clone_from(&self.who.handshake.ids);
        exchange
    }

    /// An answer that the server began by itself: as long as the settings allow, over all that was said.
    fn unasked(&self, rules: &Arc<Rules>, meaning: &Meaning) -> Exchange {
        let (model, max_output) = {
            let state = self.state.lock();
            let model = meaning.model.clone().or_else(|| state.setting.model.clone());
            (model.unwrap_or_default(), state.setting.max_output)
        };
        let kept_tokens = self.kept_tokens(&model);
        let mut inspected = Inspected::plain(Body::own(Bytes::new()), Some(model));
        inspected.call.stream = true;
        inspected.call.max_output = max_output;
        inspected.kept_tokens = kept_tokens;
        self.exchange(rules, inspected)
    }

    fn guards(&self, busy: Busy) -> (Running, Running, Busy) {
        let running = report::begun(&self.gateway);
        (running, self.gateway.metrics.stream_opened(), busy)
    }

    fn meter(&self, exchange: &Exchange) -> Meter {
        let reader = Arc::clone(&exchange.endpoint.reader);
        Meter::of_messages(reader, exchange.operation.clone(), &exchange.rules.config.limits)
    }

    /// `longest`: how long it may wait for others' holds. `None`: it runs already, and with it all that the connection relays
    /// would wait, so that nothing holds it back.
    async fn hold(&self, exchange: &mut Exchange, longest: Option<Duration>) -> Result<Reservation, Refusal> {
        let held = self.try_hold(exchange, longest).await;
        // What runs already is entered all the same.
        if let Some(refusal) = held.as_ref().err().filter(|_| longest.is_some()) {
            report::not_entered(&self.gateway, exchange, refusal);
        }
        held.map_err(|refusal| refusal.of_exchange(exchange.id))
    }

    async fn try_hold(&self, exchange: &mut Exchange, longest: Option<Duration>) -> Result<Reservation, Refusal> {
        decide::bind(&self.gateway, exchange)?;
        session::admit(&self.gateway, exchange)?;
        // Where the client leaves, this future is dropped.
        let mut gone = pin!(std::future::pending());
        let patience = WaitPolicy {
            longest: longest.unwrap_or_default(),
            delays: longest.is_some(),
            begins_small: true,
            gone: gone.as_mut(),
        };
        reserve::hold(&self.gateway, exchange, patience).await
    }

    /// A hold of nothing for an answer that runs although it may not: all that it is billed is overage, truthfully.
    async fn uncovered(&self, exchange: &mut Exchange) -> Option<HeldAnswer> {
        Some(HeldAnswer {
            hold: self.book(exchange, Amounts::of_request(Usd::ZERO, 0)).await?,
            rates: None,
            _shadow: Vec::new(),
            allowance: None,
            verdict: Vec::new(),
            expected: ExpectedUse {
                input_tokens: exchange.inspected.kept_tokens,
                ..ExpectedUse::default()
            },
        })
    }

    /// Holds what is already billed: on the bounds as they are, or, where those refuse, beside them.
    async fn book(&self, exchange: &mut Exchange, amounts: Amounts) -> Option<Hold> {
        let asked = estimate::estimate(&self.gateway, exchange)
            .and_then(|estimate| decide::decide(&self.gateway, exchange, estimate.expected()))
            .map(|verdict| verdict.bounds)
            .unwrap_or_default();
        let bounds: Vec<Bound> = asked.into_iter().map(|asked| asked.bound).collect();
        let watched = |bound: &Bound| {
            let (account, zone) = (bound.account().clone(), bound.zone().clone());
            Bound::new(account, bound.window(), zone, bound.limit(), Mode::Watch).ok()
        };
        let beside: Vec<Bound> = bounds.iter().filter_map(watched).collect();
        let (facts, ledger) = (Arc::new(exchange.facts()), &self.gateway.ledger);
        for (bounds, amounts) in [(bounds, amounts), (beside, Amounts::of_request(Usd::ZERO, 0))] {
            let permit = ledger
                .admit()
                .await
                .map_err(|error| Refusal::ledger_stopped(&error))
                .ok()?;
            let basis = Name::from("billed already");
            match ledger.reserve(permit, Arc::clone(&facts), &bounds, amounts, &basis) {
                Ok(hold) => return Some(hold),
                Err(error) => tracing::debug!(%error, "what is billed already does not fit its bounds"),
            }
        }
        None
    }

    fn open(&self, exchange: Exchange, held: HeldAnswer, guards: (Running, Running, Busy), meaning: &Meaning) {
        let open_answer = OpenAnswer {
            id: exchange.id,
            meter: self.meter(&exchange),
            exchange,
            held,
            lane: meaning.lane.clone(),
            requested_by: meaning.asked_by.clone(),
            answer: None,
            cancel: None,
            echo: meaning.echo.clone(),
            sent: false,
            begun: false,
            cut: false,
            held_back: None,
            ttfb_ms: None,
            _guards: guards,
        };
        self.state.lock().open.push(open_answer);
    }
}

/// Input and output of an answer, which the next one has as its input.
fn tokens_of(metered: &Metered) -> u64 {
    let usage = &metered.usage;
    let said = usage.get(Kind::Output).saturating_add(usage.get(Kind::AudioOutput));
    usage.input_tokens().saturating_add(said)
}
