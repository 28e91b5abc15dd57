"""What is done with every client: each function is one row of the matrix. It yields, run by run, what the user saw, and checks
on the way what has to hold."""

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal

from clients import Ran
from rig import Rig

# Less than any call costs. opencode takes any error for one that passes whose text has the digits of a status that does.
PENNILESS = {"budgets": {"default": {"daily_limit_usd": 0.00000429, "action": "block"}}}
SMALL_USD = Decimal("0.5")
SMALL = {"budgets": {"default": {"daily_limit_usd": float(SMALL_USD), "action": "block"}}}
# By model, where it costs less than the others': the share of their budget that is used up in some twenty calls. After thirty turns
# Gemini CLI asks another model whether it goes round in circles, and asks until it likes the answer, which is not scripted here.
DEAREST_SHARE = {"gemini-2.5-flash": Decimal("0.2"), "gpt-4o-mini": Decimal("0.06")}
RUNS_MAX = 40
# What a long answer costs many times over, and the first call's input not at all.
CUT_USD = Decimal("0.1")
# What the other caller may cost, and next to nothing more.
SHARED = {"budgets": {"default": {"daily_limit_usd": 0.3203, "action": "block"}}}
SESSION = "refactoring"
LOOPS = {"agent": {"loop_threshold": 4, "loop_window_mins": 5, "loop_action": "block"}}


def share(limit, kind):
    """A limit that fits the prices of the client's model."""
    return limit * DEAREST_SHARE.get(kind.model.split("/")[-1], 1)


@dataclass
class Cell:
    """A run: how many calls the client sent in it, how many of them in vain (refused, cut, or broken off), and how long it went
    on after the first of those."""

    ran: Ran
    home: str
    calls: int
    in_vain: int
    seconds: float | None
    refusals: dict


class Watch(threading.Thread):
    """Notes when a run's first call goes wrong, as far as the gateway or the provider knows of it."""

    def __init__(self, rig):
        super().__init__(daemon=True)
        self._rig, self._before, self._over = rig, rig.gone_wrong(), threading.Event()
        self.wrong = None

    def run(self):
        while not self._over.wait(0.05):
            try:
                if self._rig.wrong.is_set() or self._rig.model.cut.is_set() or self._rig.gone_wrong() > self._before:
                    self.wrong = time.monotonic()
                    return
            except OSError:
                pass  # the gateway is being restarted

    def end(self):
        self._over.set()
        self.join()
        return self.wrong


class Counted:
    """Runs whose calls are counted from the beginning of each."""

    def __init__(self, rig):
        self.rig, self.cells = rig, []

    @contextmanager
    def run(self, prompt, again=False):
        rig, calls, answers = self.rig, self.rig.calls(), self.rig.answers()
        watch = Watch(rig)
        watch.start()
        rig.client.start(prompt, again)
        yield
        ran, ended = rig.client.end(), time.monotonic()
        wrong = watch.end()
        calls, answers = rig.calls() - calls, rig.answers() - answers
        # It is noticed a moment after it happens, maybe after the client has gone.
        seconds = None if wrong is None else max(0.0, ended - wrong)
        self.cells.append(Cell(ran, rig.client.home, calls, calls - answers, seconds, rig.refusals()))
        assert ran.code is not None, f"it never ended:\n{ran.out}{ran.err}"

    def done(self, prompt, again=False):
        with self.run(prompt, again):
            pass


def works(kind):
    """Tools, then the conversation taken up again, with subagents where the client has them."""
    with Rig(kind) as rig:
        counted = Counted(rig)
        counted.done("Do the steps. TOOLS=2")
        counted.done("Share the work. SUBAGENTS=2 WORDS=5", again=True)
        rig.books()
        return counted.cells


def budget_exceeded(kind):
    with Rig(kind, PENNILESS) as rig:
        counted = Counted(rig)
        counted.done("Say something.")
        assert not rig.model.bills, "a call got through"
        return counted.cells


def budget_spent(kind):
    """The limit is met in the midst of a run's calls, after one of them."""
    with Rig(kind) as rig:
        counted = Counted(rig)
        with counted.run("Do the steps. HOLD=1 TOOLS=9"):
            rig.until_held()
            rig.gateway.command("budgets", "set", "key", "0.000001", "--window", "day")
            rig.model.goes_on.set()
        rig.books()
        return counted.cells


