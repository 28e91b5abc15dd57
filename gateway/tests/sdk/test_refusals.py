"""What the gateway refuses is the exception that each SDK should raise, and no SDK tries again where it is no use."""

import asyncio
import json
import threading
from decimal import Decimal

import anthropic
import openai
import shapes_anthropic
import shapes_openai
from case import Case, gate
from gateway import free_port
from money import usd
from scripted import stream, whole

MINI = "gpt-4o-mini"
HAIKU = "claude-haiku-4-5"
ASK = [{"role": "user", "content": "What is a ledger?"}]
CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"


def chat_answer(prompt=20, output=5):
    return whole(shapes_openai.chat(MINI, "ok", shapes_openai.chat_usage(prompt, output)))


def message_answer(given=20, output=5):
    return whole(shapes_anthropic.message(HAIKU, [shapes_anthropic.text_block("ok")], shapes_anthropic.usage(given, output)))


class Budgets(Case):
    """One cent a day for each key, and no patience."""

    CONFIG = {
        "budgets": {
            "default": {"daily_limit_usd": 0.01, "monthly_limit_usd": 5, "action": "block"},
            "rules": [{"api_key_pattern": "sk-soft-*", "daily_limit_usd": 0.01, "soft_limit_pct": 0.5, "action": "block"}],
        },
        "hold": {"size": "worst_case", "wait_ms": 100},
    }

    def setUp(self):
        super().setUp()
        # A key of its own for each test, and so a budget of its own.
        self.key = f"sk-{self.id().rsplit('.', 1)[-1]}"
        self.upstream.on(CHAT, chat_answer())
        self.upstream.on("/v1/responses", whole({}))
        self.upstream.on(MESSAGES, message_answer())

    def assert_refused_for_good(self, error):
        """One request, one refusal, nothing at the upstream, nothing in the books."""
        self.assertEqual(error.status_code, 429)
        self.assertEqual(self.statuses(), [429])
        self.assertEqual(error.response.headers["x-should-retry"], "false")
        self.assertNotIn("retry-after", error.response.headers)
        self.assertEqual(self.upstream.asked, [])
        self.assertEqual(self.entries(), [])
        self.assertTrue(self.tap.seen[0].body.endswith(b"}\n"))
        said = json.loads(self.tap.seen[0].body, parse_float=Decimal)["error"]
        self.assertEqual(said["type"], "budget_exceeded")
        self.assertEqual(said["code"], "budget_exceeded")
        self.assertEqual((said["daily_limit"], said["monthly_limit"]), (Decimal("0.01"), 5))
        return said

    def test_chat_over_budget(self):
        with self.assertRaises(openai.RateLimitError) as raised:
            self.openai(key=self.key).chat.completions.create(model=MINI, messages=ASK, max_tokens=16_000 + 1_000)
        self.assertEqual(raised.exception.code, "budget_exceeded")
        self.assertEqual(raised.exception.type, "budget_exceeded")
        said = self.assert_refused_for_good(raised.exception)
        self.assertIn("estimated cost of request exceeds remaining budget", said["message"])
        self.assertEqual((said["daily_spent"], said["monthly_spent"]), (0, 0))
        output = usd((17_000, "0.60"))
        self.assertGreater(Decimal(said["estimated_cost"]), output)
        self.assertLessEqual(Decimal(said["estimated_cost"]), output * Decimal("1.05"))

    def test_stream_over_budget(self):
        with self.assertRaises(openai.RateLimitError) as raised:
            self.openai(key=self.key).chat.completions.create(model=MINI, messages=ASK, max_tokens=17_000, stream=True)
        self.assert_refused_for_good(raised.exception)

    def test_responses_over_budget(self):
        with self.assertRaises(openai.RateLimitError) as raised:
            self.openai(key=self.key).responses.create(model=MINI, input="Hi", max_output_tokens=17_000)
        self.assertEqual(raised.exception.code, "budget_exceeded")
        self.assert_refused_for_good(raised.exception)

    def test_messages_over_budget(self):
        with self.assertRaises(anthropic.RateLimitError) as raised:
            self.anthropic(key=self.key).messages.create(model=HAIKU, max_tokens=2_100, messages=ASK)
        self.assertEqual(raised.exception.body["type"], "error")
        self.assertEqual(raised.exception.body["error"]["code"], "budget_exceeded")
        self.assert_refused_for_good(raised.exception)

    def test_message_stream_over_budget(self):
        with self.assertRaises(anthropic.RateLimitError) as raised:
            with self.anthropic(key=self.key).messages.stream(model=HAIKU, max_tokens=2_100, messages=ASK):
                self.fail("a refused stream began")
        self.assert_refused_for_good(raised.exception)

    def test_async_clients_over_budget(self):
        async def ask_openai():
            async with self.async_openai(key=self.key) as client:
                await client.chat.completions.create(model=MINI, messages=ASK, max_tokens=17_000)

        async def ask_anthropic():
            async with self.async_anthropic(key=self.key) as client:
                await client.messages.create(model=HAIKU, max_tokens=2_100, messages=ASK)

        with self.assertRaises(openai.RateLimitError) as raised:
            asyncio.run(ask_openai())
        self.assert_refused_for_good(raised.exception)
        with self.assertRaises(anthropic.RateLimitError) as raised:
            asyncio.run(ask_anthropic())
        self.assert_refused_for_good(raised.exception)

    def test_a_spent_budget_refuses_what_is_small_too(self):
        # The upstream bills far more than was asked for: posted truthfully, and the next one is refused.
        self.upstream.on(CHAT, chat_answer(prompt=10, output=20_000))
        client = self.openai(key=self.key)
        client.chat.completions.create(model=MINI, messages=ASK, max_tokens=10)
        spent = usd((10, "0.15"), (20_000, "0.60"))
        entry = self.assert_entry({"input": 10, "output": 20_000}, spent)
        self.assertGreater(Decimal(entry["overage_usd"]), 0)
        with self.assertRaises(openai.RateLimitError) as raised:
            client.chat.completions.create(model=MINI, messages=ASK, max_tokens=10)
        self.assertEqual(self.statuses(), [200, 429])
        self.assertEqual(len(self.upstream.asked), 1)
        self.assertEqual(raised.exception.response.headers["x-should-retry"], "false")
        said = json.loads(self.tap.seen[1].body, parse_float=Decimal)["error"]
        self.assertIn("spending limit exceeded", said["message"])
        self.assertEqual((said["daily_spent"], said["monthly_spent"]), (spent, spent))

    def test_a_soft_limit_warns_by_header(self):
        self.upstream.on(CHAT, chat_answer(prompt=10, output=10_000))
        client = self.openai(key="sk-soft-1")
        ask = client.chat.completions.with_raw_response.create
        first = ask(model=MINI, messages=ASK, max_tokens=10_100)
        self.assertNotIn("x-agentledger-budget-warning", first.headers)
        second = ask(model=MINI, messages=ASK, max_tokens=10)
        self.assertEqual(second.headers["x-agentledger-budget-warning"], "daily=0.01/0.01 monthly=0.01/5.00")

    def holding(self):
        """A stream that holds most of the budget until its gate opens. Returns the gate and the one who reads it."""
        held = gate()
        frames = shapes_openai.chat_frames(MINI, ["slow"])
        counts = shapes_openai.chunk(MINI, [], shapes_openai.chat_usage(10, 1))
        self.upstream.on(CHAT, stream([*frames, held, counts, shapes_openai.DONE]), chat_answer())
        self.addCleanup(held.set)
        chunks = self.openai(key=self.key).chat.completions.create(
            model=MINI, messages=ASK, max_tokens=12_000, stream=True
        )
        next(iter(chunks))
        reader = threading.Thread(target=lambda: list(chunks))
        return held, reader

    def test_a_held_budget_is_a_refusal_that_may_be_retried(self):
        held, reader = self.holding()
        reader.start()
        with self.assertRaises(openai.RateLimitError) as raised:
            self.openai(key=self.key, max_retries=0).chat.completions.create(model=MINI, messages=ASK, max_tokens=12_000)
        self.assertEqual(raised.exception.code, "budget_held")
        self.assertEqual(raised.exception.type, "budget_exceeded")
        headers = raised.exception.response.headers
        self.assertGreaterEqual(int(headers["retry-after"]), 1)
        self.assertNotEqual(headers.get("x-should-retry"), "false")
        with self.assertRaises(anthropic.RateLimitError) as raised:
            self.anthropic(key=self.key, max_retries=0).messages.create(model=HAIKU, max_tokens=1_000, messages=ASK)
        self.assertEqual(raised.exception.body["error"]["code"], "budget_held")
        self.assertEqual(self.statuses(), [429])
        self.assertEqual(len(self.upstream.asked), 1)
        held.set()
        reader.join()

    def test_the_sdk_retries_a_held_budget_and_gets_through(self):
        held, reader = self.holding()
        reader.start()

        def let_go(seen):
            if seen.status == 429:
                held.set()
                reader.join()

        client = self.openai(key=self.key, on_seen=let_go)
        said = client.chat.completions.create(model=MINI, messages=ASK, max_tokens=12_000)
        self.assertEqual(said.choices[0].message.content, "ok")
        self.assertEqual(self.statuses(), [429, 200])
        self.assertEqual(len(self.upstream.asked), 2)
        self.assertEqual(len(self.entries()), 2)


