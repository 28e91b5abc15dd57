"""Answers in Anthropic's shapes, written by hand after its API reference."""

import json


def event(kind, **fields):
    """One event of a stream."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields}, separators=(',', ':'))}\n\n".encode()


def usage(given, output, read=0, write_5m=0, write_1h=0):
    return {
        "input_tokens": given,
        "cache_creation_input_tokens": write_5m + write_1h,
        "cache_read_input_tokens": read,
        "cache_creation": {"ephemeral_5m_input_tokens": write_5m, "ephemeral_1h_input_tokens": write_1h},
        "output_tokens": output,
        "service_tier": "standard",
    }


def message(model, content, counts, stop="end_turn"):
    return {
        "id": "msg_01sdk",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": counts,
    }


def text_block(text):
    return {"type": "text", "text": text}


def text_frames(texts, index=0):
    return [
        event("content_block_start", index=index, content_block={"type": "text", "text": ""}),
        *(event("content_block_delta", index=index, delta={"type": "text_delta", "text": text}) for text in texts),
        event("content_block_stop", index=index),
    ]


def tool_frames(ident, name, pieces, index):
    block = {"type": "tool_use", "id": ident, "name": name, "input": {}}
    return [
        event("content_block_start", index=index, content_block=block),
        *(
            event("content_block_delta", index=index, delta={"type": "input_json_delta", "partial_json": piece})
            for piece in pieces
        ),
        event("content_block_stop", index=index),
    ]


def start(model, counts):
    """The first event: its output count is that of the first tokens alone."""
    return event("message_start", message=message(model, [], {**counts, "output_tokens": 1}, stop=None))


def end(output, stop="end_turn"):
    """The last events: the count is that of the whole answer."""
    return [
        event("message_delta", delta={"stop_reason": stop, "stop_sequence": None}, usage={"output_tokens": output}),
        event("message_stop"),
    ]


def message_frames(model, texts, counts):
    body = text_frames(texts)
    return [start(model, counts), body[0], event("ping"), *body[1:], *end(counts["output_tokens"])]


MODELS = {
    "data": [
        {
            "type": "model",
            "id": "claude-haiku-4-5-20251001",
            "display_name": "Claude Haiku 4.5",
            "created_at": "2025-10-15T00:00:00Z",
        }
    ],
    "has_more": False,
    "first_id": "claude-haiku-4-5-20251001",
    "last_id": "claude-haiku-4-5-20251001",
}
