//! Tool calls of servers that run beside their clients, held and entered for a wrapper (`wrap`) that asks by JSON-RPC. They take the
//! same steps as calls over HTTP; what differs is who waits for the answer.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use agentledger_ledger::{BillId, Name, Outcome};
use bytes::Bytes;
use http::HeaderValue;
use parking_lot::Mutex;
use pingora::http::RequestHeader;
use serde_json::value::RawValue;
use ulid::Ulid;

use super::Mcp;
use super::answer::Says;
use super::arrive::identity_of;
use super::call::{Arguments, Called, Caller, OpenCall};
use super::definition::Definition;
use super::listen::admit;
use super::message::{TOOLS_LIST, is_tool_name};
use super::post::in_words;
use super::view::ToolView;
use crate::config::{ToolRefusals, is_server_name};
use crate::control::RpcError;
use crate::control::wire::{
    BEGUN_MAX, BeginParams, BeginResult, CallEnding, EndParams, EndResult, ListParams, ListResult, ToolCaller,
};
use crate::estimate_reason;
use crate::limits::Limits;
use crate::plugin::{Billing, ResultSeen};
use crate::proxy::identify::infer::CLAUDE_SESSION;
use crate::proxy::identify::{check_said, legacy};
use crate::proxy::shared::body::Body;
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::identity::{Identity, Target};
use crate::proxy::shared::json_rpc::{self, MCP};
use crate::proxy::shared::reply::Refusal;
use crate::proxy::shared::rules::Rules;
use crate::proxy::{report, session};
use crate::secret::Secret;
use crate::timer::Timer;

/// The status of an answer on a pipe.
pub(super) const ANSWERED: u16 = 200;
/// That of a call of which no answer was seen.
pub(super) const NO_STATUS: u16 = 0;

/// While so many calls are being begun, a further one waits for no holds of others.
const WAITING_MAX: usize = BEGUN_MAX * 2 / 3;

/// The calls that wrappers have open, each until it ends, or nobody has kept it for `mcp.answer_wait`.
pub struct WrappedCalls {
    gateway: Arc<Gateway>,
    mcp: Arc<Mcp>,
    open: Mutex<HashMap<Ulid, Kept>>,
    begins: Begins,
}

/// Calls that are being begun, each by one request at a time.
#[derive(Default)]
struct Begins(Mutex<HashMap<Ulid, Arc<tokio::sync::Mutex<()>>>>);

/// A request's turn to begin a call.
struct Turn<'a> {
    begins: &'a Begins,
    id: Ulid,
    guard: Option<tokio::sync::OwnedMutexGuard<()>>,
}

impl Begins {
    /// Waits for who begins the same call: one that is asked for twice is held once.
    async fn turn(&self, id: Ulid) -> Turn<'_> {
        let lock = Arc::clone(self.0.lock().entry(id).or_default());
        // Made first: one whose client leaves meanwhile leaves nothing behind.
        let mut turn = Turn {
            begins: self,
            id,
            guard: None,
        };
        turn.guard = Some(lock.lock_owned().await);
        turn
    }

    fn len(&self) -> usize {
        self.0.lock().len()
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut begins = self.begins.0.lock();
        self.guard = None;
        // Who waits has a handle of its own.
        if begins.get(&self.id).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            begins.remove(&self.id);
        }
    }
}

struct Kept {
    call: OpenCall,
    since: Timer,
    patience: Duration,
}

impl WrappedCalls {
    pub fn new(gateway: &Arc<Gateway>, mcp: &Arc<Mcp>) -> WrappedCalls {
        WrappedCalls {
            gateway: Arc::clone(gateway),
            mcp: Arc::clone(mcp),
            open: Mutex::default(),
            begins: Begins::default(),
        }
    }

