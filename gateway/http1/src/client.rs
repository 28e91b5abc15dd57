//! A connection to an upstream, for one request and its answer.
//!
//! Head and body leave together. An upstream may answer before it has taken all (413, 429) and read no more: its answer ends a
//! write that would wait for ever, and counts.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};
use pingora::protocols::Stream;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

use crate::body::BodyDecoder;
use crate::encode::RequestLines;
use crate::error::Error;
use crate::head::{AnswerHead, HeadError, answer_head, head_end};
use crate::reading::Reader;
use crate::response::ResponseHead;
use crate::writing::{BodyEncoder, Pieces};

/// Longest head of an answer, bytes.
const HEAD_BYTES_MAX: usize = 256 << 10;
/// Interim answers before the one that counts.
const INTERIM_MAX: u32 = 64;
/// Read of an answer that comes while its request is still written.
const EARLY_BYTES: usize = 4 << 10;

#[derive(Debug)]
pub struct ClientSession {
    stream: Stream,
    reader: Reader,
    /// Read, and not yet taken for anything.
    buffer: BytesMut,
    method: Method,
    /// A head that leaves with the first bytes of its body.
    head: Bytes,
    request: BodyEncoder,
    /// `None`: no answer has begun.
    answer: Option<BodyDecoder>,
    keep_alive: bool,
    write_timeout: Option<Duration>,
}

impl ClientSession {
    /// On a connection on which nothing is under way.
    pub fn new(stream: Stream) -> ClientSession {
        ClientSession {
            stream,
            reader: Reader::default(),
            buffer: BytesMut::new(),
            method: Method::GET,
            head: Bytes::new(),
            request: BodyEncoder::Done,
            answer: None,
            keep_alive: false,
            write_timeout: None,
        }
    }

    /// Begins a request. Its head leaves with the body, or with [`ClientSession::finish`].
    pub fn write_head(&mut self, head: &RequestLines) {
        self.method = head.method.clone();
        self.request = BodyEncoder::new(head.body());
        self.head = head.bytes();
    }

    /// Writes bytes of the body.
    ///
    /// # Errors
    /// The upstream takes no more. It may have said why: the answer can be read all the same.
    pub async fn write_body(&mut self, content: Bytes) -> Result<(), Error> {
        if content.is_empty() {
            return Ok(());
        }
        let head = std::mem::take(&mut self.head);
        let pieces = self.request.frame(head, content, false)?;
        self.send(pieces).await
    }

    /// Ends the request.
    ///
    /// # Errors
    /// The upstream takes no more, or the body was shorter than announced.
    pub async fn finish(&mut self) -> Result<(), Error> {
        let head = std::mem::take(&mut self.head);
        let pieces = self.request.frame(head, Bytes::new(), true)?;
        self.send(pieces).await?;
        if self.request.end() {
            Ok(())
        } else {
            Err(Error::TooMuch)
        }
    }

    async fn send(&mut self, mut pieces: Pieces) -> Result<(), Error> {
        let within = self.write_timeout;
        let sent = poll_fn(|cx| match pieces.poll_send(&mut self.stream, cx) {
            Poll::Pending => self.poll_early_answer(cx),
            sent => sent,
        });
        match within {
            Some(within) => timeout(within, sent).await.unwrap_or(Err(Error::TimedOut)),
            None => sent.await,
        }
    }

