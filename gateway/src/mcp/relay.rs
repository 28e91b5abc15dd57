//! A server's answer on its way to the client: bytes go on as they come, and [`Traffic`] reads a copy first, so that a call is in the
//! books before its client has the whole answer. Only what must be changed waits until it is whole.

use agentledger_http1::ResponseHead;
use bytes::{Bytes, BytesMut};

use super::answer::{AnswerReader, MESSAGE_BYTES_MAX, Piece};
use super::event_ids::EventIds;
use super::traffic::{Traffic, Unfit};
use crate::meter::End;
use crate::proxy::forward::Answer;
use crate::proxy::relay::head::{Framing, head_for_client};
use crate::proxy::relay::next::{Next, next};
use crate::proxy::report;
use crate::proxy::session::stopped;
use crate::proxy::shared::cors;
use crate::proxy::shared::exchange::Exchange;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::http_session::ServerSession;

/// Relays an answer to its end. `false`: the connection cannot be used again.
pub async fn relay(
    gateway: &Gateway,
    exchange: &Exchange,
    mut answer: Answer,
    head: ResponseHead,
    mut traffic: Traffic<'_>,
    session: &mut ServerSession,
) -> bool {
    let status = answer.header.status.as_u16();
    let text_of = |name: &str| answer.header.get(name);
    let encoding = text_of("content-encoding").filter(|encoding| !encoding.trim().eq_ignore_ascii_case("identity"));
    let reader = AnswerReader::of(text_of("content-type"), encoding.is_some());
    traffic.began(status);
    let stream = reader.is_stream().then(|| gateway.metrics.stream_opened());
    let mut head = head_for_client(head, Framing::of(exchange, status, session), traffic.edits(), &[]);
    cors::put(session, &mut head);
    session.set_write_timeout(Some(exchange.endpoint.provider.timeouts.idle));
    let mut pump = Pump {
        exchange,
        traffic,
        reader,
        held: BytesMut::new(),
        ids: EventIds::default(),
        unfit: None,
    };
    let (end, unwritten) = match session.write_response_header(&head).await {
        Ok(()) => pump.run(gateway, &mut answer, session).await,
        Err(_) => (End::ClientGone, Bytes::new()),
    };
    if end == End::Completed && answer.connection.session.response_done() && !answer.connection.tainted {
        exchange.endpoint.upstream.release(answer.connection);
    } else {
        // Cancelled, as the client would have it: for 2026-07-28 the end of the stream is the cancellation.
        answer.connection.session.shutdown().await;
    }
    let last = pump.over(end, unwritten);
    drop(stream);
    match last {
        Some(last) if end == End::Completed => session.write_response_body(last, true).await.is_ok(),
        _ if end == End::ClientGone => false,
        // Without an end of the body, so that the client knows.
        _ => {
            session.close_after_answer();
            session.shutdown().await;
            false
        }
    }
}

/// What may have to be changed is held up to here: a whole list of tools, with what of a next message came with its end.
const HELD_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX;

struct Pump<'a> {
    exchange: &'a Exchange,
    traffic: Traffic<'a>,
    reader: AnswerReader,
    /// Bytes that may not go on yet, where something may have to be changed.
    held: BytesMut,
    ids: EventIds,
    unfit: Option<Unfit>,
}

