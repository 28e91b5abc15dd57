//! MCP: tool calls in the same books as tokens. A call goes the way of a request to a model (identify, decide, reserve,
//! forward, settle, report), by the same steps; what differs stands here.
//!
//! ```text
//! arrive → message, headers → call: hold → forward → relay ∥ answer → traffic → call: settle
//! ```
//!
//! | file | does |
//! |---|---|
//! | `arrive` | path → server; which key counts; who sends it |
//! | `message`, `headers` | what a POST says, read in one way alone; what its headers say of it |
//! | `call` | one tool call, from its hold to its entry; what it costs is a plugin's to say |
//! | `post`, `listen` | a POST; a stream that a client listens on, and the end of a session |
//! | `relay`, `answer`, `event_ids` | bytes go on as they come; a copy is read |
//! | `traffic` | which call an answer is of |
//! | `waiting` | calls whose answer comes by another way: a resumed stream, another round, a task |
//! | `wanted` | calls that were not cancelled, and whose session did not end |
//! | `endpoints`, `discovery` | the older transport's addresses, and documents of where to log in, led here |
//! | `view`, `list`, `definition`, `pins` | a list of tools as its caller may see it; definitions that changed |
//! | `wrap` | the process beside a server that its client starts itself: its calls come by JSON-RPC |
//! | `wrapped`, `spooled` | those calls; and what passed while no gateway ran |
//!
//! Both eras pass byte for byte: 2025-11-25 and before, with sessions, listening streams and the older transport of 2024-11-05; and
//! 2026-07-28, which has none of them.

mod answer;
mod arrive;
mod call;
mod definition;
mod discovery;
mod endpoints;
mod event_ids;
mod headers;
mod list;
mod listen;
mod message;
mod outgoing;
mod pins;
mod post;
mod relay;
mod spooled;
mod traffic;
mod view;
mod waiting;
mod wanted;
pub mod wrap;
mod wrapped;

use std::path::Path;
use std::sync::Arc;

use arrive::{Arrival, prefix_of};
use endpoints::Endpoints;
use pins::{Pins, Undecidable};
use waiting::WaitingCalls;
use wanted::WantedCalls;

pub use arrive::serves;
pub use spooled::Intake;
pub use wrapped::{WrappedCalls, check_caller};

use crate::config::Pin;
use crate::control::{Commit, RpcError, ToolDecision, ToolServerNow};
use crate::proxy::identify::legacy;
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::http_session::ServerSession;
use crate::proxy::shared::refused::RefusedRequest;
use crate::proxy::shared::reply::Refusal;
use crate::proxy::shared::rules::Rules;

/// What is served at a server's path. For whoever asks by `OPTIONS`.
pub const METHODS: &str = "GET, POST, DELETE, OPTIONS";

/// Why nothing was decided about a tool.
enum Undecided {
    Pins(Undecidable),
    Rpc(RpcError),
}

impl From<Undecidable> for Undecided {
    fn from(why: Undecidable) -> Undecided {
        Undecided::Pins(why)
    }
}

/// What outlives a request: calls that are open, those that wait for their answers, addresses that servers told, and pinned definitions of tools.
pub struct Mcp {
    waiting: Arc<WaitingCalls>,
    wanted: Arc<WantedCalls>,
    endpoints: Endpoints,
    pins: Pins,
}

impl Mcp {
    /// `ledger`: the ledger's folder.
    pub fn new(ledger: &Path) -> Mcp {
        Mcp {
            waiting: Arc::default(),
            wanted: Arc::default(),
            endpoints: Endpoints::default(),
            pins: Pins::of(ledger),
        }
    }

    /// The client wants no answer to the call with this id any more. One that waits for it on another stream is over.
    fn cancel(&self, gateway: &Gateway, channel: &str, id: &str) {
        let key = self.wanted.cancel(channel, id);
        self.waiting.abandon(gateway, &key);
    }

    /// No answer comes on this channel any more.
    fn end(&self, gateway: &Gateway, channel: &str) {
        for key in self.wanted.end(channel) {
            self.waiting.abandon(gateway, &key);
        }
    }

    /// The servers that are served, and those whose tools were pinned beside them.
    pub fn servers(&self, rules: &Rules) -> Vec<ToolServerNow> {
        let mut pinned = self.pins.all();
        let word = |pin: Option<Pin>| {
            pin.map(|pin| match pin {
                Pin::Refuse => "refuse",
                Pin::Alert => "alert",
            })
        };
        let served = rules.tool_servers.iter().map(|server| ToolServerNow {
            name: server.name.to_string(),
            transport: "http",
            path: prefix_of(server),
            pin: word(server.config.pin),
            tools: pinned.remove(&*server.name).unwrap_or_default(),
        });
        let mut servers: Vec<ToolServerNow> = served.collect();
        servers.extend(pinned.into_iter().map(|(name, tools)| ToolServerNow {
            name,
            transport: "stdio",
            path: String::new(),
            pin: word(rules.config.mcp.stdio.pin),
            tools,
        }));
        servers
    }

    /// See [`Pins::decide`].
    ///
    /// # Errors
    /// As there.
    pub fn decide(&self, decision: &ToolDecision<'_>, now_ms: i64, commit: &mut Commit<'_>) -> Result<(), RpcError> {
        self.pins
            .decide(decision, now_ms, |pinned| commit(Some(pinned)).map_err(Undecided::Rpc))
            .map_err(|undecided| match undecided {
                Undecided::Rpc(error) => error,
                Undecided::Pins(Undecidable::Unchanged) => RpcError::NotFound(format!(
                    "no tool {:?} of the MCP server {:?} has changed",
                    decision.tool, decision.server
                )),
                Undecided::Pins(Undecidable::Other) => {
                    RpcError::Conflict("definition: it is another one by now: mcp.servers has it".to_owned())
                }
            })
    }

    /// Serves one request. `false`: the connection cannot be used again.
    ///
    /// # Errors
    /// Why it is refused.
    pub async fn serve(&self, gateway: &Arc<Gateway>, session: &mut ServerSession) -> Result<bool, RefusedRequest> {
        let rules = gateway.rules.load_full();
        let arrival = Arrival::of(rules, &self.endpoints, session).map_err(|(refusal, server)| {
            RefusedRequest::new(refusal, server.as_ref().map(|server| &server.endpoint), "")
        })?;
        legacy::link(gateway, &arrival.identity);
        match session.req_header().method.as_str() {
            "GET" if arrival.is_document => discovery::discover(gateway, self, &arrival, session).await,
            "POST" if !arrival.is_document => post::post(gateway, self, &arrival, session).await,
            "GET" | "DELETE" if !arrival.is_document => listen::listen(gateway, self, &arrival, session).await,
            _ => {
                let refusal = Refusal::new(
                    RefusalCode::MethodNotAllowed,
                    "an MCP server takes GET, POST and DELETE",
                );
                let refusal = refusal.header("Allow", METHODS).final_answer();
                Err(RefusedRequest::new(refusal, Some(&arrival.server.endpoint), ""))
            }
        }
    }
}
