"""Claude Code with MCP servers behind the gateway: what its tools cost and what its tokens cost stand in one session, and in one budget.

It sends MCP servers over HTTP no session of its own (2.1.197: `User-Agent` and a tool's id in `_meta`, nothing else), so that its user
gives both the same: `--session-id` to itself, and by its environment `X-Agent-Session` to the server. A server that it starts itself has
its session in its environment.
"""

import json
import os
import sys
import unittest
import uuid
from decimal import Decimal

import clients
import model
from rig import Rig
import tool_server
from scripted import Upstream, whole

TOOL, WRAPPED_TOOL = "mcp__hub__search", "mcp__files__search"
PRICE, WRAPPED_PRICE = Decimal("0.01"), Decimal("0.003")
# What the scripted model calls for a step, where there is no shell.
model.SHELLS[TOOL] = model.SHELLS[WRAPPED_TOOL] = lambda command: {"query": command}


class ToolServer(Upstream):
    """Answers as the revision of 2025-11-25 has it, without a session."""

    def answer(self, asked):
        if asked.method != "POST":
            return whole({}, 405)
        message = asked.json
        if "id" not in message:
            return whole({}, 202)
        return whole({"jsonrpc": "2.0", "id": message["id"], "result": tool_server.result(message)})

    def calls(self):
        return [asked for asked in self.asked if asked.method == "POST" and asked.json.get("method") == "tools/call"]


class ClaudeCode(clients.ClaudeCode):
    """As the guide's page on MCP has it."""

    tools = (TOOL,)

    def __init__(self, base, **more):
        self.run_id = str(uuid.uuid4())
        super().__init__(base, **more)

    def files(self):
        headers = {"X-AgentLedger-Key": "${ANTHROPIC_API_KEY}", "X-Agent-Session": "${AGENT_SESSION}"}
        return {"mcp.json": servers(hub={"type": "http", "url": f"{self.base}/mcp/hub", "headers": headers})}

    def settings(self):
        return {**super().settings(), "AGENT_SESSION": self.run_id}

    def command(self, prompt, again):
        servers = ["--mcp-config", os.path.join(self.home, "mcp.json"), "--strict-mcp-config"]
        tools = ["--allowedTools", ",".join(self.tools), "--disallowedTools", "Bash"]
        session = ["--session-id", self.run_id]
        return [clients.of_node("claude"), "-p", *session, *servers, *tools, "--model", self.model, "--", prompt]


class WithBoth(ClaudeCode):
    """With a server that it starts itself, too: by the lines that `--print-config` prints."""

    tools = (TOOL, WRAPPED_TOOL)

    def wraps(self, gateway):
        path = os.path.join(self.home, "mcp.json")
        with open(path) as file:
            hub = json.load(file)["mcpServers"]["hub"]
        script = [sys.executable, os.path.abspath(tool_server.__file__), os.path.join(self.home, "seen")]
        printed = gateway.command("mcp-wrap", "--server", "files", "--print-config", "claude-code", ends=["--", *script])
        _, lines = printed.split("\n\n", 1)
        wrapped = json.loads(lines)["mcpServers"]["files"]
        # Beside it the key, which is never printed.
        wrapped["env"] = {"AGENTLEDGER_KEY": "${ANTHROPIC_API_KEY}"}
        with open(path, "w") as file:
            file.write(servers(hub=hub, files=wrapped))

    def wrapped_calls(self):
        with open(os.path.join(self.home, "seen")) as seen:
            messages = [json.loads(line) for line in seen]
        return [message for message in messages if message["method"] == "tools/call"]


def servers(**named):
    return json.dumps({"mcpServers": named})


@unittest.skipIf(clients.ClaudeCode not in clients.ALL, "there is no Claude Code here")
class Mcp(unittest.TestCase):
    def setUp(self):
        self.server = ToolServer()
        self.addCleanup(self.server.stop)

    def rig(self, price=PRICE, client=ClaudeCode, **config):
        upstreams = {"hub": {"upstream": f"{self.server.url}/mcp"}}
        pricing = [{"server": "hub", "cost_per_call": float(price)}, {"server": "files", "cost_per_call": float(WRAPPED_PRICE)}]
        rig = Rig(client, {"mcp": {"servers": upstreams, "pricing": pricing}, **config})
        self.addCleanup(rig.__exit__)
        return rig

    def test_tools_and_tokens_stand_in_one_session(self):
        rig = self.rig()
        ran = rig.client.run("Do the steps. TOOLS=2")
        self.assertEqual((ran.code, len(self.server.calls()), len(rig.model.bills)), (0, 2, 3), ran)
        entries = rig.gateway.entries()
        self.assertEqual({entry["session"] for entry in entries}, {rig.client.run_id})
        self.assertEqual({(entry["agent"], entry["key"]) for entry in entries}, {("claude-code", entries[0]["key"])})
        tools = [entry for entry in entries if entry["provider"] == "mcp"]
        self.assertEqual([(entry["model"], Decimal(entry["cost_usd"])) for entry in tools], [("hub:search", PRICE)] * 2)
        (session,) = json.loads(rig.gateway.command("sessions", "--json"))["sessions"]
        spent = 2 * PRICE + sum(bill.cost for bill in rig.model.bills)
        self.assertEqual((session["id"], Decimal(str(session["cost_usd"]))), (rig.client.run_id, spent))

    def test_a_wrapped_server_stands_in_the_same_session(self):
        rig = self.rig(client=WithBoth)
        rig.client.wraps(rig.gateway)
        ran = rig.client.run("Do the steps. TOOLS=4")
        calls = (len(self.server.calls()), len(rig.client.wrapped_calls()), len(rig.model.bills))
        self.assertEqual((ran.code, calls), (0, (2, 2, 5)), ran)
        entries = rig.gateway.entries()
        self.assertEqual({entry["session"] for entry in entries}, {rig.client.run_id})
        self.assertEqual({entry["key"] for entry in entries}, {entries[0]["key"]})
        tools = sorted((entry["model"], Decimal(entry["cost_usd"])) for entry in entries if entry["provider"] == "mcp")
        self.assertEqual(tools, [("files:search", WRAPPED_PRICE)] * 2 + [("hub:search", PRICE)] * 2)
        (session,) = json.loads(rig.gateway.command("sessions", "--json"))["sessions"]
        spent = 2 * PRICE + 2 * WRAPPED_PRICE + sum(bill.cost for bill in rig.model.bills)
        self.assertEqual((session["id"], Decimal(str(session["cost_usd"]))), (rig.client.run_id, spent))

    def test_both_use_up_one_budget_and_the_model_reads_why(self):
        # It has room for what an answer of the model may cost, and for one call of the tool.
        rig = self.rig(Decimal("0.05"), budgets={"default": {"daily_limit_usd": 0.1, "action": "block"}})
        ran = rig.client.run("Do the steps. TOOLS=2")
        self.assertEqual((ran.code, len(self.server.calls()), len(rig.model.bills)), (0, 1, 3), ran)
        self.assertIn(b"AgentLedger", rig.provider.asked[-1].body)
        entries = rig.gateway.entries()
        self.assertEqual(len(entries), 4)
        self.assertLessEqual(sum(Decimal(entry["cost_usd"]) for entry in entries), Decimal("0.1"))


if __name__ == "__main__":
    unittest.main()
