//! Second step: which provider is meant, and who is asking.

use std::collections::BTreeMap;
use std::sync::Arc;

use agentledger_ledger::Name;
use pingora::http::RequestHeader;

use crate::config::{Absence, AbsentProvider, Limits, UnknownRoutes};
use crate::plugin::{Billing, WEBSOCKET};
use crate::proxy::gateway::{Rules, Way};
use crate::proxy::guard::is_websocket;
use crate::proxy::reply::Refusal;
use crate::secret::Secret;

/// Who asks, as far as the request says. Empty names: not said. All but the key are as true as the client.
#[derive(Clone)]
pub struct Identity {
    pub key: Secret<String>,
    /// Keyed hash of the whole key, 24 hex characters; empty without a key.
    pub fingerprint: Name,
    pub agent: Name,
    pub session: Name,
    pub user: Name,
    pub task: Name,
    pub tags: BTreeMap<Name, Name>,
    /// What the client claims by header; told only where tenants are on.
    pub tenant_claim: Option<Name>,
    pub session_end: bool,
}

/// What the path leads to.
#[derive(Clone)]
pub struct Target {
    pub way: Arc<Way>,
    /// Path after the provider's prefix, for the upstream.
    pub path: String,
    /// The same as the dialect knows it: another where the dialect is mounted.
    pub dialect_path: String,
    pub operation: Name,
    pub path_model: Option<String>,
    pub billing: Billing,
}

/// Finds the provider and the operation. Longest prefix first; several providers may share one (the root).
pub fn find_target(rules: &Rules, header: &RequestHeader) -> Result<Target, (Refusal, Option<Arc<Way>>)> {
    let path = header.uri.path();
    let method = method_of(header);
    let mut sharing: Vec<(&Arc<Way>, &str)> = Vec::new();
    for way in &rules.ways {
        let Some(rest) = after_prefix(path, &way.provider.prefix) else {
            continue;
        };
        if sharing
            .first()
            .is_some_and(|(first, _)| first.provider.prefix != way.provider.prefix)
        {
            break;
        }
        sharing.push((way, rest));
    }
    if speaks_anthropic(header) {
        // Both root dialects list models; Anthropic's clients always name their API version.
        sharing.sort_by_key(|(way, _)| way.provider.dialect != "anthropic");
    }
    for (way, rest) in &sharing {
        // Some hosts' own clients bring the host's base path along.
        let undoubled = after_prefix(rest, &way.provider.upstream.base_path);
        for path in undoubled.into_iter().chain([*rest]) {
            let Some(known) = way
                .mount
                .map_or_else(|| Some(path.to_owned()), |mount| mount.inside(path))
            else {
                continue;
            };
            if let Some(found) = way.plugin.routes.find(method, &known) {
                return Ok(Target {
                    way: Arc::clone(way),
                    path: path.to_owned(),
                    operation: Name::from(found.operation),
                    path_model: found.path_model,
                    billing: found.billing,
                    dialect_path: known,
                });
            }
        }
    }
    let open = sharing.iter().find(|(way, rest)| {
        way.mount.is_none()
            && way.provider.unknown_routes == UnknownRoutes::Pass
            && (!way.provider.prefix.is_empty() || rest.starts_with("/v1/"))
    });
    if let Some((way, rest)) = open {
        return Ok(Target {
            way: Arc::clone(way),
            path: (*rest).to_owned(),
            dialect_path: (*rest).to_owned(),
            operation: Name::from("unknown"),
            path_model: None,
            billing: Billing::Free,
        });
    }
    let way = sharing.first().map(|(way, _)| Arc::clone(way));
    let message = why_absent(rules, path).unwrap_or_else(|| format!("no provider serves {method} {}", shown(path)));
    Err((Refusal::new(404, "no_route", message).final_answer(), way))
}

