"""Calls that end: one HTTP request, and a wait that closes a socket when its time is over."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from syncd.alerts.model import NotDelivered

ANSWER_MAX = 4 << 20
_HINT = "see whether its server runs, and whether [alerts] has its host and port right"
_TRUST_HINT = "have its certificate signed by an authority that this machine knows, or name that in SSL_CERT_FILE"


def request(
    method: str, url: str, *, limit_s: float, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    """Make one HTTP request; return its status and the answer (cut at ANSWER_MAX). No redirect is followed.

    Ends within limit_s also where the server sends a byte now and then; only the look-up of its name is the system's.
    Raises: NotDelivered, naming host and port alone: the rest of a URL may be secret.
    """
    parts = urlsplit(url)
    place = _place(parts.scheme, parts.hostname or "", parts.port)
    connection = _connection(parts.scheme, *place, limit_s)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    with said_of(f"{place[0]}:{place[1]}", limit_s), closed_after(limit_s, lambda: connection.sock):
        try:
            connection.request(method, target, body, {"Connection": "close", **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.read(ANSWER_MAX)
        finally:
            connection.close()


def _place(scheme: str, host: str, port: int | None) -> tuple[str, int]:
    return host, port or (443 if scheme == "https" else 80)


def _connection(scheme: str, host: str, port: int, limit_s: float) -> http.client.HTTPConnection:
    if scheme == "https":
        import ssl  # start-up time: only where it is needed

        return http.client.HTTPSConnection(host, port, timeout=limit_s, context=ssl.create_default_context())
    return http.client.HTTPConnection(host, port, timeout=limit_s)


@contextmanager
def said_of(place: str, limit_s: float) -> Iterator[None]:
    """Turn what a connection raises into NotDelivered."""
    try:
        yield
    except TimeoutError as error:
        raise NotDelivered(f"{place}: no answer within {limit_s:g} s", hint=_HINT) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        hint = _TRUST_HINT if getattr(error, "verify_message", "") else _HINT
        raise NotDelivered(f"{place}: {_said(error)}", hint=hint) from error


def _said(error: Exception) -> str:
    """Say what went wrong in a few words; a library's own may repeat the URL."""
    reason = getattr(error, "verify_message", "") or getattr(error, "strerror", "") or ""
    return str(reason).lower() or ("the connection breaks" if isinstance(error, OSError) else "its answer is no HTTP")


@contextmanager
def closed_after(limit_s: float, find: Callable[[], socket.socket | None]) -> Iterator[None]:
    """End what reads or writes a socket when the time is over: then TimeoutError is raised, whatever it raised."""
    over = threading.Event()

    def end() -> None:
        over.set()
        found = find()
        if found is not None:
            with suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(limit_s, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception as error:
        if over.is_set():
            raise TimeoutError from error
        raise
    finally:
        timer.cancel()
