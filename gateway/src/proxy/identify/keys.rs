//! Which API key a request is accounted to, where it bears several.
//!
//! Claude Desktop sends one as `x-api-key` and another as `Authorization`. The one counts that the dialect's own clients
//! send: it is identified, and it alone goes upstream. So no key can be served that was not accounted for, whichever the
//! provider would have preferred.

use pingora::http::RequestHeader;

use super::aws_signature;
use crate::base64;
use crate::config::Paths;
use crate::proxy::sanitize::query::values_of;
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::reply::Refusal;
use crate::proxy::shared::rules::ProviderEndpoint;
use crate::secret::Secret;

/// A place where clients put a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Header(&'static str),
    Parameter(&'static str),
}

use Place::{Header, Parameter};

const AUTHORIZATION: Place = Header("authorization");
const ANTHROPICS: Place = Header("x-api-key");
const GOOGLES: Place = Header("x-goog-api-key");
const AZURES: Place = Header("api-key");
/// Azure's AI services and gateways before them take one here
/// (<https://learn.microsoft.com/en-us/azure/ai-services/authentication>).
const SUBSCRIPTION: Place = Header("ocp-apim-subscription-key");

/// By dialect, the place that counts first. All places are in all of them: a key that is not accounted for must not pass.
const OPENAI: [Place; 5] = [AUTHORIZATION, ANTHROPICS, AZURES, GOOGLES, SUBSCRIPTION];
const ANTHROPIC: [Place; 5] = [ANTHROPICS, AUTHORIZATION, AZURES, GOOGLES, SUBSCRIPTION];
/// Browsers cannot set headers on a WebSocket: Azure takes the key in the query too
/// (<https://learn.microsoft.com/en-us/azure/ai-foundry/openai/how-to/realtime-audio-websockets>).
const AZURE: [Place; 7] = [
    AZURES,
    Parameter("api-key"),
    SUBSCRIPTION,
    Parameter("subscription-key"),
    AUTHORIZATION,
    ANTHROPICS,
    GOOGLES,
];
/// <https://docs.cloud.google.com/apis/docs/system-parameters>: `key`, and tokens of OAuth.
const GEMINI: [Place; 8] = [
    GOOGLES,
    Parameter("key"),
    AUTHORIZATION,
    Parameter("access_token"),
    Parameter("oauth_token"),
    ANTHROPICS,
    AZURES,
    SUBSCRIPTION,
];
/// Another dialect at Google's: its clients send the key as that dialect does.
const AT_GOOGLE: [Place; 8] = [
    AUTHORIZATION,
    GOOGLES,
    Parameter("key"),
    Parameter("access_token"),
    Parameter("oauth_token"),
    ANTHROPICS,
    AZURES,
    SUBSCRIPTION,
];

/// The key that counts, and where others stand.
#[derive(Default)]
pub struct Keys {
    /// Empty where there is none.
    pub key: Secret<String>,
    pub other_headers: Vec<&'static str>,
    pub other_parameters: Vec<&'static str>,
}

fn places(endpoint: &ProviderEndpoint) -> &'static [Place] {
    let provider = &endpoint.provider;
    match (provider.is_googles(), provider.dialect.as_str()) {
        (true, "gemini") => &GEMINI,
        (true, _) => &AT_GOOGLE,
        (false, _) if provider.paths == Paths::Azure => &AZURE,
        (false, "anthropic") => &ANTHROPIC,
        (false, _) => &OPENAI,
    }
}

/// Finds the keys of a request to this endpoint.
///
/// # Errors
/// One place names two.
pub fn keys_of(endpoint: &ProviderEndpoint, header: &RequestHeader) -> Result<Keys, Refusal> {
    find(places(endpoint), header)
}

fn find(places: &[Place], header: &RequestHeader) -> Result<Keys, Refusal> {
    let query = header.uri.query().unwrap_or_default();
    let mut keys = Keys::default();
    for place in places {
        let Some(key) = at(*place, header, query)? else {
            continue;
        };
        if keys.key.expose().is_empty() {
            keys.key = Secret::new(key);
        } else if *keys.key.expose() != key {
            match place {
                Header(name) => keys.other_headers.push(name),
                Parameter(name) => keys.other_parameters.push(name),
            }
        }
    }
    for key in keys_of_browser(header) {
        if keys.key.expose().is_empty() {
            keys.key = Secret::new(key.to_owned());
        } else if *keys.key.expose() != key {
            // It stands within a header that says other things too.
            return Err(ambiguous());
        }
    }
    Ok(keys)
}

fn ambiguous() -> Refusal {
    let message = "one place of the request names more than one API key: send one";
    Refusal::new(RefusalCode::AmbiguousKey, message).final_answer()
}

/// The key at a place; `None`: there is none, or an empty one.
fn at(place: Place, header: &RequestHeader, query: &str) -> Result<Option<String>, Refusal> {
    let key = match place {
        Header(name) => {
            let mut values = header.headers.get_all(name).iter();
            let Some(value) = values.next() else { return Ok(None) };
            if values.next().is_some() {
                return Err(ambiguous());
            }
            let value = String::from_utf8_lossy(value.as_bytes());
            if place == AUTHORIZATION {
                credential(value.trim())
            } else {
                value.trim().to_owned()
            }
        }
        Parameter(name) => {
            let mut values = values_of(query, name).filter(|value| !value.is_empty());
            let Some(value) = values.next() else { return Ok(None) };
            if values.any(|other| other != value) {
                return Err(ambiguous());
            }
            value
        }
    };
    Ok(Some(key).filter(|key| !key.is_empty()))
}

