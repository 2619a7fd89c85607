"""syncd runs: the reports of past runs."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from syncd.cli.frame import describe
from syncd.cli.output import human_bytes, human_count, human_duration, table
from syncd.core.errors import ConfigError

if TYPE_CHECKING:
    from syncd.config import Settings
    from syncd.store.rows import RunRow


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "List past runs, the newest first (the last 100 of each mirror are kept), or print one run's whole report.",
        ["syncd runs", "syncd runs 3f2a9c01b7de", "syncd runs --json"],
        [0, 15],
    )
    parser.add_argument("id", nargs="?", default="", help="a run's id: print its whole report")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")


def run(args: argparse.Namespace, settings: Settings) -> int:
    from syncd.app.site import Site

    with Site(settings).reading() as catalogue:
        rows = catalogue.run(args.id) if args.id else catalogue.runs(100)
    if args.id and not rows:
        raise ConfigError(f"there is no run {args.id}", hint="syncd runs")
    if args.json or args.id:
        for row in rows:
            json.dump(row.as_json(), sys.stdout, ensure_ascii=False, indent=None if args.json else 2)
            sys.stdout.write("\n")
    else:
        _print(rows)
    return 0


def _print(rows: list[RunRow]) -> None:
    lines = [
        [
            row.run_id,
            row.mirror,
            row.started_at,
            row.state,
            *(human_count(row.report.get(count, 0)) for count in ("fetched", "retired", "failed")),
            human_bytes(row.report.get("bytes", 0)),
            human_duration(row.report.get("duration_s", 0.0)),
        ]
        for row in rows
    ]
    header = ["RUN", "MIRROR", "STARTED", "STATE", "FETCHED", "RETIRED", "FAILED", "READ", "TOOK"]
    print(table(header, lines, right=header[4:]), end="")
