//! Seventh step: the answer's bytes go on as they come, and a copy of what matters goes to the meter.
//!
//! A framed stream passes frame by frame, so that it can end at a frame's end: when its hold runs out, when the
//! upstream breaks off, when the gateway goes down. At most one incomplete frame is held back.

pub mod head;
pub mod next;
pub mod rewrite_links;

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use agentledger_http1::ResponseHead;
use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, sleep_until, timeout};

use crate::meter::{AnswerFacts, End, Meter, Metered, Passed};
use crate::plugin::{Billing, Ending};
use crate::proxy::forward::Answer;
use crate::proxy::relay::head::{Framing, head_for_client};
use crate::proxy::relay::next::{Next, next};
use crate::proxy::relay::rewrite_links::LinkRewriter;
use crate::proxy::report;
use crate::proxy::reserve::extend::wait_covered;
use crate::proxy::session::{StopReason, stopped};
use crate::proxy::shared::allowance::{Allowance, LineSink, Uncovered};
use crate::proxy::shared::client::unattended;
use crate::proxy::shared::cors;
use crate::proxy::shared::exchange::Exchange;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::http_session::ServerSession;
use crate::proxy::shared::pricing::input_cost;
use crate::proxy::shared::refusal_text;
use crate::proxy::shared::reply::Refusal;
use crate::proxy::shared::shapes::{broken_off, ending_for};

/// How the answer ended, and what it said.
pub struct Relayed {
    pub end: End,
    pub metered: Metered,
    /// Milliseconds from the request's start to the first byte of the answer's body, where one came.
    pub ttfb_ms: Option<u64>,
    pub status: u16,
    /// The upstream's answer was read to its end, whether or not the client was there for it.
    pub complete: bool,
    /// The answer broke off before any of it went on: the client gets this in its place.
    pub refusal: Option<Box<Refusal>>,
    /// The head of the answer, where all of it is written at its end.
    head: Option<ResponseHead>,
    /// The last bytes for the client, to be written once the exchange is settled: a client that has seen the end of its
    /// answer finds it in the books.
    last: Last,
}

enum Last {
    /// The answer ends well, with these bytes.
    Finish(Bytes),
    /// It is ended from here: what may still go on, and then the dialect's error, in a piece of its own.
    Error { before: Bytes, error: Bytes },
    /// The answer is broken: the connection ends without an end of the body, so that the client knows.
    Break,
    /// None of it went on, and this is said instead.
    Refuse(Box<Refusal>),
    /// Nobody reads any more.
    Nothing,
}

/// So much of a whole answer waits for its end, and for so long: where it breaks off before, the client is told in words. It can
/// read no part of it anyway. What takes longer may be kept alive by its provider, and goes on as it comes.
const HELD_BYTES_MAX: usize = 64 << 10;
const HELD_LONGEST: Duration = Duration::from_millis(500);
/// How long the last event of a stream waits for the end of its body.
const LAST_EVENT_WAIT: Duration = Duration::from_millis(5);
/// How long an error of bare JSON comes after what stands before it: Google's SDKs read its words only where they read nothing
/// else with it, and a busy client reads late. Settled by then, it costs nobody but the one whose answer ends here.
const BARE_ERROR_PAUSE: Duration = Duration::from_millis(250);
/// How long an answer that nobody waits for is still read once the gateway cuts what runs: less than the gateway waits then.
const READ_ON_WHEN_CUT: Duration = Duration::from_secs(3);

/// A whole answer whose bytes still come is read on for so many times `limits.read_on_ms` at most, the end of a stream once.
const READ_ON_LONGEST: u32 = 12;

/// What is done with an answer beside passing it on.
pub struct RelayOptions<'a> {
    /// Usage that the client did not ask for is hidden from it.
    pub hide_usage: bool,
    /// Headers of the gateway's own, for the head of the answer.
    pub headers: &'a [(String, String)],
    pub allowance: &'a mut dyn Allowance,
    /// Whoever asked can still refuse: the head of a whole answer waits with its body.
    pub holds_head: bool,
    /// Takes the lines of a batch's results, where the answer is such.
    pub lines: Option<&'a mut dyn LineSink>,
}

