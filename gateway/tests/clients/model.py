"""The scripted model: what it answers is said by words in the prompt, and what it bills is known to the token.

Words in the newest prompt that has any steer the answer to it:
    TOOLS=n      n rounds of one shell command each, before the text
    SAME=n       the same, with one and the same command
    SUBAGENTS=n  one round that starts n subagents at once, each of which runs one command
    WORDS=n      the text has n words
    HOLD=1       the first answer stops after its first word, or within its first call, until the test lets it go on
    LONG=n       the text goes on for n thousand words more: it is meant to be cut
    CUT=n        the first n answers break off there
    OUTPUT=n     each answer costs n tokens more than it has
"""

import re
import threading
from collections import namedtuple
from dataclasses import dataclass
from decimal import Decimal

from money import usd

STEER = re.compile(r"\b(TOOLS|SAME|SUBAGENTS|WORDS|HOLD|LONG|CUT|OUTPUT)=(\d+)")

# USD per million tokens, by hand from the providers' own lists.
PRICES = {
    "claude-haiku-4-5": {"input": 1, "cache_read": "0.1", "cache_write_5m": "1.25", "output": 5},
    "gpt-6.1-terra": {"input": 1, "cache_read": "0.05", "output": 5},
    "gpt-4o-mini": {"input": "0.15", "cache_read": "0.075", "output": "0.60"},
    "gemini-2.5-flash": {"input": "0.30", "cache_read": "0.03", "output": "2.5"},
}

Call = namedtuple("Call", "tool arguments")


@dataclass
class Ask:
    """A request as every dialect says it. `prompts` are what the user said, oldest first, each with the number of tool
    results that came after it; `tools` are the names that may be called."""

    model: str
    prompts: list
    tools: list


@dataclass
class Bill:
    ident: str
    model: str
    usage: dict
    # All of the answer was sent, and so its usage.
    complete: bool = False

    @property
    def cost(self):
        prices = PRICES[self.model]
        return usd(*((count, prices[kind]) for kind, count in self.usage.items() if count))

    @property
    def given(self):
        """All that went in, cached or not: what most dialects name prompt or input tokens."""
        return sum(count for kind, count in self.usage.items() if kind != "output")


@dataclass
class Turn:
    """One answer: either calls or a text, in words."""

    words: list
    calls: list
    held: bool
    cut: bool
    # So long that it does not come to its end.
    endless: bool
    # Tokens that are billed beyond the usual.
    output: int


# The shell and the subagents by the names that the clients give them, and the arguments each takes. Codex's newer models write
# a script instead, which is a text.
SHELLS = {
    "exec": lambda command: f'text((await tools.exec_command({{cmd: "{command}"}})).output)',
    "Bash": lambda command: {"command": command, "description": "run a step"},
    "bash": lambda command: {"command": command, "description": "run a step"},
    "exec_command": lambda command: {"cmd": command},
    "run_shell_command": lambda command: {"command": command, "description": "run a step"},
}
SUBAGENTS = {
    "Agent": lambda prompt: {"description": "count", "prompt": prompt, "subagent_type": "general-purpose"},
    "Task": lambda prompt: {"description": "count", "prompt": prompt, "subagent_type": "general-purpose"},
    "task": lambda prompt: {"description": "count", "prompt": prompt, "subagent_type": "general"},
    "invoke_agent": lambda prompt: {"agent_name": "generalist", "prompt": prompt},
}
ENDS = "complete_task"
# What opencode asks beside each conversation: its title.
ASIDE = "Generate a title"


def first(table, names):
    return next(((name, table[name]) for name in table if name in names), None)


class Pause(threading.Event):
    """Where a held answer stops: all that stands before it is sent."""

    def __init__(self, reached, goes_on):
        super().__init__()
        self._reached, self._goes_on = reached, goes_on

    def wait(self, timeout=None):
        self._reached.set()
        return self._goes_on.wait(timeout)


def long_text(thousands):
    """No part of it is like another: some clients end a text that repeats itself."""
    return ["".join(f"term{n} " for n in range(at * 1_000, (at + 1) * 1_000)) for at in range(thousands)]


class Model:
    def __init__(self):
        self.bills = []
        self.goes_on = threading.Event()
        self.held = threading.Event()
        self.pause = Pause(self.held, self.goes_on)
        self._holds_one = False
        self.cut = threading.Event()
        self._cuts = 0
        self._lock = threading.Lock()

    def turn(self, ask):
        aside = any(text.startswith(ASIDE) for text, _ in ask.prompts)
        steered = [(dict(STEER.findall(text)), results) for text, results in ask.prompts if STEER.search(text) and not aside]
        wants, results = steered[-1] if steered else ({}, 0)
        number = {word: int(count) for word, count in wants.items()}
        calls = self._calls(ask, number, results)
        words = [] if calls else [f"word{n} " for n in range(1, 1 + number.get("WORDS", 3))]
        long = [] if calls else long_text(number.get("LONG", 0))
        return Turn(words + long, calls, self._holds(number), self._cuts_off(number), bool(long), number.get("OUTPUT", 0))

    def _holds(self, number):
        with self._lock:
            first = "HOLD" in number and not self._holds_one
            self._holds_one |= first
            return first

    def _cuts_off(self, number):
        with self._lock:
            self._cuts += "CUT" in number
            cuts = 0 < self._cuts <= number.get("CUT", 0)
            if cuts:
                self.cut.set()
            return cuts

    def _calls(self, ask, number, results):
        shell, subagent = self._shell(ask, results), first(SUBAGENTS, ask.tools)
        if number.get("SUBAGENTS") and subagent and results == 0:
            name, arguments = subagent
            return [Call(name, arguments(f"Count for part {n}. TOOLS=1")) for n in range(1, 1 + number["SUBAGENTS"])]
        if not shell or results >= number.get("TOOLS", number.get("SAME", 0)):
            # Gemini CLI's subagents end by a call.
            return [Call(ENDS, {"result": {"response": "counted"}})] if ENDS in ask.tools else []
        name, arguments = shell
        step = "the same step" if "SAME" in number else f"step {results + 1}"
        return [Call(name, arguments(f"echo {step}"))]

    @staticmethod
    def _shell(ask, results):
        """Tools of MCP servers are called in turn."""
        servers = [name for name in SHELLS if name.startswith("mcp__") and name in ask.tools]
        return first(SHELLS, [servers[results % len(servers)]] if servers else ask.tools)

    def bill(self, model, turn):
        """The bill of the next answer: no two are alike, so that none can stand in another's place."""
        with self._lock:
            n = len(self.bills) + 1
            usage = {"input": 1_000 + 7 * n, "cache_read": 2_000 + 11 * n, "output": 40 + n + turn.output}
            if model.startswith("claude"):
                usage["cache_write_5m"] = 300 + 13 * n
            bill = Bill(f"id_{n:04}", model, usage)
            self.bills.append(bill)
        return bill
