"""Answers in OpenAI's shapes, written by hand after its API reference."""

import json

CREATED = 1_763_769_600


def data(value, event=None):
    """One event of a stream."""
    head = f"event: {event}\n" if event else ""
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return f"{head}data: {text}\n\n".encode()


DONE = data("[DONE]")


def chat_usage(prompt, completion, cached=0, reasoning=0):
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def chat(model, text, usage, finish="stop"):
    message = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    return {
        "id": "chatcmpl-sdk1",
        "object": "chat.completion",
        "created": CREATED,
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": usage,
        "service_tier": "default",
        "system_fingerprint": "fp_sdk",
    }


def chunk(model, choices, usage=None):
    return data(
        {
            "id": "chatcmpl-sdk2",
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": model,
            "service_tier": "default",
            "system_fingerprint": "fp_sdk",
            "choices": choices,
            "usage": usage,
        }
    )


def delta(model, change, finish=None):
    return chunk(model, [{"index": 0, "delta": change, "logprobs": None, "finish_reason": finish}])


def chat_frames(model, texts):
    """The events of a streamed chat, up to its usage."""
    return [
        delta(model, {"role": "assistant", "content": "", "refusal": None}),
        *(delta(model, {"content": text}) for text in texts),
        delta(model, {}, "stop"),
    ]


def tool_frames(model, calls):
    """Streamed tool calls: name and id first, the arguments piece by piece. `calls`: (id, name, pieces)."""
    frames = [delta(model, {"role": "assistant", "content": None})]
    for index, (ident, name, pieces) in enumerate(calls):
        start = {"index": index, "id": ident, "type": "function", "function": {"name": name, "arguments": ""}}
        frames.append(delta(model, {"tool_calls": [start]}))
        for piece in pieces:
            frames.append(delta(model, {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}))
    return [*frames, delta(model, {}, "tool_calls")]


def completion(model, text, prompt, output):
    usage = {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}
    choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": "length"}
    return {
        "id": "cmpl-sdk1",
        "object": "text_completion",
        "created": CREATED,
        "model": model,
        "choices": [choice],
        "usage": usage,
    }


def completion_frame(model, text, finish=None, usage=None):
    choices = [] if usage else [{"text": text, "index": 0, "logprobs": None, "finish_reason": finish}]
    return data(
        {
            "id": "cmpl-sdk2",
            "object": "text_completion",
            "created": CREATED,
            "model": model,
            "choices": choices,
            "usage": usage,
        }
    )


def embeddings(model, vectors, tokens):
    rows = [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(vectors)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": rows, "model": model, "usage": usage}


def response_usage(given, output, cached=0, reasoning=0):
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": given + output,
    }


def response(model, status, text, usage, error=None, incomplete=None):
    item = {
        "type": "message",
        "id": "msg_sdk1",
        "status": "completed" if status == "completed" else "incomplete",
        "role": "assistant",
        "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}],
    }
    return {
        "id": "resp_sdk1",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "background": False,
        "error": error,
        "incomplete_details": incomplete,
        "instructions": None,
        "max_output_tokens": 400,
        "model": model,
        "output": [item] if text else [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": "medium", "summary": None},
        "service_tier": "default",
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": usage,
        "user": None,
        "metadata": {},
    }


def response_frames(model, texts, last, usage, error=None, incomplete=None):
    """The events of a streamed response; `last` is its end: completed, incomplete or failed."""
    number = iter(range(10_000))

    def event(kind, **fields):
        return data({"type": kind, "sequence_number": next(number), **fields}, kind)

    at = {"item_id": "msg_sdk1", "output_index": 0, "content_index": 0}
    begun = response(model, "in_progress", "", None)
    item = {"id": "msg_sdk1", "type": "message", "status": "in_progress", "content": [], "role": "assistant"}
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
    text = "".join(texts)
    return [
        event("response.created", response=begun),
        event("response.in_progress", response=begun),
        event("response.output_item.added", output_index=0, item=item),
        event("response.content_part.added", **at, part=part),
        *(event("response.output_text.delta", **at, delta=piece, logprobs=[]) for piece in texts),
        event("response.output_text.done", **at, text=text, logprobs=[]),
        event(f"response.{last}", response=response(model, last, text, usage, error, incomplete)),
    ]


MODELS = {
    "object": "list",
    "data": [
        {"id": "gpt-4o-mini", "object": "model", "created": 1_721_172_741, "owned_by": "system"},
        {"id": "gpt-4.1", "object": "model", "created": 1_744_316_542, "owned_by": "system"},
    ],
}
