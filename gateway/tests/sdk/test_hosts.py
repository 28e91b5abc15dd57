"""Google's, Cohere's, Mistral's and Groq's own SDKs: what they ask for, what they are answered, what it cost, and how they
see a cut and a refusal."""

import json
import os
import tempfile
from decimal import Decimal

import cohere
import groq
import httpx
import httpx2
from case import Case, gate
from cohere.core.api_error import ApiError as CohereError
from gateway import Gateway
from google import genai
from google.genai import errors as google_errors
from google.genai import types
from mistralai.client import Mistral
from mistralai.client import errors as mistral_errors
from money import usd
from scripted import Upstream, stream, whole

KEY = "host-key-sdk-0123456789abcdef"
FLASH = "gemini-2.5-flash"
COMMAND = "command-a-03-2025"
MINISTRAL = "ministral-sdk-test"
LLAMA = "llama-3.3-70b-versatile"
MESSAGES = [{"role": "user", "content": "What is a ledger?"}]
# About a thousand bytes, ten dozen words.
TEXT = "once upon a time there was a ledger that was never lost and never rotted unseen; " * 12

# USD per million tokens, per unit for `request`.
BOOKS = {
    "gemini": {
        FLASH: {"input": 0.3, "cache_read": 0.03, "output": 2.5, "audio_input": 1, "web_search": 0.035},
        "gemini-embedding-001": {"input": 0.15},
    },
    "cohere": {
        COMMAND: {"input": 2.5, "output": 10},
        "embed-v4.0": {"input": 0.12},
        "rerank-v3.5": {"request": 0.002},
    },
    "mistral": {MINISTRAL: {"input": 0.1, "output": 0.3}},
    "groq": {LLAMA: {"input": 0.59, "cache_read": 0.295, "output": 0.79}},
}
BASES = {"groq": "/openai"}


def event(name, data):
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


class Hosts(Case):
    """The four hosts lead to the upstream, each at the prices of a book of these tests."""

    MORE = {}

    @classmethod
    def setUpClass(cls):
        cls.upstream = Upstream()
        cls.addClassCleanup(cls.upstream.stop)
        books = tempfile.TemporaryDirectory(prefix="al-books-")
        cls.addClassCleanup(books.cleanup)
        files, extra = [], {}
        for provider, rows in BOOKS.items():
            models = [{"id": name, "prices": {"always": {"standard": row}}} for name, row in rows.items()]
            file = os.path.join(books.name, f"{provider}.yaml")
            with open(file, "w") as out:
                json.dump({"provider": provider, "models": models}, out)
            files.append(file)
            extra[provider] = {
                "enabled": True,
                "upstream": cls.upstream.url + BASES.get(provider, ""),
                "default_price": {"input": 1000, "output": 1000},
            }
        cls.gateway = Gateway(cls.upstream.url, {"providers": {"extra": extra}, "prices": {"files": files}, **cls.MORE})
        cls.addClassCleanup(cls.gateway.remove)

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        assert "host-key" not in cls.gateway.log()

    def google(self, key=KEY):
        options = types.HttpOptions(base_url=f"{self.gateway.url}/gemini", headers=self.agent())
        return self._kept(genai.Client(api_key=key, vertexai=False, http_options=options))

    def cohere(self, key=KEY):
        http = httpx.Client(headers=self.agent(), timeout=60)
        self.addCleanup(http.close)
        return cohere.ClientV2(api_key=key, base_url=f"{self.gateway.url}/cohere", httpx_client=http, max_retries=0)

    def mistral(self, key=KEY):
        http = httpx2.Client(headers=self.agent(), timeout=60)
        self.addCleanup(http.close)
        return Mistral(api_key=key, server_url=f"{self.gateway.url}/mistral", client=http)

    def groq(self, key=KEY, **more):
        return self._kept(
            groq.Groq(api_key=key, base_url=f"{self.gateway.url}/groq", default_headers=self.agent(), **more)
        )

    def only_asked(self, path):
        self.assertEqual([asked.path for asked in self.upstream.asked], [path])
        asked = self.upstream.asked[0]
        headers = {name.lower(): value for name, value in asked.headers.items()}
        self.assertFalse([name for name in headers if name.startswith("x-agent-")])
        self.assertIn(KEY, headers.get("authorization", "") + headers.get("x-goog-api-key", ""))
        return asked


