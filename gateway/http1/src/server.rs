//! A client's connection: requests one after the other, each answered before the next is read.
//!
//! Requests are not pipelined: bytes that stand behind a request when its answer ends close the connection after it. So no
//! byte that a reader before us took for a part of one request is ever taken for another request here.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Version;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Stream;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::body::BodyDecoder;
use crate::encode;
use crate::error::Error;
use crate::framing::{BodyLength, HeadFault, has_no_body};
use crate::head::{HeadError, head_end, request_head};
use crate::reading::Reader;
use crate::writing::{BodyEncoder, Pieces};

/// Reads of what a client still sends when its connection is closed.
const READS_AFTER_MAX: u32 = 1 << 10;

/// How a client left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// It closed its sending side. It may still read.
    Closed,
    /// Its connection is broken.
    Reset,
}

#[derive(Debug)]
pub struct ServerSession {
    stream: Stream,
    reader: Reader,
    /// Read, and not yet taken for anything.
    buffer: BytesMut,
    header: RequestHeader,
    fault: Option<HeadFault>,
    has_body: bool,
    body: BodyDecoder,
    /// A head that leaves with the first bytes of its body.
    head: Bytes,
    answer: BodyEncoder,
    /// The answer has none by its status or its request's method, whatever its maker writes.
    is_bodyless: bool,
    /// The connection serves another request when this one is over.
    keep_alive: bool,
    has_left: Option<Departure>,
    write_timeout: Option<Duration>,
}

impl ServerSession {
    pub fn new(stream: Stream) -> ServerSession {
        ServerSession {
            stream,
            reader: Reader::default(),
            buffer: BytesMut::new(),
            header: nothing_read(),
            fault: None,
            has_body: false,
            body: BodyDecoder::NONE,
            head: Bytes::new(),
            answer: BodyEncoder::UntilClose,
            is_bodyless: false,
            keep_alive: false,
            has_left: None,
            write_timeout: None,
        }
    }

    /// Waits for the first byte of the next request. `false`: none comes.
    pub async fn wait_for_request(&mut self) -> bool {
        !self.buffer.is_empty() || matches!(self.reader.read(&mut self.stream, &mut self.buffer).await, Ok(1..))
    }

    /// Reads the head of the next request. One that has not ended within so many bytes is read no further; one that came whole
    /// with the last of them is the caller's to judge. `false`: the client closed the connection instead.
    ///
    /// # Errors
    /// It cannot be read. An answer can be written all the same; the connection ends after it.
    pub async fn read_request(&mut self, bytes_max: usize) -> Result<bool, HeadError> {
        self.begin();
        let mut seen = 0;
        let end = loop {
            // Some clients end a body with a line that is none of it (RFC 9112 §2.2).
            if seen == 0 && self.buffer.starts_with(encode::CRLF) {
                let _ = self.buffer.split_to(encode::CRLF.len());
            }
            if let Some(end) = head_end(&self.buffer, seen) {
                break end;
            }
            seen = self.buffer.len();
            if seen > bytes_max {
                return Err(HeadError::TooLong);
            }
            match self.reader.read(&mut self.stream, &mut self.buffer).await {
                Ok(1..) => {}
                _ if self.buffer.is_empty() => return Ok(false),
                _ => return Err(HeadError::BrokenOff),
            }
        };
        let head = request_head(&self.buffer.split_to(end).freeze())?;
        self.header = head.header;
        self.fault = head.fault;
        self.has_body = head.fault.is_some() || head.body != BodyLength::NONE;
        self.body = BodyDecoder::new(head.body);
        self.keep_alive = head.keep_alive && head.fault.is_none();
        Ok(true)
    }

    fn begin(&mut self) {
        self.header = nothing_read();
        self.fault = None;
        self.has_body = false;
        self.body = BodyDecoder::NONE;
        self.head = Bytes::new();
        self.answer = BodyEncoder::UntilClose;
        self.keep_alive = false;
        self.write_timeout = None;
    }

    pub fn header(&self) -> &RequestHeader {
        &self.header
    }

    pub fn header_mut(&mut self) -> &mut RequestHeader {
        &mut self.header
    }

    /// Why the request is to be refused whatever it asks for.
    pub fn fault(&self) -> Option<HeadFault> {
        self.fault
    }

    /// It was said to have no body.
    pub fn is_body_empty(&self) -> bool {
        !self.has_body
    }

    /// All of its body was read.
    pub fn is_body_done(&self) -> bool {
        self.fault.is_none() && self.body.is_done()
    }

