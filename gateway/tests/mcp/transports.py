"""The ways from a client to a server. A scenario is run once on each way of a pair (`HttpDirect` and `HttpThrough`, `StdioDirect` and
`StdioWrapped`), and gives what the client saw and what passed."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field

from gateway import free_port
from tap import Tap

HERE = os.path.dirname(os.path.abspath(__file__))
NODE = os.environ["MCP_NODE"]  # the folder of node_modules
KEY = "sk-tools-0123456789abcdef"
# No client here needs a quarter of it: what reaches it hangs.
GUARD_SECS = 120
CLIENTS = ["py1", "py2", "ts1", "ts2"]
EVERYTHING = os.path.join(NODE, "@modelcontextprotocol", "server-everything", "dist", "index.js")
FILESYSTEM = os.path.join(NODE, "@modelcontextprotocol", "server-filesystem", "dist", "index.js")


def python(version):
    return [os.path.join(os.environ[f"MCP_PYTHON_{version}"], "bin", "python"), "-W", "ignore"]


@dataclass
class Kind:
    """A server. `command` gets a port, or `stdio`."""

    name: str
    command: list
    # Its path, and the transport that its clients speak.
    path: str = "/mcp"
    transport: str = "http"
    environment: dict = field(default_factory=dict)
    # What the scenarios need to know of it: see `clients/said.py`.
    facts: dict = field(default_factory=dict)

    def launch(self, port):
        told = [str(port)] if "{port}" not in self.environment.values() else []
        env = {**os.environ, **{name: value.format(port=port) for name, value in self.environment.items()}}
        return subprocess.Popen(
            [*self.command, *told], env=env, cwd=HERE, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )


def of_python(name, version):
    return [*python(version), os.path.join(HERE, "servers", f"{name}.py")]


WATCHED = "demo://watched/{run}"
OURS = {"item": "demo://item/7", "completes": ["args-prompt", "city"], "watched": WATCHED, "touch": ["touch", {"uri": WATCHED}]}
THEIRS = {
    "item": "demo://resource/dynamic/text/7",
    "completes": ["completable-prompt", "department"],
    "watched": "demo://resource/dynamic/text/1",
    "touch": ["toggle-subscriber-updates", {}],
    # It does not stop what is cancelled, and says nothing of it.
    "answers_cancelled": False,
}
KINDS = {
    kind.name: kind
    for kind in [
        Kind("everything", ["node", EVERYTHING, "streamableHttp"], environment={"PORT": "{port}"}, facts=THEIRS),
        Kind("everything-sse", ["node", EVERYTHING, "sse"], "/sse", "sse", {"PORT": "{port}"}, THEIRS),
        Kind("fast1", of_python("fast1", 1), facts={**OURS, "answers_cancelled": True}),
        Kind("two", of_python("two", 2), facts={**OURS, "answers_cancelled": True}),
        Kind("fast4", of_python("fast4", 2), facts={**OURS, "completes": None, "answers_cancelled": True}),
        Kind("conformant", of_python("conformant", 2)),
    ]
}


class Server:
    """One of a kind, on a free port of the loopback."""

    def __init__(self, kind):
        self.kind, self.port = KINDS[kind], free_port()
        self.process = self.kind.launch(self.port)

    def ready(self):
        until = time.monotonic() + 60
        while time.monotonic() < until:
            assert self.process.poll() is None, f"{self.kind.name} ended with {self.process.returncode}"
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=5).close()
                return self
            except urllib.error.HTTPError:
                return self  # any answer is one
            except OSError:
                time.sleep(0.05)
        raise AssertionError(f"{self.kind.name} is not ready")

    def stop(self):
        self.process.kill()
        self.process.wait()


@dataclass
class Ran:
    """What a client's code saw, by scenario, and what passed at either end."""

    said: dict
    # At the client, and at the server: one and the same where nothing is between.
    near: list
    far: list


def client(name, spec):
    """Runs a client; what it saw."""
    if name.startswith("py"):
        command = [*python(name[-1]), os.path.join(HERE, "clients", f"{name}.py")]
    else:
        command = ["node", "--no-warnings", "--import", os.path.join(HERE, "node.mjs"), os.path.join(HERE, "clients", f"{name}.mjs")]
    done = subprocess.run([*command, json.dumps(spec)], cwd=HERE, capture_output=True, text=True, timeout=GUARD_SECS)
    lines = [json.loads(line) for line in done.stdout.split("\n") if line.startswith("{")]
    said = {line["scenario"]: line["said"] for line in lines}
    assert done.returncode == 0 and list(said) == spec["scenarios"], f"{name}: {done.returncode}:\n{done.stdout}{done.stderr}"
    return said


def facts(kind, run):
    return json.loads(json.dumps(kind.facts).replace("{run}", run))


class HttpDirect:
    def __init__(self, name, server):
        self.name, self.server, self.tap = name, server, Tap()
        self.tap.target = server.port

    def run(self, who, scenarios):
        kind = self.server.kind
        spec = {"transport": kind.transport, "url": f"http://127.0.0.1:{self.tap.port}{kind.path}", "headers": {}}
        said = client(who, {**facts(kind, self.name), **spec, "scenarios": scenarios})
        passed = self.tap.exchanges()
        return Ran(said, passed, passed)


class HttpThrough:
    """`name` is what the gateway calls the server, and the task of each call begins with."""

    def __init__(self, name, server):
        self.name, self.server, self.near, self.far = name, server, Tap(), Tap()
        self.far.target = server.port

    def configured(self):
        kind = self.server.kind
        path = "" if kind.transport == "sse" else kind.path
        return {"upstream": f"http://127.0.0.1:{self.far.port}{path}"}

    def run(self, who, scenarios, gateway):
        self.near.target = gateway.port
        kind = self.server.kind
        path = kind.path if kind.transport == "sse" else ""
        spec = {
            "transport": kind.transport,
            "url": f"http://127.0.0.1:{self.near.port}/mcp/{self.name}{path}",
            "headers": {"X-AgentLedger-Key": KEY, "X-Agent-Task": self.name},
        }
        said = client(who, {**facts(kind, self.name), **spec, "scenarios": scenarios})
        return Ran(said, self.near.exchanges(), self.far.exchanges())


class Stdio:
    """A server that its client starts. `before` is what stands between them: a command that is given the server's."""

    def __init__(self, command, before=()):
        self.command, self.before = command, list(before)

    def run(self, who, scenarios, folder, more):
        kept = tempfile.mkdtemp(prefix="al-mcp-")
        for end in ("near", "far"):
            os.mkdir(os.path.join(kept, end))
        tap = [sys.executable, os.path.join(HERE, "tap.py")]
        far = [*tap, os.path.join(kept, "far"), "--", *self.command]
        whole = [*tap, os.path.join(kept, "near"), "--", *self.before, *far] if self.before else far
        spec = {**more, "transport": "stdio", "command": whole, "folder": folder, "env": {**os.environ}, "scenarios": scenarios, "headers": {}}
        try:
            said = client(who, spec)
            ends = [self._passed(os.path.join(kept, end)) for end in ("near" if self.before else "far", "far")]
            return Ran(said, *ends)
        finally:
            shutil.rmtree(kept)

    @staticmethod
    def _passed(folder):
        """What was asked and what was answered, in bytes."""
        passed = []
        for name in ("asked", "answered"):
            with open(os.path.join(folder, name), "rb") as file:
                passed.append(file.read())
        return passed
