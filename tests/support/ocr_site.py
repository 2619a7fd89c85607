"""A whole site on loopback: share, syncd, NSQ, MongoDB, three socat proxies, and `worker-glue run` behind them.

    with start_site(tmp_path) as site:
        render(site.share.root / "eng-typed" / "p1.jpg", "en", 1)
        with site.host() as host, host.workers(3) as workers:
            job = site.backend.submit([Wanted("Bhushanji/eng-typed/p1.jpg")])
            site.backend.assert_complete(job, site.backend.until_complete(job))

As in the deployment, a worker is told three addresses, all of proxies: MONGO_URI, NSQD_ADDRESS, NSQLOOKUPD_ADDRESSES.
nsqd tells nsqlookupd that it is at 127.0.0.9, where nothing listens, so that a worker that believes it gets nowhere.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from syncd.client.api import SOCKET
from tests.support.backend import CHANNEL, TOPIC, Backend
from tests.support.daemon import Daemon, Host
from tests.support.faultproxy import FaultProxy
from tests.support.mongo import KINDS, MongoServer, start_mongo
from tests.support.nsqd import LookupdServer, NsqdServer, start_lookupd, start_nsqd
from tests.support.ports import free_port
from tests.support.smbd import SmbServer, start_smbd
from tests.support.socat import start_socat
from tests.support.trial_engine import install

MIRROR = "Bhushanji"
NOWHERE = "127.0.0.9"
RARELY = 'every = "10m"\nsettle = "0.1s"'
COMMAND = [sys.executable, "-m", "worker_glue"]
ENDS_WITHIN_S = 60.0
"""What `worker-glue run` may take to end after SIGTERM: what is in hand is finished first."""
DEPLOYMENT = ("MONGO_URI", "NSQD_ADDRESS", "NSQLOOKUPD_ADDRESSES")


class Proxy:
    """One socat that can be cut, and restored on the same port."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = free_port()
        self._running: contextlib.ExitStack | None = None
        self.restore()

    def cut(self) -> None:
        """End it with all its connections; nobody listens then. Safe to repeat."""
        if self._running is not None:
            self._running.close()
            self._running = None

    def restore(self) -> None:
        """Listen again. Safe to repeat."""
        if self._running is None:
            self._running = contextlib.ExitStack()
            self._running.enter_context(start_socat(self.target_port, self.port))


@dataclass
class Proxies:
    """The three of a remote host."""

    mongo: Proxy
    nsqd: Proxy
    lookupd: Proxy

    @property
    def all(self) -> tuple[Proxy, ...]:
        return (self.mongo, self.nsqd, self.lookupd)

    @property
    def ports(self) -> set[int]:
        return {proxy.port for proxy in self.all}


class Workers:
    """One `worker-glue run` and the processes below it."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.argv = list(argv)
        self.environment = dict(environment)
        self.process: subprocess.Popen[bytes] | None = None
        self._log = log

    def start(self) -> None:
        """Start it; does not wait."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment
            )

    @property
    def pid(self) -> int:
        """The process of `worker-glue run` itself, also below strace."""
        assert self.process is not None
        below = children(self.process.pid) if self.argv[0] != COMMAND[0] else []
        return below[0] if below else self.process.pid

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def pids(self) -> list[int]:
        """Return the worker processes: the children of the one that was started."""
        return children(self.pid)

    def assert_alive(self) -> None:
        """Fail where it has ended by itself."""
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"worker-glue run ended with {self.process.returncode}:\n{self.log[-4000:]}")

    def kill(self) -> None:
        """kill -9 of all its processes, as when the machine stops."""
        assert self.process is not None
        main = self.pid
        for pid in (main, *descendants(main)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(ENDS_WITHIN_S)

    def stop(self) -> int:
        """Have it end in order; return its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            os.kill(self.pid, signal.SIGTERM)
        try:
            return self.process.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"worker-glue run does not end:\n{self.log[-4000:]}") from None

    def assert_no_bug(self) -> None:
        """No bug was logged, and nothing was printed by the interpreter itself."""
        log = self.log
        for sign in ("event=bug", "event=task.bug", "Traceback", "Fatal Python error", "this is a bug"):
            assert sign not in log, log[max(0, log.find(sign) - 500) :][:4000]


class WorkerHost:
    """One host of a site: its syncd, its mirror, its proxies, and the workers on it."""

    def __init__(self, site: Site, base: Path, name: str, worker_table: str) -> None:
        base.mkdir(parents=True, exist_ok=True)
        self.site = site
        self.base = base
        self.target = base / "data" / MIRROR
        self.smb = FaultProxy(("127.0.0.1", site.share.port))
        self.proxies = Proxies(Proxy(site.mongo.port), Proxy(site.nsqd.tcp_port), Proxy(site.lookupd.http_port))
        self.syncd = Host(base)
        self.syncd.host_table = f'name = "{name}"'
        self.syncd.tables = worker_table
        self.syncd.add_mirror(
            MIRROR, site.share.url(port=self.smb.port), self.target, site.share.password_file, extra=RARELY
        )
        self.daemon = Daemon(self.syncd)

    @property
    def environment(self) -> dict[str, str]:
        """What a worker is told: the deployment's three variables, and where the daemon is."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SYNCD_", "WORKER_"))}
        return {
            **kept,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), str(self.site.plugins)]),
            "HOME": str(self.base),
            "MONGO_URI": self.site.mongo.uri(port=self.proxies.mongo.port),
            "NSQD_ADDRESS": f"127.0.0.1:{self.proxies.nsqd.port}",
            "NSQLOOKUPD_ADDRESSES": f"127.0.0.1:{self.proxies.lookupd.port}",
            "SYNCD_API": str(self.syncd.state / SOCKET),
            "OMP_THREAD_LIMIT": "1",
        }

    @contextlib.contextmanager
    def workers(self, count: int = 3, *, around: Sequence[str] = ()) -> Iterator[Workers]:
        """Run `worker-glue run` until the block ends. around: a program that it is run by, as strace."""
        argv = [*around, *COMMAND, "-c", str(self.syncd.config), "run", "--workers", str(count)]
        running = Workers(argv, self.environment, self.base / "workers.log")
        try:
            running.start()
            self.until_consuming(running, count)
            yield running
            code = running.stop()
            assert code in (0, 143, -signal.SIGTERM, -signal.SIGKILL), f"exit code {code}:\n{running.log[-3000:]}"
        finally:
            if running.process is not None and running.process.poll() is None:
                running.kill()
        running.assert_no_bug()

    def until_consuming(self, running: Workers, count: int, within_s: float = 60.0) -> None:
        """Wait until so many workers of this site have subscribed."""
        deadline = time.monotonic() + within_s
        while (found := self.site.consumers()) < count:
            running.assert_alive()
            if time.monotonic() > deadline:
                raise AssertionError(f"{found} of {count} workers consume:\n{running.log[-4000:]}")
            time.sleep(0.1)

    def close(self) -> None:
        """Leave nothing behind."""
        self.daemon.close()
        for proxy in self.proxies.all:
            proxy.cut()
        self.smb.stop()


