"""The loop that sends what is owed: outbox -> publisher, in the order of commit, marked only once it was taken.

Bytes before facts before news: what stands in the outbox is true already, so it may be sent late, and twice.
"""

from __future__ import annotations

import random
import threading
import time
from array import array
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from syncd.core.errors import SyncdError
from syncd.core.wire import FAILURES_SHOWN, RUNS_TOPIC, encode, file_ready, run_closed
from syncd.ports import Announcement, ClosedRun, Outbox, Publisher

BATCH_MESSAGES = 500
BATCH_BYTES = 1 << 20
RUNS_AT_ONCE = 20
RUN_BYTES_MAX = 512 << 10
"""Of a run's message: with a hundred failures of long names it could outgrow what nsqd takes."""
AGAIN_WITHIN = timedelta(minutes=15)
"""An OK of nsqd is not durable: what it took lately is sent again over every new connection (RULES section 5)."""
AGAIN_AT_ONCE = 100
HELD_BACK_LOOK_S = 1.0
"""So often it is asked whether what is to be sent again is still held back."""
AGAIN_DRAINED_MAX = 2_000
KEPT = timedelta(days=7)
TRIM_EVERY_S = 3_600.0
TRIMS_AT_ONCE = 100


class Pace(NamedTuple):
    """How fast the relay goes, in seconds.

    idle_s: how often it looks by itself, for owed rows and at the connection. pause_s: after a first failure; doubled
    up to pause_max_s, jittered. least_s: between two tries, however often it is woken. again_s: between two batches of
    AGAIN_AT_ONCE that are sent again.
    """

    idle_s: float = 5.0
    pause_s: float = 1.0
    pause_max_s: float = 60.0
    least_s: float = 1.0
    again_s: float = 0.2


UNHURRIED = Pace()


class RelayState(NamedTuple):
    """How the relay is, for status. error: why nothing gets through ("" = it does, or was not tried yet).

    failing_since: ISO 8601 UTC, "" = it is not. accepted: messages since the start. again_left: still to be sent again.
    latency_s: how long it took last to connect, or to have a batch accepted; None while not connected.
    """

    connected: bool
    error: str
    failing_since: str
    failures: int
    accepted: int
    again_left: int
    latency_s: float | None = None


