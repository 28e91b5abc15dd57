//! The table of methods: each with what it needs, what it says of itself, and the Rust types that its parameters and its result
//! are, from which `rpc.discover` writes the OpenRPC document. A room of methods adds its own rows.

use std::sync::Arc;

use jsonrpsee::core::server::PendingSubscriptionSink;
use jsonrpsee::types::Params;
use jsonrpsee::{Extensions, RpcModule, server::RegisterMethodError};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::control::error::RpcError;
use crate::control::feeds::{Feeds, Following};
use crate::control::ledger_view::on_disk;
use crate::control::rpc::call::{Call, Caller, Role};
use crate::control::state::ControlState;

/// The methods over their state; nobody else names the library they are written with.
pub type Module = RpcModule<ControlState>;

/// The parameter by which whoever repeats a request gets its first answer.
pub(in crate::control) const REQUEST_ID: &str = "request_id";
pub(in crate::control) const REQUEST_ID_BYTES_MAX: usize = 128;

/// Whose matter a method is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A token that is bound to a tenant may call it, and is shown and changes its tenant's only.
    Tenant,
    /// The whole installation's: not for such tokens.
    Whole,
}

/// What a method says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    pub name: &'static str,
    pub needs: Role,
    pub scope: Scope,
    /// One sentence.
    pub summary: &'static str,
    /// Parameters of an example, JSON.
    pub example: &'static str,
}

impl Method {
    pub const fn new(
        name: &'static str,
        needs: Role,
        scope: Scope,
        summary: &'static str,
        example: &'static str,
    ) -> Method {
        Method {
            name,
            needs,
            scope,
            summary,
            example,
        }
    }
}

/// A method with its types, for `rpc.discover`.
#[derive(Clone, Copy)]
pub struct Described {
    pub method: Method,
    pub params: fn(&mut SchemaGenerator) -> Schema,
    pub result: fn(&mut SchemaGenerator) -> Schema,
}

/// A subscription with its types.
#[derive(Clone, Copy)]
pub struct DescribedFeed {
    pub method: Method,
    /// The method that ends it.
    pub end: &'static str,
    pub params: fn(&mut SchemaGenerator) -> Schema,
    pub item: fn(&mut SchemaGenerator) -> Schema,
}

/// All methods, as rooms add them.
pub struct Table {
    module: Module,
    described: Vec<Described>,
    described_feeds: Vec<DescribedFeed>,
    feeds: Arc<Feeds>,
}

impl Table {
    pub fn new(state: Arc<ControlState>) -> Table {
        Table {
            feeds: Feeds::new(&state),
            module: RpcModule::from_arc(state),
            described: Vec::new(),
            described_feeds: Vec::new(),
        }
    }

    pub fn described_feeds(&self) -> &[DescribedFeed] {
        &self.described_feeds
    }

    pub fn described(&self) -> &[Described] {
        &self.described
    }

    pub fn into_module(self) -> Module {
        self.module
    }

    /// Adds a method. One that needs more than [`Role::Read`] changes something, and may bear a `request_id`.
    pub fn add<P, R>(
        &mut self,
        method: Method,
        run: impl Fn(&ControlState, &Call, P) -> Result<R, RpcError> + Clone + Send + Sync + 'static,
    ) -> Result<(), RegisterMethodError>
    where
        P: DeserializeOwned + Default + JsonSchema + 'static,
        R: Serialize + JsonSchema + 'static,
    {
        self.described.push(Described {
            method,
            params: |generator| generator.subschema_for::<P>(),
            result: |generator| generator.subschema_for::<R>(),
        });
        let handle = move |params: Params<'_>, state: Arc<ControlState>, extensions: Extensions| {
            answer(method, &run, &params, &state, &extensions)
        };
        // The ledger may wait for the disk: never on the runtime's own thread.
        self.module.register_blocking_method(method.name, handle)?;
        Ok(())
    }

    /// Adds a method that waits, however long, and takes no thread meanwhile. Asked again it does what it did: a `request_id` says
    /// nothing more.
    pub fn add_waiting<P, R, F>(
        &mut self,
        method: Method,
        run: impl Fn(Arc<ControlState>, P) -> F + Clone + Send + Sync + 'static,
    ) -> Result<(), RegisterMethodError>
    where
        P: DeserializeOwned + Default + JsonSchema + Send + 'static,
        R: Serialize + JsonSchema + 'static,
        F: Future<Output = Result<R, RpcError>> + Send + 'static,
    {
        self.described.push(Described {
            method,
            params: |generator| generator.subschema_for::<P>(),
            result: |generator| generator.subschema_for::<R>(),
        });
        let handle = move |params: Params<'static>, state: Arc<ControlState>, extensions: Extensions| {
            let run = run.clone();
            let asked = || {
                permit(extensions.get::<Caller>().ok_or(RpcError::Forbidden)?, method)?;
                let mut given = fields(&params)?;
                request_of(method, &mut given)?;
                read(given)
            };
            let asked = asked();
            async move {
                let result = run(state, asked?).await?;
                serde_json::value::to_raw_value(&result).map_err(RpcError::ledger)
            }
        };
        self.module.register_async_method(method.name, handle)?;
        Ok(())
    }

    /// Adds a subscription, whose notifications bear its own name. `pick` says which news a caller with these parameters gets.
    pub fn follow<P, I>(
        &mut self,
        method: Method,
        end: &'static str,
        pick: fn(&ControlState, &Caller, P) -> Result<Following, RpcError>,
    ) -> Result<(), RegisterMethodError>
    where
        P: DeserializeOwned + Default + JsonSchema + 'static,
        I: JsonSchema + 'static,
    {
        self.described_feeds.push(DescribedFeed {
            method,
            end,
            params: |generator| generator.subschema_for::<P>(),
            item: |generator| generator.subschema_for::<I>(),
        });
        let feeds = Arc::clone(&self.feeds);
        let callback = move |params: Params<'static>,
                             pending: PendingSubscriptionSink,
                             state: Arc<ControlState>,
                             extensions: Extensions| {
            let feeds = Arc::clone(&feeds);
            async move {
                let picked = || {
                    let caller = extensions.get::<Caller>().ok_or(RpcError::Forbidden)?;
                    permit(caller, method)?;
                    // Elsewhere nothing happens.
                    state.ledger.live()?;
                    pick(&state, caller, read(fields(&params)?)?)
                };
                match picked() {
                    Ok(following) => feeds.serve(pending, following).await,
                    Err(refused) => pending.reject(refused).await,
                }
            }
        };
        self.module
            .register_subscription(method.name, method.name, end, callback)?;
        Ok(())
    }
}

