//! A connection to an upstream that sends a request in one piece.
//!
//! pingora flushes a request's head before its body is written: two sends, two packets, and an upstream that wakes twice.
//! Here what is written is kept until the second flush since the connection was last read: the body's. A reader who
//! waits for the answer sends whatever is still kept, so nothing stays behind.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::{SslDigest, TlsRef};
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Room for the beginning of an answer that comes before its request has left.
const EARLY_BYTES: usize = 4 << 10;
/// Most bytes that are kept back: a head, and a body that is worth copying to save a send.
const KEPT_MAX: usize = 16 << 10;

#[derive(Debug)]
pub struct CoalescedWrites {
    stream: Stream,
    kept: Vec<u8>,
    /// The head's flush was requested and put off.
    head_written: bool,
    /// Read while the request was still being written.
    early: Vec<u8>,
    /// The upstream has answered without reading on: nothing more is written.
    answered: bool,
}

impl CoalescedWrites {
    pub fn new(stream: Stream) -> CoalescedWrites {
        CoalescedWrites {
            stream,
            kept: Vec::new(),
            head_written: false,
            early: Vec::new(),
            answered: false,
        }
    }

    /// The connection itself, for a protocol that is switched to: there, every flush counts. To be called once the
    /// answer has been read, when nothing is kept.
    pub fn into_plain(stream: Stream) -> Option<Stream> {
        if !(*stream).as_any().is::<CoalescedWrites>() {
            return Some(stream);
        }
        let coalesced = stream.into_any().downcast::<CoalescedWrites>().ok()?;
        (coalesced.kept.is_empty() && coalesced.early.is_empty()).then_some(coalesced.stream)
    }

    /// Hands everything kept to the connection, without flushing it.
    fn poll_release(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.kept))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.kept.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl CoalescedWrites {
    /// Writes that are waited for may wait for ever: an upstream that refuses what it has not read (413) reads no more. Its
    /// answer ends them.
    fn poll_early_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.early.is_empty() {
            let mut bytes = [0; EARLY_BYTES];
            let mut into = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut into))?;
            self.early.extend_from_slice(into.filled());
        }
        // An informational answer is none yet.
        if self.early.starts_with(b"HTTP/1.1 1") {
            return Poll::Pending;
        }
        self.answered = true;
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush_through(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_release(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_write_through(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_release(cx))?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }
}

