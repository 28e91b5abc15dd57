"""The official `openai` SDK: what it sees is what the upstream sent, and the books are exact."""

import asyncio
import json

import openai
import shapes_openai as shapes
from case import Case, gate
from money import usd
from scripted import stream, whole

MINI = "gpt-4o-mini-2024-07-18"
ASK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is a ledger?"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Weather at a place",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


class Chat(Case):
    PATH = "/v1/chat/completions"

    def test_whole_answer(self):
        # 1,200 of the 2,000 prompt tokens came from the cache.
        answer = whole(shapes.chat(MINI, "A book of accounts.", shapes.chat_usage(2000, 57, cached=1200)))
        self.upstream.on(self.PATH, answer)
        said = self.openai().chat.completions.create(model="gpt-4o-mini", messages=ASK, max_tokens=100)
        self.assertEqual(said.choices[0].message.content, "A book of accounts.")
        self.assertEqual(said.usage.prompt_tokens_details.cached_tokens, 1200)
        self.assert_untouched(answer)
        asked = self.assert_asked(self.PATH)
        self.assertEqual(asked.json, {"model": "gpt-4o-mini", "messages": ASK, "max_tokens": 100})
        self.assert_entry(
            {"input": 800, "cache_read": 1200, "output": 57},
            usd((800, "0.15"), (1200, "0.075"), (57, "0.60")),
            provider="openai",
            operation="chat",
            requested_model="gpt-4o-mini",
            model=MINI,
            stream=False,
            path=self.PATH,
        )

    def test_reasoning_is_inside_output(self):
        model = "gpt-5.1-2025-11-13"
        answer = whole(shapes.chat(model, "42", shapes.chat_usage(31, 1409, reasoning=1344)))
        self.upstream.on(self.PATH, answer)
        self.openai().chat.completions.create(model="gpt-5.1", messages=ASK, max_completion_tokens=2000)
        self.assert_untouched(answer)
        cost = usd((31, "1.25"), (1409, "10"))
        self.assert_entry({"input": 31, "output": 1409}, cost, reasoning=1344, model=model)

    def test_a_half_nano_is_rounded_up_and_the_tier_of_the_answer_priced(self):
        # Flex halves the prices: a cached token is 62.5 nano-dollars, an odd number of them ends in half a nano.
        body = shapes.chat("gpt-5.1-2025-11-13", "ok", shapes.chat_usage(1030, 1, cached=1025))
        body["service_tier"] = "flex"
        answer = whole(body)
        self.upstream.on(self.PATH, answer)
        ask = self.openai().chat.completions.create
        ask(model="gpt-5.1", messages=ASK, max_completion_tokens=9, service_tier="flex")
        self.assert_untouched(answer)
        cost = usd((5, "0.625"), (1025, "0.0625"), (1, "5"))
        self.assertEqual(str(cost), "0.000072188")
        self.assert_entry({"input": 5, "cache_read": 1025, "output": 1}, cost)

    def test_stream_whose_client_did_not_ask_for_usage_sees_none(self):
        frames = shapes.chat_frames(MINI, ["A book", " of ", "accounts."])
        counts = shapes.chunk(MINI, [], shapes.chat_usage(24, 6))
        self.upstream.on(self.PATH, stream([*frames, counts, shapes.DONE]))
        chunks = list(
            self.openai().chat.completions.create(model="gpt-4o-mini", messages=ASK, max_tokens=50, stream=True)
        )
        self.assertEqual("".join(one.choices[0].delta.content or "" for one in chunks), "A book of accounts.")
        self.assertEqual([one.usage for one in chunks], [None] * len(frames))
        # All but the chunk that the gateway asked for.
        self.assertEqual(len(self.tap.seen), 1)
        self.assertEqual(self.tap.seen[0].body, b"".join([*frames, shapes.DONE]))
        asked = self.assert_asked(self.PATH)
        self.assertEqual(asked.json["stream_options"], {"include_usage": True})
        self.assert_entry({"input": 24, "output": 6}, usd((24, "0.15"), (6, "0.60")), stream=True, model=MINI)

    def test_stream_whose_client_asked_for_usage_sees_it(self):
        frames = shapes.chat_frames(MINI, ["Yes", "."])
        counts = shapes.chunk(MINI, [], shapes.chat_usage(1500, 2, cached=1408))
        answer = stream([*frames, counts, shapes.DONE])
        self.upstream.on(self.PATH, answer)
        chunks = list(
            self.openai().chat.completions.create(
                model="gpt-4o-mini", messages=ASK, stream=True, stream_options={"include_usage": True}
            )
        )
        self.assertEqual(chunks[-1].choices, [])
        self.assertEqual(chunks[-1].usage.prompt_tokens, 1500)
        self.assert_untouched(answer)
        self.assert_entry(
            {"input": 92, "cache_read": 1408, "output": 2}, usd((92, "0.15"), (1408, "0.075"), (2, "0.60"))
        )

    def test_stream_helper(self):
        frames = shapes.chat_frames(MINI, ["one ", "two"])
        counts = shapes.chunk(MINI, [], shapes.chat_usage(9, 3))
        self.upstream.on(self.PATH, stream([*frames, counts, shapes.DONE]))
        with self.openai().chat.completions.stream(model="gpt-4o-mini", messages=ASK, max_tokens=50) as events:
            final = None
            for _ in events:
                pass
            final = events.get_final_completion()
        self.assertEqual(final.choices[0].message.content, "one two")
        self.assert_entry({"input": 9, "output": 3}, usd((9, "0.15"), (3, "0.60")))

    def test_a_stream_comes_as_it_is_sent(self):
        """The first text reaches the client while the upstream still holds the rest back."""
        held = gate()
        frames = shapes.chat_frames(MINI, ["first", " then"])
        counts = shapes.chunk(MINI, [], shapes.chat_usage(9, 3))
        self.upstream.on(self.PATH, stream([*frames[:2], held, *frames[2:], counts, shapes.DONE]))
        chunks = iter(
            self.openai(timeout=30).chat.completions.create(model="gpt-4o-mini", messages=ASK, stream=True)
        )
        next(chunks)
        self.assertEqual(next(chunks).choices[0].delta.content, "first")
        held.set()
        self.assertEqual(next(chunks).choices[0].delta.content, " then")
        list(chunks)
        self.assert_entry({"input": 9, "output": 3}, usd((9, "0.15"), (3, "0.60")))

    def test_streamed_tool_calls_arrive_intact(self):
        pieces = ['{"ci', 'ty":"Z\\u00fc', 'rich","note":"a \\"quoted\\" ', "{brace}\"}"]
        calls = [("call_a", "weather", pieces), ("call_b", "weather", ["{", '"city":"', "Bern", '"}'])]
        frames = shapes.tool_frames(MINI, calls)
        counts = shapes.chunk(MINI, [], shapes.chat_usage(82, 41))
        self.upstream.on(self.PATH, stream([*frames, counts, shapes.DONE]))
        found = {}
        for one in self.openai().chat.completions.create(
            model="gpt-4o-mini", messages=ASK, tools=TOOLS, tool_choice="auto", max_tokens=200, stream=True
        ):
            for call in one.choices[0].delta.tool_calls or []:
                kept = found.setdefault(call.index, {"id": call.id, "name": call.function.name, "arguments": ""})
                kept["arguments"] += call.function.arguments or ""
        self.assertEqual([(one["id"], one["name"]) for one in found.values()], [("call_a", "weather"), ("call_b", "weather")])
        self.assertEqual(json.loads(found[0]["arguments"]), {"city": "Zürich", "note": 'a "quoted" {brace}'})
        self.assertEqual(json.loads(found[1]["arguments"]), {"city": "Bern"})
        self.assertEqual(self.upstream.asked[0].json["tools"], TOOLS)
        self.assert_entry({"input": 82, "output": 41}, usd((82, "0.15"), (41, "0.60")))

    def test_tool_calls_of_a_whole_answer(self):
        body = shapes.chat(MINI, None, shapes.chat_usage(82, 17), finish="tool_calls")
        call = {"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Bern"}'}}
        body["choices"][0]["message"]["tool_calls"] = [call]
        answer = whole(body)
        self.upstream.on(self.PATH, answer)
        said = self.openai().chat.completions.create(model="gpt-4o-mini", messages=ASK, tools=TOOLS)
        self.assertEqual(json.loads(said.choices[0].message.tool_calls[0].function.arguments), {"city": "Bern"})
        self.assert_untouched(answer)
        self.assert_entry({"input": 82, "output": 17}, usd((82, "0.15"), (17, "0.60")))

    def test_async_client(self):
        frames = shapes.chat_frames(MINI, ["A", "B", "C"])
        counts = shapes.chunk(MINI, [], shapes.chat_usage(24, 6))
        self.upstream.on(self.PATH, stream([*frames, counts, shapes.DONE]))

        async def run():
            async with self.async_openai() as client:
                chunks = await client.chat.completions.create(
                    model="gpt-4o-mini", messages=ASK, max_tokens=50, stream=True
                )
                return "".join([one.choices[0].delta.content or "" async for one in chunks])

        self.assertEqual(asyncio.run(run()), "ABC")
        self.assertEqual(self.tap.seen[0].body, b"".join([*frames, shapes.DONE]))
        self.assert_entry({"input": 24, "output": 6}, usd((24, "0.15"), (6, "0.60")))

    def test_async_clients_in_parallel_are_each_in_the_books(self):
        answer = whole(shapes.chat(MINI, "ok", shapes.chat_usage(100, 10)))
        self.upstream.on(self.PATH, answer)

        async def run():
            async with self.async_openai() as client:
                ask = client.chat.completions.create
                return await asyncio.gather(*(ask(model="gpt-4o-mini", messages=ASK, max_tokens=20) for _ in range(20)))

        self.assertEqual([one.choices[0].message.content for one in asyncio.run(run())], ["ok"] * 20)
        entries = self.entries()
        cost = str(usd((100, "0.15"), (10, "0.60")))
        self.assertEqual([entry["cost_usd"] for entry in entries], ["0.000021"] * 20)
        self.assertEqual(cost, "0.000021000")
        self.assertEqual(len({entry["id"] for entry in entries}), 20)

    def test_agent_headers_name_the_spender(self):
        answer = whole(shapes.chat(MINI, "ok", shapes.chat_usage(10, 1)))
        self.upstream.on(self.PATH, answer)
        client = self.openai().with_options(
            default_headers=self.agent(**{"X-Agent-Id": "crawler", "X-Agent-Session": "s-77", "X-Agent-User": "ada"})
        )
        client.chat.completions.create(model="gpt-4o-mini", messages=ASK)
        self.assert_asked(self.PATH)
        self.assert_entry(
            {"input": 10, "output": 1}, usd((10, "0.15"), (1, "0.60")), agent="crawler", session="s-77", user="ada"
        )

    def test_an_upstreams_own_error_is_passed_on_and_entered_at_nothing(self):
        error = {"error": {"message": "Rate limit reached", "type": "requests", "param": None, "code": "rate_limit_exceeded"}}
        answer = whole(error, 429, retry_after_ms="10")
        self.upstream.on(self.PATH, answer)
        with self.assertRaises(openai.RateLimitError) as raised:
            self.openai(max_retries=1).chat.completions.create(model="gpt-4o-mini", messages=ASK)
        self.assertEqual(raised.exception.code, "rate_limit_exceeded")
        self.assertEqual(len(self.upstream.asked), 2)
        self.assertEqual([seen.body for seen in self.tap.seen], [answer.body] * 2)
        entries = self.entries()
        self.assertEqual([(one["status"], one["cost_usd"], one["usage"]) for one in entries], [(429, "0", {})] * 2)


