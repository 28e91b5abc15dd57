//! Where an MCP request leads, and who sends it.
//!
//! A server is found by its name, which the configuration gives it; nothing that a client or a server says makes one. The key that
//! counts is the one that the gateway is told of by `X-AgentLedger-Key`, else the one that the request bears anyway: what a client
//! sends for the server itself may be another one with every login.

use std::sync::Arc;

use agentledger_ledger::{Inferred, Name};
use pingora::http::RequestHeader;

use super::discovery::{document_of, is_of_resource, path_at_upstream};
use super::endpoints::{ELSEWHERE, Endpoints};
use crate::plugin::Billing;
use crate::proxy::identify::identify;
use crate::proxy::identify::keys::keys_of;
use crate::proxy::identify::ownership::refuse_foreign_pages;
use crate::proxy::relay::rewrite_links::called;
use crate::proxy::sanitize::headers::Passage;
use crate::proxy::sanitize::query::passed_on;
use crate::proxy::sanitize::{check_head, normalise_path};
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::http_session::ServerSession;
use crate::proxy::shared::identity::{Identity, Target};
use crate::proxy::shared::reply::Refusal;
use crate::proxy::shared::rules::{Rules, ToolServer};
use crate::secret::Secret;

/// Under which all servers stand.
const ROOT: &str = "/mcp";
/// The header that names the key that counts, for the gateway alone.
const KEY: &str = "x-agentledger-key";
const SESSION: &str = "mcp-session-id";
/// Letters of the hash that stands for a session of MCP's, whose own id is a secret to some servers.
const SESSION_LETTERS: usize = 24;

/// A request to a server.
pub struct Arrival {
    pub rules: Arc<Rules>,
    pub server: Arc<ToolServer>,
    pub target: Target,
    pub identity: Identity,
    /// Path and query at the upstream.
    pub forward_path: String,
    /// What names the conversation that the request is a part of: on it answers find their requests.
    pub channel: String,
    /// The gateway, as the client called it: `https://host`.
    pub called: Option<String>,
    /// It asks for a document by which clients find out where to log in.
    pub is_document: bool,
    /// It goes to the address that a stream of the older transport told of: its answer comes on that stream.
    pub is_of_stream: bool,
}

/// Whether a path is one of an MCP server's.
pub fn serves(path: &str) -> bool {
    let path = document_of(path).map_or(path, |(_, path)| path);
    below(path, ROOT).is_some()
}

/// What follows a prefix that ends at a segment.
pub fn below<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// The server of a path, and what follows its name. The contract's single upstream has all that no name takes.
///
/// # Errors
/// There is none.
pub fn server_of<'p>(rules: &Rules, path: &'p str) -> Result<(Arc<ToolServer>, &'p str), Refusal> {
    let rest = below(path, ROOT).unwrap_or_default();
    let name = rest.trim_start_matches('/').split('/').next().unwrap_or_default();
    let named = rules
        .tool_servers
        .iter()
        .find(|server| !server.config.keeps_path && *server.name == *name);
    if let Some(server) = named {
        return Ok((Arc::clone(server), rest.get(name.len() + 1..).unwrap_or_default()));
    }
    match rules.tool_servers.iter().find(|server| server.config.keeps_path) {
        Some(server) => Ok((Arc::clone(server), path)),
        None => {
            let names: Vec<&str> = rules.tool_servers.iter().map(|server| &*server.name).collect();
            let message = match names.is_empty() {
                true => "no MCP server is configured here".to_owned(),
                false => format!("no MCP server stands at this path; there are {}", names.join(", ")),
            };
            Err(Refusal::new(RefusalCode::NoRoute, message).final_answer())
        }
    }
}

/// The path of a server's own address, as clients of the gateway call it.
pub fn prefix_of(server: &ToolServer) -> String {
    match server.config.keeps_path {
        true => ROOT.to_owned(),
        false => format!("{ROOT}/{}", server.name),
    }
}

impl Arrival {
    /// Checks the head, and finds the server and who sends the request. No web page of a foreign origin comes further.
    ///
    /// # Errors
    /// Why not, and of which server it is, where that is known.
    pub fn of(
        rules: Arc<Rules>,
        endpoints: &Endpoints,
        session: &mut ServerSession,
    ) -> Result<Arrival, (Refusal, Option<Arc<ToolServer>>)> {
        let checked = check_head(session.req_header(), &rules.config.limits)
            .and_then(|()| normalise_path(session.req_header_mut()));
        checked.map_err(|refusal| (refusal, None))?;
        refuse_foreign_pages(&rules.config, session.req_header()).map_err(|refusal| (refusal, None))?;
        let path = session.req_header().uri.path().to_owned();
        let document = document_of(&path);
        let (server, rest) =
            server_of(&rules, document.map_or(&path, |(_, path)| path)).map_err(|refusal| (refusal, None))?;
        let refused = |refusal: Refusal| (refusal, Some(Arc::clone(&server)));
        let told = endpoints.told(&server.name, &path).filter(|_| document.is_none());
        let is_of_stream = told.is_some();
        if !is_of_stream && below(rest, ELSEWHERE).is_some() {
            let message = "no stream of this server told of such an address";
            return Err(refused(Refusal::new(RefusalCode::NoRoute, message).final_answer()));
        }
        let path = match (document, told) {
            (Some((document, _)), _) => document_path(endpoints, &server, document, rest),
            (None, Some(told)) => told,
            (None, None) => own_path(&server, rest),
        };
        let identity = recognise(&rules, &server, session, document.is_some()).map_err(refused)?;
        let query = session.req_header().uri.query().filter(|query| !query.is_empty());
        let mark = if query.is_some() { "?" } else { "" };
        let forward_path = format!("{path}{mark}{}", query.unwrap_or_default());
        let over_tls = session.is_over_tls();
        let target = Target {
            endpoint: Arc::clone(&server.endpoint),
            dialect_path: path.clone(),
            path,
            operation: Name::from(operation(session.req_header())),
            path_model: None,
            path_id: None,
            billing: Billing::Free,
        };
        Ok(Arrival {
            channel: channel(session.req_header(), &server, &forward_path, &identity),
            called: called(session.req_header(), over_tls),
            is_document: document.is_some(),
            forward_path,
            rules,
            target,
            identity,
            is_of_stream,
            server,
        })
    }
}

