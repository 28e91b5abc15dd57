//! Seventh step: the answer's bytes go on as they come, and a copy of what matters goes to the meter.
//!
//! A framed stream passes frame by frame, so that it can end at a frame's end: when its hold runs out, when the
//! upstream breaks off, when the gateway goes down. At most one incomplete frame is held back.

use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use tokio::time::timeout;

use crate::meter::{AnswerFacts, End, Meter, Metered, Passed};
use crate::plugin::{Billing, Ending};
use crate::proxy::exchange::Exchange;
use crate::proxy::forward::{Answer, client_gone};
use crate::proxy::gateway::Gateway;
use crate::proxy::links::Linked;
use crate::proxy::report::{self, UpstreamError};
use crate::proxy::results::Results;
use crate::proxy::session::{Stop, stopped};

/// Decides, as a stream grows, whether it may go on. The reserve step makes it from the hold.
pub trait Allowance: Send {
    /// `text_bytes`: text of the answer so far. `Err`: cut here, with this message.
    fn covers(&mut self, text_bytes: u64) -> Result<(), String>;
}

/// How the answer ended, and what it said.
pub struct Relayed {
    pub end: End,
    pub metered: Metered,
    /// Milliseconds from the request's start to the first byte of the answer's body, where one came.
    pub ttfb_ms: Option<u64>,
    pub status: u16,
    /// The upstream's answer was read to its end, whether or not the client was there for it.
    pub complete: bool,
    /// The bill of the lines, where the answer is such.
    pub results: Option<Results>,
    /// The last bytes for the client, to be written once the exchange is settled: a client that has seen the end of its
    /// answer finds it in the books.
    last: Last,
}

enum Last {
    /// The answer ends well, with these bytes.
    Finish(Bytes),
    /// The answer is broken: the connection ends without an end of the body, so that the client knows.
    Break,
    /// Nobody reads any more.
    Nothing,
}

/// How long the last event of a stream waits for the end of its body.
const LAST_EVENT_WAIT: Duration = Duration::from_millis(5);
/// How long an answer that nobody waits for is still read once the gateway cuts what runs: less than the gateway waits then.
const READ_ON_WHEN_CUT: Duration = Duration::from_secs(3);

/// Headers of an answer that belong to the hop.
const NOT_PASSED_ON: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Writes the head of the answer and relays its body. `extra` are headers of the gateway's own.
pub async fn relay(
    gateway: &Gateway,
    exchange: &Exchange,
    mut answer: Answer,
    hide_usage: bool,
    extra: &[(String, String)],
    allowance: &mut dyn Allowance,
    session: &mut ServerSession,
) -> Relayed {
    let status = answer.header.status.as_u16();
    let text_of = |name: &str| answer.header.headers.get(name).and_then(|value| value.to_str().ok());
    let facts = AnswerFacts {
        operation: exchange.operation.clone(),
        stream: exchange.inspected.call.stream,
        lines: exchange.billing == Billing::FetchedLines,
        hide_usage,
        status: if exchange.is_read() { status } else { 0 },
        content_type: text_of("content-type"),
        content_encoding: text_of("content-encoding"),
    };
    let meter = Meter::new(exchange.way.reader.clone(), facts, &exchange.rules.config.limits).with_headers(text_of);
    let has_body = exchange.method != "HEAD" && !matches!(status, 204 | 304);
    let framing = if session.is_http2() {
        Framing::H2
    } else if has_body && session.req_header().version == http::Version::HTTP_11 {
        Framing::Chunked
    } else {
        Framing::UntilClose
    };
    // A stream may be cut or lose a hidden chunk: a length said before would then be wrong.
    let may_change = exchange.is_metered() && exchange.inspected.call.stream && (200..300).contains(&status);
    let over_tls = session.digest().is_some_and(|digest| digest.ssl_digest.is_some());
    let linked = Linked::of(exchange, session.req_header(), over_tls, &answer.header);
    let head = head_for_client(&answer.header, framing, may_change || linked.is_some(), extra);
    let mut pump = Pump {
        exchange,
        meter,
        results: (exchange.billing == Billing::FetchedLines).then(|| Results::of(gateway, exchange)),
        held: BytesMut::new(),
        ready: Vec::new(),
        linked,
        ttfb_ms: None,
    };
    session.set_write_timeout(Some(exchange.way.provider.timeouts.idle));
    let (mut end, last) = if session.write_response_header(Box::new(head)).await.is_err() {
        (End::ClientGone, Last::Nothing)
    } else {
        pump.run(gateway, &mut answer, allowance, session).await
    };
    let mut complete = end == End::Completed;
    let is_made = !pump.meter.is_framed() || pump.results.is_some();
    if end == End::ClientGone && exchange.is_read() && (200..300).contains(&status) && is_made {
        // A whole answer is made and billed whether or not it is read: it is read for the books.
        match pump.read_for_the_books(gateway, &mut answer).await {
            Drained::Whole => complete = true,
            Drained::Broken => {}
            // The upstream may bill all of it: no less than the hold is taken as spent.
            Drained::Stopped => end = End::Cut,
        }
    }
    let (ttfb_ms, linked) = (pump.ttfb_ms, pump.linked.take());
    let (metered, leftover, results) = pump.finish(gateway);
    let last = match last {
        Last::Finish(bytes) if !leftover.is_empty() && end == End::Completed => {
            let mut all = BytesMut::from(&bytes[..]);
            all.extend_from_slice(&leftover);
            Last::Finish(all.freeze())
        }
        last => last,
    };
    let last = match (last, linked) {
        (Last::Finish(bytes), Some(linked)) => Last::Finish(linked.finish(exchange, &bytes)),
        (last, _) => last,
    };
    if end == End::Completed && answer.connection.session.response_done() && !answer.connection.tainted {
        exchange.way.upstream.release(answer.connection).await;
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
        results,
        last,
    }
}

