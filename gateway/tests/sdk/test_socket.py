"""WebSocket connections through OpenAI's SDK and the websockets library, with the latter's server as the upstream: each
answer is an entry of its own."""

import json
import socket
import threading
import unittest
from decimal import Decimal

import openai
from gateway import Gateway
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.sync.server import serve

KEY = "sk-proj-sdk-0123456789abcdef"
WORDS = "one two three four five six seven eight nine ten red green blue black white grey "


class SocketUpstream:
    """Plays a script on every connection; it closes when the script returns."""

    def __init__(self):
        self.script = None
        self.asked = []
        self.handshakes = []
        self._server = serve(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.socket.getsockname()[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self):
        self._server.shutdown()

    def _serve(self, connection):
        self.handshakes.append(connection)
        try:
            self.script(connection)
        except ConnectionClosed:
            pass

    def hear(self, connection):
        message = json.loads(connection.recv())
        self.asked.append(message)
        return message


def say(connection, **message):
    connection.send(json.dumps(message))


def created(connection, answer):
    say(connection, type="response.created", sequence_number=0, response=response(answer, "in_progress", None))


def delta(connection, text):
    say(
        connection,
        type="response.output_text.delta",
        sequence_number=1,
        item_id="i",
        output_index=0,
        content_index=0,
        delta=text,
        logprobs=[],
    )


def completed(connection, answer, usage):
    say(connection, type="response.completed", sequence_number=2, response=response(answer, "completed", usage))


def response(answer, status, usage):
    return {
        "id": answer,
        "object": "response",
        "created_at": 1,
        "status": status,
        "model": "gpt-4o-2024-08-06",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage,
    }


USAGE = {
    "input_tokens": 1000,
    "input_tokens_details": {"cached_tokens": 600},
    "output_tokens": 100,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 1100,
}
COST = Decimal("0.00275")


class SocketCase(unittest.TestCase):
    CONFIG = {}

    @classmethod
    def setUpClass(cls):
        cls.upstream = SocketUpstream()
        cls.addClassCleanup(cls.upstream.stop)
        cls.gateway = Gateway(cls.upstream.url, cls.CONFIG)
        cls.addClassCleanup(cls.gateway.remove)

    @classmethod
    def tearDownClass(cls):
        cls.gateway.stop()
        cls.gateway.command("verify")
        log = cls.gateway.log()
        for word in ("sk-proj-", "panicked"):
            assert word not in log, f"{word} in the log:\n{log}"

    def setUp(self):
        self.task = self.id().split(".", 1)[-1]
        self.upstream.asked.clear()
        self.upstream.handshakes.clear()
        # A budget is a key's own: so is a test.
        self.key = f"{KEY}-{self.id().rsplit('.', 1)[-1]}"

    def client(self):
        client = openai.OpenAI(
            api_key=self.key,
            base_url=f"{self.gateway.url}/v1",
            default_headers={"X-Agent-Task": self.task},
        )
        self.addCleanup(client.close)
        return client

    def responses(self):
        return self.client().responses.connect(extra_headers={"X-Agent-Task": self.task}, max_retries=0)

    def entries(self):
        return self.gateway.entries(task=self.task)

    def until(self, connection, kind):
        heard = []
        while not heard or heard[-1].type != kind:
            heard.append(connection.recv())
        return heard


class Answers(SocketCase):
    def test_two_responses_on_one_connection(self):
        def script(connection):
            for turn in (1, 2):
                self.upstream.hear(connection)
                created(connection, f"resp_{turn}")
                delta(connection, "Hello.")
                completed(connection, f"resp_{turn}", USAGE)

        self.upstream.script = script
        with self.responses() as connection:
            for turn in (1, 2):
                connection.response.create(model="gpt-4o", input="Say hello.", max_output_tokens=200)
                heard = self.until(connection, "response.completed")
                self.assertEqual([event.type for event in heard][1], "response.output_text.delta")
                self.assertEqual(heard[-1].response.usage.total_tokens, 1100)
                entries = self.entries()
                self.assertEqual([Decimal(entry["cost_usd"]) for entry in entries], [COST] * turn)
        for entry in self.entries():
            self.assertEqual((entry["outcome"], entry["estimated"], entry["operation"]), ("completed", False, "responses"))
            self.assertEqual(entry["usage"], {"input": 400, "cache_read": 600, "output": 100})
        self.assertEqual([asked["input"] for asked in self.upstream.asked], ["Say hello."] * 2)
        # The library offers compression, and the upstream would have taken it.
        self.assertEqual(self.upstream.handshakes[0].protocol.extensions, [])

    def test_a_realtime_session(self):
        def script(connection):
            say(connection, type="session.created", event_id="e1", session={"type": "realtime", "model": "gpt-realtime"})
            self.upstream.hear(connection)
            self.upstream.hear(connection)
            say(connection, type="response.created", event_id="e2", response={"id": "r1", "status": "in_progress"})
            say(connection, type="response.output_audio.delta", event_id="e3", response_id="r1", delta="AAAA" * 1000)
            usage = {
                "total_tokens": 300,
                "input_tokens": 200,
                "output_tokens": 100,
                "input_token_details": {
                    "text_tokens": 100,
                    "audio_tokens": 100,
                    "cached_tokens": 50,
                    "cached_tokens_details": {"text_tokens": 30, "audio_tokens": 20},
                },
                "output_token_details": {"text_tokens": 20, "audio_tokens": 80},
            }
            done = {"id": "r1", "status": "completed", "usage": usage}
            say(connection, type="response.done", event_id="e4", response=done)
            connection.recv()

        self.upstream.script = script
        manager = self.client().realtime.connect(
            model="gpt-realtime", extra_headers={"X-Agent-Task": self.task}, max_retries=0
        )
        with manager as connection:
            self.assertEqual(connection.recv().type, "session.created")
            content = [{"type": "input_text", "text": "Say hello."}]
            connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})
            connection.response.create()
            self.assertEqual(len(self.until(connection, "response.done")), 3)
            entries = self.entries()
        self.assertEqual(len(entries), 1)
        self.assertEqual(
            entries[0]["usage"],
            {"input": 70, "cache_read": 30, "output": 20, "audio_input": 80, "audio_output": 80, "cache_read_audio": 20},
        )
        self.assertEqual(Decimal(entries[0]["cost_usd"]), Decimal("0.0083"))
        self.assertFalse(entries[0]["estimated"])