/// Where the server has a document: as it told, else as any resource has it.
fn document_path(endpoints: &Endpoints, server: &ToolServer, document: &str, rest: &str) -> String {
    let told = endpoints.document(&server.name).filter(|_| is_of_resource(document));
    told.unwrap_or_else(|| path_at_upstream(server, document, rest))
}

/// The path at the upstream.
fn own_path(server: &ToolServer, rest: &str) -> String {
    let base = &server.config.upstream.base_path;
    match rest {
        "" if server.config.ends_in_slash || base.is_empty() => format!("{base}/"),
        rest => format!("{base}{rest}"),
    }
}

fn operation(header: &RequestHeader) -> &'static str {
    match header.method.as_str() {
        "GET" => "mcp.listen",
        "DELETE" => "mcp.end",
        _ => "mcp",
    }
}

/// The session that the server gave; without one, the address and the caller.
fn channel(header: &RequestHeader, server: &ToolServer, forward_path: &str, identity: &Identity) -> String {
    match header.headers.get(SESSION) {
        Some(session) => format!("{} {}", server.name, String::from_utf8_lossy(session.as_bytes())),
        None => channel_at(server, forward_path, &identity.fingerprint),
    }
}

/// The channel of an address, path and query, and a caller.
pub fn channel_at(server: &ToolServer, forward_path: &str, fingerprint: &str) -> String {
    format!("{} {forward_path} {fingerprint}", server.name)
}

fn recognise(
    rules: &Rules,
    server: &ToolServer,
    session: &mut ServerSession,
    is_document: bool,
) -> Result<Identity, Refusal> {
    let header = session.req_header();
    let mut named = header.headers.get_all(KEY).iter();
    let key = match named.next() {
        Some(key) => Secret::new(String::from_utf8_lossy(key.as_bytes()).trim().to_owned()),
        None => keys_of(&server.endpoint, header)?.key,
    };
    if named.next().is_some() {
        return Err(Refusal::new(RefusalCode::AmbiguousKey, "X-AgentLedger-Key is there twice").final_answer());
    }
    if !is_document {
        refuse_unknown_key(server, &key)?;
    }
    let identity = identity_of(rules, header, key)?;
    take_off_query(session.req_header_mut())?;
    Ok(identity)
}

/// Who sends a request of MCP's: without a session of its own, that of MCP stands for one.
///
/// # Errors
/// A header that is too long or cannot be read.
pub fn identity_of(rules: &Rules, header: &RequestHeader, key: Secret<String>) -> Result<Identity, Refusal> {
    let mut identity = identify(rules, header, key)?;
    if let Some(session) = header
        .headers
        .get(SESSION)
        .filter(|_| rules.config.infers_identity && identity.session.is_empty())
    {
        let hash = blake3::hash(session.as_bytes()).to_hex();
        identity.session = Name::from(format!("mcp-{}", hash.get(..SESSION_LETTERS).unwrap_or_default()));
        identity.inferred = identity.inferred | Inferred::SESSION;
    }
    Ok(identity)
}

/// The gateway's own credential is for those who may use it. Where none are named, it is for all who reach it.
fn refuse_unknown_key(server: &ToolServer, key: &Secret<String>) -> Result<(), Refusal> {
    let known = &server.config.client_keys;
    if known.is_empty() || key.is_among(known) {
        return Ok(());
    }
    let message = format!(
        "the MCP server {0} is for the keys in mcp.servers.{0}.client_keys: send one as X-AgentLedger-Key or Authorization",
        server.name
    );
    Err(Refusal::new(RefusalCode::UnknownKey, message).final_answer())
}

/// What was said to the gateway does not go on.
fn take_off_query(header: &mut RequestHeader) -> Result<(), Refusal> {
    let Some(query) = header.uri.query() else { return Ok(()) };
    let passage = Passage {
        google: false,
        billing: Billing::Free,
    };
    let internal = |_| Refusal::new(RefusalCode::Internal, "the query could not be rewritten");
    let passed = passed_on(query, passage, &[]).unwrap_or_default();
    if passed == query {
        return Ok(());
    }
    let mark = if passed.is_empty() { "" } else { "?" };
    let target = format!("{}{mark}{passed}", header.uri.path());
    header.set_raw_path(target.as_bytes()).map_err(internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_servers_end_at_a_segment() {
        assert!(serves("/mcp") && serves("/mcp/hub") && serves("/mcp/hub/x"));
        assert!(
            serves("/.well-known/oauth-protected-resource/mcp/hub") && !serves("/.well-known/oauth-protected-resource")
        );
        assert!(!serves("/mcpx") && !serves("/v1/mcp") && !serves("/"));
        assert_eq!(below("/mcp/hub/x", "/mcp"), Some("/hub/x"));
    }
}
