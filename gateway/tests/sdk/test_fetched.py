"""The official SDKs with what is asked for now and fetched later: each result is one charge, however often it is fetched."""

import json

import shapes_anthropic
import shapes_openai as shapes
from case import Case
from money import usd
from scripted import Answer, whole

MODEL = "gpt-5.1-2025-11-13"
MINI = "gpt-4o-mini-2024-07-18"
CLAUDE = "claude-sonnet-4-5-20250929"


def lines(*values):
    """Results as the providers send them: JSON lines under a type that says nothing."""
    body = "".join(json.dumps(value) + "\n" for value in values).encode()
    return Answer(200, {"Content-Type": "application/octet-stream"}, [body])


class Background(Case):
    PATH = "/v1/responses"

    def response(self, status, text="", usage=None):
        return {**shapes.response(MODEL, status, text, usage), "id": f"resp_{self.task}", "background": True}

    def test_polled_thrice_is_one_charge(self):
        ident = f"resp_{self.task}"
        done = self.response("completed", "42", shapes.response_usage(31, 409, reasoning=344))
        self.upstream.on(self.PATH, whole(self.response("queued")))
        self.upstream.on(f"{self.PATH}/{ident}", whole(self.response("in_progress")), whole(done))
        client = self.openai()
        asked = client.responses.create(model="gpt-5.1", input="think", background=True, max_output_tokens=1000)
        self.assertEqual(asked.status, "queued")
        self.assertEqual(client.responses.retrieve(ident).status, "in_progress")
        self.assertEqual(self.entries(), [])
        for _ in range(3):
            self.assertEqual(client.responses.retrieve(ident).output_text, "42")
        self.assert_entry(
            {"input": 31, "output": 409},
            usd((31, "1.25"), (409, "10")),
            reasoning=344,
            operation="responses",
            requested_model="gpt-5.1",
            path=self.PATH,
        )

    def test_cancelled(self):
        ident = f"resp_{self.task}"
        self.upstream.on(self.PATH, whole(self.response("queued")))
        self.upstream.on(f"{self.PATH}/{ident}/cancel", whole(self.response("cancelled")))
        client = self.openai()
        client.responses.create(model="gpt-5.1", input="think", background=True, max_output_tokens=1000)
        self.assertEqual(client.responses.cancel(ident).status, "cancelled")
        [entry] = self.entries()
        self.assertTrue(entry["estimated"])


class Batches(Case):
    def line(self, number, given, output):
        body = shapes.chat(MINI, "ok", shapes.chat_usage(given, output))
        response = {"status_code": 200, "request_id": f"req_{number}", "body": body}
        return {"id": f"batch_req_{number}", "custom_id": f"c{number}", "response": response, "error": None}

    def test_results_fetched_twice_are_one_charge(self):
        failed = {"id": "batch_req_3", "custom_id": "c3", "response": None, "error": {"code": "batch_expired"}}
        answer = lines(self.line(1, 1000, 100), failed, self.line(2, 2000, 200))
        self.upstream.on("/v1/files/file-out/content", answer)
        client = self.openai()
        for _ in range(2):
            self.assertEqual(client.files.content("file-out").content, answer.body)
        self.assert_entry(
            {"input": 3000, "output": 300}, usd((3000, "0.075"), (300, "0.3")), operation="files.content", model=MINI
        )

    def test_asking_for_one_is_free(self):
        file = {"id": "file-in", "object": "file", "bytes": 2, "created_at": 1, "filename": "b.jsonl", "purpose": "batch"}
        batch = {
            "id": "batch_1",
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "input_file_id": "file-in",
            "completion_window": "24h",
            "status": "validating",
            "created_at": 1,
        }
        self.upstream.on("/v1/files", whole({**file, "status": "processed"}))
        self.upstream.on("/v1/batches", whole(batch))
        self.upstream.on("/v1/batches/batch_1", whole(batch))
        client = self.openai()
        client.files.create(file=("b.jsonl", b"{}"), purpose="batch")
        client.batches.create(
            input_file_id="file-in", endpoint="/v1/chat/completions", completion_window="24h"
        )
        self.assertEqual(client.batches.retrieve("batch_1").id, "batch_1")
        self.assertEqual(self.entries(), [])


class MessageBatches(Case):
    def test_results_fetched_twice_are_one_charge(self):
        path = "/v1/messages/batches/msgbatch_1"
        batch = {
            "id": "msgbatch_1",
            "type": "message_batch",
            "processing_status": "ended",
            "request_counts": {"processing": 0, "succeeded": 1, "errored": 0, "canceled": 0, "expired": 1},
            "created_at": "2026-11-22T00:00:00Z",
            "expires_at": "2026-11-23T00:00:00Z",
            "ended_at": "2026-11-22T01:00:00Z",
            "archived_at": None,
            "cancel_initiated_at": None,
            # The provider names its own host here, and the SDK follows it: it must be led to the gateway.
            "results_url": f"https://api.anthropic.com{path}/results",
        }
        counts = {**shapes_anthropic.usage(1000, 34, write_1h=200), "service_tier": "batch"}
        message = shapes_anthropic.message(CLAUDE, [shapes_anthropic.text_block("hi")], counts)
        one = {"custom_id": "one", "result": {"type": "succeeded", "message": message}}
        late = {"custom_id": "late", "result": {"type": "expired"}}
        self.upstream.on(path, whole(batch))
        self.upstream.on(f"{path}/results", lines(one, late))
        page = {"data": [batch], "has_more": False, "first_id": "msgbatch_1", "last_id": "msgbatch_1"}
        self.upstream.on("/v1/messages/batches", whole(page))
        client = self.anthropic()
        here = f"{self.gateway.url}{path}/results"
        self.assertEqual(client.messages.batches.retrieve("msgbatch_1").results_url, here)
        self.assertEqual([one.results_url for one in client.messages.batches.list()], [here])
        for _ in range(2):
            results = list(client.messages.batches.results("msgbatch_1"))
            self.assertEqual([result.custom_id for result in results], ["one", "late"])
        self.assert_entry(
            {"input": 1000, "cache_write_1h": 200, "output": 34},
            usd((1000, "1.5"), (200, "3"), (34, "7.5")),
            operation="messages.batches.results",
            model=CLAUDE,
        )