def budget_used_up(kind):
    """A budget of some calls' cost, far less than one call could cost at most: it is used up to the last cents. A client without tools
    calls once a run, and is run until it is refused."""
    limit = share(SMALL_USD, kind)
    with Rig(kind, {"budgets": {"default": {"daily_limit_usd": float(limit), "action": "block"}}}) as rig:
        counted = Counted(rig)
        for again in range(RUNS_MAX):
            counted.done("Do the steps. TOOLS=99 OUTPUT=2000", again=again > 0)
            if counted.cells[-1].in_vain:
                break
        rig.books()
        spent = sum(bill.cost for bill in rig.model.bills)
        assert limit * 9 / 10 < spent <= limit, f"{spent} of {limit} was spent"
        return counted.cells[-1:]


def budget_cut(kind):
    """A stream outruns its budget, and is cut in its midst."""
    limit = share(CUT_USD, kind)
    with Rig(kind, {"budgets": {"default": {"daily_limit_usd": float(limit), "action": "block"}}}) as rig:
        counted = Counted(rig)
        counted.done("Say much. LONG=300")
        (ended,) = rig.books_of_a_cut()
        assert Decimal(ended["cost_usd"]) - Decimal(ended["overage_usd"]) <= limit, ended["cost_usd"]
        return counted.cells


def budget_shared(kind):
    """Eight subagents at once have room in a budget that eight calls at their most would not have."""
    with Rig(kind, SMALL) as rig:
        counted = Counted(rig)
        counted.done("Share the work. SUBAGENTS=8")
        rig.books()
        return counted.cells


def budget_held(kind):
    """All of the budget is held by another call, which ends once this client was refused."""
    with Rig(kind, SHARED) as rig:
        counted = Counted(rig)
        rig.another_caller()
        with counted.run("Say something."):
            rig.until("a refusal", rig.refused)
            rig.model.goes_on.set()
        rig.books()
        return counted.cells


def cut(kind):
    """The provider breaks off, whenever it is asked."""
    with Rig(kind) as rig:
        counted = Counted(rig)
        counted.done("Say something. CUT=99")
        return counted.cells


def cut_once(kind):
    with Rig(kind) as rig:
        counted = Counted(rig)
        counted.done("Say something. CUT=1")
        return counted.cells


def kill(kind):
    """An operator kills the session in the midst of an answer."""
    with Rig(kind, session=SESSION) as rig:
        counted = Counted(rig)
        with counted.run("Say something. HOLD=1"):
            rig.until_held()
            rig.gateway.command("sessions", "kill", rig.session())
            rig.wrong.set()
            rig.model.goes_on.set()
        rig.books_of_a_cut()
        return counted.cells


def loop(kind):
    """One and the same command, again and again."""
    with Rig(kind, LOOPS, session=SESSION) as rig:
        counted = Counted(rig)
        counted.done("Do the step. SAME=12")
        rig.books()
        return counted.cells


def restart(kind):
    """The gateway is restarted while an answer comes: that one is finished, and the next call finds the new gateway."""
    with Rig(kind) as rig:
        counted = Counted(rig)
        with counted.run("Do the step. HOLD=1 TOOLS=1"):
            rig.until_held()
            rig.restart()
        rig.books()
        return counted.cells


def shutdown(kind):
    """The gateway is told to stop, and an answer takes longer than it waits: that one is cut. Then it is started again."""
    with Rig(kind, {"limits": {"drain_ms": 300}}) as rig:
        counted = Counted(rig)
        with counted.run("Say something. HOLD=1"):
            rig.until_held()
            rig.shut_down()
        rig.books_of_a_cut()
        return counted.cells


def crash(kind):
    """The gateway dies while an answer comes, and is back at once."""
    with Rig(kind) as rig:
        counted = Counted(rig)
        with counted.run("Say something. HOLD=1"):
            rig.until_held()
            rig.crash()
        return counted.cells


ROWS = [works, budget_exceeded, budget_spent, budget_used_up, budget_cut, budget_shared, budget_held]
ROWS += [cut, cut_once, kill, loop, restart, shutdown, crash]
