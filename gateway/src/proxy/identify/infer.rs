//! Who sends a request, where it does not say so by our headers: read from what clients send anyway. One table says what is
//! read from where. What the client does say wins, and nothing in here refuses a request: a value that cannot be a name is
//! passed over, and of a repeated header the first that can be one counts.

use std::borrow::Cow;

use agentledger_ledger::{Inferred, Name, PARENT_TAG};
use http::HeaderMap;
use serde::Deserialize;

use crate::clients::Client;
use crate::limits::Limits;
use crate::proxy::shared::identity::{Identity, Target};
use crate::proxy::shared::inspected::Inspected;
use crate::proxy::shared::rules::Rules;

/// One name, and a place where it may stand.
struct Row {
    what: Inferred,
    at: Place,
    /// The client that means it so; `None`: whoever sends it.
    only: Option<Client>,
}

enum Place {
    Header(&'static str),
    /// The second header's value below the first's: `session/agent`.
    Below(&'static str, &'static str),
    /// The known client's own name.
    KnownClient,
    /// The product that `User-Agent` begins with.
    Product,
    /// A text of the request's body.
    Member(&'static str),
    /// What `metadata.user_id` names.
    UserId(fn(UserId) -> Option<String>),
    /// The trace of `traceparent`.
    Trace,
}

const fn row(what: Inferred, at: Place) -> Row {
    Row { what, at, only: None }
}

const fn row_of(client: Client, what: Inferred, at: Place) -> Row {
    let only = Some(client);
    Row { what, at, only }
}

/// What is read from where: of one name the first place that has one counts. What a subagent does is a session of its own,
/// whose parent is the session that started it.
static ROWS: [Row; 26] = [
    // Claude Code 2.1.197, https://code.claude.com/docs/en/llm-gateway-protocol: one session id for a run and all its
    // subagents; an agent's id on the calls of a subagent, and its parent's where a subagent started it.
    row(SESSION, Place::Below(CLAUDE_SESSION, "x-claude-code-agent-id")),
    row(SESSION, Place::Header(CLAUDE_SESSION)),
    // Codex 0.171.0: one session id for a run, a thread for each of its agents. Until 0.46 it was `session_id` and
    // `conversation_id`.
    row(SESSION, Place::Header("thread-id")),
    row(SESSION, Place::Header("session-id")),
    row(SESSION, Place::Header("session_id")),
    row(SESSION, Place::Header("conversation_id")),
    // opencode 1.18.33: a session for each agent. `session-id` to OpenAI alone, `x-opencode-session` to opencode's own host.
    row(SESSION, Place::Header("x-session-id")),
    row(SESSION, Place::Header("x-opencode-session")),
    row(SESSION, Place::Header("x-session-affinity")),
    // A parent stands beside the session that it started, so it is looked for after it.
    row(PARENT, Place::Below(CLAUDE_SESSION, "x-claude-code-parent-agent-id")),
    row(PARENT, Place::Header(CLAUDE_SESSION)),
    row(PARENT, Place::Header("x-codex-parent-thread-id")),
    row(PARENT, Place::Header("x-parent-session-id")),
    row(PARENT, Place::Header("session-id")),
    // Gemini CLI 0.61.0: the id of its installation. It sends no session's.
    row(USER, Place::Header("x-gemini-api-privileged-user-id")),
    row(AGENT, Place::KnownClient),
    // https://openrouter.ai/docs/app-attribution: the application's name and its address.
    row(AGENT, Place::Header("x-openrouter-title")),
    row(AGENT, Place::Header("x-title")),
    row(AGENT, Place::Header("http-referer")),
    row(AGENT, Place::Product),
    // Claude Code's `metadata.user_id`, where something between took its headers off; others' is any text
    // (https://docs.claude.com/en/api/messages#body-metadata).
    row(SESSION, Place::UserId(|id| id.session)),
    row(USER, Place::UserId(|id| id.user)),
    // Codex 0.171.0 puts its thread there; with others it may be the same for all requests.
    row_of(Client::Codex, SESSION, Place::Member("prompt_cache_key")),
    // https://platform.openai.com/docs/api-reference/responses/create: the end user; `user` is its older name.
    row(USER, Place::Member("safety_identifier")),
    row(USER, Place::Member("user")),
    // The last resort: what one trace holds together, of an agent's requests. An ordinary service has a trace for each request.
    row(SESSION, Place::Trace),
];

/// What clients call a run by, whichever of its agents calls: what is killed with it.
const RUNS: [&str; 2] = [CLAUDE_SESSION, "session-id"];

const AGENT: Inferred = Inferred::AGENT;
const SESSION: Inferred = Inferred::SESSION;
const USER: Inferred = Inferred::USER;
const PARENT: Inferred = Inferred::PARENT;
pub const CLAUDE_SESSION: &str = "x-claude-code-session-id";

/// Longest `metadata` that is looked into.
const METADATA_BYTES_MAX: usize = 16 << 10;

impl Place {
    /// It is in the request's head, so it is read before the body.
    const fn is_in_head(&self) -> bool {
        !matches!(self, Place::Member(_) | Place::UserId(_) | Place::Trace)
    }
}

/// Infers from the head what it can.
pub fn from_head(identity: &mut Identity, headers: &HeaderMap, limits: &Limits) {
    for row in ROWS.iter().filter(|row| row.at.is_in_head()) {
        if row.is_open(identity) {
            let found = in_head(&row.at, identity.client, headers, limits);
            row.put(identity, found.as_deref(), limits);
        }
    }
    if identity.inferred.contains(SESSION)
        && let Some(run) = RUNS.iter().find_map(|header| first(headers, header, limits))
    {
        identity.run = Name::from(run);
    }
}

/// Infers what the head did not say, from the request as it was read.
pub fn from_request(rules: &Rules, identity: &mut Identity, target: &Target, inspected: &Inspected) {
    if !rules.config.infers_identity {
        return;
    }
    for row in ROWS.iter().filter(|row| !row.at.is_in_head()) {
        if row.is_open(identity) {
            let found = match &row.at {
                Place::Trace if !is_an_agents(identity, target, inspected) => None,
                Place::Trace => identity.trace.map(|trace| trace.trace_id()),
                place => in_body(place, target, inspected),
            };
            let limits = &rules.config.limits;
            row.put(identity, found.as_deref().and_then(|text| name(text, limits)), limits);
        }
    }
}

/// It comes from a client that is known, says which agent sends it, or has tools for one.
fn is_an_agents(identity: &Identity, target: &Target, inspected: &Inspected) -> bool {
    let says_agent = !identity.agent.is_empty() && !identity.inferred.contains(AGENT);
    let has_tools = || {
        let outline = inspected.outline.as_ref()?;
        target.endpoint.plugin.sender_member("tools", inspected.json(), outline)
    };
    identity.client.is_some() || says_agent || has_tools().is_some_and(|tools| tools.len() > "[]".len())
}

impl Row {
    /// The name is still wanted. A parent is one of a session that is inferred itself: what somebody names is theirs to place.
    fn is_open(&self, identity: &Identity) -> bool {
        let known = match self.what {
            AGENT => &identity.agent,
            SESSION => &identity.session,
            USER => &identity.user,
            _ => {
                let is_inferred = identity.inferred.contains(SESSION);
                return is_inferred && !identity.tags.contains_key(PARENT_TAG);
            }
        };
        known.is_empty() && (self.only.is_none() || self.only == identity.client)
    }

    fn put(&self, identity: &mut Identity, found: Option<&str>, limits: &Limits) {
        let Some(found) = found else { return };
        match self.what {
            AGENT => identity.agent = Name::from(found),
            SESSION => identity.session = Name::from(found),
            USER => identity.user = Name::from(found),
            // No session started itself.
            _ if *identity.session == *found || identity.tags.len() >= limits.tags_max => return,
            _ => {
                identity.tags.insert(Name::from(PARENT_TAG), Name::from(found));
            }
        }
        identity.inferred = identity.inferred | self.what;
    }
}

fn in_head<'h>(place: &Place, client: Option<Client>, headers: &'h HeaderMap, limits: &Limits) -> Option<Cow<'h, str>> {
    match *place {
        Place::Header(header) => first(headers, header, limits).map(Cow::Borrowed),
        Place::Below(above, below) => {
            let (above, below) = (first(headers, above, limits)?, first(headers, below, limits)?);
            let both = format!("{above}/{below}");
            (both.len() <= limits.identity_bytes_max).then_some(Cow::Owned(both))
        }
        Place::KnownClient => client.map(|client| Cow::Borrowed(client.name())),
        Place::Product => {
            let agent = first(headers, "user-agent", limits)?;
            let product = agent.split(['/', ' ', '(']).next()?;
            (!product.is_empty()).then_some(Cow::Borrowed(product))
        }
        Place::Member(_) | Place::UserId(_) | Place::Trace => None,
    }
}