/// Writes the head of the answer and relays its body; the last bytes wait for [`Relayed::finish`].
pub async fn relay<'a>(
    gateway: &Gateway,
    exchange: &'a Exchange,
    mut answer: Answer,
    options: RelayOptions<'a>,
    session: &mut ServerSession,
) -> Relayed {
    let status = answer.header.status.as_u16();
    let meter = meter(exchange, &answer.header, options.hide_usage);
    let over_tls = session.is_over_tls();
    let links = LinkRewriter::of(exchange, session.req_header(), over_tls, &answer.header);
    // A stream may be cut or lose a hidden chunk: a length said before would then be wrong.
    let may_change = exchange.is_metered() && exchange.inspected.call.stream && is_success(status);
    let framing = Framing::of(exchange, status, session);
    let emptied = ResponseHead::new(answer.header.status);
    let head = std::mem::replace(&mut answer.header, emptied);
    let mut head = head_for_client(head, framing, may_change || links.is_some(), options.headers);
    cors::put(session, &mut head);
    let mut pump = Pump {
        exchange,
        meter,
        lines: options.lines,
        held: BytesMut::new(),
        pieces: VecDeque::new(),
        over: None,
        input_told: false,
        ready: Vec::new(),
        links,
        head: None,
        ttfb_ms: None,
    };
    session.set_write_timeout(Some(exchange.endpoint.provider.timeouts.idle));
    let holds_head = options.holds_head && !may_change && is_success(status) && !pump.meter.is_framed();
    let (mut end, last) = if holds_head {
        pump.head = Some((head, Instant::now() + HELD_LONGEST));
        pump.run(gateway, &mut answer, options.allowance, session).await
    } else if session.write_response_header(&head).await.is_err() {
        (End::ClientGone, Last::Nothing)
    } else {
        pump.run(gateway, &mut answer, options.allowance, session).await
    };
    let is_made = !pump.meter.is_framed() || pump.lines.is_some() || pump.meter.end_is_near();
    let mut complete = end == End::Completed;
    if end == End::ClientGone && exchange.is_read() && is_success(status) && is_made {
        match pump.read_to_end(gateway, &mut answer).await {
            ReadToEnd::Whole => complete = true,
            ReadToEnd::Broken => {}
            // The upstream may bill all of it: no less than the hold is taken as spent.
            ReadToEnd::Stopped => end = End::Cut,
        }
    };
    let ttfb_ms = pump.ttfb_ms;
    let head = pump.head.take().map(|(head, _)| head);
    let (metered, last) = pump.finish(end, last);
    let (refusal, last) = match last {
        Last::Refuse(refusal) => (Some(refusal), Last::Nothing),
        last => (None, last),
    };
    if end == End::Completed && answer.connection.session.response_done() && !answer.connection.tainted {
        exchange.endpoint.upstream.release(answer.connection);
    } else {
        // Cancelled: what the upstream does not send any more, it does not bill.
        answer.connection.session.shutdown().await;
    }
    Relayed {
        end,
        metered,
        ttfb_ms,
        status,
        complete,
        refusal,
        head,
        last,
    }
}

/// What reads the answer's usage while its bytes pass.
fn meter(exchange: &Exchange, header: &ResponseHead, hide_usage: bool) -> Meter {
    let text_of = |name: &str| header.get(name);
    let facts = AnswerFacts {
        operation: exchange.operation.clone(),
        stream: exchange.inspected.call.stream,
        lines: exchange.billing == Billing::FetchedLines,
        hide_usage,
        status: if exchange.is_read() { header.status.as_u16() } else { 0 },
        content_type: text_of("content-type"),
        content_encoding: text_of("content-encoding"),
    };
    Meter::new(exchange.endpoint.reader.clone(), facts, &exchange.rules.config.limits).with_headers(text_of)
}

fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

impl Relayed {
    /// Writes the last bytes. `false`: the connection cannot be used again.
    pub async fn finish(self, session: &mut ServerSession) -> bool {
        if let (Some(head), Last::Finish(_)) = (&self.head, &self.last)
            && session.write_response_header(head).await.is_err()
        {
            return false;
        }
        match self.last {
            Last::Finish(bytes) => session.write_response_body(bytes, true).await.is_ok(),
            Last::Error { before, error } => {
                if !before.is_empty() && session.write_response_body(before, false).await.is_err() {
                    return false;
                }
                if error.starts_with(b"{") {
                    tokio::time::sleep(BARE_ERROR_PAUSE).await;
                }
                session.write_response_body(error, true).await.is_ok()
            }
            Last::Break => {
                session.close_after_answer();
                session.shutdown().await;
                false
            }
            Last::Refuse(_) | Last::Nothing => false,
        }
    }
}

