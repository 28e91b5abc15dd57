//! Third step: what is requested. The body is outlined natively; the plugin sees the outline and never the text.

use std::io::Read;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use pingora::http::RequestHeader;

use crate::limits::Limits;
use crate::meter::Text;
use crate::plugin::outline::form::{FormError, boundary, form};
use crate::plugin::outline::{Outline, outline};
use crate::plugin::{Billing, DialectError, Medium, Plugin, Request};
use crate::proxy::identify::method_of;
use crate::proxy::report;
use crate::proxy::shared::body::Body;
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::identity::Target;
use crate::proxy::shared::inspected::Inspected;
use crate::proxy::shared::reply::Refusal;

/// Encoded bodies are decoded so much at a time, each piece with leave to hold it.
const DECODE_STEP_BYTES: u64 = 256 << 10;

/// Reads the request. Free operations and requests without a body pass unread.
///
/// # Errors
/// A body that cannot be read, or that the plugin refuses.
pub fn inspect(
    gateway: &Gateway,
    header: &RequestHeader,
    target: &Target,
    mut body: Body,
    limits: &Limits,
) -> Result<Inspected, Refusal> {
    if target.billing != Billing::Metered {
        return Ok(Inspected::plain(body, target.path_model.clone()));
    }
    check_charset(header)?;
    let wire = body.bytes.clone();
    let decoded = decode(header, &wire, limits.body_bytes_max, &mut |bytes| body.grow(bytes))?;
    let plain: &[u8] = decoded.as_deref().unwrap_or(&body.bytes);
    if plain.is_empty() {
        return Err(Refusal::new(RefusalCode::EmptyBody, "the request has no body").final_answer());
    }
    let plugin = &target.endpoint.plugin;
    let info = plugin.dialect.info();
    let read = read_body(header, plain, plugin, limits)?;
    let headers = info.request_headers.iter().filter_map(|name| {
        let value = header.headers.get(name.as_str())?.to_str().ok()?;
        Some((name.clone(), value.to_owned()))
    });
    let request = Request {
        method: method_of(header).to_owned(),
        vendor: target.endpoint.provider.vendor.clone(),
        path: target.dialect_path.clone(),
        operation: target.operation.to_string(),
        path_model: target.path_model.clone(),
        headers: headers.collect(),
        outline: read.outline.doc.clone(),
        markers: plugin.markers_in(plain),
        characters: read.characters,
    };
    let (asked, recall) = plugin.inspect(request);
    gateway.metrics.inspected(recall);
    if let Err(DialectError::Failed { .. }) = &asked {
        report::plugin_failed(gateway, &target.endpoint, 1);
    }
    let mut call = asked.map_err(refusal_of)?;
    for name in std::iter::once(&mut call.model).chain(&mut call.models) {
        if let Some(model) = target.endpoint.provider.deployments.get(name) {
            name.clone_from(model);
        }
    }
    if read.is_form {
        // Splices are for JSON: a form goes out as it came, or not at all.
        call.edits.clear();
    }
    let has_media = [Medium::Image, Medium::Audio, Medium::File]
        .iter()
        .any(|medium| read.outline.medium(*medium).0 > 0);
    Ok(Inspected {
        call,
        has_media,
        kept_tokens: 0,
        over_socket: false,
        decoded: decoded.unwrap_or_default(),
        outline: Some(read.outline),
        text: read.text,
        body,
    })
}

/// A body as it was read, whatever its form.
struct ReadBody {
    outline: Outline,
    text: Text,
    characters: Vec<(String, u64)>,
    is_form: bool,
}

