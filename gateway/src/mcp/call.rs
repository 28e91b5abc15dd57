//! One tool call from its hold to its entry: an exchange like any other, held before its request leaves and settled before its
//! client sees the answer.

use std::sync::Arc;
use std::time::Duration;

use agentledger_ledger::{BillId, Hold, Kind, Name, Outcome, PriceRef, Settlement, Usage, Usd};
use bytes::Bytes;
use pingora::http::RequestHeader;
use ulid::Ulid;

use super::answer::Says;
use super::message::{Message, id_key};
use super::waiting::WaitKey;
use super::wanted::Wanted;
use crate::estimate_reason;
use crate::plugin::{self, Billing, Quoted, ResultSeen, ToolArguments, ToolEnding};
use crate::policy::{SERVER_TAG, TOOL_OPERATION, TOOL_TAG};
use crate::proxy::forward::Failed;
use crate::proxy::reserve::place::WaitPolicy;
use crate::proxy::reserve::{self, Reservation};
use crate::proxy::settle::blank::blank;
use crate::proxy::shared::body::Body;
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::exchange::{Exchange, SessionEnd, ToolCall};
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::identity::{Identity, Target};
use crate::proxy::shared::inspected::Inspected;
use crate::proxy::shared::reply::Refusal;
use crate::proxy::shared::rules::Rules;
use crate::proxy::{decide, report, session};
use crate::rates::Grant;
use crate::telemetry::Running;
use crate::timer::Timer;

/// What the books call the path of a tool call; the contract's.
const PATH: &str = "tools/call";

/// From where a call comes.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    pub gateway: &'a Arc<Gateway>,
    pub rules: &'a Arc<Rules>,
    /// The server's name.
    pub server: &'a Name,
    pub target: &'a Target,
    pub identity: &'a Identity,
    /// Path and query at the upstream.
    pub forward_path: &'a str,
}

/// A call as it is read.
pub struct Called<'a> {
    /// Of its exchange, and of its entry.
    pub id: Ulid,
    /// Of its request, see [`id_key`].
    pub key: String,
    pub tool: &'a str,
    pub arguments: Arguments,
    /// Under which it is entered once, where others than its hold's owner may tell of it.
    pub bill: Option<BillId>,
}

/// Its arguments.
#[derive(Clone)]
pub enum Arguments {
    /// JSON, as it was sent; empty for none.
    Json(Bytes),
    /// They are elsewhere: their length, and what names them.
    Unseen { bytes: u64, hash: String },
}

impl Arguments {
    fn shown(&self) -> ToolArguments<'_> {
        match self {
            Arguments::Json(json) => ToolArguments::Json(json),
            Arguments::Unseen { bytes, .. } => ToolArguments::Length(*bytes),
        }
    }

    /// By which the same are known again.
    fn words(&self) -> Bytes {
        match self {
            Arguments::Json(json) => json.clone(),
            Arguments::Unseen { hash, .. } => Bytes::copy_from_slice(hash.as_bytes()),
        }
    }
}

/// A call that is held.
pub struct OpenCall {
    /// Of its request, see [`id_key`].
    pub id: String,
    pub exchange: Box<Exchange>,
    /// Headers for the answer's head.
    pub headers: Vec<(String, String)>,
    /// Since when it waits for an answer that comes by another way, all its rounds together.
    pub waits_since: Option<Timer>,
    /// It is not the first round: the server has an earlier one.
    pub is_next_round: bool,
    /// Under which it waited last.
    pub waits_for: Option<WaitKey>,
    /// Whether its client still wants an answer.
    pub wanted: Option<Wanted>,
    arguments_hash: blake3::Hash,
    /// Since when it is held, and may be passed on.
    held_since: Timer,
    quoted: Quoted,
    hold: Hold,
    rates: Grant,
    verdict: Vec<Name>,
    ttfb_ms: Option<u64>,
    _shadow: Vec<Grant>,
    _running: Running,
}

