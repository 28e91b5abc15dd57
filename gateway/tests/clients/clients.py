"""The real clients: how each is pointed at a base URL and run without a terminal, in a home of its own."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass

NODE = os.environ["CLIENTS_NODE"]  # the folder of node_modules
AIDER = os.environ["CLIENTS_AIDER"]  # the venv
# No client here needs half as long: what reaches it hangs.
GUARD_SECS = 240


@dataclass
class Ran:
    """What a user has in the end."""

    code: int
    seconds: float
    out: str
    err: str


class Client:
    """A client with its own home and folder of work, so that `again` goes on where `run` ended."""

    name = ""
    model = ""
    key = "sk-client-0123456789"

    # Whether its requests say by themselves which session they are of.
    says_session = True
    # Whether it runs tools, and so calls more than once a run.
    has_tools = True

    def __init__(self, base, key=None, model=None, session=None):
        """`session` is one that its user gives it, where it says none."""
        self.base, self.key, self.model = base, key or self.key, model or self.model
        self.session = None if self.says_session else session
        self.home = tempfile.mkdtemp(prefix=f"al-{self.name}-")
        self.work = os.path.join(self.home, "work")
        os.mkdir(self.work)
        self.process = None
        for path, text in self.files().items():
            whole = os.path.join(self.home, path)
            os.makedirs(os.path.dirname(whole), exist_ok=True)
            with open(whole, "w") as file:
                file.write(text)

    def files(self):
        return {}

    def settings(self):
        """The environment that points the client here and keeps it from calling elsewhere."""
        return {}

    def command(self, prompt, again):
        raise NotImplementedError

    def environment(self):
        # Nothing of whoever runs this: not its keys, not its proxies.
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        terminal = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "NO_COLOR": "1"}
        return {**kept, **terminal, "HOME": self.home, "CI": "1", "TZ": "UTC", **self.settings()}

    def start(self, prompt, again=False):
        self.begun = time.monotonic()
        self.process = subprocess.Popen(
            self.command(prompt, again),
            cwd=self.work,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            # A group of its own: what the client starts ends with it.
            start_new_session=True,
        )
        return self

    def end(self, guard=GUARD_SECS):
        try:
            out, err = self.process.communicate(timeout=guard)
            code = self.process.returncode
        except subprocess.TimeoutExpired:
            self.stop()
            out, err = self.process.communicate()
            code = None
        return Ran(code, time.monotonic() - self.begun, out, err)

    def run(self, prompt, again=False, guard=GUARD_SECS):
        return self.start(prompt, again).end(guard)

    def stop(self):
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)

    def remove(self):
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)


def of_node(name):
    return os.path.join(NODE, ".bin", name)


class ClaudeCode(Client):
    name = "claude-code"
    model = "claude-haiku-4-5"

    def settings(self):
        # Without a base it finds its way by its own settings.
        base = {"ANTHROPIC_BASE_URL": self.base} if self.base else {}
        return {
            **base,
            "ANTHROPIC_API_KEY": self.key,
            "ANTHROPIC_DEFAULT_HAIKU_MODEL": self.model,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_TELEMETRY": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "DISABLE_AUTOUPDATER": "1",
        }

    def command(self, prompt, again):
        more = ["--continue"] if again else []
        return [of_node("claude"), "-p", *more, "--model", self.model, "--allowedTools", "Bash,Agent,Task", "--", prompt]


class Codex(Client):
    """As the README has it: a provider of its own."""

    name = "codex"
    model = "gpt-6.1-terra"

    provider = """
