//! The values of requests and answers that this dialect needs to see, each bounded.

use agentledger_guest::{Want, strings, want};

/// Names of models in one list, and one more that shows that there are too many.
pub const MODELS_MAX: usize = 64;
/// Tools of a request, and plugins.
pub const TOOLS_MAX: usize = 1_024;
/// Items of an answer's output that are looked at.
pub const ITEMS_MAX: usize = 512;
/// Results that a batch's job bears.
pub const RESULTS_MAX: usize = 2_048;

const MODEL_BYTES: u32 = 1_024;

/// One more than is allowed, so that what is too much is seen.
const fn beyond(max: usize) -> u32 {
    max as u32 + 1
}

pub fn request_paths() -> Vec<Want> {
    let mut wants = vec![
        want("model", MODEL_BYTES, 0),
        want("stream", 16, 0),
        want("background", 16, 0),
        want("deferred", 16, 0),
        // What the server keeps: its size is held by an allowance.
        want("previous_response_id", 256, 0),
        want("conversation", 256, 0),
        // What names the model in the model's place.
        want("prompt.id", 256, 0),
        want("preset", 256, 0),
        want("agent_id", 256, 0),
        want("max_tokens", 64, 0),
        want("max_completion_tokens", 64, 0),
        want("max_output_tokens", 64, 0),
        want("completion_args.max_tokens", 64, 0),
        want("options.num_predict", 64, 0),
        want("n", 64, 0),
        want("best_of", 64, 0),
        want("service_tier", 64, 0),
        // Perplexity's fee of a request goes by it.
        want("web_search_options.search_context_size", 64, 0),
        want("search_parameters.mode", 64, 0),
        want("search_parameters.max_search_results", 64, 0),
        want("max_tool_calls", 64, 0),
        // Shown where it is too short for an object, as it must be one.
        want("stream_options", 16, 0),
        want("stream_options.include_usage", 16, 0),
        want("modalities", 128, 0),
        want("stream_format", 64, 0),
        want("size", 64, 0),
        want("quality", 64, 0),
        want("partial_images", 64, 0),
        want("pages.*", 16, 1_000),
        want("document_annotation_format.type", 32, 0),
        want("bbox_annotation_format.type", 32, 0),
        // Messages over a WebSocket.
        want("type", 128, 0),
        want("event_id", 256, 0),
        want("stream_id", 256, 0),
        want("response.max_output_tokens", 64, 0),
    ];
    wants.extend(lists_of_models());
    wants.extend(tools());
    wants
}

/// By element, so that nothing is seen but names; the list itself where it is too short for one, as it must be a list.
fn lists_of_models() -> Vec<Want> {
    let mut wants = vec![want("moderation.model", MODEL_BYTES, 0)];
    for list in ["models", "fallbacks"] {
        wants.push(want(list, 16, 0));
        wants.push(want(&format!("{list}.*"), MODEL_BYTES, beyond(MODELS_MAX)));
    }
    wants
}

/// Only what makes a hosted tool cost something, and the models that it names. A function's schema is not looked at.
fn tools() -> Vec<Want> {
    let mut wants = vec![];
    for (path, bytes) in [
        ("type", 128),
        ("model", MODEL_BYTES),
        ("size", 64),
        ("quality", 64),
        ("partial_images", 64),
        ("container.memory_limit", 64),
        ("environment.type", 64),
        ("environment.memory_limit", 64),
        ("parameters.model", MODEL_BYTES),
    ] {
        wants.push(want(&format!("tools.*.{path}"), bytes, beyond(TOOLS_MAX)));
    }
    for list in ["models", "analysis_models", "allowed_models"] {
        let items = beyond(MODELS_MAX);
        wants.push(want(&format!("tools.*.parameters.{list}.*"), MODEL_BYTES, items));
        wants.push(want(&format!("plugins.*.{list}.*"), MODEL_BYTES, items));
    }
    for (path, bytes) in [("id", 128), ("enabled", 16), ("model", MODEL_BYTES)] {
        wants.push(want(&format!("plugins.*.{path}"), bytes, beyond(MODELS_MAX)));
    }
    wants
}

