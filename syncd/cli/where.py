"""syncd where: which hosts hold a file."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from syncd.cli.frame import describe
from syncd.cli.output import human_ago, human_bytes, printable, table

if TYPE_CHECKING:
    from syncd.app.whereabouts import Holder, Whereabouts
    from syncd.config import Settings
    from syncd.registry.documents import HostRow

_HELD = {True: "yes", False: "no", None: "?"}


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Tell which hosts hold a file, as the registry in MongoDB says: since when, which bytes, and when each host "
        "was last heard of. The path may be spelled in any way, as for syncd why. Hosts whose configuration has no "
        'registry_files = true in [mongo] record only which collections they mirror: of those, "?" is shown.'
        "\n\n"
        "3: no host holds it; 10: MongoDB cannot be reached; 12: MongoDB refuses the login.",
        ["syncd where Bhushanji/hin-typed/x.JPG", "syncd where --json /app/Bhushanji/eng-typed/x.pdf"],
        [0, 3, 10, 12],
    )
    parser.add_argument("path", help="the path, in any spelling")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace, settings: Settings) -> int:
    from syncd.app import whereabouts

    with whereabouts.asking(settings, warn) as registry:
        found = whereabouts.find(registry, settings, args.path)
    if args.json:
        json.dump(found.as_json(), sys.stdout, ensure_ascii=False)
        sys.stdout.write("\n")
    else:
        _print(found)
    return found.exit_code


def _print(found: Whereabouts) -> None:
    print(printable(found.server_path))
    if not found.holders:
        print(f"  no host holds it ({printable(found.place)})")
        return
    header = ["HOST", "HELD", "SINCE", "SIZE", "SHA256", "GENERATION", "HEARTBEAT"]
    print(table(header, [_row(holder) for holder in found.holders], right=["SIZE", "GENERATION"]), end="")
    for remark in found.remarks:
        print(f"  ! {printable(remark)}")


def _row(holder: Holder) -> list[str]:
    held = holder.holding
    since, size, digest, generation = "-", "-", "-", "-"
    if held is not None:
        since, size = ago(held.since, "-"), human_bytes(held.size)
        digest, generation = held.sha256[:12], str(held.generation)
    return [holder.host.name, _HELD[holder.held], since, size, digest, generation, heard(holder.host)]


def heard(host: HostRow) -> str:
    """Return when a host was last heard of; one that is silent is shouted."""
    if not host.at:
        return "NEVER"
    return f"SILENT, {human_ago(host.age_s)}" if host.stale else human_ago(host.age_s)


def ago(at: str, never: str) -> str:
    """Return how long ago a time (ISO 8601) was, by this machine's clock."""
    return human_ago((datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds()) if at else never


def warn(text: str) -> None:
    """Tell of what works but should be corrected."""
    print(f"warning: {printable(text)}", file=sys.stderr)
