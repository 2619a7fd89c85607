"""What an answer of the daemon's API costs a worker: resolve and the rest, over the Unix socket, one caller and four.

The server runs in a process of its own, over a Service in memory: what is measured is everything but the catalogue.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.measure import BenchError
from syncd.client.address import SocketAddress
from syncd.client.api import ApiClient
from syncd.core.lease import Lease
from tests.support.fake_service import FakeService

REACH_MS = 1.0
"""DESIGN section 5: p99 of resolve() through the daemon."""
CALLS = 5000
QUICK_CALLS = 300
WARM_UP = 200
CALLERS = 4
PATH = "Bhushanji/hin-typed/Patra  3, Haridwar (2) .jpg"


@dataclass(frozen=True, slots=True)
class Latency:
    """How long each of many calls took, in milliseconds. reach: what p99 has to stay below, None without a bar."""

    calls: int
    p50_ms: float
    p99_ms: float
    worst_ms: float
    per_s: float
    reach_ms: float | None = None

    @property
    def reached(self) -> bool | None:
        return None if self.reach_ms is None else self.p99_ms < self.reach_ms

    def as_json(self) -> dict[str, object]:
        return {
            "calls": self.calls,
            "p50_ms": round(self.p50_ms, 3),
            "p99_ms": round(self.p99_ms, 3),
            "worst_ms": round(self.worst_ms, 3),
            "per_s": round(self.per_s),
            "reach_ms": self.reach_ms,
            "reached": self.reached,
        }


def measure(folder: Path, calls: int = CALLS) -> dict[str, Latency]:
    """Return the latencies by what was asked. folder: takes the socket."""
    path = folder / "run" / "syncd.sock"
    argv = [sys.executable, "-m", "bench.api", str(path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        try:
            if server.stdout is None or server.stdout.readline() != b"ready\n":
                raise BenchError("the API server did not start")
            with ApiClient(SocketAddress(path)) as api:
                return _all(api, calls)
        finally:
            server.terminate()


def _all(api: ApiClient, calls: int) -> dict[str, Latency]:
    return {
        "resolve, kept connection": _latency(lambda: api.resolve(PATH), calls, reach_ms=REACH_MS),
        f"resolve, {CALLERS} threads of one process": _concurrent(lambda: api.resolve(PATH), calls),
        "lease and release": _latency(lambda: _lease(api), calls // 5),
        "ensure of what is held": _latency(lambda: api.ensure(PATH), calls // 5),
        "status": _latency(api.status, calls // 5),
    }


def _lease(api: ApiClient) -> None:
    lease = api.lease(PATH, 60)
    if not isinstance(lease, Lease):
        raise BenchError(f"no lease: {lease.state}")
    api.release(lease.lease_id)


def _latency(call: Callable[[], object], calls: int, *, reach_ms: float | None = None) -> Latency:
    for _ in range(WARM_UP):
        call()
    took = _timed(call, calls)
    return _summary(took, sum(took), reach_ms)


def _concurrent(call: Callable[[], object], calls: int) -> Latency:
    took: list[float] = []
    threads = [threading.Thread(target=lambda: took.extend(_timed(call, calls // CALLERS))) for _ in range(CALLERS)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return _summary(took, time.perf_counter() - begin, None)


def _timed(call: Callable[[], object], calls: int) -> list[float]:
    took = []
    for _ in range(calls):
        begin = time.perf_counter()
        call()
        took.append(time.perf_counter() - begin)
    return took


def _summary(took: list[float], wall_s: float, reach_ms: float | None) -> Latency:
    took.sort()
    at = [took[int(len(took) * share)] * 1000 for share in (0.5, 0.99)]
    return Latency(len(took), at[0], at[1], took[-1] * 1000, len(took) / wall_s, reach_ms)


def serve(path: Path) -> None:
    """Serve a Service in memory until standard input ends."""
    from syncd.web.server import ApiServer

    service = FakeService()
    service.hold(PATH.removeprefix("Bhushanji/"), b"x" * 4096)
    server = ApiServer(service, path)
    server.start()
    try:
        print("ready", flush=True)
        sys.stdin.read()
    finally:
        server.close()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