impl AsyncWrite for CoalescedWrites {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.kept.len() + bytes.len() <= KEPT_MAX {
            self.kept.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        match self.poll_write_through(cx, bytes) {
            Poll::Pending => self.poll_early_answer(cx),
            written => written,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.head_written {
            self.head_written = true;
            return Poll::Ready(Ok(()));
        }
        match self.poll_flush_through(cx) {
            // What was written last may wait in the buffer of the connection itself.
            Poll::Pending => self.poll_early_answer(cx).map_ok(|_| ()),
            flushed => flushed,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.answered {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_release(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for CoalescedWrites {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.early.is_empty() {
            let length = self.early.len().min(into.remaining());
            into.put_slice(self.early.get(..length).unwrap_or_default());
            self.early.drain(..length);
            return Poll::Ready(Ok(()));
        }
        if self.head_written && !self.answered {
            ready!(self.poll_release(cx))?;
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.head_written = false;
            // A connection waits in its pool without the room of its last request.
            self.kept = Vec::new();
        }
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

#[async_trait]
impl Shutdown for CoalescedWrites {
    async fn shutdown(&mut self) {
        // To say good-bye it would write what nobody reads any more; dropped it is closed as well.
        if self.answered {
            return;
        }
        self.stream.shutdown().await;
    }
}

#[async_trait]
impl Peek for CoalescedWrites {
    async fn try_peek(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        self.stream.try_peek(buf).await
    }
}

impl UniqueID for CoalescedWrites {
    fn id(&self) -> UniqueIDType {
        self.stream.id()
    }
}

impl Ssl for CoalescedWrites {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.stream.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.stream.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.stream.selected_alpn_proto()
    }
}

impl GetTimingDigest for CoalescedWrites {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.stream.get_timing_digest()
    }
}

impl GetProxyDigest for CoalescedWrites {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.stream.get_proxy_digest()
    }
}

impl GetSocketDigest for CoalescedWrites {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.get_socket_digest()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::{Duration, timeout};

    use super::*;

    fn pair() -> (CoalescedWrites, DuplexStream) {
        let (ours, theirs) = duplex(1 << 20);
        (CoalescedWrites::new(Box::new(ours)), theirs)
    }

    #[tokio::test]
    async fn an_answer_that_comes_early_ends_a_write_that_would_wait_for_ever() {
        let (ours, mut theirs) = duplex(1 << 10);
        let mut ours = CoalescedWrites::new(Box::new(ours));
        theirs.write_all(b"HTTP/1.1 413 Too Large\r\n\r\n").await.unwrap();
        let request = vec![b'x'; 1 << 20];
        let written = timeout(Duration::from_secs(60), ours.write_all(&request)).await;
        assert!(written.expect("the write ends").is_err());
        let mut answer = [0; 26];
        ours.read_exact(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 413 Too Large"));
        timeout(Duration::from_secs(60), AsyncWriteExt::shutdown(&mut ours))
            .await
            .expect("it waits for nobody")
            .unwrap();
    }

    /// What the other side finds without waiting.
    async fn arrived(theirs: &mut DuplexStream) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 20];
        match timeout(Duration::ZERO, theirs.read(&mut bytes)).await {
            Ok(Ok(count)) => bytes[..count].to_vec(),
            _ => Vec::new(),
        }
    }

    #[tokio::test]
    async fn head_and_body_leave_as_one() {
        let (mut ours, mut theirs) = pair();
        for _ in 0..2 {
            ours.write_all(b"head ").await.unwrap();
            ours.flush().await.unwrap();
            assert_eq!(arrived(&mut theirs).await, b"");
            ours.write_all(b"body").await.unwrap();
            ours.flush().await.unwrap();
            assert_eq!(arrived(&mut theirs).await, b"head body");
            theirs.write_all(b"answer").await.unwrap();
            let mut answer = [0; 6];
            ours.read_exact(&mut answer).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_head_alone_leaves_when_the_answer_is_waited_for() {
        let (mut ours, mut theirs) = pair();
        ours.write_all(b"head").await.unwrap();
        ours.flush().await.unwrap();
        let mut answer = [0; 1];
        assert!(timeout(Duration::ZERO, ours.read_exact(&mut answer)).await.is_err());
        assert_eq!(arrived(&mut theirs).await, b"head");
    }

    #[tokio::test]
    async fn a_large_body_keeps_its_order() {
        let (mut ours, mut theirs) = pair();
        let body = vec![b'x'; 3 * KEPT_MAX];
        ours.write_all(b"head ").await.unwrap();
        ours.flush().await.unwrap();
        ours.write_all(&body).await.unwrap();
        ours.write_all(b" end").await.unwrap();
        ours.flush().await.unwrap();
        let expected = [b"head ".as_slice(), &body, b" end"].concat();
        assert_eq!(arrived(&mut theirs).await, expected);
    }

    #[tokio::test]
    async fn uncorked_every_flush_counts() {
        let (mut ours, mut theirs) = pair();
        ours.write_all(b"head").await.unwrap();
        ours.flush().await.unwrap();
        theirs.write_all(b"switched").await.unwrap();
        let mut answer = [0; 8];
        ours.read_exact(&mut answer).await.unwrap();
        assert_eq!(arrived(&mut theirs).await, b"head");
        let mut stream = CoalescedWrites::into_plain(Box::new(ours)).unwrap();
        for message in [b"one", b"two"] {
            stream.write_all(message).await.unwrap();
            stream.flush().await.unwrap();
            assert_eq!(arrived(&mut theirs).await, message);
        }
        // What was never corked stays what it is.
        assert!(CoalescedWrites::into_plain(stream).is_some());
    }

    #[tokio::test]
    async fn a_closing_connection_sends_what_is_kept() {
        let (mut ours, mut theirs) = pair();
        ours.write_all(b"head").await.unwrap();
        AsyncWriteExt::shutdown(&mut ours).await.unwrap();
        assert_eq!(arrived(&mut theirs).await, b"head");
    }
}
