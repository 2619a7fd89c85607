"""What the daemon costs and how fast it is: changes to announcements, files on demand during a run, an idle hour.

Everything is real: smbd, nsqd behind socat, `syncd run` as a process of its own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import worker_glue
from bench.measure import BenchError
from syncd.client.address import SOCKET, SocketAddress
from syncd.client.api import ApiClient
from syncd.core.errors import SyncdError
from syncd.core.resolution import State
from tests.support.nsqd import start_nsqd
from tests.support.smbd import SmbServer, start_smbd
from tests.support.socat import start_socat

COMMAND = [sys.executable, "-c", "from syncd.cli.main import main; raise SystemExit(main())"]
READY_S = 300.0
ARRIVE_S = 30.0
CHANGES, QUICK_CHANGES = 40, 3
WISHES, QUICK_WISHES = 30, 3
RUN_FILES, QUICK_RUN_FILES = 10_000, 2_000
IDLE_FILES, QUICK_IDLE_FILES = 100_000, 500
IDLE_S, QUICK_IDLE_S = 60.0, 3.0
FOLDERS = 100
SMALL, WISHED = 18_000, 1_000_000
OLD_S = 1_000_000_000
REACH_LATENCY_S, REACH_ENSURE_S = 2.0, 0.25
REACH_CPU, REACH_BYTES = 0.01, 80e6


@dataclass(frozen=True, slots=True)
class Quantiles:
    """How long something took, many times over, in seconds; what p95 has to stay below."""

    walls_s: list[float]
    reach_s: float

    @property
    def p50_s(self) -> float:
        return statistics.median(self.walls_s)

    @property
    def p95_s(self) -> float:
        return sorted(self.walls_s)[max(int(len(self.walls_s) * 0.95 + 0.999999) - 1, 0)]

    def as_json(self) -> dict[str, object]:
        return {
            "times": len(self.walls_s),
            "p50_s": round(self.p50_s, 3),
            "p95_s": round(self.p95_s, 3),
            "worst_s": round(max(self.walls_s), 3),
            "reach_s": self.reach_s,
            "reached": self.p95_s < self.reach_s,
        }


@dataclass(frozen=True, slots=True)
class Idle:
    """An idle daemon: CPU time per second of wall time, and its resident memory."""

    files: int
    cpu: float
    resident_bytes: int

    def as_json(self) -> dict[str, object]:
        reached = self.cpu < REACH_CPU and self.resident_bytes < REACH_BYTES
        return {"files": self.files, "cpu": round(self.cpu, 5), "rss": self.resident_bytes, "reached": reached}


def measure_latency(folder: Path, changes: int) -> dict[str, Quantiles]:
    """Return how long it takes from a change on the share to its announcement in a consumer's hands."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(start_smbd(folder, read_only=False))
        for n in range(3):
            (server.root / f"folder {n}").mkdir()
            (server.root / f"folder {n}" / "page 0.jpg").write_bytes(os.urandom(SMALL))
        nsqd = stack.enter_context(start_nsqd(folder))
        nsqd.make_channel("file_sync_ready", "bench")
        proxy = stack.enter_context(start_socat(nsqd.tcp_port))
        heard = stack.enter_context(_heard(proxy))
        daemon = stack.enter_context(_daemon(folder, server, proxy))
        daemon.wait_until(lambda: len(heard.at) >= 3)
        time.sleep(3)  # the focused watches are armed after the first run
        found = {
            "changed through SMB": [_change(heard, _put_by_smb(server), n) for n in range(changes)],
            "changed on the server": [_change(heard, _put_locally(server), n + changes) for n in range(changes)],
        }
    return {name: Quantiles(walls_s, REACH_LATENCY_S) for name, walls_s in found.items()}


def measure_ensure(folder: Path, output: Path, files: int, wishes: int) -> Quantiles:
    """Return how long files on demand of 1 MB take while a run over many small files goes on.

    They are the oldest on the share, so that the run comes to them last; one that is held already does not count.
    """
    with start_smbd(folder, read_only=False) as server:
        _fill(server.root, files)
        paths = [f"set {n:03}/wished.pdf" for n in range(wishes)]
        for path in paths:
            _put_old(server.root / path, os.urandom(WISHED), OLD_S)
        with _daemon(folder, server, None, output) as daemon:
            daemon.wait_until(daemon.has_begun)
            walls_s = [wall_s for path in paths if (wall_s := _wish(daemon, path)) is not None]
    if not walls_s:
        raise BenchError("the run had brought every file before it was asked for")
    return Quantiles(walls_s, REACH_ENSURE_S)


def _wish(daemon: _Daemon, path: str) -> float | None:
    """Return how long one file on demand took; None when it was held, or the run over, before it was asked for."""
    wanted = f"Bhushanji/{path}"
    if not daemon.is_running():
        return None
    with daemon.client() as client:
        if client.resolve(wanted).state is State.READY:
            return None
        began = time.perf_counter()
        found = client.ensure(wanted, 60)
        took_s = time.perf_counter() - began
    if found.state is not State.READY:
        raise BenchError(f"ensure: {found.state.value} ({found.reason})")
    return took_s