/// The method by which routes know a request: an upgrade to a WebSocket has one of its own.
pub fn method_of(header: &RequestHeader) -> &str {
    if is_websocket(header) {
        WEBSOCKET
    } else {
        header.method.as_str()
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

/// Reads who is asking from headers and, where a header is missing, from `_agent_*` query parameters.
pub fn identify(rules: &Rules, way: &Way, header: &RequestHeader, limits: &Limits) -> Result<Identity, Refusal> {
    let query = header.uri.query().unwrap_or_default();
    let key = find_key(header, if way.provider.key_in_query { query } else { "" })?;
    let fingerprint = Name::from(rules.fingerprints.of(&key));
    let named = |name: &str, parameter: &str| -> Result<Name, Refusal> {
        let said = header
            .headers
            .get(name)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let said = said
            .filter(|value| !value.is_empty())
            .or_else(|| query_value(query, parameter));
        checked(name, said.unwrap_or_default(), limits.identity_bytes_max)
    };
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
        tags: tags(&named("x-agent-tags", "")?)?,
        tenant_claim: Some(claim).filter(|claim| !claim.is_empty()),
        session_end: header
            .headers
            .get("x-agent-session-end")
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true")),
        key,
    })
}

fn checked(name: &str, value: String, bytes_max: usize) -> Result<Name, Refusal> {
    if value.len() > bytes_max {
        let message = format!("{name} is longer than {bytes_max} bytes");
        return Err(Refusal::bad_request("identity_too_long", message).final_answer());
    }
    if value.chars().any(char::is_control) {
        return Err(Refusal::bad_request("bad_identity", format!("{name} has control characters")).final_answer());
    }
    Ok(Name::from(value.trim()))
}

/// `feature=chat,team=ml`.
fn tags(text: &str) -> Result<BTreeMap<Name, Name>, Refusal> {
    let mut tags = BTreeMap::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let Some((name, value)) = pair.split_once('=') else {
            let message = "x-agent-tags must read name=value,name=value";
            return Err(Refusal::bad_request("bad_identity", message).final_answer());
        };
        tags.insert(Name::from(name.trim()), Name::from(value.trim()));
    }
    Ok(tags)
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
        Refusal::bad_request("ambiguous_key", message).final_answer()
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
        let decoded = base64_decoded(rest).and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some((user, password)) = decoded.as_deref().and_then(|text| text.split_once(':')) {
            return if password.is_empty() {
                user.to_owned()
            } else {
                password.to_owned()
            };
        }
    }
    value.to_owned()
}

/// Standard base64 (RFC 4648 §4), padded or not.
fn base64_decoded(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0_u32);
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from((bits >> count) & 0xff).unwrap_or_default());
        }
    }
    Some(out)
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

/// The query that goes upstream: as it came, without what was said to us.
pub fn forwarded_query(query: &str) -> String {
    query
        .split('&')
        .filter(|pair| !pair.starts_with("_agent_"))
        .collect::<Vec<_>>()
        .join("&")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

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
        assert_eq!(find_key(&two, "").err().unwrap().code, "ambiguous_key");
        let twice = head("/", &[("authorization", "Bearer a"), ("authorization", "Bearer b")]);
        assert_eq!(find_key(&twice, "").err().unwrap().code, "ambiguous_key");
        let same = head("/", &[("authorization", "Bearer\tsk-1"), ("x-api-key", "sk-1")]);
        assert_eq!(find_key(&same, "").ok().unwrap().expose(), "sk-1");
    }

    #[test]
    fn a_key_in_the_query_is_a_key_like_any_other() {
        let plain = head("/", &[]);
        let key = |query: &str| {
            find_key(&plain, query)
                .map(|key| key.expose().clone())
                .map_err(|error| error.code)
        };
        assert_eq!(key("alt=sse&key=AIza-1").unwrap(), "AIza-1");
        assert_eq!(key("k%65y=AIza%2D1").unwrap(), "AIza-1");
        assert_eq!(key("access_token=ya29").unwrap(), "ya29");
        assert_eq!(key("monkey=x&key=").unwrap(), "");
        assert_eq!(key("key=a&key=b").unwrap_err(), "ambiguous_key");
        let header = head("/", &[("x-goog-api-key", "AIza-1")]);
        assert_eq!(find_key(&header, "key=AIza-1").ok().unwrap().expose(), "AIza-1");
        assert_eq!(find_key(&header, "key=other").err().unwrap().code, "ambiguous_key");
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
        let tags = tags("feature=chat, team=ml,").unwrap();
        assert_eq!(tags.get("team").map(|team| &**team), Some("ml"));
        assert!(super::tags("oops").is_err());
    }
}