    /// An error where an answer has begun.
    fn poll_early_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            match head_end(&self.buffer, 0) {
                // An interim answer is none yet.
                Some(end) if is_interim(&self.buffer) => {
                    let _ = self.buffer.split_to(end);
                    continue;
                }
                Some(_) => return Poll::Ready(Err(Error::Answered)),
                None if self.buffer.len() > HEAD_BYTES_MAX => return Poll::Ready(Err(HeadError::TooLong.into())),
                None => {}
            }
            let mut bytes = [0; EARLY_BYTES];
            let mut into = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut into))?;
            if into.filled().is_empty() {
                return Poll::Ready(Err(Error::Closed));
            }
            self.buffer.extend_from_slice(into.filled());
        }
    }

    /// Reads the head of the answer; interim ones are passed over.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub async fn read_head(&mut self) -> Result<ResponseHead, Error> {
        for _ in 0..INTERIM_MAX {
            let head = self.read_one_head().await?;
            let status = head.header.status;
            if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
                continue;
            }
            self.keep_alive = head.keep_alive;
            self.answer = Some(BodyDecoder::new(head.body));
            return Ok(head.header);
        }
        Err(HeadError::TooLong.into())
    }

    async fn read_one_head(&mut self) -> Result<AnswerHead, Error> {
        let mut seen = 0;
        let end = loop {
            if let Some(end) = head_end(&self.buffer, seen) {
                break end;
            }
            seen = self.buffer.len();
            if seen > HEAD_BYTES_MAX {
                return Err(HeadError::TooLong.into());
            }
            if self.reader.read(&mut self.stream, &mut self.buffer).await? == 0 {
                return Err(Error::Closed);
            }
        };
        Ok(answer_head(&self.buffer.split_to(end).freeze(), &self.method)?)
    }

    /// The next bytes of the answer's body; `None` at its end.
    ///
    /// # Errors
    /// It broke off, or cannot be read.
    pub async fn read_body(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(body) = &mut self.answer else { return Ok(None) };
        loop {
            if let Some(content) = body.next(&mut self.buffer)? {
                return Ok(Some(content));
            }
            if body.is_done() {
                return Ok(None);
            }
            let read = self.reader.read_body(&mut self.stream, &mut self.buffer, body);
            if read.await? == 0 {
                return if body.close() { Ok(None) } else { Err(Error::Closed) };
            }
        }
    }

    /// The answer was read to its end.
    pub fn is_answered(&self) -> bool {
        self.answer.as_ref().is_some_and(BodyDecoder::is_done)
    }

    /// `None`: as long as it takes.
    pub fn set_write_timeout(&mut self, within: Option<Duration>) {
        self.write_timeout = within;
    }

    /// Ends the connection: what the upstream does not send any more is cancelled.
    pub async fn shutdown(&mut self) {
        // To say good-bye may take writing, which an upstream that reads no more would hold up.
        if self.request == BodyEncoder::Done {
            let _ = AsyncWriteExt::shutdown(&mut self.stream).await;
        }
    }

    /// The connection for the next request. `None`: it serves none, and is closed.
    pub fn into_reusable(self) -> Option<Stream> {
        let is_over = self.request == BodyEncoder::Done && self.is_answered();
        (self.keep_alive && is_over && self.buffer.is_empty()).then_some(self.stream)
    }

    /// The connection itself, for a protocol that was switched to, and what was read of it already.
    pub fn into_parts(self) -> (Stream, Bytes) {
        (self.stream, self.buffer.freeze())
    }
}

