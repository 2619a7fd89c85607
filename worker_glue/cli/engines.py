"""worker-glue engines: the OCR engines that are installed, and whether they can be used."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from worker_glue.cli.frame import describe
from worker_glue.cli.output import printable, table
from worker_glue.cli.settings import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker_glue.ocr.found import About

_LANGUAGES_SHOWN = 12


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "List the OCR engines that are installed, with versions and languages, and why one cannot be used. "
        "The one that the configuration names is marked with *."
        "\n\n"
        "3: the configured engine cannot be used.",
        ["worker-glue engines", "worker-glue engines --json"],
        [0, 3],
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print the engines."""
    from worker_glue.ocr.found import about, all_engines

    worker = load(args).worker
    engines = list(all_engines(worker.engines))
    if worker.engine not in [engine.name for engine in engines]:
        engines.append(about(worker.engine, worker.engines.get(worker.engine, {})))
    if args.json:
        entries = [_entry(engine, worker.engine) for engine in engines]
        json.dump({"engine": worker.engine, "engines": entries}, sys.stdout, ensure_ascii=False)
        sys.stdout.write("\n")
    else:
        _print(engines, worker.engine)
    return 0 if all(engine.usable for engine in engines if engine.name == worker.engine) else 3


def _entry(engine: About, configured: str) -> dict[str, Any]:
    return {
        "name": engine.name,
        "configured": engine.name == configured,
        "usable": engine.usable,
        "version": engine.version or None,
        "languages": list(engine.languages),
        "problems": list(engine.problems),
        "hint": engine.hint or None,
    }


def _print(engines: Sequence[About], configured: str) -> None:
    rows = [_row(engine, configured) for engine in engines]
    lines = table(["ENGINE", "VERSION", "USABLE", "LANGUAGES"], rows).splitlines()
    print(lines[0])
    for engine, line in zip(engines, lines[1:], strict=True):
        print(line)
        for problem in engine.problems:
            print(f"  ! {printable(problem)}")
        if engine.hint:
            print(f"    next: {printable(engine.hint)}")


def _row(engine: About, configured: str) -> list[str]:
    name = f"{engine.name} *" if engine.name == configured else engine.name
    if not engine.usable:
        return [name, "-", "NO", "-"]
    return [name, engine.version, "yes", _languages(engine.languages)]


def _languages(codes: Sequence[str]) -> str:
    if not codes:
        return "any"
    more = len(codes) - _LANGUAGES_SHOWN
    shown = ", ".join(codes[:_LANGUAGES_SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown
