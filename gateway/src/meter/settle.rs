//! From what an answer said, and how it ended, to what is entered: exact where it can be, else completed by estimates.

use agentledger_ledger::{Kind, Outcome, Usage};

use super::estimate::Estimator;
use super::fold::MeteredPart;
use super::metered::Metered;
use crate::estimate_reason;

/// Base64 bytes of sound that are one token, on the low side: what is said back is 20 tokens a second
/// (https://platform.openai.com/docs/guides/realtime-costs), at least 10,667 bytes where it is telephone quality (G.711).
const SOUND_BYTES_PER_TOKEN: u64 = 533;

/// Tokens of so much sound in base64, rather too many: it may be of any quality.
pub fn sound_tokens(bytes: u64) -> u64 {
    bytes.div_ceil(SOUND_BYTES_PER_TOKEN)
}

/// How the relay saw the answer end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Completed,
    ClientGone,
    Cut,
    UpstreamFailed,
}

impl From<End> for Outcome {
    fn from(end: End) -> Outcome {
        match end {
            End::Completed => Outcome::Completed,
            End::ClientGone => Outcome::ClientGone,
            End::Cut => Outcome::Cut,
            End::UpstreamFailed => Outcome::UpstreamFailed,
        }
    }
}

/// The usage that is entered and priced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettledUsage {
    /// The answer's own part first; at least one.
    pub parts: Vec<MeteredPart>,
    /// The sum of the parts.
    pub usage: Usage,
    pub reasoning: u64,
    /// Why the usage is an estimate; `None`: exact. See [`crate::estimate_reason`].
    pub estimate_reason: Option<&'static str>,
}

impl Metered {
    /// The usage of an answer that ended so. `model` is the one to estimate with; `input_tokens` the estimate of the
    /// request, asked for only where the answer did not say.
    pub fn settle(
        &self,
        end: End,
        model: &str,
        input_tokens: impl FnOnce() -> u64,
        estimator: &Estimator,
    ) -> SettledUsage {
        let estimate_reason = self.estimate_reason(end);
        let mut parts = self.parts.clone();
        if parts.is_empty() {
            parts.push(MeteredPart::default());
        }
        if let (Some(_), Some(own)) = (estimate_reason, parts.first_mut()) {
            if own.usage.input_tokens() == 0 {
                own.usage.set(Kind::Input, input_tokens());
            }
            let output = estimator.text_tokens(model, &self.text).tokens;
            own.usage.set(Kind::Output, own.usage.get(Kind::Output).max(output));
            let spoken = sound_tokens(self.sound_bytes);
            own.usage
                .set(Kind::AudioOutput, own.usage.get(Kind::AudioOutput).max(spoken));
        }
        let usage = parts.iter().fold(Usage::default(), |sum, part| sum.sum(&part.usage));
        let reasoning = parts.iter().fold(0_u64, |sum, part| sum.saturating_add(part.reasoning));
        SettledUsage {
            parts,
            usage,
            reasoning,
            estimate_reason,
        }
    }

    fn estimate_reason(&self, end: End) -> Option<&'static str> {
        let seen = !self.parts.is_empty();
        // A whole answer that could be read says all, whether or not the client stayed for it.
        let complete = self.final_seen || !self.streamed;
        if self.ignored || (seen && complete && self.reason.is_none()) {
            return None;
        }
        // An answer that failed before any text, and says nothing of usage, used nothing.
        if self.failed && !seen && self.text.bytes() == 0 && self.sound_bytes == 0 {
            return None;
        }
        match end {
            End::Completed => self.reason,
            End::ClientGone => Some(estimate_reason::CLIENT_GONE),
            End::Cut => Some(estimate_reason::CUT),
            End::UpstreamFailed => Some(estimate_reason::UPSTREAM_FAILED),
        }
    }
}
