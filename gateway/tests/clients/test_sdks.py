"""The official SDKs of both languages: whatever ends an answer in its midst is an error to their caller, in our words, and nothing
that is refused for good is tried again."""

import cells
from rows import Rows
from sdks import ALL_OFFICIAL


class Sdks(Rows):
    calls_max = 1

    def test_a_spent_budget(self):
        self.refused_for_good(cells.budget_exceeded, ALL_OFFICIAL)

    def test_an_answer_that_outruns_its_budget(self):
        self.refused_for_good(cells.budget_cut, ALL_OFFICIAL)

    def test_a_killed_session(self):
        self.refused_for_good(cells.kill, ALL_OFFICIAL)

    def test_a_provider_that_breaks_off(self):
        self.all_fail(cells.cut, ALL_OFFICIAL)

    def test_a_shutdown_that_waits_for_nobody(self):
        self.all_fail(cells.shutdown, ALL_OFFICIAL)
