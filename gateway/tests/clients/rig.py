"""One client before one gateway before one scripted provider, and what can be said of them in the end."""

import json
import re
import threading
import time
import urllib.request
from decimal import Decimal

from gateway import Gateway
from upstream import Provider

# The budget that a test's other caller holds, with the answer it may have for it: 64,000 tokens at $5 a million.
MOST_TOKENS = 64_000
NEVER_SECS = 120


class Rig:
    def __init__(self, kind, config=None, session=None):
        self.provider = Provider()
        self.model = self.provider.model
        gemini = {"providers": {"extra": {"gemini": {"enabled": True, "upstream": self.provider.url}}}}
        self.gateway = Gateway(self.provider.url, {**gemini, "hold": {"wait_ms": 100}, **(config or {})})
        self.client = kind(self.gateway.url, session=session)
        # Set by whoever lets something go wrong.
        self.wrong = threading.Event()
        self._refused_before = 0
        self._others = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.model.goes_on.set()
        self.client.remove()
        for other in self._others:
            other.join()
        self.gateway.remove()
        self.provider.stop()

    def restart(self):
        """As an operator does it: what runs is finished first."""
        self._refused_before += self.refused()
        stopped = threading.Thread(target=self.gateway.stop)
        stopped.start()
        self.model.goes_on.set()
        stopped.join()
        self.gateway.start()

    def shut_down(self):
        """As a host does it that waits for nobody: what still runs once `drain_ms` is over, is cut."""
        self._refused_before += self.refused()
        self.gateway.stop()
        self.wrong.set()
        self.model.goes_on.set()
        self.gateway.start()

    def crash(self):
        self._refused_before += self.refused()
        self.gateway.kill()
        self.model.goes_on.set()
        self.gateway.start()

    def refused(self):
        """How many calls the gateway has refused since its start."""
        return sum(self.refusals().values())

    def refusals(self):
        """The same by provider and code, as the metric's labels have them."""
        # One that the provider broke off has reached it, and has its bill.
        counts = self._counts("agentledger_refused_total")
        return {labels: count for labels, count in counts.items() if "upstream_failed" not in labels}

    def gone_wrong(self):
        """How many calls it has refused or cut since its start."""
        outcomes = self._counts("agentledger_outcomes_total")
        return self.refused() + sum(count for labels, count in outcomes.items() if '"cut"' in labels)

    def _counts(self, name):
        with urllib.request.urlopen(f"{self.gateway.url}/metrics", timeout=60) as answer:
            text = answer.read().decode()
        counts = re.findall(rf"^{name}\{{(.*)\}} (\d+)$", text, re.MULTILINE)
        return {labels: int(count) for labels, count in counts}

    def calls(self):
        """All calls so far that would cost something: those that reached the provider, and those that were refused."""
        return len(self.model.bills) + self._refused_before + self.refused()

    def answers(self):
        """How many answers came through whole."""
        return sum(any(entry["usage"].values()) for entry in self.gateway.entries(outcome="completed", status=200))

    def until(self, what, happens):
        until = time.monotonic() + NEVER_SECS
        while time.monotonic() < until:
            seen = happens()
            if seen:
                return seen
            time.sleep(0.05)
        raise AssertionError(f"never happened: {what}\n{self.gateway.log()}")

    def until_held(self):
        if not self.model.held.wait(NEVER_SECS):
            raise AssertionError(f"no call was held\n{self.gateway.log()}")

    def another_caller(self):
        """A call of the same key that is long in coming, and may cost all that the budget has."""
        body = {"model": "claude-haiku-4-5", "max_tokens": MOST_TOKENS, "messages": [{"role": "user", "content": "HOLD=1"}]}
        asked = urllib.request.Request(
            f"{self.gateway.url}/v1/messages",
            json.dumps(body).encode(),
            {"x-api-key": self.client.key, "anthropic-version": "2023-06-01", "content-type": "application/json"},
        )
        other = threading.Thread(target=lambda: urllib.request.urlopen(asked, timeout=NEVER_SECS).read())
        other.start()
        self._others.append(other)
        self.until_held()

    def session(self):
        """The session of the call that runs."""
        sessions = self.until("a session", lambda: json.loads(self.gateway.command("sessions", "--json"))["sessions"])
        return sessions[0]["id"]

    def books(self):
        """Every answer that was billed whole is one entry, with its tokens and its cost to the nano-dollar, none of them estimated."""
        # A WebSocket that is only made warm costs nothing, and is an entry without usage.
        entries = [entry for entry in self.gateway.entries() if any(entry["usage"].values())]
        by_answer = {entry["response_id"]: entry for entry in entries if entry["response_id"]}
        whole = [bill for bill in self.model.bills if bill.complete]
        for bill in whole:
            entry = by_answer[bill.ident]
            usage = {kind: count for kind, count in entry["usage"].items() if count}
            assert usage == bill.usage, f"{bill.ident}: {usage} is not {bill.usage}"
            assert Decimal(entry["cost_usd"]) == bill.cost, f"{bill.ident}: {entry['cost_usd']} is not {bill.cost}"
            assert not entry["estimated"], f"{bill.ident}: {entry['estimate_reason']}"
        if len(whole) == len(self.model.bills):
            assert len(entries) == len(whole), f"{len(entries)} entries of {len(whole)} answers"
        self.gateway.command("verify")

    def books_of_a_cut(self, outcome="cut"):
        """Every answer is one entry, and the one that was ended in its midst is an estimate that costs something."""
        entries = [entry for entry in self.gateway.entries() if any(entry["usage"].values())]
        assert len(entries) == len(self.model.bills), f"{len(entries)} entries of {len(self.model.bills)} answers"
        ended = [entry for entry in entries if entry["outcome"] == outcome]
        assert ended, f"nothing was {outcome}: {[entry['outcome'] for entry in entries]}"
        for entry in ended:
            assert entry["ttfb_ms"] is not None, "it was ended before it began"
            assert entry["estimated"] and Decimal(entry["cost_usd"]) > 0, f"{entry['cost_usd']}, {entry['estimate_reason']}"
        self.gateway.command("verify")
        return ended
