"""A row of the matrix as a test: its clients side by side, and what holds of each."""

import unittest
from concurrent.futures import ThreadPoolExecutor

import golden

# The calls that a client may send where no call can succeed, on however busy a machine.
CALLS_MAX = 2
# Aider 0.86 ends well whatever happens: `main` returns nothing after the one message that it was given, and `Coder.send_message`
# prints the error of a model and returns.
ENDS_WELL = ["aider"]
# Google's SDK for Node (1.x to 2.x, `processStreamResponse`) reads the words of a stream's error only where it reads nothing else with
# it: on a machine so busy that it reads late, it says "Incomplete JSON segment at the end" in their place. Such a cell runs once more.
READS_LATE = ["google-genai-node"]


class Rows(unittest.TestCase):
    maxDiff = None
    calls_max = CALLS_MAX

    def row(self, row, of, is_golden=True):
        """One row of the matrix. Returns the cells by client."""
        if not of:
            return {}
        with ThreadPoolExecutor(len(of)) as pool:
            running = {kind.name: pool.submit(row, kind) for kind in of}
        seen = {}
        for name, future in running.items():
            with self.subTest(client=name):
                seen[name] = future.result()
        if is_golden:
            for kind in of:
                if kind.name in READS_LATE and golden.differs(row.__name__, kind.name, golden.section(kind.name, seen[kind.name])):
                    seen[kind.name] = row(kind)
            golden.compare(row.__name__, {name: golden.section(name, ran) for name, ran in seen.items()})
        return seen

    def is_an_error(self, name, cell):
        """Its user reads of an error, in our words."""
        self.assertTrue(cell.ran.code != 0 or name in ENDS_WELL, "a broken answer passed for a whole one")
        self.assertIn("AgentLedger", cell.ran.out + cell.ran.err)

    def refused_for_good(self, row, of, is_golden=True):
        for name, (cell,) in self.row(row, of, is_golden).items():
            with self.subTest(client=name):
                self.assertGreater(cell.in_vain, 0)
                self.assertLessEqual(cell.in_vain, self.calls_max, cell.refusals)
                self.is_an_error(name, cell)

    def all_well(self, row, of):
        for name, ran in self.row(row, of).items():
            with self.subTest(client=name):
                self.assertEqual({cell.ran.code for cell in ran}, {0})

    def all_fail(self, row, of, is_golden=True):
        for name, (cell,) in self.row(row, of, is_golden).items():
            with self.subTest(client=name):
                self.is_an_error(name, cell)

    def whole_or_failed(self, row, of):
        """Part of an answer never passes for all of it; how often a client tries again is its own affair."""
        for name, (cell,) in self.row(row, of, is_golden=False).items():
            with self.subTest(client=name):
                if cell.ran.code != 0 or "word3" not in cell.ran.out:
                    self.is_an_error(name, cell)