@dataclass
class Site:
    """The main server's side."""

    base: Path
    share: SmbServer
    mongo: MongoServer
    lookupd: LookupdServer
    nsqd: NsqdServer
    backend: Backend
    plugins: Path
    hosts: list[WorkerHost] = field(default_factory=list)

    @contextlib.contextmanager
    def host(self, name: str = "tod-mac", worker: str = "", *, synced: bool = True) -> Iterator[WorkerHost]:
        """Run syncd on one host until the block ends. worker: the [worker] table. synced: wait for the first run."""
        made = WorkerHost(self, self.base / name, name, worker)
        self.hosts.append(made)
        made.smb.start()
        try:
            made.daemon.start()
            if synced:
                made.daemon.until_ok()
            yield made
        finally:
            self.hosts.remove(made)
            made.close()
        made.daemon.assert_no_bug()

    def consumers(self) -> int:
        """Return how many clients the tasks' channel has."""
        try:
            channel = self.nsqd.channels(TOPIC).get(CHANNEL, {})
        except OSError:
            return 0
        return int(channel.get("client_count", len(channel.get("clients") or ())))


@contextlib.contextmanager
def start_site(base: Path, *, mongo: MongoServer | None = None, nsqd_options: Mapping[str, str] = {}) -> Iterator[Site]:
    """Run the main server's programs until the block ends. The tasks' channel is there already.

    mongo: one that runs already; else mongod is started where there is one, else FerretDB.
    """
    with contextlib.ExitStack() as stack:
        share = stack.enter_context(start_smbd(base))
        mongo = mongo or stack.enter_context(start_mongo(KINDS[-1], base))
        lookupd = stack.enter_context(start_lookupd(base))
        nsqd = stack.enter_context(start_nsqd(base, lookupd=lookupd, broadcast=NOWHERE, options=nsqd_options))
        nsqd.make_channel(TOPIC, CHANNEL)
        yield Site(base, share, mongo, lookupd, nsqd, Backend(mongo, nsqd), install(base / "plugins"))


# --- processes -------------------------------------------------------------------------------------------------------


def children(pid: int) -> list[int]:
    """Return a process's children, of all its threads."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += [int(child) for child in (task / "children").read_text().split()]
    return sorted(found)


def descendants(pid: int) -> list[int]:
    """Return a process's children, their children, and so on."""
    found = children(pid)
    for child in found:
        found += [each for each in descendants(child) if each not in found]
    return found


def connected(trace: Path) -> set[tuple[str, int]]:
    """Return the TCP addresses that strace saw connect(2) called with: (address, port)."""
    found = set()
    for line in trace.read_text(errors="replace").splitlines():
        if "connect(" not in line or ("sin_port=htons(" not in line and "sin6_port=htons(" not in line):
            continue
        port = int(line.partition("_port=htons(")[2].partition(")")[0])
        address = line.partition('inet_addr("')[2].partition('"')[0] or line.partition('inet_pton(AF_INET6, "')[2]
        found.add((address.partition('"')[0], port))
    return found
