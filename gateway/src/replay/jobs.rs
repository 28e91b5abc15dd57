//! Replays that run beside the gateway's work: one at a time, on a thread of its own, each with a result for a while.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use parking_lot::Mutex;
use ulid::Ulid;

use super::report::Replayed;
use super::run::Progress;

/// Results that are kept; the oldest are forgotten.
const RESULTS_MAX: usize = 8;

/// How a replay stands.
#[derive(Clone)]
pub struct Job {
    pub id: Ulid,
    pub progress: Arc<Progress>,
    /// `None` while it runs.
    pub result: Option<Result<Arc<Replayed>, String>>,
}

/// All replays of this process.
#[derive(Default)]
pub struct Jobs(Mutex<VecDeque<Job>>, AtomicBool);

/// The right to make the next replay ready: what it tries is compiled and run meanwhile, which takes a while.
pub struct Turn<'a>(&'a AtomicBool);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Jobs {
    /// # Errors
    /// Another one runs, or is made ready.
    pub fn turn(&self) -> Result<Turn<'_>, String> {
        self.refuse_second(&self.0.lock())?;
        if self.1.swap(true, Ordering::AcqRel) {
            return Err("another replay is made ready: try again".to_owned());
        }
        Ok(Turn(&self.1))
    }

    fn refuse_second(&self, jobs: &VecDeque<Job>) -> Result<(), String> {
        match jobs.iter().find(|job| job.result.is_none()) {
            None => Ok(()),
            Some(running) => Err(format!(
                "replay {} runs: wait for it, or end it by `agentledger policy replay --cancel`",
                running.id
            )),
        }
    }

    /// Begins a replay.
    ///
    /// # Errors
    /// Another one runs, or no thread can be had.
    pub fn start(
        self: &Arc<Self>,
        run: impl FnOnce(&Progress) -> Result<Replayed, String> + Send + 'static,
    ) -> Result<Job, String> {
        let job = Job {
            id: Ulid::new(),
            progress: Arc::default(),
            result: None,
        };
        let mut jobs = self.0.lock();
        self.refuse_second(&jobs)?;
        let (all, id, progress) = (Arc::clone(self), job.id, Arc::clone(&job.progress));
        let work = move || {
            // One that panics is no reason for the next not to begin.
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&progress)));
            let result = result.unwrap_or_else(|_| Err("the replay panicked".to_owned()));
            all.finish(id, result.map(Arc::new));
        };
        let spawned = thread::Builder::new().name("replay".into()).spawn(work);
        spawned.map_err(|error| error.to_string())?;
        jobs.push_back(job.clone());
        while jobs.len() > RESULTS_MAX {
            jobs.pop_front();
        }
        Ok(job)
    }

    fn finish(&self, id: Ulid, result: Result<Arc<Replayed>, String>) {
        let mut jobs = self.0.lock();
        if let Some(job) = jobs.iter_mut().find(|job| job.id == id) {
            job.result = Some(result);
        }
    }

    pub fn get(&self, id: Ulid) -> Option<Job> {
        self.0.lock().iter().find(|job| job.id == id).cloned()
    }

    /// The one that runs.
    pub fn running(&self) -> Option<Job> {
        self.0.lock().iter().find(|job| job.result.is_none()).cloned()
    }

    /// Has a replay end; what it has by then is its result.
    pub fn cancel(&self, id: Ulid) -> Option<Job> {
        let job = self.get(id)?;
        job.progress.cancelled.store(true, Ordering::Relaxed);
        Some(job)
    }
}

impl Drop for Jobs {
    /// The process ends: nobody waits for what runs.
    fn drop(&mut self) {
        for job in self.0.lock().iter() {
            job.progress.cancelled.store(true, Ordering::Relaxed);
        }
    }
}
