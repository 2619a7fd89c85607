"""syncd approve: let through what a run held back."""

from __future__ import annotations

import argparse
import sys
from shlex import quote
from typing import TYPE_CHECKING

from syncd.cli import ask
from syncd.cli.frame import Given, describe
from syncd.cli.output import counted, printable
from syncd.client.program import typed
from syncd.core.errors import ConfigError, PlanRefused
from syncd.core.reasons import Reason

if TYPE_CHECKING:
    from pathlib import Path

    from syncd.config import Settings
    from syncd.store.reading import ReadonlyMirrorCatalogue


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Show what the last run held back (many files gone or changed at once) and ask. The next run carries out "
        "exactly that set: what is back by then drops out, what is new is held back again. It lifts no other halt (an "
        "empty share, another share, a target that is not there), and says so.",
        ["syncd approve", "syncd approve --mirror newsletters --yes"],
        [0, 11, 15],
    )
    parser.add_argument("--mirror", metavar="NAME", action=Given, default="", help="this mirror only")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(args: argparse.Namespace, settings: Settings) -> int:
    from syncd.app.site import Site

    app = Site(settings)
    if args.mirror and settings.mirror(args.mirror) is None:
        raise ConfigError(f'there is no mirror "{args.mirror}" in {settings.path}', hint="syncd status")
    names = [args.mirror] if args.mirror else [mirror.name for mirror in settings.mirrors]
    with app.reading() as catalogue:
        halted = {name: catalogue.mirror(name).halted() for name in names}
        others = [
            line for name in names if not halted[name] for line in _otherwise(name, catalogue.mirror(name), args.config)
        ]
    halted = {name: items for name, items in halted.items() if items}
    if not halted:
        print("nothing is held back")
    for line in others:
        print(printable(line))
    if not halted:
        return 0
    for name, items in halted.items():
        print(f"{printable(name)}: {counted(len(items), 'file')}")
        for path, action in items:
            print(f"  {action:<7} {printable(path)}")
    if not args.yes and not _agreed(args.mirror):
        print("nothing approved")
        return 0
    from syncd.cli.following import daemon_of

    client = daemon_of(settings)
    if client is not None:
        with client:
            for name, items in halted.items():
                client.approve(name, [path for path, _ in items])
        print("approved; the daemon does it now (what is retired goes to the trash)")
        print(f"  next: {printable(typed('syncd status', args.config))}")
        return 0
    with app.writing() as catalogue:
        for name, items in halted.items():
            catalogue.mirror(name).approve(path for path, _ in items)
    print("approved; the next run does it (what is retired goes to the trash)")
    run = "syncd run-once" + (f" --mirror {quote(args.mirror)}" if args.mirror else "")
    print(f"  next: {printable(typed(run, args.config))}")
    return 0


def _otherwise(name: str, mirror: ReadonlyMirrorCatalogue, config: Path | None) -> list[str]:
    """Say what halts a mirror that holds nothing back, and what to do: approving would be of no use."""
    last = mirror.last_run()
    if last is None or last.exit_code != PlanRefused.exit_code:
        return []
    error = last.report.get("error") or {}
    if error.get("reason") == Reason.TOO_MANY_CHANGES:
        done = "what was held back is approved already; the next run does it"
        return [f"{name}: {done}", f"  next: {typed(f'syncd run-once --mirror {quote(name)}', config)}"]
    why = str(error.get("message", "")).removeprefix(f"{name}: ")
    return [
        f"{name} is halted, and approving does not lift that: {why}",
        f"  next: {typed(str(error.get('hint', 'syncd status')), config)}",
    ]


def _agreed(mirror: str) -> bool:
    if not sys.stdin.isatty():
        hint = "syncd approve --yes" + (f" --mirror {quote(mirror)}" if mirror else "")
        raise ConfigError("approve asks, and there is no terminal to answer at", hint=hint)
    return ask.agreed("Let exactly this through?")