    /// Holds a call, or says why not.
    ///
    /// # Errors
    /// The parameters are none.
    pub async fn begin(&self, params: &BeginParams) -> Result<BeginResult, RpcError> {
        let id = id_of(&params.id)?;
        let asked_by = match params.request.as_str() {
            "" => None,
            text => Some(RawValue::from_string(text.to_owned()).map_err(|_| invalid("request is no JSON"))?),
        };
        let rules = self.gateway.rules.load_full();
        let keep_ms = u64::try_from(rules.config.mcp.answer_wait.as_millis()).unwrap_or(u64::MAX);
        let _turn = self.begins.turn(id).await;
        let again = self.open.lock().get(&id).map(|kept| self.goes_on(&rules, kept, params));
        // One that a former process of this gateway held was entered by its restart: it may go on all the same.
        let is_entered = again.is_none() && self.gateway.ledger.is_billed(&bill_of(id));
        let begun = match again {
            Some(goes_on) => goes_on,
            None if is_entered => Ok(false),
            None => self.held(&rules, id, params).await.map(|call| {
                let wants_result = call.wants_result();
                self.keep(id, call, rules.config.mcp.answer_wait);
                wants_result
            }),
        };
        Ok(match begun {
            Ok(wants_result) => BeginResult {
                admitted: true,
                wants_result,
                keep_ms,
                ..BeginResult::default()
            },
            Err(refusal) => {
                report::refused(&self.gateway, MCP, &refusal);
                let refusals = ToolRefusals::from_word(&params.refusals).unwrap_or(rules.config.mcp.refusals);
                BeginResult {
                    admitted: false,
                    answer: in_words(refusals, &refusal, asked_by.as_deref()).to_string(),
                    code: refusal.code.as_str().to_owned(),
                    keep_ms,
                    ..BeginResult::default()
                }
            }
        })
    }

    /// Whether a call that is open may go on with another round, and whether its result is wanted.
    fn goes_on(&self, rules: &Rules, kept: &Kept, params: &BeginParams) -> Result<bool, Refusal> {
        let pin = rules.config.mcp.stdio.pin;
        self.mcp.pins.check(pin, &params.server, &params.tool)?;
        session::admit(&self.gateway, &kept.call.exchange)?;
        Ok(kept.call.wants_result())
    }

    async fn held(&self, rules: &Arc<Rules>, id: Ulid, params: &BeginParams) -> Result<OpenCall, Refusal> {
        let arguments = match params.arguments.as_str() {
            "" if params.argument_bytes > 0 => Arguments::Unseen {
                bytes: params.argument_bytes,
                hash: params.argument_hash.clone(),
            },
            text => Arguments::Json(Bytes::copy_from_slice(text.as_bytes())),
        };
        let begun = self.begins.len();
        if begun > BEGUN_MAX || self.open.lock().len() >= rules.config.limits.background_holds_max {
            let message = "too many tool calls of wrapped servers are open";
            return Err(Refusal::new(RefusalCode::Overloaded, message).retry_after(1));
        }
        let longest = match begun {
            ..=WAITING_MAX => rules.config.hold.wait,
            _ => Duration::ZERO,
        };
        let whose = Whose::of(rules, &params.server, &params.tool, &params.caller)?;
        let pin = rules.config.mcp.stdio.pin;
        self.mcp.pins.check(pin, &params.server, &params.tool)?;
        legacy::link(&self.gateway, &whose.identity);
        let called = Called {
            id,
            key: String::new(),
            tool: &params.tool,
            arguments,
            // From its hold on the journal knows what it is billed under, so that a spool that has it, too, bills nothing.
            bill: Some(bill_of(id)),
        };
        let call = whose
            .caller(&self.gateway, rules)
            .begin_within(longest, &whose.header, pending(), called)
            .await?;
        if let Err(refusal) = call.durable().await {
            call.void(refusal.code.as_str());
            return Err(refusal);
        }
        Ok(call)
    }

    /// Which tools of a list its caller may not see, or why it may not have the list.
    pub fn list(&self, params: &ListParams) -> ListResult {
        match self.hidden(params) {
            Ok(hidden) => ListResult {
                hidden,
                ..ListResult::default()
            },
            Err(refusal) => {
                report::refused(&self.gateway, MCP, &refusal);
                let asked_by = RawValue::from_string(params.request.clone()).ok();
                ListResult {
                    answer: json_rpc::error(&refusal, asked_by.as_deref()).to_string(),
                    ..ListResult::default()
                }
            }
        }
    }

    fn hidden(&self, params: &ListParams) -> Result<Vec<String>, Refusal> {
        let rules = self.gateway.rules.load_full();
        let whose = Whose::of(&rules, &params.server, TOOLS_LIST, &params.caller)?;
        legacy::link(&self.gateway, &whose.identity);
        let caller = whose.caller(&self.gateway, &rules);
        let mut listing = caller.exchange(&whose.header, None, Body::own(Bytes::new()));
        listing.operation = Name::from(TOOLS_LIST);
        admit(&self.gateway, &mut listing)?;
        let view = ToolView {
            caller,
            pins: &self.mcp.pins,
            pin: rules.config.mcp.stdio.pin,
            header: whose.header.clone(),
            listing: &listing,
        };
        let hidden = params
            .tools
            .iter()
            .filter(|tool| !view.shows(&tool.name, &Definition::Hash(&tool.definition)));
        Ok(hidden.map(|tool| tool.name.clone()).collect())
    }