fn read_body(header: &RequestHeader, body: &[u8], plugin: &Plugin, limits: &Limits) -> Result<ReadBody, Refusal> {
    let content_type = header.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let refused = |error: FormError| Refusal::new(code_of(error), error.to_string()).final_answer();
    if let Some(boundary) = content_type.and_then(boundary) {
        let read = form(body, &boundary.map_err(refused)?, plugin.dialect.info()).map_err(refused)?;
        return Ok(ReadBody {
            outline: read.outline,
            text: Text::of(&read.text),
            characters: read.characters,
            is_form: true,
        });
    }
    let found = outline(body, &plugin.request_shape, limits)
        .map_err(|error| Refusal::new(RefusalCode::InvalidJson, error.to_string()).final_answer())?;
    let mut text = Text::default();
    text.add(body, &found);
    Ok(ReadBody {
        characters: plugin.characters_in(body, &found),
        outline: found,
        text,
        is_form: false,
    })
}

fn refusal_of(error: DialectError) -> Refusal {
    match error {
        DialectError::Problem(problem) => {
            let refusal = Refusal::foreign(400, &problem.code, problem.message).final_answer();
            match problem.param {
                Some(param) => refusal.field("param", param),
                None => refusal,
            }
        }
        DialectError::Failed { plugin, reason } => {
            tracing::warn!(plugin, reason, "a plugin failed to read a request");
            // Unread means unmetered: budgets are not bypassed by a request that breaks a plugin.
            Refusal::new(
                RefusalCode::PluginFailed,
                format!("the {plugin} plugin could not read this request"),
            )
        }
    }
}

/// A decoded copy of an encoded body, bounded; `None` where it is not encoded.
/// `room` grants memory for what is decoded.
fn decode(
    header: &RequestHeader,
    body: &[u8],
    bytes_max: u64,
    room: &mut dyn FnMut(u64) -> bool,
) -> Result<Option<Bytes>, Refusal> {
    let Some(encoding) = coding_of(header)? else {
        return Ok(None);
    };
    let reader: Box<dyn Read + '_> = match encoding.as_str() {
        "identity" => return Ok(None),
        "gzip" | "x-gzip" => Box::new(flate2::read::MultiGzDecoder::new(body)),
        "deflate" => Box::new(flate2::read::ZlibDecoder::new(body)),
        "br" => Box::new(brotli::Decompressor::new(body, 4096)),
        "zstd" => Box::new(zstd::stream::read::Decoder::new(body).map_err(|_| undecodable(&encoding))?),
        _ => {
            let message = "content-encoding must be gzip, deflate, br, zstd or identity";
            return Err(Refusal::new(RefusalCode::UnknownEncoding, message).final_answer());
        }
    };
    let mut reader = reader;
    let mut decoded = Vec::new();
    loop {
        let read = reader.by_ref().take(DECODE_STEP_BYTES).read_to_end(&mut decoded);
        let read = read.map_err(|_| undecodable(&encoding))? as u64;
        if decoded.len() as u64 > bytes_max {
            return Err(Refusal::body_too_large());
        }
        if !room(read) {
            return Err(Refusal::overloaded());
        }
        if read < DECODE_STEP_BYTES {
            break;
        }
    }
    Ok(Some(Bytes::from(decoded)))
}

/// Characters of JSON are UTF-8 (RFC 8259 §8.1). Charsets in which the same bytes could be another text are refused: who reads
/// the body by them would read another request.
fn check_charset(header: &RequestHeader) -> Result<(), Refusal> {
    const ALIKE: [&str; 7] = [
        "utf-8",
        "utf8",
        "us-ascii",
        "ascii",
        "iso-8859-1",
        "latin1",
        "windows-1252",
    ];
    let kind = header
        .headers
        .get("content-type")
        .map(|kind| String::from_utf8_lossy(kind.as_bytes()).to_ascii_lowercase());
    let kind = kind.unwrap_or_default();
    let mut parameters = kind
        .split(';')
        .skip(1)
        .filter_map(|parameter| parameter.split_once('='));
    let is_foreign =
        parameters.any(|(name, value)| name.trim() == "charset" && !ALIKE.contains(&value.trim().trim_matches('"')));
    if is_foreign {
        let message = "the body's charset must be utf-8";
        return Err(Refusal::new(RefusalCode::UnknownEncoding, message).final_answer());
    }
    Ok(())
}

