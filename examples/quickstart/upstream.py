"""A provider for trying things out: answers as OpenAI and Anthropic do, always the same. Python's standard library only.

Usage: upstream.py PORT-FILE. Listens on a free loopback port and writes its number to the file.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORDS = ["Hello ", "from ", "the ", "script."]


def chat(asked):
    usage = {
        "prompt_tokens": 1000,
        "completion_tokens": 100,
        "total_tokens": 1100,
        "prompt_tokens_details": {"cached_tokens": 600},
    }
    common = {"id": "chatcmpl-1", "created": 1, "model": "gpt-4o-2024-08-06"}
    if not asked.get("stream"):
        message = {"role": "assistant", "content": "".join(WORDS)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {**common, "object": "chat.completion", "choices": [choice], "usage": usage}
    chunks = [[{"index": 0, "delta": {"content": word}, "finish_reason": None}] for word in WORDS]
    chunks.append([{"index": 0, "delta": {}, "finish_reason": "stop"}])
    events = [{**common, "object": "chat.completion.chunk", "choices": choices} for choices in chunks]
    # Usage comes only where it was asked for, in a chunk of its own.
    if asked.get("stream_options", {}).get("include_usage"):
        events.append({**common, "object": "chat.completion.chunk", "choices": [], "usage": usage})
    return [f"data: {json.dumps(event)}\n\n" for event in events] + ["data: [DONE]\n\n"]


def messages(asked):
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": asked.get("model"),
        "content": [{"type": "text", "text": "".join(WORDS)}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 100,
            "cache_creation_input_tokens": 2000,
            "cache_read_input_tokens": 8000,
            "output_tokens": 50,
        },
    }


SCRIPT = {"/v1/chat/completions": chat, "/v1/messages": messages}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        length = int(self.headers.get("content-length", 0))
        asked = json.loads(self.rfile.read(length))
        answer = SCRIPT.get(self.path)
        if answer is None:
            self.whole(404, {"error": {"message": f"{self.path} is not in the script"}})
            return
        body = answer(asked)
        if isinstance(body, dict):
            self.whole(200, body)
        else:
            self.stream(body)

    def whole(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def stream(self, events):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for event in events:
            data = event.encode()
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
with open(sys.argv[1], "w", encoding="ascii") as file:
    file.write(f"{server.server_address[1]}\n")
server.serve_forever()
