//! A provider's dialect as a plugin: the world `provider`, run in a [`Pool`].

use wasmtime::component::{Component, InstancePre};
use wasmtime::{Store, StoreLimits};

use super::convert;
use super::dialect::{
    AnswerFrame, Call, Dialect, DialectError, DialectRefusal, Ending, Info, Meaning, Reading, Request, SocketMessage,
};
use super::pool::{Caps, Failed, Pool, World};
use super::registry::LoadError;

pub(super) mod bindings {
    // What a call hands over is copied into the plugin's memory anyway: it is borrowed until then.
    wasmtime::component::bindgen!({
        path: "../sdk/wit/v1",
        world: "provider",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

use bindings::{Provider, ProviderPre};

struct ProviderWorld;

impl World for ProviderWorld {
    type Fitted = ProviderPre<StoreLimits>;
    type Exports = Provider;

    fn fit(pre: InstancePre<StoreLimits>) -> wasmtime::Result<Self::Fitted> {
        ProviderPre::new(pre)
    }

    fn instantiate(fitted: &Self::Fitted, store: &mut Store<StoreLimits>) -> wasmtime::Result<Provider> {
        fitted.instantiate(store)
    }
}

/// A loaded plugin.
pub struct Host {
    info: Info,
    pool: Pool<ProviderWorld>,
}

impl Host {
    /// Asks the plugin for its `info`, which must say what the gateway can work with.
    pub(super) fn start(name: &str, component: &Component, caps: Caps) -> Result<Host, LoadError> {
        let unfit = |reason: String| LoadError::Unfit {
            plugin: name.to_owned(),
            reason,
        };
        let mut pool = Pool::new(name, component, caps, ProviderWorld)?;
        let info = pool
            .call(|provider, store| provider.call_info(store))
            .map_err(|failed| unfit(failed.to_string()))?;
        let info = convert::info(info).map_err(unfit)?;
        pool.name.clone_from(&info.name);
        Ok(Host { info, pool })
    }

    /// Calls that ended in a trap, out of time, or outside the contract.
    #[cfg(test)]
    pub fn failures(&self) -> u64 {
        self.pool.failures()
    }

    /// The plugin answered outside its contract.
    fn failed(&self, reason: String) -> DialectError {
        self.pool.failed(reason).into()
    }
}

impl From<Failed> for DialectError {
    fn from(failed: Failed) -> DialectError {
        DialectError::Failed {
            plugin: failed.plugin,
            reason: failed.reason,
        }
    }
}

impl Dialect for Host {
    fn info(&self) -> &Info {
        &self.info
    }

    fn inspect(&self, request: &Request) -> Result<Call, DialectError> {
        let lists = convert::lists(request);
        let request = convert::request(request, &lists);
        match self
            .pool
            .call(|provider, store| provider.call_inspect(store, request))?
        {
            Ok(call) => convert::call(call, &self.info).map_err(|reason| self.failed(reason)),
            Err(problem) => Err(DialectError::Problem(convert::problem(problem))),
        }
    }

    fn read(&self, frame: &AnswerFrame<'_>) -> Result<Option<Reading>, DialectError> {
        let frame = convert::frame(frame);
        let reading = self.pool.call(|provider, store| provider.call_read(store, frame))?;
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
        let ended = self
            .pool
            .call(|provider, store| provider.call_terminal(store, operation, ending, message, response_id));
        Ok(ended?)
    }

    fn error_body(&self, operation: &str, refusal: &DialectRefusal) -> Result<Vec<u8>, DialectError> {
        let refusal = convert::refusal(refusal);
        let body = self
            .pool
            .call(|provider, store| provider.call_error_body(store, operation, refusal));
        Ok(body?)
    }

    fn meaning_of(&self, message: &SocketMessage<'_>) -> Result<Option<Meaning>, DialectError> {
        let message = convert::socket_message(message);
        let meaning = self
            .pool
            .call(|provider, store| provider.call_meaning_of(store, message))?;
        meaning
            .map(convert::meaning)
            .transpose()
            .map_err(|reason| self.failed(reason))
    }
}
