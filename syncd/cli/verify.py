"""syncd verify: re-hash what is held."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

from syncd.cli.frame import describe
from syncd.cli.output import Progress, counted, human_bytes, human_count, printable
from syncd.client.program import typed

if TYPE_CHECKING:
    from pathlib import Path

    from syncd.client.api import ApiClient
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
    try:
        value = float(text.removesuffix("%")) / 100
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no percentage from 1% to 100%")
    return value


def run(args: argparse.Namespace, settings: Settings) -> int:
    from syncd.cli.following import daemon_of

    client = daemon_of(settings)
    with _Bars() as bars:
        if client is not None:
            with client:
                return _follow(client, args, bars)
        from syncd.app.verifying import Verifying

        results = Verifying(settings).verify(
            args.mirror,
            fraction=args.sample,
            against_source=args.source,
            against_checksums=args.checksums,
            repair=args.repair,
            progress=bars.start,
        )
    _show([result.as_json() for result in results], args)
    return max((result.exit_code for result in results), default=0)


def _follow(client: ApiClient, args: argparse.Namespace, bars: _Bars) -> int:
    """Have the daemon verify, and follow it."""
    from syncd.cli.following import follow

    errand_id = client.start_verify(
        args.mirror, source=args.source, checksums=args.checksums, repair=args.repair, fraction=args.sample
    )
    errand = follow(client, "verify", errand_id, bars.follow)
    bars.close()
    for error in errand.errors:
        print(f"error: {printable(error['message'])}", file=sys.stderr)
        if error["hint"]:
            print(f"  next: {printable(typed(error['hint'], args.config))}", file=sys.stderr)
    _show((errand.result or {}).get("mirrors", []), args)
    return errand.exit_code or 0


class _Bars:
    """One progress display a mirror."""

    def __init__(self) -> None:
        self._bars: dict[str, Progress] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for bar in self._bars.values():
            bar.close()

    def start(self, name: str) -> Callable[[Verification], None]:
        """Return what shows a verification here."""
        bar = self._bars[name] = Progress(name)
        return lambda done: bar.update(done.checked, done.total, done.bytes, done.bytes)

    def follow(self, told: Mapping[str, Any]) -> None:
        """Show a verification in the daemon."""
        if told["mirror"] not in self._bars:
            self.start(told["mirror"])
        self._bars[told["mirror"]].update(
            *(told[name] for name in ("files_done", "files_known", "bytes_done", "bytes_known"))
        )


def _show(results: list[dict[str, Any]], args: argparse.Namespace) -> None:
    if args.json:
        json.dump({"mirrors": results}, sys.stdout, ensure_ascii=False)
        sys.stdout.write("\n")
    else:
        for result in results:
            _print(result, args.config)


def _print(result: Mapping[str, Any], config: Path | None) -> None:
    print(
        f"{printable(result['name'])}: {counted(result['checked'], 'file')} checked "
        f"({human_bytes(result['bytes'])}), {human_count(result['damaged'])} wrong, "
        f"{human_count(result['repaired'])} repaired"
    )
    for problem in result["problems"]:
        print(f"  wrong: {printable(problem['path'])}  ({problem['reason']}: {printable(problem['detail'])})")
    if result["damaged"] > result["repaired"]:
        print(f"  next: {printable(typed('syncd run-once', config))}")