def candidate(text, **more):
    return {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0, **more}


def generated(text, usage, **more):
    return {"candidates": [candidate(text, **more)], "usageMetadata": usage, "modelVersion": FLASH, "responseId": "r-1"}


class Google(Hosts):
    GENERATE = f"/v1/models/{FLASH}:generateContent"
    STREAM = f"/v1/models/{FLASH}:streamGenerateContent"

    def test_generate(self):
        usage = {
            "promptTokenCount": 2000,
            "cachedContentTokenCount": 1500,
            "candidatesTokenCount": 57,
            "thoughtsTokenCount": 343,
            "totalTokenCount": 2400,
        }
        self.upstream.on(self.GENERATE, whole(generated("A book of accounts.", usage, finishReason="STOP")))
        config = types.GenerateContentConfig(max_output_tokens=500, temperature=0.2)
        said = self.google().models.generate_content(model=FLASH, contents="What is a ledger?", config=config)
        self.assertEqual(said.text, "A book of accounts.")
        self.assertEqual(said.usage_metadata.thoughts_token_count, 343)
        asked = self.only_asked(self.GENERATE)
        self.assertEqual(asked.json["generationConfig"]["maxOutputTokens"], 500)
        cost = usd((500, "0.3"), (1500, "0.03"), (400, "2.5"))
        self.assertEqual(str(cost), "0.001195000")
        self.assert_entry(
            {"input": 500, "cache_read": 1500, "output": 400},
            cost,
            provider="gemini",
            operation="generateContent",
            requested_model=FLASH,
            model=FLASH,
            stream=False,
            reasoning=343,
            path=f"/gemini{self.GENERATE}",
        )

    def test_audio_is_priced_apart(self):
        usage = {
            "promptTokenCount": 1000,
            "candidatesTokenCount": 10,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 40},
                {"modality": "AUDIO", "tokenCount": 960},
            ],
        }
        self.upstream.on(self.GENERATE, whole(generated("A number.", usage, finishReason="STOP")))
        audio = types.Part.from_bytes(data=b"ID3", mime_type="audio/mp3")
        self.google().models.generate_content(model=FLASH, contents=[audio, "What is said?"])
        cost = usd((40, "0.3"), (960, "1"), (10, "2.5"))
        self.assert_entry({"input": 40, "audio_input": 960, "output": 10}, cost)

    def test_stream(self):
        frames = [
            event("", generated("A book ", {"promptTokenCount": 7, "totalTokenCount": 7})),
            event("", generated("of accounts.", {"promptTokenCount": 7, "candidatesTokenCount": 5, "thoughtsTokenCount": 20})),
        ]
        self.upstream.on(self.STREAM, stream(frames))
        chunks = self.google().models.generate_content_stream(model=FLASH, contents="What is a ledger?")
        self.assertEqual("".join(chunk.text for chunk in chunks), "A book of accounts.")
        self.only_asked(f"{self.STREAM}?alt=sse")
        self.assert_entry({"input": 7, "output": 25}, usd((7, "0.3"), (25, "2.5")), stream=True, reasoning=20)

    def test_embed(self):
        path = "/v1/models/gemini-embedding-001:batchEmbedContents"
        answer = {"embeddings": [{"values": [0.1, 0.2]}], "usageMetadata": {"promptTokenCount": 12}}
        self.upstream.on(path, whole(answer))
        said = self.google().models.embed_content(model="gemini-embedding-001", contents="a ledger")
        self.assertEqual(said.embeddings[0].values, [0.1, 0.2])
        self.assert_entry({"input": 12}, usd((12, "0.15")), operation="batchEmbedContents")

    def test_counting_and_listing_are_free(self):
        self.upstream.on(f"/v1/models/{FLASH}:countTokens", whole({"totalTokens": 31}))
        self.upstream.on("/v1/models", whole({"models": [{"name": f"models/{FLASH}"}]}))
        client = self.google()
        self.assertEqual(client.models.count_tokens(model=FLASH, contents="hi").total_tokens, 31)
        self.assertEqual([model.name for model in client.models.list()], [f"models/{FLASH}"])
        self.assertEqual(self.entries(), [])

    def test_an_error_of_the_provider_passes(self):
        error = {"error": {"code": 400, "message": "bad", "status": "INVALID_ARGUMENT"}}
        self.upstream.on(self.GENERATE, whole(error, 400))
        with self.assertRaises(google_errors.ClientError) as raised:
            self.google().models.generate_content(model=FLASH, contents="hi")
        self.assertEqual((raised.exception.code, raised.exception.status), (400, "INVALID_ARGUMENT"))
        self.assertEqual([(entry["status"], entry["cost_usd"]) for entry in self.entries()], [(400, "0")])


