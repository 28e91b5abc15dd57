//! Second step: which provider is meant, and who sends the request.

pub mod aws_signature;
pub mod azure;

use std::collections::BTreeMap;
use std::sync::Arc;

use agentledger_ledger::{Name, PARENT_TAG};
use pingora::http::RequestHeader;

use crate::base64;
use crate::config::{Absence, AbsentProvider, Paths, UnknownRoutes};
use crate::limits::Limits;
use crate::plugin::{Billing, WEBSOCKET};
use crate::proxy::sanitize::is_websocket;
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::identity::{Identity, Target};
use crate::proxy::shared::reply::Refusal;
use crate::proxy::shared::rules::{ProviderEndpoint, Rules};
use crate::secret::Secret;

/// Finds the provider and the operation. Longest prefix first; several providers may share one (the root).
///
/// # Errors
/// No provider serves the path; with the provider in whose dialect that is said.
pub fn find_target(rules: &Rules, header: &RequestHeader) -> Result<Target, (Refusal, Option<Arc<ProviderEndpoint>>)> {
    let path = header.uri.path();
    let method = method_of(header);
    let mut sharing: Vec<(&Arc<ProviderEndpoint>, &str)> = Vec::new();
    for endpoint in &rules.endpoints {
        let Some(rest) = after_prefix(path, &endpoint.provider.prefix) else {
            continue;
        };
        if sharing
            .first()
            .is_some_and(|(first, _)| first.provider.prefix != endpoint.provider.prefix)
        {
            break;
        }
        sharing.push((endpoint, rest));
    }
    if speaks_anthropic(header) {
        // Both root dialects list models; Anthropic's clients always name their API version.
        sharing.sort_by_key(|(endpoint, _)| endpoint.provider.dialect != "anthropic");
    }
    for (endpoint, rest) in &sharing {
        // Some hosts' own clients bring the host's base path along.
        let undoubled = after_prefix(rest, &endpoint.provider.upstream.base_path);
        for path in undoubled.into_iter().chain([*rest]) {
            let Some((known, deployment)) = in_terms_of_dialect(endpoint, path) else {
                continue;
            };
            if let Some(found) = endpoint.plugin.routes.find(&endpoint.provider.vendor, method, &known) {
                if found.billing == Billing::Refused {
                    let refusal = Refusal::new(RefusalCode::RouteRefused, found.reason).final_answer();
                    return Err((refusal, Some(Arc::clone(endpoint))));
                }
                return Ok(Target {
                    endpoint: Arc::clone(endpoint),
                    path: path.to_owned(),
                    operation: Name::from(found.operation),
                    path_model: deployment.map(str::to_owned).or(found.path_model),
                    path_id: found.path_id,
                    billing: found.billing,
                    dialect_path: known,
                });
            }
        }
    }
    let open = sharing.iter().find(|(endpoint, rest)| {
        endpoint.mount.is_none()
            && endpoint.provider.unknown_routes == UnknownRoutes::Pass
            && (!endpoint.provider.prefix.is_empty() || rest.starts_with("/v1/"))
    });
    if let Some((endpoint, rest)) = open {
        return Ok(Target {
            endpoint: Arc::clone(endpoint),
            path: (*rest).to_owned(),
            dialect_path: (*rest).to_owned(),
            operation: Name::from("unknown"),
            path_model: None,
            path_id: None,
            billing: Billing::Free,
        });
    }
    let endpoint = sharing.first().map(|(endpoint, _)| Arc::clone(endpoint));
    let message = why_absent(rules, path).unwrap_or_else(|| format!("no provider serves {method} {}", shown(path)));
    Err((Refusal::new(RefusalCode::NoRoute, message).final_answer(), endpoint))
}

/// The method by which routes know a request: an upgrade to a WebSocket has one of its own.
pub fn method_of(header: &RequestHeader) -> &str {
    if is_websocket(header) {
        WEBSOCKET
    } else {
        header.method.as_str()
    }
}

/// The path as the dialect's routes have it, and the model that the rest of it names.
pub fn in_terms_of_dialect<'p>(endpoint: &ProviderEndpoint, path: &'p str) -> Option<(String, Option<&'p str>)> {
    match (endpoint.mount, endpoint.provider.paths) {
        (Some(mount), _) => mount.inside(path).map(|path| (path, None)),
        (None, Paths::Plain) => Some((path.to_owned(), None)),
        (None, Paths::Azure) => azure::in_openai_terms(path),
    }
}

