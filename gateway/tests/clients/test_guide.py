"""The guide's page clients.md, as its reader follows it: each client is pointed here by the lines of its own section and nothing
else, and its call is an entry under the names that the section promises."""

import json
import os
import re
import subprocess
import sys
import unittest

import clients
import sdks
from gateway import Gateway
from upstream import Provider

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TESTS, "guide"))

from blocks import blocks  # noqa: E402

ROOT = os.path.abspath(os.path.join(TESTS, "../.."))
BLOCKS = [block for block in blocks(ROOT, "gateway/assets/guide/clients.md") if "test" in block.marks]
GUARD_SECS = 240
# What the other tests point the clients here by.
BASES = ("ANTHROPIC_BASE_URL", "GOOGLE_GEMINI_BASE_URL", "OPENAI_BASE_URL", "GEMINI_CLI_CUSTOM_HEADERS")
# Beside the key: a model that the scripted provider prices.
MODELS = {"ANTHROPIC_MODEL": clients.ClaudeCode.model, "GEMINI_MODEL": clients.GeminiCli.model}


def of(section, *languages):
    return [block.text for block in BLOCKS if block.heading == section and block.language in languages]


def merged(one, other):
    """Two JSON values as one, the second over the first."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return other
    return {name: merged(one.get(name, {}), other[name]) if name in other else one[name] for name in {**one, **other}}


class Guide(unittest.TestCase):
    def setUp(self):
        self.provider = Provider()
        self.addCleanup(self.provider.stop)
        gemini = {"extra": {"gemini": {"enabled": True, "upstream": self.provider.url}}}
        self.gateway = Gateway(self.provider.url, {"providers": gemini})
        self.addCleanup(self.gateway.remove)

    def here(self, text):
        self.assertNotIn("localhost:8787", text)
        return text.replace("http://127.0.0.1:8787", self.gateway.url)

    def client(self, kind):
        if kind not in clients.ALL:
            self.skipTest(f"there is no {kind.name} here")
        client = kind("http://127.0.0.1:9")  # nobody's: it must not be what counts
        self.addCleanup(client.remove)
        return client

    def put(self, client, path, text):
        with open(os.path.join(client.home, path), "w") as file:
            file.write(self.here(text))

    def follow(self, client, section, agent):
        """The section's commands, in one shell. Returns the entry of its call."""
        subprocess.run(["git", "init", "--quiet"], cwd=client.work, check=True)
        env = {name: value for name, value in client.environment().items() if name not in BASES}
        env |= {**MODELS, "PATH": f"{os.path.join(clients.NODE, '.bin')}:{env['PATH']}"}
        (commands,) = of(section, "sh")
        ran = subprocess.run(
            ["bash", "-ec", self.here(commands)],
            cwd=client.work,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=GUARD_SECS,
        )
        self.assertEqual(ran.returncode, 0, f"{ran.stdout}\n{ran.stderr}\n{self.gateway.log()}")
        return self.entry(agent, ran)

    def entry(self, agent, ran):
        entries = [entry for entry in self.gateway.entries(agent=agent) if any(entry["usage"].values())]
        self.assertTrue(entries, f"no call of {agent}: {self.gateway.entries()}\n{ran.stdout}\n{ran.stderr}")
        self.assertTrue(entries[0]["session"], entries[0])
        return entries[0]

    def test_claude_code(self):
        entry = self.follow(self.client(clients.ClaudeCode), "Claude Code", "claude-code")
        self.assertEqual((entry["user"], entry["tags"]["team"]), ("ann", "ml"))

    def codex(self, kind, nth):
        client = self.client(kind)
        config = f'model = "{client.model}"\ncheck_for_update_on_startup = false\nanalytics = {{ enabled = false }}\n'
        self.put(client, ".codex/config.toml", config + of("Codex", "toml")[nth])
        return self.follow(client, "Codex", "codex")

    def test_codex(self):
        self.codex(clients.CodexByUrl, 0)

    def test_codex_by_a_provider_of_ones_own(self):
        entry = self.codex(clients.Codex, 1)
        self.assertEqual((entry["user"], entry["tags"]["team"]), ("ann", "ml"))

    def test_gemini_cli(self):
        self.follow(self.client(clients.GeminiCli), "Gemini CLI", "gemini-cli")

    def test_opencode(self):
        client = self.client(clients.Opencode)
        (shown,) = of("opencode", "json")
        own = client.files()[".config/opencode/opencode.json"].replace(client.base, "http://127.0.0.1:8787")
        keys = {"provider": {"openai": {"options": {"apiKey": client.key}}}, "model": client.model}
        config = merged(merged(json.loads(own), keys), json.loads(shown))
        self.put(client, ".config/opencode/opencode.json", json.dumps(config))
        self.follow(client, "opencode", "opencode")

    def program(self, section, kind, language, command):
        """The section's program, as it stands."""
        if kind.bundle in clients.SKIPPED:
            self.skipTest(f"there are no {kind.bundle} here")
        (text,) = of(section, language)
        client = kind("http://127.0.0.1:9")
        self.addCleanup(client.remove)
        self.put(client, command[-1], text)
        env = {name: value for name, value in client.environment().items() if not name.endswith("_BASE_URL")}
        ran = subprocess.run(command, cwd=client.home, env=env, capture_output=True, text=True, timeout=GUARD_SECS)
        self.assertEqual(ran.returncode, 0, f"{ran.stdout}\n{ran.stderr}")
        agent, session = (re.search(rf'"{name}": "([^"]+)"', text)[1] for name in ("X-Agent-Id", "X-Agent-Session"))
        self.assertEqual(self.entry(agent, ran)["session"], session)
        return self.gateway.entries(agent=agent)

    def python(self, section, name, venv):
        if not os.path.exists(os.path.join(venv, "bin", "python")):
            self.skipTest(f"there is no {venv}: gateway/tests/clients/run matrix brings it")
        (kind,) = [kind for kind in sdks.OF_PYTHON + sdks.OVER_THEM if kind.name == name]
        return self.program(section, kind, "python", [os.path.join(venv, "bin", "python"), "program.py"])

    def test_openais_sdk(self):
        self.python("OpenAI's SDKs", "openai-py-chat", sdks.OFFICIAL)

    def test_anthropics_sdk(self):
        self.python("Anthropic's SDKs", "anthropic-py", sdks.OFFICIAL)

    def test_langchain(self):
        entries = self.python("LangChain", "langchain-chat", sdks.FRAMEWORKS)
        self.assertEqual({entry["provider"] for entry in entries}, {"openai", "anthropic"})

    def test_vercels_ai_sdk(self):
        (kind,) = [kind for kind in sdks.OVER_THEM if kind.name == "vercel-ai-chat"]
        entries = self.program("Vercel AI SDK", kind, "js", ["node", "program.mjs"])
        self.assertEqual({entry["provider"] for entry in entries}, {"openai", "anthropic"})

    def test_each_line_that_is_said_to_run_here_does(self):
        known = {"Claude Code", "Codex", "Gemini CLI", "opencode", "OpenAI's SDKs", "Anthropic's SDKs", "LangChain", "Vercel AI SDK"}
        self.assertEqual({block.heading for block in BLOCKS}, known)
