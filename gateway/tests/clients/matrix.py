"""The matrix: every client and SDK in every row, one after the other, as a table in Markdown: calls in vain, seconds from the first of
them to the client's exit, exit code, and what is not as it should be; and the words that its user reads. Names of rows or clients
restrict it; `clients` and `sdks` are names of all of these."""

import sys
import time

import cells
import clients
import golden
import sdks
from rows import ENDS_WELL

# From a refusal that is final to the client's exit.
CALLS_GOAL, SECS_GOAL = 2, 10
FINAL = {cells.budget_exceeded, cells.budget_spent, cells.budget_used_up, cells.budget_cut, cells.kill, cells.loop}
# Where a client calls more than once a run.
WITH_TOOLS = {cells.budget_spent, cells.loop}
WITH_SUBAGENTS = {cells.budget_shared}
# Where a call may find no gateway, nobody is there to say any.
WITHOUT_WORDS = {cells.restart, cells.crash}
# A program that calls once has some twenty runs of this row, each as good as the first of `budget_exceeded`.
WITH_TOOLS_OF_SDKS = {cells.budget_used_up}


def measure(row, kind):
    try:
        return row(kind)
    except AssertionError as error:
        print(f"{row.__name__}, {kind.name}: {error}", file=sys.stderr)
        return None


def has(row, kind):
    is_sdk = issubclass(kind, sdks.Sdk)
    if row in WITH_SUBAGENTS:
        return not is_sdk
    return kind.has_tools or row not in (WITH_TOOLS | WITH_TOOLS_OF_SDKS if is_sdk else WITH_TOOLS)


def faults(row, kind, cell):
    seconds = cell.seconds or 0
    if row in FINAL and not cell.in_vain:
        yield "never refused"
    if row in FINAL and (cell.in_vain > CALLS_GOAL or seconds > SECS_GOAL):
        yield "over the goal"
    fails = cell.ran.code != 0 or kind.name in ENDS_WELL and "word3" not in cell.ran.out
    if not fails and "word3" not in cell.ran.out:
        yield "a part passes for the whole"
    if fails and row not in WITHOUT_WORDS and "AgentLedger" not in cell.ran.out + cell.ran.err:
        yield "not our words"


def figures(row, kind, ran):
    if ran is None:
        return "failed"
    cell = ran[-1]
    wrong = "".join(f" **({fault})**" for fault in faults(row, kind, cell))
    calls = f"{cell.in_vain} in vain, " if cell.in_vain else ""
    seconds = "" if cell.seconds is None else f"{cell.seconds:.1f} s, "
    return f"{calls}{seconds}exit {cell.ran.code}{wrong}"


def words(cell):
    """The lines of what a user saw that are about the end of the run."""
    said = golden.plain(cell.ran.out + "\n" + cell.ran.err, cell.home).splitlines()
    ours = [line for line in said if "AgentLedger" in line]
    errors = [line for line in said if "error" in line.lower()]
    return (ours or errors or said or [""])[-1].strip()


def table(lines, columns, text):
    print("| | " + " | ".join(columns) + " |")
    print("|---|" + "---|" * len(columns))
    for line in lines:
        print(f"| {line} | " + " | ".join(text(line, column) for column in columns) + " |")
    print()


def chosen(names):
    rows = [row for row in cells.ROWS if row.__name__ in names] or cells.ROWS
    groups = {"clients": clients.ALL, "sdks": sdks.ALL}
    every = clients.ALL + sdks.ALL
    kinds = [kind for kind in every if kind.name in names or any(kind in groups[name] for name in names if name in groups)]
    return rows, kinds or every


def main(names):
    rows, kinds = chosen(names)
    seen = {}
    for row in rows:
        for kind in kinds:
            if not has(row, kind):
                continue
            begun = time.monotonic()
            ran = measure(row, kind)
            seen[row.__name__, kind.name] = ran, figures(row, kind, ran)
            text = seen[row.__name__, kind.name][1]
            print(f"{row.__name__}, {kind.name}: {text}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    by_row = [row.__name__ for row in rows], [kind.name for kind in kinds]

    def text(row, kind):
        return seen.get((row, kind), (None, "–"))[1]

    if len(kinds) <= len(cells.ROWS):
        table(*by_row, text)
    else:
        table(*reversed(by_row), lambda kind, row: text(row, kind))
    for (row, kind), (ran, _) in seen.items():
        if ran and ran[-1].in_vain:
            print(f"- {row}, {kind}: {words(ran[-1])}")


if __name__ == "__main__":
    main(sys.argv[1:])
