//! What a client's own AWS signature says: who it is. It covers the host that the client called, which is ours, so it is
//! refused where the gateway does not sign in the client's place.

use pingora::http::RequestHeader;

use crate::proxy::sanitize::query::decoded;
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::reply::Refusal;
use crate::proxy::shared::rules::ProviderEndpoint;

/// How a signature of version 4 begins.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Refuses a signature that AWS could not accept. Only where it is meant for AWS: elsewhere it is a key like any other.
///
/// # Errors
/// The signature is meant for AWS, and the gateway does not sign in its place.
pub fn refuse_foreign(endpoint: &ProviderEndpoint, client: &RequestHeader) -> Result<(), Refusal> {
    if endpoint.provider.dialect != "bedrock" {
        return Ok(());
    }
    let presigned = client.uri.query().is_some_and(|query| {
        let mut names = query.split('&').filter_map(|pair| pair.split('=').next());
        names.any(|name| decoded(name).eq_ignore_ascii_case("x-amz-signature"))
    });
    let signed = authorization_of(client).is_some_and(|value| value.starts_with(ALGORITHM));
    if presigned || (signed && endpoint.provider.aws.is_none()) {
        let message = "an AWS signature covers the gateway's host and would not be accepted by Bedrock: send a Bedrock \
                       API key instead (AWS_BEARER_TOKEN_BEDROCK, Authorization: Bearer), or let the gateway sign with \
                       its own credentials (providers.extra.bedrock.access_key_id)";
        return Err(Refusal::new(RefusalCode::SignatureForGateway, message).final_answer());
    }
    Ok(())
}

/// The access key id in a signature's `Authorization` value: it names the caller, and is no secret.
pub fn access_key_id(authorization: &str) -> Option<&str> {
    let parts = authorization.strip_prefix(ALGORITHM)?.split([',', ' ']);
    let scope = parts.map(str::trim).find_map(|part| part.strip_prefix("Credential="))?;
    scope.split('/').next().filter(|id| !id.is_empty())
}

/// The value of the client's `Authorization` header.
pub fn authorization_of(client: &RequestHeader) -> Option<&str> {
    Some(client.headers.get("authorization")?.to_str().ok()?.trim())
}
