"""The real clients, unchanged but for their base URL: they work, the books are exact, and whatever the gateway says, they end
by themselves and their user reads why."""

import unittest
from concurrent.futures import ThreadPoolExecutor

import cells
import clients
import golden

# The calls that a client may send where no call can succeed, on however busy a machine.
CALLS_MAX = 2
# Of opencode, which names its session by a call beside the first: seen are 2, and now and then 7, when it tries the one again.
OPENCODE_MAX = 8
WITHOUT_TOOLS = [clients.Aider]
# Those that start within a second or two: what concerns the gateway more than the client is shown with them. The matrix has all.
QUICK = [clients.ClaudeCode, clients.Codex, clients.CodexByUrl]


def kinds(without=()):
    return [kind for kind in clients.ALL if kind not in without]


def quick():
    return [kind for kind in clients.ALL if kind in QUICK]


class Clients(unittest.TestCase):
    maxDiff = None

    def row(self, row, of, is_golden=True):
        """One row of the matrix, all clients side by side. Returns the cells by client."""
        if not of:
            return {}
        with ThreadPoolExecutor(len(of)) as pool:
            running = {kind.name: pool.submit(row, kind) for kind in of}
        seen = {}
        for name, future in running.items():
            with self.subTest(client=name):
                seen[name] = future.result()
        if is_golden:
            golden.compare(row.__name__, {name: golden.section(name, ran) for name, ran in seen.items()})
        return seen

    def refused_for_good(self, row, of, is_golden=True):
        for name, (cell,) in self.row(row, of, is_golden).items():
            with self.subTest(client=name):
                self.assertGreater(cell.in_vain, 0)
                self.assertLessEqual(cell.in_vain, OPENCODE_MAX if name == "opencode" else CALLS_MAX, cell.refusals)
                self.assertIn("AgentLedger", cell.ran.out + cell.ran.err)

    def all_well(self, row, of):
        for name, ran in self.row(row, of).items():
            with self.subTest(client=name):
                self.assertEqual({cell.ran.code for cell in ran}, {0})

    def test_they_work_and_the_books_are_exact(self):
        self.all_well(cells.works, kinds())

    def test_a_spent_budget(self):
        self.refused_for_good(cells.budget_exceeded, kinds())

    def test_a_budget_that_is_spent_in_the_midst(self):
        self.refused_for_good(cells.budget_spent, quick())

    def test_a_small_budget_is_used_up(self):
        # How many calls it takes, is not known beforehand.
        self.refused_for_good(cells.budget_used_up, quick(), is_golden=False)

    def test_a_small_budget_has_room_for_eight_subagents(self):
        self.all_well(cells.budget_shared, [kind for kind in quick() if kind is clients.ClaudeCode])

    def test_a_held_budget_is_waited_for(self):
        self.all_well(cells.budget_held, kinds())

    def test_a_provider_that_always_breaks_off(self):
        for name, (cell,) in self.row(cells.cut, kinds()).items():
            with self.subTest(client=name):
                # Aider ends well whatever happens.
                self.assertTrue(cell.ran.code != 0 or name == "aider", "a broken answer passed for a whole one")

    def test_a_killed_session(self):
        self.refused_for_good(cells.kill, kinds())

    def test_a_loop(self):
        self.refused_for_good(cells.loop, kinds(WITHOUT_TOOLS))

    def test_a_restart_is_not_noticed(self):
        self.all_well(cells.restart, kinds(WITHOUT_TOOLS))

    def test_a_crash_is_survived(self):
        self.all_well(cells.crash, quick())