    fn keep(&self, id: Ulid, call: OpenCall, patience: Duration) {
        let kept = Kept {
            call,
            since: Timer::start(),
            patience,
        };
        self.open.lock().insert(id, kept);
    }

    /// These go on; how many of them are open.
    ///
    /// # Errors
    /// An id is none.
    pub fn keep_on(&self, ids: &[String]) -> Result<u64, RpcError> {
        let ids = ids.iter().map(|id| id_of(id)).collect::<Result<Vec<_>, _>>()?;
        let mut open = self.open.lock();
        let mut kept = 0;
        for id in ids {
            if let Some(call) = open.get_mut(&id) {
                call.since = Timer::start();
                kept += 1;
            }
        }
        Ok(kept)
    }

    /// A call is over: by this it is priced and entered.
    ///
    /// # Errors
    /// The parameters are none.
    pub fn end(&self, params: &EndParams) -> Result<EndResult, RpcError> {
        let id = id_of(&params.id)?;
        let Some(Kept { call, .. }) = self.open.lock().remove(&id) else {
            return Ok(EndResult { ended: false });
        };
        match Ended::of(params.ending) {
            Ended::Answered(says) => {
                // Where the gateway could not be reached for a while, its own clock has run on.
                let milliseconds = match params.milliseconds {
                    0 => u64::MAX,
                    said => said,
                };
                call.answered_after(milliseconds, &self.gateway, (&says, ANSWERED), seen(params));
            }
            Ended::Unsent => call.void("not_forwarded"),
            Ended::Unseen(outcome, reason) => call.unseen(&self.gateway, outcome, NO_STATUS, reason),
        }
        Ok(EndResult { ended: true })
    }

    /// Enters the calls that nobody keeps any more: their wrappers are gone.
    pub fn look(&self) {
        let late: Vec<OpenCall> = {
            let mut open = self.open.lock();
            let late = open.extract_if(|_, kept| kept.since.elapsed() > kept.patience);
            late.map(|(_, kept)| kept.call).collect()
        };
        late.into_iter().for_each(|call| self.give_up(call));
    }

    /// The gateway goes down: nobody will end them here.
    pub fn close(&self) {
        let open = std::mem::take(&mut *self.open.lock());
        open.into_values().for_each(|kept| self.give_up(kept.call));
    }

    fn give_up(&self, call: OpenCall) {
        tracing::warn!(
            id = %call.exchange.id,
            model = call.exchange.inspected.call.model,
            "nobody keeps a tool call of a wrapped server any more: it is entered at what it held"
        );
        call.unseen(
            &self.gateway,
            Outcome::Recovered,
            NO_STATUS,
            estimate_reason::NOT_ANSWERED,
        );
    }

    pub(super) fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }
}

/// What an ending comes to in the books, whoever tells of it.
pub(super) enum Ended {
    Answered(Says),
    /// The server never had it.
    Unsent,
    /// The server has it, and nobody saw an answer: it is entered at what it held, for this reason.
    Unseen(Outcome, &'static str),
}

impl Ended {
    pub fn of(ending: CallEnding) -> Ended {
        match ending {
            CallEnding::Result => Ended::Answered(Says::Result),
            CallEnding::ToolError => Ended::Answered(Says::ToolError),
            CallEnding::Error => Ended::Answered(Says::Error),
            CallEnding::Unsent => Ended::Unsent,
            CallEnding::ServerGone => Ended::Unseen(Outcome::UpstreamFailed, estimate_reason::UPSTREAM_FAILED),
            CallEnding::ClientGone => Ended::Unseen(Outcome::ClientGone, estimate_reason::CLIENT_GONE),
            CallEnding::NotAnswered => Ended::Unseen(Outcome::Recovered, estimate_reason::NOT_ANSWERED),
        }
    }
}

/// Under which a call is entered once, whoever tells of it.
pub(super) fn bill_of(id: Ulid) -> BillId {
    BillId::of(&[MCP, "call", &id.to_string()])
}

/// What is known of its answer.
pub(super) fn seen(params: &EndParams) -> ResultSeen<'_> {
    match params.result.as_str() {
        "" if params.unread => ResultSeen::Unread(params.result_bytes),
        "" => ResultSeen::Length(params.result_bytes),
        json => ResultSeen::Json(json.as_bytes()),
    }
}