model_provider = "agentledger"
[model_providers.agentledger]
name = "AgentLedger"
base_url = "{base}/v1"
env_key = "OPENAI_API_KEY"
wire_api = "responses"
"""

    def files(self):
        config = f'model = "{self.model}"\ncheck_for_update_on_startup = false\nanalytics = {{ enabled = false }}\n'
        return {".codex/config.toml": config + self.provider.format(base=self.base)}

    def settings(self):
        return {"OPENAI_API_KEY": self.key}

    def command(self, prompt, again):
        flags = ["--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
        resume = ["resume", "--last"] if again else []
        return [of_node("codex"), "exec", *flags, *resume, prompt]


class CodexByUrl(Codex):
    """As `agentledger setup codex` has it: its own provider at another address, which it first calls by WebSocket."""

    name = "codex-by-url"
    provider = 'openai_base_url = "{base}/v1"\n'

    def files(self):
        return {**super().files(), ".codex/auth.json": json.dumps({"OPENAI_API_KEY": self.key})}


class GeminiCli(Client):
    name = "gemini-cli"
    model = "gemini-2.5-flash"
    says_session = False

    def files(self):
        settings = {
            "security": {"auth": {"selectedType": "gemini-api-key"}},
            "general": {"enableAutoUpdate": False, "enableAutoUpdateNotification": False},
            "privacy": {"usageStatisticsEnabled": False},
            "telemetry": {"enabled": False},
        }
        return {".gemini/settings.json": json.dumps(settings)}

    def settings(self):
        more = {"GEMINI_CLI_CUSTOM_HEADERS": f"X-Agent-Session: {self.session}"} if self.session else {}
        return {"GOOGLE_GEMINI_BASE_URL": f"{self.base}/gemini", "GEMINI_API_KEY": self.key, **more}

    def command(self, prompt, again):
        more = ["--resume", "latest"] if again else []
        return [of_node("gemini"), "-m", self.model, "--approval-mode", "yolo", "--skip-trust", *more, "-p", prompt]


class Opencode(Client):
    name = "opencode"
    model = "anthropic/claude-haiku-4-5"

    def files(self):
        config = {
            "$schema": "https://opencode.ai/config.json",
            "autoupdate": False,
            "share": "disabled",
            "small_model": self.model,
            "provider": {self.model.split("/")[0]: {"options": {"baseURL": f"{self.base}/v1", "apiKey": self.key}}},
        }
        return {".config/opencode/opencode.json": json.dumps(config)}

    def settings(self):
        return {
            "OPENCODE_DISABLE_AUTOUPDATE": "1",
            "OPENCODE_DISABLE_MODELS_FETCH": "1",
            "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
            "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
            # It fetches its plugin interface from npm for whoever may write plugins.
            "npm_config_offline": "true",
        }

    def command(self, prompt, again):
        more = ["--continue"] if again else []
        return [of_node("opencode"), "run", "--auto", *more, "-m", self.model, prompt]


class Aider(Client):
    name = "aider"
    model = "openai/gpt-4o-mini"
    says_session = False
    has_tools = False

    def files(self):
        # The first is younger than a day, and so not fetched.
        files = {".aider/caches/model_prices_and_context_window.json": json.dumps({"sample_spec": {}})}
        if self.session:
            params = {"extra_headers": {"X-Agent-Session": self.session}}
            files[".aider.model.settings.yml"] = json.dumps([{"name": self.model, "extra_params": params}])
        return files

    def settings(self):
        named = "ANTHROPIC" if self.model.startswith("anthropic/") else "OPENAI"
        base = self.base if named == "ANTHROPIC" else f"{self.base}/v1"
        # So wide that it breaks no line.
        local = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "COLUMNS": "2000"}
        return {f"{named}_API_BASE": base, f"{named}_API_KEY": self.key, **local}

    def command(self, prompt, again):
        flags = ["--yes-always", "--no-git", "--no-check-update", "--analytics-disable", "--no-show-model-warnings"]
        flags += ["--no-pretty", "--no-show-release-notes", "--no-detect-urls", "--map-tokens", "0"]
        more = ["--restore-chat-history"] if again else []
        return [os.path.join(AIDER, "bin", "aider"), *flags, *more, "--model", self.model, "--message", prompt]


SKIPPED = os.environ.get("CLIENTS_SKIPPED", "").split()
ALL = [kind for kind in (ClaudeCode, Codex, CodexByUrl, GeminiCli, Opencode, Aider) if kind.name not in SKIPPED]
