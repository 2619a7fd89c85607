"""syncd resume: go on with paused mirrors."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from syncd.cli.frame import describe
from syncd.cli.output import printable
from syncd.cli.pause import chosen, set_notes

if TYPE_CHECKING:
    from syncd.config import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Go on with paused mirrors; with a daemon, each is looked at at once.",
        ["syncd resume", "syncd resume Bhushanji"],
        [0, 11, 15],
    )
    parser.add_argument("mirror", metavar="MIRROR", nargs="*", help="these mirrors only")


def run(args: argparse.Namespace, settings: Settings) -> int:
    from syncd.cli.following import daemon_of
    from syncd.engine.status import PAUSED_NOTE

    names = chosen(args.mirror, settings)
    client = daemon_of(settings)
    if client is not None:
        with client:
            client.resume(names)
    else:
        set_notes(settings, names, PAUSED_NOTE, "")
    print(f"resumed {', '.join(map(printable, names))}")
    return 0
