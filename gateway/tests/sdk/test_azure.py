"""OpenAI's SDK as Azure's client: deployments in the path, the key in `api-key`, prices by the configured map."""

import openai
import shapes_openai
from case import Case, Tap
from gateway import Gateway
from money import usd
from scripted import Upstream, stream, whole

KEY = "0123456789abcdef0123456789abcdef"
CHAT = "/openai/deployments/chat-prod/chat/completions"
ASK = [{"role": "user", "content": "Name three rivers."}]
# In no price book: the section below says its price.
ANSWERED = "model-behind-the-deployment"


class Azure(Case):
    @classmethod
    def setUpClass(cls):
        cls.upstream = Upstream()
        cls.addClassCleanup(cls.upstream.stop)
        section = {
            "enabled": True,
            "upstream": cls.upstream.url,
            "default_price": {"input": 2, "output": 8},
            "deployments": {"chat-prod": "model-of-the-map"},
        }
        cls.gateway = Gateway(cls.upstream.url, {"providers": {"extra": {"azure": section}}})
        cls.addClassCleanup(cls.gateway.remove)

    def client(self):
        self.tap = Tap()
        return self._kept(
            openai.AzureOpenAI(
                api_key=KEY,
                api_version="2024-10-21",
                azure_endpoint=f"{self.gateway.url}/azure",
                default_headers=self.agent(),
                http_client=openai.DefaultHttpxClient(transport=self.tap),
            )
        )

    def test_chat(self):
        answer = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": ANSWERED,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Rhine."}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15},
        }
        self.upstream.on(CHAT, whole(answer))
        got = self.client().chat.completions.create(model="chat-prod", messages=ASK, max_tokens=50)
        self.assertEqual(got.choices[0].message.content, "Rhine.")
        asked = self.upstream.asked[0]
        self.assertEqual(asked.path, f"{CHAT}?api-version=2024-10-21")
        self.assertEqual({name.lower(): value for name, value in asked.headers.items()}["api-key"], KEY)
        entry = self.assert_entry({"input": 12, "output": 3}, usd((12, 2), (3, 8)), provider="azure", model=ANSWERED)
        self.assertEqual((entry["requested_model"], entry["operation"]), ("model-of-the-map", "chat"))

    def test_stream(self):
        frames = [shapes_openai.delta(ANSWERED, {"content": text}) for text in ("Rhine, ", "Elbe.")]
        usage = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": ANSWERED, "choices": [], "usage": usage}
        self.upstream.on(CHAT, stream([*frames, shapes_openai.data(chunk), b"data: [DONE]\n\n"]))
        chunks = list(self.client().chat.completions.create(model="chat-prod", messages=ASK, stream=True))
        self.assertEqual("".join(chunk.choices[0].delta.content or "" for chunk in chunks), "Rhine, Elbe.")
        self.assertTrue(self.upstream.asked[0].json["stream_options"]["include_usage"])
        self.assert_entry({"input": 12, "output": 5}, usd((12, 2), (5, 8)), stream=True)
