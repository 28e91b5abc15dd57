"""A client that is made of the gateway's own OpenRPC document: every method is called with its example, every subscription is
followed, and every answer and item is held against the document by the official validator of JSON Schema."""

import json
import unittest
import urllib.request
from pathlib import Path

import shapes_openai
from gateway import Gateway
from jsonschema import Draft7Validator
from scripted import Upstream, whole
from websockets.sync.client import connect

TOKEN = "interface-token-0123456789"
CHAT = "/v1/chat/completions"
DOCUMENT = Path(__file__).resolve().parents[2] / "assets" / "openrpc.json"


class Failed(Exception):
    def __init__(self, error):
        super().__init__(error["message"])
        self.code, self.word = error["code"], error["data"]["code"]


class Interface:
    """One Python function a method, `interface.ledger_summary(last="7d")`, made of the document alone."""

    def __init__(self, connection, document):
        self.document = document
        self._socket = connection
        self._number = 0
        self._items = []
        self.called = set()
        for method in document["methods"]:
            setattr(self, method["name"].replace(".", "_"), self._function(method))

    def _function(self, method):
        known = {param["name"]: param for param in method["params"]}

        def call(*places, **params):
            if method["paramStructure"] == "by-position":
                given, named = list(places), dict(zip(known, places, strict=True))
            else:
                given = named = params
            for name, value in named.items():
                if name not in known:
                    raise TypeError(f"{method['name']} takes no {name}")
                self.check(known[name]["schema"], value)
            for name, param in known.items():
                if param.get("required") and name not in named:
                    raise TypeError(f"{method['name']} needs {name}")
            result = self._call(method["name"], given)
            self.check(method["result"]["schema"], result)
            return result

        return call

    def _call(self, name, params):
        self._number += 1
        self.called.add(name)
        request = {"jsonrpc": "2.0", "id": self._number, "method": name, "params": params}
        self._socket.send(json.dumps(request))
        while True:
            heard = json.loads(self._socket.recv(60))
            if heard.get("id") == self._number:
                break
            self._items.append(heard)
        if "error" in heard:
            documented = self.document["components"]["errors"][heard["error"]["data"]["code"]]
            assert documented["code"] == heard["error"]["code"], heard
            raise Failed(heard["error"])
        return heard["result"]

    def check(self, schema, value):
        Draft7Validator({"allOf": [schema], "components": self.document["components"]}).validate(value)

    def item(self, feed, subscription):
        """The next item of a subscription, checked."""
        kept, self._items = self._items, []
        while True:
            heard = kept.pop(0) if kept else json.loads(self._socket.recv(60))
            if heard.get("method") == feed["notification"] and heard["params"]["subscription"] == subscription:
                self._items = kept
                self.check(feed["item"], heard["params"]["result"])
                return heard["params"]["result"]


def example(method):
    return {param["name"]: param["value"] for param in method["examples"][0]["params"]}


class OpenRpc(unittest.TestCase):
    def setUp(self):
        self.upstream = Upstream()
        self.addCleanup(self.upstream.stop)
        self.answer_as("gpt-4o-mini")
        tokens = [{"name": "interface", "token": TOKEN, "role": "admin"}]
        self.gateway = Gateway(self.upstream.url, {"control": {"tokens": tokens}})
        self.addCleanup(self.gateway.remove)
        document = json.loads(DOCUMENT.read_text())
        url = self.gateway.url.replace("http", "ws") + "/rpc"
        headers = {"Authorization": f"Bearer {TOKEN}"}
        connection = self.enterContext(connect(url, additional_headers=headers, max_size=1 << 26))
        self.interface = Interface(connection, document)

    def answer_as(self, model):
        self.upstream.on(CHAT, whole(shapes_openai.chat(model, "ok", shapes_openai.chat_usage(20, 5))))

    def alarm(self):
        """The price book does not have this model, and somebody should know."""
        self.answer_as("model-of-nobody")
        self.chat("model-of-nobody")
        self.answer_as("gpt-4o-mini")

    def chat(self, model="gpt-4o-mini"):
        body = json.dumps({"model": model, "max_tokens": 20, "messages": [{"role": "user", "content": "hi"}]}).encode()
        headers = {
            "Authorization": "Bearer sk-interface-0123456789",
            "Content-Type": "application/json",
            "X-Agent-Id": "interface",
            "X-Agent-Session": "run-1",
        }
        request = urllib.request.Request(self.gateway.url + CHAT, body, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            self.assertEqual(answer.status, 200)

    def test_the_gateway_serves_the_document_that_is_committed(self):
        self.assertEqual(self.interface.rpc_discover(), self.interface.document)
        for schema in self.interface.document["components"]["schemas"].values():
            Draft7Validator.check_schema(schema)

    def test_every_method_and_every_subscription(self):
        self.chat()
        feeds = [method for method in self.interface.document["methods"] if "x-subscription" in method]
        happens = {
            "ledger.tail": self.chat,
            "hold.changes": self.chat,
            "session.changes": self.chat,
            "alert.feed": self.alarm,
            "rule.changes": lambda: self.interface.rule_put(list="block.keys", value="sk-stolen-*"),
        }
        for method in feeds:
            feed = method["x-subscription"]
            subscribe = getattr(self.interface, method["name"].replace(".", "_"))
            subscription = subscribe(**example(method))
            happens[method["name"]]()
            self.assertIn("sequence", self.interface.item(feed, subscription))
            self.assertTrue(getattr(self.interface, feed["end"].replace(".", "_"))(subscription))
        with_result = 0
        for method in self.interface.document["methods"]:
            if method["name"] in self.interface.called:
                continue
            with self.subTest(method["name"]):
                try:
                    getattr(self.interface, method["name"].replace(".", "_"))(**example(method))
                    with_result += 1
                except Failed as failed:
                    # What an example names need not be there.
                    self.assertIn(failed.word, ["not_found", "conflict", "does_not_fit"])
        self.assertEqual(self.interface.called, {method["name"] for method in self.interface.document["methods"]})
        self.assertGreater(with_result, 15)


if __name__ == "__main__":
    unittest.main()
