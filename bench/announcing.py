"""What announcing costs: 10,000 announcements from a catalogue through the relay and socat to a real nsqd."""

from __future__ import annotations

import shutil
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from bench.measure import BenchError
from syncd.core.model import Fingerprint, Held, LocalStat, RelPath
from syncd.engine.relay import Relay, message_of
from syncd.publish.nsq import NsqPublisher
from syncd.store.catalogue import Catalogue
from tests.support.gobuild import BuildFailed, built
from tests.support.nsqd import RECIPE, NsqdServer, start_nsqd
from tests.support.socat import start_socat

ANNOUNCEMENTS = 10_000
QUICK_ANNOUNCEMENTS = 500
REACH_S = 2.0
DEADLINE_S = 120.0
TOPIC = "file_sync_ready"
CHANNEL = "bench"
GROUP = 500
NAME = "hin-written/Patra set {folder:03}/deep/page {n:05} of a letter, Haridwar (copy) .jpg"


@dataclass(frozen=True, slots=True)
class Announced:
    """Wall seconds of each run, from the outbox to the note that nsqd said OK. body_bytes: of a message, on average."""

    announcements: int
    body_bytes: int
    walls_s: list[float]

    @property
    def median_s(self) -> float:
        return statistics.median(self.walls_s)

    @property
    def reached(self) -> bool:
        return self.median_s * ANNOUNCEMENTS / self.announcements < REACH_S

    def as_json(self) -> dict[str, object]:
        return {
            "announcements": self.announcements,
            "body_bytes": self.body_bytes,
            "runs_s": [round(wall_s, 4) for wall_s in self.walls_s],
            "median_s": round(self.median_s, 4),
            "reach_s": REACH_S,
            "reached": self.reached,
        }


def measure(folder: Path, runs: int, announcements: int = ANNOUNCEMENTS) -> Announced:
    """Announce everything `runs` times, each time from a new catalogue. folder: takes it, and nsqd's queue."""
    try:
        built(RECIPE)
    except BuildFailed as error:
        raise BenchError(f"nsqd cannot be built: {error}") from error
    if shutil.which("socat") is None:
        raise BenchError("socat is not installed (Debian package socat)")
    walls_s, body_bytes = [], 0
    with start_nsqd(folder) as nsqd, start_socat(nsqd.tcp_port) as port:
        for run in range(runs):
            topic = f"{TOPIC}-{run}"
            nsqd.make_channel(topic, CHANNEL)
            with Catalogue.open(folder / f"catalogue-{run}.db", app_version="bench") as catalogue:
                body_bytes = _fill(catalogue, announcements)
                walls_s.append(_announce(catalogue, port, topic))
            _require_arrived(nsqd, topic, announcements)
    return Announced(announcements, body_bytes, walls_s)


def _fill(catalogue: Catalogue, announcements: int) -> int:
    """Owe announcements of as many files; return the average size of their messages."""
    mirror = catalogue.mirror("Bhushanji")
    for first in range(0, announcements, GROUP):
        names = range(first, min(first + GROUP, announcements))
        mirror.commit([_held(n) for n in names], [], run_id="0123456789ab", now_ms=time.time_ns() // 1_000_000)
    rows = catalogue.unpublished(GROUP)
    return sum(len(str(message_of(row, "tod-mac"))) for row in rows) // len(rows)


def _held(n: int) -> Held:
    size = 1_000_000 + n
    path = RelPath(NAME.format(folder=n % 40, n=n))
    return Held(path, Fingerprint(size, 10**18 + n, 0, n + 1), f"{n:064x}", LocalStat(n, size, 10**18 + n))


def _announce(catalogue: Catalogue, port: int, topic: str) -> float:
    publisher = NsqPublisher([("127.0.0.1", port)])
    relay = Relay(catalogue, publisher, host="tod-mac", topic=topic)
    began = time.perf_counter()
    owed = relay.drain(DEADLINE_S)
    wall_s = time.perf_counter() - began
    publisher.close()
    if owed:
        raise BenchError(f"{owed} announcements are still owed: {relay.state.error}")
    return wall_s


def _require_arrived(nsqd: NsqdServer, topic: str, announcements: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while (arrived := int(nsqd.channels(topic)[CHANNEL]["message_count"])) < announcements:
        if time.monotonic() > deadline:
            raise BenchError(f"{arrived} of {announcements} announcements arrived")
        time.sleep(0.05)
