"""syncd announce: send announcements again."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from syncd.cli.frame import Given, describe
from syncd.cli.output import human_count, printable
from syncd.client.program import typed
from syncd.core.errors import ConfigError

if TYPE_CHECKING:
    from syncd.config import Settings

LONGEST_S = 10 * 365 * 86_400.0


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Announce again what is held: after nsqd was restarted and lost what it had, or for a new reader. Each "
        "announcement keeps its id, so readers that have had it already can tell. With a daemon, the daemon sends "
        "them; without one they are sent here.",
        [
            "syncd announce --since 15m",
            "syncd announce --since 2026-01-31T10:00",
            "syncd announce --path Bhushanji/hin-typed",
            "syncd announce --all --mirror newsletters",
        ],
        [0, 3, 11, 15],
    )
    parser.add_argument(
        "--since", metavar="TIME", help="what was announced since then: 15m, 2h, or a time in ISO 8601 (host.timezone)"
    )
    parser.add_argument(
        "--path", metavar="PATH", action="append", default=[], help="this file or folder, in any spelling (repeatable)"
    )
    parser.add_argument("--all", action="store_true", help="all that is held")
    parser.add_argument("--mirror", metavar="NAME", action=Given, default="", help="of this mirror only")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace, settings: Settings) -> int:
    if not (args.since or args.path or args.all):
        raise ConfigError("nothing is chosen: say --since, --path or --all", hint="syncd announce --since 15m")
    if args.all and (args.since or args.path):
        raise ConfigError("--all means everything: leave out --since and --path")
    since = _since(args.since, settings) if args.since else None
    paths, everything = _chosen(args, settings)
    by_daemon = _ask_daemon(settings, since, paths, everything)
    if by_daemon is not None:
        return _tell(args, settings, by_daemon, 0, daemon=True)
    from syncd.app.announcing import Announcing

    count, owed = Announcing(settings).announce(since=since, spelled=paths, everything=everything)
    return _tell(args, settings, count, owed, daemon=False)


def _chosen(args: argparse.Namespace, settings: Settings) -> tuple[list[str], bool]:
    """Return the paths as they are spelled, and whether it is everything; a mirror's name is a path too."""
    if not args.mirror:
        return args.path, args.all
    if settings.mirror(args.mirror) is None:
        raise ConfigError(f'there is no mirror "{args.mirror}" in {settings.path}', hint="syncd status")
    prefix = f"{args.mirror}/"
    return [path if path.startswith(prefix) else prefix + path for path in args.path] or [args.mirror], False


def _ask_daemon(settings: Settings, since: str | None, paths: list[str], everything: bool) -> int | None:
    """Have the daemon do it; None when none is running."""
    from syncd.client.api import connect

    client = connect(settings.host.state_dir)
    if client is None:
        return None
    with client:
        return int(client.announce(since=since, paths=paths, everything=everything)["owed"])


def _tell(args: argparse.Namespace, settings: Settings, count: int, owed: int, *, daemon: bool) -> int:
    mode = settings.nsq.announce
    if args.json:
        print(json.dumps({"announced_again": count, "still_owed": owed, "daemon": daemon, "announce": mode}))
    elif mode == "off":
        print(f'{human_count(count)} announced again in the feed; nothing is sent, since nsq.announce = "off"')
    elif mode == "local":
        print(f"{human_count(count)} announced again in the feed (syncd events)")
    elif daemon:
        print(f"{human_count(count)} to be announced again; the daemon sends them")
    else:
        print(f"{human_count(count)} announced again" + (f"; {human_count(owed)} still owed" if owed else ""))
    if owed and not args.json:
        print(f"  next: {printable(typed('nsqd did not take them, and they are kept: syncd doctor', args.config))}")
    return 3 if owed else 0


def _since(text: str, settings: Settings) -> str:
    """Return a time as ISO 8601 UTC: a duration counts back from now, a time without a zone is the host's."""
    from syncd.config.values import duration

    try:
        at = datetime.now(UTC) - timedelta(seconds=duration(text, 0.0, LONGEST_S))
    except ValueError:
        at = _time(text, settings)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _time(text: str, settings: Settings) -> datetime:
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is None and settings.host.zone() is not None:
            found = found.replace(tzinfo=settings.host.zone())
        return found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ConfigError(
            f'"{text[:60]}" is neither a duration nor a time', hint="15m, 2h, 2026-01-31T10:00 or 2026-01-31T10:00Z"
        ) from None