impl Pump<'_> {
    /// How the answer ended, and what of it waits until its calls are settled: a client that has all of its answer finds it in the
    /// books.
    async fn run(&mut self, gateway: &Gateway, answer: &mut Answer, session: &mut ServerSession) -> (End, Bytes) {
        let ended = |end| (end, Bytes::new());
        let stopped = stopped(gateway, self.exchange);
        tokio::pin!(stopped);
        loop {
            match next(self.exchange, stopped.as_mut(), answer, session).await {
                Next::Chunk(chunk) => {
                    let passing = self.take(chunk);
                    if let Some(unfit) = &self.unfit {
                        tracing::warn!(
                            server = self.exchange.endpoint.provider.name,
                            ?unfit,
                            "an answer goes no further"
                        );
                        return ended(End::Cut);
                    }
                    if answer.connection.session.response_done() {
                        return (End::Completed, passing);
                    }
                    if !passing.is_empty() && session.write_response_body(passing, false).await.is_err() {
                        return ended(End::ClientGone);
                    }
                }
                Next::Ended => return ended(End::Completed),
                Next::Broken(how) => {
                    report::upstream_failed(gateway, &self.exchange.endpoint, how);
                    return ended(End::UpstreamFailed);
                }
                Next::ClientGone => return ended(End::ClientGone),
                Next::Stopped(_) => return ended(End::Cut),
            }
        }
    }

    /// Reads a chunk; what may go on.
    fn take(&mut self, chunk: Bytes) -> Bytes {
        if self.reader.is_stream() {
            self.ids.push(&chunk);
        }
        if !self.traffic.edits() {
            let (traffic, unfit) = (&mut self.traffic, &mut self.unfit);
            self.reader.push(&chunk, &mut |piece| {
                *unfit = traffic.take(&piece).err().or(unfit.take())
            });
            return chunk;
        }
        if self.held.len() + chunk.len() > HELD_BYTES_MAX {
            self.unfit = Some(Unfit::Unreadable);
            return Bytes::new();
        }
        self.held.extend_from_slice(&chunk);
        let mut passing = BytesMut::new();
        let mut edit = Edit {
            traffic: &mut self.traffic,
            held: &mut self.held,
            out: &mut passing,
            unfit: &mut self.unfit,
        };
        self.reader.push(&chunk, &mut |piece| edit.piece(&piece));
        passing.freeze()
    }

    /// The answer is over; what was held back to its end, after what is unwritten. `None`: it must not go on.
    fn over(mut self, end: End, unwritten: Bytes) -> Option<Bytes> {
        let mut last = BytesMut::new();
        let mut edit = Edit {
            traffic: &mut self.traffic,
            held: &mut self.held,
            out: &mut last,
            unfit: &mut self.unfit,
        };
        // What broke off is no message.
        if end == End::Completed || self.reader.is_stream() {
            self.reader.finish(&mut |piece| edit.piece(&piece));
        }
        last.extend_from_slice(&self.held);
        self.traffic.end(end, self.ids.are_told());
        match self.unfit {
            Some(unfit) => {
                tracing::warn!(
                    server = self.exchange.endpoint.provider.name,
                    ?unfit,
                    "an answer goes no further"
                );
                None
            }
            None if last.is_empty() => Some(unwritten),
            None => Some([unwritten, last.freeze()].concat().into()),
        }
    }
}

/// Passes pieces on, changed where they must be.
struct Edit<'p, 'a> {
    traffic: &'p mut Traffic<'a>,
    held: &'p mut BytesMut,
    out: &'p mut BytesMut,
    unfit: &'p mut Option<Unfit>,
}

impl Edit<'_, '_> {
    fn piece(&mut self, piece: &Piece<'_>) {
        let raw = self.held.split_to(piece.raw_len.min(self.held.len()));
        match self.traffic.take(piece) {
            Ok(None) => self.out.extend_from_slice(&raw),
            Ok(Some(data)) if piece.event.is_some() || is_event(&raw) => {
                self.out.extend_from_slice(&with_data(&raw, &data))
            }
            Ok(Some(data)) => self.out.extend_from_slice(data.as_bytes()),
            Err(unfit) => *self.unfit = Some(unfit),
        }
    }
}

/// Whether bytes are of an event, and not of a whole answer.
fn is_event(raw: &[u8]) -> bool {
    !raw.trim_ascii_start().starts_with(b"{") && !raw.trim_ascii_start().starts_with(b"[")
}

/// An event with other data: its further fields stay.
fn with_data(raw: &[u8], data: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let lines = raw
        .split(|byte| matches!(byte, b'\n' | b'\r'))
        .filter(|line| !line.is_empty());
    let is_data = |line: &[u8]| line == b"data" || line.starts_with(b"data:");
    for line in lines.filter(|line| !is_data(line)) {
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    for line in data.lines() {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }
    out.push(b'\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_gets_other_data_and_keeps_its_further_fields() {
        let changed = with_data(b"event: endpoint\r\nid: 7\r\ndata: /old\r\n\r\n", "/new");
        assert_eq!(
            String::from_utf8_lossy(&changed),
            "event: endpoint\nid: 7\ndata: /new\n\n"
        );
    }
}