/// The one coding that the body is in. Of several, in one header or in more, an upstream could take others than are read
/// here, and no client of a provider's sends them.
fn coding_of(header: &RequestHeader) -> Result<Option<String>, Refusal> {
    let unknown = || {
        let message = "content-encoding must name one coding: gzip, deflate, br, zstd or identity";
        Refusal::new(RefusalCode::UnknownEncoding, message).final_answer()
    };
    let mut found = None;
    for value in header.headers.get_all(CONTENT_ENCODING) {
        let value = value.to_str().map_err(|_| unknown())?;
        for coding in value.split(',').map(str::trim).filter(|coding| !coding.is_empty()) {
            if found.replace(coding.to_ascii_lowercase()).is_some() {
                return Err(unknown());
            }
        }
    }
    Ok(found)
}

fn undecodable(encoding: &str) -> Refusal {
    Refusal::new(
        RefusalCode::BadEncoding,
        format!("the request body is not valid {encoding}"),
    )
    .final_answer()
}

fn code_of(error: FormError) -> RefusalCode {
    match error {
        FormError::NoBoundary => RefusalCode::MissingBoundary,
        _ => RefusalCode::InvalidMultipart,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn head(encoding: &str) -> RequestHeader {
        let mut head = RequestHeader::build("POST", b"/", None).unwrap();
        head.insert_header("content-encoding", encoding).unwrap();
        head
    }

    #[test]
    fn codex_bodies_in_zstd_are_read_and_bounded() {
        let packed = zstd::encode_all(&b"{\"model\":\"m\"}"[..], 3).unwrap();
        assert_eq!(
            decode(&head("zstd"), &packed, 100, &mut |_| true).unwrap().unwrap(),
            "{\"model\":\"m\"}"
        );
        let bomb = zstd::encode_all(&vec![b' '; 1 << 20][..], 19).unwrap();
        assert_eq!(
            decode(&head("zstd"), &bomb, 1000, &mut |_| true).unwrap_err().status,
            413
        );
        assert_eq!(
            decode(&head("zstd"), b"nonsense", 1000, &mut |_| true)
                .unwrap_err()
                .status,
            400
        );
        assert_eq!(decode(&head("lzma"), b"", 1000, &mut |_| true).unwrap_err().status, 415);
        assert!(decode(&head("identity"), b"{}", 1000, &mut |_| true).unwrap().is_none());
    }

    #[test]
    fn a_charset_in_which_the_bytes_are_another_text_is_refused() {
        let fits = |kind: &str| {
            let mut header = RequestHeader::build("POST", b"/", None).unwrap();
            header.insert_header("content-type", kind).unwrap();
            check_charset(&header).is_ok()
        };
        for kind in [
            "application/json",
            "application/json; charset=utf-8",
            "application/json;Charset=\"UTF-8\"",
            "text/plain; charset=latin1",
        ] {
            assert!(fits(kind), "{kind}");
        }
        for kind in [
            "application/json; charset=utf-7",
            "application/json;charset=UTF-16LE",
            "application/json; a=b; charset=ibm037",
        ] {
            assert!(!fits(kind), "{kind}");
        }
    }

    #[test]
    fn two_content_encodings_are_refused_however_they_are_named() {
        for (name, values) in [
            ("two headers", &["identity", "gzip"][..]),
            ("a list", &["zstd, gzip"]),
            ("the same twice", &["gzip", "gzip"]),
            ("no text", &["gz\u{ef}p"]),
        ] {
            let mut header = RequestHeader::build("POST", b"/", None).unwrap();
            for value in values {
                let value = http::HeaderValue::from_bytes(value.as_bytes()).unwrap();
                header.append_header("content-encoding", value).unwrap();
            }
            let refusal = decode(&header, b"{}", 1000, &mut |_| true).unwrap_err();
            assert_eq!(
                (refusal.status, refusal.code.as_str()),
                (415, "unknown_encoding"),
                "{name}"
            );
        }
        for empty in ["", ",", " , identity"] {
            assert!(decode(&head(empty), b"{}", 1000, &mut |_| true).unwrap().is_none());
        }
    }
}
