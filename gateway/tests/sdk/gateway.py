"""The real gateway, `agentledger serve`, in a folder of its own on a free port of the loopback."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

BIN = os.environ["AGENTLEDGER_BIN"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Gateway:
    """`config` is merged over what every gateway here has; it is written as JSON, which is YAML too."""

    def __init__(self, upstream_url, config=None):
        # Short: the control socket lies in here, and its path may have about 100 bytes.
        self.dir = tempfile.mkdtemp(prefix="al-sdk-")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.file = os.path.join(self.dir, "agentledger.yaml")
        whole = {
            "listen": f"127.0.0.1:{self.port}",
            "providers": {"openai": {"upstream": upstream_url}, "anthropic": {"upstream": upstream_url}},
            "storage": {"driver": "sled", "dsn": os.path.join(self.dir, "ledger")},
            "log": {"level": "info"},
        }
        for section, value in (config or {}).items():
            if section == "providers":
                whole["providers"].update(value)
            else:
                whole[section] = value
        with open(self.file, "w") as out:
            json.dump(whole, out, indent=1)
        self._log = open(os.path.join(self.dir, "log"), "ab")
        try:
            self.start()
        except BaseException:
            self.remove()
            raise

    def start(self):
        """Starts it, again after it was stopped or killed."""
        self.process = subprocess.Popen(
            [BIN, "serve", "-c", self.file], cwd=self.dir, stdout=self._log, stderr=subprocess.STDOUT
        )
        self._wait_until_ready()

    def _wait_until_ready(self):
        until = time.monotonic() + 120
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise AssertionError(f"the gateway ended with {self.process.returncode}:\n{self.log()}")
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        raise AssertionError(f"the gateway is not ready:\n{self.log()}")

    def log(self):
        with open(os.path.join(self.dir, "log"), "rb") as log:
            return log.read().decode(errors="replace")

    def command(self, *args, ends=()):
        done = subprocess.run([BIN, *args, "-c", self.file, *ends], cwd=self.dir, capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise AssertionError(f"agentledger {' '.join(args)}: {done.returncode}: {done.stderr}{done.stdout}")
        return done.stdout

    def entries(self, **facts):
        """All entries settled so far that have these values."""
        lines = self.command("export", "--by", "entry", "-f", "jsonl").splitlines()
        entries = [json.loads(line) for line in lines]
        return [entry for entry in entries if all(entry[name] == value for name, value in facts.items())]

    def stop(self):
        """Stops it as an operator would; it must end well."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(120)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"SIGTERM did not stop the gateway:\n{self.log()}") from None
        if self.process.returncode != 0:
            raise AssertionError(f"the gateway ended with {self.process.returncode}:\n{self.log()}")

    def kill(self):
        """Ends it as a crash would."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def remove(self):
        self.kill()
        self._log.close()
        shutil.rmtree(self.dir, ignore_errors=True)
