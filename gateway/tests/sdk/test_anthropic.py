"""The official `anthropic` SDK: what it sees is what the upstream sent, and the books are exact."""

import asyncio

import anthropic
import shapes_anthropic as shapes
import shapes_openai
from case import ANTHROPIC_KEY, OPENAI_KEY, Case
from money import usd
from scripted import Upstream, stream, whole

HAIKU = "claude-haiku-4-5-20251001"
ASK = [{"role": "user", "content": "What is a ledger?"}]
TOOLS = [
    {
        "name": "weather",
        "description": "Weather at a place",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
]


class Messages(Case):
    PATH = "/v1/messages"

    def test_whole_answer_with_cache_writes_and_reads(self):
        counts = shapes.usage(21, 305, read=18_000, write_5m=1_024, write_1h=2_048)
        answer = whole(shapes.message(HAIKU, [shapes.text_block("A book of accounts.")], counts))
        self.upstream.on(self.PATH, answer)
        system = [
            {"type": "text", "text": "The manual.", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
            {"type": "text", "text": "The notes.", "cache_control": {"type": "ephemeral"}},
        ]
        said = self.anthropic().messages.create(
            model="claude-haiku-4-5", max_tokens=1000, system=system, messages=ASK
        )
        self.assertEqual(said.content[0].text, "A book of accounts.")
        self.assertEqual(said.usage.cache_creation.ephemeral_1h_input_tokens, 2048)
        self.assert_untouched(answer)
        asked = self.assert_asked(self.PATH)
        self.assertEqual(asked.json["system"], system)
        self.assertIn(ANTHROPIC_KEY, str(asked.headers))
        self.assert_entry(
            {"input": 21, "cache_read": 18_000, "cache_write_5m": 1_024, "cache_write_1h": 2_048, "output": 305},
            usd((21, "1"), (18_000, "0.10"), (1_024, "1.25"), (2_048, "2"), (305, "5")),
            provider="anthropic",
            operation="messages",
            requested_model="claude-haiku-4-5",
            model=HAIKU,
            stream=False,
            path=self.PATH,
        )

    def test_stream_helper_with_cache_writes_and_reads(self):
        model = "claude-sonnet-4-6"
        counts = shapes.usage(4, 512, read=40_003, write_5m=777, write_1h=333)
        answer = stream(shapes.message_frames(model, ["A book ", "of ", "accounts."], counts))
        self.upstream.on(self.PATH, answer)
        with self.anthropic().messages.stream(model=model, max_tokens=2000, messages=ASK) as events:
            text = "".join(events.text_stream)
            final = events.get_final_message()
        self.assertEqual(text, "A book of accounts.")
        self.assertEqual(final.usage.output_tokens, 512)
        self.assertEqual(final.usage.cache_creation.ephemeral_1h_input_tokens, 333)
        self.assert_untouched(answer)
        self.assert_entry(
            {"input": 4, "cache_read": 40_003, "cache_write_5m": 777, "cache_write_1h": 333, "output": 512},
            usd((4, "3"), (40_003, "0.30"), (777, "3.75"), (333, "6"), (512, "15")),
            stream=True,
            model=model,
        )

    def test_a_cache_write_without_a_breakdown_is_of_five_minutes(self):
        counts = shapes.usage(10, 20, write_5m=100)
        del counts["cache_creation"]
        self.upstream.on(self.PATH, whole(shapes.message(HAIKU, [shapes.text_block("ok")], counts)))
        self.anthropic().messages.create(model=HAIKU, max_tokens=100, messages=ASK)
        self.assert_entry(
            {"input": 10, "cache_write_5m": 100, "output": 20}, usd((10, "1"), (100, "1.25"), (20, "5"))
        )

    def test_plain_stream(self):
        counts = shapes.usage(15, 3)
        answer = stream(shapes.message_frames(HAIKU, ["one", " two"], counts))
        self.upstream.on(self.PATH, answer)
        events = list(self.anthropic().messages.create(model=HAIKU, max_tokens=100, messages=ASK, stream=True))
        self.assertEqual((events[0].type, events[-1].type), ("message_start", "message_stop"))
        self.assert_untouched(answer)
        self.assert_entry({"input": 15, "output": 3}, usd((15, "1"), (3, "5")))

    def test_streamed_tools_arrive_intact(self):
        counts = shapes.usage(400, 77)
        pieces = ["", '{"ci', 'ty": "Z\\u00fc', 'rich"', "}"]
        answer = stream(
            [
                shapes.start(HAIKU, counts),
                *shapes.text_frames(["Let me look."]),
                *shapes.tool_frames("toolu_1", "weather", pieces, 1),
                *shapes.tool_frames("toolu_2", "weather", ['{"city":', '"Bern"}'], 2),
                *shapes.end(77, "tool_use"),
            ]
        )
        self.upstream.on(self.PATH, answer)
        with self.anthropic().messages.stream(model=HAIKU, max_tokens=500, messages=ASK, tools=TOOLS) as events:
            final = events.get_final_message()
        self.assertEqual(final.stop_reason, "tool_use")
        self.assertEqual([block.type for block in final.content], ["text", "tool_use", "tool_use"])
        self.assertEqual([block.input for block in final.content[1:]], [{"city": "Zürich"}, {"city": "Bern"}])
        self.assert_untouched(answer)
        self.assert_entry({"input": 400, "output": 77}, usd((400, "1"), (77, "5")))

    def test_web_searches_are_billed_each(self):
        counts = {**shapes.usage(100, 50), "server_tool_use": {"web_search_requests": 3}}
        answer = whole(shapes.message(HAIKU, [shapes.text_block("Found.")], counts))
        self.upstream.on(self.PATH, answer)
        self.anthropic().messages.create(model=HAIKU, max_tokens=500, messages=ASK)
        self.assert_untouched(answer)
        # Ten dollars for a thousand searches.
        cost = usd((100, "1"), (50, "5"), (3, "10000"))
        self.assert_entry({"input": 100, "output": 50, "web_search": 3}, cost)

    def test_async_stream_helper(self):
        counts = shapes.usage(5, 9, write_1h=64)
        answer = stream(shapes.message_frames(HAIKU, ["x", "y"], counts))
        self.upstream.on(self.PATH, answer)

        async def run():
            async with self.async_anthropic() as client:
                async with client.messages.stream(model=HAIKU, max_tokens=100, messages=ASK) as events:
                    return "".join([text async for text in events.text_stream])

        self.assertEqual(asyncio.run(run()), "xy")
        self.assert_untouched(answer)
        self.assert_entry({"input": 5, "cache_write_1h": 64, "output": 9}, usd((5, "1"), (64, "2"), (9, "5")))

    def test_async_create(self):
        answer = whole(shapes.message(HAIKU, [shapes.text_block("ok")], shapes.usage(8, 2)))
        self.upstream.on(self.PATH, answer)

        async def run():
            async with self.async_anthropic() as client:
                return await client.messages.create(model=HAIKU, max_tokens=100, messages=ASK)

        self.assertEqual(asyncio.run(run()).content[0].text, "ok")
        self.assert_untouched(answer)
        self.assert_entry({"input": 8, "output": 2}, usd((8, "1"), (2, "5")))

    def test_count_tokens_is_free(self):
        answer = whole({"input_tokens": 2095})
        self.upstream.on("/v1/messages/count_tokens", answer)
        said = self.anthropic().messages.count_tokens(model=HAIKU, messages=ASK, tools=TOOLS)
        self.assertEqual(said.input_tokens, 2095)
        self.assert_untouched(answer)
        self.assert_asked("/v1/messages/count_tokens")
        self.assertEqual(self.entries(), [])

    def test_an_upstreams_own_stream_error_is_passed_on(self):
        """An upstream that fails inside its stream: the SDK raises, and what it counted before is in the books."""
        counts = shapes.usage(30, 4)
        error = shapes.event("error", error={"type": "overloaded_error", "message": "Overloaded"})
        answer = stream([shapes.start(HAIKU, counts), *shapes.text_frames(["partial"])[:2], error])
        self.upstream.on(self.PATH, answer)
        with self.assertRaises(anthropic.APIStatusError) as raised:
            with self.anthropic().messages.stream(model=HAIKU, max_tokens=100, messages=ASK) as events:
                list(events)
        self.assertIn("Overloaded", str(raised.exception))
        self.assert_untouched(answer)
        entries = self.entries()
        self.assertEqual([one["usage"]["input"] for one in entries], [30])


class TwoUpstreams(Case):
    """The two providers at the root have upstreams of their own: each SDK reaches its own."""

    @classmethod
    def setUpClass(cls):
        cls.other = Upstream()
        cls.addClassCleanup(cls.other.stop)
        cls.CONFIG = {"providers": {"anthropic": {"upstream": cls.other.url}}}
        super().setUpClass()

    def setUp(self):
        super().setUp()
        self.other.clear()
        self.upstream.on("/v1/models", whole(shapes_openai.MODELS))
        self.other.on("/v1/models", whole(shapes.MODELS))

    def test_models_of_openai(self):
        said = [model.id for model in self.openai().models.list()]
        self.assertEqual(said, ["gpt-4o-mini", "gpt-4.1"])
        self.assertEqual((len(self.upstream.asked), len(self.other.asked)), (1, 0))
        self.assertIn(OPENAI_KEY, str(self.upstream.asked[0].headers))
        self.assertEqual(self.entries(), [])

    def test_models_of_anthropic(self):
        said = [model.id for model in self.anthropic().models.list()]
        self.assertEqual(said, [HAIKU])
        self.assertEqual((len(self.upstream.asked), len(self.other.asked)), (0, 1))
        self.assertIn(ANTHROPIC_KEY, str(self.other.asked[0].headers))
        self.assertEqual(self.entries(), [])

    def test_one_model_of_each(self):
        self.upstream.on("/v1/models/gpt-4.1", whole(shapes_openai.MODELS["data"][1]))
        self.other.on(f"/v1/models/{HAIKU}", whole(shapes.MODELS["data"][0]))
        self.assertEqual(self.openai().models.retrieve("gpt-4.1").owned_by, "system")
        self.assertEqual(self.anthropic().models.retrieve(HAIKU).display_name, "Claude Haiku 4.5")
        self.assertEqual((len(self.upstream.asked), len(self.other.asked)), (1, 1))

    def test_messages_and_chat(self):
        self.other.on("/v1/messages", whole(shapes.message(HAIKU, [shapes.text_block("a")], shapes.usage(8, 2))))
        self.upstream.on("/v1/chat/completions", whole(shapes_openai.chat("gpt-4.1", "o", shapes_openai.chat_usage(6, 1))))
        self.assertEqual(self.anthropic().messages.create(model=HAIKU, max_tokens=9, messages=ASK).content[0].text, "a")
        said = self.openai().chat.completions.create(model="gpt-4.1", messages=ASK)
        self.assertEqual(said.choices[0].message.content, "o")
        found = {entry["provider"]: entry["cost_usd"] for entry in self.entries()}
        self.assertEqual(found, {"anthropic": "0.000018", "openai": "0.00002"})
