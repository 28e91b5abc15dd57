//! The data plane's threads. Each has a runtime of its own, and serves a connection that it accepted from its first request to
//! its last: nothing of a request wakes another thread, and what requests use again (connections to upstreams, Lua states,
//! instances of plugins) was used last on the same core. All accept from one socket: whoever has time takes the next connection.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use crate::tasks::spawn_named_on;

/// Time for what still runs in threads for blocking work when a worker ends.
const BLOCKING_PATIENCE: Duration = Duration::from_secs(1);

pub struct Workers(Vec<Worker>);

struct Worker {
    handle: Handle,
    /// Dropped, it ends the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Workers {
    /// One thread for each future, which runs there.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start<F>(serving: Vec<F>) -> io::Result<Workers>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        serving
            .into_iter()
            .enumerate()
            .map(start)
            .collect::<io::Result<_>>()
            .map(Workers)
    }

    /// Runs the future on the caller's thread, with the first worker's timers.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        self.0.first().map(|worker| worker.handle.block_on(future))
    }
}

fn start<F>((index, serving): (usize, F)) -> io::Result<Worker>
where
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let (stop, stopped) = oneshot::channel();
    let thread = thread::Builder::new().name(format!("proxy-{index}"));
    let thread = thread.spawn(move || run(runtime, serving, stopped))?;
    Ok(Worker {
        handle,
        stop: Some(stop),
        thread: Some(thread),
    })
}

fn run<F>(runtime: Runtime, serving: F, stopped: oneshot::Receiver<()>)
where
    F: Future<Output = ()> + Send + 'static,
{
    spawn_named_on(&runtime, "proxy-listener", serving);
    let _ = runtime.block_on(stopped);
    runtime.shutdown_timeout(BLOCKING_PATIENCE);
}

impl Drop for Workers {
    /// Drops what runs on them.
    fn drop(&mut self) {
        for worker in &mut self.0 {
            drop(worker.stop.take());
        }
        for worker in &mut self.0 {
            if worker.thread.take().is_some_and(|thread| thread.join().is_err()) {
                tracing::error!("a worker of the data plane panicked");
            }
        }
    }
}
