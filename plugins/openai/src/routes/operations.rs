//! What each operation bills, and where its answer says so.

use crate::info::{
    AGENT, ASYNC_CHAT, BATCH_JOB, CANCEL, CHAT, CLASSIFY, COMPACT, COMPLETIONS, CONVERSATION, DEFERRED, EMBEDDINGS,
    FILE_CONTENT, IMAGE_EDITS, IMAGE_VARIATIONS, IMAGES, NATIVE_CHAT, NATIVE_EMBED, OCR, REALTIME, RERANK, RESPONSES,
    RETRIEVE, SEARCH, SPEECH, TRANSCRIPTIONS, TRANSLATIONS,
};

pub struct Operation {
    pub name: &'static str,
    pub billed: &'static str,
    pub read: &'static str,
    pub source: &'static str,
}

const fn operation(name: &'static str, billed: &'static str, read: &'static str, source: &'static str) -> Operation {
    Operation {
        name,
        billed,
        read,
        source,
    }
}

pub const OPERATIONS: &[Operation] = &[
    operation(
        CHAT,
        "tokens of input, cache, output, sound and images; hosted tools by the call",
        "`usage`, or where hosts put it: `x_groq.usage`, `choices[].usage`, `timings`; per model in `usage_breakdown`",
        "https://platform.openai.com/docs/api-reference/chat/create",
    ),
    operation(
        COMPLETIONS,
        "tokens of input and output, of every candidate of `best_of`",
        "`usage`",
        "https://platform.openai.com/docs/api-reference/completions/create",
    ),
    operation(
        EMBEDDINGS,
        "tokens of input",
        "`usage.prompt_tokens`, else `usage.total_tokens`",
        "https://platform.openai.com/docs/api-reference/embeddings/create",
    ),
    operation(
        RESPONSES,
        "tokens; image generation by its own model; searches, containers and runs of hosted tools",
        "`usage`, `tool_usage`, `usage.server_side_tool_usage_details`, `usage.tool_calls_details`, else the items of `output`",
        "https://platform.openai.com/docs/api-reference/responses/create",
    ),
    operation(
        RETRIEVE,
        "what the response that it fetches used, once by its id",
        "as `responses`",
        "https://platform.openai.com/docs/guides/background",
    ),
    operation(
        CANCEL,
        "what the response used until it was cancelled, once by its id",
        "as `responses`",
        "https://platform.openai.com/docs/guides/background",
    ),
    operation(
        COMPACT,
        "tokens of input and output",
        "`usage`",
        "https://platform.openai.com/docs/api-reference/responses/compact",
    ),
    operation(
        IMAGES,
        "images, or their tokens where the model bills tokens",
        "`usage`, else the elements of `data`",
        "https://platform.openai.com/docs/api-reference/images/create",
    ),
    operation(
        IMAGE_EDITS,
        "images, or their tokens where the model bills tokens",
        "`usage`, else the elements of `data`",
        "https://platform.openai.com/docs/api-reference/images/createEdit",
    ),
    operation(
        IMAGE_VARIATIONS,
        "images",
        "the elements of `data`",
        "https://platform.openai.com/docs/api-reference/images/createVariation",
    ),
    operation(
        SPEECH,
        "characters of the text, or tokens of what is spoken",
        "`usage` of the stream's last event, else the request's characters",
        "https://platform.openai.com/docs/api-reference/audio/createSpeech",
    ),
    operation(
        TRANSCRIPTIONS,
        "seconds of the recording, or its tokens",
        "`usage.seconds`, `usage.prompt_audio_seconds`, `usage`, else `duration`",
        "https://platform.openai.com/docs/api-reference/audio/createTranscription",
    ),
    operation(
        TRANSLATIONS,
        "seconds of the recording",
        "`usage.seconds`, else `duration`",
        "https://platform.openai.com/docs/api-reference/audio/createTranslation",
    ),
    operation(
        RERANK,
        "searches, or tokens of input",
        "`meta.billed_units`, `usage`",
        "https://docs.together.ai/reference/rerank",
    ),
    operation(
        CLASSIFY,
        "tokens of input",
        "`usage`",
        "https://docs.mistral.ai/api/endpoint/classifiers",
    ),
    operation(
        FILE_CONTENT,
        "the lines of a batch's results, each once, at the batch's price",
        "`response.body.usage` of each line",
        "https://platform.openai.com/docs/guides/batch",
    ),
    operation(
        BATCH_JOB,
        "the results that the job itself bears, once by its id, at the batch's price",
        "`outputs[].response.body.usage`",
        "https://docs.mistral.ai/api/endpoint/batch",
    ),
    operation(
        REALTIME,
        "tokens of text, sound and images of each answer, and of transcripts beside them",
        "`response.usage` of `response.done`",
        "https://platform.openai.com/docs/guides/realtime-costs",
    ),
    operation(
        CONVERSATION,
        "tokens of all steps and of what connectors brought; calls of connectors",
        "`usage`, `usage.connector_tokens`, `usage.connectors`",
        "https://docs.mistral.ai/api/endpoint/beta/conversations",
    ),
    operation(
        AGENT,
        "tokens at the agent's model, held as the dearest",
        "`usage`",
        "https://docs.mistral.ai/api/endpoint/agents",
    ),
    operation(
        SEARCH,
        "the request",
        "the request itself, at the price of the model `search`",
        "https://docs.perplexity.ai/docs/getting-started/pricing",
    ),
    operation(
        OCR,
        "pages",
        "`usage_info.pages_processed`",
        "https://docs.mistral.ai/api/endpoint/ocr",
    ),
    operation(
        DEFERRED,
        "what the completion used, once by the id in the path",
        "as `chat`",
        "https://docs.x.ai/developers/advanced-api-usage/deferred-chat-completions",
    ),
    operation(
        ASYNC_CHAT,
        "what the completion used, once by its id, when it is fetched",
        "`response.usage`",
        "https://docs.perplexity.ai/api-reference/async-chat-completions-post",
    ),
    operation(
        NATIVE_CHAT,
        "tokens of input and output",
        "`prompt_eval_count`, `eval_count`",
        "https://docs.ollama.com/api/chat",
    ),
    operation(
        NATIVE_EMBED,
        "tokens of input",
        "`prompt_eval_count`",
        "https://docs.ollama.com/api/embed",
    ),
];

pub fn find(name: &str) -> Option<&'static Operation> {
    OPERATIONS.iter().find(|operation| operation.name == name)
}