class Budgets(SocketCase):
    CONFIG = {
        "budgets": {"default": {"daily_limit_usd": 0.02, "action": "block"}},
        "hold": {"size": "expected"},
    }

    def test_a_cut(self):
        def script(connection):
            self.upstream.hear(connection)
            created(connection, "resp_1")
            for _ in range(400):
                delta(connection, WORDS)
            connection.recv()

        self.upstream.script = script
        with self.responses() as connection:
            connection.response.create(model="gpt-4o", input="Write a long story.", max_output_tokens=16_000)
            failed = self.until(connection, "response.failed")[-1]
            self.assertEqual(failed.response.error.code, "insufficient_quota")
            self.assertEqual(failed.response.id, "resp_1")
            with self.assertRaises(ConnectionClosed) as closed:
                connection.recv()
            self.assertEqual(closed.exception.rcvd.code, 1008)
        (entry,) = self.entries()
        self.assertEqual((entry["outcome"], entry["estimate_reason"]), ("cut", "cut"))
        self.assertGreaterEqual(Decimal(entry["cost_usd"]), Decimal(entry["held_usd"]))
        self.assertLessEqual(Decimal(entry["cost_usd"]) - Decimal(entry["overage_usd"]), Decimal("0.02"))

    def test_a_refusal(self):
        def script(connection):
            self.upstream.hear(connection)
            created(connection, "resp_1")
            completed(connection, "resp_1", USAGE)

        self.upstream.script = script
        with self.responses() as connection:
            # Too long for the budget by its input alone.
            connection.response.create(model="gpt-4o", input=WORDS * 1000, max_output_tokens=200)
            error = connection.recv()
            self.assertEqual(error.type, "error")
            told = json.loads(error.to_json())
            self.assertEqual((told["status"], told["error"]["code"]), (429, "budget_exceeded"))
            self.assertEqual(self.entries(), [])
            connection.response.create(model="gpt-4o", input="Say hello.", max_output_tokens=200)
            self.until(connection, "response.completed")
        self.assertEqual([Decimal(entry["cost_usd"]) for entry in self.entries()], [COST])
        self.assertEqual([asked["input"] for asked in self.upstream.asked], ["Say hello."])


class Protocol(SocketCase):
    def test_frames_out_of_protocol(self):
        def script(connection):
            self.upstream.hear(connection)
            created(connection, "resp_1")
            connection.recv()

        self.upstream.script = script
        host, port = "127.0.0.1", self.gateway.port
        with socket.create_connection((host, port)) as raw:
            url = f"ws://{host}:{port}/v1/responses"
            headers = {"Authorization": f"Bearer {self.key}", "X-Agent-Task": self.task}
            with connect(url, sock=raw, additional_headers=headers) as client:
                say(client, type="response.create", model="gpt-4o", input="x", max_output_tokens=200)
                self.assertEqual(json.loads(client.recv())["type"], "response.created")
                raw.sendall(b"\x81\x01x")  # not masked
                with self.assertRaises(ConnectionClosed) as closed:
                    client.recv()
                self.assertEqual(closed.exception.rcvd.code, 1002)
        (entry,) = self.entries()
        self.assertEqual((entry["outcome"], entry["estimated"]), ("client_gone", True))

    def test_pings_and_closes_pass(self):
        heard, told = [], threading.Event()

        def script(connection):
            try:
                connection.recv()
            except ConnectionClosed as closed:
                heard.append((closed.rcvd.code, closed.rcvd.reason))
            told.set()

        self.upstream.script = script
        headers = {"Authorization": f"Bearer {self.key}"}
        url = self.gateway.url.replace("http", "ws")
        client = connect(f"{url}/v1/responses", additional_headers=headers)
        self.assertTrue(client.ping().wait(30))
        client.close(4001, "enough")
        self.assertTrue(told.wait(30))
        self.assertEqual(heard, [(4001, "enough")])


class Fallback(SocketCase):
    CONFIG = {}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.plain = Gateway(
            cls.upstream.url, {"providers": {"openai": {"upstream": cls.upstream.url, "websocket": False}}}
        )
        cls.addClassCleanup(cls.plain.remove)

    def test_where_it_is_off_clients_are_told_at_once(self):
        client = openai.OpenAI(api_key=self.key, base_url=f"{self.plain.url}/v1")
        self.addCleanup(client.close)
        with self.assertRaises(InvalidStatus) as refused:
            client.responses.connect(max_retries=0).enter()
        self.assertEqual(refused.exception.response.status_code, 426)
        self.assertEqual(self.upstream.handshakes, [])
