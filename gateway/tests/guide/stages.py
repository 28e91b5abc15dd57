"""What the commands of a page find where they are run: a configuration, files, calls of before. And what stands in them for something
that only the reader has: an id, a version's hash."""

import json
import os
import shutil
import sqlite3
import time

CONFIG = """\
listen: "127.0.0.1:8787"
storage: { dsn: data/agentledger }
budgets: { default: { daily_limit_usd: 10, action: block } }
admin: { enabled: true, token: %s }
"""
TOKEN = "guide-token-0123456789"


class Stage:
    """Of most pages: a gateway with a few calls, and nothing else."""

    config = CONFIG % TOKEN
    # Begins of commands that are to fail, and how.
    fails = {}

    def prepare(self, home):
        """Before the gateway starts."""

    def served(self, home):
        """With the gateway, and calls that it has."""

    def command(self, home, command):
        """A command as it is run."""
        return command


class Rules(Stage):
    config = CONFIG % TOKEN + 'policies: { conf: { budget: { limits: [{ account: "tag:team=ml", window: month, limit: 300 }] } } }\n'

    def command(self, home, command):
        if "CHANGE" in command:
            changes = json.loads(home.print("agentledger audit --last 1d --json"))["changes"]
            change = next(change["id"] for change in changes if change["action"] == "rule.put")
            command = command.replace("CHANGE", change)
        return command


class Replay(Stage):
    config = CONFIG % TOKEN

    def prepare(self, home):
        home.copy("policies/budget.lua", "policies/budget.lua")
        home.write("other.yaml", 'budgets: { default: { daily_limit_usd: 1, action: block } }\n')
        home.write("new-prices.yaml", home.block("prices.md", "yaml", 1))

    def served(self, home):
        self.versions = []
        for note in ("one", "two"):
            with open(home.path("policies/budget.lua"), encoding="utf-8") as file:
                home.write(f"{note}.lua", f"-- {note}\n" + file.read())
            put = json.loads(home.print(f"agentledger policy put {note}.lua --json"))
            self.versions.append(put["version"][:12])
        self.entry = json.loads(home.print("agentledger export --by entry -f jsonl").splitlines()[0])["id"]

    def command(self, home, command):
        return command.replace("@3f9a", f"@{self.versions[0]}").replace("@71c0", f"@{self.versions[1]}").replace("01J…", self.entry)


class PolicyVersions(Stage):
    def prepare(self, home):
        for source, target in (("night-hours.lua", "night.lua"), ("spec/night-hours.lua", "spec/night.lua")):
            home.copy(f"examples/policies/{source}", target)
            with open(home.path(target), encoding="utf-8") as file:
                text = file.read()
            home.write(target, text.replace('"night-hours"', '"night"'))


class Prices(Stage):
    # Rows that nobody looked at for sixty days, contradictions and the like, on whatever day this runs.
    fails = {"agentledger prices check": (0, 1)}

    def prepare(self, home):
        home.write("my-prices.yaml", home.block("prices.md", "yaml", 1))


class Backup(Stage):
    def command(self, home, command):
        if command.startswith("agentledger restore"):
            # On the machine where it is restored there is no gateway yet, and no ledger.
            home.stop()
            shutil.rmtree(home.path("data"))
        os.makedirs(home.path("backups"), exist_ok=True)
        return command.replace("/var/backups", home.path("backups"))


class Operations(Stage):
    # The clock is right: there is nothing to accept.
    fails = {"agentledger clock accept": (0, 1)}


class Migration(Stage):
    config = None

    def prepare(self, home):
        yaml = home.block("migration.md", "yaml", 0)
        home.write("agentledger.yaml", f'listen: "127.0.0.1:8787"\n{yaml}\n')
        original(home.path("data/agentledger.db"))


def original(file):
    """A database as the original leaves it, with one record of this hour."""
    os.makedirs(os.path.dirname(file), exist_ok=True)
    at = time.strftime("%Y-%m-%d %H:%M:%S.000000 +0000 UTC", time.gmtime(time.time() - 600))
    database = sqlite3.connect(file)
    database.executescript(
        """CREATE TABLE usage_records (id TEXT PRIMARY KEY, timestamp DATETIME, provider TEXT, model TEXT, api_key_hash TEXT,
        input_tokens INTEGER, output_tokens INTEGER, total_tokens INTEGER, cost_usd REAL, estimated INTEGER, duration_ms INTEGER,
        status_code INTEGER, path TEXT, agent_id TEXT, session_id TEXT, user_id TEXT, tenant_id TEXT);
        CREATE TABLE agent_sessions (id TEXT PRIMARY KEY, agent_id TEXT, user_id TEXT, task TEXT, started_at DATETIME, ended_at DATETIME,
        status TEXT, call_count INTEGER, total_cost_usd REAL, total_tokens INTEGER, tenant_id TEXT);
        CREATE TABLE admin_config (key TEXT PRIMARY KEY, value TEXT, updated_at DATETIME);"""
    )
    row = ("01HV0000000000000000000001", at, "openai", "gpt-4o", "0" * 24, 1000, 100, 1100, 0.0035, 0, 800, 200)
    row += ("/v1/chat/completions", "coder", "run-1", "", "search")
    database.execute(f"INSERT INTO usage_records VALUES ({','.join('?' * len(row))})", row)
    database.commit()
    database.close()


STAGES = {
    "rules.md": Rules,
    "replay.md": Replay,
    "policy-versions.md": PolicyVersions,
    "prices.md": Prices,
    "backup.md": Backup,
    "operations.md": Operations,
    "migration.md": Migration,
}
