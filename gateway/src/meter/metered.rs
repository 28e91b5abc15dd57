//! What the meter makes of an answer.

use agentledger_ledger::Usage;

use super::fold::MeteredPart;
use super::ids::Ids;
use super::text::Text;

/// How many frames were read, and by whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FramesRead {
    /// By the dialect's reading plan.
    pub by_plan: u32,
    /// By a call into the plugin.
    pub by_call: u32,
}

impl FramesRead {
    pub(super) fn note(&mut self, by_plan: bool) {
        let count = if by_plan { &mut self.by_plan } else { &mut self.by_call };
        *count = count.saturating_add(1);
    }
}

/// What an answer said, when its bytes have ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metered {
    /// The answer's own part first. Empty where no usage was read.
    pub parts: Vec<MeteredPart>,
    /// The sum of the parts.
    pub usage: Usage,
    /// The sum of the parts.
    pub reasoning: u64,
    /// The model as the answer names it.
    pub model: Option<String>,
    /// By which the answer names itself.
    pub response_id: Option<String>,
    /// Digest of the tool calls of the model, where the dialect can go on from an answer by its name; `None` where it called none.
    pub calls: Option<[u8; 32]>,
    /// By which the provider knows the request, from the answer's headers.
    pub request_id: Option<String>,
    /// Under which the answer is billed once.
    pub bill_id: Option<String>,
    /// The provider is still at work on it.
    pub pending: bool,
    pub service_tier: Option<String>,
    /// USD as decimal text.
    pub reported_cost: Option<String>,
    /// The answer reports its own failure.
    pub failed: bool,
    /// Something is billed beside the usage, and cannot be read.
    pub unread_fee: bool,
    /// The dialect's end of a stream was seen: nothing billable can follow.
    pub final_seen: bool,
    /// The answer came as a stream.
    pub streamed: bool,
    /// The text of the answer, for an estimate.
    pub text: Text,
    /// Bytes of sound in the answer, in base64, for an estimate.
    pub sound_bytes: u64,
    /// Frames with data.
    pub frames: u64,
    /// Frames too long to be held, which were read as they passed.
    pub frames_oversized: u64,
    /// Lines of results that cannot be read.
    pub lines_broken: u64,
    pub plugin_errors: u32,
    pub frames_read: FramesRead,
    /// The status is an error's: nothing was read, and nothing is billed.
    pub ignored: bool,
    /// Why the usage is missing or cannot be believed; `None`: it is exact. See [`crate::estimate_reason`].
    pub reason: Option<&'static str>,
}

impl Metered {
    /// What its entry bears of its ids.
    pub fn ids(&self) -> Ids {
        Ids::new(self.response_id.as_deref(), self.request_id.as_deref())
    }
}
