"""`syncd run` as a process over a configuration that a test writes; stopped by its pid, its log kept.

    host = Host(tmp_path)
    host.add_mirror("M", f"file://{source}", tmp_path / "data" / "M")
    with host.daemon() as daemon:
        daemon.until_ok()
        daemon.api.ensure("M/x.jpg")
        assert daemon.stop() == 0

A bug that the daemon logged, or a traceback of it, fails the test that started it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from syncd.client.api import SOCKET, ApiClient, SocketAddress
from syncd.core.errors import SyncdError
from tests.support.cli import COMMAND, TIMEOUT_S, Done, Syncd

PATIENCE_S = 60.0
ENDS_WITHIN_S = 10.0
"""What DESIGN promises of SIGTERM."""
LONG_AGO = 10**9
NAMES = ("letter 1 .pdf", "two  spaces.PDF", "पत्र ३ .JPG", "a, b (copy).jpg", "-rf.jpg", "empty.jpg")
T = TypeVar("T")


class Host(Syncd):
    """One host whose configuration can be changed: mirrors by name, and the tables beside them as text."""

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        self.mirrors: dict[str, str] = {}
        self.tables = ""
        self.host_table = 'name = "tod-mac"'

    def add_mirror(
        self, name: str, source: str, target: Path, password_file: Path | None = None, extra: str = ""
    ) -> None:
        secret = f'password_file = "{password_file}"\n' if password_file else ""
        self.mirrors[name] = (
            f'[[mirror]]\nname = "{name}"\nsource = "{source}"\ntarget = "{target}"\nmin_free = "0%"\n{secret}{extra}\n'
        )
        self.write()

    def use_nsq(self, port: int, more: str = "") -> None:
        """Announce to an nsqd."""
        self.tables = f'[nsq]\nnsqd_tcp_address = "127.0.0.1:{port}"\n{more}\n'
        self.write()

    def write(self, text: str = "") -> None:
        """Replace the configuration file as an editor does: whole. text: by this, whatever was added before."""
        host = f'[host]\nstate_dir = "{self.state}"\n{self.host_table}\n'
        new = self.config.with_name("syncd.toml.new")
        new.write_text(text or host + self.tables + "".join(self.mirrors.values()))
        new.replace(self.config)

    def __call__(self, *words: str, timeout_s: float = TIMEOUT_S) -> Done:
        return _run([*COMMAND, "-c", str(self.config), *words], timeout_s)

    def traced(self, strace: str, trace: Path, *words: str) -> Done:
        """Run a command to its end; which files it opens is written into `trace`."""
        opened = [strace, "-f", "-e", "trace=open,openat", "-o", str(trace)]
        return _run([*opened, *COMMAND, "-c", str(self.config), *words], TIMEOUT_S)

    def background(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a command and return at once."""
        return subprocess.Popen(
            [*COMMAND, "-c", str(self.config), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
        )

    @contextlib.contextmanager
    def daemon(self, *words: str, ready: bool = True) -> Iterator[Daemon]:
        """Run `syncd run` until the block ends. ready: wait until it answers."""
        daemon = Daemon(self, words)
        try:
            daemon.start(ready=ready)
            yield daemon
        finally:
            daemon.close()
        daemon.assert_no_bug()

    def manifest(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Return what is held, by mirror and path, as the exported manifests have it."""
        found = {}
        for name in self.mirrors:
            done = self("manifest", "--mirror", name, "--json")
            assert done.code == 0, done.err
            lines = [json.loads(line) for line in done.out.splitlines()]
            found |= {(name, line["path"]): line for line in lines}
        return found


class Daemon:
    """One `syncd run`, which may be ended and started again. `log` is everything that it wrote to stderr."""

    def __init__(self, host: Host, words: tuple[str, ...] = ()) -> None:
        self.host = host
        self.process: subprocess.Popen[bytes] | None = None
        self._words = words
        self._log = host.base / "daemon.log"
        self._api: ApiClient | None = None

    def start(self, *, ready: bool = True) -> None:
        """Start it; ready: wait until it answers."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "-c", str(self.host.config), "run", *self._words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
            )
        if ready:
            self.until(self.answers, "the API answers")

    def answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"syncd run ended with {self.process.returncode}:\n{self.log[-3000:]}")
        try:
            with ApiClient(self._address) as client:
                return bool(client.health(2.0)["pid"] == self.pid)
        except SyncdError:
            return False

    @property
    def _address(self) -> SocketAddress:
        return SocketAddress(self.host.state / SOCKET)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def api(self) -> ApiClient:
        """A client, connected anew where the daemon was started again."""
        if self._api is None:
            self._api = ApiClient(self._address)
        return self._api

    @property
    def status(self) -> dict[str, Any]:
        return self.api.status()

    def mirror(self, name: str) -> dict[str, Any]:
        """Return one mirror's part of the status."""
        return next(each for each in self.status["mirrors"] if each["name"] == name)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this one process."""
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM, *, within_s: float = ENDS_WITHIN_S) -> int:
        """Have it end in order, within the time that is promised; return its exit code."""
        assert self.process is not None
        started = time.monotonic()
        self.send(number)
        try:
            code = self.process.wait(within_s + PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"syncd run does not end:\n{self.log[-3000:]}") from None
        took_s = time.monotonic() - started
        assert took_s < within_s, f"it took {took_s:.1f} s to end:\n{self.log[-3000:]}"
        return code

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def close(self) -> None:
        """Leave nothing behind; safe to repeat."""
        if self._api is not None:
            self._api.close()
            self._api = None
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(2 * ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                self.kill()

    def assert_no_bug(self) -> None:
        """No bug was logged, and nothing was printed by the interpreter itself."""
        log = self.log
        for sign in ("event=bug", "Traceback", "Fatal Python error"):
            assert sign not in log, log[max(0, log.find(sign) - 500) :][:4000]

    # -- waiting

    def until(self, condition: Callable[[], T], what: str, within_s: float = PATIENCE_S) -> T:
        """Wait for a condition and return it; fails with `what` and the end of the log."""
        deadline = time.monotonic() + within_s
        while not (found := condition()):
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: not within {within_s:.0f} s; log:\n{self.log[-4000:]}")
            time.sleep(0.05)
        return found

    def until_state(self, name: str, state: str, within_s: float = PATIENCE_S) -> dict[str, Any]:
        """Wait until a mirror is in a state, with nothing going on; return its status."""

        def reached() -> dict[str, Any] | None:
            mirror = self.mirror(name)
            return mirror if mirror["state"] == state and mirror["current"] is None else None

        found = self.until(reached, f"{name} is {state}", within_s)
        assert found is not None
        return found

    def until_ok(self, within_s: float = PATIENCE_S) -> None:
        """Wait until every mirror has been looked at and is ok."""
        for name in self.host.mirrors:
            self.until_state(name, "ok", within_s)

    def until_logged(self, words: str, since: int = 0, within_s: float = PATIENCE_S) -> None:
        """Wait until the log, from a place in it on, has these words."""
        self.until(lambda: words in self.log[since:], f"the log says {words!r}", within_s)


def _run(argv: Sequence[str], timeout_s: float) -> Done:
    done = subprocess.run(
        argv, capture_output=True, timeout=timeout_s, check=False, stdin=subprocess.DEVNULL, env=_environment()
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def _environment() -> dict[str, str]:
    more = os.environ.get("PYTHONPATH", "")
    root = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, more]))}


# --- builders, and what a target must look like ----------------------------------------------------------------------


def put(root: Path, path: str, content: bytes, at: int = LONG_AGO) -> None:
    """Write a file of the source, changed long ago."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(content)
    os.utime(root / path, (at, at))


