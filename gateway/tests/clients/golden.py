"""What the clients print, as golden files: everything that differs from run to run is replaced by what it is."""

import difflib
import os
import re

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden")
REWRITE = os.environ.get("AGENTLEDGER_GOLDEN") == "1"

REPLACED = [
    # They part digits that opencode would take for a status: the first is not seen, the second means nothing to a shell.
    ("\u2060", ""),
    (r"(?<=\w)''(?=\w)", ""),
    (r"\x1b\[[0-9;]*[A-Za-z]", ""),
    # Stack traces and the fields of error objects: paths and addresses of the machine.
    (r"(?m)^\s+at .*\n?", ""),
    (r"(?m)^(\s*)\[cause\]: SocketError[^}]*\{[^}]*\}\s*\}\n", ""),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uuid>"),
    (r"\b(ses|msg|req)_[0-9A-Za-z]{8,}", r"<\1>"),
    (r"\b01[0-9A-HJKMNP-TV-Z]{24}\b", "<id>"),
    (r"\bkey([ :])[0-9a-f]{8,24}\b", r"key\1<fingerprint>"),
    # What a request may cost depends on the length of the client's prompt; the rest of the sums is exact.
    (r"may cost up to \$[\d.]*\d", "may cost up to <cost>"),
    (r"of which \$[\d.]*\d must be free", "of which <cost> must be free"),
    (r"(budgets top-up \S+) [\d.]*\d ", r"\1 <amount> "),
    (r"\$[\d.]+ went into it", "<cost> went into it"),
    (r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun) 2\d{3}-\d\d-\d\d at \d\d:\d\d", "<time>"),
    (r"127\.0\.0\.1:\d+", "<gateway>"),
    (r"/\S*/(ba|z|da)?sh -lc", "<shell> -lc"),
    (r"\S*-2\d{3}-\d\d-\d\dT[\d-]+Z\.json", "<report>"),
    (r"\b2\d{3}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d+)?)?)?( ?UTC| ?Z)?", "<time>"),
    (r"\b[A-Z][a-z]{2} \d+(st|nd|rd|th), 2\d{3} \d+:\d\d [AP]M", "<time>"),
    (r"\bat \d+:\d\d [AP]M", "at <time>"),
    (r"\b\d+(\.\d+)? ?(ms|s|seconds|minutes|hours|h|min|m)\b", "<while>"),
    (r"('resets_at'|\"resets_at\"): ?\d+", r"\1: <time>"),
    (r"('resets_in_seconds'|\"resets_in_seconds\"): ?\d+", r"\1: <while>"),
    # An answer that is cut, of what length so ever.
    (r"(term\d+\s+)+", "<terms> "),
    # How often, depends on the machine.
    (r"Reconnecting\.\.\. \d+/\d+", "Reconnecting <n>"),
    (r"Attempt \d+ failed", "Attempt <n> failed"),
    (r"(?m)^.* ERROR codex_api::endpoint::responses_websocket: .*\n?", ""),
    (r"Tokens: .*", "Tokens: <counts>"),
    (r"(?m)^Aider v.*", "Aider <version>"),
    (r"OpenAI Codex v.*", "OpenAI Codex <version>"),
]
# Said about the machine and not by the gateway or the model.
NOISE = re.compile(
    r"^(WARNING: proceeding, even though we could not create PATH aliases|Reading additional input from stdin|YOLO mode|Ripgrep"
    # A connection that met the moment of a restart, which Gemini CLI makes anew by itself.
    r"|Attempt <n> failed\. Retrying with backoff\.\.\. Error: exception TypeError: fetch failed"
    r"|\[STARTUP\] |Warning: (Input is not a terminal|Basic terminal|256-color)|Analytics have been|Repo-map|Git repo:|\s*retryDelayMs:)"
)


def plain(text, home):
    text = text.replace(home, "~")
    for pattern, said in REPLACED:
        text = re.sub(pattern, said, text)
    lines = [line.rstrip() for line in text.splitlines()]
    return "\n".join(once([line for line in lines if line and not NOISE.match(line)]))


def once(lines):
    """Lines that are said again and again stand once: how often depends on the machine."""
    for length in range(1, 6):
        at = 0
        while at + 2 * length <= len(lines):
            if lines[at : at + length] == lines[at + length : at + 2 * length]:
                del lines[at : at + length]
            else:
                at += 1
    return lines


def section(client, cells):
    """What the user of one client saw in one row."""
    said = []
    for cell in cells:
        said.append(f"== {client}: exit code {cell.ran.code}")
        for name, text in (("", cell.ran.out), ("-- stderr\n", cell.ran.err)):
            text = plain(text, cell.home)
            if text:
                said.append(name + text)
    return "\n".join(said) + "\n"


def parts(text):
    """The sections of a golden file by client."""
    return {found[1]: found[0].strip() + "\n" for found in re.findall(r"(?ms)(^== (\S+): .*?)(?=^== (?!\2: )|\Z)", text)}


def kept(name):
    path = os.path.join(HERE, f"{name}.txt")
    if not os.path.exists(path):
        return ""
    with open(path) as file:
        return file.read()


def keep(name, text):
    os.makedirs(HERE, exist_ok=True)
    with open(os.path.join(HERE, f"{name}.txt"), "w") as file:
        file.write(text)


def same(name, expected, seen):
    if seen.strip() != expected.strip():
        diff = difflib.unified_diff(expected.splitlines(), seen.splitlines(), f"golden/{name}.txt", "seen", lineterm="")
        raise AssertionError("\n".join([*diff, "AGENTLEDGER_GOLDEN=1 writes it anew"]))


def differs(row, client, seen):
    """The client's section is not what the golden file of the row has."""
    return not REWRITE and parts(kept(row)).get(client, "").strip() != seen.strip()


def compare(row, sections):
    """Fails where a client's section is not what the golden file of the row has. Clients that are not here are passed over."""
    expected = parts(kept(row))
    if REWRITE:
        keep(row, "\n".join({**expected, **sections}.values()))
        return
    for client, seen in sections.items():
        same(row, expected.get(client, ""), seen)


def compare_text(name, seen):
    if REWRITE:
        keep(name, seen)
    else:
        same(name, kept(name), seen)