    /// The next bytes of the body; `None` at its end.
    ///
    /// # Errors
    /// It broke off, or cannot be read.
    pub async fn read_body(&mut self) -> Result<Option<Bytes>, Error> {
        if self.fault.is_some() {
            // Where it ends is what two readers would disagree on.
            return Err(Error::Closed);
        }
        loop {
            if let Some(content) = self.body.next(&mut self.buffer)? {
                return Ok(Some(content));
            }
            if self.body.is_done() {
                return Ok(None);
            }
            let read = self.reader.read_body(&mut self.stream, &mut self.buffer, &self.body);
            if read.await? == 0 {
                self.has_left = Some(Departure::Closed);
                return Err(Error::Closed);
            }
        }
    }

    /// Lets the client go on with its body.
    ///
    /// # Errors
    /// It has left.
    pub async fn write_continue(&mut self) -> Result<(), Error> {
        let interim = Pieces::of(Bytes::from_static(encode::CONTINUE));
        interim.send(&mut self.stream, self.write_timeout).await
    }

    /// Writes the head of the answer: at once where nobody knows when its body comes, else with the first bytes of that.
    ///
    /// # Errors
    /// The client has left.
    pub async fn write_head(&mut self, header: &ResponseHeader) -> Result<(), Error> {
        let length = encode::answer_length(header, &self.header);
        // What follows a body that was not read to its end, or an answer that ends with the connection, is no request.
        if !self.is_body_done() || length == BodyLength::UntilClose || !self.buffer.is_empty() {
            self.keep_alive = false;
        }
        self.answer = BodyEncoder::new(length);
        self.is_bodyless = has_no_body(header.status, &self.header.method);
        self.head = encode::answer_head(header, length, self.keep_alive);
        let comes_at_once = matches!(self.answer, BodyEncoder::Exact(1..));
        if comes_at_once {
            return Ok(());
        }
        let head = Pieces::of(std::mem::take(&mut self.head));
        head.send(&mut self.stream, self.write_timeout).await
    }

    /// Writes bytes of the answer's body, and its end with the last.
    ///
    /// # Errors
    /// The client has left or takes nothing more.
    pub async fn write_body(&mut self, content: Bytes, last: bool) -> Result<(), Error> {
        let content = if self.is_bodyless { Bytes::new() } else { content };
        let head = std::mem::take(&mut self.head);
        let pieces = self.answer.frame(head, content, last)?;
        if last && !self.answer.end() {
            self.keep_alive = false;
        }
        pieces.send(&mut self.stream, self.write_timeout).await
    }

    /// The connection serves no further request.
    pub fn close_after(&mut self) {
        self.keep_alive = false;
    }

    /// `None`: as long as it takes.
    pub fn set_write_timeout(&mut self, within: Option<Duration>) {
        self.write_timeout = within;
    }

    /// Ends when the client leaves. Where it sends on meanwhile, it is there, and its connection ends after the answer.
    pub async fn departure(&mut self) -> Departure {
        if let Some(departure) = self.has_left {
            return departure;
        }
        if !self.buffer.is_empty() {
            self.keep_alive = false;
            return std::future::pending().await;
        }
        let departure = match self.reader.read(&mut self.stream, &mut self.buffer).await {
            Ok(0) => Departure::Closed,
            Ok(_) => {
                self.keep_alive = false;
                return std::future::pending().await;
            }
            Err(_) => Departure::Reset,
        };
        self.has_left = Some(departure);
        self.keep_alive = false;
        departure
    }

    /// The answer is over, and another request may come.
    pub fn is_reusable(&self) -> bool {
        self.keep_alive
            && self.answer == BodyEncoder::Done
            && self.body.is_done()
            && self.buffer.is_empty()
            && self.has_left.is_none()
    }

    /// Ends the connection in order: a close over bytes that nobody has read would reset it, and the client might never read its
    /// answer. What it still sends is taken in for so long at most.
    pub async fn close(&mut self, within: Duration) {
        if self.answer != BodyEncoder::Done || self.has_left == Some(Departure::Reset) {
            return;
        }
        self.shutdown().await;
        let sends = !self.is_body_done() || !self.buffer.is_empty();
        if !sends || self.has_left.is_some() {
            return;
        }
        let taken = async {
            for _ in 0..READS_AFTER_MAX {
                self.buffer.clear();
                if !matches!(self.reader.read(&mut self.stream, &mut self.buffer).await, Ok(1..)) {
                    break;
                }
            }
        };
        let _ = timeout(within, taken).await;
    }

