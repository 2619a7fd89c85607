"""What every verb's --help shows: an example, and the exit codes with their meaning."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from syncd.client import program

EXITS = {
    0: "done",
    1: "a bug in worker_glue",
    2: "the configuration or the command line is wrong",
    3: "finished, but something failed",
    4: "the file is on its way",
    5: "there is no such file on the source",
    6: "the path is refused: it can never be had",
    7: "the path is ambiguous: several mirrors hold it",
    10: "something that is needed cannot be reached",
    11: "it is running already",
    12: "login refused",
    14: "no space left",
    15: "the local store or the catalogue cannot be used",
    130: "interrupted",
    143: "terminated",
}


def describe(parser: argparse.ArgumentParser, about: str, examples: Sequence[str], exits: Sequence[int]) -> None:
    """Give a verb's parser its description, its examples and the exit codes of its own (1, 2, 130, 143: always)."""
    program.describe(parser, about, examples, exits, EXITS)
