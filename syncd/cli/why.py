"""syncd why: everything known about one path."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from syncd.cli.frame import describe
from syncd.cli.output import printable
from syncd.client.program import typed

if TYPE_CHECKING:
    from pathlib import Path

    from syncd.config import Settings
    from syncd.engine.why import Known


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Tell everything known about one path, in any spelling (as a task names it, as the share does, or the local "
        "path): what is held, what the server listed, why it is not here, names that are near, and what happens next.",
        [
            "syncd why Bhushanji/hin-typed/x.JPG",
            r"syncd why '\\172.12.0.132\gvpocr-bhushanji\eng-typed\x.pdf'",
        ],
        [0, 15],
    )
    parser.add_argument("path", help="the path, in any spelling")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each mirror that may hold it")


def run(args: argparse.Namespace, settings: Settings) -> int:
    from syncd.app.telling import Telling

    known = Telling(settings).why(args.path)
    for each in known:
        if args.json:
            json.dump(each.as_json(), sys.stdout, ensure_ascii=False)
            sys.stdout.write("\n")
        else:
            _print(each, args.config)
    return 0


def _print(known: Known, config: Path | None) -> None:
    print(f"{printable(known.mirror)}: {printable(known.path) or '(the root)'}")
    told = known.as_json()
    for label, key in (
        ("state", "state"),
        ("local path", "local_path"),
        ("on disk", "on_disk"),
        ("size", "size"),
        ("sha256", "sha256"),
        ("generation", "generation"),
        ("left out by", "excluded_by"),
        ("reason", "reason"),
        ("meaning", "meaning"),
        ("detail", "detail"),
        ("attempts", "attempts"),
        ("since", "since"),
        ("last listed", "listed_at"),
        ("stand-by", "stand_by"),
    ):
        value = told[key]
        if value not in (None, "", 0) or key == "on_disk":
            print(f"  {label + ':':<13}{printable(_said(value))}")
    if known.near:
        print("  near names:  " + printable(", ".join(known.near)))
    print(f"  next:        {printable(typed(known.next, config))}")


def _said(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