/// Browsers cannot set headers on a WebSocket: OpenAI takes the key among the protocols that one offers
/// (https://platform.openai.com/docs/guides/realtime-websocket).
fn keys_of_browser(header: &RequestHeader) -> impl Iterator<Item = &str> {
    let offered = header.headers.get_all("sec-websocket-protocol").iter();
    offered
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|one| one.trim().strip_prefix("openai-insecure-api-key."))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn head(path: &str, headers: &[(&'static str, &str)]) -> RequestHeader {
        let mut head = RequestHeader::build("POST", path.as_bytes(), None).unwrap();
        for (name, value) in headers {
            head.append_header(*name, *value).unwrap();
        }
        head
    }

    fn key(places: &[Place], header: &RequestHeader) -> Result<String, String> {
        find(places, header)
            .map(|keys| keys.key.expose().clone())
            .map_err(|refusal| refusal.code.as_str().to_owned())
    }

    fn found(places: &[Place], headers: &[(&'static str, &str)]) -> Result<String, String> {
        key(places, &head("/", headers))
    }

    #[test]
    fn the_key_is_found_where_clients_put_it() {
        for (name, value) in [
            ("authorization", "Bearer sk-1"),
            ("Authorization", "bearer  sk-1"),
            ("authorization", "Basic OnNrLTE="),
            ("x-api-key", "sk-1"),
            ("x-goog-api-key", "sk-1"),
            ("api-key", "sk-1"),
            ("ocp-apim-subscription-key", "sk-1"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=sk-1/20261122/us-east-1/bedrock/aws4_request, SignedHeaders=host, Signature=0f",
            ),
        ] {
            for places in [&OPENAI[..], &ANTHROPIC, &AZURE, &GEMINI, &AT_GOOGLE] {
                assert_eq!(found(places, &[(name, value)]).unwrap(), "sk-1", "{name}");
            }
        }
        assert_eq!(found(&OPENAI, &[]).unwrap(), "");
    }

    #[test]
    fn of_different_keys_the_dialects_own_counts_and_the_others_do_not_pass() {
        let two = [
            ("authorization", "Bearer of-authorization"),
            ("x-api-key", "of-x-api-key"),
        ];
        for (places, counts, other) in [
            (&OPENAI[..], "of-authorization", "x-api-key"),
            (&ANTHROPIC, "of-x-api-key", "authorization"),
        ] {
            let keys = find(places, &head("/", &two)).unwrap();
            assert_eq!(
                (keys.key.expose().as_str(), &keys.other_headers[..]),
                (counts, &[other][..])
            );
        }
        let same = [("authorization", "Bearer\tsk-1"), ("x-api-key", "sk-1")];
        assert!(find(&OPENAI, &head("/", &same)).unwrap().other_headers.is_empty());
        let empty = [("authorization", "Bearer sk-1"), ("x-api-key", " ")];
        assert_eq!(found(&ANTHROPIC, &empty).unwrap(), "sk-1");
        let twice = [("authorization", "Bearer a"), ("authorization", "Bearer b")];
        assert_eq!(found(&OPENAI, &twice).unwrap_err(), "ambiguous_key");
        let browser = [
            ("authorization", "Bearer a"),
            ("sec-websocket-protocol", "realtime, openai-insecure-api-key.b"),
        ];
        assert_eq!(found(&OPENAI, &browser).unwrap_err(), "ambiguous_key");
        let protocols = "openai-insecure-api-key.a, openai-insecure-api-key.b";
        let twice = [("sec-websocket-protocol", protocols)];
        assert_eq!(found(&OPENAI, &twice).unwrap_err(), "ambiguous_key");
    }

    #[test]
    fn a_key_in_the_query_is_a_key_like_any_other_where_the_host_takes_one_there() {
        let key = |places: &[Place], path: &str| key(places, &head(path, &[]));
        assert_eq!(key(&GEMINI, "/?alt=sse&key=AIza-1").unwrap(), "AIza-1");
        assert_eq!(key(&GEMINI, "/?k%65y=AIza%2D1").unwrap(), "AIza-1");
        assert_eq!(key(&GEMINI, "/?access_token=ya29").unwrap(), "ya29");
        assert_eq!(key(&GEMINI, "/?monkey=x&key=").unwrap(), "");
        assert_eq!(key(&GEMINI, "/?key=a&key=b").unwrap_err(), "ambiguous_key");
        assert_eq!(key(&AZURE, "/?api-key=a").unwrap(), "a");
        assert_eq!(key(&OPENAI, "/?key=a").unwrap(), "", "no key there");
        let header = head("/?key=other", &[("x-goog-api-key", "AIza-1")]);
        let keys = find(&GEMINI, &header).unwrap();
        assert_eq!(
            (keys.key.expose().as_str(), &keys.other_parameters[..]),
            ("AIza-1", &["key"][..])
        );
    }
}