/// The path belongs to a provider that is known and not served here.
fn why_absent(rules: &Rules, path: &str) -> Option<String> {
    let under = |absent: &&AbsentProvider| !absent.prefix.is_empty() && after_prefix(path, &absent.prefix).is_some();
    let absent = rules.config.absent.iter().find(under)?;
    Some(match absent.why {
        Absence::Disabled => format!("provider {} is not enabled here", absent.name),
        Absence::NoDialect => format!("provider {} has no plugin here that reads its dialect", absent.name),
    })
}

/// A path as an error may repeat it: bounded, printable.
fn shown(path: &str) -> String {
    path.chars().filter(|one| !one.is_control()).take(120).collect()
}

fn after_prefix<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(prefix)?;
    (prefix.is_empty() || rest.starts_with('/')).then_some(rest)
}

fn speaks_anthropic(header: &RequestHeader) -> bool {
    header.headers.contains_key("anthropic-version")
        || (header.headers.contains_key("x-api-key") && !header.headers.contains_key("authorization"))
}

/// Reads who sends the request from headers and, where a header is missing, from `_agent_*` query parameters.
///
/// # Errors
/// A header that is too long or cannot be read, or more than one key.
pub fn identify(
    rules: &Rules,
    endpoint: &ProviderEndpoint,
    header: &RequestHeader,
    limits: &Limits,
) -> Result<Identity, Refusal> {
    let query = header.uri.query().unwrap_or_default();
    let key = find_key(header, if endpoint.provider.key_in_query { query } else { "" })?;
    let fingerprint = Name::from(rules.fingerprints.of(&key));
    let said = |name: &str, parameter: &str| {
        let values = header.headers.get_all(name).iter();
        let said: Vec<_> = values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        Some(said.join(","))
            .filter(|value| !value.is_empty())
            .or_else(|| query_value(query, parameter))
            .unwrap_or_default()
    };
    let named = |name: &str, parameter: &str| checked(name, said(name, parameter), limits.identity_bytes_max);
    let said_tags = checked(TAGS, said(TAGS, "_agent_tags"), limits.tags_bytes_max)?;
    let parent = named("x-agent-parent", "_agent_parent")?;
    let claim = if rules.config.tenants_enabled {
        named("x-agentledger-tenant", "")?
    } else {
        Name::from("")
    };
    Ok(Identity {
        fingerprint,
        agent: named("x-agent-id", "_agent_id")?,
        session: named("x-agent-session", "_agent_session")?,
        user: named("x-agent-user", "_agent_user")?,
        task: named("x-agent-task", "_agent_task")?,
        tags: tags(&said_tags, parent, limits)?,
        tenant_claim: Some(claim).filter(|claim| !claim.is_empty()),
        session_end: said("x-agent-session-end", "_agent_session_end").eq_ignore_ascii_case("true"),
        trace: header
            .headers
            .get("traceparent")
            .and_then(|value| value.to_str().ok())
            .and_then(trace_id)
            .map_or_else(|| Name::from(""), Name::from),
        is_retry: header
            .headers
            .get("x-stainless-retry-count")
            .is_some_and(|count| count.as_bytes() != b"0"),
        key,
    })
}

fn checked(name: &str, value: String, bytes_max: usize) -> Result<Name, Refusal> {
    if value.len() > bytes_max {
        let message = format!("{name} is longer than {bytes_max} bytes");
        return Err(Refusal::new(RefusalCode::IdentityTooLong, message).final_answer());
    }
    if value.chars().any(char::is_control) {
        return Err(Refusal::new(RefusalCode::BadIdentity, format!("{name} has control characters")).final_answer());
    }
    Ok(Name::from(value.trim()))
}

const TAGS: &str = "x-agent-tags";

/// `feature=chat,team=ml`. The parent session is a tag like any other: what a run's children spend is its account's.
fn tags(text: &str, parent: Name, limits: &Limits) -> Result<BTreeMap<Name, Name>, Refusal> {
    let refused = |message: String| Refusal::new(RefusalCode::BadIdentity, message).final_answer();
    let mut tags = BTreeMap::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or_default();
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() || value.is_empty() {
            return Err(refused(format!("{TAGS} must read name=value,name=value")));
        }
        if name.len().max(value.len()) > limits.identity_bytes_max {
            let message = format!(
                "{TAGS} has a name or value longer than {} bytes",
                limits.identity_bytes_max
            );
            return Err(refused(message));
        }
        tags.insert(Name::from(name), Name::from(value));
    }
    if !parent.is_empty() {
        tags.insert(Name::from(PARENT_TAG), parent);
    }
    if tags.len() > limits.tags_max {
        return Err(refused(format!("{TAGS} has more than {} tags", limits.tags_max)));
    }
    Ok(tags)
}

