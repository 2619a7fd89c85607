"""The port of the web server: what the daemon does for its callers. The docstrings are the contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, NamedTuple, Protocol

from syncd.core.lease import Lease
from syncd.core.resolution import Resolution

__all__ = ["Errand", "Lease", "Sample", "Service"]


class Errand(NamedTuple):
    """Long work that a caller asked for and follows: a run or a verification.

    progress: {mirror, files_done, files_known, bytes_done, bytes_known}, None before anything is known.
    result: what the command prints with --json, and exit_code; both None until `done`. errors: what goes to stderr,
    each {message, hint, problems}.
    """

    id: str
    done: bool
    progress: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    exit_code: int | None = None
    errors: tuple[dict[str, Any], ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {**self._asdict(), "errors": list(self.errors)}


class Sample(NamedTuple):
    """One number for Prometheus: name (without labels), labels, value. Names and labels are in web/metrics.py."""

    name: str
    labels: Mapping[str, str]
    value: float


class Service(Protocol):
    """The daemon, as its callers see it. Thread-safe. Every call but those that return a Future ends within 5 s.

    Calls may raise SyncdError: its message, hint and reason go to the caller.
    """

    def health(self) -> dict[str, Any]:
        """Return {"ok": bool, "version", "pid", "since", "problems": [text]}; takes no lock and does no I/O."""

    def status(self) -> dict[str, Any]:
        """Return the object of `status --json` (DESIGN 4.4) with what only the daemon knows, see docs/api.md."""

    def events(self, since: int, limit: int) -> dict[str, Any]:
        """Return {"events": [FileReady v1 + "seq"], "next": N, "oldest": M, "gap": bool}.

        The events after number `since`, at most `limit`; `next` is what to ask with the next time. gap: some after
        `since` are not kept any more. since -1: none, only `next`.
        """

    def on_event(self, tell: Callable[[], None]) -> Callable[[], None]:
        """Have `tell` called (from any thread) when there are new events; returns what ends that."""

    def resolve(self, path: str) -> Resolution:
        """Say what a path means and how it is; no I/O on the source. Below 1 ms."""

    def ensure(self, path: str) -> Future[Resolution]:
        """Fetch a path ahead of everything else; many callers of one path cost one transfer.

        The future ends when the state is final: READY, or an answer that waiting does not change. Cancelling it drops
        this caller's wish only.
        """

    def lease(self, path: str, ttl_s: float, *, wait: bool = True) -> Lease | Resolution:
        """Pin the version that is held now; the resolution where it is not READY. Raises SyncdError at the bounds.

        wait False: below 1 ms but for a disk that is slow; raises WouldWait where it would have to wait for others.
        """

    def renew(self, lease_id: str, ttl_s: float) -> Lease | None:
        """Move the end of a lease; None when there is no such lease (any more): it is lost."""

    def release(self, lease_id: str, *, wait: bool = True) -> bool | None:
        """End a lease; whether the pinned bytes' stat is unchanged, None when there is no such lease.

        wait: as for lease().
        """

    def start(self, kind: str, wishes: Mapping[str, Any]) -> str:
        """Start long work and return its errand's id. kind "run": wishes {mirrors: [name], only: [path], new_target,
        take_over}; kind "verify": {mirrors, source, checksums, repair, fraction}; kind "doctor": {}, and its result is
        {checks: [...]}. Raises ConfigError for wrong wishes.
        """

    def errand(self, errand_id: str) -> Errand | None:
        """Return how far it is; None when it is not known (any more: kept for an hour)."""

    def approve(self, wishes: Mapping[str, Any]) -> dict[str, Any]:
        """Let held-back changes through: {mirror, paths}; starts a run. Returns {"approved": count}."""

    def pause(self, wishes: Mapping[str, Any]) -> dict[str, Any]:
        """{mirrors: [name] (all when empty), for_s: seconds or None}: no scans, hints and verification meanwhile."""

    def resume(self, wishes: Mapping[str, Any]) -> dict[str, Any]:
        """{mirrors}: go on."""

    def announce(self, wishes: Mapping[str, Any]) -> dict[str, Any]:
        """{since: ISO or None, paths: [path], all: bool}: owe these announcements again. Returns {"owed": count}."""

    def folder(self, mirror: str, directory: str) -> dict[str, Any] | None:
        """Return one folder for the page, at most 1,000 of each kind; None for a mirror that is not there.

        {"folders": [{name, files, bytes}], "files": [{name, size, mtime_ns, sha256}],
        "missing": [{name, reason, hint}], "more": bool}
        """

    def samples(self) -> list[Sample]:
        """Return all numbers for /metrics; cheap enough to be asked every second."""