class Relay:
    """Sends announcements. One thread: run(), or drain() for a command; wake(), stop() and state from any thread.

    host: this host's name, as messages carry it. topic: of file announcements; runs go to RUNS_TOPIC. held_back: names
    the mirrors of which nothing can be claimed just now, since their disk is away; what they owe waits.
    """

    def __init__(
        self,
        outbox: Outbox,
        publisher: Publisher,
        *,
        host: str,
        topic: str,
        pace: Pace = UNHURRIED,
        now_ns: Callable[[], int] = time.time_ns,
        held_back: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._outbox = outbox
        self._publisher = publisher
        self._host = host
        self._topic = topic
        self._pace = pace
        self._now_ns = now_ns
        self._held_back = held_back
        self._connections = 0
        self._again = array("q")
        self._again_max: int | None = None
        self._again_after = 0
        self._again_due = 0.0
        self._trim_due = 0.0
        self._error = ""
        self._failing_since = ""
        self._failures = 0
        self._accepted = 0
        self._latency_s: float | None = None
        self._woken = threading.Event()
        self._stopped = threading.Event()

    @property
    def state(self) -> RelayState:
        """How it goes; takes no lock and does no I/O."""
        connected = self._connections > 0 and not self._error
        failing = self._error, self._failing_since, self._failures
        return RelayState(connected, *failing, self._accepted, len(self._again), self._latency_s if connected else None)

    def run(self) -> None:
        """Send what is owed until stop(). Raises CatalogueError; what is only out of reach is tried again for ever."""
        while not self._stopped.is_set():
            self._woken.clear()
            try:
                more = self._step()
            except SyncdError as error:
                if self._stopped.is_set():
                    return
                self._rest(self._failed(error))
            else:
                self._error = self._failing_since = ""
                self._failures = 0
                if not more and not self._stopped.is_set():
                    self._woken.wait(self._idle_for())

    def drain(self, deadline_s: float) -> int:
        """Send what is owed, within about `deadline_s` (one try may end later); return how many still are.

        For a command without a daemon: of what was sent lately only the newest AGAIN_DRAINED_MAX are sent again, at
        once; and where nothing is owed, one failure is enough. Raises CatalogueError.
        """
        deadline = time.monotonic() + deadline_s
        self._pace = self._pace._replace(again_s=0.0)
        self._again_max = AGAIN_DRAINED_MAX
        while not self._stopped.is_set() and self._has_reason_to_send():
            try:
                if not self._step() or time.monotonic() >= deadline:
                    break
            except SyncdError as error:
                pause_s = self._failed(error)
                if not self._owed() or time.monotonic() + pause_s >= deadline:
                    break
                self._rest(pause_s)
        return self._owed()

    def wake(self) -> None:
        """Look at once: there is something new, or a reason to think that nsqd is back."""
        self._woken.set()

    def stop(self) -> None:
        """End run() or drain(), also while nsqd keeps it waiting: the publisher is closed. Safe to repeat."""
        self._stopped.set()
        self._woken.set()
        self._publisher.close()

    # --- one step

    def _step(self) -> bool:
        """Send a batch of what is owed, runs that are due, a batch of what is to be sent again; True: go on at once.

        What is new goes first, so it waits at most for one batch that is sent again.
        """
        sent = self._send_owed() + self._send_runs()
        if not sent and not self._again:
            self._publish(self._topic, [])
        if self._again and time.monotonic() >= self._again_due:
            self._again_due = time.monotonic() + self._pace.again_s
            self._send_again()
        self._trim_now_and_then()
        return bool(sent) or (bool(self._again) and not self._pace.again_s)

    def _send_owed(self) -> int:
        rows = self._outbox.unpublished(BATCH_MESSAGES, self._held_back())
        bodies: list[bytes] = []
        size = 0
        for row in rows:
            body = self._file_ready(row)
            size += len(body)
            if bodies and size > BATCH_BYTES:
                break
            bodies.append(body)
        if bodies:
            self._publish(self._topic, bodies)
            self._outbox.mark_published([row.seq for row in rows[: len(bodies)]], at=self._at())
        return len(bodies)

    def _send_runs(self) -> int:
        runs = self._outbox.runs_to_announce(RUNS_AT_ONCE)
        if runs:
            self._publish(RUNS_TOPIC, [self._run_closed(run) for run in runs])
            for run in runs:
                self._outbox.mark_run_announced(run)
        return len(runs)

    def _send_again(self) -> None:
        """Send a batch of what nsqd may have forgotten, but for what has been announced anew since."""
        again, held_back = self._again, self._held_back()
        rows = self._outbox.still_newest(again[:AGAIN_AT_ONCE], self._again_after)
        later = array("q", [row.seq for row in rows if row.mirror in held_back])
        rows = [row for row in rows if row.mirror not in held_back]
        if rows:
            self._publish(self._topic, [self._file_ready(row) for row in rows])
        if self._again is again:  # else there is a new connection, and all begins anew
            self._again = again[AGAIN_AT_ONCE:] + later
            if not rows and later:
                self._again_due = time.monotonic() + min(HELD_BACK_LOOK_S, self._pace.idle_s)

    def _publish(self, topic: str, bodies: Sequence[bytes]) -> None:
        began = time.monotonic()
        self._publisher.publish(topic, bodies)
        self._accepted += len(bodies)
        connected_anew = self._publisher.connections != self._connections
        if bodies or connected_anew:  # else nothing was asked of nsqd: the connection was only looked at from here
            self._latency_s = time.monotonic() - began
        if connected_anew:
            self._connections = self._publisher.connections
            self._collect_again()

    def _collect_again(self) -> None:
        """Choose what is to be sent again, before what was taken just now is marked: that one need not be."""
        self._again_after = self._outbox.last_announcement()
        numbers = array("q", self._outbox.published_since(self._at(AGAIN_WITHIN)))
        self._again = numbers if self._again_max is None else numbers[-self._again_max :]
        self._again_due = 0.0

    def _trim_now_and_then(self) -> None:
        if time.monotonic() >= self._trim_due:
            self._trim_due = time.monotonic() + TRIM_EVERY_S
            trim_feed(self._outbox, self._now_ns)

    # --- waiting

    def _idle_for(self) -> float:
        if not self._again:
            return self._pace.idle_s
        return min(self._pace.idle_s, max(0.0, self._again_due - time.monotonic()))

    def _failed(self, error: SyncdError) -> float:
        """Note a failure that may pass, and return how long to wait; one that will not is raised."""
        if not error.transient:
            raise error
        self._error = error.message
        self._failing_since = self._failing_since or self._at()
        self._failures += 1
        pause_s = min(self._pace.pause_s * 2.0 ** min(self._failures - 1, 16), self._pace.pause_max_s)
        return pause_s * random.uniform(0.5, 1)  # noqa: S311  (jitter, not a secret)

    def _rest(self, pause_s: float) -> None:
        """Wait after a failure; being woken shortens it, but not below the least pause."""
        least_s = min(self._pace.least_s, pause_s)
        if not self._stopped.wait(least_s):
            self._woken.wait(pause_s - least_s)

    # --- what is owed, and how it is said

    def _owed(self) -> int:
        return self._outbox.count_owed() + len(self._outbox.runs_to_announce(RUNS_AT_ONCE))

    def _has_reason_to_send(self) -> bool:
        return bool(self._owed() or self._again or self._outbox.published_since(self._at(AGAIN_WITHIN)))

    def _file_ready(self, row: Announcement) -> bytes:
        return encode(message_of(row, self._host))

    def _run_closed(self, run: ClosedRun) -> bytes:
        """Return the message that closes a run, with as many of its failures as there is room for."""
        message = run_closed(run.report, host=self._host, run_id=run.run_id, state=run.state, at=run.finished_at)
        failures, shown = message["failures"], FAILURES_SHOWN
        while len(body := encode(message)) > RUN_BYTES_MAX and shown:
            shown //= 2
            message["failures"] = failures[:shown]
        return body

    def _at(self, ago: timedelta = timedelta()) -> str:
        return _iso(self._now_ns(), ago)


def message_of(row: Announcement, host: str) -> dict[str, object]:
    """Return an announcement as FileReady v1."""
    return file_ready(
        event=row.event.value,
        mirror=row.mirror,
        path=row.path,
        size=row.size,
        sha256=row.sha256,
        mtime_ns=row.mtime_ns,
        generation=row.generation,
        host=host,
        run_id=row.run_id,
        at=row.at,
    )


def trim_feed(outbox: Outbox, now_ns: Callable[[], int] = time.time_ns, *, owed_too: bool = False) -> None:
    """Remove what is older than the feed keeps; what is owed to nsqd stays, unless nothing will ever send it."""
    before = _iso(now_ns(), KEPT)
    for _ in range(TRIMS_AT_ONCE):
        if not outbox.trim_announcements(before, owed_too=owed_too):
            return


def _iso(now_ns: int, ago: timedelta) -> str:
    """Return a time as the outbox has it: ISO 8601 UTC with milliseconds."""
    at = datetime.fromtimestamp(now_ns / 1e9, UTC) - ago
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
