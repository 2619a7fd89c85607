"""Commands in a page, with the output that it shows for them.

In a block marked `console` a line that begins with "$ " is a command, and what follows is its output. A block marked
`python NAME` is saved under that name. A line "..." stands for any lines, "..." within a line for anything but a line's
end. What differs from day to day (times, how long something took, sizes of disks, process ids, versions) is shown as it
was once, and compared by its form only. Other blocks are not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

BLOCK = re.compile(r"^```(?:console|python (?P<name>\S+))\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
ANY = "..."
MOVING = (
    (re.compile(r"\bjust now\b|[\d.]+ (?:ms|s|min|h) ago\b"), "AGO"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ][\d:.]+(?:Z| UTC)?"), "TIME"),
    (re.compile(r"\b[\d.]+ [KMGT]?B/s"), "RATE"),
    (re.compile(r"\b[\d.]+ m?s\b"), "TOOK"),
    (re.compile(r"\b[\d.]+ [GT]B\b"), "DISK"),
    (re.compile(r"\bpid \d+"), "PID"),
    (re.compile(r"\b\d\d:\d\d\b|(?<=  )now(?=  )"), "CLOCK"),  # a run may be going on
    (re.compile(r"\b\d+\.\d+\.\d+\b(?!\.)"), "VERSION"),
    (re.compile(r"  +"), " "),  # columns are as wide as what is in them
)


class Step(NamedTuple):
    """A command, what is shown for it, and where it stands."""

    command: str
    shown: str
    where: str


def steps(page: Path) -> Iterator[Step]:
    """Yield the commands of a page in their order."""
    text = page.read_text(encoding="utf-8")
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start()) + 2
        if block["name"]:
            yield Step(f"cat > {block['name']} <<'END'\n{block['text']}END", "", f"{page.name}:{line}")
        else:
            yield from _typed(page.name, line, block["text"])


def _typed(name: str, line: int, text: str) -> Iterator[Step]:
    for command in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        typed, _, shown = command.partition("\n")
        yield Step(typed, shown, f"{name}:{line}")
        line += command.count("\n")


def fits(shown: str, said: str) -> bool:
    """Say whether output is what a page shows. Blanks at the ends of lines and empty lines at the ends do not count."""
    pattern = ""
    for line in _still(shown):
        if line == ANY:
            pattern += r"(?:[^\n]*\n)*"
        else:
            pattern += ".*?".join(re.escape(part) for part in line.split(ANY)) + "\n"
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in _still(said))) is not None


def _still(text: str) -> list[str]:
    for moving, form in MOVING:
        text = moving.sub(form, text)
    return [line.rstrip() for line in text.strip("\n").splitlines()]
