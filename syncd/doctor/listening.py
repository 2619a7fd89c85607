"""Where the daemon is to listen: whether another program has its port or its socket. Writes nothing."""

from __future__ import annotations

import os
import stat

from syncd.client.address import SOCKET, SocketAddress, TcpAddress
from syncd.client.api import ApiClient
from syncd.client.listeners import socket_holder, tcp_holder
from syncd.config import Settings
from syncd.config.values import Address
from syncd.core.errors import ConfigError, SyncdError
from syncd.doctor.checks import Check, fail, failed, ok
from syncd.store.state import StateDirectory
from syncd.web.sockets import listen_tcp

ANSWER_S = 2.0


def check_addresses(settings: Settings) -> list[Check]:
    """Look at [api] listen, and at what lies in the socket's place. A daemon of this state directory may be there."""
    daemon = _daemon(settings)
    listen = settings.api.listen
    port = [] if listen is None else [_port(listen, daemon)]
    return port + _socket(settings, daemon)


def _daemon(settings: Settings) -> int | None:
    """Return who works on the state directory: None for nobody, 0 for somebody whose pid is not known."""
    try:
        return StateDirectory.open(settings.host.state_dir, create=False).holder_pid()
    except SyncdError:
        return None  # the state has a check of its own


def _port(listen: Address, daemon: int | None) -> Check:
    """Take the port for a moment; nobody is connected to."""
    name = "API port"
    try:
        listen_tcp(*listen).close()
    except ConfigError as error:
        if daemon is not None and daemon in (tcp_holder(listen.port).pid, _pid_by_answer(TcpAddress(*listen))):
            return ok(name, f"{listen}: the daemon (process {daemon}) listens there")
        return failed(name, error)
    if daemon:
        return ok(name, f"{listen} is free; process {daemon} works on this state directory without listening there")
    return ok(name, f"{listen} is free for the daemon")


def _pid_by_answer(address: TcpAddress | SocketAddress) -> int | None:
    """Ask whoever is there, as syncd would answer; None for who does not."""
    with ApiClient(address, ANSWER_S) as api:
        try:
            told = api.health().get("pid")
        except SyncdError:
            return None
    return told if isinstance(told, int) else None


def _socket(settings: Settings, daemon: int | None) -> list[Check]:
    """Say what is in the way of the socket; nothing where nothing is."""
    path, name = settings.host.state_dir / SOCKET, "API socket"
    try:
        mode = path.lstat().st_mode
    except OSError:
        if path.parent.is_dir() and not os.access(path.parent, os.W_OK | os.X_OK):
            todo = f"let uid {os.geteuid()} write into it (a container's volume may be another user's)"
            return [fail(name, f"{path.parent} may not be written by this user", todo)]
        return []
    if not stat.S_ISSOCK(mode):
        return [fail(name, f"{path} is no socket, and is in its place", f"move it away: {path}")]
    holder = socket_holder(path) if daemon is None else None
    if holder is None or _pid_by_answer(SocketAddress(path)) is not None:
        return []  # nobody, or a syncd: how that one is, is told below
    return [fail(name, f"{path} is taken: {holder} answers there, and is no syncd", "end that program")]