class Responses(Case):
    PATH = "/v1/responses"

    def test_create(self):
        model = "gpt-5.1-2025-11-13"
        answer = whole(shapes.response(model, "completed", "Hello.", shapes.response_usage(2048, 700, 1920, 640)))
        self.upstream.on(self.PATH, answer)
        said = self.openai().responses.create(model="gpt-5.1", input="Say hello", max_output_tokens=1000)
        self.assertEqual(said.output_text, "Hello.")
        self.assert_untouched(answer)
        self.assert_entry(
            {"input": 128, "cache_read": 1920, "output": 700},
            usd((128, "1.25"), (1920, "0.125"), (700, "10")),
            operation="responses",
            reasoning=640,
            model=model,
            stream=False,
        )

    def streamed(self, last, **more):
        model = "gpt-4.1-2025-04-14"
        frames = shapes.response_frames(model, ["Hel", "lo."], last, shapes.response_usage(40, 12), **more)
        answer = stream(frames)
        self.upstream.on(self.PATH, answer)
        events = list(self.openai().responses.create(model="gpt-4.1", input="Hi", max_output_tokens=400, stream=True))
        self.assert_untouched(answer)
        self.assertEqual(len(events), len(frames))
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        self.assertEqual(text, "Hello.")
        self.assertEqual(events[-1].type, f"response.{last}")
        self.assertEqual(events[-1].response.usage.output_tokens, 12)
        cost = usd((40, "2"), (12, "8"))
        return self.assert_entry({"input": 40, "output": 12}, cost, stream=True, model=model, operation="responses")

    def test_stream_completed(self):
        self.streamed("completed")

    def test_stream_incomplete_is_metered(self):
        self.streamed("incomplete", incomplete={"reason": "max_output_tokens"})

    def test_stream_failed_is_metered(self):
        self.streamed("failed", error={"code": "server_error", "message": "The model failed."})

    def test_stream_helper(self):
        frames = shapes.response_frames("gpt-4.1", ["Hel", "lo."], "completed", shapes.response_usage(40, 12))
        self.upstream.on(self.PATH, stream(frames))
        with self.openai().responses.stream(model="gpt-4.1", input="Hi", max_output_tokens=400) as events:
            kinds = [event.type for event in events]
        self.assertEqual(kinds[-1], "response.completed")
        self.assert_entry({"input": 40, "output": 12}, usd((40, "2"), (12, "8")))

    def test_async_stream(self):
        frames = shapes.response_frames("gpt-4.1", ["a", "b"], "completed", shapes.response_usage(7, 2))
        answer = stream(frames)
        self.upstream.on(self.PATH, answer)

        async def run():
            async with self.async_openai() as client:
                events = await client.responses.create(model="gpt-4.1", input="Hi", max_output_tokens=400, stream=True)
                return [event.type async for event in events]

        self.assertEqual(asyncio.run(run())[-1], "response.completed")
        self.assert_untouched(answer)
        self.assert_entry({"input": 7, "output": 2}, usd((7, "2"), (2, "8")))