    /// Ends the connection where it is.
    pub async fn shutdown(&mut self) {
        let _ = AsyncWriteExt::shutdown(&mut self.stream).await;
    }

    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The connection itself, for a protocol that was switched to, and what was read of it already.
    pub fn into_parts(self) -> (Stream, Bytes) {
        (self.stream, self.buffer.freeze())
    }
}

/// What stands for a head before one is read.
fn nothing_read() -> RequestHeader {
    let mut parts = http::Request::new(()).into_parts().0;
    parts.version = Version::HTTP_11;
    RequestHeader::from(parts)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};

    use super::*;

    fn pair() -> (ServerSession, DuplexStream) {
        let (ours, theirs) = duplex(1 << 16);
        (ServerSession::new(Box::new(ours)), theirs)
    }

    fn ok(fields: &[(&'static str, &str)]) -> ResponseHeader {
        let mut header = ResponseHeader::build(200, None).unwrap();
        for (name, value) in fields {
            header.insert_header(*name, *value).unwrap();
        }
        header
    }

    /// What the client finds without waiting.
    async fn arrived(client: &mut DuplexStream) -> String {
        let mut bytes = vec![0; 1 << 16];
        match timeout(Duration::ZERO, client.read(&mut bytes)).await {
            Ok(Ok(count)) => String::from_utf8_lossy(&bytes[..count]).into_owned(),
            _ => String::new(),
        }
    }

    async fn request(session: &mut ServerSession, client: &mut DuplexStream, text: &str) {
        client.write_all(text.as_bytes()).await.unwrap();
        assert!(session.read_request(1 << 12).await.unwrap());
    }

    async fn body(session: &mut ServerSession) -> Vec<u8> {
        let mut body = Vec::new();
        while let Some(content) = session.read_body().await.unwrap() {
            body.extend_from_slice(&content);
        }
        body
    }

    #[tokio::test]
    async fn a_connection_serves_requests_one_after_the_other() {
        let (mut session, mut client) = pair();
        for _ in 0..3 {
            request(
                &mut session,
                &mut client,
                "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
            )
            .await;
            assert_eq!(body(&mut session).await, b"hello");
            session.write_head(&ok(&[("Content-Length", "2")])).await.unwrap();
            assert_eq!(arrived(&mut client).await, "", "it leaves with its body");
            session.write_body(Bytes::from("ok"), true).await.unwrap();
            let answer = arrived(&mut client).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok"), "{answer}");
            assert!(answer.contains("connection: keep-alive"));
            assert!(session.is_reusable());
        }
    }

    #[tokio::test]
    async fn a_stream_leaves_chunk_by_chunk_and_its_head_at_once() {
        let (mut session, mut client) = pair();
        request(&mut session, &mut client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        session.write_head(&ok(&[("Transfer-Encoding", "chunked")])).await.unwrap();
        assert!(arrived(&mut client).await.ends_with("\r\n\r\n"));
        session.write_body(Bytes::from("data: 1\n\n"), false).await.unwrap();
        assert_eq!(arrived(&mut client).await, "9\r\ndata: 1\n\n\r\n");
        session.write_body(Bytes::new(), true).await.unwrap();
        assert_eq!(arrived(&mut client).await, "0\r\n\r\n");
        assert!(session.is_reusable());
    }

    #[tokio::test]
    async fn http_1_0_gets_no_chunks_and_its_connection_ends() {
        let (mut session, mut client) = pair();
        request(&mut session, &mut client, "GET / HTTP/1.0\r\n\r\n").await;
        session.write_head(&ok(&[("Transfer-Encoding", "chunked")])).await.unwrap();
        session.write_body(Bytes::from("all"), true).await.unwrap();
        let answer = arrived(&mut client).await;
        assert!(!answer.contains("chunked") && answer.contains("connection: close"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nall"));
        assert!(!session.is_reusable());
    }

    #[tokio::test]
    async fn an_answer_without_a_body_has_none_whatever_is_written() {
        for (text, status) in [
            ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 204),
        ] {
            let (mut session, mut client) = pair();
            request(&mut session, &mut client, text).await;
            let mut header = ok(&[("Content-Length", "3")]);
            header.set_status(status).unwrap();
            session.write_head(&header).await.unwrap();
            session.write_body(Bytes::from("abc"), true).await.unwrap();
            assert!(arrived(&mut client).await.ends_with("\r\n\r\n"));
            assert!(session.is_reusable());
        }
    }

    #[tokio::test]
    async fn what_is_not_over_is_not_served_on() {
        let answer = async |text: &str, content: &'static str| {
            let (mut session, mut client) = pair();
            request(&mut session, &mut client, text).await;
            session.write_head(&ok(&[("Content-Length", "2")])).await.unwrap();
            session.write_body(Bytes::from(content), true).await.unwrap();
            (session.is_reusable(), arrived(&mut client).await.contains("connection: close"))
        };
        let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(answer(get, "ok").await, (true, false));
        assert_eq!(answer(get, "o").await, (false, false), "shorter than announced");
        let pipelined = format!("{get}{get}");
        assert_eq!(answer(&pipelined, "ok").await, (false, true), "the next came early");
        let unread = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(answer(unread, "ok").await, (false, true), "its body is unread");
        let closing = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        assert_eq!(answer(closing, "ok").await, (false, true));
        let faulty = "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(answer(faulty, "ok").await, (false, true));
    }

    #[tokio::test]
    async fn a_body_behind_a_fault_is_never_read() {
        let (mut session, mut client) = pair();
        let text = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        request(&mut session, &mut client, text).await;
        assert_eq!(session.fault(), Some(HeadFault::BothFramings));
        assert!(!session.is_body_empty() && !session.is_body_done());
        assert!(session.read_body().await.is_err());
    }

    #[tokio::test]
    async fn a_client_that_leaves_is_seen_and_how() {
        let (mut session, mut client) = pair();
        request(&mut session, &mut client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(timeout(Duration::ZERO, session.departure()).await.is_err(), "it is there");
        client.shutdown().await.unwrap();
        assert_eq!(session.departure().await, Departure::Closed);
        assert_eq!(session.departure().await, Departure::Closed, "however often it is asked");
        assert!(!session.is_reusable());
    }

    #[tokio::test]
    async fn a_client_that_sends_early_has_not_left_and_loses_nothing_it_was_answered() {
        let (mut session, mut client) = pair();
        let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        request(&mut session, &mut client, get).await;
        client.write_all(get.as_bytes()).await.unwrap();
        assert!(timeout(Duration::ZERO, session.departure()).await.is_err());
        assert!(timeout(Duration::ZERO, session.departure()).await.is_err());
        session.write_head(&ok(&[("Content-Length", "2")])).await.unwrap();
        session.write_body(Bytes::from("ok"), true).await.unwrap();
        assert!(arrived(&mut client).await.contains("connection: close"));
        assert!(!session.is_reusable());
    }

    #[tokio::test]
    async fn a_head_is_bounded_and_read_at_any_split() {
        let (mut session, mut client) = pair();
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(1 << 13));
        client.write_all(long.as_bytes()).await.unwrap();
        assert_eq!(session.read_request(1 << 12).await.unwrap_err(), HeadError::TooLong);
        let (mut session, mut client) = pair();
        let whole = format!("{long}\r\n\r\n");
        client.write_all(whole.as_bytes()).await.unwrap();
        assert!(session.read_request(1 << 14).await.unwrap());
        let (mut session, mut client) = pair();
        let sender = tokio::spawn(async move {
            for byte in b"\r\nPOST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n" {
                client.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            client
        });
        assert!(session.read_request(1 << 12).await.unwrap());
        assert_eq!(body(&mut session).await, b"hi");
        assert!(session.is_body_done());
        drop(sender.await);
    }

    #[tokio::test]
    async fn a_connection_that_closes_brings_no_request_and_one_that_breaks_off_none_either() {
        let (mut session, client) = pair();
        drop(client);
        assert!(!session.wait_for_request().await);
        assert!(!session.read_request(1 << 12).await.unwrap());
        let (mut session, mut client) = pair();
        client.write_all(b"GET / HT").await.unwrap();
        drop(client);
        assert_eq!(session.read_request(1 << 12).await.unwrap_err(), HeadError::BrokenOff);
        let (mut session, mut client) = pair();
        request(
            &mut session,
            &mut client,
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhello",
        )
        .await;
        drop(client);
        assert_eq!(session.read_body().await.unwrap().unwrap(), "hello");
        assert!(session.read_body().await.is_err());
    }

    #[tokio::test]
    async fn a_large_body_leaves_whole() {
        let (mut session, mut client) = pair();
        request(&mut session, &mut client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            client.read_to_end(&mut all).await.unwrap();
            all
        });
        session.write_head(&ok(&[("Transfer-Encoding", "chunked")])).await.unwrap();
        let content = Bytes::from(vec![b'x'; 1 << 18]);
        session.write_body(content.clone(), true).await.unwrap();
        drop(session);
        let all = reader.await.unwrap();
        let expected = [b"\r\n\r\n40000\r\n".as_slice(), &content, b"\r\n0\r\n\r\n"].concat();
        assert!(all.ends_with(&expected));
    }
}
