//! Runs one plugin of either world. Instances are kept and used again; every call has a deadline and a memory cap, and an
//! instance that failed once is never used again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, ThreadId};
use std::time::Duration;

use parking_lot::Mutex;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Engine, Store, StoreLimits, StoreLimitsBuilder, Trap};

use super::engine::{TICK, engine};
use super::registry::LoadError;

/// Instances kept idle. More may run at one time.
const IDLE_MAX: usize = 32;
/// Calls after which an instance is given up, so that a plugin that leaks does not grow for ever.
const CALLS_MAX: u32 = 100_000;
/// Bytes that one answer of a plugin may make the host allocate.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// What a plugin may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caps {
    pub deadline: Duration,
    pub memory_bytes_max: usize,
}

/// A world of `sdk/wit/v1`, by its generated bindings.
pub(super) trait World: Send + Sync {
    /// A component that was checked against the world.
    type Fitted: Send + Sync;
    /// Its exports in one instance.
    type Exports: Send;

    fn fit(pre: InstancePre<StoreLimits>) -> wasmtime::Result<Self::Fitted>;
    fn instantiate(fitted: &Self::Fitted, store: &mut Store<StoreLimits>) -> wasmtime::Result<Self::Exports>;
    /// What each instance is called with before anything else.
    fn prepare(&self, _exports: &Self::Exports, _store: &mut Store<StoreLimits>) -> wasmtime::Result<()> {
        Ok(())
    }
}

/// A plugin trapped, ran out of time or memory, or answered outside its contract.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("plugin {plugin} failed: {reason}")]
pub struct Failed {
    pub plugin: String,
    pub reason: String,
}

struct Instance<E> {
    store: Store<StoreLimits>,
    /// The thread that used it last: its memory lies in that core's cache.
    thread: ThreadId,
    exports: E,
    calls: u32,
}

/// The instances of one plugin.
pub(super) struct Pool<W: World> {
    pub(super) name: String,
    world: W,
    engine: &'static Engine,
    fitted: W::Fitted,
    caps: Caps,
    idle: Mutex<Vec<Instance<W::Exports>>>,
    failures: AtomicU64,
}

impl<W: World> Pool<W> {
    /// None runs yet. A component that does not export the world is unfit.
    pub(super) fn new(name: &str, component: &Component, caps: Caps, world: W) -> Result<Pool<W>, LoadError> {
        let unfit = |error: wasmtime::Error| LoadError::Unfit {
            plugin: name.to_owned(),
            reason: format!("{error:#}"),
        };
        let engine = engine()?;
        let pre = Linker::new(engine).instantiate_pre(component).map_err(unfit)?;
        Ok(Pool {
            name: name.to_owned(),
            world,
            engine,
            fitted: W::fit(pre).map_err(unfit)?,
            caps,
            idle: Mutex::new(Vec::new()),
            failures: AtomicU64::new(0),
        })
    }

    pub(super) fn world(&self) -> &W {
        &self.world
    }

    /// Calls that ended in a trap, out of time, or outside the contract.
    #[cfg(test)]
    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn instance(&self) -> wasmtime::Result<Instance<W::Exports>> {
        let thread = thread::current().id();
        if let Some(instance) = self.idle(thread) {
            return Ok(Instance { thread, ..instance });
        }
        let limits = StoreLimitsBuilder::new()
            .memory_size(self.caps.memory_bytes_max)
            .table_elements(100_000)
            .instances(8)
            .memories(4)
            .tables(8)
            .trap_on_grow_failure(true)
            .build();
        let mut store = Store::new(self.engine, limits);
        store.limiter(|limits| limits);
        store.set_hostcall_fuel(ANSWER_BYTES_MAX);
        store.set_epoch_deadline(self.ticks());
        let exports = W::instantiate(&self.fitted, &mut store)?;
        self.world.prepare(&exports, &mut store)?;
        Ok(Instance {
            store,
            thread,
            exports,
            calls: 0,
        })
    }

    /// One that this thread used last, else any.
    fn idle(&self, thread: ThreadId) -> Option<Instance<W::Exports>> {
        let mut idle = self.idle.lock();
        match idle.iter().rposition(|instance| instance.thread == thread) {
            Some(own) => Some(idle.swap_remove(own)),
            None => idle.pop(),
        }
    }

    /// The deadline in ticks. One more, since the first may end at once.
    fn ticks(&self) -> u64 {
        let ticks = self.caps.deadline.as_millis().div_ceil(TICK.as_millis().max(1)) + 1;
        u64::try_from(ticks).unwrap_or(u64::MAX / 2)
    }

    pub(super) fn call<T>(
        &self,
        run: impl FnOnce(&W::Exports, &mut Store<StoreLimits>) -> wasmtime::Result<T>,
    ) -> Result<T, Failed> {
        let answer = self.instance().and_then(|mut instance| {
            instance.store.set_epoch_deadline(self.ticks());
            // An error leaves by `?`, and the poisoned instance with it.
            let answer = run(&instance.exports, &mut instance.store)?;
            instance.calls += 1;
            if instance.calls < CALLS_MAX {
                let mut idle = self.idle.lock();
                if idle.len() < IDLE_MAX {
                    idle.push(instance);
                }
            }
            Ok(answer)
        });
        answer.map_err(|error| self.failed(reason(&error)))
    }

    /// Counts a failure: one of a call, or an answer outside the contract.
    pub(super) fn failed(&self, reason: String) -> Failed {
        self.failures.fetch_add(1, Ordering::Relaxed);
        Failed {
            plugin: self.name.clone(),
            reason,
        }
    }
}

/// Why a call failed, without the back trace and whatever else the plugin could put into a message.
fn reason(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => "ran out of time".to_owned(),
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string().chars().take(200).collect(),
    }
}
