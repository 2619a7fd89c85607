"""worker-glue resolve: where the verified file of a server path is, or why there is none."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from syncd.client.program import typed
from worker_glue.cli.frame import describe
from worker_glue.cli.output import printable

if TYPE_CHECKING:
    from pathlib import Path

    from syncd.core.resolution import Resolution
    from worker_glue.resolver import Resolver


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Tell where the verified local file of a path is, in any spelling that a task may use, and print that. Where "
        "there is none, say why on stderr. The daemon is asked, else the catalogue, else the manifest in SYNCD_MOUNTS.",
        [
            "worker-glue resolve Bhushanji/hin-typed/x.JPG",
            "worker-glue resolve --wait 60 --json /app/Bhushanji/hin-typed/x.JPG",
        ],
        [0, 4, 5, 6, 7, 10],
    )
    parser.add_argument("path", help="the path, in any spelling")
    parser.add_argument(
        "--wait", metavar="SECONDS", type=seconds, default=0.0, help="have it fetched first, if need be, for so long"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, as POST /api/v1/resolve answers")


def seconds(text: str) -> float:
    """Read an option that is a time."""
    found = float(text)
    if not 0 <= found <= 7 * 86_400:
        raise argparse.ArgumentTypeError(f"{text} is not 0 to {7 * 86_400} seconds")
    return found


def run(args: argparse.Namespace) -> int:
    with resolver(args) as files:
        found = files.ensure(args.path, args.wait) if args.wait else files.resolve(args.path)
    if args.json:
        json.dump(found.as_json(), sys.stdout, ensure_ascii=False)
        sys.stdout.write("\n")
    elif found.local_path is not None:
        print(found.local_path)
    else:
        tell(args.path, found, args.config)
    return exit_code(found)


def resolver(args: argparse.Namespace) -> Resolver:
    """Return the resolver for a verb's arguments. Raises ConfigError: the file that they name cannot be used."""
    from worker_glue.cli import settings
    from worker_glue.resolver import Resolver

    return Resolver.from_settings(settings.load(args))


def exit_code(found: Resolution) -> int:
    """Return what a command ends with that wanted a path."""
    from syncd.core.resolution import State

    match found.state:
        case State.READY:
            return 0
        case State.FETCHING:
            return 4
        case State.MISSING | State.NO_MIRROR:
            return 5
        case State.REFUSED:
            return 6
        case State.AMBIGUOUS:
            return 7
        case State.UNAVAILABLE:
            return 10


def tell(spelled: str, found: Resolution, config: Path | None) -> None:
    """Say on stderr why a path is not ready."""
    from syncd.core.reasons import MEANING

    why = "" if found.reason is None else f" ({found.reason.value}): {MEANING[found.reason][0]}"
    _say(f"{spelled} is {found.state.value}{why}")
    if found.listed_at:
        _say(f"  last complete look at the source: {found.listed_at}")
    if found.near:
        _say("  near names: " + ", ".join(found.near))
    if found.candidates:
        _say("  it may mean: " + ", ".join(found.candidates))
    if found.hint:
        _say(f"  next: {typed(found.hint, config)}")


def _say(line: str) -> None:
    print(printable(line), file=sys.stderr)
