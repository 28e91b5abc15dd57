//! What the host reads by itself: chats of the second version, embeddings and ranks. All else is [`crate::answer`]'s, which
//! says the same of these.

use agentledger_guest::plan::{Plan, streamed, whole};
use agentledger_guest::{Kind, ReadingPlan};

use crate::info::{CHAT, EMBED, RERANK};

/// Why a chat is over; errors are `read`'s.
const FINISHED: [&str; 4] = ["COMPLETE", "MAX_TOKENS", "STOP_SEQUENCE", "TOOL_CALL"];

pub fn plans() -> Vec<ReadingPlan> {
    vec![
        billed(whole(&[CHAT]), "usage.")
            .words("finish_reason", &FINISHED)
            .ignored(&["id"])
            .plan(),
        billed(streamed(&[CHAT]), "delta.usage.")
            .words_to_end("type", &["message-start"], &["message-end"])
            .words("delta.finish_reason", &FINISHED)
            .ignored(&["id"])
            .plan(),
        counts(whole(&[EMBED, RERANK]).usage_at(&["meta.billed_units"]))
            .ignored(&["id"])
            .plan(),
    ]
}

/// Beside what is billed stands what the model saw.
fn billed(plan: Plan, usage: &str) -> Plan {
    let at = |name: &str| format!("{usage}{name}");
    counts(plan.usage_at(&[&at("billed_units")])).ignored(&[&at("tokens"), &at("cached_tokens")])
}

fn counts(plan: Plan) -> Plan {
    plan.count("@usage.input_tokens", Kind::Input)
        .count("@usage.output_tokens", Kind::Output)
        .count("@usage.search_units", Kind::Request)
        .count("@usage.images", Kind::Image)
}
