//! How clients find out where to log in (RFC 9728, RFC 8414): a server's own documents, at the paths that belong to its path here,
//! and with the gateway's address for the resource, which clients compare with what they called.

use std::borrow::Cow;
use std::sync::Arc;

use agentledger_http1::ResponseHead;
use bytes::Bytes;

use super::Mcp;
use super::arrive::{Arrival, below, prefix_of, server_of};
use super::endpoints::is_at;
use super::outgoing::{head_of, request};
use super::relay::relay;
use super::traffic::{Edits, Traffic};
use crate::config::Upstream;
use crate::proxy::forward::forward;
use crate::proxy::shared::body::Body;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::http_session::ServerSession;
use crate::proxy::shared::refused::RefusedRequest;
use crate::proxy::shared::reply::Refusal;
use crate::proxy::shared::rules::ToolServer;

const WWW_AUTHENTICATE: &str = "www-authenticate";

/// What a client asks for before the path of the server that it called.
const DOCUMENTS: [&str; 3] = [
    RESOURCE,
    "/.well-known/oauth-authorization-server",
    "/.well-known/openid-configuration",
];
/// The document of the resource: which servers give tokens for it.
const RESOURCE: &str = "/.well-known/oauth-protected-resource";
const METADATA: &str = "resource_metadata";

/// The document that a path asks for, and the path of the server; `None`: none of these.
pub fn document_of(path: &str) -> Option<(&'static str, &str)> {
    DOCUMENTS
        .into_iter()
        .find_map(|document| Some((document, below(path, document)?)))
}

/// Whether a document is that of the resource itself.
pub fn is_of_resource(document: &str) -> bool {
    document == RESOURCE
}

/// Where a document stands at the upstream: before its path, as for any resource.
pub fn path_at_upstream(server: &ToolServer, document: &str, rest: &str) -> String {
    format!("{document}{}{rest}", server.config.upstream.base_path)
}

/// Serves one. `false`: the connection cannot be used again.
///
/// # Errors
/// Why it is refused.
pub async fn discover(
    gateway: &Arc<Gateway>,
    mcp: &Mcp,
    arrival: &Arrival,
    session: &mut ServerSession,
) -> Result<bool, RefusedRequest> {
    let refused = |refusal: Refusal| RefusedRequest::new(refusal, Some(&arrival.server.endpoint), "");
    let header = session.req_header().clone();
    let mut exchange = arrival.caller(gateway).exchange(&header, None, Body::own(Bytes::new()));
    let is_resource = header.uri.path().starts_with(RESOURCE);
    let answer = loop {
        let outgoing = request(&arrival.server, &exchange, &header, Bytes::new()).map_err(refused)?;
        let at_once = std::future::ready(Ok::<(), Refusal>(()));
        let mut answer = match forward(gateway, &exchange, &outgoing, session, at_once).await {
            Ok(answer) => answer,
            Err(failed) => return failed.refusal().map(refused).map_or(Ok(false), Err),
        };
        if !(is_resource && answer.header.status.is_client_error() && exchange.forward_path != RESOURCE) {
            break answer;
        }
        // Where the server has none for its path it may have one for its host, which clients ask for next: here they could not say
        // of which server.
        answer.connection.session.shutdown().await;
        RESOURCE.clone_into(&mut exchange.forward_path);
    };
    let here = arrival.called.as_ref();
    let edits = match here.filter(|_| is_resource && answer.header.status == 200) {
        Some(here) => Edits::Resource(Resource {
            called: called_at_upstream(arrival, header.uri.path()),
            here: format!("{here}{}", prefix_of(&arrival.server)),
        }),
        None => Edits::Nothing,
    };
    let head = head_of(&arrival.server, &answer.header, &[]);
    let traffic = Traffic::of_document((gateway, mcp, arrival), edits);
    Ok(relay(gateway, &exchange, answer, head, traffic, session).await)
}

/// A server that wants a login says where its document is: it is told of as it stands here. `here` is the gateway, as the client called
/// it.
pub fn lead_challenge_here(mcp: &Mcp, server: &ToolServer, here: &str, head: &mut ResponseHead) {
    let challenges = head.values(WWW_AUTHENTICATE);
    let challenges: Vec<String> = challenges
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .collect();
    if challenges.is_empty() {
        return;
    }
    head.remove(WWW_AUTHENTICATE);
    for challenge in challenges {
        let changed = match metadata_in(&challenge) {
            Some(url) if mcp.endpoints.note_document(server, url) => {
                challenge.replace(url, &format!("{here}{RESOURCE}{}", prefix_of(server)))
            }
            // At another host it is found there.
            _ => challenge,
        };
        // It was a header's value before.
        let _ = head.append(WWW_AUTHENTICATE, &changed);
    }
}

