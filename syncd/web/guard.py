"""Who may ask what: Host, Origin and token rules of the two listeners. Pure.

The Unix socket's mode says who may use it, and no browser speaks over it: a request with an Origin is refused there.
On TCP any web page that a user on this host looks at can send requests. So there: an exact Host allow-list (a foreign
name that resolves to loopback is refused), no Origin but our own, a bearer token, and no changes of state.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from syncd.core.reasons import Reason

HTTP_PORT = 80
_LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")


class Refusal(NamedTuple):
    """Why a request is not answered: HTTP status, and what the caller is told."""

    status: int
    message: str
    hint: str = ""
    reason: Reason | None = None
    headers: tuple[tuple[str, str], ...] = ()


class Access(NamedTuple):
    """What one call asks of its caller. open: no token needed. socket_only: refused over TCP."""

    open: bool = False
    socket_only: bool = False


class SocketDoor:
    """The rules of the Unix socket."""

    name = "socket"

    def refuse(self, headers: Mapping[str, str], access: Access) -> Refusal | None:  # noqa: ARG002 (the same for all)
        """Return why a request is refused, None when it may pass."""
        if "Origin" in headers:
            return Refusal(403, "a request from a web page is not answered on the Unix socket")
        return None


class TcpDoor:
    """The rules of TCP. token: asked at each request, so that a changed one counts at once; it may raise SyncdError."""

    name = "tcp"

    def __init__(self, hosts: frozenset[str], token: Callable[[], str] | None) -> None:
        self._hosts = hosts
        self._token = token

    def refuse(self, headers: Mapping[str, str], access: Access) -> Refusal | None:
        """Return why a request is refused, None when it may pass. Raises what the token's source raises."""
        host = headers.get("Host", "").lower()
        if host not in self._hosts:
            return Refusal(
                421,
                f'this is not the host "{host[:80]}"' if host else "the request names no Host",
                "the names that are answered to: 127.0.0.1, localhost, and api.allowed_hosts in the configuration",
            )
        origin = headers.get("Origin")
        if origin is not None and origin.lower() != f"http://{host}":
            return Refusal(403, "a request from another web page is not answered")
        if not access.open and not self._bears_token(headers.get("Authorization", "")):
            return Refusal(
                401,
                "the bearer token is missing or wrong",
                "send the header 'Authorization: Bearer TOKEN' with what is in api.token_file",
                Reason.AUTH_FAILED,
                (("WWW-Authenticate", 'Bearer realm="syncd"'),),
            )
        if access.socket_only:
            return Refusal(
                403,
                "changes of state are taken over the Unix socket only",
                "use the syncd command on this host, or STATE/run/syncd.sock",
            )
        return None

    def _bears_token(self, header: str) -> bool:
        """Compare in constant time. Without a token of our own, or with an empty one, nobody gets in."""
        scheme, _, given = header.partition(" ")
        ours = self._token() if self._token is not None else ""
        same = hmac.compare_digest(given.strip(" ").encode("latin-1", "replace"), ours.encode())
        return same and bool(ours) and scheme.lower() == "bearer"


Door = SocketDoor | TcpDoor


def allowed_hosts(listen: str, port: int, more: Iterable[str] = ()) -> frozenset[str]:
    """Return every Host header that is answered, in lower case.

    listen: the address that is listened on, an IPv6 one without brackets. more: names with or without a port; one
    without gets ours.
    """
    own = f"[{listen}]" if ":" in listen else listen
    found = set()
    for name in (own, *_LOCAL_NAMES, *more):
        name = _bracketed(name.strip().lower())
        if _has_port(name):
            found.add(name)
            continue
        found.add(f"{name}:{port}")
        if port == HTTP_PORT:
            found.add(name)  # where browsers leave it out
    return frozenset(found)


def _bracketed(name: str) -> str:
    """Put an IPv6 address into brackets, as a Host header has it (RFC 3986, 3.2.2)."""
    return f"[{name}]" if name.count(":") > 1 and not name.startswith("[") else name


def _has_port(name: str) -> bool:
    return ":" in name.rpartition("]")[2]