def measure_idle(folder: Path, output: Path, files: int, seconds: float) -> Idle:
    """Return what a daemon with many files costs while nothing happens."""
    with start_smbd(folder) as server:
        _fill(server.root, files, size=100)
        with _daemon(folder, server, None, output) as daemon:
            daemon.wait_until(lambda: daemon.line()["files"] == files and not daemon.is_running())
            time.sleep(min(seconds, 15))
            before, began = daemon.cpu_s(), time.monotonic()
            time.sleep(seconds)
            cpu = (daemon.cpu_s() - before) / (time.monotonic() - began)
            return Idle(files, cpu, daemon.resident_bytes())


def _fill(root: Path, files: int, size: int = SMALL) -> None:
    content = os.urandom(size)
    for n in range(files):
        folder = root / f"set {n % FOLDERS:03}"
        folder.mkdir(exist_ok=True)
        _put_old(folder / f"page {n:06} .jpg", content, OLD_S + 1 + n)


def _put_old(path: Path, content: bytes, mtime_s: int) -> None:
    """Write a file that no run leaves for later as still being written."""
    path.write_bytes(content)
    os.utime(path, (mtime_s, mtime_s))


# --- the daemon ------------------------------------------------------------------------------------------------------


class _Daemon:
    """`syncd run` as a process."""

    def __init__(self, process: subprocess.Popen[bytes], state: Path, log: Path) -> None:
        self.process = process
        self._state = state
        self._log = log

    def client(self) -> ApiClient:
        return ApiClient(SocketAddress(self._state / SOCKET))

    def line(self) -> dict[str, Any]:
        """Return the mirror's line of status."""
        with self.client() as client:
            line: dict[str, Any] = client.status()["mirrors"][0]
            return line

    def has_begun(self) -> bool:
        """Say whether the first run has brought something in."""
        line = self.line()
        return bool(line["files"] or (line["current"] or {}).get("files_done"))

    def is_running(self) -> bool:
        """Say whether a run goes on."""
        return self.line()["current"] is not None

    def wait_until(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise BenchError(f"the daemon ended with {self.process.returncode}: {self._log.read_text()[-2000:]}")
            with contextlib.suppress(SyncdError):
                if true():
                    return
            time.sleep(0.05)
        raise BenchError(f"the daemon did not get there: {self._log.read_text()[-2000:]}")

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) * 1024


@contextlib.contextmanager
def _daemon(folder: Path, server: SmbServer, nsqd_port: int | None, output: Path | None = None) -> Iterator[_Daemon]:
    base = (output or folder) / "daemon"
    base.mkdir(parents=True)
    nsq = f'[nsq]\nnsqd_tcp_address = "127.0.0.1:{nsqd_port}"\nprefetch_tasks = false\n' if nsqd_port else ""
    config = base / "syncd.toml"
    config.write_text(
        f'[host]\nname = "bench"\nstate_dir = "{base}/state"\n{nsq}'
        f'[[mirror]]\nname = "Bhushanji"\nsource = "{server.url()}"\npassword_file = "{server.password_file}"\n'
        f'target = "{base}/data/Bhushanji"\nevery = "10m"\nmin_free = "0%"\n'
    )
    log = base / "log"
    with log.open("wb") as out:
        process = subprocess.Popen([*COMMAND, "-c", str(config), "run"], stdout=out, stderr=out)
    try:
        yield _Daemon(process, base / "state", log)
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()


# --- changes and announcements ---------------------------------------------------------------------------------------


class _Heard:
    """When each announcement arrived: server path -> monotonic time."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}
        self.news = threading.Condition()


@contextlib.contextmanager
def _heard(port: int) -> Iterator[_Heard]:
    heard = _Heard()
    with worker_glue.watch("bench", nsqd=[("127.0.0.1", port)]) as events:

        def listen() -> None:
            for event in events:
                with heard.news:
                    heard.at[event["server_path"]] = time.perf_counter()
                    heard.news.notify_all()

        thread = threading.Thread(target=listen, name="listen", daemon=True)
        thread.start()
        yield heard
        events.stop()
        thread.join(10)


Put = Callable[[str, bytes], None]


def _change(heard: _Heard, put: Put, n: int) -> float:
    """Put one file, and return how long its announcement took."""
    path = f"folder {n % 3}/new {n}.jpg"
    time.sleep(0.05 + 0.03 * (n % 7))  # no rhythm that anything could fall in with
    began = time.perf_counter()
    put(path, os.urandom(SMALL))
    with heard.news:
        if not heard.news.wait_for(lambda: f"Bhushanji/{path}" in heard.at, ARRIVE_S):
            raise BenchError(f"{path} was not announced within {ARRIVE_S:.0f} s")
        return heard.at[f"Bhushanji/{path}"] - began


def _put_locally(server: SmbServer) -> Put:
    return lambda path, content: (server.root / path).write_bytes(content) and None


def _put_by_smb(server: SmbServer) -> Put:
    """Write over SMB with a client of its own, kept connected."""
    import io

    from impacket.smbconnection import SMBConnection

    connection = SMBConnection("127.0.0.1", "127.0.0.1", sess_port=server.port)
    connection.login(server.username, server.password)

    def put(path: str, content: bytes) -> None:
        connection.putFile(server.share, path.replace("/", "\\"), io.BytesIO(content).read)

    return put
