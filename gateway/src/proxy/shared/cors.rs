//! Which answers web pages may read (<https://fetch.spec.whatwg.org/#http-cors-protocol>).
//!
//! What the answer to a request says of its origin is found once, when it comes in, and travels with its head: every answer
//! says it then, refusals and relayed ones alike. Keys are sent in headers, never as cookies, so credentials in the protocol's sense
//! are never allowed.

use agentledger_http1::ResponseHead;
use pingora::http::RequestHeader;

use crate::proxy::shared::http_session::ServerSession;

/// Headers of answers that pages may read. The `*` is for browsers that know it; the names are for those that do not.
const EXPOSED: &str = "X-AgentLedger-Exchange, X-AgentLedger-Routed, X-AgentLedger-Clamped, X-AgentLedger-Budget-Warning, \
                       RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, RateLimit-Policy, Retry-After, X-Should-Retry, \
                       X-Request-Id, Request-Id, OpenAI-Processing-Ms, OpenAI-Version, X-RateLimit-Limit-Requests, \
                       X-RateLimit-Limit-Tokens, X-RateLimit-Remaining-Requests, X-RateLimit-Remaining-Tokens, \
                       X-RateLimit-Reset-Requests, X-RateLimit-Reset-Tokens, *";

/// Headers that clients in browsers send: those of OpenAI's, Anthropic's and Google's SDKs, and the gateway's own.
const REQUESTED: [&str; 40] = [
    "accept",
    "anthropic-beta",
    "anthropic-dangerous-direct-browser-access",
    "anthropic-version",
    "api-key",
    "authorization",
    "cache-control",
    "content-type",
    "http-referer",
    "idempotency-key",
    "openai-beta",
    "openai-organization",
    "openai-project",
    "traceparent",
    "user-agent",
    "x-agent-id",
    "x-agent-parent",
    "x-agent-session",
    "x-agent-session-end",
    "x-agent-tags",
    "x-agent-task",
    "x-agent-user",
    "x-agentledger-tenant",
    "x-api-key",
    "x-app",
    "x-client-name",
    "x-goog-api-client",
    "x-goog-api-key",
    "x-requested-with",
    "x-stainless-arch",
    "x-stainless-async",
    "x-stainless-helper-method",
    "x-stainless-lang",
    "x-stainless-os",
    "x-stainless-package-version",
    "x-stainless-retry-count",
    "x-stainless-runtime",
    "x-stainless-runtime-version",
    "x-stainless-timeout",
    "x-title",
];
/// Further headers of one preflight that are allowed because they were requested.
const REQUESTED_FURTHER_MAX: usize = 64;
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
/// Seconds for which a browser remembers a preflight, where it does so for as long.
const MAX_AGE_S: &str = "86400";
const ORIGIN: &str = "Origin";
/// How the names of headers begin that say who may read an answer.
const SAID_OF_ORIGINS: &[u8] = b"access-control-";

/// What answers say of their request's origin.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Standing {
    /// `Access-Control-Allow-Origin`; `None`: its page may read nothing.
    allowed: Option<String>,
}

/// Notes what the answer to this request will say. `origins` are those allowed; none: nothing is said to anybody.
pub fn note(origins: &[String], header: &mut RequestHeader) {
    if origins.is_empty() {
        return;
    }
    let standing = Standing {
        allowed: allowed(origins, header),
    };
    header.extensions_mut().insert(standing);
}

fn allowed(origins: &[String], header: &RequestHeader) -> Option<String> {
    let mut values = header.headers.get_all("origin").iter();
    let origin = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    if origins.iter().any(|allowed| allowed == "*") {
        return Some("*".to_owned());
    }
    let named = origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin));
    named.then(|| origin.to_owned())
}

/// Puts it into the head of an answer, in place of whatever an upstream said: it does not know where it is read.
pub fn put(session: &ServerSession, head: &mut ResponseHead) {
    head.keep(|name| {
        let start = name.get(..SAID_OF_ORIGINS.len());
        !start.is_some_and(|start| start.eq_ignore_ascii_case(SAID_OF_ORIGINS))
    });
    let Some(standing) = session.req_header().extensions.get::<Standing>() else {
        return;
    };
    // Told to caches even where nobody is allowed: for another origin the answer is another one.
    let _ = head.append("Vary", ORIGIN);
    if let Some(allowed) = &standing.allowed {
        let _ = head.insert("Access-Control-Allow-Origin", allowed);
        let _ = head.insert("Access-Control-Expose-Headers", EXPOSED);
    }
}

