"""syncd events: follow what becomes ready, is updated or removed."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from syncd.cli.frame import describe
from syncd.cli.output import human_bytes, printable
from syncd.core.errors import ConfigError

if TYPE_CHECKING:
    from syncd.client.api import ApiClient
    from syncd.config import Settings

PAGE = 1_000
LONG_POLL_S = 30.0
LOOK_EVERY_S = 1.0
QUIET_S = 3.0
"""--nsq --no-follow ends when nothing has come for so long."""


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Follow this host's numbered feed of announcements: what becomes ready, is updated or removed. It keeps seven "
        "days; a gap is shown. With --nsq CHANNEL the announcements of all hosts are read from the topic on nsqd, each "
        "once. A channel keeps for ever what nobody reads; NAME#ephemeral goes with its last reader.",
        [
            "syncd events",
            "syncd events --since 0 --no-follow --json",
            "syncd events --nsq 'look#ephemeral'",
        ],
        [0, 10, 15],
    )
    parser.add_argument(
        "--since",
        metavar="N",
        type=int,
        help="begin after this number; 0: with the oldest kept (default: the next that comes; with --no-follow 0)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line (FileReady v1 and seq)")
    parser.add_argument(
        "--follow", action=argparse.BooleanOptionalAction, default=True, help="wait for more, until Ctrl-C"
    )
    parser.add_argument("--nsq", metavar="CHANNEL", default="", help="read the topic on nsqd through this channel")


def run(args: argparse.Namespace, settings: Settings) -> int:
    if args.nsq and args.since is not None:
        raise ConfigError("--since counts in this host's own feed; a channel on nsqd keeps its place by itself")
    events = _from_nsq(args, settings) if args.nsq else _from_feed(args, settings)
    for event in events:
        _print(event, as_json=args.json)
    return 0


def _print(event: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(event, ensure_ascii=False), flush=True)
    elif "gap" in event:
        gap = event["gap"]
        said = f"-- a gap: announcements after {gap['after']} are not kept any more; going on with {gap['oldest']}"
        print(said, flush=True)
    else:
        size = human_bytes(event["size"]) if "size" in event else ""
        path = event.get("server_path") or f"{event.get('mirror')}/{event.get('path')}"
        parts = (event.get("seq"), event.get("at"), f"{event.get('event'):<7}", path, size, event.get("host"))
        print(printable("  ".join(str(part) for part in parts if part)), flush=True)


# --- the feed --------------------------------------------------------------------------------------------------------


def _from_feed(args: argparse.Namespace, settings: Settings) -> Iterator[dict[str, Any]]:
    """Yield the events of this host's feed; where numbers are missing, {"gap": {"after", "oldest"}}."""
    feed = _Feed(settings)
    since = args.since if args.since is not None else -1 if args.follow else 0
    try:
        while True:
            found = feed.page(since, LONG_POLL_S if args.follow else 0)
            if found["gap"]:
                yield {"gap": {"after": since, "oldest": found["oldest"]}}
            yield from found["events"]
            since = found["next"]
            if not args.follow and len(found["events"]) < PAGE:
                return
    finally:
        feed.close()


class _Feed:
    """The feed, asked of the daemon while one answers, else read from the catalogue."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: ApiClient | None = None

    def page(self, since: int, wait_s: float) -> dict[str, Any]:
        """Return a page; without any event only after wait_s, or at once for since -1."""
        deadline = time.monotonic() + wait_s
        while True:
            found = self._page(since, deadline - time.monotonic())
            if found["events"] or found["gap"] or since < 0 or time.monotonic() >= deadline:
                return found
            time.sleep(LOOK_EVERY_S)

    def close(self) -> None:
        """Close what is connected."""
        if self._client is not None:
            self._client.close()

    def _page(self, since: int, wait_s: float) -> dict[str, Any]:
        from syncd.client.api import connect
        from syncd.client.errors import ApiUnreachable

        if self._client is None:
            self._client = connect(self._settings.host.state_dir)
        if self._client is not None:
            try:
                return self._client.events(since, max(0.0, wait_s), PAGE)._asdict()
            except ApiUnreachable:  # it has ended meanwhile; its catalogue is there
                self.close()
                self._client = None
        from syncd.app.announcing import Announcing

        return Announcing(self._settings).events(since, PAGE)


# --- the topic -------------------------------------------------------------------------------------------------------


def _from_nsq(args: argparse.Namespace, settings: Settings) -> Iterator[dict[str, Any]]:
    """Yield the events of a topic on nsqd, each once."""
    import worker_glue

    nsq = settings.nsq
    if not nsq.nsqd and not nsq.lookupd:
        raise ConfigError(
            "no nsqd is configured", hint=f'add to {settings.path}: [nsq] nsqd_tcp_address = "127.0.0.1:4150"'
        )
    watch = worker_glue.watch(
        args.nsq,
        topic=nsq.topic,
        nsqd=nsq.nsqd,
        lookupd=nsq.lookupd,
        address_map=nsq.address_map,
        allow_direct=nsq.allow_direct,
        say=_say,
    )
    with watch:
        if args.follow:
            yield from watch
        while (event := watch.next_within(QUIET_S)) is not None:
            yield event


def _say(trouble: str) -> None:
    print(printable(trouble), file=sys.stderr, flush=True)
