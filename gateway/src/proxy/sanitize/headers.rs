//! Which headers of a request pass. Unknown ones do; those of one hop, the gateway's own, and those that would make another
//! request of it, or change what is seen of its answer, do not.

use http::header::ACCEPT;
use pingora::http::RequestHeader;

use crate::plugin::Billing;

/// Headers of one hop, and what proxies say of themselves: never passed on (RFC 9110 §7.6.1).
const NOT_FORWARDED: [&str; 15] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "expect",
    "forwarded",
    "x-real-ip",
    "via",
    "content-length",
];

/// Beginnings of names that are the gateway's or a proxy's.
const NOT_FORWARDED_BEGINNINGS: [&str; 3] = ["x-agentledger-", "x-agent-", "x-forwarded-"];

/// Headers by which frameworks take a request for another method or another path than its first line says.
const OVERRIDES: [&str; 9] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-method",
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
    "x-override-url",
    "x-original-host",
];

/// Headers that ask for less than the whole answer, or for it at another time: of one that is billed, all is read now.
const PARTIAL: [&str; 7] = [
    "range",
    "if-range",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    // RFC 7240 §4.1: `respond-async` is answered without usage.
    "prefer",
];

/// Google's, beside the query's (<https://docs.cloud.google.com/apis/docs/system-parameters>): a mask strips the usage, the
/// other one encodes the answer once more.
const GOOGLES: [&str; 3] = [
    "x-goog-fieldmask",
    "x-goog-field-mask",
    "x-goog-encode-response-if-executable",
];

/// Headers of keys. Spelled with underscores they are none here, and could be one upstream.
const KEYS: [&str; 4] = ["api-key", "ocp-apim-subscription-key", "x-api-key", "x-goog-api-key"];

/// Where a request leads, as far as it decides what of its head passes.
#[derive(Clone, Copy, Debug)]
pub struct Passage {
    /// Google's API platform serves it.
    pub google: bool,
    pub billing: Billing,
}

impl Passage {
    pub fn is_metered(self) -> bool {
        self.billing == Billing::Metered
    }
}

/// Whether a header, named in lower case, belongs to the hop or to the gateway and not to the upstream, or would make
/// another request of this one.
pub fn is_ours(name: &str) -> bool {
    NOT_FORWARDED.iter().any(|other| same(name, other))
        || name == "host"
        || NOT_FORWARDED_BEGINNINGS.iter().any(|start| begins(name, start))
        || OVERRIDES.iter().any(|other| same(name, other))
}

/// Many servers take an underscore in a name for a hyphen.
fn same(name: &str, other: &str) -> bool {
    name.len() == other.len() && begins(name, other)
}

fn begins(name: &str, start: &str) -> bool {
    let alike = |(a, b): (u8, u8)| a == b || (a == b'_' && b == b'-');
    name.len() >= start.len() && name.bytes().zip(start.bytes()).all(alike)
}

/// An answer in a format that cannot be metered was requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnmeteredAccept;

/// Takes off what this passage does not bear.
///
/// # Errors
/// The client takes no answer that can be metered.
pub fn take_off(header: &mut RequestHeader, passage: Passage) -> Result<(), UnmeteredAccept> {
    let is_read = passage.billing != Billing::Free;
    let goes = |name: &str| {
        (name.contains('_') && KEYS.iter().any(|other| same(name, other)))
            || (is_read && PARTIAL.iter().any(|other| same(name, other)))
            || (passage.google && GOOGLES.iter().any(|other| same(name, other)))
            || (passage.google && passage.is_metered() && begins(name, "x-goog-upload-"))
    };
    let mut going: Vec<_> = header
        .headers
        .keys()
        .filter(|name| goes(name.as_str()))
        .cloned()
        .collect();
    if passage.google && passage.is_metered() {
        match accepted(header) {
            Accepted::Metered => {}
            Accepted::Mixed => going.push(http::header::ACCEPT),
            Accepted::Others => return Err(UnmeteredAccept),
        }
    }
    for name in going {
        header.remove_header(&name);
    }
    Ok(())
}

