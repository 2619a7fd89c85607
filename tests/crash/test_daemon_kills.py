"""kill -9 of the daemon at random moments while files change on the server: it converges, and every claim was true.

A sample by default; SYNCD_EXHAUSTIVE=1 kills 100 times. A failure prints its seed; SYNCD_SEED=N replays its choices.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from syncd.client.api import SOCKET, ApiClient, SocketAddress
from syncd.core.errors import SyncdError
from tests.support.consumer import TOPIC, Consuming
from tests.support.daemon import LONG_AGO, Host, differing, put, staged
from tests.support.faultproxy import Direction, FaultProxy
from tests.support.nsqd import NsqdServer, start_nsqd
from tests.support.smbd import SmbServer, start_smbd
from tests.support.socat import start_socat

KILLS = 100 if os.environ.get("SYNCD_EXHAUSTIVE") == "1" else 8
FILES = 300
LIVES_S = (0.15, 2.2)
"""How long a daemon lives: from before it has read its configuration to well into its second look."""
FORGETS = 0.15
"""How often nsqd is killed along with the daemon, and forgets what it has taken."""
CONVERGES_WITHIN_S = 90.0


@dataclass
class Churn:
    """Somebody works on the server: writes, rewrites in pieces, renames and removes, some times a second."""

    root: Path
    made: random.Random
    changes: int = 0
    _serial: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)

    def fill(self) -> None:
        for _ in range(FILES):
            self._write(self._new_path())

    def work(self) -> None:
        while not self._ended.wait(self.made.uniform(0.005, 0.06)):
            self.made.choices((self._add, self._rewrite, self._edit, self._rename, self._remove), (5, 6, 4, 2, 3))[0]()
            self.changes += 1

    @contextlib.contextmanager
    def going_on(self) -> Iterator[None]:
        thread = threading.Thread(target=self.work, name="churn")
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _new_path(self) -> Path:
        self._serial += 1
        return self.root / f"set {self.made.randrange(8)}" / f"{self._serial:05} letter .jpg"

    def any(self) -> Path:
        return self.made.choice(sorted(path for path in self.root.rglob("*") if path.is_file()))

    def _write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        size = 0 if self.made.random() < 0.05 else int(self.made.paretovariate(0.6) * 500)
        path.write_bytes(self.made.randbytes(min(size, 2_000_000)))

    def _add(self) -> None:
        self._write(self._new_path())

    def _rewrite(self) -> None:
        """As an editor does: another file, renamed over it."""
        path = self.any()
        other = path.with_name(f"~{path.name}.tmp")
        self._write(other)
        other.replace(path)

    def _edit(self) -> None:
        """In place and in pieces, so that whoever reads meanwhile reads neither the old nor the new."""
        with self.any().open("r+b") as file:
            for _ in range(3):
                file.write(self.made.randbytes(self.made.randrange(1, 4000)))
                file.flush()
                time.sleep(0.005)

    def _rename(self) -> None:
        path = self._new_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        self.any().rename(path)

    def _remove(self) -> None:
        self.any().unlink()


class Asking:
    """A worker that asks for files all the time, daemon or not, and believes no answer without looking."""

    def __init__(self, host: Host, churn: Churn, made: random.Random) -> None:
        self.asked = self.ready = 0
        self.untrue: list[str] = []
        self._address = SocketAddress(host.state / SOCKET)
        self._churn = churn
        self._made = made
        self._ended = threading.Event()

    @contextlib.contextmanager
    def going_on(self) -> Iterator[None]:
        thread = threading.Thread(target=self._work, name="asking")
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _work(self) -> None:
        while not self._ended.wait(0.05):
            paths = [path for path in self._churn.root.rglob("*") if path.is_file()]
            path = self._made.choice(paths).relative_to(self._churn.root)
            with contextlib.suppress(SyncdError), ApiClient(self._address, 5.0) as api:
                self._ask(api, str(path))

    def _ask(self, api: ApiClient, path: str) -> None:
        found = api.ensure(f"M/{path}", 1.0)
        self.asked += 1
        if found.state.value != "ready" or found.local_path is None:
            return
        self.ready += 1
        with contextlib.suppress(FileNotFoundError):
            digest = hashlib.sha256(Path(found.local_path).read_bytes()).hexdigest()
            if digest != found.sha256 and api.resolve(f"M/{path}").generation == found.generation:
                self.untrue.append(f"{path}: {digest}, said to be {found.sha256}")


@pytest.fixture
def nsqd(tmp_path: Path) -> Iterator[NsqdServer]:
    with start_nsqd(tmp_path) as server:
        server.make_channel(TOPIC, "verifier")
        yield server


@pytest.fixture
def share(tmp_path: Path) -> Iterator[SmbServer]:
    with start_smbd(tmp_path / "smb", root=tmp_path / "share") as server:
        yield server


@pytest.mark.timeout(60 + KILLS * 6 + 2 * CONVERGES_WITHIN_S)
def test_killed_again_and_again_under_load(tmp_path: Path, share: SmbServer, nsqd: NsqdServer) -> None:
    seed = int(os.environ.get("SYNCD_SEED") or secrets.randbelow(1 << 32))
    print(f"SYNCD_SEED={seed}")
    made = random.Random(seed)
    target = tmp_path / "data" / "M"
    host = Host(tmp_path)
    extra = 'every = "5s"\nsettle = "0.1s"\nmax_retire = "100%"'
    host.add_mirror("M", share.url(), target, share.password_file, extra)
    churn = Churn(share.root, random.Random(made.random()))
    churn.fill()
    asking = Asking(host, churn, random.Random(made.random()))
    with start_socat(nsqd.tcp_port) as port, Consuming(nsqd.tcp_port, {"M": target}) as consumer:
        host.use_nsq(port)
        with host.daemon(ready=False) as daemon:
            forgot = 0
            with churn.going_on(), asking.going_on():
                for _ in range(KILLS):
                    time.sleep(made.uniform(*LIVES_S))
                    daemon.kill()
                    if made.random() < FORGETS:
                        nsqd.restart(forget=True)
                        forgot += 1
                    daemon.start(ready=False)
            daemon.until(daemon.answers, "it starts after all of that")
            daemon.until(lambda: differing(share.root, target) == "", "mirror = source", CONVERGES_WITHIN_S)
            daemon.until_state("M", "ok", CONVERGES_WITHIN_S)
            daemon.until(lambda: daemon.status["announcing"]["owed"] == 0, "nothing is owed")
            held = host.manifest()
            daemon.until(lambda: not consumer.unannounced(held), "every final state is announced")
            assert daemon.stop() == 0
        different = len({heard.id for heard in consumer.heard})
        superseded = sum(not heard.true_at_once for heard in consumer.heard)
        print(f"{KILLS} kills, nsqd forgot {forgot} times, {churn.changes} changes on the server")
        print(f"{len(consumer.heard)} announcements heard, {different} different ones, {superseded} superseded by then")
        print(f"{asking.ready} of {asking.asked} files that were asked for were ready")
        consumer.assert_true()
    assert asking.untrue == []
    assert differing(share.root, target) == ""
    assert {path for _, path in held} == {str(p.relative_to(share.root)) for p in share.root.rglob("*") if p.is_file()}
    assert staged(target) == []
    assert share.open_files() == []
    sound(host)


def test_a_large_file_goes_on_where_it_was(tmp_path: Path, share: SmbServer) -> None:
    """What was received, synced and journalled before a kill is not fetched again."""
    size, target = 220 << 20, tmp_path / "data" / "M"
    put(share.root, "large.tif", b"begins so")
    os.truncate(share.root / "large.tif", size)
    os.utime(share.root / "large.tif", (LONG_AGO, LONG_AGO))
    with FaultProxy(("127.0.0.1", share.port), bandwidth=60 << 20) as proxy:
        host = Host(tmp_path)
        host.add_mirror("M", share.url(port=proxy.port), target, share.password_file, 'every = "10m"')
        with host.daemon(ready=False) as daemon:

            def received() -> int:
                return proxy.passed(Direction.TO_CLIENT)

            daemon.until(lambda: received() > 160 << 20, "most of it is here")
            daemon.kill()
            assert not (target / "large.tif").exists()
            before = received()
            proxy.set_bandwidth(0)
            daemon.start()
            daemon.until_ok()
            assert received() - before < size - (100 << 20), "it was fetched from its beginning"
            assert differing(share.root, target) == ""
            assert staged(target) == []
            assert daemon.stop() == 0


def sound(host: Host) -> None:
    """The catalogue is whole, and a run, and a comparison with every byte of the source, find nothing to do."""
    with contextlib.closing(sqlite3.connect(host.state / "catalogue.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        assert db.execute("SELECT count(*) FROM intents").fetchone() == (0,)
    again = host.run_once()
    assert again.code == 0, again.err
    mirror = again.json["mirrors"][0]
    assert (mirror["fetched"], mirror["retired"], mirror["failed"], mirror["bytes"]) == (0, 0, 0, 0)
    verified = host("verify", "--source", "--json")
    assert verified.code == 0, verified.out
