//! A client's connection: requests one after the other, each answered before the next is read.
//!
//! Requests are not pipelined: bytes that stand behind a request when its answer ends close the connection after it. So no
//! byte that a reader before us took for a part of one request is ever taken for another request here.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Version;
use pingora::http::RequestHeader;
use pingora::protocols::Stream;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::body::BodyDecoder;
use crate::encode;
use crate::error::Error;
use crate::framing::{BodyLength, HeadFault, has_no_body};
use crate::head::{HeadError, RequestHead, head_end, request_head};
use crate::reading::Reader;
use crate::response::ResponseHead;
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
    /// Of the request that is served; what stands for one where it cannot be read.
    header: Arc<RequestHeader>,
    has_head: bool,
    fault: Option<HeadFault>,
    has_body: bool,
    /// The length that its body was said to have.
    length: Option<u64>,
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
            has_head: false,
            fault: None,
            has_body: false,
            length: None,
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

    /// Reads the head of the next request, see [`ServerSession::read_head`], and takes it up. `false`: there is none.
    ///
    /// # Errors
    /// It cannot be read. An answer can be written all the same; the connection ends after it.
    pub async fn read_request(&mut self, bytes_max: usize) -> Result<bool, HeadError> {
        let Some(bytes) = self.read_head(bytes_max).await? else {
            return Ok(false);
        };
        self.take_up(request_head(&bytes)?);
        Ok(true)
    }

    /// Reads the bytes of the next request's head. One that has not ended within so many bytes is read no further; one that came
    /// whole with the last of them is the caller's to judge. `None`: the client closed the connection instead.
    ///
    /// # Errors
    /// There is no whole head.
    pub async fn read_head(&mut self, bytes_max: usize) -> Result<Option<Bytes>, HeadError> {
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
                _ if self.buffer.is_empty() => return Ok(None),
                _ => return Err(HeadError::BrokenOff),
            }
        };
        Ok(Some(self.buffer.split_to(end).freeze()))
    }

    /// Serves the request of this head, which was read last: its body follows on the connection.
    pub fn take_up(&mut self, head: RequestHead) {
        self.header = head.header;
        self.has_head = true;
        self.fault = head.fault;
        self.has_body = head.fault.is_some() || head.body != BodyLength::NONE;
        self.body = BodyDecoder::new(head.body);
        self.length = match head.body {
            BodyLength::Exact(length) => Some(length),
            BodyLength::Chunked | BodyLength::UntilClose => None,
        };
        self.keep_alive = head.keep_alive && head.fault.is_none();
    }

    fn begin(&mut self) {
        self.header = nothing_read();
        self.has_head = false;
        self.fault = None;
        self.has_body = false;
        self.length = None;
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
        Arc::make_mut(&mut self.header)
    }

    /// The head as it stands now, for whoever keeps it.
    pub fn shared_header(&self) -> Arc<RequestHeader> {
        Arc::clone(&self.header)
    }

    /// Puts a head in the place of this request's: what was made of an equal one before.
    pub fn set_header(&mut self, header: Arc<RequestHeader>) {
        self.header = header;
    }

    /// The length that its body was said to have; `None`: its end tells.
    pub fn body_length(&self) -> Option<u64> {
        self.length
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
    pub async fn write_head(&mut self, header: &ResponseHead) -> Result<(), Error> {
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
        let is_read = self.has_head && self.is_body_done() && self.buffer.is_empty();
        if is_read || self.has_left.is_some() {
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
fn nothing_read() -> Arc<RequestHeader> {
    static NOTHING: LazyLock<Arc<RequestHeader>> = LazyLock::new(|| {
        let mut parts = http::Request::new(()).into_parts().0;
        parts.version = Version::HTTP_11;
        Arc::new(RequestHeader::from(parts))
    });
    Arc::clone(&NOTHING)
}

#[cfg(test)]
mod tests;
