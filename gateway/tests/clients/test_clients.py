"""The real clients, unchanged but for their base URL: they work, and the books are exact."""

import unittest
from concurrent.futures import ThreadPoolExecutor

import cells
import clients
import golden

WITHOUT_TOOLS = [clients.Aider]
# Those that start within a second or two: what concerns the gateway more than the client is shown with them. The matrix has all.
QUICK = [clients.ClaudeCode, clients.Codex, clients.CodexByUrl]


def kinds(without=()):
    return [kind for kind in clients.ALL if kind not in without]


def quick():
    return [kind for kind in clients.ALL if kind in QUICK]


class Clients(unittest.TestCase):
    maxDiff = None

    def row(self, row, of):
        """One row of the matrix, all clients side by side. Returns the cells by client."""
        if not of:
            return {}
        with ThreadPoolExecutor(len(of)) as pool:
            running = {kind.name: pool.submit(row, kind) for kind in of}
        seen = {}
        for name, future in running.items():
            with self.subTest(client=name):
                seen[name] = future.result()
        golden.compare(row.__name__, {name: golden.section(name, ran) for name, ran in seen.items()})
        return seen

    def all_well(self, row, of):
        for name, ran in self.row(row, of).items():
            with self.subTest(client=name):
                self.assertEqual({cell.ran.code for cell in ran}, {0})

    def test_they_work_and_the_books_are_exact(self):
        self.all_well(cells.works, kinds())

    def test_a_restart_is_not_noticed(self):
        self.all_well(cells.restart, kinds(WITHOUT_TOOLS))

    def test_a_crash_is_survived(self):
        self.all_well(cells.crash, quick())
