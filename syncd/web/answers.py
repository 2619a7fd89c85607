"""What goes back to a caller: status, headers and body; and how errors look there."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from syncd.core.errors import (
    AlreadyRunning,
    ConfigError,
    DiskFull,
    PlanRefused,
    SourceUnavailable,
    SyncdError,
)
from syncd.core.reasons import Reason
from syncd.web.guard import Refusal

JSON = "application/json"
_in_json = json.JSONEncoder(separators=(",", ":")).encode

Headers = tuple[tuple[str, str], ...]

# No answer is shown inside another page, guessed at, kept, or names us to other sites.
_ALWAYS: Headers = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Frame-Options", "DENY"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
API_HEADERS: Headers = (
    *_ALWAYS,
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
)
PAGE_HEADERS: Headers = (
    *_ALWAYS,
    ("Cache-Control", "no-cache"),
    (
        "Content-Security-Policy",
        "default-src 'self'; base-uri 'none'; form-action 'none'; object-src 'none'; frame-ancestors 'none'",
    ),
)

STATUS_TEXT = {
    200: "OK",
    201: "Created",
    202: "Accepted",
    304: "Not Modified",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Content Too Large",
    421: "Misdirected Request",
    500: "Internal Server Error",
    503: "Service Unavailable",
    507: "Insufficient Storage",
}

_STATUS_OF: tuple[tuple[type[SyncdError], int], ...] = (
    (ConfigError, 400),
    (AlreadyRunning, 409),
    (PlanRefused, 409),
    (DiskFull, 507),
    (SourceUnavailable, 503),
)


class Answer(NamedTuple):
    """One answer, ready to be sent. unsent: called, in the loop's thread, when its caller has hung up before."""

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: Headers = API_HEADERS
    unsent: Callable[[], object] | None = None

    def goes_nowhere(self) -> None:
        """Its caller has hung up."""
        if self.unsent is not None:
            self.unsent()


class Refused(Exception):
    """A call is wrong in itself; raised below a handler and answered as its refusal says."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def wrong(message: str, hint: str = "") -> Refused:
    """Return the error for a request that cannot be understood."""
    return Refused(Refusal(400, message, hint))


def in_json(value: Mapping[str, Any], status: int = 200, headers: Headers = ()) -> Answer:
    """Return an object as JSON in ASCII, so that a path with half a surrogate pair passes too."""
    body = _in_json(value).encode("ascii")
    return Answer(status, body + b"\n", headers=API_HEADERS + headers if headers else API_HEADERS)


def refused(refusal: Refusal) -> Answer:
    """Return the answer to a request that is refused."""
    reason = None if refusal.reason is None else refusal.reason.value
    error = {"reason": reason, "message": refusal.message, "hint": refusal.hint}
    return in_json({"error": error}, refusal.status, refusal.headers)


def failed(error: SyncdError) -> Answer:
    """Return the answer to a call that the daemon could not do: what the command line would say and exit with."""
    told: dict[str, Any] = {
        "reason": error.reason.value,
        "message": error.message,
        "hint": error.hint,
        "exit_code": error.exit_code,
        "transient": error.transient,
    }
    if isinstance(error, ConfigError):
        told["problems"] = list(error.problems)
    return in_json({"error": told}, status_of(error))


def status_of(error: SyncdError) -> int:
    """Return the HTTP status of an error: by its class, else 503 where asking again may help, else 500."""
    found = next((status for kind, status in _STATUS_OF if isinstance(error, kind)), None)
    return found or (503 if error.transient else 500)


def bug() -> Answer:
    """Return the answer to a call that met a bug; what it was is for the daemon's log."""
    return refused(Refusal(500, "this is a bug in syncd", "the daemon's log has the details", Reason.BUG))


BUSY = Refusal(503, "too many calls at once", "ask again in a few seconds", headers=(("Retry-After", "2"),))
STOPPING = Refusal(503, "the daemon is stopping", "syncd status", Reason.STOPPED, (("Retry-After", "5"),))
