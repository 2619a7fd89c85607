"""worker-glue stale: results that were made from bytes that the source has no more."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from syncd.client.program import typed
from worker_glue.cli.frame import describe
from worker_glue.cli.output import human_count, printable, table
from worker_glue.cli.settings import load

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from worker_glue.desk.staleness import Judged

EXIT_STALE = 3
SHOWN = 200


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `worker-glue stale`."""
    describe(
        parser,
        "List results whose source has changed since, or is gone: each result says from which bytes it was made "
        "(source_sha256), and these are compared with what the mirror holds now. Results of older workers do not say "
        "it; they, and files that cannot be looked at now, count as unknown. Without MongoDB this host's own store is "
        "asked, which remembers 30 days."
        "\n\n"
        "0: none is stale; 3: some are.",
        ["worker-glue stale", "worker-glue stale --job 3f0c8b1e-6f0a-4a52-9d55-0c1de4a1a3a7 --json"],
        [0, 3, 10, 12, 15],
    )
    parser.add_argument("--job", metavar="ID", help="results of this job only")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Compare; 0 when no result is stale, else 3."""
    from worker_glue.desk.links import opened_paths, opened_sources
    from worker_glue.desk.staleness import counts, judged, stale
    from worker_glue.desk.telling import Telling

    settings = load(args)
    with Telling() as tell, opened_paths(settings) as paths, opened_sources(settings, args.job) as rows:
        found = judged(rows, paths, tell)
    old = stale(found)
    if args.json:
        told = {**counts(found), "stale": [each.as_json() for each in old]}
        json.dump(told, sys.stdout, ensure_ascii=False)
        sys.stdout.write("\n")
    else:
        _print(counts(found), old, args.config)
    return EXIT_STALE if old else 0


def _print(counts: dict[str, int], old: Sequence[Judged], config: Path | None) -> None:
    print(", ".join(f"{human_count(count)} {state}" for state, count in counts.items()))
    if not old:
        return
    rows = [[each.freshness.value, each.row.job_id, str(each.row.file_index), each.row.file_path] for each in old]
    print(table(["STATE", "JOB", "INDEX", "PATH"], rows[:SHOWN], right=["INDEX"]), end="")
    if len(old) > SHOWN:
        print(f"  ... and {len(old) - SHOWN} more (all of them: --json)")
    changed = dict.fromkeys(each.row.file_path for each in old if each.freshness == "changed")
    if changed:
        import shlex

        submit = shlex.join(["worker-glue", "submit", *list(changed)[:SHOWN], "--languages", "CODES"])
        print(f"  next: {printable(typed(f'make a new job, in the languages of the old one: {submit}', config))}")
