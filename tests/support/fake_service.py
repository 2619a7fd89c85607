"""A Service in memory, with knobs: files that are held, calls that fail or take their time, a count of every call."""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from syncd.core.errors import ConfigError, SyncdError
from syncd.core.lease import WouldWait
from syncd.core.reasons import Reason
from syncd.core.resolution import Resolution, State
from syncd.web.port import Errand, Lease, Sample

NEVER_LISTED = Resolution(State.FETCHING, reason=Reason.NEVER_LISTED, retry_after_s=5.0)
LEASES_MAX = 100


class FakeService:
    """Holds `files` of one mirror; ensure() fetches those in `on_source`, at once unless `fetching` is cleared.

    fail: method name -> error to raise. slow_s: method name -> seconds each call takes. calls: how often each was made.
    """

    def __init__(self, mirror: str = "Bhushanji") -> None:
        self.mirror = mirror
        self.files: dict[str, bytes] = {}
        self.on_source: dict[str, bytes] = {}
        self.fail: dict[str, Exception] = {}
        self.slow_s: dict[str, float] = {}
        self.calls: Counter[str] = Counter()
        self.started: list[tuple[str, dict[str, Any]]] = []
        self.changes: list[tuple[str, dict[str, Any]]] = []
        self.fetching = threading.Event()
        self.fetching.set()
        self.wishes: list[Future[Resolution]] = []
        self.paused = False
        self.is_healthy = True
        self.kept_events = 10_000
        self._wanted: list[tuple[str, Future[Resolution]]] = []
        self._events: list[dict[str, Any]] = []
        self._listeners: list[Callable[[], None]] = []
        self._leases: dict[str, Lease] = {}
        self._errands: dict[str, Errand] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()

    # --- what tests do -------------------------------------------------------------------------------------------

    def hold(self, path: str, body: bytes = b"held") -> None:
        """Have a file, and announce it."""
        with self._lock:
            self.files[path] = body
            self.announce_event("ready", path)

    def announce_event(self, event: str, path: str) -> None:
        """Add one event to the feed and tell the listeners."""
        with self._lock:
            seq = len(self._events) + 1
            self._events.append({"v": 1, "event": event, "mirror": self.mirror, "path": path, "seq": seq})
            listeners = list(self._listeners)
        for tell in listeners:
            tell()

    def fetch_wanted(self) -> None:
        """Let every wish that waits come true."""
        with self._lock:
            wanted, self._wanted = self._wanted, []
        for path, wish in wanted:
            self._fulfil(path, wish)

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    # --- Service -------------------------------------------------------------------------------------------------

    def health(self) -> dict[str, Any]:
        self._enter("health")
        problems = [] if self.is_healthy else ["the catalogue cannot be written"]
        return {"ok": self.is_healthy, "version": "0", "pid": 1, "since": "2026-01-01T00:00:00Z", "problems": problems}

    def status(self) -> dict[str, Any]:
        self._enter("status")
        state = "paused" if self.paused else "ok"
        mirrors = [{"name": self.mirror, "state": state, "files": len(self.files)}]
        return {"version": "0", "host": "fake", "daemon": {"running": True, "pid": 1}, "mirrors": mirrors}

    def events(self, since: int, limit: int) -> dict[str, Any]:
        self._enter("events")
        with self._lock:
            last = len(self._events)
            oldest = max(1, last - self.kept_events + 1)
            if since < 0:
                return {"events": [], "next": last, "oldest": oldest, "gap": False}
            found = self._events[max(since, oldest - 1) :][:limit]
            following = found[-1]["seq"] if found else max(since, 0)
            return {"events": found, "next": following, "oldest": oldest, "gap": since < oldest - 1}

    def on_event(self, tell: Callable[[], None]) -> Callable[[], None]:
        with self._lock:
            self._listeners.append(tell)
        return lambda: self._listeners.remove(tell)

    def resolve(self, path: str) -> Resolution:
        self._enter("resolve")
        name = path.removeprefix(f"{self.mirror}/")
        body = self.files.get(name)
        server_path = f"{self.mirror}/{name}"
        if body is None:
            state, reason = (
                (State.FETCHING, Reason.NEW) if name in self.on_source else (State.MISSING, Reason.NOT_LISTED)
            )
            return Resolution(state, self.mirror, name, server_path, reason=reason, hint="syncd run-once")
        digest = hashlib.sha256(body).hexdigest()
        return Resolution(State.READY, self.mirror, name, server_path, f"/mirror/{name}", len(body), digest, 7)

    def ensure(self, path: str) -> Future[Resolution]:
        self._enter("ensure")
        wish: Future[Resolution] = Future()
        self.wishes.append(wish)
        if self.fetching.is_set():
            self._fulfil(path, wish)
        else:
            with self._lock:
                self._wanted.append((path, wish))
        return wish

    def lease(self, path: str, ttl_s: float, *, wait: bool = True) -> Lease | Resolution:
        self._enter("lease", wait=wait)
        found = self.resolve(path)
        if found.state is not State.READY:
            return found
        with self._lock:
            if len(self._leases) >= LEASES_MAX:
                raise SyncdError("too many leases", reason=Reason.REFUSED)
            lease_id = f"lease-{next(self._numbers)}"
            pinned = f".syncd/pins/{lease_id}/{found.path.rpartition('/')[2]}"
            lease = Lease(lease_id, found.mirror, found.path, found.server_path, f"/mirror/{pinned}", pinned,
                          found.size or 0, found.sha256 or "", found.generation or 0, _until(ttl_s))  # fmt: skip
            self._leases[lease_id] = lease
        return lease

    def renew(self, lease_id: str, ttl_s: float) -> Lease | None:
        self._enter("renew")
        with self._lock:
            if lease_id not in self._leases:
                return None
            self._leases[lease_id] = self._leases[lease_id]._replace(expires_at=_until(ttl_s))
            return self._leases[lease_id]

    def release(self, lease_id: str, *, wait: bool = True) -> bool | None:
        self._enter("release", wait=wait)
        with self._lock:
            return None if self._leases.pop(lease_id, None) is None else True

    @property
    def leases(self) -> int:
        return len(self._leases)

    def start(self, kind: str, wishes: Mapping[str, Any]) -> str:
        self._enter("start")
        unknown = set(wishes.get("mirrors", ())) - {self.mirror}
        if unknown:
            problem = f"there is no mirror {sorted(unknown)[0]!r}"
            raise ConfigError(problem, problems=[problem], hint="syncd status")
        self.started.append((kind, dict(wishes)))
        errand_id = f"errand-{next(self._numbers)}"
        result: dict[str, Any] = {"checks": []} if kind == "doctor" else {"run_id": "r1", "mirrors": []}
        self._errands[errand_id] = Errand(errand_id, True, None, result, 0)
        return errand_id

    def errand(self, errand_id: str) -> Errand | None:
        self._enter("errand")
        return self._errands.get(errand_id)

    def approve(self, wishes: Mapping[str, Any]) -> dict[str, Any]:
        self._change("approve", wishes)
        return {"approved": len(wishes["paths"])}

    def pause(self, wishes: Mapping[str, Any]) -> dict[str, Any]:
        self._change("pause", wishes)
        self.paused = True
        return {"paused": [self.mirror]}

    def resume(self, wishes: Mapping[str, Any]) -> dict[str, Any]:
        self._change("resume", wishes)
        self.paused = False
        return {"resumed": [self.mirror]}

    def announce(self, wishes: Mapping[str, Any]) -> dict[str, Any]:
        self._change("announce", wishes)
        return {"owed": len(self.files) if wishes["all"] else len(wishes["paths"])}

    def folder(self, mirror: str, directory: str) -> dict[str, Any] | None:
        self._enter("folder")
        if mirror != self.mirror:
            return None
        prefix = f"{directory}/" if directory else ""
        files = [
            {"name": path.removeprefix(prefix), "size": len(body), "mtime_ns": 0, "sha256": ""}
            for path, body in self.files.items()
            if path.startswith(prefix) and "/" not in path.removeprefix(prefix)
        ]
        return {"folders": [], "files": files, "missing": [], "more": False}

    def samples(self) -> list[Sample]:
        self._enter("samples")
        return [Sample("syncd_mirror_files", {"mirror": self.mirror, "state": "held"}, float(len(self.files)))]

    # --- inside --------------------------------------------------------------------------------------------------

    def _enter(self, name: str, *, wait: bool = True) -> None:
        if not wait and name in self.slow_s:
            raise WouldWait(name)
        self.calls[name] += 1
        if name in self.slow_s:
            time.sleep(self.slow_s[name])
        if name in self.fail:
            raise self.fail[name]

    def _change(self, name: str, wishes: Mapping[str, Any]) -> None:
        self._enter(name)
        self.changes.append((name, dict(wishes)))

    def _fulfil(self, path: str, wish: Future[Resolution]) -> None:
        if not wish.set_running_or_notify_cancel():
            return
        name = path.removeprefix(f"{self.mirror}/")
        if name in self.on_source and name not in self.files:
            self.hold(name, self.on_source[name])
        wish.set_result(self.resolve(path))


def _until(ttl_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + ttl_s))
