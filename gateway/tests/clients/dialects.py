"""The four dialects that the clients speak: what a request asks, and an answer's frames. All take the model's name as it stands
in the path or body, and bill under it."""

import json

import shapes_anthropic as anthropic
import shapes_openai as openai
from model import Ask


def texts(content):
    """The texts of a message's content, which is a text or a list of parts."""
    if isinstance(content, str):
        return [content]
    return [part["text"] for part in content or [] if isinstance(part.get("text"), str)]


class Prompts(list):
    """What the user said, each with the number of tool results since."""

    def said(self, words):
        if words:
            self.append(("\n".join(words), 0))

    def result(self, count=1):
        if self and count:
            text, results = self[-1]
            self[-1] = (text, results + count)


class Messages:
    """Anthropic's messages."""

    @staticmethod
    def read(body, _path):
        prompts = Prompts()
        for message in body["messages"]:
            if message["role"] != "user":
                continue
            parts = message["content"] if isinstance(message["content"], list) else []
            results = sum(part["type"] == "tool_result" for part in parts)
            if results:
                prompts.result(results)
            else:
                prompts.said(texts(message["content"]))
        return Ask(body["model"], prompts, [tool.get("name") for tool in body.get("tools", [])])

    @staticmethod
    def counts(bill):
        kinds = bill.usage
        return anthropic.usage(kinds["input"], kinds["output"], read=kinds["cache_read"], write_5m=kinds["cache_write_5m"])

    @classmethod
    def frames(cls, bill, turn):
        counts = cls.counts(bill)
        begun = {**anthropic.message(bill.model, [], {**counts, "output_tokens": 1}, stop=None), "id": bill.ident}
        body = anthropic.text_frames(turn.words) if turn.words else []
        for index, call in enumerate(turn.calls):
            body += anthropic.tool_frames(f"toolu_{bill.ident}_{index}", call.tool, [json.dumps(call.arguments)], index)
        stop = "tool_use" if turn.calls else "end_turn"
        return [anthropic.event("message_start", message=begun), *body, *anthropic.end(counts["output_tokens"], stop)]

    @classmethod
    def whole(cls, bill, turn):
        content = [anthropic.text_block("".join(turn.words))] if turn.words else []
        for index, call in enumerate(turn.calls):
            ident = f"toolu_{bill.ident}_{index}"
            content.append({"type": "tool_use", "id": ident, "name": call.tool, "input": call.arguments})
        stop = "tool_use" if turn.calls else "end_turn"
        return {**anthropic.message(bill.model, content, cls.counts(bill), stop), "id": bill.ident}


class Chat:
    """OpenAI's chat completions."""

    @staticmethod
    def read(body, _path):
        prompts = Prompts()
        for message in body["messages"]:
            if message["role"] == "user":
                prompts.said(texts(message["content"]))
            elif message["role"] == "tool":
                prompts.result()
        return Ask(body["model"], prompts, [tool["function"]["name"] for tool in body.get("tools", [])])

    @staticmethod
    def counts(bill):
        return openai.chat_usage(bill.given, bill.usage["output"], cached=bill.usage["cache_read"])

    @classmethod
    def frames(cls, bill, turn):
        calls = [(f"call_{bill.ident}_{n}", call.tool, [json.dumps(call.arguments)]) for n, call in enumerate(turn.calls)]
        frames = openai.tool_frames(bill.model, calls) if calls else openai.chat_frames(bill.model, turn.words)
        frames.append(openai.chunk(bill.model, [], cls.counts(bill)))
        return [frame.replace(b"chatcmpl-sdk2", bill.ident.encode()) for frame in frames] + [openai.DONE]

    @classmethod
    def whole(cls, bill, turn):
        return {**openai.chat(bill.model, "".join(turn.words), cls.counts(bill)), "id": bill.ident}


