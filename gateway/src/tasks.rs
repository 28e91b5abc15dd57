//! Tasks and threads that nobody waits for have names: one that panics is logged by it. The only place that spawns them.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// How far behind requests the threads of a [`background`] runtime stand, as `nice` counts it.
const NICENESS: i32 = 10;

/// A runtime of one thread, and threads for what blocks, beside those that serve requests: where the processor is short, requests
/// come first, whoever opened fifty dashboards or takes a backup.
pub fn background(name: &'static str) -> Builder {
    let mut builder = Builder::new_multi_thread();
    builder
        .worker_threads(1)
        .thread_name(name)
        .enable_all()
        .on_thread_start(stand_behind);
    builder
}

/// On Linux a thread has a niceness of its own; elsewhere the whole process would stand behind.
fn stand_behind() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpriority_process, setpriority_process};
        // Never before where the whole process was put.
        if getpriority_process(None).is_ok_and(|niceness| niceness < NICENESS)
            && let Err(error) = setpriority_process(None, NICENESS)
        {
            tracing::debug!(%error, "a background thread could not be put behind requests");
        }
    }
}

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

    #[cfg(target_os = "linux")]
    #[test]
    fn a_background_runtime_stands_behind_and_its_starter_does_not() {
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let own = niceness();
        let runtime = background("behind").build().unwrap();
        let worker = runtime.block_on(async { spawn_named("reads", async move { niceness() }).await.unwrap() });
        let blocking = runtime.block_on(async { tokio::task::spawn_blocking(niceness).await.unwrap() });
        assert_eq!(
            (worker, blocking, niceness()),
            (own.max(NICENESS), own.max(NICENESS), own)
        );
    }

    #[tokio::test]
    async fn a_task_gives_its_result_and_its_panic_to_who_waits() {
        assert!(spawn_named("answers", async { 7 }).await.is_ok_and(|seven| seven == 7));
        let panicked = spawn_named("panics", async { panic!("on purpose") }).await;
        assert!(panicked.is_err_and(|error| error.is_panic()));
    }
}
