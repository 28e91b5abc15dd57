//! Tasks and threads that nobody waits for have names: one that panics is logged by it. The only place that spawns them.

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
    #![allow(clippy::panic)]
    use super::*;

    #[tokio::test]
    async fn a_task_gives_its_result_and_its_panic_to_who_waits() {
        assert!(spawn_named("answers", async { 7 }).await.is_ok_and(|seven| seven == 7));
        let panicked = spawn_named("panics", async { panic!("on purpose") }).await;
        assert!(panicked.is_err_and(|error| error.is_panic()));
    }
}