class Responses:
    """OpenAI's responses."""

    @staticmethod
    def read(body, _path):
        prompts = Prompts()
        tools = list(body.get("tools", []))
        given = body["input"]
        for item in [{"role": "user", "content": given}] if isinstance(given, str) else given:
            kind = item.get("type", "message")
            if kind == "message" and item["role"] == "user":
                prompts.said(texts(item["content"]))
            elif kind.endswith("_call_output"):
                prompts.result()
            elif kind == "additional_tools":
                tools += [tool for space in item["tools"] for tool in space["tools"]]
        return Ask(body["model"], prompts, [tool.get("name") for tool in tools])

    @staticmethod
    def counts(bill):
        return openai.response_usage(bill.given, bill.usage["output"], cached=bill.usage["cache_read"])

    @classmethod
    def frames(cls, bill, turn):
        items = cls.items(bill, turn)
        begun = {**openai.response(bill.model, "in_progress", "", None), "id": bill.ident}
        ended = {**openai.response(bill.model, "completed", "", cls.counts(bill)), "id": bill.ident, "output": items}
        events = [("response.created", {"response": begun})]
        for index, item in enumerate(items):
            at = {"item_id": item["id"], "output_index": index}
            # An item is added without what comes piece by piece.
            blank = {name: type(item[name])() for name in ("arguments", "input", "content") if name in item}
            events.append(("response.output_item.added", {**at, "item": {**item, **blank, "status": "in_progress"}}))
            for word in turn.words:
                events.append(("response.output_text.delta", {**at, "content_index": 0, "delta": word, "logprobs": []}))
            if "arguments" in item:
                events.append(("response.function_call_arguments.delta", {**at, "delta": item["arguments"]}))
            if "input" in item:
                events.append(("response.custom_tool_call_input.delta", {**at, "delta": item["input"]}))
            events.append(("response.output_item.done", {**at, "item": item}))
        events.append(("response.completed", {"response": ended}))
        return [
            openai.data({"type": kind, "sequence_number": number, **fields}, kind)
            for number, (kind, fields) in enumerate(events)
        ]

    @staticmethod
    def begun_and_ended(ident, model):
        """An answer without anything in it."""
        begun = {**openai.response(model, "in_progress", "", None), "id": ident}
        ended = {**openai.response(model, "completed", "", openai.response_usage(0, 0)), "id": ident}
        kinds = (("response.created", begun), ("response.completed", ended))
        return [
            openai.data({"type": kind, "sequence_number": number, "response": response}, kind)
            for number, (kind, response) in enumerate(kinds)
        ]

    @classmethod
    def items(cls, bill, turn):
        return [cls._call(bill, index, call) for index, call in enumerate(turn.calls)] or [cls._message(bill, turn)]

    @staticmethod
    def _call(bill, index, call):
        same = {"call_id": f"call_{bill.ident}_{index}", "name": call.tool, "status": "completed"}
        if isinstance(call.arguments, str):
            return {"type": "custom_tool_call", "id": f"ctc_{bill.ident}_{index}", "input": call.arguments, **same}
        return {"type": "function_call", "id": f"fc_{bill.ident}_{index}", "arguments": json.dumps(call.arguments), **same}

    @staticmethod
    def _message(bill, turn):
        text = {"type": "output_text", "text": "".join(turn.words), "annotations": [], "logprobs": []}
        return {"type": "message", "id": f"msg_{bill.ident}", "status": "completed", "role": "assistant", "content": [text]}

    @classmethod
    def whole(cls, bill, turn):
        return {**openai.response(bill.model, "completed", "".join(turn.words), cls.counts(bill)), "id": bill.ident}


class Gemini:
    """Google's generateContent."""

    @staticmethod
    def read(body, path):
        prompts = Prompts()
        for content in body["contents"]:
            if content.get("role", "user") != "user":
                continue
            results = sum("functionResponse" in part for part in content["parts"])
            if results:
                prompts.result(results)
            else:
                prompts.said(texts(content["parts"]))
        declared = [one["name"] for tool in body.get("tools", []) for one in tool.get("functionDeclarations", [])]
        return Ask(path.split("/models/")[1].split(":")[0], prompts, declared)

    @staticmethod
    def _chunk(bill, parts, **more):
        content = {"role": "model", "parts": parts}
        return {"candidates": [{"index": 0, "content": content, **more}], "modelVersion": bill.model, "responseId": bill.ident}

    @staticmethod
    def _counts(bill):
        given, output = bill.given, bill.usage["output"]
        return {
            "promptTokenCount": given,
            "cachedContentTokenCount": bill.usage["cache_read"],
            "candidatesTokenCount": output,
            "totalTokenCount": given + output,
        }

    @classmethod
    def frames(cls, bill, turn):
        calls = [{"functionCall": {"name": call.tool, "args": call.arguments}} for call in turn.calls]
        pieces = [[{"text": word}] for word in turn.words] or [calls]
        chunks = [cls._chunk(bill, piece) for piece in pieces]
        chunks[-1]["candidates"][0]["finishReason"] = "STOP"
        chunks[-1]["usageMetadata"] = cls._counts(bill)
        return [b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n" for chunk in chunks]

    @classmethod
    def whole(cls, bill, turn):
        text = [{"text": "".join(turn.words)}]
        return {**cls._chunk(bill, text, finishReason="STOP"), "usageMetadata": cls._counts(bill)}
