"""Where the daemon's API is: the Unix socket in the state directory, or loopback TCP with a token file."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from syncd.core.errors import ConfigError

SOCKET = "run/syncd.sock"
"""The socket's place in the state directory."""
PATH_BYTES_MAX = 100
"""sockaddr_un takes 104 bytes with the final NUL on macOS, 108 on Linux (unix(4), unix(7))."""
TOKEN_BYTES_MAX = 4096
VARIABLE, TOKEN_VARIABLE = "SYNCD_API", "SYNCD_API_TOKEN_FILE"


class SocketAddress(NamedTuple):
    """The daemon's Unix socket."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def authority(self) -> str:
        """The Host header, which says nothing here."""
        return "localhost"

    def headers(self) -> dict[str, str]:
        """Return what each request carries: nothing, the socket's mode says who may ask."""
        return {}


class TcpAddress(NamedTuple):
    """The daemon's TCP port. host: a name or address, an IPv6 one without brackets."""

    host: str
    port: int
    token_file: Path | None = None

    def __str__(self) -> str:
        return f"http://{self.authority}"

    @property
    def authority(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def headers(self) -> dict[str, str]:
        """Return what each request carries: the token, read now. Raises ConfigError."""
        return {} if self.token_file is None else {"Authorization": f"Bearer {_token(self.token_file)}"}


Address = SocketAddress | TcpAddress


def in_environment(env: Mapping[str, str]) -> Address | None:
    """Return what SYNCD_API and SYNCD_API_TOKEN_FILE say; None without SYNCD_API.

    Its forms: unix:///path, /path, http://host:port. Raises: ConfigError.
    """
    text = env.get(VARIABLE, "").strip()
    if not text:
        return None
    if text.startswith("/") and "\0" not in text:
        return SocketAddress(Path(text))
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise _unusable(text, str(error)) from error
    if parts.scheme == "unix" and not parts.netloc and parts.path.startswith("/"):
        return SocketAddress(Path(parts.path))
    if parts.scheme != "http" or not host or not port or parts.path.strip("/") or parts.username or parts.query:
        raise _unusable(text, "expected unix:///path or http://host:port")
    token_file = env.get(TOKEN_VARIABLE, "").strip()
    return TcpAddress(host, port, Path(token_file) if token_file else None)


def _unusable(text: str, why: str) -> ConfigError:
    shown = "" if "@" in text else f": {text[:200]}"  # no password, should somebody have put one in
    problem = f"{VARIABLE} cannot be used: {why}{shown}"
    hint = f"{VARIABLE}=unix:///run/syncd/syncd.sock, or {VARIABLE}=http://host.docker.internal:9470"
    return ConfigError(problem, problems=[problem], hint=hint)


def _token(path: Path) -> str:
    try:
        with path.open("rb") as file:
            token = file.read(TOKEN_BYTES_MAX).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no ASCII text"
        raise ConfigError(f"the API token file {path} cannot be read: {why}", hint=f"set {TOKEN_VARIABLE}") from error
    if not token or not token.isprintable():
        hint = "write what is in the daemon's api.token_file into it"
        raise ConfigError(f"the API token file {path} does not hold one line of text", hint=hint)
    return token


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Give a socket's path in a form that fits into an address: through a handle of its folder where it is too long.

    Raises: OSError (ENAMETOOLONG where there is no such way: /proc is Linux's alone).
    """
    if len(os.fsencode(path)) <= PATH_BYTES_MAX:
        yield str(path)
        return
    if sys.platform != "linux":
        raise OSError(errno.ENAMETOOLONG, "the path is too long for a Unix socket", str(path))
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
