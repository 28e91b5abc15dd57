"""Servers that a client starts and speaks with over their standard streams: direct, and behind `agentledger mcp-wrap`."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import unittest
from concurrent.futures import ThreadPoolExecutor

import transcript
from gateway import BIN, Gateway
from transports import CLIENTS, EVERYTHING, FILESYSTEM, KINDS, Ran, Stdio, facts

FILES = (["node", FILESYSTEM], ["files"], {})
# Each scenario starts its server anew, and one of Python's takes its time.
SOME = ["tools", "elicitation", "cancellation"]
MORE = [*SOME, "resources", "prompts", "progress", "sampling"]
# Over its standard streams server-everything tells of no change, direct either.
ALL = [*MORE, "subscription"]


def of(kind, scenarios):
    command = ["node", EVERYTHING] if kind == "everything" else KINDS[kind].command
    return [*command, "stdio"], scenarios, facts(KINDS[kind], kind)


SERVERS = {"filesystem": FILES, "everything": of("everything", MORE), "fast1": of("fast1", ALL), "two": of("two", ALL), "fast4": of("fast4", MORE)}
# Each client with the server that speaks in no other way, and some with others. server-everything goes on speaking of what is cancelled,
# also when its client has left: one client of it is enough.
PAIRS = [(who, "filesystem") for who in CLIENTS] + [
    ("py1", "fast1"),
    ("py2", "two"),
    ("py2", "fast4"),
    ("ts1", "everything"),
    ("ts2", "two"),
    ("ts2", "fast4"),
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


# Says how many interrupts it got, half a second after the first one.
COUNTS = """
import signal, sys, time
seen = []
signal.signal(signal.SIGINT, lambda *_: seen.append(1))
print("ready", flush=True)
while not seen:
    time.sleep(0.01)
time.sleep(0.5)
print(len(seen), flush=True)
"""


class Signals(unittest.TestCase):
    def wrapped(self, **more):
        folder = tempfile.mkdtemp(prefix="al-signals-")
        self.addCleanup(shutil.rmtree, folder)
        command = [BIN, "mcp-wrap", "--server", "counts", "--offline", "pass", "--", sys.executable, "-c", COUNTS]
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **more)
        self.addCleanup(process.stdin.close)
        self.assertEqual(process.stdout.readline(), "ready\n")
        return process

    def interrupts(self, process):
        said = process.stdout.read()
        self.assertEqual(process.wait(), 0)
        return int(said)

    def test_an_interrupt_of_the_wrapper_alone_reaches_its_server(self):
        process = self.wrapped(start_new_session=True)
        process.send_signal(signal.SIGINT)
        self.assertEqual(self.interrupts(process), 1)

    def test_one_control_c_at_a_terminal_is_one_interrupt_for_the_server(self):
        ours, theirs = os.openpty()
        self.addCleanup(os.close, ours)

        def at_terminal():
            os.setsid()
            fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

        process = self.wrapped(preexec_fn=at_terminal, pass_fds=(theirs,))
        os.close(theirs)
        os.write(ours, b"\x03")
        self.assertEqual(self.interrupts(process), 1)


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
