"""Where originals live: one adapter a protocol, all held to ports.Source by tests/conformance.

Here is only what the adapters share; importing this loads none of them and no client library.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from syncd.core.errors import EntryChanged, Scope, SyncdError
from syncd.core.model import Fingerprint, RelPath, Wanted
from syncd.ports import Failed, FetchQueue, Pace

QUEUE_POLL_S = 0.2
"""How long a source waits on an empty queue before it looks whether it was closed."""


def each_wanted(queue: FetchQueue, still_open: Callable[[], None]) -> Iterator[Wanted]:
    """Take files until the queue is closed and empty. still_open() is called before every wait and raises to end it."""
    while True:
        still_open()
        last = queue.closed  # asked before take(): what was put in before the close must not be left behind
        wanted = queue.take(QUEUE_POLL_S)
        if wanted is not None:
            yield wanted
        elif last:
            return


class Unpaced:
    """The ports.Pace of a source that nobody limits."""

    def piece(self, longest: int) -> int:
        return longest

    def wait_s(self) -> float:
        return 0.0

    def charge(self, count: int) -> None:
        """Nothing is counted."""


def wait_for_pace(pace: Pace, still_open: Callable[[], None]) -> None:
    """Sleep until a read may be sent. still_open() is called meanwhile and raises to end it."""
    while (wait_s := pace.wait_s()) > 0:
        time.sleep(min(wait_s, QUEUE_POLL_S))
        still_open()


def failed(wanted: Wanted, error: SyncdError) -> Failed:
    """Make the outcome of a file that ended with `error`; raise it instead where it stops more than the file."""
    if error.scope is not Scope.FILE:
        raise error
    return Failed(wanted, error)


def require_unchanged(path: RelPath, before: Fingerprint, now: Fingerprint) -> None:
    """Raise EntryChanged when size or mtime are not what they were."""
    if now.size != before.size:
        raise EntryChanged(f"{path!r} changed at the source: {before.size} bytes when listed, {now.size} now")
    if now.mtime_ns != before.mtime_ns:
        raise EntryChanged(f"{path!r} changed at the source: its modification time is not the one listed")
