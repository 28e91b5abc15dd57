"""Taps that pass every byte on and keep a copy: `Tap` on a TCP connection, read as HTTP afterwards; and, run as a program before a
command (`tap.py FOLDER -- COMMAND…`), on its standard streams."""

import os
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field


@dataclass
class Exchange:
    """A request and its answer, as they passed."""

    method: str
    path: str
    headers: dict
    body: bytes
    status: int = 0
    answer_headers: dict = field(default_factory=dict)
    answer: bytes = b""
    # Whether all of the answer has passed.
    is_whole: bool = False


class Tap:
    def __init__(self):
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listening.getsockname()[1]
        self.target = None
        self._connections = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            far = socket.socket()
            try:
                far.connect(("127.0.0.1", self.target))
            except OSError:
                near.close()
                continue
            asked, answered = bytearray(), bytearray()
            self._connections.append((asked, answered))
            threading.Thread(target=_serve, args=(near, far, asked, answered), daemon=True).start()

    def exchanges(self):
        """All of them so far, connection by connection."""
        return [exchange for asked, answered in self._connections for exchange in read(bytes(asked), bytes(answered))]


def _serve(near, far, asked, answered):
    for one in (near, far):
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    upwards = threading.Thread(target=_pump, args=(near, far, asked), daemon=True)
    upwards.start()
    _pump(far, near, answered)
    upwards.join()
    near.close()
    far.close()


def _pump(source, sink, kept):
    try:
        while piece := source.recv(1 << 16):
            kept += piece
            sink.sendall(piece)
    except OSError:
        pass
    # The one that went away is told to the other: an answer that ended early, or a client that left.
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def read(asked, answered):
    """The exchanges of one connection."""
    while asked:
        head, asked = _head(asked)
        if head is None:
            return
        (method, path, _), headers = head
        body, asked, _ = _body(headers, asked, is_answer=False)
        exchange = Exchange(method, path, headers, body)
        head, answered = _head(answered)
        if head is not None:
            (_, status, *_), exchange.answer_headers = head
            exchange.status = int(status)
            exchange.answer, answered, exchange.is_whole = _body(exchange.answer_headers, answered, is_answer=True)
        yield exchange


def _head(data):
    text, found, rest = data.partition(b"\r\n\r\n")
    if not found:
        return None, b""
    first, *lines = text.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers.setdefault(name.lower(), []).append(value.strip())
    return (first.split(" ", 2), headers), rest


def _body(headers, data, is_answer):
    """The body, what follows it, and whether it is whole."""
    if "chunked" in headers.get("transfer-encoding", []):
        body = b""
        while True:
            size, found, data = data.partition(b"\r\n")
            if not found:
                return body, b"", False
            length = int(size.split(b";")[0], 16)
            piece, data = data[:length], data[length + 2 :]
            body += piece
            if length == 0 or len(piece) < length:
                return body, data, length == 0
    length = int(headers.get("content-length", ["0"])[0])
    if is_answer and "content-length" not in headers and data:
        return data, b"", False
    return data[:length], data[length:], len(data) >= length


def main(folder, command):
    """Runs a command between its caller and itself, with a copy of what it gets and of what it says in `folder`."""
    running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def copied(source, sink, name):
        with open(os.path.join(folder, name), "ab") as kept:
            while piece := os.read(source, 1 << 16):
                kept.write(piece)
                kept.flush()
                os.write(sink, piece)

    def asked():
        copied(0, running.stdin.fileno(), "asked")
        running.stdin.close()

    threading.Thread(target=asked, daemon=True).start()
    copied(running.stdout.fileno(), 1, "answered")
    return running.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[3:]))