class Others(Case):
    def test_embeddings(self):
        answer = whole(shapes.embeddings("text-embedding-3-small", [[0.25, -0.5, 0.125], [1.0, 0.0, -1.0]], 1337))
        self.upstream.on("/v1/embeddings", answer)
        said = self.openai().embeddings.create(
            model="text-embedding-3-small", input=["one", "two"], encoding_format="float"
        )
        self.assertEqual([row.embedding for row in said.data], [[0.25, -0.5, 0.125], [1.0, 0.0, -1.0]])
        self.assert_untouched(answer)
        self.assert_entry({"input": 1337}, usd((1337, "0.02")), operation="embeddings")

    def test_legacy_completions(self):
        answer = whole(shapes.completion("gpt-3.5-turbo-instruct", " there was", 5, 16))
        self.upstream.on("/v1/completions", answer)
        said = self.openai().completions.create(model="gpt-3.5-turbo-instruct", prompt="Once", max_tokens=16)
        self.assertEqual(said.choices[0].text, " there was")
        self.assert_untouched(answer)
        self.assert_entry({"input": 5, "output": 16}, usd((5, "1.50"), (16, "2.00")), operation="completions")

    def test_legacy_completions_streamed(self):
        model = "gpt-3.5-turbo-instruct"
        frames = [shapes.completion_frame(model, " there"), shapes.completion_frame(model, " was", "length")]
        counts = shapes.completion_frame(
            model, "", usage={"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
        )
        self.upstream.on("/v1/completions", stream([*frames, counts, shapes.DONE]))
        said = self.openai().completions.create(model=model, prompt="Once", max_tokens=2, stream=True)
        self.assertEqual("".join(one.choices[0].text for one in said), " there was")
        self.assertEqual(self.tap.seen[0].body, b"".join([*frames, shapes.DONE]))
        self.assert_entry({"input": 5, "output": 2}, usd((5, "1.50"), (2, "2.00")))

    def test_models_are_free(self):
        answer = whole(shapes.MODELS)
        self.upstream.on("/v1/models", answer)
        said = list(self.openai().models.list())
        self.assertEqual([model.id for model in said], ["gpt-4o-mini", "gpt-4.1"])
        self.assert_untouched(answer)
        self.assert_asked("/v1/models")
        self.assertEqual(self.entries(), [])
