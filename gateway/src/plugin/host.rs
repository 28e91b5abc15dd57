//! Runs one provider plugin. Instances are kept and used again; every call has a deadline and a memory cap, and an
//! instance that failed once is never used again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use wasmtime::component::{Component, Linker};
use wasmtime::{Store, StoreLimits, StoreLimitsBuilder, Trap};

use super::dialect::{
    AnswerFrame, Call, Dialect, DialectError, DialectRefusal, Ending, Info, Meaning, Reading, Request, SocketMessage,
};
use super::engine::{TICK, engine};
use super::{LoadError, convert};

pub(super) mod bindings {
    // What a call hands over is copied into the plugin's memory anyway: it is borrowed until then.
    wasmtime::component::bindgen!({
        path: "../sdk/wit/v1",
        world: "provider",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

use bindings::{Provider, ProviderPre};

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

struct Instance {
    store: Store<StoreLimits>,
    provider: Provider,
    calls: u32,
}

/// A loaded plugin.
pub struct Host {
    name: String,
    info: Info,
    pre: ProviderPre<StoreLimits>,
    caps: Caps,
    idle: Mutex<Vec<Instance>>,
    failures: AtomicU64,
}

impl Host {
    /// Asks the plugin for its `info`, which must say what the gateway can work with.
    pub(super) fn start(name: &str, component: &Component, caps: Caps) -> Result<Host, LoadError> {
        let unfit = |reason: String| LoadError::Unfit {
            plugin: name.to_owned(),
            reason,
        };
        let linker = Linker::new(engine()?);
        let pre = linker
            .instantiate_pre(component)
            .map_err(|error| unfit(format!("{error:#}")))?;
        let pre = ProviderPre::new(pre).map_err(|error| unfit(format!("{error:#}")))?;
        let mut host = Host {
            name: name.to_owned(),
            info: super::dialect::Info::default(),
            pre,
            caps,
            idle: Mutex::new(Vec::new()),
            failures: AtomicU64::new(0),
        };
        let info = host
            .call(|provider, store| provider.call_info(store))
            .map_err(|error| unfit(error.to_string()))?;
        host.info = convert::info(info).map_err(unfit)?;
        host.name.clone_from(&host.info.name);
        Ok(host)
    }

    /// Calls that ended in a trap, out of time, or outside the contract.
    #[cfg(test)]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn instance(&self) -> wasmtime::Result<Instance> {
        if let Some(instance) = self.idle.lock().pop() {
            return Ok(instance);
        }
        let limits = StoreLimitsBuilder::new()
            .memory_size(self.caps.memory_bytes_max)
            .table_elements(100_000)
            .instances(8)
            .memories(4)
            .tables(8)
            .trap_on_grow_failure(true)
            .build();
        let mut store = Store::new(self.pre.engine(), limits);
        store.limiter(|limits| limits);
        store.set_hostcall_fuel(ANSWER_BYTES_MAX);
        store.set_epoch_deadline(self.ticks());
        let provider = self.pre.instantiate(&mut store)?;
        Ok(Instance {
            store,
            provider,
            calls: 0,
        })
    }

    /// The deadline in ticks. One more, since the first may end at once.
    fn ticks(&self) -> u64 {
        let ticks = self.caps.deadline.as_millis().div_ceil(TICK.as_millis().max(1)) + 1;
        u64::try_from(ticks).unwrap_or(u64::MAX / 2)
    }

    fn call<T>(
        &self,
        run: impl FnOnce(&Provider, &mut Store<StoreLimits>) -> wasmtime::Result<T>,
    ) -> Result<T, DialectError> {
        let answer = self.instance().and_then(|mut instance| {
            instance.store.set_epoch_deadline(self.ticks());
            // An error leaves by `?`, and the poisoned instance with it.
            let answer = run(&instance.provider, &mut instance.store)?;
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

    fn failed(&self, reason: String) -> DialectError {
        self.failures.fetch_add(1, Ordering::Relaxed);
        DialectError::Failed {
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

impl Dialect for Host {
    fn info(&self) -> &Info {
        &self.info
    }

    fn inspect(&self, request: &Request) -> Result<Call, DialectError> {
        let lists = convert::lists(request);
        let request = convert::request(request, &lists);
        match self.call(|provider, store| provider.call_inspect(store, request))? {
            Ok(call) => convert::call(call, &self.info).map_err(|reason| self.failed(reason)),
            Err(problem) => Err(DialectError::Problem(convert::problem(problem))),
        }
    }

    fn read(&self, frame: &AnswerFrame<'_>) -> Result<Option<Reading>, DialectError> {
        let frame = convert::frame(frame);
        let reading = self.call(|provider, store| provider.call_read(store, frame))?;
        reading
            .map(convert::reading)
            .transpose()
            .map_err(|reason| self.failed(reason))
    }

    fn terminal(
        &self,
        operation: &str,
        ending: Ending,
        message: &str,
        response_id: Option<&str>,
    ) -> Result<Vec<u8>, DialectError> {
        let ending = convert::ending(ending);
        self.call(|provider, store| provider.call_terminal(store, operation, ending, message, response_id))
    }

    fn error_body(&self, operation: &str, refusal: &DialectRefusal) -> Result<Vec<u8>, DialectError> {
        let refusal = convert::refusal(refusal);
        self.call(|provider, store| provider.call_error_body(store, operation, refusal))
    }

    fn meaning_of(&self, message: &SocketMessage<'_>) -> Result<Option<Meaning>, DialectError> {
        let message = convert::socket_message(message);
        let meaning = self.call(|provider, store| provider.call_meaning_of(store, message))?;
        meaning
            .map(convert::meaning)
            .transpose()
            .map_err(|reason| self.failed(reason))
    }
}