pub fn answer_paths() -> Vec<Want> {
    let mut wants = vec![
        want("object", 64, 0),
        want("type", 64, 0),
        want("request_id", 256, 0),
        // Groq's streams report here.
        want("x_groq.usage", 8_192, 0),
        want("x_groq.usage_breakdown", 16_384, 0),
        want("usage_breakdown", 16_384, 0),
        // One value of each choice shows whether there are choices at all.
        want("choices.*.index", 16, 1),
        // Moonshot's streams report here.
        want("choices.*.usage", 8_192, 8),
        want("choices.*.message.executed_tools.*.type", 64, 64),
        want("choices.*.delta.executed_tools.*.type", 64, 64),
        want("error.code", 256, 0),
        want("error.type", 256, 0),
        want("server_side_tool_usage", 2_048, 0),
        // llama.cpp and Ollama count here.
        want("timings", 2_048, 0),
        want("prompt_eval_count", 64, 0),
        want("eval_count", 64, 0),
        want("done", 16, 0),
        want("usage_info", 1_024, 0),
        want("pages.*.index", 16, 2_048),
        // Mistral's conversations name the model here.
        want("outputs.*.model", 256, 64),
        // A batch that bears its own results.
        want("outputs.*.id", 256, beyond(RESULTS_MAX)),
        want("outputs.*.custom_id", 256, beyond(RESULTS_MAX)),
        want("outputs.*.response.body.model", 256, beyond(RESULTS_MAX)),
        want("outputs.*.response.body.usage", 2_048, beyond(RESULTS_MAX)),
        // How many images there are, not what is in them.
        want("data.*.output_format", 16, 16),
        // A drawing that a text model wrote, beside the image: billed as its own model's.
        want("svg_usage", 1_024, 0),
        // Transcriptions of hosts that report no usage.
        want("duration", 64, 0),
        // Rerank as Cohere bills it.
        want("meta.billed_units", 1_024, 0),
        // Messages over a WebSocket.
        want("response_id", 256, 0),
        want("stream_id", 256, 0),
        want("error.event_id", 256, 0),
        want("session.model", 1_024, 0),
        want("session.max_output_tokens", 64, 0),
        want("session.max_response_output_tokens", 64, 0),
        want("session.audio.input.transcription.model", 1_024, 0),
        want("session.input_audio_transcription.model", 1_024, 0),
        // A line of a batch's results.
        want("custom_id", 256, 0),
        want("response.body.object", 64, 0),
    ];
    // A response stands at the top of an answer, in the events of a stream, and in the lines of a batch's results.
    for place in ["", "response.", "response.body."] {
        wants.extend(answer_at(place));
    }
    wants
}

fn answer_at(place: &str) -> Vec<Want> {
    let at = |path: &str, bytes, items| want(&format!("{place}{path}"), bytes, items);
    let items = beyond(ITEMS_MAX);
    vec![
        at("id", 256, 0),
        at("model", 1_024, 0),
        at("status", 64, 0),
        at("store", 16, 0),
        at("service_tier", 64, 0),
        at("usage", 8_192, 0),
        at("tool_usage", 8_192, 0),
        at("output.*.type", 64, items),
        at("output.*.action.type", 64, items),
        at("output.*.container_id", 256, items),
        at("output.*.environment.type", 64, items),
        at("output.*.environment.container_id", 256, items),
        at("tools.*.type", 64, 128),
        at("tools.*.model", 256, 128),
    ]
}

pub fn text_paths() -> Vec<String> {
    strings(&[
        "choices.*.delta.content",
        "choices.*.delta.refusal",
        "choices.*.delta.reasoning_content",
        "choices.*.delta.reasoning",
        "choices.*.delta.function_call",
        "choices.*.delta.tool_calls.*.function",
        "choices.*.delta.tool_calls.*.custom",
        "choices.*.message.content",
        "choices.*.message.refusal",
        "choices.*.message.reasoning_content",
        "choices.*.message.reasoning",
        "choices.*.message.function_call",
        "choices.*.message.tool_calls.*.function",
        "choices.*.message.tool_calls.*.custom",
        "choices.*.text",
        // Mistral's chats in which connectors ran.
        "choices.*.messages.*.content",
        // Every `response.….delta` event, those of transcripts, and the items of a whole response. Not `text`: the events that
        // end a text repeat it.
        "delta",
        "output.*.content.*.text",
        "output.*.content.*.refusal",
        "output.*.summary.*.text",
        "output.*.arguments",
        "output.*.input",
        "output.*.code",
        // Mistral's conversations: events, and whole.
        "content",
        "outputs.*.content",
        "outputs.*.arguments",
        // Ollama's own API.
        "message.content",
        "message.thinking",
        "message.tool_calls.*.function",
        // Perplexity's completion that is fetched later.
        "response.choices.*.message.content",
        // A line of a batch's results.
        "response.body.choices.*.message.content",
        "response.body.choices.*.message.tool_calls.*.function",
        "response.body.output.*.content.*.text",
        "response.body.output.*.arguments",
    ])
}
