"""The machine is held awake while a task is in OCR and no daemon is there, whose leases would show it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from syncd.awake import Awake
from syncd.client.api import SOCKET, ApiClient, SocketAddress
from syncd.core.errors import SyncdError
from syncd.core.wakefulness import Work
from worker_glue.flow.settling import utc_now
from worker_glue.health.staff import Staff

LOOK_S = 5.0
DAEMON_S = 2.0


@contextlib.contextmanager
def held(event: Callable[..., None], work: Callable[[], Work], awake: Awake | None = None) -> Iterator[None]:
    """Look at what is in hand, in a thread of its own, until the block ends; then let go. event: for the log."""
    over, holding = threading.Event(), awake or Awake(event, utc_text)

    def go() -> None:
        try:
            while not over.wait(LOOK_S):
                holding.look(work())
        finally:
            holding.close()

    thread = threading.Thread(target=go, name="awake", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(LOOK_S + DAEMON_S)


def work_of(staff: Staff, daemon: Callable[[], bool]) -> Work:
    """Return what the workers have in hand: tasks at which they work. One whose file is not there waits for a daemon.

    daemon: whether one answers; asked only while there is something in hand.
    """
    now = time.time()
    working = sum(1 for seen in staff.seen if seen.state(now) == "working")
    done: dict[str, float] = {}
    for seen in staff.seen:
        if seen.beat is not None:
            done |= {f"{seen.worker_id}: since": seen.beat.since, f"{seen.worker_id}: pages": seen.beat.pages_done}
    doing = [f"{working} task{'' if working == 1 else 's'} in OCR"] if working and not daemon() else []
    return Work(doing, done)


def utc_text() -> str:
    """Return the time (ISO 8601 UTC)."""
    return utc_now().strftime("%Y-%m-%dT%H:%M:%SZ")


def daemon_answers(state_dir: Path) -> bool:
    """Say whether a daemon of this host answers."""
    with ApiClient(SocketAddress(state_dir / SOCKET), DAEMON_S) as client:
        try:
            client.health()
        except SyncdError:
            return False
    return True