/// The address in `resource_metadata="…"`, quoted or not.
fn metadata_in(challenge: &str) -> Option<&str> {
    let (_, rest) = challenge.split_once(METADATA)?;
    let value = rest.trim_start().strip_prefix('=')?.trim_start();
    let url = match value.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next()?,
        None => value.split([',', ' ']).next()?,
    };
    (!url.is_empty()).then_some(url)
}

/// A resource whose document is asked for.
pub struct Resource {
    /// The path that its client called, at the upstream.
    called: String,
    /// Its address here.
    here: String,
}

/// The path at the upstream that a client called, whose document of the resource it asks for at `path` here.
fn called_at_upstream(arrival: &Arrival, path: &str) -> String {
    let called = document_of(path).map_or(path, |(_, path)| path);
    let rest = server_of(&arrival.rules, called).map_or("", |(_, rest)| rest);
    format!("{}{rest}", arrival.server.config.upstream.base_path)
}

/// Whether an address is the resource's, as clients compare it with what they called: its host, and its path or one above it. Of
/// another one the gateway must not make its own, else no client would see that a server gives itself out as that.
fn is_address_of(resource: &Resource, upstream: &Upstream, address: &str) -> bool {
    let Ok(uri) = address.parse::<http::Uri>() else {
        return false;
    };
    is_at(upstream, &uri) && uri.host().is_some() && below(&resource.called, uri.path().trim_end_matches('/')).is_some()
}

/// A document of the resource with its address here; the rest as it came. `None`: it is of another resource.
pub fn with_resource(document: &str, upstream: &Upstream, resource: &Resource) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Said<'a> {
        #[serde(borrow)]
        resource: &'a serde_json::value::RawValue,
    }
    let said: Said<'_> = serde_json::from_str(document).ok()?;
    let address: Cow<'_, str> = serde_json::from_str(said.resource.get()).ok()?;
    if !is_address_of(resource, upstream, &address) {
        return None;
    }
    let from = (said.resource.get().as_ptr() as usize).checked_sub(document.as_ptr() as usize)?;
    let to = from + said.resource.get().len();
    let here = serde_json::Value::String(resource.here.clone()).to_string();
    Some([document.get(..from)?, &here, document.get(to..)?].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_documents_end_in_the_path_of_their_server() {
        assert_eq!(
            document_of("/.well-known/oauth-protected-resource/mcp/hub"),
            Some((RESOURCE, "/mcp/hub"))
        );
        assert_eq!(document_of("/.well-known/oauth-protected-resourcex/mcp"), None);
        assert_eq!(document_of("/mcp/hub"), None);
    }

    #[test]
    fn the_address_of_a_challenge_is_found() {
        for challenge in [
            r#"Bearer error="invalid_token", resource_metadata="https://h/x""#,
            "Bearer resource_metadata=https://h/x, scope=\"a\"",
        ] {
            assert_eq!(metadata_in(challenge), Some("https://h/x"), "{challenge}");
        }
        assert_eq!(metadata_in("Bearer realm=\"a\""), None);
    }

    fn upstream(base_path: &str) -> Upstream {
        Upstream {
            tls: true,
            host: "up".to_owned(),
            port: 443,
            base_path: base_path.to_owned(),
            ca_file: None,
            h2: false,
        }
    }

    fn said(document: &str, called: &str) -> Option<String> {
        let resource = Resource {
            called: called.to_owned(),
            here: "http://here/mcp/hub".to_owned(),
        };
        with_resource(document, &upstream("/mcp"), &resource)
    }

    #[test]
    fn a_resource_gets_another_address_and_the_rest_stands() {
        let document = r#"{ "resource" : "https://up/mcp", "authorization_servers":["https://as"] }"#;
        let changed = r#"{ "resource" : "http://here/mcp/hub", "authorization_servers":["https://as"] }"#;
        assert_eq!(said(document, "/mcp").as_deref(), Some(changed));
        assert_eq!(said("{}", "/mcp"), None);
    }

    #[test]
    fn only_what_clients_take_for_what_they_called_gets_it() {
        let of = |address: &str, called: &str| said(&format!("{{\"resource\":\"{address}\"}}"), called).is_some();
        for own in ["https://up/mcp", "https://up:443/mcp/", "https://UP", "https://up/"] {
            assert!(of(own, "/mcp"), "{own}");
        }
        assert!(of("https://up/mcp", "/mcp/sse") && of("https://up/mcp/sse", "/mcp/sse"));
        for other in [
            "https://evil.example/mcp",
            "http://up/mcp",
            "https://up:444/mcp",
            "https://up/mcp/other",
            "https://up/mc",
            "/mcp",
            "",
        ] {
            assert!(!of(other, "/mcp"), "{other}");
        }
    }
}
