"""Streams that outrun their budget, or their upstream: the ending is an error that each SDK understands. And streams that
only seem to be too many for their budget: they finish."""

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import anthropic
import openai
import shapes_anthropic
import shapes_openai
from case import Case, gate
from money import usd
from scripted import stream

MINI = "gpt-4o-mini"
HAIKU = "claude-haiku-4-5"
ASK = [{"role": "user", "content": "Write a long story."}]
CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
RESPONSES = "/v1/responses"
LIMIT = Decimal("0.01")
# About a thousand bytes, ten dozen words.
TEXT = "once upon a time there was a ledger that was never lost and never rotted unseen; " * 12


class Cuts(Case):
    """One cent a day for each key. The answers name no end of text, whatever maximum they were given."""

    CONFIG = {"budgets": {"default": {"daily_limit_usd": float(LIMIT), "action": "block"}}}

    def setUp(self):
        super().setUp()
        self.key = f"sk-{self.id().rsplit('.', 1)[-1]}"
        # The upstream goes on where it is not stopped, after the client has seen the cut.
        self.after = gate()
        self.addCleanup(self.after.set)

    def endless(self, frames, texts):
        """`texts` frames of text that go far beyond the budget, then a pause, then as many again."""
        answer = stream([*frames, *texts, self.after, *texts * 20])
        return answer

    def assert_cut(self, answer, ending):
        """One try; the client saw whole frames of the upstream, in order, and then the ending alone."""
        self.assertEqual(self.statuses(), [200])
        self.assertEqual(len(self.upstream.asked), 1)
        body = self.tap.seen[0].body
        at = body.rindex(ending)
        passed = body[:at]
        self.assertTrue(answer.body.startswith(passed), "what passed is not what the upstream sent")
        self.assertTrue(passed.endswith(b"\n\n"), "the cut is not at a frame's end")
        self.assertGreater(len(passed), 5_000)
        self.assertNotIn(b"[DONE]", body)
        self.assertNotIn(b"message_stop", body)
        # The upstream is told by the loss of its connection.
        self.after.set()
        self.assertTrue(answer.cancelled.wait(60), "the upstream's answer was not cancelled")
        entries = self.entries()
        self.assertEqual(len(entries), 1)
        entry = entries[0]
        self.assertEqual((entry["outcome"], entry["estimated"], entry["estimate_reason"]), ("cut", True, "cut"))
        cost, held = Decimal(entry["cost_usd"]), Decimal(entry["held_usd"])
        self.assertGreaterEqual(cost, held)
        self.assertLessEqual(cost - Decimal(entry["overage_usd"]), LIMIT)
        self.assertEqual(held, LIMIT)
        self.assertGreaterEqual(Decimal(entry["upper_bound_usd"]), cost)
        return passed

    def assert_spent(self, ask):
        """The budget is used up for good: the next one is refused at once."""
        with self.assertRaises((openai.RateLimitError, anthropic.RateLimitError)):
            ask()
        self.assertEqual(self.statuses()[-1], 429)
        self.assertEqual(len(self.upstream.asked), 1)

    def chat(self):
        frames = [shapes_openai.delta(MINI, {"role": "assistant", "content": ""})]
        answer = self.endless(frames, [shapes_openai.delta(MINI, {"content": TEXT})] * 100)
        self.upstream.on(CHAT, answer)
        return answer

    def test_chat(self):
        answer = self.chat()
        client = self.openai(key=self.key)
        text = ""
        with self.assertRaises(openai.APIError) as raised:
            for chunk in client.chat.completions.create(model=MINI, messages=ASK, max_tokens=100, stream=True):
                text += chunk.choices[0].delta.content or ""
        self.assertNotIsInstance(raised.exception, openai.APIStatusError)
        self.assertNotIsInstance(raised.exception, openai.APIConnectionError)
        self.assertEqual(raised.exception.code, "insufficient_quota")
        self.assertEqual(raised.exception.type, "budget_exceeded")
        passed = self.assert_cut(answer, b'data: {"error"')
        self.assertEqual(len(text), passed.count(b"once upon a time") // 12 * len(TEXT))
        self.assert_spent(lambda: client.chat.completions.create(model=MINI, messages=ASK, max_tokens=5))

    def test_chat_without_a_maximum(self):
        answer = self.chat()
        with self.assertRaises(openai.APIError) as raised:
            list(self.openai(key=self.key).chat.completions.create(model=MINI, messages=ASK, stream=True))
        self.assertEqual(raised.exception.code, "insufficient_quota")
        self.assert_cut(answer, b'data: {"error"')

    def test_chat_of_an_async_client(self):
        answer = self.chat()

        async def run():
            async with self.async_openai(key=self.key) as client:
                chunks = await client.chat.completions.create(model=MINI, messages=ASK, max_tokens=100, stream=True)
                async for _ in chunks:
                    pass

        with self.assertRaises(openai.APIError) as raised:
            asyncio.run(run())
        self.assertEqual(raised.exception.code, "insufficient_quota")
        self.assert_cut(answer, b'data: {"error"')

    def messages(self):
        counts = shapes_anthropic.usage(12, 1)
        frames = [shapes_anthropic.start(HAIKU, counts), shapes_anthropic.text_frames([])[0]]
        delta = shapes_anthropic.text_frames([TEXT])[1]
        answer = self.endless(frames, [delta] * 60)
        self.upstream.on(MESSAGES, answer)
        return answer

    def assert_billing_error(self, error):
        self.assertEqual(error.body["type"], "error")
        self.assertEqual(error.body["error"]["type"], "billing_error")
        self.assertEqual(error.body["error"]["code"], "budget_exceeded")

    def test_messages(self):
        answer = self.messages()
        client = self.anthropic(key=self.key)
        with self.assertRaises(anthropic.APIStatusError) as raised:
            with client.messages.stream(model=HAIKU, max_tokens=100, messages=ASK) as events:
                for _ in events.text_stream:
                    pass
        self.assert_billing_error(raised.exception)
        self.assert_cut(answer, b"event: error\n")
        self.assert_spent(lambda: client.messages.create(model=HAIKU, messages=ASK, max_tokens=5))

    def test_messages_of_an_async_client(self):
        answer = self.messages()

        async def run():
            async with self.async_anthropic(key=self.key) as client:
                async with client.messages.stream(model=HAIKU, max_tokens=100, messages=ASK) as events:
                    async for _ in events.text_stream:
                        pass

        with self.assertRaises(anthropic.APIStatusError) as raised:
            asyncio.run(run())
        self.assert_billing_error(raised.exception)
        self.assert_cut(answer, b"event: error\n")

    def responses(self):
        frames = shapes_openai.response_frames(MINI, [TEXT] * 100, "completed", shapes_openai.response_usage(10, 9))
        answer = self.endless(frames[:4], frames[4:104])
        self.upstream.on(RESPONSES, answer)
        return answer

    def test_responses(self):
        answer = self.responses()
        client = self.openai(key=self.key)
        events = list(client.responses.create(model=MINI, input="A story.", max_output_tokens=100, stream=True))
        last = events[-1]
        self.assertEqual(last.type, "response.failed")
        self.assertEqual(last.response.status, "failed")
        self.assertEqual(last.response.error.code, "insufficient_quota")
        self.assertEqual(last.response.id, events[0].response.id)
        self.assertEqual({event.type for event in events[4:-1]}, {"response.output_text.delta"})
        self.assert_cut(answer, b"event: response.failed\n")
        self.assert_spent(lambda: client.responses.create(model=MINI, input="More.", max_output_tokens=5))

    def test_responses_by_the_stream_helper(self):
        answer = self.responses()
        with self.openai(key=self.key).responses.stream(model=MINI, input="A story.", max_output_tokens=100) as events:
            last = list(events)[-1]
        self.assertEqual((last.type, last.response.error.code), ("response.failed", "insufficient_quota"))
        self.assert_cut(answer, b"event: response.failed\n")


class BrokenOff(Case):
    """An upstream that breaks off in the middle of a stream: an error too, not an end."""

    def assert_failed(self, answer):
        self.assertEqual(self.statuses(), [200])
        self.assertEqual(len(self.upstream.asked), 1)
        self.assertTrue(self.tap.seen[0].body.startswith(answer.body))
        entries = self.entries()
        self.assertEqual([(one["outcome"], one["estimated"]) for one in entries], [("upstream_failed", True)])
        self.assertGreater(Decimal(entries[0]["cost_usd"]), 0)

    def test_chat(self):
        answer = stream(shapes_openai.chat_frames(MINI, ["half a", " story"])[:-1], breaks_off=True)
        self.upstream.on(CHAT, answer)
        with self.assertRaises(openai.APIError) as raised:
            list(self.openai().chat.completions.create(model=MINI, messages=ASK, max_tokens=100, stream=True))
        self.assertEqual((raised.exception.code, raised.exception.type), ("server_error", "upstream_failed"))
        self.assert_failed(answer)

    def test_messages(self):
        frames = shapes_anthropic.message_frames(HAIKU, ["half a", " story"], shapes_anthropic.usage(12, 1))
        answer = stream(frames[:-3], breaks_off=True)
        self.upstream.on(MESSAGES, answer)
        with self.assertRaises(anthropic.APIStatusError) as raised:
            with self.anthropic().messages.stream(model=HAIKU, max_tokens=100, messages=ASK) as events:
                list(events)
        self.assertEqual(raised.exception.body["error"]["type"], "api_error")
        self.assert_failed(answer)

    def test_responses(self):
        frames = shapes_openai.response_frames(MINI, ["half"], "completed", shapes_openai.response_usage(9, 9))
        answer = stream(frames[:5], breaks_off=True)
        self.upstream.on(RESPONSES, answer)
        events = list(self.openai().responses.create(model=MINI, input="A story.", max_output_tokens=100, stream=True))
        self.assertEqual((events[-1].type, events[-1].response.error.code), ("response.failed", "server_error"))
        self.assert_failed(answer)


class Waiting(Case):
    """Parallel agents, each of which holds a large maximum that it does not use, on a small budget."""

    CONFIG = {
        "budgets": {"default": {"daily_limit_usd": 0.25, "action": "block"}},
        "hold": {"size": "worst_case", "wait_ms": "5m"},
    }
    AGENTS = 5

    def setUp(self):
        super().setUp()
        self.key = f"sk-{self.id().rsplit('.', 1)[-1]}"

    def assert_all_finished(self, taps, cost):
        statuses = [seen.status for tap in taps for seen in tap.seen]
        self.assertEqual(statuses, [200] * self.AGENTS)
        self.assertEqual(len(self.upstream.asked), self.AGENTS)
        entries = self.entries()
        self.assertEqual([Decimal(entry["cost_usd"]) for entry in entries], [cost] * self.AGENTS)
        self.assertEqual([entry["outcome"] for entry in entries], ["completed"] * self.AGENTS)
        # No two of the holds fit into the budget beside each other: they waited.
        self.assertGreater(min(Decimal(entry["held_usd"]) for entry in entries), Decimal("0.125"))
        self.assertEqual([entry["overage_usd"] for entry in entries], ["0"] * self.AGENTS)

    def test_five_streams_with_a_large_maximum_finish_by_waiting(self):
        counts = shapes_anthropic.usage(900, 2_000)
        self.upstream.on(MESSAGES, stream(shapes_anthropic.message_frames(HAIKU, ["word "] * 50, counts)))
        clients, taps = [], []
        for _ in range(self.AGENTS):
            clients.append(self.anthropic(key=self.key, timeout=300))
            taps.append(self.tap)
        together = threading.Barrier(self.AGENTS)
        prompt = "Explain this code. " + "word " * 1_200

        def run(client):
            together.wait()
            messages = [{"role": "user", "content": prompt}]
            with client.messages.stream(model=HAIKU, max_tokens=32_000, messages=messages) as events:
                return "".join(events.text_stream)

        with ThreadPoolExecutor(self.AGENTS) as pool:
            texts = list(pool.map(run, clients))
        self.assertEqual(texts, ["word " * 50] * self.AGENTS)
        self.assert_all_finished(taps, usd((900, "1"), (2_000, "5")))

    def test_five_async_chat_streams_finish_by_waiting(self):
        model = "gpt-4.1"
        frames = shapes_openai.chat_frames(model, ["word "] * 50)
        counts = shapes_openai.chunk(model, [], shapes_openai.chat_usage(900, 2_000))
        self.upstream.on(CHAT, stream([*frames, counts, shapes_openai.DONE]))
        messages = [{"role": "user", "content": "word " * 1_200}]

        async def one(client):
            chunks = await client.chat.completions.create(
                model=model, messages=messages, max_completion_tokens=20_000, stream=True
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

        async def run():
            async with self.async_openai(key=self.key, timeout=300) as client:
                return await asyncio.gather(*(one(client) for _ in range(self.AGENTS)))

        self.assertEqual(asyncio.run(run()), ["word " * 50] * self.AGENTS)
        self.assert_all_finished([self.tap], usd((900, "2"), (2_000, "8")))
