"""What resolve() costs with 100,000 files: asked of the catalogue in the same process, and of a daemon over its socket.

Both as their parts answer, and as worker_glue.Resolver does, which places and falls back.

Each call asks for another file, at random, and each answer is the verified one: catalogue, disk and daemon are real.
All are asked once before time is taken.
"""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.api import Latency
from bench.measure import BenchError
from bench.peers import write_config
from syncd.client.address import SOCKET, SocketAddress
from syncd.client.api import ApiClient
from syncd.core.errors import SyncdError
from syncd.core.resolution import Resolution, State
from syncd.sources.memory import GeneratedSource

FILES, QUICK_FILES = 100_000, 500
CALLS, QUICK_CALLS = 20_000, 300
PER_FOLDER = 100
SIZE = 64
REACH_CATALOGUE_MS, REACH_DAEMON_MS = 0.1, 1.0
"""DESIGN section 5: p99 of resolve() from the catalogue, and through the daemon."""
READY_S = 600.0
NAME = "Bench"

Ask = Callable[[str], Resolution]


def measure(folder: Path, files: int = FILES, calls: int = CALLS) -> dict[str, Latency]:
    """Return the latencies by what was asked and whom. folder: takes a mirror of `files` files, and the state."""
    source = GeneratedSource(files, per_folder=PER_FOLDER, size=SIZE)
    spelled = _Spelled(source)
    found: dict[str, Latency] = {}
    with _daemon(folder, files) as api:
        _wait_until_held(api, files)
        time.sleep(QUIET_S)
        found["ready, from the daemon"] = _latency(api.resolve, spelled.known(calls // 4), REACH_DAEMON_MS)
        found["ready, from the daemon, no collection named"] = _latency(api.resolve, spelled.bare(calls // 4), None)
        with _by_worker_glue(folder) as ask:
            found["ready, worker_glue, from the daemon"] = _latency(ask, spelled.known(calls // 4), REACH_DAEMON_MS)
        found["missing, from the daemon"] = _latency(api.resolve, spelled.unknown(calls // 40), None, State.MISSING)
    with _from_catalogue(folder) as ask:
        found["ready, from the catalogue"] = _latency(ask, spelled.known(calls), REACH_CATALOGUE_MS)
        found["ready, from the catalogue, no collection named"] = _latency(ask, spelled.bare(calls), None)
    with _by_worker_glue(folder) as ask:
        found["ready, worker_glue, from the catalogue"] = _latency(ask, spelled.known(calls), REACH_CATALOGUE_MS)
    return found


class _Spelled:
    """Paths at random, as tasks spell them; the same ones in every benchmark."""

    def __init__(self, source: GeneratedSource) -> None:
        self._source = source
        self._random = random.Random(4)

    def known(self, count: int) -> list[str]:
        """Return files, with what stands in front of them in tasks."""
        fronts = (f"{NAME}/", f"./{NAME}/", f"/app/{NAME}/", f"/mnt/sda1/mango1_home/{NAME}/")
        return [self._random.choice(fronts) + path for path in self.bare(count)]

    def bare(self, count: int) -> list[str]:
        """Return files, relative to the mirror."""
        return [self._source.path_of(self._random.randrange(self._source.files)) for _ in range(count)]

    def unknown(self, count: int) -> list[str]:
        """Return files that are not there, in folders that are."""
        return [f"{NAME}/{path}.pdf" for path in self.bare(count)]


def _latency(ask: Ask, spelled: list[str], reach_ms: float | None, state: State = State.READY) -> Latency:
    for path in spelled:  # so that no row pays for pages and folders that another one finds in memory
        ask(path)
    took = []
    for path in spelled:
        began = time.perf_counter()
        answer = ask(path)
        took.append(time.perf_counter() - began)
        if answer.state is not state:
            raise BenchError(f"{path} is {answer.state} ({answer.reason}), not {state}")
    per_s = len(took) / sum(took)
    took.sort()
    p50_ms, p99_ms = (took[int(len(took) * share)] * 1000 for share in (0.5, 0.99))
    return Latency(len(took), p50_ms, p99_ms, took[-1] * 1000, per_s, reach_ms)


# --- the catalogue, in this process ----------------------------------------------------------------------------------


@contextlib.contextmanager
def _from_catalogue(folder: Path) -> Iterator[Ask]:
    """Give the engine's resolver, over the catalogue and the mirror that the daemon has left."""
    from syncd import config
    from syncd.client.catalogue import CatalogueFiles

    with contextlib.closing(CatalogueFiles(config.load(folder / "syncd.toml", {}))) as files:
        yield files.resolve


@contextlib.contextmanager
def _by_worker_glue(folder: Path) -> Iterator[Ask]:
    """Give worker_glue.resolve: the daemon where it runs, else the catalogue."""
    from worker_glue import Resolver

    with Resolver(folder / "syncd.toml", env={}) as files:
        yield files.resolve


# --- the daemon, in a process of its own -----------------------------------------------------------------------------


@contextlib.contextmanager
def _daemon(folder: Path, files: int) -> Iterator[ApiClient]:
    (folder / "nothing").mkdir()
    mirror = {"name": NAME, "source": f"file://{folder / 'nothing'}", "target": str(folder / "data"), "min_free": "0%"}
    write_config(folder / "syncd.toml", folder / "state", mirror)
    log = folder / "log"
    with log.open("wb") as out:
        argv = [sys.executable, "-m", "bench.resolving", str(folder), str(files)]
        process = subprocess.Popen(argv, stdout=out, stderr=out)
    try:
        with ApiClient(SocketAddress(folder / "state" / SOCKET)) as api:
            yield api
    except SyncdError as error:
        raise BenchError(f"{error.message}: {log.read_text()[-2000:]}") from error
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()
        process.wait()


QUIET_S = 8.0
"""After the first run: a second look, and the watch on the mirror's folder, are over by then."""


def _wait_until_held(api: ApiClient, files: int) -> None:
    """Wait until the first run is over."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        with contextlib.suppress(SyncdError):
            line = api.status()["mirrors"][0]
            if line["files"] == files and line["last_success"]:
                return
        time.sleep(0.2)
    raise BenchError(f"the daemon did not mirror {files:,} files within {READY_S:.0f} s")


def serve(folder: Path, files: int) -> int:
    """Be a daemon over a source in memory, until told to end."""
    from syncd import config
    from syncd.daemon.living import Daemon
    from syncd.log import logger

    source = GeneratedSource(files, per_folder=PER_FOLDER, size=SIZE)
    settings = config.load(folder / "syncd.toml", {})

    def bug(error: BaseException, where: str) -> None:
        logger().error("bug", where=where, error=repr(error))

    daemon = Daemon(settings, load=lambda: settings, log=logger(), bug=bug, source_of=lambda _: source)
    signal.signal(signal.SIGTERM, lambda *_: daemon.stop())
    return daemon.live()


if __name__ == "__main__":
    sys.exit(serve(Path(sys.argv[1]), int(sys.argv[2])))