/// Whether a head is of an interim answer, and not of one that switches protocols.
fn is_interim(head: &[u8]) -> bool {
    head.starts_with(b"HTTP/1.1 1") && !head.starts_with(b"HTTP/1.1 101")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use pingora::http::RequestHeader;
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};

    use super::*;

    fn pair() -> (ClientSession, DuplexStream) {
        let (ours, theirs) = duplex(1 << 10);
        (ClientSession::new(Box::new(ours)), theirs)
    }

    fn request(method: &str, fields: &[(&'static str, &str)]) -> RequestLines {
        let mut header = RequestHeader::build(method, b"/v1", None).unwrap();
        header.insert_header("Host", "upstream").unwrap();
        for (name, value) in fields {
            header.insert_header(*name, *value).unwrap();
        }
        RequestLines::of(&header)
    }

    /// What the upstream finds without waiting.
    async fn arrived(upstream: &mut DuplexStream) -> String {
        let mut bytes = vec![0; 1 << 16];
        match timeout(Duration::ZERO, upstream.read(&mut bytes)).await {
            Ok(Ok(count)) => String::from_utf8_lossy(&bytes[..count]).into_owned(),
            _ => String::new(),
        }
    }

    async fn get(answer: &[u8]) -> (ClientSession, Result<ResponseHead, Error>) {
        let (mut session, mut upstream) = pair();
        session.write_head(&request("GET", &[]));
        session.finish().await.unwrap();
        upstream.write_all(answer).await.unwrap();
        drop(upstream);
        let head = session.read_head().await;
        (session, head)
    }

    async fn body(session: &mut ClientSession) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        while let Some(content) = session.read_body().await? {
            body.extend_from_slice(&content);
        }
        Ok(body)
    }

    #[tokio::test]
    async fn head_and_body_leave_as_one() {
        let (mut session, mut upstream) = pair();
        session.write_head(&request("POST", &[("Content-Length", "4")]));
        assert_eq!(arrived(&mut upstream).await, "");
        session.write_body(Bytes::from("body")).await.unwrap();
        let sent = arrived(&mut upstream).await;
        assert_eq!(
            sent,
            "POST /v1 HTTP/1.1\r\nhost: upstream\r\ncontent-length: 4\r\n\r\nbody"
        );
        session.finish().await.unwrap();
        assert_eq!(arrived(&mut upstream).await, "");
    }

    #[tokio::test]
    async fn a_body_shorter_than_announced_is_an_error_and_one_longer_is_not_sent() {
        let (mut session, _upstream) = pair();
        session.write_head(&request("POST", &[("Content-Length", "4")]));
        session.write_body(Bytes::from("bo")).await.unwrap();
        assert!(matches!(
            session.write_body(Bytes::from("dies")).await,
            Err(Error::TooMuch)
        ));
        assert!(matches!(session.finish().await, Err(Error::TooMuch)));
    }

    #[tokio::test]
    async fn an_upload_goes_in_chunks() {
        let (mut session, mut upstream) = pair();
        session.write_head(&request("POST", &[("Transfer-Encoding", "chunked")]));
        session.write_body(Bytes::from("part")).await.unwrap();
        assert!(arrived(&mut upstream).await.ends_with("\r\n\r\n4\r\npart\r\n"));
        session.finish().await.unwrap();
        assert_eq!(arrived(&mut upstream).await, "0\r\n\r\n");
    }

    #[tokio::test]
    async fn an_answer_that_comes_early_ends_a_write_that_would_wait_for_ever() {
        let (mut session, mut upstream) = pair();
        upstream
            .write_all(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            .await
            .unwrap();
        session.write_head(&request("POST", &[("Content-Length", "1048576")]));
        let content = Bytes::from(vec![b'x'; 1 << 20]);
        // Its interim answer is looked through, too: what stands behind that counts.
        let written = timeout(Duration::from_secs(60), session.write_body(content)).await;
        assert!(matches!(written.expect("the write ends"), Err(Error::Answered)));
        assert_eq!(session.read_head().await.unwrap().status, 413);
        timeout(Duration::from_secs(60), session.shutdown())
            .await
            .expect("it waits for nobody");
        assert!(session.into_reusable().is_none());
    }

    #[tokio::test]
    async fn interim_answers_are_passed_over_and_another_protocol_is_not() {
        let answers = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        let (mut session, head) = get(answers).await;
        assert_eq!(head.unwrap().status, 200);
        assert_eq!(body(&mut session).await.unwrap(), b"ok");
        let many = b"HTTP/1.1 102 Processing\r\n\r\n".repeat(INTERIM_MAX as usize + 1);
        let (mut session, mut upstream) = pair();
        session.write_head(&request("GET", &[]));
        session.finish().await.unwrap();
        let sender = tokio::spawn(async move { upstream.write_all(&many).await });
        assert!(session.read_head().await.is_err());
        drop(session);
        let _ = sender.await;
        let (session, head) = get(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nearly").await;
        assert_eq!(head.unwrap().status, 101);
        assert_eq!(session.into_parts().1, "early");
    }

    #[tokio::test]
    async fn a_connection_is_reused_where_its_answer_has_ended_and_nothing_follows() {
        for (answer, reused) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
                true,
            ),
            ("HTTP/1.1 204 No Content\r\n\r\n", true),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
                false,
            ),
            ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", false),
            ("HTTP/1.1 200 OK\r\n\r\nok", false),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n",
                false,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
                false,
            ),
        ] {
            let (mut session, head) = get(answer.as_bytes()).await;
            head.unwrap();
            body(&mut session).await.unwrap();
            assert!(session.is_answered(), "{answer:?}");
            assert_eq!(session.into_reusable().is_some(), reused, "{answer:?}");
        }
        let (session, head) = get(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        head.unwrap();
        assert!(session.into_reusable().is_none(), "its body is unread");
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_or_cannot_be_read_is_an_error() {
        for answer in ["", "HTTP/1.1 200", "HTTP/2 200 OK\r\n\r\n", "nonsense\r\n\r\n"] {
            assert!(get(answer.as_bytes()).await.1.is_err(), "{answer:?}");
        }
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nz",
        ] {
            let (mut session, head) = get(answer.as_bytes()).await;
            head.unwrap();
            assert!(body(&mut session).await.is_err(), "{answer:?}");
            assert!(!session.is_answered());
        }
    }
}