class CohereChat(Hosts):
    def test_chat(self):
        answer = {
            "id": "c-1",
            "finish_reason": "COMPLETE",
            "message": {"role": "assistant", "content": [{"type": "text", "text": "A book."}]},
            "usage": {
                "billed_units": {"input_tokens": 5, "output_tokens": 418.0},
                "tokens": {"input_tokens": 71, "output_tokens": 418},
            },
        }
        self.upstream.on("/v2/chat", whole(answer))
        said = self.cohere().chat(model=COMMAND, messages=MESSAGES, max_tokens=500)
        self.assertEqual(said.message.content[0].text, "A book.")
        self.only_asked("/v2/chat")
        cost = usd((5, "2.5"), (418, "10"))
        self.assert_entry({"input": 5, "output": 418}, cost, provider="cohere", operation="chat", model=COMMAND)

    def test_stream(self):
        frames = [
            event("message-start", {"type": "message-start", "id": "c-2", "delta": {"message": {"role": "assistant"}}}),
            content("A book "),
            content("of accounts."),
            event(
                "message-end",
                {
                    "type": "message-end",
                    "delta": {"finish_reason": "COMPLETE", "usage": {"billed_units": {"input_tokens": 5, "output_tokens": 6}}},
                },
            ),
        ]
        self.upstream.on("/v2/chat", stream(frames))
        events = list(self.cohere().chat_stream(model=COMMAND, messages=MESSAGES))
        text = "".join(one.delta.message.content.text for one in events if one.type == "content-delta")
        self.assertEqual(text, "A book of accounts.")
        self.assert_entry({"input": 5, "output": 6}, usd((5, "2.5"), (6, "10")), stream=True)

    def test_embed(self):
        answer = {
            "id": "e-1",
            "embeddings": {"float": [[0.1]]},
            "texts": ["hello"],
            "response_type": "embeddings_by_type",
            "meta": {"billed_units": {"input_tokens": 2000}},
        }
        self.upstream.on("/v2/embed", whole(answer))
        self.cohere().embed(
            model="embed-v4.0", input_type="search_document", texts=["hello"], embedding_types=["float"]
        )
        self.assert_entry({"input": 2000}, usd((2000, "0.12")), operation="embed")

    def test_rerank(self):
        answer = {"id": "r-1", "results": [{"index": 0, "relevance_score": 0.9}], "meta": {"billed_units": {"search_units": 3}}}
        self.upstream.on("/v2/rerank", whole(answer))
        self.cohere().rerank(model="rerank-v3.5", query="ledger", documents=["a book"])
        self.assert_entry({"request": 3}, Decimal("0.006"), operation="rerank")


def content(text):
    delta = {"message": {"content": {"text": text}}}
    return event("content-delta", {"type": "content-delta", "index": 0, "delta": delta})


def completion(model, text, usage):
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], "usage": usage}


def chunk(model, text, finish=None, **more):
    choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": finish}
    return event(
        "", {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice], **more}
    )


def counts(given, said):
    return {"prompt_tokens": given, "completion_tokens": said, "total_tokens": given + said}


DONE = b"data: [DONE]\n\n"