enum Accepted {
    Metered,
    /// Other formats too: without the header it is JSON.
    Mixed,
    Others,
}

/// Google answers in protocol buffers where they are accepted; JSON and event streams can be metered.
fn accepted(header: &RequestHeader) -> Accepted {
    let values = header.headers.get_all(ACCEPT).iter();
    let ranges: Vec<String> = values
        .flat_map(|value| {
            String::from_utf8_lossy(value.as_bytes())
                .to_ascii_lowercase()
                .split(',')
                .map(|range| range.split(';').next().unwrap_or_default().trim().to_owned())
                .collect::<Vec<_>>()
        })
        .filter(|range| !range.is_empty())
        .collect();
    let is_metered = |range: &String| {
        matches!(
            range.as_str(),
            "*/*" | "application/*" | "text/*" | "application/json" | "text/event-stream" | "text/plain"
        )
    };
    match ranges.iter().filter(|range| is_metered(range)).count() {
        some if some == ranges.len() => Accepted::Metered,
        0 => Accepted::Others,
        _ => Accepted::Mixed,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn head(headers: &[(&'static str, &str)]) -> RequestHeader {
        let mut head = RequestHeader::build("POST", b"/", None).unwrap();
        for (name, value) in headers {
            head.append_header(*name, *value).unwrap();
        }
        head
    }

    fn passage(google: bool, billing: Billing) -> Passage {
        Passage { google, billing }
    }

    #[test]
    fn our_headers_are_told_from_theirs() {
        for name in [
            "x-agent-id",
            "x-agentledger-tenant",
            "transfer-encoding",
            "transfer_encoding",
            "content_length",
            "host",
            "via",
            "x-http-method-override",
            "x_http_method_override",
            "x-original-url",
            "x-rewrite-url",
            "x-forwarded-prefix",
        ] {
            assert!(is_ours(name), "{name}");
        }
        for name in [
            "authorization",
            "x-api-key",
            "anthropic-beta",
            "openai-organization",
            "x-agentic",
            "x-http-methods",
        ] {
            assert!(!is_ours(name), "{name}");
        }
    }

    #[test]
    fn what_hides_usage_is_taken_off_where_it_is_billed() {
        let all = [
            ("X-Goog-FieldMask", "candidates"),
            ("x_goog_fieldmask", "candidates"),
            ("Prefer", "respond-async"),
            ("If-None-Match", "\"a\""),
            ("Range", "bytes=0-9"),
            ("X-Goog-Upload-Command", "start"),
            ("X-Goog-User-Project", "p"),
            ("x_api_key", "never passes"),
        ];
        let left = |google, billing| {
            let mut head = head(&all);
            take_off(&mut head, passage(google, billing)).unwrap();
            head.headers.len()
        };
        assert_eq!(left(true, Billing::Metered), 1);
        assert_eq!(left(true, Billing::Free), 5, "the masks alone");
        assert_eq!(left(false, Billing::Fetched), 4);
        assert_eq!(left(false, Billing::Free), 7);
    }

    #[test]
    fn protocol_buffers_are_not_accepted_of_what_is_metered() {
        let met = passage(true, Billing::Metered);
        for (accept, left) in [
            (Some("application/json"), Some(true)),
            (Some("*/*"), Some(true)),
            (Some("text/event-stream; q=0.5, application/json"), Some(true)),
            (Some("application/x-protobuf, application/json;q=0.1"), Some(false)),
            (Some("application/x-protobuf"), None),
            (Some("Application/X-Protobuf"), None),
            (None, Some(false)),
        ] {
            let mut head = match accept {
                Some(accept) => head(&[("accept", accept)]),
                None => head(&[]),
            };
            let taken = take_off(&mut head, met);
            assert_eq!(
                taken.is_ok().then(|| head.headers.contains_key("accept")),
                left,
                "{accept:?}"
            );
            let mut elsewhere = head.clone();
            assert!(take_off(&mut elsewhere, passage(false, Billing::Metered)).is_ok());
        }
    }
}
