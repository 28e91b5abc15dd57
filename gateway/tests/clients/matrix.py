"""The matrix: every client in every row, one after the other, as a table in Markdown: calls in vain, seconds from the first of
them to the client's exit, exit code; and the words that its user reads. Names of rows or clients restrict it."""

import sys
import time

import cells
import clients
import golden

# From a refusal that is final to the client's exit.
CALLS_GOAL, SECS_GOAL = 2, 10
FINAL = {cells.budget_exceeded, cells.kill, cells.loop}


def measure(row, kind):
    try:
        return row(kind)
    except AssertionError as error:
        print(f"{row.__name__}, {kind.name}: {error}", file=sys.stderr)
        return None


def figures(row, ran):
    if ran is None:
        return "failed"
    cell = ran[-1]
    if cell.seconds is None:
        return f"exit {cell.ran.code}" + (" **(never refused)**" if row in FINAL else "")
    over = row in FINAL and (cell.in_vain > CALLS_GOAL or cell.seconds > SECS_GOAL)
    return f"{cell.in_vain} in vain, {cell.seconds:.1f} s, exit {cell.ran.code}" + (" **(over the goal)**" if over else "")


def words(cell):
    """The lines of what a user saw that are about the end of the run."""
    said = golden.plain(cell.ran.out + "\n" + cell.ran.err, cell.home).splitlines()
    ours = [line for line in said if "AgentLedger" in line]
    errors = [line for line in said if "error" in line.lower()]
    return (ours or errors or said or [""])[-1].strip()


def main(names):
    rows = [row for row in cells.ROWS if row.__name__ in names] or cells.ROWS
    kinds = [kind for kind in clients.ALL if kind.name in names] or clients.ALL
    seen = {}
    for row in rows:
        for kind in kinds:
            if row is cells.loop and kind is clients.Aider:
                continue  # it has no tools
            begun = time.monotonic()
            seen[row, kind] = measure(row, kind)
            print(f"{row.__name__}, {kind.name}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
    print("| | " + " | ".join(kind.name for kind in kinds) + " |")
    print("|---|" + "---|" * len(kinds))
    for row in rows:
        print(f"| {row.__name__} | " + " | ".join(figures(row, seen[row, kind]) if (row, kind) in seen else "–" for kind in kinds) + " |")
    print()
    for row in rows:
        for kind in kinds:
            if seen.get((row, kind)) and seen[row, kind][-1].in_vain:
                print(f"- {row.__name__}, {kind.name}: {words(seen[row, kind][-1])}")


if __name__ == "__main__":
    main(sys.argv[1:])
