"""A reader's machine: a home, a folder that they work in, the binary on the path, and what goes on there."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

from blocks import blocks
from stages import TOKEN

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../.."))
GUIDE = "gateway/assets/guide"
GUARD_SECS = 120


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Home:
    """A reader's machine."""

    def __init__(self, binary, upstream):
        # Short: the control socket lies in here, and its path may have about 100 bytes.
        self.dir = tempfile.mkdtemp(prefix="alg-")
        self.work = self.path_of("work")
        self.upstream, self.port, self.following, self.serving = upstream, free_port(), [], None
        for name in ("home", "work", "run", "bin"):
            os.mkdir(self.path_of(name))
        os.symlink(binary, self.path_of("bin/agentledger"))
        # A refusal is a failure, whatever curl makes of it.
        with open(self.path_of("home/.curlrc"), "w") as file:
            file.write("fail-with-body\n")
        self.state = self.path_of("state")
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        own = os.environ["HOME"]
        self.env = {
            **kept,
            "PATH": f"{self.path_of('bin')}:{kept['PATH']}",
            "HOME": self.path_of("home"),
            # rustup's, which `./task start` asks for.
            "RUSTUP_HOME": os.environ.get("RUSTUP_HOME", f"{own}/.rustup"),
            "CARGO_HOME": os.environ.get("CARGO_HOME", f"{own}/.cargo"),
            "AGENTLEDGER_RUNTIME_DIR": self.path_of("run"),
            "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", f"{own}/.cache"),
            "AGENTLEDGER_PROVIDERS_OPENAI_UPSTREAM": upstream,
            "AGENTLEDGER_PROVIDERS_ANTHROPIC_UPSTREAM": upstream,
            "OPENAI_API_KEY": "sk-guide-0123456789",
            "ANTHROPIC_API_KEY": "sk-ant-guide-0123456789",
            "AGENTLEDGER_TOKEN": TOKEN,
            "TOKEN": TOKEN,
        }

    def path_of(self, name):
        return os.path.join(self.dir, name)

    def path(self, name):
        return os.path.join(self.work, name)

    def write(self, name, text):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(self.here(text))

    def copy(self, source, name):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        shutil.copy(os.path.join(ROOT, source), self.path(name))

    def block(self, page, language, nth):
        found = [block.text for block in blocks(ROOT, f"{GUIDE}/{page}") if block.language == language]
        return found[nth]

    def here(self, text):
        """The gateway's address is the one that is free here."""
        return re.sub(r"(127\.0\.0\.1|localhost):8787", rf"\1:{self.port}", text)

    def run(self, command):
        """One command after the others of its page, which leave it their variables."""
        script = f"[ ! -f {self.state} ] || . {self.state}\n{command}\ncode=$?\nexport -p >{self.state}\nexit $code\n"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.work,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=GUARD_SECS,
        )
        return done.returncode, done.stdout

    def print(self, command):
        code, said = self.run(command)
        assert code == 0, f"{command}: {code}\n{said}"
        return said

    def follow(self, command):
        """One that goes on: its process, and where it writes."""
        path = self.path_of(f"followed-{len(self.following)}")
        with open(path, "wb") as out:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self.work,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.following.append((command, process, path))
        return process, path

    def serve(self, command="agentledger serve"):
        self.serving = self.follow(command)
        process, path = self.serving
        until = time.monotonic() + GUARD_SECS
        while time.monotonic() < until and process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.05)
        raise AssertionError(f"{command} is not ready: {process.poll()}\n{read(path)}")

    def tail(self, command):
        """Follows what is settled, and returns once it does: calls of an agent `probe` show that."""
        _, path = self.follow(command)
        self.shown(path, r"\bprobe\b", lambda: self.call("probe", "gpt-4o", "/v1/chat/completions", {}))
        return path

    def shown(self, path, pattern, meanwhile=lambda: None):
        """Waits until a line fits."""
        until = time.monotonic() + GUARD_SECS
        while not re.search(pattern, read(path), re.M):
            assert time.monotonic() < until, f"nothing there fits {pattern}:\n{read(path)[-500:]}"
            meanwhile()
            time.sleep(0.1)

    def call(self, agent, model, path, body):
        """A call of before, as an agent makes it."""
        headers = {"Authorization": f"Bearer {self.env['OPENAI_API_KEY']}", "Content-Type": "application/json"}
        headers |= {"X-Agent-Id": agent, "X-Agent-Session": f"{agent}-1", "X-Agent-Tags": "team=ml"}
        asked = {"model": model, "messages": [{"role": "user", "content": "Hello?"}], **body}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", json.dumps(asked).encode(), headers)
        urllib.request.urlopen(request, timeout=GUARD_SECS).read()

    def stop(self):
        """Ends what goes on, as Ctrl-C does."""
        for _, process, _ in reversed(self.following):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        self.following = []

    def remove(self):
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)


def read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
