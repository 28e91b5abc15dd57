//! What the host reads by itself: chats, completions, embeddings and responses as OpenAI answers them, without fees of tools.
//! All else, other hosts' own members among it, is [`crate::answer`]'s, which says the same of these.

use agentledger_guest::plan::{Plan, streamed, whole};
use agentledger_guest::{Kind, ReadingPlan};

use crate::info::{CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, RETRIEVE};

/// Items of an output that cost nothing but their tokens.
const FREE_ITEMS: [&str; 5] = ["message", "reasoning", "function_call", "custom_tool_call", "mcp_call"];

pub fn plans() -> Vec<ReadingPlan> {
    vec![
        chat(whole(&[CHAT, COMPLETIONS, EMBEDDINGS])),
        chat(streamed(&[CHAT, COMPLETIONS])),
        response(whole(&[RESPONSES, RETRIEVE]), "").plan(),
        response(streamed(&[RESPONSES, RETRIEVE]), "response.")
            .words_to_end(
                "type",
                &["response.created", "response.queued", "response.in_progress"],
                &["response.completed", "response.incomplete"],
            )
            .plan(),
    ]
}

fn chat(plan: Plan) -> ReadingPlan {
    let plan = plan
        .usage_at(&["usage"])
        .model("model")
        .tier("service_tier")
        // A stream's last chunk has the usage, and no choice.
        .usage_alone("choices")
        .ignored(&["id", "object", "choices.*.index", "data"])
        .empty(&["choices.*.delta", "choices.*.message", "x_groq"]);
    counts(plan, "prompt_tokens", "completion_tokens")
        // Groq's.
        .ignored(&[
            "@usage.queue_time",
            "@usage.prompt_time",
            "@usage.completion_time",
            "@usage.total_time",
        ])
        .plan()
}

/// A response stands at the top of a whole answer, and inside the events of a stream.
fn response(plan: Plan, place: &str) -> Plan {
    let at = |path: &str| format!("{place}{path}");
    let plan = plan
        .usage_at(&[&at("usage")])
        .model(&at("model"))
        .tier(&at("service_tier"))
        .bill_id(&at("id"))
        // What is not stored is billed under no id.
        .words(&at("store"), &["true"])
        .words_to_wait(&at("status"), &["completed", "incomplete"], &["queued", "in_progress"])
        .words(&at("output.*.type"), &FREE_ITEMS)
        .ignored(&[&at("tools")])
        .ignored(if place.is_empty() { &["object"] } else { &[] });
    counts(plan, "input_tokens", "output_tokens")
}

/// Cached and written tokens, sound and pictures lie inside the input's, sound, pictures and thoughts inside the output's.
fn counts(plan: Plan, input: &str, output: &str) -> Plan {
    let (input, output) = (format!("@usage.{input}"), format!("@usage.{output}"));
    let of_input = |name: &str| format!("{input}_details.{name}");
    let of_output = |name: &str| format!("{output}_details.{name}");
    plan.count(&input, Kind::Input)
        .inside(&input, &of_input("cached_tokens"), Kind::CacheRead)
        .inside(&input, &of_input("cache_write_tokens"), Kind::CacheWrite5m)
        .inside(&input, &of_input("audio_tokens"), Kind::AudioInput)
        .inside(&input, &of_input("image_tokens"), Kind::ImageInput)
        .count(&output, Kind::Output)
        .inside(&output, &of_output("audio_tokens"), Kind::AudioOutput)
        .inside(&output, &of_output("image_tokens"), Kind::ImageOutput)
        .thoughts(&of_output("reasoning_tokens"))
        .sum("@usage.total_tokens", &[&input, &output])
        .ignored(&[
            &of_input("text_tokens"),
            &of_output("text_tokens"),
            &of_output("accepted_prediction_tokens"),
            &of_output("rejected_prediction_tokens"),
        ])
}
