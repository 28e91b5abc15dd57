"""Servers that a client starts and speaks with over their standard streams: direct, and behind `agentledger mcp-wrap`."""

import json
import os
import shutil
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor

import transcript
from gateway import BIN, Gateway
from transports import CLIENTS, EVERYTHING, FILESYSTEM, KINDS, Ran, Stdio, facts

FILES = (["node", FILESYSTEM], ["files"], {})
# Each scenario starts its server anew, and one of Python's takes its time.
SOME = ["tools", "elicitation", "cancellation"]
MORE = [*SOME, "resources", "prompts", "progress", "sampling", "subscription"]


def of(kind, scenarios):
    command = ["node", EVERYTHING] if kind == "everything" else KINDS[kind].command
    return [*command, "stdio"], scenarios, facts(KINDS[kind], kind)


SERVERS = {"filesystem": FILES, "everything": of("everything", MORE), "fast1": of("fast1", SOME), "two": of("two", MORE)}
# Each client with the server that speaks in no other way, and some with others.
PAIRS = [(who, "filesystem") for who in CLIENTS] + [
    ("py1", "fast1"),
    ("py1", "everything"),
    ("py2", "two"),
    ("ts1", "everything"),
    ("ts2", "everything"),
    ("ts2", "two"),
]


def goes_on(params):
    """Whether a call brings the input that it was asked for: it is the same spend."""
    return "inputResponses" in params or "requestState" in params


class Case(unittest.TestCase):
    maxDiff = None

    def ran(self, who, server, before=()):
        command, scenarios, more = SERVERS[server]
        folder = os.path.realpath(tempfile.mkdtemp(prefix="al-files-"))
        try:
            named = [*command, folder] if server == "filesystem" else command
            ran = Stdio(named, before).run(who, scenarios, folder, more)
            # Each run has a folder of its own.
            return Ran(json.loads(json.dumps(ran.said).replace(folder, "<folder>")), ran.near, ran.far)
        finally:
            shutil.rmtree(folder)

    def all(self, pairs, before=()):
        with ThreadPoolExecutor(4) as pool:
            return dict(zip(pairs, pool.map(lambda pair: self.ran(*pair, before), pairs), strict=True))


class Direct(Case):
    """What there is to compare with: a server that speaks over its standard streams alone."""

    def test_scenarios_end_well(self):
        for (who, _), ran in self.all([pair for pair in PAIRS if pair[1] == "filesystem"]).items():
            for scenario, said in ran.said.items():
                with self.subTest(client=who, scenario=scenario):
                    self.assertNotIn("broke off", [what for what, _ in said], said)


class Wrapped(Case):
    def test_a_wrapped_server_is_the_same(self):
        gateway = Gateway("http://127.0.0.1:9", {"mcp": {"pricing": [{"server": "wrapped", "cost_per_call": 0.001}]}})
        self.addCleanup(gateway.remove)
        wrap = [BIN, "mcp-wrap", "-c", gateway.file, "--server", "wrapped", "--"]
        direct, wrapped = self.all(PAIRS), self.all(PAIRS, wrap)
        for pair in PAIRS:
            with self.subTest(pair=pair):
                self.assertEqual(transcript.told(direct[pair]), transcript.told(wrapped[pair]))
                self.assertEqual(wrapped[pair].near, wrapped[pair].far)
        asked = b"".join(wrapped[pair].far[0] for pair in PAIRS)
        messages = [json.loads(line) for line in asked.splitlines() if line]
        begun = [one for one in messages if one.get("method") == "tools/call" and not goes_on(one["params"])]
        calls = len(begun)
        entries = gateway.entries(provider="mcp")
        self.assertGreater(calls, 10)
        self.assertEqual(len(entries), calls, "each call is in the books, once")
        self.assertEqual({entry["tags"]["server"] for entry in entries}, {"wrapped"})
        gateway.stop()


if __name__ == "__main__":
    unittest.main()
