"""A client of the daemon's local API (docs/api.md), over its Unix socket or loopback TCP with a token.

    with ApiClient(SocketAddress(state_dir / SOCKET)) as api:
        found = api.resolve("Bhushanji/eng-typed/letter.pdf")

What it raises: errors.py.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import quote, urlencode

from syncd.client.address import SOCKET, Address, SocketAddress, TcpAddress, in_environment
from syncd.client.errors import ApiRefused, ApiUnreachable
from syncd.core.errors import ConfigError, SyncdError
from syncd.core.reasons import Reason

if TYPE_CHECKING:  # what is loaded only where a daemon is asked: a worker's start must not wait for it
    from syncd.client.channel import Channel
    from syncd.core.lease import Lease
    from syncd.core.resolution import Resolution

__all__ = ["SOCKET", "ApiClient", "ApiRefused", "ApiUnreachable", "Errand", "Events", "SocketAddress", "TcpAddress",
           "connect", "from_environment"]  # fmt: skip

TIMEOUT_S = 20.0
"""For a call that the daemon answers at once: it grants itself 5 s, and up to 10 s for a free thread."""
CONNECT_S = 1.0
POLL_MAX_S = 60.0
EVENTS_MAX = 1000


class Events(NamedTuple):
    """A part of the feed. events: FileReady v1 with "seq"; next: what to ask with the next time; gap: some before
    `oldest` are not kept any more.
    """

    events: list[dict[str, Any]]
    next: int
    oldest: int
    gap: bool


class Errand(NamedTuple):
    """How far a run or a verification is. result: what the command prints with --json; errors: what goes to stderr."""

    id: str
    done: bool
    progress: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    exit_code: int | None = None
    errors: tuple[dict[str, Any], ...] = ()


class ApiClient:
    """The daemon, as a caller sees it. Thread-safe. Every call ends within timeout_s, or its own time-out plus that."""

    def __init__(self, address: Address, timeout_s: float = TIMEOUT_S) -> None:
        self.address = address
        self._timeout_s = timeout_s
        self._channel: Channel | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close what is connected; safe to repeat, and the next call connects anew."""
        with self._lock:
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- looking -------------------------------------------------------------------------------------------------

    def health(self, timeout_s: float | None = None) -> dict[str, Any]:
        """Return {"ok", "version", "pid", "since", "problems"}; an unhealthy daemon answers too."""
        within_s = self._timeout_s if timeout_s is None else timeout_s
        status, answer = self._ask("GET", "/healthz", wait_s=within_s - self._timeout_s)
        return answer if "ok" in answer else _checked(status, answer)

    def status(self) -> dict[str, Any]:
        """Return the object of `status --json` (DESIGN 4.4), as the daemon has it."""
        return self._get("/api/v1/status")

    def events(self, since: int, timeout_s: float = 0, limit: int = EVENTS_MAX) -> Events:
        """Return the events after number `since`, waiting up to timeout_s for the first; since -1: where it is."""
        timeout_s = min(timeout_s, POLL_MAX_S)
        query = urlencode({"since": since, "limit": limit, "timeout": timeout_s})
        answer = self._get(f"/api/v1/events?{query}", wait_s=timeout_s)
        return Events(**_fields(Events._fields, answer))

    def folder(self, mirror: str, path: str = "") -> dict[str, Any] | None:
        """Return what one folder holds and misses; None when there is no such mirror."""
        query = urlencode({"mirror": mirror, "path": path})
        status, answer = self._ask("GET", f"/api/v1/folder?{query}")
        return None if status == 404 else _checked(status, answer)

    # --- files ---------------------------------------------------------------------------------------------------

    def resolve(self, path: str) -> Resolution:
        """Say what a path means and how it is, now."""
        return _resolution(self._post("/api/v1/resolve", {"path": path}))

    def ensure(self, path: str, timeout_s: float = 60) -> Resolution:
        """Have a path fetched ahead of everything else; how it is at the latest after timeout_s (at most an hour)."""
        wish = {"path": path, "timeout_s": timeout_s}
        return _resolution(self._post("/api/v1/ensure", wish, wait_s=timeout_s))

    def lease(self, path: str, ttl_s: float) -> Lease | Resolution:
        """Pin the version that is held now, at most an hour; the resolution where the path is not ready.

        Asked again where a connection broke under it: a lease of which nobody heard ends by itself.
        """
        wish = {"path": path, "ttl_s": ttl_s}
        status, answer = self._ask("POST", "/api/v1/leases", wish)
        if status == 409 and "state" in answer:
            return _resolution(answer)
        return _lease(_checked(status, answer))

    def renew(self, lease_id: str, ttl_s: float) -> Lease | None:
        """Move the end of a lease; None when it is lost."""
        status, answer = self._ask("PUT", f"/api/v1/leases/{quote(lease_id, safe='')}", {"ttl_s": ttl_s})
        return None if status == 404 else _lease(_checked(status, answer))

    def release(self, lease_id: str) -> bool | None:
        """End a lease; whether the pinned bytes were unchanged, None when it was lost.

        Never sent again, since the second answer could not tell; where the connection breaks it ends by itself.
        """
        status, answer = self._ask("DELETE", f"/api/v1/leases/{quote(lease_id, safe='')}", repeatable=False)
        return None if status == 404 else bool(_checked(status, answer).get("intact"))

    # --- changes of state: over the Unix socket only -------------------------------------------------------------

    def start_run(
        self,
        mirrors: Sequence[str] = (),
        only: Sequence[str] = (),
        *,
        new_target: bool = False,
        take_over: bool = False,
    ) -> str:
        """Start a run and return its errand's id. No mirrors: all."""
        flags = {"new_target": new_target, "take_over": take_over}
        return self._start("runs", {"mirrors": list(mirrors), "only": list(only), **flags})

    def start_verify(
        self,
        mirrors: Sequence[str] = (),
        *,
        source: bool = False,
        checksums: bool = False,
        repair: bool = False,
        fraction: float = 1.0,
    ) -> str:
        """Start a verification and return its errand's id. No mirrors: all."""
        wishes = {"source": source, "checksums": checksums, "repair": repair, "fraction": fraction}
        return self._start("verify", {"mirrors": list(mirrors), **wishes})

    def start_doctor(self) -> str:
        """Start the daemon's own examination and return its errand's id."""
        return self._start("doctor", {})

    def errand(self, kind: str, errand_id: str) -> Errand | None:
        """Return how far it is; None when the daemon does not know it (any more). kind: runs, verify or doctor."""
        status, answer = self._ask("GET", f"/api/v1/{kind}/{quote(errand_id, safe='')}")
        if status == 404:
            return None
        found = Errand(**_fields(Errand._fields, _checked(status, answer)))
        return found._replace(errors=tuple(found.errors))

    def approve(self, mirror: str, paths: Sequence[str]) -> dict[str, Any]:
        """Let exactly these held-back paths through."""
        return self._change("approve", {"mirror": mirror, "paths": list(paths)})

    def pause(self, mirrors: Sequence[str] = (), for_s: float | None = None) -> dict[str, Any]:
        """Leave mirrors alone, all when none is named; for_s None: until resumed."""
        return self._change("pause", {"mirrors": list(mirrors), "for_s": for_s})

    def resume(self, mirrors: Sequence[str] = ()) -> dict[str, Any]:
        """Go on with mirrors, all when none is named."""
        return self._change("resume", {"mirrors": list(mirrors)})

    def announce(
        self, *, since: str | None = None, paths: Sequence[str] = (), everything: bool = False
    ) -> dict[str, Any]:
        """Have announcements sent again: those since a time (ISO 8601), of these paths, or all."""
        return self._change("announce", {"since": since, "paths": list(paths), "all": everything})

    # --- inside --------------------------------------------------------------------------------------------------

    def _ask(
        self,
        method: str,
        target: str,
        body: object = None,
        *,
        wait_s: float = 0,
        repeatable: bool = True,
        kept: bool = True,
    ) -> tuple[int, dict[str, Any]]:
        timeout_s = self._timeout_s + wait_s
        return self._opened().ask(method, target, body, timeout_s=timeout_s, repeatable=repeatable, kept=kept)

    def _opened(self) -> Channel:
        from syncd.client.channel import Channel

        with self._lock:
            if self._channel is None:
                self._channel = Channel(self.address)
            return self._channel

    def _get(self, target: str, *, wait_s: float = 0) -> dict[str, Any]:
        return _checked(*self._ask("GET", target, wait_s=wait_s))

    def _post(self, target: str, body: object, *, wait_s: float = 0) -> dict[str, Any]:
        return _checked(*self._ask("POST", target, body, wait_s=wait_s))

    def _change(self, name: str, body: object) -> dict[str, Any]:
        return _checked(*self._ask("POST", f"/api/v1/{name}", body, repeatable=False, kept=False))

    def _start(self, name: str, body: object) -> str:
        return str(self._change(name, body)["id"])