def fill(root: Path, count: int) -> list[str]:
    """Write some files into a few folders; return their paths."""
    made = []
    for n in range(count):
        name = NAMES[n % len(NAMES)]
        path = f"set {n % 5}/pages/{n:03} {name}"
        put(root, path, b"" if name == "empty.jpg" else f"page {n} ".encode() * (n + 1), LONG_AGO + n)
        made.append(path)
    return made


def files_in(root: Path) -> dict[str, bytes]:
    """Return every file below a folder but those of `.syncd`, by path."""
    found = {}
    for path in root.rglob("*"):
        relative = path.relative_to(root)
        if relative.parts[0] != ".syncd" and path.is_file():
            with contextlib.suppress(FileNotFoundError):
                found[str(relative)] = path.read_bytes()
    return found


def differing(source: Path, target: Path) -> str:
    """Say in what a mirror differs from its source; "" when it does not."""
    wanted, held = files_in(source), files_in(target)
    missing, extra = sorted(wanted.keys() - held.keys()), sorted(held.keys() - wanted.keys())
    changed = sorted(path for path in wanted.keys() & held.keys() if wanted[path] != held[path])
    told = [("missing", missing), ("too many", extra), ("other bytes", changed)]
    return "; ".join(f"{len(paths)} {what}: {paths[:5]}" for what, paths in told if paths)


def staged(target: Path) -> list[str]:
    """Return what lies in a mirror's staging folder."""
    return sorted(str(path) for path in (target / ".syncd" / "staging").rglob("*") if path.is_file())


def trashed(target: Path) -> list[str]:
    """Return the paths of what lies in a mirror's trash, each without its batch."""
    trash = target / ".syncd" / "trash"
    return sorted(str(Path(*path.relative_to(trash).parts[1:])) for path in trash.rglob("*") if path.is_file())


def same_shape(left: Done, right: Done) -> Mapping[str, Any]:
    """Return the JSON of two commands, asserting that both have the same fields."""

    def shape(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: shape(each) for name, each in value.items()}
        if isinstance(value, list):
            return [shape(value[0])] if value else []
        return type(value).__name__

    assert shape(left.json) == shape(right.json)
    return dict(right.json)
