"""The official `openai` SDK with images, speech and recordings: forms go out as they came, and each unit has its price."""

import io
import json
import urllib.error
import urllib.request
from decimal import Decimal

from case import OPENAI_KEY, Case
from money import usd
from scripted import Answer, stream, whole
from shapes_openai import CREATED, data

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
MP3 = b"\xff\xfb\x90\x00" + bytes(40_000)


def images(count, usage=None):
    body = {"created": CREATED, "data": [{"b64_json": "aGk="} for _ in range(count)]}
    return whole({**body, "usage": usage} if usage else body)


class Images(Case):
    def test_generation_bills_its_tokens(self):
        details = {"text_tokens": 10, "image_tokens": 0}
        counts = {"total_tokens": 1066, "input_tokens": 10, "output_tokens": 1056, "input_tokens_details": details}
        answer = images(1, counts)
        self.upstream.on("/v1/images/generations", answer)
        said = self.openai().images.generate(
            model="gpt-image-1", prompt="an otter", size="1024x1024", quality="medium"
        )
        self.assertEqual(said.usage.output_tokens, 1056)
        self.assert_untouched(answer)
        self.assert_entry(
            {"input": 10, "image_output": 1056},
            usd((10, "5"), (1056, "40")),
            operation="images.generations",
            requested_model="gpt-image-1",
        )

    def test_edit_is_a_form(self):
        details = {"text_tokens": 7, "image_tokens": 323}
        counts = {"total_tokens": 602, "input_tokens": 330, "output_tokens": 272, "input_tokens_details": details}
        answer = images(1, counts)
        self.upstream.on("/v1/images/edits", answer)
        picture = io.BytesIO(PNG)
        picture.name = "otter.png"
        self.openai().images.edit(
            model="gpt-image-1", image=[picture], prompt="a hat", size="1024x1024", quality="low", n=1
        )
        self.assert_untouched(answer)
        asked = self.assert_asked("/v1/images/edits")
        self.assertIn(PNG, asked.body)
        cost = usd((7, "5"), (323, "10"), (272, "40"))
        self.assert_entry({"input": 7, "image_input": 323, "image_output": 272}, cost, operation="images.edits")

    def test_dall_e_bills_images(self):
        answer = images(2)
        self.upstream.on("/v1/images/generations", answer)
        self.openai().images.generate(model="dall-e-3", prompt="an otter", size="1024x1024", n=2)
        self.assert_entry({"image": 2}, Decimal("0.08"))


class Speech(Case):
    PATH = "/v1/audio/speech"

    def test_characters(self):
        answer = Answer(200, {"Content-Type": "audio/mpeg"}, [MP3])
        self.upstream.on(self.PATH, answer)
        text = "Grüße, 世界!"
        said = self.openai().audio.speech.create(model="tts-1", voice="alloy", input=text)
        self.assertEqual(said.content, MP3)
        self.assert_entry({"character": len(text)}, usd((len(text), "15")), operation="audio.speech")

    def test_events_report_tokens(self):
        counts = {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}
        frames = [
            data({"type": "speech.audio.delta", "audio": "AAAA"}),
            data({"type": "speech.audio.done", "usage": counts}),
        ]
        self.upstream.on(self.PATH, stream(frames))
        client = self.openai().audio.speech.with_streaming_response
        asked = client.create(model="gpt-4o-mini-tts", voice="alloy", input="hello", stream_format="sse")
        with asked as said:
            self.assertEqual(b"".join(said.iter_bytes()), b"".join(frames))
        self.assert_entry({"input": 14, "audio_output": 101}, usd((14, "0.6"), (101, "12")), stream=True)


class Recordings(Case):
    PATH = "/v1/audio/transcriptions"

    def test_tokens(self):
        counts = {
            "type": "tokens",
            "input_tokens": 114,
            "input_token_details": {"text_tokens": 14, "audio_tokens": 100},
            "output_tokens": 20,
            "total_tokens": 134,
        }
        answer = whole({"text": "hello", "usage": counts})
        self.upstream.on(self.PATH, answer)
        said = self.openai().audio.transcriptions.create(model="gpt-4o-transcribe", file=("a.mp3", MP3))
        self.assertEqual(said.text, "hello")
        self.assert_untouched(answer)
        self.assertIn(MP3, self.assert_asked(self.PATH).body)
        cost = usd((14, "2.5"), (100, "6"), (20, "10"))
        self.assert_entry({"input": 14, "audio_input": 100, "output": 20}, cost, operation="audio.transcriptions")

    def test_seconds(self):
        self.upstream.on(self.PATH, whole({"text": "hello", "usage": {"type": "duration", "seconds": 9}}))
        self.openai().audio.transcriptions.create(model="whisper-1", file=("a.mp3", MP3))
        self.assert_entry({"second": 9}, Decimal("0.0009"))

    def test_stream(self):
        counts = {
            "type": "tokens",
            "input_tokens": 50,
            "input_token_details": {"text_tokens": 0, "audio_tokens": 50},
            "output_tokens": 3,
            "total_tokens": 53,
        }
        frames = [
            data({"type": "transcript.text.delta", "delta": "hel"}),
            data({"type": "transcript.text.delta", "delta": "lo"}),
            data({"type": "transcript.text.done", "text": "hello", "usage": counts}),
        ]
        self.upstream.on(self.PATH, stream(frames))
        events = self.openai().audio.transcriptions.create(
            model="gpt-4o-mini-transcribe", file=("a.mp3", MP3), stream=True
        )
        self.assertEqual([event.type for event in events][-1], "transcript.text.done")
        self.assert_entry({"audio_input": 50, "output": 3}, usd((50, "3"), (3, "5")), stream=True)

    def test_a_form_without_its_boundary_is_refused_by_name(self):
        headers = {"Content-Type": "multipart/form-data", "Authorization": f"Bearer {OPENAI_KEY}"}
        request = urllib.request.Request(f"{self.gateway.url}{self.PATH}", b"--x\r\n", headers)
        with self.assertRaises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(request)
        with raised.exception as refusal:
            self.assertEqual(refusal.code, 400)
            self.assertEqual(json.load(refusal)["error"]["code"], "missing_boundary")
        self.assertEqual(self.upstream.asked, [])
        self.assertEqual(self.entries(), [])