def connect(state_dir: Path) -> ApiClient | None:
    """Return a client of the daemon that works on a state directory; None when none answers within a second."""
    client = ApiClient(SocketAddress(state_dir / SOCKET))
    try:
        client.health(CONNECT_S)
    except SyncdError:
        client.close()
        return None
    return client


def from_environment(env: Mapping[str, str]) -> ApiClient | None:
    """Return a client of the daemon that SYNCD_API names; None where it names none. Raises ConfigError."""
    address = in_environment(env)
    return None if address is None else ApiClient(address)


# --- answers ---------------------------------------------------------------------------------------------------------


def _checked(status: int, answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer that is no error. Raises: ConfigError, ApiRefused."""
    if status < 400:
        return answer
    told = answer.get("error")
    raise _error(status, told if isinstance(told, dict) else {})


def _error(status: int, told: Mapping[str, Any]) -> SyncdError:
    message = str(told.get("message") or f"the daemon answered with HTTP status {status}")
    hint = str(told.get("hint") or "")
    reason = _reason(told.get("reason"))
    if reason is Reason.CONFIG:
        return ConfigError(message, problems=[str(each) for each in told.get("problems", ())], hint=hint)
    known = told.get("exit_code")
    exit_code = known if isinstance(known, int) else _EXIT_CODES.get(status, 1 if status >= 500 else 2)
    transient = bool(told.get("transient", status == 503))
    return ApiRefused(message, status=status, exit_code=exit_code, transient=transient, hint=hint, reason=reason)


_EXIT_CODES = {401: 12, 403: 12, 503: 10}


def _reason(code: object) -> Reason | None:
    """Return a reason; None for none, and for one that only a newer daemon knows."""
    with contextlib.suppress(ValueError):
        return Reason(str(code))
    return None


def _lease(answer: Mapping[str, Any]) -> Lease:
    from syncd.core.lease import Lease

    return Lease(**_fields(Lease._fields, answer))


def _resolution(answer: Mapping[str, Any]) -> Resolution:
    from syncd.core.resolution import Resolution, State

    try:
        return Resolution(
            state=State(answer["state"]),
            mirror=answer["mirror"] or "",
            path=answer["path"] or "",
            server_path=answer["server_path"] or "",
            local_path=answer["local_path"],
            size=answer["size"],
            sha256=answer["sha256"],
            generation=answer["generation"],
            reason=_reason(answer["reason"]),
            hint=answer["hint"],
            retry_after_s=answer["retry_after_s"],
            listed_at=answer["listed_at"] or "",
            near=tuple(answer["near"]),
            candidates=tuple(answer["candidates"]),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise _misshapen(error) from error


def _fields(names: Sequence[str], answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return these fields of an answer; those that a newer daemon adds are left out."""
    try:
        return {name: answer[name] for name in names}
    except KeyError as error:
        raise _misshapen(error) from error


def _misshapen(error: Exception) -> ApiUnreachable:
    return ApiUnreachable(f"the daemon's answer is not what this version expects: {error!r}", hint="syncd --version")