/// The first of a header's values that can be a name.
fn first<'h>(headers: &'h HeaderMap, header: &str, limits: &Limits) -> Option<&'h str> {
    let values = headers.get_all(header).iter();
    values
        .filter_map(|value| std::str::from_utf8(value.as_bytes()).ok())
        .find_map(|value| name(value, limits))
}

/// The text as a name, where it can be one.
fn name<'t>(text: &'t str, limits: &Limits) -> Option<&'t str> {
    let name = text.trim();
    let fits = !name.is_empty() && name.len() <= limits.identity_bytes_max && !text.chars().any(char::is_control);
    fits.then_some(name)
}

fn in_body(place: &Place, target: &Target, inspected: &Inspected) -> Option<String> {
    let outline = inspected.outline.as_ref()?;
    let plugin = &target.endpoint.plugin;
    let member = |member: &str| plugin.sender_member(member, inspected.json(), outline);
    match place {
        Place::Member(named) => serde_json::from_slice(member(named)?).ok(),
        Place::UserId(part) => part(UserId::of(member("metadata")?)?),
        _ => None,
    }
}

/// What `metadata.user_id` says.
#[derive(Debug, Default, PartialEq, Eq)]
struct UserId {
    user: Option<String>,
    session: Option<String>,
}

impl UserId {
    fn of(metadata: &[u8]) -> Option<UserId> {
        #[derive(Deserialize)]
        struct Metadata {
            user_id: String,
        }
        let small = Some(metadata).filter(|metadata| metadata.len() <= METADATA_BYTES_MAX)?;
        let Metadata { user_id } = serde_json::from_slice(small).ok()?;
        Some(UserId::parse(user_id))
    }

    /// Claude Code 2.1.197 writes JSON, `{"device_id":…,"account_uuid":…,"session_id":…}`; until 2.1 it was
    /// `user_DEVICE_account_UUID_session_UUID`. Any other text is a user's name.
    fn parse(text: String) -> UserId {
        #[derive(Deserialize)]
        struct Device {
            device_id: Option<String>,
            session_id: Option<String>,
        }
        let said = |part: &str| Some(part.to_owned()).filter(|part| !part.is_empty());
        if text.trim_start().starts_with('{') {
            return match serde_json::from_str::<Device>(&text) {
                Ok(device) => UserId {
                    user: device.device_id.as_deref().and_then(said),
                    session: device.session_id.as_deref().and_then(said),
                },
                Err(_) => UserId::default(),
            };
        }
        let parts = text.strip_prefix("user_").and_then(|rest| rest.split_once("_account_"));
        match parts.and_then(|(user, rest)| Some((user, rest.split_once("_session_")?.1))) {
            Some((user, session)) => UserId {
                user: said(user),
                session: said(session),
            },
            None => UserId {
                user: Some(text),
                session: None,
            },
        }
    }
}

#[cfg(test)]
#[path = "infer_tests.rs"]
mod tests;
