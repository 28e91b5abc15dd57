"""Servers that a client starts and speaks with over their standard streams: direct, and behind `agentledger mcp-wrap`."""

import json
import os
import shutil
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor

import transcript
from gateway import BIN
from transports import CLIENTS, EVERYTHING, FILESYSTEM, KINDS, Ran, Stdio, facts, wraps

FILES = (["node", FILESYSTEM], ["files"], {})
# Each scenario starts its server anew, and one of Python's takes its time.
SOME = ["tools", "elicitation", "cancellation"]
MORE = [*SOME, "resources", "prompts", "progress", "sampling"]


def of(kind, scenarios):
    command = ["node", EVERYTHING] if kind == "everything" else KINDS[kind].command
    return [*command, "stdio"], scenarios, facts(KINDS[kind], kind)


SERVERS = {"filesystem": FILES, "everything": of("everything", MORE), "fast1": of("fast1", SOME), "two": of("two", SOME)}
# Each client with the server that speaks in no other way, and some with others.
PAIRS = [(who, "filesystem") for who in CLIENTS] + [("py1", "fast1"), ("py2", "two"), ("ts1", "everything")]


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


@unittest.skipUnless(wraps(), "this gateway has no mcp-wrap")
class Wrapped(Case):
    def test_a_wrapped_server_is_the_same(self):
        direct, wrapped = self.all(PAIRS), self.all(PAIRS, [BIN, "mcp-wrap", "--"])
        for pair in PAIRS:
            with self.subTest(pair=pair):
                self.assertEqual(transcript.told(direct[pair]), transcript.told(wrapped[pair]))
                self.assertEqual(wrapped[pair].near, wrapped[pair].far)


if __name__ == "__main__":
    unittest.main()
