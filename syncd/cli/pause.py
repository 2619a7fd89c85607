"""syncd pause: leave mirrors alone for some time."""

from __future__ import annotations

import argparse
import shlex
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from syncd.cli.frame import Given, describe
from syncd.cli.output import printable
from syncd.client.program import typed
from syncd.config.values import duration
from syncd.core.errors import ConfigError

if TYPE_CHECKING:
    from syncd.config import Settings

LONGEST_S = 366 * 86_400.0


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Leave mirrors alone: no scans, no hints, no verification, until the time is over or syncd resume. A file that "
        "a worker asks for is still fetched, and syncd run-once still runs. Works with and without a daemon.",
        ["syncd pause", "syncd pause Bhushanji --for 2h"],
        [0, 11, 15],
    )
    parser.add_argument("mirror", metavar="MIRROR", nargs="*", help="these mirrors only")
    parser.add_argument(
        "--for", dest="for_", metavar="TIME", action=Given, default="", help='how long, like "2h"; without: for good'
    )


def run(args: argparse.Namespace, settings: Settings) -> int:
    from syncd.cli.following import daemon_of
    from syncd.engine.status import FOR_EVER, PAUSED_NOTE

    names = chosen(args.mirror, settings)
    for_s = _seconds(args.for_)
    client = daemon_of(settings)
    if client is not None:
        with client:
            until = str(client.pause(names, for_s)["until"])
    else:
        until = FOR_EVER if for_s is None else (datetime.now(UTC) + timedelta(seconds=for_s)).strftime("%FT%TZ")
        set_notes(settings, names, PAUSED_NOTE, until)
    resume = typed(shlex.join(["syncd", "resume", *args.mirror]), args.config)
    when = f"until: {printable(resume)}" if until == FOR_EVER else f"until {until}"
    print(f"paused {', '.join(map(printable, names))} {when}")
    return 0


def chosen(names: list[str], settings: Settings) -> list[str]:
    """Return the mirrors that were named, or all. Raises ConfigError."""
    known = [mirror.name for mirror in settings.mirrors]
    for name in names:
        if name not in known:
            raise ConfigError(f'there is no mirror "{name}" in {settings.path}', hint=f"one of: {', '.join(known)}")
    return names or known


def set_notes(settings: Settings, names: list[str], topic: str, note: str) -> None:
    """Write a note of each mirror into the catalogue. Raises AlreadyRunning, CatalogueError."""
    from syncd.app.site import Site

    with Site(settings).writing() as catalogue:
        for name in names:
            catalogue.mirror(name).set_note(topic, note)


def _seconds(text: str) -> float | None:
    if not text:
        return None
    try:
        return duration(text, 1, LONGEST_S)
    except ValueError as error:
        raise ConfigError(f"--for: {error}", hint="syncd pause --for 2h") from None
