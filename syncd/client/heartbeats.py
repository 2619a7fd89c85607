"""The heartbeat files of this host's OCR workers: `STATE/worker/run/ID.json`, and `ID.lock`, which a living one holds.

The workers write them (worker_glue.health), the daemon and `worker-glue doctor --live` read them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

FOLDER = "worker/run"
"""Their place in the state directory."""
BEAT, LOCK = ".json", ".lock"
BYTES_MAX = 64 << 10
WORKERS_MAX = 1_000
LATE_S = 90.0
"""A worker that was not heard of for so long hangs, or is dead."""

STATES = ("starting", "idle", "working", "waiting", "paused", "stopping")


class Heartbeat(NamedTuple):
    """What one worker last said of itself. Times are Unix times.

    state: one of STATES. task: the server path in hand, "" for none; since: of both. number: grows with every beat.
    waiting: tasks whose file is on its way; in_hand: messages; owed: results that MongoDB has not taken, of the host.
    nsq, mongo: whether they answer, None = not known. pages_done, pages: of the task, 0 = not known.
    """

    worker_id: str
    pid: int
    at: float
    number: int = 0
    host: str = ""
    version: str = ""
    engine: str = ""
    started: float = 0.0
    state: str = "starting"
    since: float = 0.0
    task: str = ""
    pages_done: int = 0
    pages: int = 0
    done: int = 0
    failed: int = 0
    waiting: int = 0
    in_hand: int = 0
    owed: int = 0
    oldest_owed: float | None = None
    nsq: bool | None = None
    mongo: bool | None = None

    def age_s(self, now: float) -> float:
        """Return how long ago it was; a clock that was set back makes it no younger than now."""
        return max(0.0, now - self.at)


class Seen(NamedTuple):
    """A worker as it is found. alive: somebody holds its lock; beat: None before the first one."""

    worker_id: str
    alive: bool
    beat: Heartbeat | None

    def state(self, now: float) -> str:
        """Return its state: as it says; lost: it lives and is late; gone: it ended without saying so."""
        if not self.alive:
            return "gone"
        if self.beat is None:
            return "starting"
        return "lost" if self.beat.age_s(now) > LATE_S else self.beat.state


def file_of(folder: Path, worker_id: str, ending: str) -> Path:
    """Return the path of a worker's file in a folder; any id is a file name."""
    return folder / (quote(worker_id, safe=" ") + ending)


def read_all(folder: Path) -> list[Seen]:
    """Return the workers that have files in a folder, in the order of their ids; those that cannot be read are none."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    ids = {unquote(name.removesuffix(LOCK)) for name in names if name.endswith(LOCK)}
    found = [_seen(folder, worker_id) for worker_id in sorted(ids, key=_natural)[:WORKERS_MAX]]
    return [seen for seen in found if seen.alive or seen.beat is not None]


def read(folder: Path, worker_id: str) -> Heartbeat | None:
    """Return a worker's last beat; None when there is none, or none that can be read."""
    try:
        with file_of(folder, worker_id, BEAT).open("rb") as file:
            told = json.loads(file.read(BYTES_MAX))
        return _beat(told)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _seen(folder: Path, worker_id: str) -> Seen:
    return Seen(worker_id, is_held(file_of(folder, worker_id, LOCK)), read(folder, worker_id))


def is_held(lock: Path) -> bool:
    """Say whether somebody holds a lock; takes it for microseconds, in the shared way (flock(2))."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


_TEXTS = ("worker_id", "host", "version", "engine", "state", "task")
_OPEN = ("oldest_owed", "nsq", "mongo")


def _beat(told: Mapping[str, Any]) -> Heartbeat:
    """Return what a file says; unknown fields are left out. Raises TypeError for what is no heartbeat."""
    beat = Heartbeat(**{name: told[name] for name in Heartbeat._fields if name in told})
    for name, value in zip(Heartbeat._fields, beat, strict=True):
        fits = isinstance(value, str) if name in _TEXTS else isinstance(value, int | float)
        if not fits and not (name in _OPEN and value is None):
            raise TypeError(name)
    return beat


def _natural(worker_id: str) -> tuple[str, int, str]:
    """Sort tod-mac-2 before tod-mac-10."""
    head, _, number = worker_id.rpartition("-")
    with contextlib.suppress(ValueError):
        return head, int(number), worker_id
    return worker_id, 0, worker_id
