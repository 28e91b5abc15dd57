//! Connections that wait for their next request.
//!
//! The newest is taken first, and looked at before: one that its upstream has closed, or on which it said something unasked, is
//! dropped. No task watches a single connection; one a pool closes, now and then, those that nobody took. Each thread takes the
//! connections that it put in itself: others are driven by another thread's runtime, and would wake it with every byte.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use pingora::protocols::Stream;
use thread_local::ThreadLocal;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::task::coop::unconstrained;
use tokio::time::Instant;

/// Idle connections by where they lead.
#[derive(Debug)]
pub struct IdlePool<K: Send> {
    /// Locked by its own thread, and by the sweeper.
    idle: ThreadLocal<Mutex<Vec<Idle<K>>>>,
    connections_max: usize,
    longest: Duration,
    is_swept: AtomicBool,
}

#[derive(Debug)]
struct Idle<K: Send> {
    to: K,
    stream: Stream,
    since: Instant,
}

impl<K: PartialEq + Send + 'static> IdlePool<K> {
    /// Keeps so many connections of a thread at most, each for so long at most.
    pub fn new(connections_max: usize, longest: Duration) -> Arc<IdlePool<K>> {
        Arc::new(IdlePool {
            idle: ThreadLocal::new(),
            connections_max,
            longest,
            is_swept: AtomicBool::new(false),
        })
    }

    /// Takes a connection of this thread's out that leads there and is still open.
    pub fn take(&self, to: &K) -> Option<Stream> {
        loop {
            let taken = {
                let mut idle = self.idle.get()?.lock();
                let at = idle.iter().rposition(|idle| idle.to == *to)?;
                idle.remove(at)
            };
            let Idle { mut stream, since, .. } = taken;
            if since.elapsed() < self.longest && is_quiet(&mut stream) {
                return Some(stream);
            }
        }
    }

    /// Keeps a connection on which nothing is under way. Where there is no room, the oldest is closed.
    pub fn put(self: &Arc<Self>, to: K, stream: Stream) {
        let oldest = {
            let mut idle = self.idle.get_or_default().lock();
            let oldest = (idle.len() >= self.connections_max && !idle.is_empty()).then(|| idle.remove(0));
            let since = Instant::now();
            idle.push(Idle { to, stream, since });
            oldest
        };
        drop(oldest);
        if !self.is_swept.swap(true, Ordering::AcqRel) {
            tokio::spawn(sweep(Arc::downgrade(self), self.longest));
        }
    }

    /// Connections that wait, of all threads.
    pub fn len(&self) -> usize {
        self.idle.iter().map(|idle| idle.lock().len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Closes what has waited too long or is closed by its upstream. `false`: nothing is left.
    fn sweep(&self) -> bool {
        let mut closed = Vec::new();
        let mut left = 0;
        for idle in &self.idle {
            let mut idle = idle.lock();
            for mut one in std::mem::take(&mut *idle) {
                match one.since.elapsed() < self.longest && is_quiet(&mut one.stream) {
                    true => idle.push(one),
                    false => closed.push(one),
                }
            }
            left += idle.len();
        }
        drop(closed);
        if left == 0 {
            self.is_swept.store(false, Ordering::Release);
        }
        // What was put in meanwhile saw a sweeper that is about to rest.
        left > 0 || (!self.is_empty() && !self.is_swept.swap(true, Ordering::AcqRel))
    }
}

async fn sweep<K: PartialEq + Send + 'static>(pool: Weak<IdlePool<K>>, longest: Duration) {
    loop {
        tokio::time::sleep(longest / 4).await;
        let Some(pool) = pool.upgrade() else { return };
        if !pool.sweep() {
            return;
        }
    }
}

/// Whether an idle connection is open and says nothing: what an upstream says unasked would be taken for the next answer.
fn is_quiet(stream: &mut Stream) -> bool {
    let mut byte = [0];
    let mut into = ReadBuf::new(&mut byte);
    let mut read = std::pin::pin!(unconstrained(std::future::poll_fn(|cx| {
        std::pin::Pin::new(&mut *stream).poll_read(cx, &mut into)
    })));
    // Whoever takes it polls it with a waker of its own.
    matches!(
        read.as_mut().poll(&mut Context::from_waker(Waker::noop())),
        Poll::Pending
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    fn pool(connections_max: usize) -> Arc<IdlePool<u8>> {
        IdlePool::new(connections_max, Duration::from_secs(90))
    }

    fn put(pool: &Arc<IdlePool<u8>>, to: u8) -> DuplexStream {
        let (ours, theirs) = duplex(64);
        pool.put(to, Box::new(ours));
        theirs
    }

    #[tokio::test]
    async fn a_connection_is_taken_by_where_it_leads_and_once() {
        let pool = pool(8);
        let _open = (put(&pool, 1), put(&pool, 2));
        assert!(pool.take(&3).is_none());
        assert!(pool.take(&1).is_some());
        assert!(pool.take(&1).is_none());
        assert!(pool.take(&2).is_some());
    }

    #[tokio::test]
    async fn a_connection_is_taken_by_the_thread_that_drives_it() {
        let pool = pool(8);
        let _open = put(&pool, 1);
        let (there, handle) = (Arc::clone(&pool), tokio::runtime::Handle::current());
        let taken = std::thread::spawn(move || {
            let _inside = handle.enter();
            let _theirs = put(&there, 2);
            (there.take(&1).is_some(), there.take(&2).is_some())
        });
        assert_eq!(taken.join().unwrap(), (false, true));
        assert!(pool.take(&1).is_some());
    }

    #[tokio::test]
    async fn what_its_upstream_closed_or_spoke_on_is_not_taken() {
        let pool = pool(8);
        let open = put(&pool, 1);
        drop(put(&pool, 1));
        let mut speaks = put(&pool, 1);
        speaks.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
        assert!(pool.take(&1).is_some(), "the one that is open");
        assert!(pool.take(&1).is_none());
        drop(open);
    }

    #[tokio::test]
    async fn the_oldest_gives_way() {
        let pool = pool(2);
        let _open = (put(&pool, 1), put(&pool, 2), put(&pool, 3));
        assert_eq!(pool.len(), 2);
        assert!(pool.take(&1).is_none());
    }

    #[tokio::test]
    async fn what_nobody_takes_is_closed_and_the_sweeper_rests_and_comes_again() {
        let pool = pool(8);
        for _ in 0..2 {
            let (open, gone) = (put(&pool, 1), put(&pool, 1));
            drop(gone);
            assert!(pool.is_swept.load(Ordering::Acquire));
            assert!(pool.sweep(), "one is left");
            assert_eq!(pool.len(), 1);
            drop(open);
            assert!(!pool.sweep());
            assert!(!pool.is_swept.load(Ordering::Acquire));
        }
        let impatient: Arc<IdlePool<u8>> = IdlePool::new(8, Duration::ZERO);
        let _open = put(&impatient, 1);
        assert!(impatient.take(&1).is_none(), "it has waited too long");
    }
}
