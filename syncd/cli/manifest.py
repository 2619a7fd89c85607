"""syncd manifest: what is held, for sha256sum -c."""

from __future__ import annotations

import argparse
import sys
from shlex import quote
from typing import TYPE_CHECKING

from syncd.cli.frame import Given, describe
from syncd.core.errors import ConfigError

if TYPE_CHECKING:
    from syncd.config import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Print a line for each held file, as sha256sum does, with paths relative to the target.",
        [
            "syncd manifest --mirror Bhushanji > /tmp/sums && cd ~/data/Bhushanji && sha256sum -c /tmp/sums",
            "syncd manifest --json",
        ],
        [0, 15],
    )
    parser.add_argument(
        "--mirror", metavar="NAME", action=Given, default="", help="this mirror (needed when there are several)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")


def run(args: argparse.Namespace, settings: Settings) -> int:
    from syncd.app.site import Site
    from syncd.store.manifest import manifest_lines

    name = _chosen(args.mirror, settings)
    output = sys.stdout.buffer
    with Site(settings).reading() as catalogue:
        records = catalogue.mirror(name).records()
        if args.json:
            output.writelines(manifest_lines(records))
        else:
            output.writelines(f"{record.sha256}  {path}\n".encode() for path, record in records)
    output.flush()
    return 0


def _chosen(name: str, settings: Settings) -> str:
    if name and settings.mirror(name) is None:
        raise ConfigError(f'there is no mirror "{name}" in {settings.path}', hint="syncd status")
    if not name and len(settings.mirrors) > 1:
        names = ", ".join(mirror.name for mirror in settings.mirrors)
        raise ConfigError(
            f"there are several mirrors: {names}", hint=f"syncd manifest --mirror {quote(settings.mirrors[0].name)}"
        )
    return name or settings.mirrors[0].name
