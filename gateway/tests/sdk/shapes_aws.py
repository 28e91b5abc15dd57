"""What Amazon Bedrock sends: messages of AWS's binary event stream, made by hand."""

import json
import struct
import zlib

from scripted import Answer


def message(headers, payload):
    head = b""
    for name, value in headers.items():
        head += bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
    out = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    out += struct.pack(">I", zlib.crc32(out)) + head + payload
    return out + struct.pack(">I", zlib.crc32(out))


def event(name, payload):
    headers = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    return message(headers, json.dumps(payload).encode())


def text(words):
    return event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": words}, "p": "abcdef"})


def metadata(**usage):
    usage["totalTokens"] = sum(usage.values())
    return event("metadata", {"usage": usage, "metrics": {"latencyMs": 7}})


START = event("messageStart", {"role": "assistant", "p": "abc"})
STOP = event("messageStop", {"stopReason": "end_turn"})


def stream(frames, **more):
    return Answer(200, {"Content-Type": "application/vnd.amazon.eventstream"}, list(frames), **more)


def converse(words, **usage):
    usage["totalTokens"] = sum(usage.values())
    return {
        "output": {"message": {"role": "assistant", "content": [{"text": words}]}},
        "stopReason": "end_turn",
        "usage": usage,
        "metrics": {"latencyMs": 7},
    }
