"""What all tests here share: an upstream and a gateway for a class of tests, clients whose traffic is recorded on their
own side, and the check of an entry."""

import threading
import unittest
from decimal import Decimal

import anthropic
import httpx2
import openai

from gateway import Gateway
from scripted import Upstream

OPENAI_KEY = "sk-proj-sdk-0123456789abcdef"
ANTHROPIC_KEY = "sk-ant-api03-sdk-0123456789abcdef"


class Seen:
    """One answer as the SDK got it."""

    def __init__(self, request, response):
        self.asked = request.headers
        self.status = response.status_code
        self.headers = response.headers
        self.pieces = []

    @property
    def body(self):
        return b"".join(self.pieces)


class _Tee(httpx2.SyncByteStream):
    def __init__(self, inner, seen):
        self._inner, self._seen = inner, seen

    def __iter__(self):
        for piece in self._inner:
            self._seen.pieces.append(piece)
            yield piece

    def close(self):
        self._inner.close()


class _AsyncTee(httpx2.AsyncByteStream):
    def __init__(self, inner, seen):
        self._inner, self._seen = inner, seen

    async def __aiter__(self):
        async for piece in self._inner:
            self._seen.pieces.append(piece)
            yield piece

    async def aclose(self):
        await self._inner.aclose()


class Tap(httpx2.HTTPTransport):
    """Keeps every answer: an SDK retries below our calls. `on_seen` is called with each answer's head."""

    def __init__(self, on_seen=None):
        super().__init__()
        self.seen = []
        self._on_seen = on_seen

    def handle_request(self, request):
        response = super().handle_request(request)
        seen = Seen(request, response)
        self.seen.append(seen)
        response.stream = _Tee(response.stream, seen)
        if self._on_seen:
            self._on_seen(seen)
        return response


class AsyncTap(httpx2.AsyncHTTPTransport):
    def __init__(self):
        super().__init__()
        self.seen = []

    async def handle_async_request(self, request):
        response = await super().handle_async_request(request)
        seen = Seen(request, response)
        self.seen.append(seen)
        response.stream = _AsyncTee(response.stream, seen)
        return response


class Case(unittest.TestCase):
    """One upstream and one gateway for the class. Each test's calls bear its name as their task."""

    CONFIG = {}

    @classmethod
    def setUpClass(cls):
        cls.upstream = Upstream()
        cls.addClassCleanup(cls.upstream.stop)
        cls.gateway = Gateway(cls.upstream.url, cls.CONFIG)
        cls.addClassCleanup(cls.gateway.remove)

    @classmethod
    def tearDownClass(cls):
        # The books stay what they were when the gateway has gone, and their chain is whole.
        running = cls.gateway.entries()
        cls.gateway.stop()
        stopped = cls.gateway.entries()
        assert running == stopped, "entries changed when the gateway went down"
        cls.gateway.command("verify")
        log = cls.gateway.log()
        for word in ("sk-proj-", "sk-ant-", "panicked"):
            assert word not in log, f"{word} in the log:\n{log}"

    def setUp(self):
        self.upstream.clear()
        self.task = self.id().split(".", 1)[-1]

    def agent(self, **more):
        return {"X-Agent-Id": "tester", "X-Agent-Session": "s-1", "X-Agent-Task": self.task, **more}

    def _kept(self, client):
        self.addCleanup(client.close)
        return client

    def openai(self, prefix="", key=OPENAI_KEY, on_seen=None, **more):
        self.tap = Tap(on_seen)
        return self._kept(
            openai.OpenAI(
                api_key=key,
                base_url=f"{self.gateway.url}{prefix}/v1",
                default_headers=self.agent(),
                http_client=openai.DefaultHttpxClient(transport=self.tap),
                **more,
            )
        )

    def async_openai(self, key=OPENAI_KEY, **more):
        self.tap = AsyncTap()
        return openai.AsyncOpenAI(
            api_key=key,
            base_url=f"{self.gateway.url}/v1",
            default_headers=self.agent(),
            http_client=openai.DefaultAsyncHttpxClient(transport=self.tap),
            **more,
        )

    def anthropic(self, prefix="", key=ANTHROPIC_KEY, on_seen=None, **more):
        self.tap = Tap(on_seen)
        return self._kept(
            anthropic.Anthropic(
                api_key=key,
                base_url=f"{self.gateway.url}{prefix}",
                default_headers=self.agent(),
                http_client=anthropic.DefaultHttpxClient(transport=self.tap),
                **more,
            )
        )

    def async_anthropic(self, key=ANTHROPIC_KEY, **more):
        self.tap = AsyncTap()
        return anthropic.AsyncAnthropic(
            api_key=key,
            base_url=self.gateway.url,
            default_headers=self.agent(),
            http_client=anthropic.DefaultAsyncHttpxClient(transport=self.tap),
            **more,
        )

    def entries(self):
        return self.gateway.entries(task=self.task)

    def statuses(self):
        """The statuses that the SDK got, one for each try."""
        return [seen.status for seen in self.tap.seen]

    def assert_untouched(self, answer):
        """The SDK saw, in one try, just the bytes that the upstream sent."""
        self.assertEqual(len(self.tap.seen), 1)
        self.assertEqual(self.tap.seen[0].body, answer.body)

    def assert_entry(self, usage, cost, **facts):
        """One entry of this test, exact: its usage kinds, its cost to the nano-dollar, and these facts."""
        entries = self.entries()
        self.assertEqual(len(entries), 1, entries)
        entry = entries[0]
        self.assertEqual(entry["usage"], usage)
        self.assertEqual(Decimal(entry["cost_usd"]), cost)
        expected = {
            "outcome": "completed",
            "status": 200,
            "estimated": False,
            "estimate_reason": None,
            "agent": "tester",
            "session": "s-1",
            **facts,
        }
        self.assertEqual({name: entry[name] for name in expected}, expected)
        # What is scripted may be dearer than the request could ask for: the books say so.
        overage = max(Decimal(0), cost - Decimal(entry["held_usd"]))
        self.assertEqual(Decimal(entry["overage_usd"]), overage)
        return entry

    def assert_asked(self, path):
        """The upstream was asked once, with every header of the SDK but what is ours or the hop's."""
        self.assertEqual([asked.path for asked in self.upstream.asked], [path])
        asked = self.upstream.asked[0]
        got = {name.lower(): value for name, value in asked.headers.items()}
        sent = dict(self.tap.seen[0].asked)
        for name in ("host", "content-length", "accept-encoding", "connection"):
            got.pop(name, None)
            sent.pop(name, None)
        self.assertIn("authorization", sent)
        self.assertEqual(got, {name: value for name, value in sent.items() if not name.startswith("x-agent")})
        return asked


def gate():
    """Holds a stream back until it is set."""
    return threading.Event()
