"""A newcomer's ten minutes with Claude Code, as they would type them: the transcript is a golden file."""

import os
import subprocess
import unittest

import clients
import golden
from gateway import BIN, Gateway
from upstream import Provider


@unittest.skipIf(clients.ClaudeCode not in clients.ALL, "there is no Claude Code here")
class Newcomer(unittest.TestCase):
    def setUp(self):
        self.provider = Provider()
        self.addCleanup(self.provider.stop)
        self.said = []

    def type(self, *words, code=0):
        """One command, as the transcript shows it."""
        done = subprocess.run(
            [BIN, *words, "-c", self.gateway.file],
            cwd=self.gateway.dir,
            env={**os.environ, "HOME": self.client.home, "COLUMNS": "120"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.keep(f"agentledger {' '.join(words)}", done.stdout + done.stderr)
        self.assertEqual(done.returncode, code, self.said[-1])
        return done.stdout

    def claude(self, prompt, code):
        ran = self.client.run(prompt)
        self.keep(f'claude -p "{prompt}"', ran.out + ran.err)
        self.assertEqual(ran.code, code, self.said[-1])
        return ran.out

    def keep(self, command, text):
        text = text.replace(self.gateway.url, "http://<gateway>").replace(self.gateway.dir, ".")
        self.said.append(f"$ {command}\n{golden.plain(text, self.client.home)}\n")

    def test_ten_minutes(self):
        # As configs/agentledger.minimal.yaml has it, but for the addresses.
        self.gateway = Gateway(
            self.provider.url, {"budgets": {"default": {"daily_limit_usd": 10, "action": "block"}}}
        )
        self.addCleanup(self.gateway.remove)
        # Nothing points it here but what `setup` writes.
        self.client = clients.ClaudeCode(None)
        self.addCleanup(self.client.remove)
        self.type("setup", "claude", "--write")
        self.assertIn("word3", self.claude("Do the steps. TOOLS=2", 0))
        bills = self.provider.model.bills
        self.assertEqual(len(bills), 3)
        costs = self.type("costs", "--by", "agent")
        self.assertIn("claude-code", costs)
        self.assertIn(str(sum(bill.cost for bill in bills).normalize())[:6], costs)
        self.type("budgets", "set", "key", "0.001", "--window", "day")
        message = self.claude("Do the steps. TOOLS=2", 1)
        self.assertIn("AgentLedger", message)
        self.assertEqual(len(bills), 3)
        self.type("budgets")
        self.type("budgets", "set", "key", "5", "--window", "day")
        self.assertIn("word3", self.claude("Do the steps. TOOLS=2", 0))
        self.assertEqual(len(bills), 6)
        golden.compare_text("newcomer", "\n".join(self.said))