class MistralChat(Hosts):
    CHAT = "/v1/chat/completions"

    def test_complete(self):
        self.upstream.on(self.CHAT, whole(completion(MINISTRAL, "A book.", counts(1000, 40))))
        said = self.mistral().chat.complete(model=MINISTRAL, messages=MESSAGES, max_tokens=100)
        self.assertEqual(said.choices[0].message.content, "A book.")
        self.only_asked(self.CHAT)
        self.assert_entry({"input": 1000, "output": 40}, usd((1000, "0.1"), (40, "0.3")), provider="mistral")

    def test_stream_is_not_asked_for_usage(self):
        # Mistral tells it unasked, and refuses a request that asks.
        frames = [chunk(MINISTRAL, "A "), chunk(MINISTRAL, "book.", "stop", usage=counts(9, 3)), DONE]
        self.upstream.on(self.CHAT, stream(frames))
        with self.mistral().chat.stream(model=MINISTRAL, messages=MESSAGES) as events:
            text = "".join(one.data.choices[0].delta.content for one in events)
        self.assertEqual(text, "A book.")
        self.assertNotIn("stream_options", self.only_asked(self.CHAT).json)
        self.assert_entry({"input": 9, "output": 3}, usd((9, "0.1"), (3, "0.3")), stream=True)

    def test_fill_in_the_middle(self):
        self.upstream.on("/v1/fim/completions", whole(completion(MINISTRAL, "pass", counts(12, 2))))
        self.mistral().fim.complete(model=MINISTRAL, prompt="def f():", suffix="return")
        self.assert_entry({"input": 12, "output": 2}, usd((12, "0.1"), (2, "0.3")), operation="completions")

    def test_embeddings(self):
        answer = {
            "id": "e",
            "object": "list",
            "model": MINISTRAL,
            "data": [{"object": "embedding", "index": 0, "embedding": [0.1]}],
            "usage": {"prompt_tokens": 70, "completion_tokens": 0, "total_tokens": 70},
        }
        self.upstream.on("/v1/embeddings", whole(answer))
        self.mistral().embeddings.create(model=MINISTRAL, inputs=["a ledger"])
        self.assert_entry({"input": 70}, usd((70, "0.1")), operation="embeddings")


class GroqChat(Hosts):
    # The client brings the host's base path along, and it is there once.
    CHAT = "/openai/v1/chat/completions"

    def test_create(self):
        usage = {**counts(1000, 40), "prompt_tokens_details": {"cached_tokens": 600}, "queue_time": 0.1}
        self.upstream.on(self.CHAT, whole(completion(LLAMA, "A book.", usage)))
        said = self.groq().chat.completions.create(model=LLAMA, messages=MESSAGES, max_tokens=100)
        self.assertEqual(said.choices[0].message.content, "A book.")
        self.only_asked(self.CHAT)
        cost = usd((400, "0.59"), (600, "0.295"), (40, "0.79"))
        self.assert_entry({"input": 400, "cache_read": 600, "output": 40}, cost, provider="groq", model=LLAMA)

    def test_stream(self):
        frames = [
            chunk(LLAMA, "A "),
            chunk(LLAMA, "book.", "stop", x_groq={"id": "req_1", "usage": counts(9, 3)}),
            DONE,
        ]
        self.upstream.on(self.CHAT, stream(frames))
        events = self.groq().chat.completions.create(model=LLAMA, messages=MESSAGES, stream=True)
        self.assertEqual("".join(one.choices[0].delta.content for one in events), "A book.")
        self.assert_entry({"input": 9, "output": 3}, usd((9, "0.59"), (3, "0.79")), stream=True)


