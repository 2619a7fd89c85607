"""What stands in a page of the documentation: links, anchors, blocks of code, code in lines."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^( *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^\1```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
OPERATORS = frozenset("|&;()<>")


class Block(NamedTuple):
    """A block of code: its language ("" = none said), its text, the line it begins in."""

    language: str
    text: str
    line: int


def pages() -> list[Path]:
    """Return every page that people read."""
    found = [ROOT / "README.md", ROOT / "CHANGELOG.md"]
    for folder in ("docs", "deploy", "systemd", "launchd"):
        found += sorted((ROOT / folder).rglob("*.md"))
    return found


def blocks(text: str) -> Iterator[Block]:
    """Yield the blocks of code."""
    for found in FENCE.finditer(text):
        yield Block(found["language"], found["text"], text.count("\n", 0, found.start("text")) + 1)


def prose(text: str) -> str:
    """Return a page without its blocks of code; line numbers stay."""
    return FENCE.sub(lambda found: "\n" * found[0].count("\n"), text)


def code_in_lines(text: str) -> list[str]:
    """Return what stands between single backticks."""
    return [" ".join(found.split()) for found in CODE.findall(prose(text))]


def links(text: str) -> list[str]:
    """Return the targets of links and pictures that lead to other files or places of this repository."""
    return [target for target in LINK.findall(CODE.sub("", prose(text))) if "://" not in target]


def anchors(text: str) -> set[str]:
    """Return the names by which GitHub lets headings be linked to."""
    found: dict[str, int] = {}
    names = set()
    for heading in HEADING.findall(prose(text)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        names.add(f"{name}-{found[name]}" if name in found else name)
        found[name] = found.get(name, 0) + 1
    return names


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command in lines of shell; of a prompt's lines where there are prompts.

    Pipes, lists, redirections and parentheses end a command. Comments are left out. A line that no shell would read is
    passed over.
    """
    lines = text.replace("\\\n", " ").splitlines()
    if any(line.startswith("$ ") for line in lines):
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    for line in lines:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        try:
            for word in lexer:
                if OPERATORS.issuperset(word):
                    yield words
                    words = []
                else:
                    words.append(word)
        except ValueError:
            continue
        yield words
