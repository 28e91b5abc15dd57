//! What the host reads by itself: messages, whole and streamed, that neither ran code nor were served by several models. All
//! else is [`crate::answer`]'s, which says the same of these.

use agentledger_guest::plan::{Plan, streamed, whole};
use agentledger_guest::{Kind, ReadingPlan};

use crate::info::MESSAGES;

pub fn plans() -> Vec<ReadingPlan> {
    vec![
        counts(whole(&[MESSAGES]).usage_at(&["usage"]))
            .words("type", &["message"])
            .model("model")
            .ignored(&["id"])
            .plan(),
        counts(streamed(&[MESSAGES]).usage_at(&["usage", "message.usage"]))
            .words_to_end(
                "type",
                &[
                    "message_start",
                    "message_delta",
                    "ping",
                    "content_block_start",
                    "content_block_delta",
                    "content_block_stop",
                ],
                &["message_stop"],
            )
            .model("message.model")
            .words(
                "content_block.type",
                &["text", "thinking", "redacted_thinking", "tool_use"],
            )
            .ignored(&["message.id"])
            .empty(&["delta"])
            .plan(),
    ]
}

/// Cached tokens lie outside the input's, and thoughts inside the output's.
fn counts(plan: Plan) -> Plan {
    let short = "@usage.cache_creation.ephemeral_5m_input_tokens";
    let long = "@usage.cache_creation.ephemeral_1h_input_tokens";
    plan.count("@usage.input_tokens", Kind::Input)
        .count("@usage.cache_read_input_tokens", Kind::CacheRead)
        .count("@usage.output_tokens", Kind::Output)
        .unless_told_apart("@usage.cache_creation_input_tokens", Kind::CacheWrite, &[short, long])
        .count(short, Kind::CacheWrite5m)
        .count(long, Kind::CacheWrite1h)
        .count("@usage.server_tool_use.web_search_requests", Kind::WebSearch)
        .count("@usage.server_tool_use.web_fetch_requests", Kind::WebFetch)
        .thoughts("@usage.output_tokens_details.thinking_tokens")
        .tier("@usage.service_tier")
        // Fast answers, and those of a place of one's choice, have prices of their own.
        .words("@usage.speed", &["standard"])
        .words("@usage.inference_geo", &["global", "not_available"])
}
