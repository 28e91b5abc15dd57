"""The scripted model as a provider: one server that speaks all four dialects, and OpenAI's responses over WebSockets, too."""

import json
import threading

from dialects import Chat, Gemini, Messages, Responses
from model import Model
from scripted import Upstream, stream, whole
from websocket import Socket


def dialect(path):
    """The dialect of a path, where it asks for an answer."""
    if path.endswith("/messages"):
        return Messages
    if path.endswith("/chat/completions"):
        return Chat
    if path.endswith("/responses"):
        return Responses
    if path.endswith((":generateContent", ":streamGenerateContent")):
        return Gemini
    return None


class Provider(Upstream):
    def __init__(self):
        super().__init__()
        self.model = Model()
        # What a thread of Anthropic's has by each of its answers' ids: a client sends only what is new.
        self._threads = {}

    def answer(self, asked):
        path = asked.path.split("?")[0]
        if path.endswith("/count_tokens"):
            return whole({"input_tokens": 1_234})
        if path.endswith(":countTokens"):
            return whole({"totalTokens": 1_234})
        spoken = dialect(path)
        if asked.method != "POST" or spoken is None:
            return whole({"error": {"message": f"no {asked.method} {path} here", "type": "not_found_error"}}, 404)
        body = self._whole_thread(asked.json)
        ask = spoken.read(body, path)
        turn = self.model.turn(ask)
        bill = self.model.bill(ask.model, turn)
        self._threads[bill.ident] = body
        if path.endswith(":streamGenerateContent") or body.get("stream"):
            return self._streamed(spoken, bill, turn)
        answer = whole(spoken.whole(bill, turn))
        if turn.cut:
            answer.headers["Content-Length"] = str(len(answer.body))
            answer.pieces, answer.breaks_off = [answer.body[:20]], True
        elif turn.held:
            answer.pieces.insert(0, self.model.pause)
        bill.complete = not turn.cut
        return answer

    def _whole_thread(self, body):
        before = self._threads.get((body.get("thread") or {}).get("previous_message_id"))
        return body if before is None else {**before, **body, "messages": before["messages"] + body["messages"]}

    def takes_over(self, handler, asked):
        if not asked.headers.get("Upgrade"):
            return False
        socket = Socket(handler)
        # What was said before an answer, by the answer's id: a client sends only what came after it.
        before = {}
        for message in socket.messages():
            body = json.loads(message)
            body["input"] = before.get(body.get("previous_response_id"), []) + body["input"]
            if body.get("generate") is False:
                # A warm connection is wanted, and no answer: nothing is billed.
                ident = f"warm_{len(before)}"
                for frame in Responses.begun_and_ended(ident, body["model"]):
                    socket.send(frame.split(b"data: ")[1].strip())
                before[ident] = body["input"]
                continue
            ask = Responses.read(body, asked.path)
            turn = self.model.turn(ask)
            bill = self.model.bill(ask.model, turn)
            for frame in self._streamed(Responses, bill, turn).pieces:
                if isinstance(frame, threading.Event):
                    frame.wait(60)
                else:
                    socket.send(frame.split(b"data: ")[1].strip())
            if turn.cut:
                break
            before[bill.ident] = body["input"] + Responses.items(bill, turn)
        return True

    def _streamed(self, spoken, bill, turn):
        frames = spoken.frames(bill, turn)
        begun = next((at for at, frame in enumerate(frames) if b"word1 " in frame), 0) + 1
        if turn.cut:
            return stream(frames[:begun], breaks_off=True)
        if turn.held:
            frames.insert(begun, self.model.pause)
        bill.complete = not turn.endless
        return stream(frames)