impl Relayed {
    /// Writes the last bytes. `false`: the connection cannot be used again.
    pub async fn finish(self, session: &mut ServerSession) -> bool {
        match self.last {
            Last::Finish(bytes) => session.write_response_body(bytes, true).await.is_ok(),
            Last::Break => {
                session.set_keepalive(None);
                session.shutdown().await;
                false
            }
            Last::Nothing => false,
        }
    }
}

/// One answer on its way: what was read and may not go on yet, and what may.
struct Pump<'a> {
    exchange: &'a Exchange,
    meter: Meter,
    results: Option<Results>,
    /// Bytes of an incomplete frame.
    held: BytesMut,
    /// Pieces that may go on, in order.
    ready: Vec<Bytes>,
    /// Bears addresses: it goes on when it is whole.
    linked: Option<Linked>,
    ttfb_ms: Option<u64>,
}

/// What the next moment brought.
enum Next {
    Chunk(Bytes),
    Ended,
    /// Broken off, or silent for too long.
    Broken(UpstreamError),
    ClientGone,
    Stopped(Stop),
}

/// How the reading of an answer whose client has left came to its end.
enum Drained {
    Whole,
    Broken,
    Stopped,
}

impl Pump<'_> {
    /// Reads an answer that nobody waits for to its end. Going down cuts it, but not at once: one that is nearly read is
    /// entered at what it cost.
    async fn read_for_the_books(&mut self, gateway: &Gateway, answer: &mut Answer) -> Drained {
        let exchange = self.exchange;
        let idle = exchange.way.provider.timeouts.idle;
        let stopped = async move {
            if stopped(gateway, exchange).await == Stop::GoingDown {
                tokio::time::sleep(READ_ON_WHEN_CUT).await;
            }
        };
        tokio::pin!(stopped);
        loop {
            let read = tokio::select! {
                read = timeout(idle, answer.connection.session.read_response_body()) => read,
                () = &mut stopped => return Drained::Stopped,
            };
            match read {
                Ok(Ok(Some(chunk))) => {
                    self.meter.push(&chunk, &mut |_| {});
                    self.take_lines(gateway);
                }
                Ok(Ok(None)) => return Drained::Whole,
                _ => return Drained::Broken,
            }
        }
    }

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
                Some(chunk) => Next::Chunk(chunk),
                None => self.next(stopped.as_mut(), answer, session).await,
            };
            match next {
                Next::Chunk(chunk) => {
                    self.ttfb_ms.get_or_insert_with(|| elapsed_ms(self.exchange));
                    let cut = self.take(&chunk, allowance);
                    self.take_lines(gateway);
                    if let Some(message) = cut {
                        return (End::Cut, self.ending(gateway, Ending::BudgetExceeded, &message));
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
                    for piece in self.take_ready() {
                        if session.write_response_body(piece, false).await.is_err() {
                            return (End::ClientGone, Last::Nothing);
                        }
                    }
                }
                Next::Ended => return (End::Completed, Last::Finish(Bytes::new())),
                Next::Broken(how) => {
                    report::upstream_failed(gateway, &self.exchange.way, how);
                    let message = "the upstream broke off its answer";
                    return (
                        End::UpstreamFailed,
                        self.ending(gateway, Ending::UpstreamFailed, message),
                    );
                }
                Next::ClientGone => return (End::ClientGone, Last::Nothing),
                Next::Stopped(stop) => {
                    let (ending, message) = stop.ending();
                    return (End::Cut, self.ending(gateway, ending, message));
                }
            }
        }
    }

    /// The upstream's bytes come first: a client's next request must not look like its leaving.
    async fn next(
        &self,
        stopped: Pin<&mut impl Future<Output = Stop>>,
        answer: &mut Answer,
        session: &mut ServerSession,
    ) -> Next {
        let upstream = &mut answer.connection.session;
        if upstream.response_done() {
            return Next::Ended;
        }
        tokio::select! {
            biased;
            read = timeout(self.exchange.way.provider.timeouts.idle, upstream.read_response_body()) => match read {
                Ok(Ok(Some(chunk))) => Next::Chunk(chunk),
                Ok(Ok(None)) => Next::Ended,
                Ok(Err(_)) => Next::Broken(UpstreamError::Broken),
                Err(_) => Next::Broken(UpstreamError::Timeout),
            },
            () = client_gone(session) => Next::ClientGone,
            stop = stopped => Next::Stopped(stop),
        }
    }

    /// What may go on now.
    fn take_ready(&mut self) -> Vec<Bytes> {
        let ready = std::mem::take(&mut self.ready);
        let Some(linked) = &mut self.linked else { return ready };
        match linked.hold(ready) {
            Ok(()) => Vec::new(),
            Err(too_long) => {
                self.linked = None;
                vec![too_long]
            }
        }
    }

    /// Gives a chunk to the meter and makes ready what may go on. `Some`: the stream is to be cut after that.
    fn take(&mut self, chunk: &Bytes, allowance: &mut dyn Allowance) -> Option<String> {
        let mut cut = None;
        let mut pieces: Vec<Passed> = Vec::with_capacity(4);
        self.meter.push(chunk, &mut |piece| pieces.push(piece));
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
                Some(message) if !framed => return Some(message),
                // Rare: find the frame to stop at below.
                Some(_) => {}
                None => {
                    self.ready.push(chunk.clone());
                    return None;
                }
            }
        }
        self.held.extend_from_slice(chunk);
        for piece in pieces {
            if cut.is_some() {
                break;
            }
            let bytes = self.held.split_to(piece.raw_len.min(self.held.len())).freeze();
            if !piece.hide {
                self.ready.push(bytes);
            }
            if piece.frame_end {
                cut = allowance.covers(piece.text_bytes).err();
            }
        }
        cut
    }

    /// Prices the lines that have come.
    fn take_lines(&mut self, gateway: &Gateway) {
        if let Some(results) = &mut self.results {
            for line in self.meter.take_lines() {
                results.add(gateway, self.exchange, line);
            }
        }
    }

    /// The bytes that end a framed stream with the dialect's error; a break for any other answer.
    fn ending(&mut self, gateway: &Gateway, ending: Ending, message: &str) -> Last {
        // Lines have no ending of their own: one cut short must not look whole.
        if !self.meter.is_framed() || self.results.is_some() {
            return Last::Break;
        }
        let (dialect, operation) = self.exchange.dialect();
        match dialect.terminal(operation, ending, message, self.meter.response_id()) {
            Ok(terminal) => match self.meter.closing(terminal) {
                Some(closing) => {
                    self.ready.push(Bytes::from(closing));
                    Last::Finish(joined(std::mem::take(&mut self.ready)))
                }
                None => Last::Break,
            },
            Err(error) => {
                report::plugin_failed(gateway, &self.exchange.way, 1);
                tracing::warn!(%error, "a plugin gave no ending for a stream");
                Last::Break
            }
        }
    }

    /// What the meter read, and the bytes it held back to the end.
    fn finish(mut self, gateway: &Gateway) -> (Metered, Bytes, Option<Results>) {
        let mut leftover = BytesMut::new();
        let held = &mut self.held;
        let metered = self.meter.finish(&mut |piece| {
            let bytes = held.split_to(piece.raw_len.min(held.len()));
            if !piece.hide {
                leftover.extend_from_slice(&bytes);
            }
        });
        leftover.extend_from_slice(held);
        self.take_lines(gateway);
        (metered, leftover.freeze(), self.results)
    }
}

fn elapsed_ms(exchange: &Exchange) -> u64 {
    u64::try_from(exchange.started.elapsed().as_millis()).unwrap_or(u64::MAX)
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

/// How the client learns where a body without a length ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    H2,
    Chunked,
    /// HTTP/1.0, or no body at all.
    UntilClose,
}

/// The head as the upstream sent it, without what belongs to the hop.
fn head_for_client(
    from: &ResponseHeader,
    framing: Framing,
    length_may_change: bool,
    extra: &[(String, String)],
) -> ResponseHeader {
    let mut head = from.clone();
    for name in NOT_PASSED_ON {
        head.remove_header(name);
    }
    if length_may_change {
        head.remove_header("content-length");
    }
    head.set_version(if framing == Framing::H2 {
        http::Version::HTTP_2
    } else {
        http::Version::HTTP_11
    });
    for (name, value) in extra {
        // Ours alone: an upstream that says the same is overruled. A value that is no header value is left out.
        let _ = head.insert_header(name.clone(), value.as_str());
    }
    if framing == Framing::Chunked && !head.headers.contains_key("content-length") {
        let _ = head.insert_header("Transfer-Encoding", "chunked");
    }
    head
}
