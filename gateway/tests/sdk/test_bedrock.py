"""AWS's own SDK, boto3, through the gateway: with a bearer key, with the gateway's credentials in place of its own, and what
it makes of a cut and of a refusal."""

import os
import threading
from decimal import Decimal
from unittest import mock

import boto3
import shapes_aws
from botocore import UNSIGNED
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError, EventStreamError
from case import Case
from gateway import Gateway
from money import usd
from scripted import Upstream, whole

# In no price book: the section below says its price.
MODEL = "us.maker.model-of-the-tests-v1:0"
QUOTED = MODEL.replace(":", "%3A")
CONVERSE = f"/model/{QUOTED}/converse"
STREAM = f"/model/{QUOTED}/converse-stream"
ASK = [{"role": "user", "content": [{"text": "Name three rivers."}]}]
BEARER = "ABSKQmVkcm9ja0FQSUtleS1vZi10aGUtdGVzdHM="
ALIEN = {"aws_access_key_id": "AKIACLIENTCLIENT", "aws_secret_access_key": "the-clients-own-secret"}
OURS = Credentials("AKIAGATEWAYGATEWAY", "the-gateways-own-secret", "the-gateways-session")
TEXT = "once upon a time there was a ledger that was never lost and never rotted unseen; " * 12


class Aws(Case):
    SECTION = {}

    @classmethod
    def setUpClass(cls):
        cls.upstream = Upstream()
        cls.addClassCleanup(cls.upstream.stop)
        section = {
            "enabled": True,
            "upstream": cls.upstream.url,
            "default_price": {"input": 3, "output": 15},
            **cls.SECTION,
        }
        cls.gateway = Gateway(cls.upstream.url, {**cls.CONFIG, "providers": {"extra": {"bedrock": section}}})
        cls.addClassCleanup(cls.gateway.remove)

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        log = cls.gateway.log()
        for secret in (BEARER, "the-clients-own-secret", OURS.secret_key, OURS.token):
            assert secret not in log, log

    def client(self, bearer=None, **credentials):
        """boto3 takes AWS_BEARER_TOKEN_BEDROCK for HTTPS alone; on this plain port the key is put where it would put it."""
        retries = {"mode": "standard", "total_max_attempts": 3}
        more = {"signature_version": UNSIGNED} if bearer else {}
        clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        patch = mock.patch.dict(os.environ, {**clean, "AWS_EC2_METADATA_DISABLED": "true"}, clear=True)
        patch.start()
        self.addCleanup(patch.stop)
        client = boto3.session.Session().client(
            "bedrock-runtime",
            region_name="us-east-1",
            endpoint_url=f"{self.gateway.url}/bedrock",
            config=Config(retries=retries, read_timeout=60, **more),
            **credentials,
        )
        self.addCleanup(client.close)
        headers = {**self.agent(), **({"Authorization": f"Bearer {bearer}"} if bearer else {})}
        # Before it signs, so that its own signature covers them.
        client.meta.events.register("before-call.*", lambda params, **_: params["headers"].update(headers))
        return client


class Bearer(Aws):
    def test_converse(self):
        self.upstream.on(CONVERSE, whole(shapes_aws.converse("Rhine, Elbe, Oder.", inputTokens=12, outputTokens=9)))
        answer = self.client(BEARER).converse(modelId=MODEL, messages=ASK, inferenceConfig={"maxTokens": 100})
        self.assertEqual(answer["output"]["message"]["content"][0]["text"], "Rhine, Elbe, Oder.")
        self.assertEqual(answer["usage"], {"inputTokens": 12, "outputTokens": 9, "totalTokens": 21})
        asked = self.upstream.asked[0]
        got = {name.lower(): value for name, value in asked.headers.items()}
        self.assertEqual((asked.path, got["authorization"]), (CONVERSE, f"Bearer {BEARER}"))
        entry = self.assert_entry({"input": 12, "output": 9}, usd((12, 3), (9, 15)), provider="bedrock", model=MODEL)
        self.assertEqual((entry["operation"], entry["stream"]), ("converse", False))

    def test_converse_stream(self):
        frames = [shapes_aws.START, shapes_aws.text("Rhine, "), shapes_aws.text("Elbe."), shapes_aws.STOP]
        frames.append(shapes_aws.metadata(inputTokens=12, outputTokens=7))
        self.upstream.on(STREAM, shapes_aws.stream(frames))
        answer = self.client(BEARER).converse_stream(modelId=MODEL, messages=ASK)
        events = list(answer["stream"])
        deltas = [event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event]
        self.assertEqual(deltas, ["Rhine, ", "Elbe."])
        self.assertEqual(events[-1]["metadata"]["usage"]["totalTokens"], 19)
        self.assert_entry({"input": 12, "output": 7}, usd((12, 3), (7, 15)), stream=True)

    def test_invoke_model_counts_from_headers(self):
        counts = {"X_Amzn_Bedrock_Input_Token_Count": "10", "X_Amzn_Bedrock_Output_Token_Count": "5"}
        self.upstream.on(f"/model/{QUOTED}/invoke", whole({"outputs": [{"text": "Hi."}]}, **counts))
        answer = self.client(BEARER).invoke_model(modelId=MODEL, body=b'{"prompt": "Hi.", "max_tokens": 20}')
        self.assertIn(b"Hi.", answer["body"].read())
        self.assert_entry({"input": 10, "output": 5}, usd((10, 3), (5, 15)), operation="invoke")

    def test_a_stream_that_breaks_off_is_raised(self):
        self.upstream.on(STREAM, shapes_aws.stream([shapes_aws.START, shapes_aws.text("Rhi")], breaks_off=True))
        answer = self.client(BEARER).converse_stream(modelId=MODEL, messages=ASK)
        self.addCleanup(answer["stream"].close)
        with self.assertRaises(EventStreamError) as raised:
            list(answer["stream"])
        self.assertEqual(raised.exception.response["Error"]["Code"], "modelStreamErrorException")
        self.assertEqual(self.entries()[0]["outcome"], "upstream_failed")

    def test_its_own_signature_is_refused_with_a_hint(self):
        with self.assertRaises(ClientError) as raised:
            self.client(**ALIEN).converse(modelId=MODEL, messages=ASK)
        error = raised.exception.response["Error"]
        self.assertEqual(error["Code"], "AccessDeniedException")
        self.assertIn("AWS_BEARER_TOKEN_BEDROCK", error["Message"])
        self.assertEqual((self.upstream.asked, self.entries()), ([], []))