impl Caller<'_> {
    /// Makes the exchange of a request: of a tool call with its arguments and its price, or, without one, of what costs nothing.
    pub fn exchange(
        &self,
        header: &RequestHeader,
        call: Option<(&Called<'_>, Option<&Quoted>)>,
        body: Body,
    ) -> Box<Exchange> {
        let at_ms = self.gateway.clock.now_ms();
        let id = call.map_or_else(|| self.new_id(), |(called, _)| called.id);
        let server = self.server;
        let (target, inspected) = match call {
            Some((called, _)) => {
                let target = Target {
                    operation: Name::from(TOOL_OPERATION),
                    billing: Billing::Metered,
                    ..self.target.clone()
                };
                let model = Some(format!("{server}:{}", called.tool));
                (target, Inspected::plain(Body::own(called.arguments.words()), model))
            }
            None => (self.target.clone(), Inspected::plain(body, Some(server.to_string()))),
        };
        let mut exchange = Box::new(Exchange::new(
            id,
            at_ms,
            Timer::start(),
            Arc::clone(self.rules),
            target,
            self.identity.clone(),
            header,
            inspected,
        ));
        self.forward_path.clone_into(&mut exchange.forward_path);
        exchange
            .identity
            .tags
            .insert(Name::from(SERVER_TAG), Name::clone(server));
        if let Some((called, quoted)) = call {
            let tool = Name::from(called.tool);
            exchange.identity.tags.insert(Name::from(TOOL_TAG), Name::clone(&tool));
            exchange.called_path = PATH.to_owned();
            exchange.tool = Some(ToolCall {
                server: Name::clone(server),
                tool,
                quote: quoted.map_or(Usd::ZERO, |quoted| quoted.hold),
                priced: quoted.is_some_and(Quoted::is_priced),
                bill: called.bill,
            });
        }
        exchange
    }

    /// For an exchange that begins now.
    pub fn new_id(&self) -> Ulid {
        let at_ms = self.gateway.clock.now_ms();
        Ulid::from_parts(u64::try_from(at_ms).unwrap_or_default(), rand::random())
    }

    /// Takes a call through the steps up to its hold. Nothing has left then. `gone`: nobody waits for it any more.
    ///
    /// # Errors
    /// Why it may not be made: nothing is held then.
    pub async fn begin(
        &self,
        header: &RequestHeader,
        gone: impl Future<Output = ()> + Send,
        called: Called<'_>,
    ) -> Result<OpenCall, Refusal> {
        self.begin_within(self.rules.config.hold.wait, header, gone, called)
            .await
    }

    /// As `begin`; it waits for the holds of others for so long at most.
    ///
    /// # Errors
    /// As `begin`.
    pub async fn begin_within(
        &self,
        longest: Duration,
        header: &RequestHeader,
        gone: impl Future<Output = ()> + Send,
        called: Called<'_>,
    ) -> Result<OpenCall, Refusal> {
        let quoted = self.quote(&called)?;
        let mut exchange = self.exchange(header, Some((&called, Some(&quoted))), Body::own(Bytes::new()));
        let running = report::begun(self.gateway);
        let reserved = self.hold(longest, gone, &mut exchange).await;
        let Reservation {
            hold,
            rates,
            headers,
            verdict,
            shadow,
            ..
        } = reserved.inspect_err(|refusal| report::not_entered(self.gateway, &exchange, refusal))?;
        if let Some(end) = &mut exchange.session_end {
            end.is_entered = true;
        }
        // Its price has seen what it is to see.
        exchange.inspected.release_body();
        Ok(OpenCall {
            id: called.key,
            exchange,
            headers,
            waits_since: None,
            is_next_round: false,
            waits_for: None,
            wanted: None,
            arguments_hash: blake3::hash(&called.arguments.words()),
            held_since: Timer::start(),
            quoted,
            hold,
            rates,
            verdict,
            ttfb_ms: None,
            _shadow: shadow,
            _running: running,
        })
    }

    /// What the call may cost. Arguments that two readers would price in two ways are refused.
    ///
    /// # Errors
    /// They are such.
    pub fn quote(&self, called: &Called<'_>) -> Result<Quoted, Refusal> {
        let call = plugin::ToolCall {
            server: self.server,
            tool: called.tool,
            arguments: called.arguments.shown(),
        };
        self.rules.tool_pricers.quote(&call).map_err(|error| {
            let text = format!("the arguments of the tool cannot be read in one way alone: {error}");
            Refusal::new(RefusalCode::InvalidMessage, text).final_answer()
        })
    }

    async fn hold(
        &self,
        longest: Duration,
        gone: impl Future<Output = ()> + Send,
        exchange: &mut Exchange,
    ) -> Result<Reservation, Refusal> {
        decide::bind(self.gateway, exchange)?;
        session::admit(self.gateway, exchange)?;
        exchange.session_end = SessionEnd::of(&self.gateway.ledger, exchange);
        let mut gone = std::pin::pin!(gone);
        let patience = WaitPolicy {
            longest,
            delays: true,
            begins_small: true,
            gone: gone.as_mut(),
        };
        reserve::hold(self.gateway, exchange, patience).await
    }
}

impl OpenCall {
    /// Returns when its hold is on disk.
    ///
    /// # Errors
    /// The ledger cannot write.
    pub async fn durable(&self) -> Result<(), Refusal> {
        self.hold
            .durable()
            .await
            .map_err(|error| Refusal::ledger_stopped(&error))
    }

    /// Whether its price depends on what is in the result.
    pub fn wants_result(&self) -> bool {
        self.quoted.sees_result()
    }

    /// Whether an answer may still come to it on another stream.
    pub fn is_wanted(&self) -> bool {
        self.wanted.as_ref().is_none_or(Wanted::is_wanted)
    }

    /// It was not sent: nothing is entered.
    pub fn void(self, reason: &str) {
        self.hold.void(reason);
    }

    /// Its next round goes by another id.
    pub fn again(&mut self, message: &Message<'_>) {
        self.id = message.id.map(id_key).unwrap_or_default();
        self.is_next_round = true;
    }

