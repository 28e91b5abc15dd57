//! The headers that mirror a message (2026-07-28): `MCP-Protocol-Version`, `Mcp-Method` and `Mcp-Name`. Whoever stands between
//! client and server may route by them, so they must say what the body says
//! (<https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/streamable-http#server-validation>).

use std::borrow::Cow;

use http::HeaderMap;

use super::message::{Message, Messages};
use crate::base64;

/// The first revision without sessions, whose requests say of themselves what they are.
const STATELESS_SINCE: &str = "2026-07-28";
const VERSION: &str = "mcp-protocol-version";
const METHOD: &str = "mcp-method";
const NAME: &str = "mcp-name";

/// Why headers are refused: which of them, and what is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    #[error("{0} is missing, which this revision of MCP needs")]
    Missing(&'static str),
    #[error("{0} is there twice")]
    Twice(&'static str),
    #[error("{0} is not what the body says")]
    Contradicts(&'static str),
    #[error("a batch is of another revision of MCP than the request's")]
    Batch,
}

/// Whether the request is of 2026-07-28 or later: by its header, or by what its message says of itself.
pub fn is_stateless(headers: &HeaderMap, messages: Option<&Messages<'_>>) -> bool {
    let named = headers.get(VERSION).and_then(|version| version.to_str().ok());
    let by_header = named.is_some_and(|version| version.trim() >= STATELESS_SINCE && is_dated(version.trim()));
    by_header || messages.is_some_and(|messages| messages.all.iter().any(|message| message.params.version.is_some()))
}

/// Revisions are dates.
fn is_dated(version: &str) -> bool {
    version.len() == STATELESS_SINCE.len() && version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

/// Checks the headers against the body.
///
/// # Errors
/// They contradict it, or one that the revision needs is missing.
pub fn check(headers: &HeaderMap, messages: &Messages<'_>) -> Result<(), HeaderFault> {
    let is_stateless = is_stateless(headers, Some(messages));
    if is_stateless && messages.is_batch {
        return Err(HeaderFault::Batch);
    }
    let (version, method, name) = (
        one(headers, VERSION)?,
        one(headers, METHOD)?,
        one(headers, NAME)?.map(decoded),
    );
    let needs = |needed: bool, header, said: bool| match needed && !said {
        true => Err(HeaderFault::Missing(header)),
        false => Ok(()),
    };
    for message in &messages.all {
        let is_request = message.id.is_some() && message.method.is_some();
        needs(is_stateless && is_request, VERSION, version.is_some())?;
        needs(is_stateless && is_request, METHOD, method.is_some())?;
        let named = named_by(message);
        needs(is_stateless && is_request && named.is_some(), NAME, name.is_some())?;
        // A message without a version is of the time before, or the server's to refuse.
        agrees(VERSION, version.as_deref(), message.params.version.as_deref())?;
        // Answers to requests of the server's mirror nothing.
        let Some(own) = message.method.as_deref() else { continue };
        agrees(METHOD, method.as_deref(), Some(own))?;
        if named.is_some() {
            agrees(NAME, name.as_deref(), named)?;
        }
    }
    Ok(())
}

/// What `Mcp-Name` mirrors.
fn named_by<'m>(message: &'m Message<'_>) -> Option<&'m str> {
    match message.method.as_deref()? {
        "tools/call" | "prompts/get" => message.params.name.as_deref(),
        "resources/read" => message.params.uri.as_deref(),
        _ => None,
    }
}

fn agrees(header: &'static str, said: Option<&str>, body: Option<&str>) -> Result<(), HeaderFault> {
    match (said, body) {
        (Some(said), Some(body)) if said != body => Err(HeaderFault::Contradicts(header)),
        _ => Ok(()),
    }
}

/// Two of one header could be read as either.
fn one<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<Option<Cow<'h, str>>, HeaderFault> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(|value| String::from_utf8_lossy(value.as_bytes()));
    match values.next() {
        Some(_) => Err(HeaderFault::Twice(name)),
        None => Ok(value.map(|value| match value {
            Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
            Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
        })),
    }
}

/// `=?base64?…?=` is for names that no header bears. What is not base64 stays, and agrees with no name.
fn decoded(value: Cow<'_, str>) -> Cow<'_, str> {
    let inner = value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?="));
    let decoded = inner.and_then(|inner| base64::decode(inner.as_bytes()));
    match decoded.and_then(|bytes| String::from_utf8(bytes).ok()) {
        Some(text) => Cow::Owned(text),
        None => value,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use http::{HeaderName, HeaderValue};

    use super::*;

    const CALL: &str = r#"{"id":1,"method":"tools/call","params":{"name":"search","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
    const OLD_CALL: &str = r#"{"id":1,"method":"tools/call","params":{"name":"search"}}"#;

    fn checked(headers: &[(&'static str, &'static str)], body: &str) -> Result<(), HeaderFault> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        check(&map, &Messages::read(body.as_bytes()).unwrap())
    }

    #[test]
    fn headers_that_mirror_the_body_pass() {
        let good = [(VERSION, "2026-07-28"), (METHOD, "tools/call"), (NAME, "search")];
        assert_eq!(checked(&good, CALL), Ok(()));
        let encoded = [
            (VERSION, "2026-07-28"),
            (METHOD, "tools/call"),
            (NAME, "=?base64?c2VhcmNo?="),
        ];
        assert_eq!(checked(&encoded, CALL), Ok(()));
        assert_eq!(checked(&[], OLD_CALL), Ok(()), "of the time before");
        assert_eq!(checked(&[(VERSION, "2025-11-25")], OLD_CALL), Ok(()));
        let listed = r#"{"id":1,"method":"tools/list","params":{}}"#;
        assert_eq!(
            checked(&[(VERSION, "2026-07-28"), (METHOD, "tools/list")], listed),
            Ok(())
        );
        let noted = r#"{"method":"notifications/x"}"#;
        assert_eq!(checked(&[(VERSION, "2026-07-28")], noted), Ok(()));
    }

    #[test]
    fn headers_that_contradict_the_body_or_are_missing_are_refused() {
        let version = (VERSION, "2026-07-28");
        for (headers, body, fault) in [
            (
                &[version, (METHOD, "ping"), (NAME, "search")][..],
                CALL,
                HeaderFault::Contradicts(METHOD),
            ),
            (
                &[version, (METHOD, "tools/call"), (NAME, "other")],
                CALL,
                HeaderFault::Contradicts(NAME),
            ),
            (
                &[version, (METHOD, "Tools/Call"), (NAME, "search")],
                CALL,
                HeaderFault::Contradicts(METHOD),
            ),
            (&[version, (METHOD, "tools/call")], CALL, HeaderFault::Missing(NAME)),
            (&[version, (NAME, "search")], CALL, HeaderFault::Missing(METHOD)),
            (
                &[(METHOD, "tools/call"), (NAME, "search")],
                CALL,
                HeaderFault::Missing(VERSION),
            ),
            (
                &[(VERSION, "2025-11-25"), (METHOD, "tools/call"), (NAME, "search")],
                CALL,
                HeaderFault::Contradicts(VERSION),
            ),
            (&[(METHOD, "ping")], OLD_CALL, HeaderFault::Contradicts(METHOD)),
            (&[(NAME, "a"), (NAME, "search")], OLD_CALL, HeaderFault::Twice(NAME)),
            (&[version], "[{\"id\":1,\"method\":\"ping\"}]", HeaderFault::Batch),
        ] {
            assert_eq!(checked(headers, body), Err(fault), "{headers:?}");
        }
    }
}
