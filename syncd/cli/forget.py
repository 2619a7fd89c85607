"""syncd forget: drop what is known of a mirror that is no longer configured."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from syncd.cli.frame import describe
from syncd.cli.output import printable
from syncd.core.errors import ConfigError

if TYPE_CHECKING:
    from syncd.config import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Forget a mirror that is gone from the configuration: its records leave the catalogue, its files stay.",
        ["syncd forget newsletters"],
        [0, 11, 15],
    )
    parser.add_argument("name", help="the mirror's name")


def run(args: argparse.Namespace, settings: Settings) -> int:
    from syncd.app.site import Site

    if settings.mirror(args.name) is not None:
        raise ConfigError(
            f'the mirror "{args.name}" is still in {settings.path}', hint="take it out of the configuration first"
        )
    with Site(settings).writing() as catalogue:
        known = [summary.name for summary in catalogue.mirrors()]
        if args.name not in known or not catalogue.forget_mirror(args.name):
            raise ConfigError(
                f'the catalogue knows no mirror "{args.name}"', hint=f"known: {', '.join(known) or 'none'}"
            )
    print(f"forgot {printable(args.name)}; its files are where they were")
    return 0