fn read<P: DeserializeOwned + Default>(given: Map<String, Value>) -> Result<P, RpcError> {
    if given.is_empty() {
        return Ok(P::default());
    }
    serde_json::from_value(Value::Object(given)).map_err(|error| RpcError::InvalidParams(error.to_string()))
}

fn answer<P, R>(
    method: Method,
    run: &impl Fn(&ControlState, &Call, P) -> Result<R, RpcError>,
    params: &Params<'_>,
    state: &ControlState,
    extensions: &Extensions,
) -> Result<Box<RawValue>, RpcError>
where
    P: DeserializeOwned + Default,
    R: Serialize,
{
    let caller = extensions.get::<Caller>().ok_or(RpcError::Forbidden)?;
    permit(caller, method)?;
    let mut given = fields(params)?;
    let request = match method.needs {
        Role::Read => None,
        Role::Operate | Role::Admin => request_of(method, &mut given)?,
    };
    let _one_at_a_time = request.is_some().then(|| state.requests.lock());
    if let Some((id, digest)) = &request
        && let Some((known, answer)) = state.ledger.answered(&caller.name, id)
    {
        if known != *digest {
            return Err(RpcError::RequestReused(id.to_string()));
        }
        // Whoever gave that answer may not have learnt yet whether it is kept.
        let ledger = state.ledger.live()?;
        on_disk(ledger, ledger.last_sequence())?;
        return RawValue::from_string(answer.to_string()).map_err(RpcError::ledger);
    }
    let call = Call {
        caller: caller.clone(),
        method: method.name,
        request,
    };
    let params = read(given)?;
    let result = run(state, &call, params)?;
    serde_json::value::to_raw_value(&result).map_err(RpcError::ledger)
}

pub(in crate::control) fn permit(caller: &Caller, method: Method) -> Result<(), RpcError> {
    if caller.role < method.needs {
        return Err(RpcError::Forbidden);
    }
    if method.scope == Scope::Whole && caller.tenant.is_some() {
        return Err(RpcError::OtherTenant);
    }
    Ok(())
}

fn fields(params: &Params<'_>) -> Result<Map<String, Value>, RpcError> {
    match params.as_str() {
        None | Some("null" | "[]") => Ok(Map::new()),
        Some(text) if params.is_object() => {
            serde_json::from_str(text).map_err(|error| RpcError::InvalidParams(error.to_string()))
        }
        Some(_) => Err(RpcError::InvalidParams(
            "parameters go by name, in an object".to_owned(),
        )),
    }
}

/// The request's own id, taken out of its parameters, and the digest of method and parameters.
fn request_of(
    method: Method,
    given: &mut Map<String, Value>,
) -> Result<Option<(agentledger_ledger::Name, [u8; 32])>, RpcError> {
    let Some(id) = given.remove(REQUEST_ID) else {
        return Ok(None);
    };
    let id = id.as_str().filter(|id| (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()));
    let id =
        id.ok_or_else(|| RpcError::InvalidParams(format!("request_id: text of 1 to {REQUEST_ID_BYTES_MAX} bytes")))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(method.name.as_bytes());
    hasher.update(Value::Object(given.clone()).to_string().as_bytes());
    Ok(Some((id.into(), *hasher.finalize().as_bytes())))
}
