//! What the host reads by itself: Converse, whole and streamed, without guardrails, routers and caches of named lengths. All
//! else is [`crate::answer`]'s, which says the same of these.

use agentledger_guest::plan::{Plan, streamed, whole};
use agentledger_guest::{Kind, ReadingPlan};

use crate::info::{CONVERSE, CONVERSE_STREAM};

pub fn plans() -> Vec<ReadingPlan> {
    let ends = [
        "end_turn",
        "max_tokens",
        "stop_sequence",
        "tool_use",
        "content_filtered",
    ];
    vec![
        counts(whole(&[CONVERSE])).words("stopReason", &ends).plan(),
        // Usage comes in the last event.
        counts(streamed(&[CONVERSE_STREAM]))
            .of_events(&["messageStart", "contentBlockStop"], &["metadata"])
            .plan(),
    ]
}

/// Cached tokens lie outside the input's. They come under two names at times.
fn counts(plan: Plan) -> Plan {
    let (read, written) = ("@usage.cacheReadInputTokens", "@usage.cacheWriteInputTokens");
    plan.usage_at(&["usage"])
        .count("@usage.inputTokens", Kind::Input)
        .count("@usage.outputTokens", Kind::Output)
        .count(read, Kind::CacheRead)
        .count(written, Kind::CacheWrite)
        .sum("@usage.cacheReadInputTokenCount", &[read])
        .sum("@usage.cacheWriteInputTokenCount", &[written])
        .sum(
            "@usage.totalTokens",
            &["@usage.inputTokens", "@usage.outputTokens", read, written],
        )
        .ignored(&["@usage.serverToolUsage"])
        .tier("serviceTier.type")
        // `optimized` has prices of its own.
        .words("performanceConfig.latency", &["standard"])
}