/// What a caller says of itself: each as the header that says it elsewhere, with the variable of its wrapper.
fn said(caller: &ToolCaller) -> [(&'static str, &'static str, &String); 6] {
    [
        ("x-agent-id", "AGENTLEDGER_AGENT_ID", &caller.agent),
        ("x-agent-session", "AGENTLEDGER_SESSION_ID", &caller.session),
        ("x-agent-user", "AGENTLEDGER_USER_ID", &caller.user),
        ("x-agent-task", "AGENTLEDGER_TASK", &caller.task),
        ("x-agent-tags", "AGENTLEDGER_TAGS", &caller.tags),
        ("x-agentledger-tenant", "AGENTLEDGER_TENANT", &caller.tenant),
    ]
}

/// For a wrapper, before it has anything held: whether the gateway can read who calls.
///
/// # Errors
/// Which variable it cannot read, and why.
pub fn check_caller(caller: &ToolCaller, limits: &Limits) -> Result<(), String> {
    for (header, variable, value) in said(caller) {
        check_said(header, value, limits).map_err(|refusal| refusal.message.replace(header, variable))?;
    }
    Ok(())
}

fn id_of(text: &str) -> Result<Ulid, RpcError> {
    Ulid::from_string(text).map_err(|_| invalid("id is no ULID"))
}

fn invalid(text: &str) -> RpcError {
    RpcError::InvalidParams(text.to_owned())
}

/// Whose a call is, as an HTTP request would say it.
pub(super) struct Whose {
    pub header: RequestHeader,
    pub identity: Identity,
    server: Name,
    target: Target,
}

impl Whose {
    /// # Errors
    /// A name that cannot be one.
    pub fn of(rules: &Rules, server: &str, tool: &str, caller: &ToolCaller) -> Result<Whose, Refusal> {
        let refused = |text: &str| Refusal::new(RefusalCode::InvalidMessage, text).final_answer();
        if !is_server_name(server) {
            return Err(refused(
                "a server's name takes letters, digits, '-', '_' and '.', 64 at most",
            ));
        }
        if !is_tool_name(tool) {
            return Err(refused("a tool's name has at most 256 bytes and no control characters"));
        }
        let mut header = RequestHeader::build("POST", format!("/{MCP}/{server}").as_bytes(), Some(8))
            .map_err(|_| refused("the server's name cannot be one"))?;
        let inferred = [
            (CLAUDE_SESSION, &caller.claude_code_session),
            ("mcp-session-id", &caller.connection),
        ];
        for (name, value) in said(caller)
            .map(|(name, _, value)| (name, value))
            .into_iter()
            .chain(inferred)
        {
            if !value.is_empty() {
                HeaderValue::from_bytes(value.as_bytes())
                    .ok()
                    .and_then(|value| header.insert_header(name, value).ok())
                    .ok_or_else(|| refused(&format!("{name} cannot be what it is said to be")))?;
            }
        }
        let identity = identity_of(rules, &header, Secret::new(caller.key.clone()))?;
        Ok(Whose {
            header,
            identity,
            server: Name::from(server),
            target: Target {
                endpoint: Arc::clone(&rules.wrapped),
                dialect_path: String::new(),
                path: String::new(),
                operation: Name::from(MCP),
                path_model: None,
                path_id: None,
                billing: Billing::Metered,
            },
        })
    }

    /// The same of a call that was made: it is the caller's as far as that can be read.
    ///
    /// # Errors
    /// The server's name, or the tool's, cannot be one.
    pub fn of_made(rules: &Rules, server: &str, tool: &str, caller: &ToolCaller) -> Result<Whose, Refusal> {
        Whose::of(rules, server, tool, caller).or_else(|refusal| {
            let mut readable = ToolCaller {
                connection: caller.connection.clone(),
                ..ToolCaller::default()
            };
            let limits = &rules.config.limits;
            let fields = [
                (&mut readable.agent, &caller.agent),
                (&mut readable.session, &caller.session),
                (&mut readable.user, &caller.user),
                (&mut readable.task, &caller.task),
                (&mut readable.tags, &caller.tags),
                (&mut readable.tenant, &caller.tenant),
            ];
            for ((to, from), (name, ..)) in fields.into_iter().zip(said(caller)) {
                if check_said(name, from, limits).is_ok() {
                    to.clone_from(from);
                }
            }
            tracing::warn!(tool, "who made a tool call cannot be read in full: {}", refusal.message);
            Whose::of(rules, server, tool, &readable)
                .or_else(|_| Whose::of(rules, server, tool, &ToolCaller::default()))
        })
    }

    pub fn caller<'a>(&'a self, gateway: &'a Arc<Gateway>, rules: &'a Arc<Rules>) -> Caller<'a> {
        Caller {
            gateway,
            rules,
            server: &self.server,
            target: &self.target,
            identity: &self.identity,
            forward_path: "",
        }
    }
}
