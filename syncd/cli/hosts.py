"""syncd hosts: the hosts that mirror, and how they are."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from syncd.cli.frame import describe
from syncd.cli.output import human_bytes, human_count, printable, table
from syncd.cli.where import ago, heard, warn

if TYPE_CHECKING:
    from syncd.app.whereabouts import Roll
    from syncd.config import Settings
    from syncd.registry.documents import HostRow, MirrorRow

_SHORT_ID = 8


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "List the hosts that have told the registry in MongoDB of themselves: version, mirrors with their state, "
        "workers, and when each was last heard of. A host that has been silent for two minutes is marked."
        "\n\n"
        "10: MongoDB cannot be reached; 12: MongoDB refuses the login.",
        ["syncd hosts", "syncd hosts --json"],
        [0, 10, 12],
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace, settings: Settings) -> int:
    from syncd.app import whereabouts

    with whereabouts.asking(settings, warn) as registry:
        roll = whereabouts.call_the_roll(registry)
    if args.json:
        json.dump(roll.as_json(), sys.stdout, ensure_ascii=False)
        sys.stdout.write("\n")
    else:
        _print(roll)
    return 0


def _print(roll: Roll) -> None:
    if not roll.hosts:
        print(f"no host has registered ({printable(roll.place)})")
        return
    header = ["HOST", "ID", "VERSION", "HEARTBEAT", "WORKERS", "MIRROR", "STATE", "FILES", "SIZE", "LAST SCAN"]
    rows = [row for host in roll.hosts for row in _rows(host)]
    print(table(header, rows, right=["WORKERS", "FILES", "SIZE"]), end="")
    for remark in roll.remarks:
        print(f"  ! {printable(remark)}")


def _rows(host: HostRow) -> list[list[str]]:
    """Return a host's lines: one for each mirror, what they share on the first."""
    about = [host.name, host.id[:_SHORT_ID], host.version, heard(host), human_count(host.workers)]
    mirrors = [_mirror(mirror) for mirror in host.mirrors] or [["-"] * 5]
    return [(about if not at else [""] * len(about)) + mirror for at, mirror in enumerate(mirrors)]


def _mirror(mirror: MirrorRow) -> list[str]:
    state = mirror.state if mirror.state in ("ok", "paused") else mirror.state.upper()
    return [mirror.name, state, human_count(mirror.files), human_bytes(mirror.bytes), ago(mirror.last_success, "never")]
