"""The server's side of a WebSocket (RFC 6455), as far as a scripted provider needs it: whole text messages, no extensions."""

import base64
import hashlib
import struct

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class Socket:
    def __init__(self, handler):
        self._read, self._write = handler.rfile, handler.wfile
        key = handler.headers["Sec-WebSocket-Key"].encode()
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
        handler.send_response(101)
        for name, value in (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept)):
            handler.send_header(name, value)
        handler.end_headers()
        handler.close_connection = True

    def _frame(self):
        """One frame: whether its message ends with it, its kind, its payload."""
        first, second = self._read.read(2)
        length = second & 0x7F
        if length > 125:
            size, form = (2, ">H") if length == 126 else (8, ">Q")
            (length,) = struct.unpack(form, self._read.read(size))
        mask = self._read.read(4) if second & 0x80 else bytes(4)
        payload = self._read.read(length)
        whole = int.from_bytes(payload, "big") ^ int.from_bytes((mask * (length // 4 + 1))[:length], "big")
        return bool(first & 0x80), first & 0x0F, whole.to_bytes(length, "big")

    def messages(self):
        """The client's messages until it leaves."""
        said = b""
        while True:
            try:
                ends, kind, payload = self._frame()
            except (ValueError, struct.error, OSError):
                return
            if kind == CLOSE:
                self.send(payload, CLOSE)
                return
            if kind == PING:
                self.send(payload, PONG)
            elif kind != PONG:
                said += payload
                if ends:
                    yield said
                    said = b""

    def send(self, payload, kind=TEXT):
        length = len(payload)
        head = bytes([0x80 | kind])
        if length < 126:
            head += bytes([length])
        elif length < 1 << 16:
            head += struct.pack(">BH", 126, length)
        else:
            head += struct.pack(">BQ", 127, length)
        self._write.write(head + payload)
