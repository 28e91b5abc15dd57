"""The fenced blocks of a page, and the commands in them."""

import os
import re
import subprocess
from dataclasses import dataclass, field

# Why a block cannot be run here.
NEEDS = {
    "network": "a registry, or a list of prices of others",
    "release": "a release build",
    "root": "root, and a service manager",
    "docker": "a container engine",
    "kubernetes": "a cluster",
    "postgres": "a PostgreSQL database",
}
SHELLS = ("sh", "console")
LANGUAGES = (*SHELLS, "yaml", "json", "lua", "rust", "toml", "python", "js", "")


@dataclass
class Block:
    page: str
    line: int
    language: str
    # `needs=WHY` or `test=FILE`, as the fence says.
    marks: dict
    text: str
    # Of the headings above, the nearest.
    heading: str
    commands: list = field(default_factory=list)

    def where(self):
        return f"{self.page}:{self.line}"


def blocks(root, page):
    """All fenced blocks of a page. Raises AssertionError where a fence says what is not known."""
    found, heading, open_block = [], "", None
    with open(os.path.join(root, page), encoding="utf-8") as file:
        lines = file.read().split("\n")
    for number, line in enumerate(lines, 1):
        if open_block is not None:
            if line == "```":
                block = open_block
                block.text = "\n".join(block.text)
                block.commands = commands(block) if block.language in SHELLS else []
                found.append(block)
                open_block = None
            else:
                open_block.text.append(line)
        elif line.startswith("```"):
            language, *words = line[3:].split(" ")
            marks = dict(word.partition("=")[::2] for word in words)
            open_block = Block(page, number, language, marks, [], heading)
        elif re.match(r"#{1,4} ", line):
            heading = line.lstrip("# ")
    assert open_block is None, f"{page}: the block of line {open_block.line} has no end"
    for block in found:
        check(root, block)
    return found


def check(root, block):
    """That a block's marks are known, and true: a test that is named must name the page, or the commands."""
    assert block.language in LANGUAGES, f"{block.where()}: {block.language}?"
    assert set(block.marks) <= {"needs", "test"}, f"{block.where()}: {block.marks}?"
    needs, test = block.marks.get("needs"), block.marks.get("test")
    assert needs is None or needs in NEEDS, f"{block.where()}: needs={needs}? known are {', '.join(NEEDS)}"
    if test is None:
        return
    path = os.path.join(root, test)
    assert os.path.isfile(path), f"{block.where()}: {test} is not there"
    with open(path, encoding="utf-8") as file:
        text = file.read()
    words = [command.split()[0] for command in block.commands]
    names_it = os.path.basename(block.page) in text or (words and all(word in text for word in words))
    assert names_it, f"{block.where()}: {test} does not name this page, nor its commands"


def commands(block):
    """The commands of a block, one after the other: lines that belong together as a shell reads them. Of a `console` what follows
    `$ `; what is printed there is no command."""
    found, begun = [], []
    for line in block.text.split("\n"):
        if block.language == "console" and not begun:
            if not line.startswith("$ "):
                continue
            line = line[2:]
        if not begun and (not line.strip() or line.lstrip().startswith("#")):
            continue
        begun.append(line)
        if is_whole("\n".join(begun)):
            found.append("\n".join(begun))
            begun = []
    assert not begun, f"{block.where()}: no shell reads {begun[0]!r}"
    return found


def is_whole(text):
    if text.endswith("\\"):
        return False
    read = subprocess.run(["bash", "-n", "-c", text], capture_output=True, text=True)
    # A document that has not ended yet is a warning only.
    return read.returncode == 0 and "here-document" not in read.stderr


def inline(root, page):
    """The commands of ours that a page names in a sentence or a table, outside of its blocks."""
    with open(os.path.join(root, page), encoding="utf-8") as file:
        text = re.sub(r"^```.*?^```$", "", file.read(), flags=re.M | re.S)
    return [" ".join(span.split()) for span in re.findall(r"`(agentledger [^`]+)`", text)]