/// The trace id of a `traceparent` (W3C Trace Context, §3.2: `00-TRACE-PARENT-FLAGS`), where it is a valid one.
fn trace_id(traceparent: &str) -> Option<&str> {
    let mut parts = traceparent.trim().split('-');
    let (version, trace) = (parts.next()?, parts.next()?);
    let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_valid = version.len() == 2 && version != "ff" && trace.len() == 32 && trace.bytes().any(|byte| byte != b'0');
    (is_valid && is_hex(version) && is_hex(trace)).then_some(trace)
}

/// Headers in which clients send an API key.
const KEY_HEADERS: [&str; 4] = ["authorization", "x-api-key", "x-goog-api-key", "api-key"];

/// Query parameters in which Google's hosts take one: an API key, an OAuth token.
const KEY_PARAMETERS: [&str; 2] = ["key", "access_token"];

/// The API key, where the provider's own clients put it: in a header or, where the host takes it there, in the query. Left
/// in place for the upstream. A request with two different ones is refused: it would be accounted to one and could be
/// served on the other.
fn find_key(header: &RequestHeader, query: &str) -> Result<Secret<String>, Refusal> {
    let ambiguous = || {
        let message = "the request names more than one API key: send one, in one place";
        Refusal::new(RefusalCode::AmbiguousKey, message).final_answer()
    };
    let mut found: Option<String> = None;
    for name in KEY_HEADERS {
        let mut values = header.headers.get_all(name).iter();
        let Some(value) = values.next() else { continue };
        if values.next().is_some() {
            return Err(ambiguous());
        }
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        let key = if name == "authorization" {
            credential(value.trim())
        } else {
            value.trim().to_owned()
        };
        if key.is_empty() {
            continue;
        }
        if found.as_ref().is_some_and(|known| *known != key) {
            return Err(ambiguous());
        }
        found = Some(key);
    }
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        if value.is_empty() || !KEY_PARAMETERS.contains(&percent_decoded(name).as_str()) {
            continue;
        }
        let key = percent_decoded(&value.replace('+', " "));
        if found.as_ref().is_some_and(|known| *known != key) {
            return Err(ambiguous());
        }
        found = Some(key);
    }
    Ok(Secret::new(
        found.or_else(|| key_of_browser(header)).unwrap_or_default(),
    ))
}

/// Browsers cannot set headers on a WebSocket: OpenAI takes the key among the protocols that one offers
/// (https://platform.openai.com/docs/guides/realtime-websocket).
fn key_of_browser(header: &RequestHeader) -> Option<String> {
    let offered = header.headers.get_all("sec-websocket-protocol").iter();
    offered
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(|one| one.trim().strip_prefix("openai-insecure-api-key."))
        .map(str::to_owned)
}

/// The credential of an `Authorization` header: a bearer token, Basic's password, or, of any other scheme, all of it.
fn credential(value: &str) -> String {
    let (scheme, rest) = value
        .split_once(|one: char| one.is_ascii_whitespace())
        .unwrap_or(("", value));
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return rest.to_owned();
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let decoded = base64::decode(rest.as_bytes()).and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some((user, password)) = decoded.as_deref().and_then(|text| text.split_once(':')) {
            return if password.is_empty() {
                user.to_owned()
            } else {
                password.to_owned()
            };
        }
    }
    // A signature is another one for each request: the key that it was made with stays.
    aws_signature::access_key_id(value).unwrap_or(value).to_owned()
}

/// The value of a query parameter, decoded.
pub fn query_value(query: &str, name: &str) -> Option<String> {
    if name.is_empty() {
        return None;
    }
    let pair = query
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    Some(percent_decoded(&pair.replace('+', " ")))
}