/// One answer on its way: what was read and may not go on yet, and what may.
struct Pump<'a> {
    exchange: &'a Exchange,
    meter: Meter,
    lines: Option<&'a mut dyn LineSink>,
    /// Bytes that may not go on yet: of an incomplete frame, or of `pieces`.
    held: BytesMut,
    /// What was read of those bytes and waits until its hold covers it.
    pieces: VecDeque<Passed>,
    /// The text up to the last piece made ready, where the hold does not cover that.
    over: Option<u64>,
    input_told: bool,
    /// Pieces that may go on, in order.
    ready: Vec<Bytes>,
    /// Bears addresses: it goes on when it is whole.
    links: Option<LinkRewriter>,
    /// The head that waits with the body, and until when.
    head: Option<(ResponseHead, Instant)>,
    ttfb_ms: Option<u64>,
}

/// How the reading of an answer whose client has left came to its end.
enum ReadToEnd {
    Whole,
    /// The upstream broke off, fell silent, or took too long.
    Broken,
    Stopped,
}

impl Pump<'_> {
    async fn run(
        &mut self,
        gateway: &Gateway,
        answer: &mut Answer,
        allowance: &mut dyn Allowance,
        session: &mut ServerSession,
    ) -> (End, Last) {
        let stopped = stopped(gateway, self.exchange);
        tokio::pin!(stopped);
        let mut stash = None;
        loop {
            let next = match stash.take() {
                Some(chunk) => Some(Next::Chunk(chunk)),
                None => self.next(stopped.as_mut(), answer, session).await,
            };
            match next {
                Some(Next::Chunk(chunk)) => {
                    self.ttfb_ms.get_or_insert_with(|| self.exchange.started.elapsed_ms());
                    let uncovered = self.take(&chunk, allowance);
                    self.take_lines();
                    if let Some(uncovered) = uncovered {
                        let waits = self.wait_covered(gateway, uncovered, allowance, stopped.as_mut(), session);
                        if let Some(ended) = waits.await {
                            return ended;
                        }
                    }
                    let done = answer.connection.session.response_done();
                    if done {
                        return (End::Completed, Last::Finish(joined(std::mem::take(&mut self.ready))));
                    }
                    if self.meter.final_seen() {
                        // A client stops at the last event: what follows it at once is the end of the body, and the
                        // exchange is to be settled before the client knows.
                        match timeout(LAST_EVENT_WAIT, answer.connection.session.read_response_body()).await {
                            Ok(Ok(None)) => {
                                return (End::Completed, Last::Finish(joined(std::mem::take(&mut self.ready))));
                            }
                            Ok(Ok(Some(next))) => {
                                stash = Some(next);
                                continue;
                            }
                            _ => {}
                        }
                    }
                    let waits =
                        self.head.is_some() && self.ready.iter().map(Bytes::len).sum::<usize>() <= HELD_BYTES_MAX;
                    if !waits && !self.pass_on(session).await {
                        return (End::ClientGone, Last::Nothing);
                    }
                }
                None => {
                    if !self.pass_on(session).await {
                        return (End::ClientGone, Last::Nothing);
                    }
                }
                Some(Next::Ended) => {
                    return (End::Completed, Last::Finish(joined(std::mem::take(&mut self.ready))));
                }
                Some(Next::Broken(how)) => {
                    report::upstream_failed(gateway, &self.exchange.endpoint, how);
                    if self.head.is_some() {
                        let refusal = broken_off(self.exchange.identity.client);
                        return (End::UpstreamFailed, Last::Refuse(Box::new(refusal)));
                    }
                    return (End::UpstreamFailed, self.ended(gateway, Ending::UpstreamFailed));
                }
                Some(Next::ClientGone) => return (End::ClientGone, Last::Nothing),
                Some(Next::Stopped(stop)) => return self.stopped(gateway, stop),
            }
        }
    }

    /// `None`: what waits for the end has waited long enough.
    async fn next(
        &self,
        stopped: Pin<&mut impl Future<Output = StopReason>>,
        answer: &mut Answer,
        session: &mut ServerSession,
    ) -> Option<Next> {
        let due = self.head.as_ref().map(|(_, due)| *due);
        tokio::select! {
            biased;
            next = next(self.exchange, stopped, answer, session) => Some(next),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => None,
        }
    }

    /// Writes what may go on. `false`: the client has left.
    async fn pass_on(&mut self, session: &mut ServerSession) -> bool {
        if let Some((head, _)) = self.head.take()
            && session.write_response_header(&head).await.is_err()
        {
            return false;
        }
        for piece in self.take_ready() {
            if session.write_response_body(piece, false).await.is_err() {
                return false;
            }
        }
        true
    }

    /// What may go on now.
    fn take_ready(&mut self) -> Vec<Bytes> {
        let ready = std::mem::take(&mut self.ready);
        let Some(links) = &mut self.links else { return ready };
        match links.hold(ready) {
            Ok(()) => Vec::new(),
            Err(too_long) => {
                self.links = None;
                vec![too_long]
            }
        }
    }

    /// Gives a chunk to the meter and makes ready what may go on. `Some`: the stream is not covered after that.
    fn take(&mut self, chunk: &Bytes, allowance: &mut dyn Allowance) -> Option<Uncovered> {
        let mut pieces: Vec<Passed> = Vec::with_capacity(4);
        self.meter.push(chunk, &mut |piece| pieces.push(piece));
        if !self.input_told
            && let Some(input) = self.meter.input()
        {
            self.input_told = true;
            // Told with the end, it is billed whatever is done.
            let cost = input_cost(self.exchange, &input).filter(|_| !self.meter.end_is_near());
            if let Some(cost) = cost {
                allowance.input_costs(cost);
            }
        }
        let untouched = self.held.is_empty()
            && pieces.iter().all(|piece| !piece.hide)
            && pieces.iter().map(|piece| piece.raw_len).sum::<usize>() == chunk.len();
        if untouched {
            // A whole answer is billed whatever we do: only streams are worth cutting.
            let framed = self.meter.is_framed();
            let stream = framed || self.exchange.inspected.call.stream;
            let over = pieces.iter().find_map(|piece| allowance.covers(piece.text_bytes).err());
            match over.filter(|_| stream) {
                // An encoded stream cannot be cut at a frame's end: it breaks off.
                Some(uncovered) if !framed => return Some(Uncovered::Cut(uncovered.message().to_owned())),
                // Rare: find the frame to stop at below.
                Some(_) => {}
                None => {
                    self.ready.push(chunk.clone());
                    return None;
                }
            }
        }
        self.held.extend_from_slice(chunk);
        self.pieces.extend(pieces);
        self.pass(allowance)
    }

    /// Makes ready what was read, up to the frame with which the stream is not covered any more.
    fn pass(&mut self, allowance: &mut dyn Allowance) -> Option<Uncovered> {
        let mut uncovered = self.over.and_then(|text_bytes| allowance.covers(text_bytes).err());
        while uncovered.is_none() {
            self.over = None;
            let Some(piece) = self.pieces.pop_front() else { break };
            let bytes = self.held.split_to(piece.raw_len.min(self.held.len())).freeze();
            if !piece.hide {
                self.ready.push(bytes);
            }
            if piece.frame_end {
                uncovered = allowance.covers(piece.text_bytes).err();
                self.over = uncovered.is_some().then_some(piece.text_bytes);
            }
        }
        uncovered
    }

    /// Waits while only others' holds keep the stream from going on. `Some`: it ends here.
    async fn wait_covered(
        &mut self,
        gateway: &Gateway,
        uncovered: Uncovered,
        allowance: &mut dyn Allowance,
        stopped: Pin<&mut impl Future<Output = StopReason>>,
        session: &mut ServerSession,
    ) -> Option<(End, Last)> {
        let (longest, outlast) = (self.exchange.rules.config.hold.wait, self.exchange.outlast(false));
        let uncovered = tokio::select! {
            uncovered = wait_covered(&gateway.ledger, longest, uncovered, || self.pass(allowance)) => uncovered?,
            () = unattended(session, outlast) => return Some((End::ClientGone, Last::Nothing)),
            stop = stopped => return Some(self.stopped(gateway, stop)),
        };
        // As good as a refusal that is final: what tries again by itself is to be ended by the next one.
        let (client, now_ms) = (self.exchange.identity.client, gateway.clock.monotonic_ms());
        gateway.backing_off.refused(session.req_header(), client, now_ms);
        let last = self.ending(gateway, Ending::BudgetExceeded, uncovered.message());
        Some((End::Cut, last))
    }

    fn stopped(&mut self, gateway: &Gateway, stop: StopReason) -> (End, Last) {
        if self.head.is_some() {
            return (End::Cut, Last::Refuse(Box::new(stop.refusal())));
        }
        (End::Cut, self.ending(gateway, stop.ending(), &stop.message()))
    }

    /// Hands on the lines that have come.
    fn take_lines(&mut self) {
        if let Some(lines) = &mut self.lines {
            for line in self.meter.take_lines() {
                lines.line(line);
            }
        }
    }

    /// Reads the rest of an answer whose client has left: a whole answer is made and billed whether or not it is read, so it
    /// is read for the books, for a bounded time. Going down cuts it, but not at once: one that is nearly read is entered at
    /// what it cost.
    async fn read_to_end(&mut self, gateway: &Gateway, answer: &mut Answer) -> ReadToEnd {
        let exchange = self.exchange;
        let silence = Duration::from_millis(exchange.rules.config.limits.read_on_ms);
        let times = if self.meter.is_framed() && self.lines.is_none() {
            1
        } else {
            READ_ON_LONGEST
        };
        let enough = tokio::time::sleep(silence.saturating_mul(times));
        tokio::pin!(enough);
        let stopped = async move {
            if stopped(gateway, exchange).await == StopReason::GoingDown {
                tokio::time::sleep(READ_ON_WHEN_CUT).await;
            }
        };
        tokio::pin!(stopped);
        loop {
            let read = tokio::select! {
                read = timeout(silence, answer.connection.session.read_response_body()) => read,
                () = &mut stopped => return ReadToEnd::Stopped,
                () = &mut enough => return ReadToEnd::Broken,
            };
            match read {
                Ok(Ok(Some(chunk))) => {
                    self.meter.push(&chunk, &mut |_| {});
                    self.take_lines();
                }
                Ok(Ok(None)) => return ReadToEnd::Whole,
                _ => return ReadToEnd::Broken,
            }
        }
    }

    /// An ending that says the same whatever the stream.
    fn ended(&mut self, gateway: &Gateway, ending: Ending) -> Last {
        self.ending(gateway, ending, &refusal_text::ended(ending, ""))
    }

    /// The bytes that end a framed stream with the dialect's error; a break for any other answer.
    fn ending(&mut self, gateway: &Gateway, ending: Ending, message: &str) -> Last {
        // Lines have no ending of their own: one cut short must not look whole.
        if !self.meter.is_framed() || self.lines.is_some() {
            return Last::Break;
        }
        let (dialect, operation) = self.exchange.dialect();
        let message = refusal_text::signed(message);
        let ending = ending_for(self.exchange.identity.client, ending);
        match dialect.terminal(operation, ending, &message, self.meter.response_id()) {
            Ok(terminal) => match self.meter.closing(terminal) {
                Some(closing) => {
                    let before = joined(std::mem::take(&mut self.ready));
                    Last::Error {
                        before,
                        error: Bytes::from(closing),
                    }
                }
                None => Last::Break,
            },
            Err(error) => {
                report::plugin_failed(gateway, &self.exchange.endpoint, 1);
                tracing::warn!(%error, "a plugin gave no ending for a stream");
                Last::Break
            }
        }
    }

    /// What the meter read, and the last bytes for the client: with those that were held back to the end.
    fn finish(mut self, end: End, last: Last) -> (Metered, Last) {
        let mut leftover = BytesMut::new();
        let held = &mut self.held;
        let metered = self.meter.finish(&mut |piece| {
            let bytes = held.split_to(piece.raw_len.min(held.len()));
            if !piece.hide {
                leftover.extend_from_slice(&bytes);
            }
        });
        leftover.extend_from_slice(held);
        self.take_lines();
        let last = match last {
            Last::Finish(bytes) if !leftover.is_empty() && end == End::Completed => {
                let mut all = BytesMut::from(&bytes[..]);
                all.extend_from_slice(&leftover);
                Last::Finish(all.freeze())
            }
            last => last,
        };
        let last = match (last, self.links) {
            (Last::Finish(bytes), Some(links)) => Last::Finish(links.finish(self.exchange, &bytes)),
            (last, _) => last,
        };
        (metered, last)
    }
}

fn joined(pieces: Vec<Bytes>) -> Bytes {
    let mut pieces = pieces.into_iter();
    match (pieces.next(), pieces.next()) {
        (None, _) => Bytes::new(),
        (Some(only), None) => only,
        (Some(first), Some(second)) => {
            let mut all = BytesMut::from(&first[..]);
            all.extend_from_slice(&second);
            pieces.for_each(|piece| all.extend_from_slice(&piece));
            all.freeze()
        }
    }
}
