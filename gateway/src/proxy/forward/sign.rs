//! Signs requests for AWS with the gateway's own credentials: Signature Version 4
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>).
//!
//! A client's own signature covers the host that the client called, which is ours: AWS would not accept it. It is taken
//! off where the gateway signs, and refused where it does not.

use pingora::http::RequestHeader;
use ring::{digest, hmac};

use crate::config::AwsCredentials;
use crate::proxy::identify::aws_signature::ALGORITHM;
use crate::proxy::identify::ownership::is_served_on_ours;
use crate::proxy::shared::rules::ProviderEndpoint;

/// The name under which Bedrock's runtime is signed for.
const SERVICE: &str = "bedrock";
/// Headers of the client that say who it is: the gateway's signature stands in their place.
const CREDENTIALS: [&str; 7] = [
    "authorization",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
];
/// Headers that are signed, where they are there. Sorted.
const SIGNED: [&str; 4] = ["content-type", "host", "x-amz-date", "x-amz-security-token"];

#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error("the time is out of range")]
    Time,
    #[error("a header cannot be written")]
    Header,
}

/// What the gateway signs this request with, where it does.
pub fn credentials<'w>(endpoint: &'w ProviderEndpoint, client: &RequestHeader) -> Option<&'w AwsCredentials> {
    let own = endpoint.provider.aws.as_ref();
    own.filter(|_| is_served_on_ours(endpoint, client))
}

/// Whether a header says who the client is, and so is left out of a request that the gateway signs.
pub fn is_replaced(name: &str) -> bool {
    CREDENTIALS.contains(&name)
}

/// Puts the date, the session's token and the signature into a request that is complete but for them, its host included.
pub fn sign(header: &mut RequestHeader, body: &[u8], with: &AwsCredentials, at_ms: i64) -> Result<(), SignError> {
    let time = jiff::Timestamp::from_millisecond(at_ms).map_err(|_| SignError::Time)?;
    let time = time.strftime("%Y%m%dT%H%M%SZ").to_string();
    let mut put = |name: &'static str, value: &str| header.insert_header(name, value).map_err(|_| SignError::Header);
    put("X-Amz-Date", &time)?;
    if let Some(token) = &with.session_token {
        put("X-Amz-Security-Token", token.expose())?;
    }
    let text = |name: &'static str| Some((name, header.headers.get(name)?.to_str().ok()?));
    let signed: Vec<(&str, &str)> = SIGNED.into_iter().filter_map(text).collect();
    let request = Canonical {
        method: header.method.as_str(),
        path: header.uri.path(),
        query: header.uri.query().unwrap_or_default(),
        headers: &signed,
        body,
    };
    let value = request.authorization(with, SERVICE, &time);
    header
        .insert_header("Authorization", value)
        .map_err(|_| SignError::Header)
}

/// What a signature covers.
struct Canonical<'a> {
    method: &'a str,
    /// As it goes over the wire; for all services but S3 it is encoded once more.
    path: &'a str,
    /// As it goes over the wire.
    query: &'a str,
    /// Names in lower case, sorted.
    headers: &'a [(&'a str, &'a str)],
    body: &'a [u8],
}

impl Canonical<'_> {
    /// `time`: `YYYYMMDDTHHMMSSZ`, the value of the date header too.
    fn authorization(&self, with: &AwsCredentials, service: &str, time: &str) -> String {
        let day = time.get(..8).unwrap_or(time);
        let scope = format!("{day}/{}/{service}/aws4_request", with.region);
        let names = self.header_names();
        let to_sign = format!(
            "{ALGORITHM}\n{time}\n{scope}\n{}",
            hex(sha256(self.text(&names).as_bytes()).as_ref())
        );
        let secret = format!("AWS4{}", with.secret_access_key.expose());
        let key = [day, &with.region, service, "aws4_request"]
            .into_iter()
            .fold(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), |key, part| {
                hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref())
            });
        let signature = hex(hmac::sign(&key, to_sign.as_bytes()).as_ref());
        format!(
            "{ALGORITHM} Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            with.access_key_id
        )
    }

    fn header_names(&self) -> String {
        self.headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";")
    }

    fn text(&self, names: &str) -> String {
        let mut out = format!("{}\n", self.method);
        for byte in self.path.bytes() {
            match byte {
                b'/' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
                byte if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
                byte => out.push_str(&format!("%{byte:02X}")),
            }
        }
        let mut pairs: Vec<(&str, &str)> = self
            .query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .collect();
        pairs.sort_unstable();
        let pairs: Vec<String> = pairs
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        out.push_str(&format!("\n{}\n", pairs.join("&")));
        for (name, value) in self.headers {
            let value = value.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
            out.push_str(&format!("{name}:{value}\n"));
        }
        out.push_str(&format!("\n{names}\n{}", hex(sha256(self.body).as_ref())));
        out
    }
}