/// A browser asks whether a page may send a request.
pub fn is_preflight(header: &RequestHeader) -> bool {
    header.method == http::Method::OPTIONS
        && header.headers.contains_key("origin")
        && header.headers.contains_key("access-control-request-method")
}

/// What a preflight is answered, beside what every answer says; nothing where its origin is not allowed.
pub fn leave(header: &RequestHeader) -> Vec<(&'static str, String)> {
    let standing = header.extensions.get::<Standing>();
    if standing.is_none_or(|standing| standing.allowed.is_none()) {
        return Vec::new();
    }
    let mut leave = vec![
        ("Access-Control-Allow-Methods", METHODS.to_owned()),
        ("Access-Control-Allow-Headers", allowed_headers(header)),
        ("Access-Control-Max-Age", MAX_AGE_S.to_owned()),
    ];
    // https://wicg.github.io/private-network-access/: a public page, allowed by name, calls a machine of the network.
    if header.headers.contains_key("access-control-request-private-network") {
        leave.push(("Access-Control-Allow-Private-Network", "true".to_owned()));
    }
    leave
}

fn allowed_headers(header: &RequestHeader) -> String {
    let values = header.headers.get_all("access-control-request-headers").iter();
    let requested: Vec<String> = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| name.parse::<http::HeaderName>().is_ok() && !REQUESTED.contains(&name.as_str()))
        .take(REQUESTED_FURTHER_MAX)
        .collect();
    let known = REQUESTED.iter().copied();
    known
        .chain(requested.iter().map(String::as_str))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn of(origins: &[&str], headers: &[(&'static str, &str)]) -> Option<Standing> {
        let mut head = RequestHeader::build("OPTIONS", b"/v1/chat/completions", None).unwrap();
        for (name, value) in headers {
            head.append_header(*name, *value).unwrap();
        }
        let origins: Vec<String> = origins.iter().map(|origin| (*origin).to_owned()).collect();
        note(&origins, &mut head);
        head.extensions.get::<Standing>().cloned()
    }

    #[test]
    fn an_origin_is_allowed_by_name_or_by_a_star() {
        let allowed = |origins: &[&str], origin: &str| of(origins, &[("origin", origin)]).unwrap().allowed;
        let named = ["https://app.example", "http://localhost:3000"];
        assert_eq!(
            allowed(&named, "https://app.example").as_deref(),
            Some("https://app.example")
        );
        assert_eq!(
            allowed(&named, "http://localhost:3000").as_deref(),
            Some("http://localhost:3000")
        );
        for foreign in [
            "https://evil.example",
            "https://app.example.evil.example",
            "http://app.example",
            "http://localhost:3001",
            "null",
        ] {
            assert_eq!(allowed(&named, foreign), None, "{foreign}");
        }
        assert_eq!(allowed(&["*"], "https://any.example").as_deref(), Some("*"));
        assert_eq!(of(&named, &[]).unwrap().allowed, None);
        let two = [("origin", "https://app.example"), ("origin", "https://evil.example")];
        assert_eq!(of(&named, &two).unwrap().allowed, None);
        assert_eq!(of(&[], &[("origin", "https://app.example")]), None, "off");
    }

    #[test]
    fn a_preflight_is_given_the_headers_of_sdks_and_those_that_it_requests() {
        let mut head = RequestHeader::build("OPTIONS", b"/", None).unwrap();
        head.insert_header("origin", "https://app.example").unwrap();
        head.insert_header("access-control-request-method", "POST").unwrap();
        head.insert_header("access-control-request-headers", "authorization, x-mine, bad name,")
            .unwrap();
        assert!(is_preflight(&head));
        assert!(leave(&head).is_empty(), "nobody allowed it");
        note(&["https://app.example".to_owned()], &mut head);
        let leave = leave(&head);
        let headers: Vec<&str> = leave[1].1.split(", ").collect();
        for name in [
            "authorization",
            "content-type",
            "x-api-key",
            "anthropic-version",
            "x-mine",
        ] {
            assert!(headers.contains(&name), "{name}");
        }
        assert_eq!(headers.iter().filter(|name| **name == "authorization").count(), 1);
        assert!(!headers.contains(&"bad name"));
    }
}