class Budgets(Hosts):
    """One cent a day for each key: what is refused, and what is cut."""

    MORE = {
        "budgets": {"default": {"daily_limit_usd": 0.01, "action": "block"}},
        "hold": {"size": "worst_case", "wait_ms": 100},
    }

    def setUp(self):
        super().setUp()
        # A key of its own for each test, and so a budget of its own.
        self.key = f"{KEY}-{self.id().rsplit('.', 1)[-1]}"
        self.after = gate()
        self.addCleanup(self.after.set)

    def endless(self, path, frame):
        frames = [frame(f"{at} {TEXT}") for at in range(60)]
        answer = stream([*frames, self.after, *frames * 20])
        self.upstream.on(path, answer)
        return answer

    def assert_cut(self, passed):
        self.assertGreater(passed, 3)
        self.assertLess(passed, 60)
        self.after.set()
        entries = self.entries()
        self.assertEqual([(entry["outcome"], entry["estimated"]) for entry in entries], [("cut", True)])
        self.assertEqual(len(self.upstream.asked), 1)

    def assert_nothing_was_spent(self):
        self.assertEqual((self.upstream.asked, self.entries()), ([], []))

    def test_google_sees_a_cut_as_its_error(self):
        self.endless(Google.STREAM, lambda text: event("", {"candidates": [candidate(text)], "modelVersion": FLASH}))
        passed, ask = 0, self.google(self.key).models.generate_content_stream
        config = types.GenerateContentConfig(max_output_tokens=1_000)
        with self.assertRaises(google_errors.ClientError) as raised:
            for _ in ask(model=FLASH, contents="Tell me all.", config=config):
                passed += 1
        self.assertEqual((raised.exception.code, raised.exception.status), (429, "RESOURCE_EXHAUSTED"))
        self.assert_cut(passed)

    def test_cohere_sees_a_cut_as_an_end_by_error(self):
        self.endless("/v2/chat", content)
        events = list(self.cohere(self.key).chat_stream(model=COMMAND, messages=MESSAGES, max_tokens=300))
        end = events[-1]
        self.assertEqual((end.type, end.delta.finish_reason), ("message-end", "ERROR"))
        self.assertTrue(end.delta.error.startswith("budget_exceeded: "))
        self.assert_cut(len(events) - 1)

    def test_mistral_sees_a_cut_as_no_event_of_its(self):
        self.endless(MistralChat.CHAT, lambda text: chunk(MINISTRAL, text * 8))
        passed = 0
        with self.assertRaises(mistral_errors.ResponseValidationError):
            with self.mistral(self.key).chat.stream(model=MINISTRAL, messages=MESSAGES) as events:
                for _ in events:
                    passed += 1
        self.assert_cut(passed)

    def test_groq_sees_a_cut_as_its_error(self):
        self.endless(GroqChat.CHAT, lambda text: chunk(LLAMA, text * 4))
        passed = 0
        with self.assertRaises(groq.APIError) as raised:
            for _ in self.groq(self.key).chat.completions.create(model=LLAMA, messages=MESSAGES, stream=True):
                passed += 1
        self.assertEqual(raised.exception.body["code"], "insufficient_quota")
        self.assert_cut(passed)

    def test_google_is_refused(self):
        config = types.GenerateContentConfig(max_output_tokens=5_000)
        with self.assertRaises(google_errors.ClientError) as raised:
            self.google(self.key).models.generate_content(model=FLASH, contents="hi", config=config)
        self.assertEqual((raised.exception.code, raised.exception.status), (429, "RESOURCE_EXHAUSTED"))
        said = raised.exception.details["error"]
        self.assertEqual((said["type"], said["details"][0]["reason"]), ("budget_exceeded", "budget_exceeded"))
        self.assertIn("estimated cost of request exceeds remaining budget", raised.exception.message)
        self.assert_nothing_was_spent()

    def test_a_refused_stream_of_google_does_not_begin(self):
        config = types.GenerateContentConfig(max_output_tokens=5_000)
        with self.assertRaises(google_errors.ClientError):
            list(self.google(self.key).models.generate_content_stream(model=FLASH, contents="hi", config=config))
        self.assert_nothing_was_spent()

    def test_cohere_is_refused(self):
        with self.assertRaises(cohere.TooManyRequestsError) as raised:
            self.cohere(self.key).chat(model=COMMAND, messages=MESSAGES, max_tokens=5_000)
        self.assertIsInstance(raised.exception, CohereError)
        self.assertIn("estimated cost of request exceeds remaining budget", raised.exception.body["message"])
        self.assertEqual(raised.exception.body["error"]["code"], "budget_exceeded")
        self.assert_nothing_was_spent()

    def test_mistral_is_refused(self):
        with self.assertRaises(mistral_errors.SDKError) as raised:
            self.mistral(self.key).chat.complete(model=MINISTRAL, messages=MESSAGES, max_tokens=50_000)
        self.assertEqual(raised.exception.status_code, 429)
        self.assertEqual(json.loads(raised.exception.body)["error"]["code"], "budget_exceeded")
        self.assert_nothing_was_spent()

    def test_groq_is_refused(self):
        with self.assertRaises(groq.RateLimitError) as raised:
            self.groq(self.key).chat.completions.create(model=LLAMA, messages=MESSAGES, max_tokens=20_000)
        self.assertEqual(raised.exception.response.headers["x-should-retry"], "false")
        self.assert_nothing_was_spent()
