//! Signatures as Standard Webhooks has them (`webhook-id`, `webhook-timestamp`, `webhook-signature`): HMAC-SHA256 over the id,
//! the time and the body, so that a receiver knows who sent it, and a body sent again by somebody else is refused by its age.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;

/// What a secret begins with; the rest is base64.
pub const SECRET_PREFIX: &str = "whsec_";
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("must begin with {SECRET_PREFIX}")]
    Prefix,
    #[error("is not base64 after {SECRET_PREFIX}")]
    Base64,
    #[error("must stand for {} to {} bytes", SECRET_BYTES.start(), SECRET_BYTES.end())]
    Length,
}

/// Signs bodies. Cannot be printed.
#[derive(Clone)]
pub struct Signer(hmac::Key);

impl Signer {
    /// # Errors
    /// The secret is not of the form `whsec_` and base64.
    pub fn new(secret: &str) -> Result<Signer, SecretError> {
        let encoded = secret.strip_prefix(SECRET_PREFIX).ok_or(SecretError::Prefix)?;
        let bytes = BASE64_STANDARD.decode(encoded).map_err(|_| SecretError::Base64)?;
        if !SECRET_BYTES.contains(&bytes.len()) {
            return Err(SecretError::Length);
        }
        Ok(Signer(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The value of `webhook-signature`. `at_s` is in seconds since the epoch, as in `webhook-timestamp`.
    pub fn sign(&self, id: &str, at_s: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{at_s}.").as_bytes());
        context.update(body);
        format!("v1,{}", BASE64_STANDARD.encode(context.sign()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn the_published_example_is_signed_as_published() {
        let signer = Signer::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = signer.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn other_secrets_are_refused() {
        let refused = |secret: &str| Signer::new(secret).map(|_| ()).unwrap_err();
        assert_eq!(refused("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), SecretError::Prefix);
        assert_eq!(refused("whsec_*"), SecretError::Base64);
        assert_eq!(refused("whsec_MfKQ9r8G"), SecretError::Length);
    }
}
