"""The real clients, unchanged but for their base URL: they work, the books are exact, and whatever the gateway says, they end
by themselves and their user reads why."""

import cells
import clients
from rows import Rows

# Those that start within a second or two: what concerns the gateway more than the client is shown with them. The matrix has all.
QUICK = [clients.ClaudeCode, clients.Codex, clients.CodexByUrl]


def quick():
    return [kind for kind in clients.ALL if kind in QUICK]


def with_tools():
    return [kind for kind in clients.ALL if kind.has_tools]


class Clients(Rows):
    def test_they_work_and_the_books_are_exact(self):
        self.all_well(cells.works, clients.ALL)

    def test_a_spent_budget(self):
        self.refused_for_good(cells.budget_exceeded, clients.ALL)

    def test_a_budget_that_is_spent_in_the_midst(self):
        self.refused_for_good(cells.budget_spent, quick())

    def test_a_small_budget_is_used_up(self):
        # How many calls it takes, is not known beforehand.
        self.refused_for_good(cells.budget_used_up, quick(), is_golden=False)

    def test_an_answer_that_outruns_its_budget(self):
        # What was spent until then, depends on the length of the client's prompt.
        self.refused_for_good(cells.budget_cut, clients.ALL, is_golden=False)

    def test_a_small_budget_has_room_for_eight_subagents(self):
        self.all_well(cells.budget_shared, [kind for kind in quick() if kind is clients.ClaudeCode])

    def test_a_held_budget_is_waited_for(self):
        self.all_well(cells.budget_held, clients.ALL)

    def test_a_provider_that_always_breaks_off(self):
        self.all_fail(cells.cut, clients.ALL)

    def test_a_killed_session(self):
        self.refused_for_good(cells.kill, clients.ALL)

    def test_a_loop(self):
        self.refused_for_good(cells.loop, with_tools())

    def test_a_restart_is_not_noticed(self):
        self.all_well(cells.restart, with_tools())

    def test_a_shutdown_that_waits_for_nobody(self):
        self.whole_or_failed(cells.shutdown, quick())

    def test_a_crash_is_survived(self):
        self.all_well(cells.crash, quick())
