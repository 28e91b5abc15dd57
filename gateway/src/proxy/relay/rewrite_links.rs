//! Addresses of the provider's own in its answers, which clients follow: Anthropic's SDKs fetch a batch's results at its
//! `results_url`. They lead to the gateway instead, as the client addressed it, else what is fetched there would pass it by.

use agentledger_http1::ResponseHead;
use bytes::{Bytes, BytesMut};
use pingora::http::RequestHeader;

use crate::plugin::outline::outline;
use crate::proxy::shared::exchange::Exchange;

/// A whole answer that contains such addresses, held until its end has come.
pub struct LinkRewriter {
    held: BytesMut,
    bytes_max: usize,
    depth_max: u32,
    /// Scheme, host and the provider's prefix, as the client called.
    here: String,
}

/// Whether the operation's answers contain addresses.
pub fn has_links(exchange: &Exchange) -> bool {
    exchange.endpoint.plugin.links_of(&exchange.operation).is_some()
}

impl LinkRewriter {
    /// For this answer; `None` where it passes as it comes.
    pub fn of(
        exchange: &Exchange,
        request: &RequestHeader,
        over_tls: bool,
        answer: &ResponseHead,
    ) -> Option<LinkRewriter> {
        if !has_links(exchange) || !answer.status.is_success() {
            return None;
        }
        let said = |name: &str| answer.get(name);
        let json = said("content-type").is_some_and(|kind| kind.starts_with("application/json"));
        if !json || said("content-encoding").is_some() {
            return None;
        }
        let limits = &exchange.rules.config.limits;
        Some(LinkRewriter {
            held: BytesMut::new(),
            bytes_max: limits.answer_bytes_max,
            depth_max: limits.json_depth_max,
            here: format!("{}{}", called(request, over_tls)?, exchange.endpoint.provider.prefix),
        })
    }

    /// Takes in pieces of the answer. `Err`: it is too long to be changed, and goes on as it came.
    pub fn hold(&mut self, pieces: Vec<Bytes>) -> Result<(), Bytes> {
        pieces.iter().for_each(|piece| self.held.extend_from_slice(piece));
        if self.held.len() > self.bytes_max {
            return Err(std::mem::take(&mut self.held).freeze());
        }
        Ok(())
    }

    /// The whole answer, its last bytes given, with the gateway's addresses.
    pub fn finish(mut self, exchange: &Exchange, last: &Bytes) -> Bytes {
        self.held.extend_from_slice(last);
        let json = self.held.freeze();
        match rewritten(&json, exchange, &self.here, self.depth_max) {
            Some(changed) => Bytes::from(changed),
            None => json,
        }
    }
}

/// `https://host`, as the client called: by its TLS or, where a proxy before the gateway ended that, by what this one says.
/// It goes back to the same client and nowhere else.
pub fn called(request: &RequestHeader, over_tls: bool) -> Option<String> {
    let said = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    let host = said("host").or_else(|| request.uri.authority().map(|authority| authority.as_str()))?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    if host.is_empty() || !host.bytes().all(plain) {
        return None;
    }
    let https = over_tls || said("x-forwarded-proto").is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
    Some(format!("{}://{host}", if https { "https" } else { "http" }))
}

/// `None`: nothing is to be changed, or the answer cannot be read.
fn rewritten(json: &[u8], exchange: &Exchange, here: &str, depth_max: u32) -> Option<Vec<u8>> {
    let shape = exchange.endpoint.plugin.links_of(&exchange.operation)?;
    let mut found = outline(json, shape, depth_max).ok()?.spans;
    found.sort_by_key(|(_, range)| range.start);
    let mut out = Vec::with_capacity(json.len());
    let mut at = 0;
    for (_, range) in found {
        let Some(link) = json.get(range.clone()).and_then(|text| led_here(text, exchange, here)) else {
            continue;
        };
        out.extend_from_slice(json.get(at..range.start)?);
        out.extend_from_slice(link.as_bytes());
        at = range.end;
    }
    out.extend_from_slice(json.get(at..)?);
    Some(out)
}

/// A JSON string with an address, led here if this provider serves its path here; `None`: it stays.
fn led_here(text: &[u8], exchange: &Exchange, here: &str) -> Option<String> {
    let link: String = serde_json::from_slice(text).ok()?;
    let link: http::Uri = link.parse().ok()?;
    link.authority()?;
    let provider = &exchange.endpoint.provider;
    let path = link.path_and_query()?.as_str();
    let path = path.strip_prefix(provider.upstream.base_path.as_str()).unwrap_or(path);
    let bare = path.split('?').next().unwrap_or_default();
    exchange.endpoint.plugin.routes.find(&provider.vendor, "GET", bare)?;
    serde_json::to_string(&format!("{here}{path}")).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn request(headers: &[(&'static str, &str)]) -> RequestHeader {
        let mut header = RequestHeader::build("GET", b"/v1/messages/batches", None).unwrap();
        for (name, value) in headers {
            header.insert_header(*name, *value).unwrap();
        }
        header
    }

    #[test]
    fn the_gateway_is_where_the_client_called_it() {
        let of = |headers: &[(&'static str, &str)], tls| called(&request(headers), tls);
        assert_eq!(
            of(&[("host", "127.0.0.1:8787")], false).unwrap(),
            "http://127.0.0.1:8787"
        );
        assert_eq!(
            of(&[("host", "gateway.example")], true).unwrap(),
            "https://gateway.example"
        );
        let behind = [("host", "[::1]:80"), ("x-forwarded-proto", "HTTPS")];
        assert_eq!(of(&behind, false).unwrap(), "https://[::1]:80");
        for odd in ["", "a/b", "user@host", "a b", "h\u{e4}st"] {
            assert_eq!(of(&[("host", odd)], false), None, "{odd}");
        }
        assert_eq!(of(&[], false), None);
    }
}
