//! Tasks and threads that nobody waits for have names: one that panics is logged by it. The only place that spawns them.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// Runs the future beside the caller, on the caller's runtime.
#[allow(clippy::disallowed_methods)]
pub fn spawn_named<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    tokio::spawn(named(name, future))
}

/// The same on a runtime that is not the caller's own.
#[allow(clippy::disallowed_methods)]
pub fn spawn_named_on<F>(runtime: &Runtime, name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    runtime.spawn(named(name, future))
}

/// A thread that looks at something now and then; it ends with this, or with what it looks at.
pub struct Watch {
    name: &'static str,
    end: Option<SyncSender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Watch {
    /// The first look is after one `tick`.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start<T: Send + Sync + 'static>(
        name: &'static str,
        tick: Duration,
        of: &Arc<T>,
        mut look: impl FnMut(&Arc<T>) + Send + 'static,
    ) -> std::io::Result<Watch> {
        let of = Arc::downgrade(of);
        let (end, ended) = sync_channel(0);
        let thread = thread::Builder::new().name(name.into()).spawn(move || {
            while ended.recv_timeout(tick) == Err(RecvTimeoutError::Timeout) {
                let Some(of) = of.upgrade() else { return };
                look(&of);
            }
        })?;
        Ok(Watch {
            name,
            end: Some(end),
            thread: Some(thread),
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(thread = self.name, "a thread that looks after something panicked");
        }
    }
}

async fn named<F: Future>(name: &'static str, future: F) -> F::Output {
    let _name = Name(name);
    future.await
}

struct Name(&'static str);

impl Drop for Name {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(task = self.0, "a task panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_watch_looks_until_it_is_dropped_or_what_it_looks_at_is() {
        let (looked, looks) = std::sync::mpsc::channel();
        let watched = Arc::new(7);
        let told = looked.clone();
        let watch = Watch::start("watch", Duration::from_millis(1), &watched, move |seven| {
            told.send(**seven).unwrap()
        });
        let watch = watch.unwrap();
        assert_eq!((looks.recv(), looks.recv()), (Ok(7), Ok(7)));
        drop(watch);
        assert_eq!(Arc::strong_count(&watched), 1);
        let told = looked;
        let _watch = Watch::start("watch", Duration::from_millis(1), &watched, move |_| {
            told.send(8).unwrap()
        })
        .unwrap();
        assert!(looks.iter().any(|look| look == 8));
        drop(watched);
        // Its sender goes with it.
        assert!(looks.iter().all(|look| look == 8));
    }

    #[tokio::test]
    async fn a_task_gives_its_result_and_its_panic_to_who_waits() {
        assert!(spawn_named("answers", async { 7 }).await.is_ok_and(|seven| seven == 7));
        let panicked = spawn_named("panics", async { panic!("on purpose") }).await;
        assert!(panicked.is_err_and(|error| error.is_panic()));
    }
}