    /// Under which it waits for its next round, where the server gave this state.
    pub fn round_key(&self, channel: &str, state: &str) -> WaitKey {
        WaitKey::round(
            channel,
            &self.exchange.inspected.call.model,
            &self.arguments_hash,
            state,
        )
    }

    /// Notes when the first byte of its answer came.
    pub fn first_byte(&mut self) {
        self.ttfb_ms.get_or_insert_with(|| self.exchange.started.elapsed_ms());
    }

    /// It is answered: by this it is priced and entered. `status` is the answer's HTTP status.
    pub fn answered(self, gateway: &Gateway, says: &Says, result: ResultSeen<'_>, status: u16) {
        let milliseconds = self.held_since.elapsed_ms();
        self.answered_after(milliseconds, gateway, (says, status), result);
    }

    /// The same, so long after it was passed on, by the clock of whoever saw its answer. By ours it took that long at least.
    pub fn answered_after(self, milliseconds: u64, gateway: &Gateway, answer: (&Says, u16), result: ResultSeen<'_>) {
        let held = self.held_since.elapsed_ms();
        let milliseconds = milliseconds.min(held);
        let before_held = self.exchange.started.elapsed_ms().saturating_sub(held);
        let settlement = Settlement {
            duration_ms: before_held.saturating_add(milliseconds),
            ..settlement_of(gateway, &self.exchange, &self.quoted, answer, result, milliseconds)
        };
        self.settle(gateway, settlement);
    }

    /// The server refused it: an HTTP error without an answer of JSON-RPC. It costs nothing.
    pub fn turned_down(self, gateway: &Gateway, status: u16) {
        let settlement = blank(gateway, &self.exchange, Outcome::UpstreamError, status);
        self.settle(gateway, settlement);
    }

    /// The server has it, and its answer was not seen: what is not read costs what was held.
    pub fn unseen(self, gateway: &Gateway, outcome: Outcome, status: u16, reason: &'static str) {
        let settlement = Settlement {
            cost: self.hold.held(),
            upper_bound: Some(self.hold.held()),
            estimate_reason: Some(Name::from(reason)),
            ..blank(gateway, &self.exchange, outcome, status)
        };
        self.settle(gateway, settlement);
    }

    /// The request failed before an answer began.
    pub fn failed(self, gateway: &Gateway, failed: &Failed) {
        match failed {
            Failed::Unsent(refusal) => {
                report::not_entered(gateway, &self.exchange, refusal);
                self.void(refusal.code.as_str());
            }
            Failed::NotTaken(refusal) => {
                let settlement = blank(gateway, &self.exchange, Outcome::UpstreamFailed, refusal.status);
                self.settle(gateway, settlement);
            }
            Failed::Unanswered(refusal) => {
                let reason = estimate_reason::UPSTREAM_FAILED;
                self.unseen(gateway, Outcome::UpstreamFailed, refusal.status, reason);
            }
            Failed::Cut(refusal) => self.unseen(gateway, Outcome::Cut, refusal.status, estimate_reason::CUT),
            Failed::ClientGone => self.unseen(gateway, Outcome::ClientGone, 0, estimate_reason::CLIENT_GONE),
        }
    }

    fn settle(mut self, gateway: &Gateway, settlement: Settlement) {
        let settlement = Settlement {
            verdict: self.verdict,
            ttfb_ms: self.ttfb_ms,
            ..settlement
        };
        self.rates.used_tokens(0);
        let settled = self.hold.settle(settlement);
        // What waits for this call's end must find it ended.
        drop(self.rates);
        let end = &settled.entry.settlement;
        if let Some(step) = self.exchange.step.take_if(|_| end.outcome == Outcome::Completed) {
            step.answered(end.cost, None);
        }
        self.exchange.step = None;
        self.exchange.session_end = None;
        report::settled(gateway, settled.entry, &self.exchange.traced);
    }
}

/// What a call comes to by its answer: how it says to have ended, and with which HTTP status.
pub fn settlement_of(
    gateway: &Gateway,
    exchange: &Exchange,
    quoted: &Quoted,
    (says, status): (&Says, u16),
    result: ResultSeen<'_>,
    milliseconds: u64,
) -> Settlement {
    let ending = match says {
        Says::Error => ToolEnding::ProtocolError,
        Says::ToolError => ToolEnding::ToolError,
        _ => ToolEnding::Success,
    };
    let priced = quoted.price(ending, result, milliseconds);
    let price = quoted.is_priced().then(|| PriceRef {
        provider: Name::clone(&exchange.endpoint.name),
        id: Name::from(quoted.pricer()),
        effective: Name::from(""),
        tier: None,
    });
    // As the contract has it: an error of JSON-RPC is entered as 500, whatever its HTTP status.
    let (outcome, status) = match (says, status) {
        (Says::Error, 400..) => (Outcome::UpstreamError, status),
        (Says::Error, _) => (Outcome::UpstreamError, 500),
        _ => (Outcome::Completed, status),
    };
    Settlement {
        cost: priced.cost,
        price,
        estimate_reason: priced.estimated.map(Name::from),
        usage: Usage::ZERO.with(Kind::Request, 1),
        ..blank(gateway, exchange, outcome, status)
    }
}
