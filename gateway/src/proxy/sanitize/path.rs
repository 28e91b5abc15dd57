//! The one spelling of a path (RFC 3986 §6.2.2): by it routes are found, and exactly it goes upstream. A path that could be
//! read as another one even so is refused.

use crate::plugin::{encoded_byte, is_arn};

/// Longest path; the longest of real ones, with an ARN in it, has some 300 bytes.
const PATH_BYTES_MAX: usize = 8 << 10;

/// Segments that a name follows. Nothing between two slashes is a name left out there, and no slash too many.
const BEFORE_NAMES: [&str; 9] = [
    "batches",
    "conversations",
    "deployments",
    "files",
    "locations",
    "models",
    "projects",
    "responses",
    "uploads",
];

/// Why a path has no spelling that everybody reads alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    #[error("the path is longer than {PATH_BYTES_MAX} bytes")]
    TooLong,
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    #[error("the path has a dotted segment")]
    Dotted,
    #[error("the path has nothing where a name belongs")]
    NameLeftOut,
    #[error("the path has a broken percent-encoding")]
    BrokenEncoding,
    #[error("the path has a character that two servers could read differently")]
    Ambiguous,
}

/// The normal form: letters, digits and `-._~` are never encoded, other encodings have capital digits, no slash is doubled
/// and none is the last. In the last segment a colon stands plain: Google's verbs follow one there, and some clients
/// encode it.
///
/// # Errors
/// What an upstream could read as another path: dotted segments, encoded slashes (but an ARN's), encodings of encodings,
/// path parameters, control characters.
pub fn normal_form(path: &str) -> Result<String, PathFault> {
    if path.len() > PATH_BYTES_MAX {
        return Err(PathFault::TooLong);
    }
    if !path.starts_with('/') {
        return Err(PathFault::NotAbsolute);
    }
    let mut normal = String::with_capacity(path.len());
    let (mut last_start, mut gap) = (0, false);
    for segment in path.split('/').skip(1) {
        if segment.is_empty() {
            gap = true;
            continue;
        }
        let before = normal.get(last_start..).unwrap_or_default();
        if gap && BEFORE_NAMES.contains(&before) {
            return Err(PathFault::NameLeftOut);
        }
        gap = false;
        normal.push('/');
        last_start = normal.len();
        put_segment(segment, &mut normal)?;
    }
    let last = normal.split_off(last_start).replace("%3A", ":");
    normal.push_str(&last);
    if normal.is_empty() {
        normal.push('/');
    }
    Ok(normal)
}

fn put_segment(segment: &str, into: &mut String) -> Result<(), PathFault> {
    let start = into.len();
    let slashes_allowed = is_arn(segment);
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            if !byte.is_ascii_graphic() || matches!(byte, b'\\' | b';') {
                return Err(PathFault::Ambiguous);
            }
            into.push(char::from(byte));
            continue;
        }
        let byte = encoded_byte(&mut bytes).ok_or(PathFault::BrokenEncoding)?;
        match byte {
            b'-' | b'.' | b'_' | b'~' => into.push(char::from(byte)),
            letter if letter.is_ascii_alphanumeric() => into.push(char::from(letter)),
            b'/' if !slashes_allowed => return Err(PathFault::Ambiguous),
            // `%25` is the beginning of an encoding to whoever decodes once more.
            b'%' | b'\\' | b';' | b'?' | b'#' => return Err(PathFault::Ambiguous),
            control if control.is_ascii_control() => return Err(PathFault::Ambiguous),
            other => into.push_str(&format!("%{other:02X}")),
        }
    }
    let written = into.get(start..).unwrap_or_default();
    if matches!(written, "." | "..") {
        return Err(PathFault::Dotted);
    }
    // Spaces around a name are trimmed by some.
    if written.starts_with("%20") || written.ends_with("%20") {
        return Err(PathFault::Ambiguous);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_path_has_one_spelling() {
        for (given, normal) in [
            ("/", "/"),
            ("//", "/"),
            ("/v1/chat/completions", "/v1/chat/completions"),
            ("//v1/messages", "/v1/messages"),
            ("/v1//chat///completions", "/v1/chat/completions"),
            ("/v1/responses/", "/v1/responses"),
            ("/v1/models//", "/v1/models"),
            ("/v1/files/f-1/%63ontent", "/v1/files/f-1/content"),
            ("/v1/files/f%2D1/c%6fntent", "/v1/files/f-1/content"),
            ("/v1/models/a%2bb%c3%a4", "/v1/models/a%2Bb%C3%A4"),
            ("/v1beta/models/m%3agenerateContent", "/v1beta/models/m:generateContent"),
            ("/model/nova-v1%3a0/converse", "/model/nova-v1%3A0/converse"),
            ("/model/nova-v1:0/converse", "/model/nova-v1:0/converse"),
            (
                "/model/arn%3Aaws%3Ax%2Fnova/converse",
                "/model/arn%3Aaws%3Ax%2Fnova/converse",
            ),
            ("/x/...y", "/x/...y"),
        ] {
            assert_eq!(normal_form(given).as_deref(), Ok(normal), "{given}");
            assert_eq!(normal_form(normal).as_deref(), Ok(normal), "{normal} again");
        }
    }

    #[test]
    fn what_could_be_read_as_another_path_has_none() {
        for path in [
            "",
            "*",
            "v1/x",
            "/v1/../v1/chat",
            "/v1/%2e%2E/x",
            "/v1/./x",
            "/v1/chat%2Fcompletions",
            "/model/arn%3Aaws%2F..%2Fx/converse",
            "/a\\b",
            "/a%5cb",
            "/v1/files/f/%2563ontent",
            "/v1/files/f/content;x=1",
            "/v1/files/f/content%3Bx",
            "/v1/files/f/content%3Fx",
            "/v1/files/f/content%23",
            "/v1/files/f/content%20",
            "/v1/files/f/content%00",
            "/v1/files/f/cont\u{e9}nt",
            "/v1/%zz",
            "/v1/%4",
            "/openai/deployments//chat/completions",
            "/v1/files//content",
        ] {
            assert!(normal_form(path).is_err(), "{path}");
        }
        assert_eq!(normal_form(&format!("/{}", "x".repeat(9_000))), Err(PathFault::TooLong));
    }
}
