//! The dashboard: files that are in the binary, for whoever opens the gateway's address in a browser. They say nothing that a
//! stranger may not know; what the page shows it gets by methods, with a token.

use std::io::Write;
use std::sync::LazyLock;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::{Shared, error};
use crate::guide;

/// Views that have an address of their own; each is the same page, which shows it.
pub const VIEWS: [&str; 16] = [
    "/spend",
    "/who",
    "/sessions",
    "/calls",
    "/budgets",
    "/rates",
    "/keys",
    "/policies",
    "/providers",
    "/prices",
    "/mcp",
    "/plugins",
    "/alerts",
    "/ledger",
    "/audit",
    "/guide",
];
const TOPIC: &str = "/guide/";

/// What the page may do: its own files, its own methods, and nothing that comes as text and would be markup or a script.
const HEADERS: [(&str, &str); 6] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action \
         'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    (
        "permissions-policy",
        "clipboard-write=(self), camera=(), microphone=(), geolocation=()",
    ),
];

/// A file as it is sent: with its own length, or packed.
struct File {
    name: &'static str,
    kind: &'static str,
    plain: &'static [u8],
    packed: Bytes,
    /// `ETag`.
    tag: String,
}

impl File {
    fn of(name: &'static str, kind: &'static str, plain: &'static [u8]) -> File {
        let mut packing = GzEncoder::new(Vec::new(), Compression::best());
        // Into memory: neither fails.
        let _ = packing.write_all(plain);
        File {
            name,
            kind,
            plain,
            packed: packing.finish().unwrap_or_default().into(),
            tag: format!("\"{}\"", blake3::hash(plain).to_hex()),
        }
    }

    fn named(name: &str) -> Option<&'static File> {
        FILES.iter().find(|file| file.name == name)
    }
}

const INDEX: &str = "index.html";

/// Packed once, when the first page is opened.
static FILES: LazyLock<Vec<File>> = LazyLock::new(|| {
    let files: [(&'static str, &'static str, &'static [u8]); 4] = [
        (
            INDEX,
            "text/html; charset=utf-8",
            include_bytes!("../../../assets/dashboard/index.html"),
        ),
        (
            "app.js",
            "text/javascript; charset=utf-8",
            include_bytes!("../../../assets/dashboard/app.js"),
        ),
        (
            "app.css",
            "text/css; charset=utf-8",
            include_bytes!("../../../assets/dashboard/app.css"),
        ),
        (
            "icon.svg",
            "image/svg+xml",
            include_bytes!("../../../assets/dashboard/icon.svg"),
        ),
    ];
    let pages = guide::topics();
    let pages = pages.map(|(name, text)| File::of(name, "text/markdown; charset=utf-8", text.as_bytes()));
    let files = files.into_iter().map(|(name, kind, plain)| File::of(name, kind, plain));
    files.chain(pages).collect()
});

/// The paths of the views, of the files and of the guide's pages. The root is the caller's: others than browsers read it, too.
pub(in crate::control) fn router() -> Router<Shared> {
    let views = VIEWS
        .into_iter()
        .fold(Router::new(), |router, view| router.route(view, get(index)));
    views
        .route("/guide/{topic}", get(index))
        .route("/assets/{name}", get(asset))
        .route("/assets/guide/{name}", get(guide_page))
}

/// Whether a path is one of the page's, besides the root.
pub fn is_view(path: &str) -> bool {
    let topic = path.strip_prefix(TOPIC).is_some_and(|topic| !topic.contains('/'));
    topic || VIEWS.contains(&path)
}

/// Whether it is a browser that asks: a page is what it wants first.
pub fn wants_page(accept: Option<&str>) -> bool {
    let ranges = accept.unwrap_or_default().split(',');
    ranges
        .filter_map(|range| range.split(';').next())
        .any(|range| range.trim().eq_ignore_ascii_case("text/html"))
}

pub(in crate::control) async fn index(headers: HeaderMap) -> Response {
    send(File::named(INDEX), &headers)
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let is_page_of_guide = guide::text(&name).is_some();
    send(
        File::named(&name).filter(|_| !is_page_of_guide && name != INDEX),
        &headers,
    )
}

async fn guide_page(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let page = name.strip_suffix(".md").filter(|name| guide::text(name).is_some());
    send(page.and_then(File::named), &headers)
}

fn send(file: Option<&'static File>, asked: &HeaderMap) -> Response {
    let Some(file) = file else {
        return error(StatusCode::NOT_FOUND, "not found");
    };
    let said = |name: header::HeaderName| asked.get(name).and_then(|value| value.to_str().ok());
    let is_known = said(header::IF_NONE_MATCH).is_some_and(|tags| tags.contains(&file.tag));
    let takes_gzip = said(header::ACCEPT_ENCODING).is_some_and(|codings| codings.contains("gzip"));
    let mut response = match (is_known, takes_gzip) {
        (true, _) => StatusCode::NOT_MODIFIED.into_response(),
        (false, true) => ([(header::CONTENT_ENCODING, "gzip")], file.packed.clone()).into_response(),
        (false, false) => Bytes::from_static(file.plain).into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.kind));
    headers.insert(header::VARY, HeaderValue::from_static("accept, accept-encoding"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&file.tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_browser_is_told_from_a_program() {
        let chromium = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
        assert!(wants_page(Some(chromium)));
        for accept in [
            None,
            Some("*/*"),
            Some("application/json"),
            Some("text/event-stream, application/json"),
        ] {
            assert!(!wants_page(accept), "{accept:?}");
        }
    }

    #[test]
    fn views_are_told_from_what_providers_serve() {
        for path in ["/spend", "/mcp", "/guide", "/guide/budgets"] {
            assert!(is_view(path), "{path}");
        }
        for path in ["/mcp/github", "/v1/models", "/spend/x", "/guide/a/b", "/spendx", "/"] {
            assert!(!is_view(path), "{path}");
        }
    }

    /// What a phone far away has to load before it shows anything.
    #[test]
    fn the_page_is_small() {
        let packed = |name: &str| File::named(name).unwrap().packed.len();
        let script = packed("app.js");
        let all: usize = ["index.html", "app.js", "app.css", "icon.svg"]
            .into_iter()
            .map(packed)
            .sum();
        assert!(script < 70_000 && all < 150_000, "{script} of {all}");
    }

    #[test]
    fn what_is_no_file_of_the_page_is_not_found() {
        let mut headers = HeaderMap::new();
        assert_eq!(send(None, &headers).status(), StatusCode::NOT_FOUND);
        let whole = send(File::named("app.css"), &headers);
        assert_eq!(whole.headers().get("content-encoding"), None);
        headers.insert("accept-encoding", HeaderValue::from_static("br, gzip"));
        let packed = send(File::named("app.css"), &headers);
        assert_eq!(packed.headers()["content-encoding"], "gzip");
        headers.insert("if-none-match", packed.headers()["etag"].clone());
        assert_eq!(
            send(File::named("app.css"), &headers).status(),
            StatusCode::NOT_MODIFIED
        );
    }
}
