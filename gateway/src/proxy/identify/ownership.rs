//! Requests that would be served on credentials of the gateway's own. They bear nothing that a web page could not send too,
//! so a browser on the machine, or one whose page had its name led here (DNS rebinding), is told from a client before
//! anything else is done.

use pingora::http::RequestHeader;

use super::aws_signature::authorization_of;
use crate::config::Config;
use crate::hosts;
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::reply::Refusal;
use crate::proxy::shared::rules::ProviderEndpoint;
use crate::secret::Secret;

/// Bodies of these types are sent to any origin without its leave
/// (<https://fetch.spec.whatwg.org/#cors-safelisted-request-header>).
const SENT_UNASKED: [&str; 3] = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"];

/// Whether the gateway's own credentials serve this request. A client's own bearer key passes as it came: who sends one
/// pays with it.
pub fn is_served_on_ours(endpoint: &ProviderEndpoint, client: &RequestHeader) -> bool {
    let bearer = |value: &str| {
        value
            .get(..7)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer "))
    };
    endpoint.provider.aws.is_some() && !authorization_of(client).is_some_and(bearer)
}

/// Refuses what a web page of another origin could have sent.
///
/// # Errors
/// A foreign Host, a foreign Origin, or what a browser sends without leave.
pub fn refuse_foreign_pages(config: &Config, header: &RequestHeader) -> Result<(), Refusal> {
    refuse_foreign_host(config, header)?;
    let said = |name: &str| {
        header
            .headers
            .get(name)
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
    };
    let host = said("host").unwrap_or_default();
    let origin = said("origin");
    let origin = origin.as_deref();
    let is_named = origin.is_some_and(|origin| hosts::is_named_origin(&config.cors_allow_origins, origin));
    let is_own = |origin: &str| {
        origin
            .split_once("://")
            .is_some_and(|(_, from)| from.eq_ignore_ascii_case(&host))
    };
    let from_elsewhere = said("sec-fetch-site").is_some_and(|site| !matches!(&*site, "same-origin" | "none"));
    let sent_unasked = said("content-type").is_some_and(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        SENT_UNASKED.contains(&kind.as_str())
    });
    if is_named || !(origin.is_some_and(|origin| !is_own(origin)) || from_elsewhere || sent_unasked) {
        return Ok(());
    }
    let message = "this would be served on the gateway's own credentials, and any web page could have sent it: send \
                   Content-Type: application/json, and name the page's origin in cors.allow_origins where it is yours";
    Err(Refusal::new(RefusalCode::ForeignOrigin, message).final_answer())
}

/// Refuses a request that calls the gateway by a name that is not its own.
///
/// # Errors
/// Such a name.
pub fn refuse_foreign_host(config: &Config, header: &RequestHeader) -> Result<(), Refusal> {
    let host = header
        .headers
        .get("host")
        .map(|host| String::from_utf8_lossy(host.as_bytes()));
    let host = host.or_else(|| Some(header.uri.authority()?.as_str().into()));
    if hosts::is_own(config, &host.unwrap_or_default()) {
        return Ok(());
    }
    let message = "the request calls the gateway by a name that is not its own: if it is, add it to `hosts`";
    Err(Refusal::new(RefusalCode::ForeignHost, message).final_answer())
}

/// Refuses a key that the gateway's own credentials are not for. Where none are named, they are for all who reach it.
///
/// # Errors
/// Such a key.
pub fn refuse_unknown_key(endpoint: &ProviderEndpoint, key: &Secret<String>) -> Result<(), Refusal> {
    let known = &endpoint.provider.client_keys;
    if known.is_empty() || key.is_among(known) {
        return Ok(());
    }
    let message = format!(
        "the gateway's own credentials for {0} are for the keys in providers.{0}.client_keys: send one as x-api-key, or as \
         the access key id that you sign with",
        endpoint.provider.name
    );
    Err(Refusal::new(RefusalCode::UnknownKey, message).final_answer())
}