fn sha256(bytes: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::proxy::identify::aws_signature::access_key_id;
    use crate::secret::Secret;

    /// The credentials of AWS's published examples.
    fn example(token: Option<&str>) -> AwsCredentials {
        AwsCredentials {
            region: "us-east-1".to_owned(),
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned()),
            session_token: token.map(|token| Secret::new(token.to_owned())),
        }
    }

    const TIME: &str = "20150830T123600Z";
    const HOST: (&str, &str) = ("host", "example.amazonaws.com");
    const DATE: (&str, &str) = ("x-amz-date", TIME);
    /// The session token of the suite's `post-sts-token`.
    const TOKEN: &str = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";

    fn signature(method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> String {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let request = Canonical {
            method,
            path,
            query,
            headers,
            body: body.as_bytes(),
        };
        let value = request.authorization(&example(None), "service", TIME);
        value.rsplit_once("Signature=").unwrap().1.to_owned()
    }

    #[test]
    fn the_published_test_suite_is_signed_as_it_says() {
        let plain = [HOST, DATE];
        for (name, method, target, headers, body, expected) in [
            (
                "get-vanilla",
                "GET",
                "/",
                &plain[..],
                "",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "post-vanilla",
                "POST",
                "/",
                &plain,
                "",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "get-utf8",
                "GET",
                "/ሴ",
                &plain,
                "",
                "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
            ),
            (
                "get-vanilla-query-order-key-case",
                "GET",
                "/?Param2=value2&Param1=value1",
                &plain,
                "",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "post-x-www-form-urlencoded",
                "POST",
                "/",
                &[("content-type", "application/x-www-form-urlencoded"), HOST, DATE],
                "Param1=value1",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
            (
                "post-sts-header-before",
                "POST",
                "/",
                &[HOST, DATE, ("x-amz-security-token", TOKEN)],
                "",
                "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
            ),
            (
                "get-header-value-trim",
                "GET",
                "/",
                &[HOST, ("my-header1", " value1"), ("my-header2", " \"a   b   c\""), DATE],
                "",
                "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
            ),
        ] {
            assert_eq!(signature(method, target, headers, body), expected, "{name}");
        }
    }

    #[test]
    fn the_example_of_the_documentation_is_signed_as_it_says() {
        let request = Canonical {
            method: "GET",
            path: "/",
            query: "Action=ListUsers&Version=2010-05-08",
            headers: &[
                ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
                ("host", "iam.amazonaws.com"),
                DATE,
            ],
            body: b"",
        };
        assert_eq!(
            request.authorization(&example(None), "iam", TIME),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, \
             Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        );
    }

    #[test]
    fn a_path_that_is_encoded_already_is_encoded_once_more() {
        let request = Canonical {
            method: "POST",
            path: "/model/us.amazon.nova-pro-v1%3A0/converse",
            query: "",
            headers: &[HOST],
            body: b"{}",
        };
        let text = request.text("host");
        assert_eq!(text.lines().nth(1), Some("/model/us.amazon.nova-pro-v1%253A0/converse"));
    }

    #[test]
    fn a_request_bears_date_token_and_signature() {
        let mut header = RequestHeader::build("POST", b"/model/m/converse", None).unwrap();
        header.insert_header("Host", "example.amazonaws.com").unwrap();
        header.insert_header("Content-Type", "application/json").unwrap();
        sign(&mut header, b"{}", &example(Some("token")), 1_440_938_160_000).unwrap();
        let value = |name: &str| header.headers.get(name).unwrap().to_str().unwrap().to_owned();
        assert_eq!(
            (value("x-amz-date"), value("x-amz-security-token")),
            (TIME.to_owned(), "token".to_owned())
        );
        let authorization = value("authorization");
        assert!(
            authorization.starts_with(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/bedrock/aws4_request, \
                 SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, Signature="
            ),
            "{authorization}"
        );
        assert_eq!(access_key_id(&authorization), Some("AKIDEXAMPLE"));
        for other in ["Bearer x", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=/x", ""] {
            assert_eq!(access_key_id(other), None);
        }
    }
}