class Malformed(Case):
    def assert_bad_request(self, error, code=None):
        self.assertEqual(error.status_code, 400)
        self.assertEqual(self.statuses(), [400])
        self.assertEqual(self.upstream.asked, [])
        self.assertEqual(self.entries(), [])
        if code:
            said = json.loads(self.tap.seen[0].body)["error"]
            self.assertEqual(said["code"], code)

    def test_negative_max_tokens(self):
        with self.assertRaises(openai.BadRequestError) as raised:
            self.openai().chat.completions.create(model=MINI, messages=ASK, max_tokens=-5)
        self.assertEqual(raised.exception.param, "max_tokens")
        self.assert_bad_request(raised.exception)
        with self.assertRaises(anthropic.BadRequestError) as raised:
            self.anthropic().messages.create(model=HAIKU, messages=ASK, max_tokens=-5)
        self.assertEqual(raised.exception.body["type"], "error")
        self.assert_bad_request(raised.exception)
        with self.assertRaises(openai.BadRequestError) as raised:
            self.openai().responses.create(model=MINI, input="Hi", max_output_tokens=-5)
        self.assert_bad_request(raised.exception)

    def test_a_model_that_is_no_text(self):
        with self.assertRaises(openai.BadRequestError) as raised:
            self.openai().chat.completions.create(model=MINI, messages=ASK, extra_body={"model": {"a": 1}})
        self.assertEqual(raised.exception.param, "model")
        self.assert_bad_request(raised.exception)
        with self.assertRaises(anthropic.BadRequestError) as raised:
            self.anthropic().messages.create(model=HAIKU, messages=ASK, max_tokens=5, extra_body={"model": 7})
        self.assert_bad_request(raised.exception)

    def test_broken_json(self):
        headers = {"Content-Type": "application/json"}
        for text in (b'{"model": "gpt-4o-mini", "messages": [', b"[" * 10_000 + b"]" * 10_000):
            with self.assertRaises(openai.BadRequestError) as raised:
                self.openai().post(
                    "/chat/completions", content=text, cast_to=object, options={"headers": headers}
                )
            self.assert_bad_request(raised.exception, "invalid_json")
            with self.assertRaises(anthropic.BadRequestError) as raised:
                self.anthropic().post("/v1/messages", content=text, cast_to=object, options={"headers": headers})
            self.assert_bad_request(raised.exception, "invalid_json")

    def test_two_models(self):
        text = b'{"model": "gpt-4o-mini", "messages": [], "model": "gpt-4.1"}'
        with self.assertRaises(openai.BadRequestError) as raised:
            self.openai().post(
                "/chat/completions", content=text, cast_to=object, options={"headers": {"Content-Type": "application/json"}}
            )
        self.assert_bad_request(raised.exception, "invalid_json")


