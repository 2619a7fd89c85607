"""syncd status: how the mirrors are."""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from syncd.cli.frame import describe
from syncd.cli.output import human_ago, human_bytes, human_count, printable, table

if TYPE_CHECKING:
    from syncd.config import Settings
    from syncd.engine.status import MirrorStatus, Status

WATCH_S = 2.0


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Show how each mirror is: state, files, size, last scan, announcements owed, and what is wrong with the next "
        "command to type. 0: every mirror is ok; 3: one is behind or failing; 13: one is held back.",
        ["syncd status", "syncd status --json", "syncd status --watch"],
        [0, 3, 13, 15],
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--watch", action="store_true", help="print again every two seconds, until interrupted")


def run(args: argparse.Namespace, settings: Settings) -> int:
    from syncd.app.telling import Telling

    app = Telling(settings)
    while True:
        status = app.status()
        if args.json:
            json.dump(status.as_json(), sys.stdout, ensure_ascii=False)
            sys.stdout.write("\n")
        else:
            _print(status, settings)
        if not args.watch:
            return status.exit_code
        sys.stdout.flush()
        time.sleep(WATCH_S)


def _print(status: Status, settings: Settings) -> None:
    rows = [_row(mirror) for mirror in status.mirrors]
    print(table(["MIRROR", "STATE", "FILES", "SIZE", "LAST SCAN", "OWED"], rows, right=["FILES", "SIZE"]), end="")
    for mirror in status.mirrors:
        for line in _remarks(mirror):
            print(f"  ! {mirror.name}: {printable(line)}")
    running = f"daemon running (pid {status.daemon_pid})" if status.daemon_pid else "no daemon running"
    print(f"host {printable(status.host)} | {running} | configuration {printable(str(settings.path))}")


def _row(mirror: MirrorStatus) -> list[str]:
    shown = mirror.state if mirror.state in ("ok", "paused") else mirror.state.upper()
    owed = f"{human_count(mirror.owed)} announcement{'' if mirror.owed == 1 else 's'}" if mirror.owed else "-"
    return [mirror.name, shown, human_count(mirror.files), human_bytes(mirror.bytes), _last_scan(mirror), owed]


def _last_scan(mirror: MirrorStatus) -> str:
    if not mirror.last_success:
        return "never"
    age = datetime.now(UTC) - datetime.fromisoformat(mirror.last_success)
    return human_ago(age.total_seconds())


def _remarks(mirror: MirrorStatus) -> list[str]:
    lines = []
    if mirror.message:
        lines.append(mirror.message)
    if mirror.hint:
        lines.append(f"next: {mirror.hint}")
    if mirror.refusals:
        first = mirror.refusals[0]
        hint = mirror.as_json()["refused"][0]["hint"]
        lines.append(f"{len(mirror.refusals)} refused names, the first: {first.path} ({first.reason.value}); {hint}")
    return lines
