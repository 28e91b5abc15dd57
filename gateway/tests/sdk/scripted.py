"""A scripted upstream: an HTTP server on the loopback that answers as a test tells it, and keeps what it was asked and
what it sent."""

import json
import threading
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


# Content types of answers that come piece by piece.
STREAMS = ("text/event-stream", "application/vnd.amazon.eventstream")


@dataclass
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    # Found by their names in any case, as they are.
    headers: Message
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


@dataclass
class Answer:
    """What is sent back. `pieces` are written one by one, each as one chunk; an Event among them is waited for."""

    status: int = 200
    headers: dict = field(default_factory=dict)
    pieces: list = field(default_factory=list)
    # The connection ends in the middle of the body, without an end.
    breaks_off: bool = False
    # Set once the gateway has taken its connection away.
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def body(self):
        return b"".join(piece for piece in self.pieces if isinstance(piece, bytes))


def whole(value, status=200, **headers):
    """A JSON answer. Spaces as the providers send them: nothing on the way may reformat it."""
    body = json.dumps(value, indent=2).encode() + b"\n"
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Answer(status, {"Content-Type": "application/json", **named}, [body])


def stream(frames, **more):
    """An event stream; `frames` are whole events."""
    headers = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
    return Answer(200, headers, list(frames), **more)


class Upstream:
    def __init__(self):
        self.asked = []
        self._lock = threading.Lock()
        self._answers = {}
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # A write without delay, each chunk by itself.
            wbufsize = 0
            disable_nagle_algorithm = True

            def log_message(self, *_):
                pass

            def do_POST(self):
                length = int(self.headers.get("Content-Length") or 0)
                asked = Asked(self.command, self.path, self.headers, self.rfile.read(length))
                try:
                    upstream._serve(self, asked)
                except (BrokenPipeError, ConnectionError):
                    self.close_connection = True

            do_GET = do_POST
            do_DELETE = do_POST

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_):
                pass  # a connection that the gateway took away

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def on(self, path, *answers):
        """Scripts a path: the answers in turn, the last one again and again. One that can be called is asked."""
        with self._lock:
            self._answers[path] = list(answers)

    def clear(self):
        with self._lock:
            self.asked, self._answers = [], {}

    def answer(self, asked):
        """What a request gets: what is scripted for its path."""
        path = asked.path.split("?")[0]
        with self._lock:
            answers = self._answers.get(path)
            answer = None if not answers else answers.pop(0) if len(answers) > 1 else answers[0]
        if answer is None:
            return whole({"error": {"message": f"nothing is scripted for {path}", "type": "unscripted"}}, 418)
        return answer(asked) if callable(answer) else answer

    def takes_over(self, _handler, _asked):
        """Whether the connection goes on as another one, such as a WebSocket."""
        return False

    def _serve(self, handler, asked):
        with self._lock:
            self.asked.append(asked)
        if self.takes_over(handler, asked):
            return
        answer = self.answer(asked)
        handler.send_response(answer.status)
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        streams = answer.headers.get("Content-Type", "").startswith(STREAMS)
        if streams:
            handler.send_header("Transfer-Encoding", "chunked")
        elif "Content-Length" not in answer.headers:
            handler.send_header("Content-Length", str(len(answer.body)))
        handler.end_headers()
        try:
            for piece in answer.pieces:
                if isinstance(piece, threading.Event):
                    piece.wait(60)
                elif streams:
                    handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                else:
                    handler.wfile.write(piece)
            if answer.breaks_off:
                handler.close_connection = True
            elif streams:
                handler.wfile.write(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionError):
            answer.cancelled.set()
            raise
