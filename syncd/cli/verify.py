"""syncd verify: re-hash what is held."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from syncd.cli.frame import describe
from syncd.cli.output import Progress, human_bytes, human_count, printable

if TYPE_CHECKING:
    from syncd.config import Settings
    from syncd.engine.verify import Verification


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Re-hash the files of the mirrors and compare them with the catalogue. A damaged file is no longer held: "
        "it goes to the trash, and the next run (or --repair, now) fetches it again.",
        ["syncd verify", "syncd verify --sample 5%", "syncd verify --source --repair"],
        [0, 3, 10, 11, 12, 13, 14, 15],
    )
    parser.add_argument(
        "--mirror", metavar="NAME", action="append", default=[], help="this mirror only (may be repeated)"
    )
    parser.add_argument("--source", action="store_true", help="read the source's bytes too, and compare them")
    parser.add_argument("--checksums", action="store_true", help="compare with the SHA256SUMS files found on the share")
    parser.add_argument("--sample", metavar="N%", type=_percent, default=1.0, help="a random part of the files")
    parser.add_argument("--repair", action="store_true", help="fetch what is wrong at once")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _percent(text: str) -> float:
    value = float(text.removesuffix("%")) / 100
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no percentage from 1% to 100%")
    return value


def run(args: argparse.Namespace, settings: Settings) -> int:
    from syncd.app.verifying import Verifying

    bars: list[Progress] = []

    def progress(name: str) -> Callable[[Verification], None]:
        bar = Progress(name)
        bars.append(bar)
        return lambda done: bar.update(done.checked, done.total, done.bytes, done.bytes)

    try:
        results = Verifying(settings).verify(
            args.mirror,
            fraction=args.sample,
            against_source=args.source,
            against_checksums=args.checksums,
            repair=args.repair,
            progress=progress,
        )
    finally:
        for bar in bars:
            bar.close()
    if args.json:
        json.dump({"mirrors": [result.as_json() for result in results]}, sys.stdout, ensure_ascii=False)
        sys.stdout.write("\n")
    else:
        for result in results:
            _print(result)
    return max((result.exit_code for result in results), default=0)


def _print(result: Verification) -> None:
    print(
        f"{printable(result.name)}: {human_count(result.checked)} files checked ({human_bytes(result.bytes)}), "
        f"{human_count(result.damaged)} wrong, {human_count(result.repaired)} repaired"
    )
    for problem in result.problems:
        print(f"  wrong: {printable(problem.path)}  ({problem.reason.value}: {printable(problem.detail)})")
    if result.damaged > result.repaired:
        print("  next: syncd run-once")
