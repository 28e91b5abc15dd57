"""Servers that a client starts and speaks with over their standard streams: direct, and behind `agentledger mcp-wrap`."""

import os
import shutil
import tempfile
import unittest

import transcript
from gateway import BIN
from transports import CLIENTS, EVERYTHING, FILESYSTEM, KINDS, Stdio, facts, wraps

FILES = (["node", FILESYSTEM], ["files"], {})
# Here the server's own timers are not in the way: each client has a process of its own.
SOME = ["tools", "resources", "prompts", "progress", "sampling", "elicitation", "cancellation"]


def of(kind):
    command = ["node", EVERYTHING] if kind == "everything" else KINDS[kind].command
    return [*command, "stdio"], SOME, facts(KINDS[kind], kind)


SERVERS = {"filesystem": FILES, "everything": of("everything"), "fast1": of("fast1"), "two": of("two"), "fast4": of("fast4")}


class Case(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.folder = os.path.realpath(tempfile.mkdtemp(prefix="al-files-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def ran(self, who, server, before=()):
        command, scenarios, more = SERVERS[server]
        folder = [self.folder] if server == "filesystem" else []
        return Stdio([*command, *folder], before).run(who, scenarios, self.folder, more)


class Direct(Case):
    """What there is to compare with: a server that speaks over its standard streams alone."""

    def test_scenarios_end_well(self):
        for who in CLIENTS:
            with self.subTest(client=who):
                for scenario, said in self.ran(who, "filesystem").said.items():
                    self.assertNotIn("broke off", [what for what, _ in said], (scenario, said))


@unittest.skipUnless(wraps(), "this gateway has no mcp-wrap")
class Wrapped(Case):
    def test_a_wrapped_server_is_the_same(self):
        for who in CLIENTS:
            for server in SERVERS:
                with self.subTest(client=who, server=server):
                    direct, wrapped = self.ran(who, server), self.ran(who, server, [BIN, "mcp-wrap", "--"])
                    self.assertEqual(transcript.told(direct), transcript.told(wrapped))
                    self.assertEqual(wrapped.near, wrapped.far)


if __name__ == "__main__":
    unittest.main()
