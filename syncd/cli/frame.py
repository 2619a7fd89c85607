"""What every verb's --help shows: an example, and the exit codes with their meaning."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

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


class Given(argparse.Action):
    """An option's value, which is not empty: a variable that a script did not set is no wish for everything."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002 (argparse gives it)
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,  # noqa: ARG002 (argparse gives it)
    ) -> None:
        """Keep the value. Raises argparse.ArgumentError for an empty one."""
        if not values:
            raise argparse.ArgumentError(self, "is empty; leave it out where all is meant")
        setattr(namespace, self.dest, values)


def describe(parser: argparse.ArgumentParser, about: str, examples: Sequence[str], exits: Sequence[int]) -> None:
    """Give a verb's parser its description, its examples and the exit codes of its own (1, 2, 130, 143: always)."""
    program.describe(parser, about, examples, exits, EXITS)