class Cuts(Aws):
    CONFIG = {
        "hold": {"size": "expected"},
        "budgets": {"default": {"daily_limit_usd": 0.02, "action": "block"}},
    }

    def test_a_cut_is_raised_and_the_next_is_refused_once(self):
        after = threading.Event()
        self.addCleanup(after.set)
        frames = [shapes_aws.text(TEXT)] * 100
        answer = shapes_aws.stream([shapes_aws.START, *frames, after, *frames * 20])
        self.upstream.on(STREAM, answer)
        client = self.client(BEARER)
        passed = 0
        events = client.converse_stream(modelId=MODEL, messages=ASK)["stream"]
        self.addCleanup(events.close)
        with self.assertRaises(EventStreamError) as raised:
            for event in events:
                passed += "contentBlockDelta" in event
        error = raised.exception.response["Error"]
        self.assertEqual(error["Code"], "validationException")
        self.assertIn("budget", error["Message"])
        self.assertGreater(passed, 3)
        after.set()
        self.assertTrue(answer.cancelled.wait(60), "the upstream's answer was not cancelled")
        entry = self.entries()[0]
        self.assertEqual((entry["outcome"], entry["estimate_reason"]), ("cut", "cut"))
        self.assertLessEqual(Decimal(entry["cost_usd"]) - Decimal(entry["overage_usd"]), Decimal("0.02"))

        with self.assertRaises(ClientError) as raised:
            client.converse(modelId=MODEL, messages=ASK)
        answer = raised.exception.response
        self.assertEqual(answer["Error"]["Code"], "AccessDeniedException")
        self.assertEqual(answer["ResponseMetadata"]["HTTPStatusCode"], 429)
        self.assertEqual(answer["ResponseMetadata"]["RetryAttempts"], 0, "a budget is not tried again")


class Signing(Aws):
    SECTION = {
        "region": "eu-central-1",
        "access_key_id": OURS.access_key,
        "secret_access_key": OURS.secret_key,
        "session_token": OURS.token,
    }

    def signature(self, asked):
        """What botocore itself makes of the request that the upstream got, under the gateway's credentials."""
        got = {name.lower(): value for name, value in asked.headers.items()}
        names = got["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
        url = f"http://{got['host']}{asked.path}"
        request = AWSRequest(asked.method, url, {name: got[name] for name in names}, asked.body)
        request.context["timestamp"] = got["x-amz-date"]
        auth = SigV4Auth(OURS, "bedrock", "eu-central-1")
        auth.timestamp = got["x-amz-date"]
        return auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)

    def test_the_gateway_signs_in_its_place(self):
        self.upstream.on(CONVERSE, whole(shapes_aws.converse("Rhine.", inputTokens=12, outputTokens=2)))
        self.client(**ALIEN).converse(modelId=MODEL, messages=ASK)
        asked = self.upstream.asked[0]
        got = {name.lower(): value for name, value in asked.headers.items()}
        self.assertIn(f"Credential={OURS.access_key}/", got["authorization"])
        self.assertEqual(got["authorization"].rsplit("Signature=", 1)[1], self.signature(asked))
        self.assertEqual(got["x-amz-security-token"], OURS.token)
        entry = self.assert_entry({"input": 12, "output": 2}, usd((12, 3), (2, 15)))
        self.assertNotEqual(entry["key"], "")
