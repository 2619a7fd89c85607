"""What every verb's --help shows: an example, and the exit codes with their meaning."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from syncd.client import program

EXITS = {
    0: "done",
    1: "a bug in syncd",
    2: "the configuration or the command line is wrong",
    3: "finished, but something failed",
    10: "the source cannot be reached",
    11: "another syncd is running",
    12: "login refused",
    13: "held back: the plan or the target needs a person",
    14: "no space left",
    15: "the catalogue cannot be used",
    130: "interrupted",
    143: "terminated",
}


def describe(parser: argparse.ArgumentParser, about: str, examples: Sequence[str], exits: Sequence[int]) -> None:
    """Give a verb's parser its description, its examples and the exit codes of its own (1, 2, 130, 143: always)."""
    program.describe(parser, about, examples, exits, EXITS)