class Broken(Case):
    """Upstreams that are down, and one that fails until its breaker opens."""

    @classmethod
    def setUpClass(cls):
        nowhere = f"http://127.0.0.1:{free_port()}"
        price = {"default_price": {"input": 1, "output": 2}}
        extra = {"enabled": True, **price}
        quick = {"timeouts": {"connect_ms": 1000}, "retries": {"connect": 1}}
        cls.CONFIG = {
            "providers": {
                "extra": {
                    "down-o": {"type": "openai", "upstream": nowhere, **extra, **quick},
                    "down-a": {"type": "anthropic", "upstream": nowhere, **extra, **quick},
                }
            },
            "circuit_breaker": {"max_failures": 4, "timeout_secs": 2},
        }
        super().setUpClass()

    def test_an_upstream_that_is_down_is_a_502_tried_three_times(self):
        for call in (
            lambda: self.openai("/down-o").chat.completions.create(model=MINI, messages=ASK, max_tokens=9),
            lambda: self.anthropic("/down-a").messages.create(model=HAIKU, messages=ASK, max_tokens=9),
        ):
            with self.assertRaises((openai.InternalServerError, anthropic.InternalServerError)) as raised:
                call()
            self.assertEqual(raised.exception.status_code, 502)
            self.assertIn("upstream request failed", str(raised.exception))
            self.assertEqual(self.statuses(), [502, 502, 502])
        # Nothing was sent, so nothing can be billed: no entry, and no hold stays.
        self.assertEqual(self.entries(), [])
        self.assertEqual(self.upstream.asked, [])
        self.assertNotIn("down-", self.gateway.command("holds"))

    def breaks(self, path, ask, good, status_error):
        """Four 500s open the breaker; the next call is refused without the upstream, and its retry is the probe."""
        failing = whole({"type": "error", "error": {"type": "api_error", "message": "down"}}, 500)
        self.upstream.on(path, failing)
        for _ in range(4):
            with self.assertRaises(status_error) as raised:
                ask(max_retries=0)
            self.assertEqual(raised.exception.status_code, 500)
            self.assertEqual(self.tap.seen[0].body, failing.body)
        with self.assertRaises(status_error) as raised:
            ask(max_retries=0)
        self.assertEqual(raised.exception.status_code, 503)
        self.assertEqual(json.loads(self.tap.seen[0].body)["error"]["code"], "breaker_open")
        self.assertGreaterEqual(int(raised.exception.response.headers["retry-after"]), 1)
        self.assertEqual(len(self.upstream.asked), 4)
        self.upstream.on(path, good)
        ask(max_retries=2)
        self.assertEqual(self.statuses()[-1], 200)
        self.assertLessEqual(len(self.statuses()), 3)
        self.assertEqual(len(self.upstream.asked), 5)
        self.assertEqual(sorted(one["status"] for one in self.entries()), [200, 500, 500, 500, 500])

    def test_breaker_of_openai(self):
        def ask(max_retries):
            self.openai(max_retries=max_retries).chat.completions.create(model=MINI, messages=ASK, max_tokens=9)

        self.breaks(CHAT, ask, chat_answer(), openai.InternalServerError)

    def test_breaker_of_anthropic(self):
        def ask(max_retries):
            self.anthropic(max_retries=max_retries).messages.create(model=HAIKU, messages=ASK, max_tokens=9)

        self.breaks(MESSAGES, ask, message_answer(), anthropic.InternalServerError)

    def test_an_unknown_route_is_not_found(self):
        with self.assertRaises(openai.NotFoundError):
            self.openai("/nowhere").chat.completions.create(model=MINI, messages=ASK)
        self.assertEqual(self.statuses(), [404])
