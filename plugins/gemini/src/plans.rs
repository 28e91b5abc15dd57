//! What the host reads by itself: contents, whole and streamed, of text alone and without grounding. All else is
//! [`crate::answer`]'s, which says the same of these.

use agentledger_guest::plan::{Plan, streamed, whole};
use agentledger_guest::{Kind, ReadingPlan};

use crate::info::{GENERATE, STREAM};

/// Media of a prompt that cost what text does.
const LIKE_TEXT: [&str; 4] = ["TEXT", "IMAGE", "VIDEO", "DOCUMENT"];

pub fn plans() -> Vec<ReadingPlan> {
    vec![contents(whole(&[GENERATE])), contents(streamed(&[STREAM]))]
}

/// Cached tokens lie inside the prompt's, thoughts beside the candidates'. Where media are told apart, sound is told as zero;
/// where there is some, `read` counts it.
fn contents(plan: Plan) -> ReadingPlan {
    let plan = plan
        .usage_at(&["usageMetadata"])
        .model_behind("models/", "modelVersion")
        .ignored(&["responseId"])
        .empty(&["candidates.*"])
        .tiers(
            "@usage.trafficType",
            &[
                ("ON_DEMAND", "on_demand"),
                ("ON_DEMAND_FLEX", "flex"),
                ("ON_DEMAND_PRIORITY", "priority"),
            ],
        )
        .tiers(
            "@usage.serviceTier",
            &[("standard", "standard"), ("flex", "flex"), ("priority", "priority")],
        )
        .count("@usage.promptTokenCount", Kind::Input)
        .inside(
            "@usage.promptTokenCount",
            "@usage.cachedContentTokenCount",
            Kind::CacheRead,
        );
    let plan = media(plan, "@usage.cacheTokensDetails", &LIKE_TEXT, &[Kind::CacheReadAudio]);
    let plan = media(plan, "@usage.promptTokensDetails", &LIKE_TEXT, &[Kind::AudioInput])
        .count("@usage.candidatesTokenCount", Kind::Output)
        .thoughts_beside("@usage.candidatesTokenCount", "@usage.thoughtsTokenCount")
        .sum(
            "@usage.totalTokenCount",
            &[
                "@usage.promptTokenCount",
                "@usage.candidatesTokenCount",
                "@usage.thoughtsTokenCount",
            ],
        );
    media(
        plan,
        "@usage.candidatesTokensDetails",
        &["TEXT"],
        &[Kind::AudioOutput, Kind::ImageOutput],
    )
    .plan()
}

fn media(plan: Plan, list: &str, known: &[&str], zero: &[Kind]) -> Plan {
    plan.zero(list, zero)
        .words(&format!("{list}.*.modality"), known)
        .looked_at(&format!("{list}.*.tokenCount"))
}