fn percent_decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes().iter();
    while let Some(&byte) = bytes.next() {
        let rest = bytes.as_slice();
        let escaped = (byte == b'%').then(|| rest.get(..2)).flatten().and_then(|two| {
            let two = std::str::from_utf8(two).ok()?;
            u8::from_str_radix(two, 16).ok()
        });
        match escaped {
            Some(value) => {
                out.push(value);
                bytes.nth(1);
            }
            None => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::proxy::shared::exchange::forwarded_query;

    fn head(path: &str, headers: &[(&str, &str)]) -> RequestHeader {
        let mut head = RequestHeader::build("POST", path.as_bytes(), None).unwrap();
        for (name, value) in headers {
            head.append_header((*name).to_owned(), *value).unwrap();
        }
        head
    }

    #[test]
    fn the_key_is_found_where_clients_put_it() {
        for (name, value) in [
            ("authorization", "Bearer sk-1"),
            ("Authorization", "bearer  sk-1"),
            ("x-api-key", "sk-1"),
            ("x-goog-api-key", "sk-1"),
            ("api-key", "sk-1"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=sk-1/20261122/us-east-1/bedrock/aws4_request, SignedHeaders=host, Signature=0f",
            ),
        ] {
            assert_eq!(
                find_key(&head("/", &[(name, value)]), "").ok().unwrap().expose(),
                "sk-1",
                "{name}"
            );
        }
        assert_eq!(
            find_key(&head("/", &[("authorization", "Basic OnNrLTE=")]), "")
                .ok()
                .unwrap()
                .expose(),
            "sk-1"
        );
        assert_eq!(find_key(&head("/", &[]), "").ok().unwrap().expose(), "");
    }

    #[test]
    fn two_different_keys_are_refused_and_the_same_twice_is_not() {
        let two = head("/", &[("authorization", "Bearer random"), ("x-api-key", "sk-real")]);
        assert_eq!(find_key(&two, "").err().unwrap().code.as_str(), "ambiguous_key");
        let twice = head("/", &[("authorization", "Bearer a"), ("authorization", "Bearer b")]);
        assert_eq!(find_key(&twice, "").err().unwrap().code.as_str(), "ambiguous_key");
        let same = head("/", &[("authorization", "Bearer\tsk-1"), ("x-api-key", "sk-1")]);
        assert_eq!(find_key(&same, "").ok().unwrap().expose(), "sk-1");
    }

    #[test]
    fn a_key_in_the_query_is_a_key_like_any_other() {
        let plain = head("/", &[]);
        let key = |query: &str| {
            find_key(&plain, query)
                .map(|key| key.expose().clone())
                .map_err(|error| error.code.as_str().to_owned())
        };
        assert_eq!(key("alt=sse&key=AIza-1").unwrap(), "AIza-1");
        assert_eq!(key("k%65y=AIza%2D1").unwrap(), "AIza-1");
        assert_eq!(key("access_token=ya29").unwrap(), "ya29");
        assert_eq!(key("monkey=x&key=").unwrap(), "");
        assert_eq!(key("key=a&key=b").unwrap_err(), "ambiguous_key");
        let header = head("/", &[("x-goog-api-key", "AIza-1")]);
        assert_eq!(find_key(&header, "key=AIza-1").ok().unwrap().expose(), "AIza-1");
        assert_eq!(
            find_key(&header, "key=other").err().unwrap().code.as_str(),
            "ambiguous_key"
        );
    }

    #[test]
    fn query_fallbacks_are_read_and_taken_off() {
        let query = "a=1&_agent_id=my%20agent&b=2&_agent_task=x+y";
        assert_eq!(query_value(query, "_agent_id").unwrap(), "my agent");
        assert_eq!(query_value(query, "_agent_task").unwrap(), "x y");
        assert_eq!(forwarded_query(query), "a=1&b=2");
        assert_eq!(percent_decoded("%zz%4"), "%zz%4");
    }

    #[test]
    fn prefixes_end_at_a_segment() {
        assert_eq!(after_prefix("/groq/v1/x", "/groq"), Some("/v1/x"));
        assert_eq!(after_prefix("/groqx/v1", "/groq"), None);
        assert_eq!(after_prefix("/v1/x", ""), Some("/v1/x"));
    }

    #[test]
    fn tags_read_name_value_pairs() {
        let limits = Limits {
            tags_max: 3,
            identity_bytes_max: 8,
            ..Limits::default()
        };
        let read = |text: &str, parent: &str| tags(text, Name::from(parent), &limits);
        let read_tags = read("feature=chat, team=ml,", "run-1").unwrap();
        assert_eq!(read_tags.get("team").map(|team| &**team), Some("ml"));
        assert_eq!(read_tags.get("parent").map(|parent| &**parent), Some("run-1"));
        for bad in ["oops", "=x", "team=", "team=123456789", "a=1,b=2,c=3,d=4"] {
            assert_eq!(read(bad, "").unwrap_err().code.as_str(), "bad_identity", "{bad}");
        }
        assert!(read("a=1,b=2,c=3", "p").is_err(), "the parent counts");
    }

    #[test]
    fn a_trace_is_known_by_its_valid_id() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(trace_id(&format!("00-{id}-00f067aa0ba902b7-01")), Some(id));
        for bad in [
            "",
            "00",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf9-00f067aa0ba902b7-01",
        ] {
            assert_eq!(trace_id(bad), None, "{bad}");
        }
    }
}
