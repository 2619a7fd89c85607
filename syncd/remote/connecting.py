"""From a [hosts] table to a logged-in SSH connection: TCP, host key, login.

The host's key must stand in the operator's known_hosts file; none is ever added. One login is tried, with the one key
or password that is configured: no agent, no look for other keys. Every wait has a deadline.
"""

from __future__ import annotations

import contextlib
import shlex
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import paramiko

from syncd.config import RemoteSettings, Secret
from syncd.core.errors import ConfigError
from syncd.remote.errors import HostRefused, HostUnreachable, RemoteError
from syncd.sources.sftp.ssh import HostKeyRefused, Peer, ask_for, ended_by, left_s

CONNECT_S = 8.0
SETUP_S = 20.0
KEEPALIVE_S = 15
LOST_S = 45
"""A peer that acknowledges nothing for so long is lost (keep-alives of TCP)."""


def connect(remote: RemoteSettings, deadline: float) -> paramiko.Transport:
    """Return a logged-in connection. deadline: of time.monotonic(); the look-up of the name may outlast it.

    Raises: HostUnreachable, HostRefused.
    """
    with translated(remote):
        secret = _revealed(remote)
        key = _load_key(remote, secret)
        peer = _peer(remote)
        end = peer.dial(deadline, CONNECT_S, _notice_loss)
        transport = paramiko.Transport(end)
        transport.daemon = True
        transport.banner_timeout = transport.auth_timeout = CONNECT_S
        transport.handshake_timeout = CONNECT_S * 2
        try:
            with ended_by(deadline, transport):
                known = peer.known_keys()
                ask_for(transport, known)
                transport.start_client(timeout=left_s(deadline))
                peer.require_known(known, transport.get_remote_server_key())
                _log_in(remote, transport, key, secret)
            transport.set_keepalive(KEEPALIVE_S)
        except BaseException:
            transport.close()
            end.close()  # a transport that never started leaves it open
            raise
        return transport


# --- the way there ---------------------------------------------------------------------------------------------------


def _peer(remote: RemoteSettings) -> Peer:
    host, port = remote.address
    return Peer(host, port, str(remote.address), remote.known_hosts_file)


def _notice_loss(end: socket.socket) -> None:
    """Let TCP find out about a peer that went away, which a silent log does not."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPALIVE", 15), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            with contextlib.suppress(OSError):
                end.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # sent, and not acknowledged
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, LOST_S * 1000)


# --- the login -------------------------------------------------------------------------------------------------------


def _revealed(remote: RemoteSettings) -> str:
    """Return the password or passphrase, "" for none."""
    try:
        return "" if remote.password is None else remote.password.reveal()
    except ConfigError as error:
        raise HostRefused(error.message, hint=f"see password_file in [hosts.{remote.name}]") from error


def _load_key(remote: RemoteSettings, secret: str) -> paramiko.PKey | None:
    path = remote.key_file
    if path is None:
        return None
    problem = Secret(path=path).problem()
    if problem:
        wrong, _, remedy = problem.removeprefix(str(path)).partition("; ")
        raise HostRefused(
            f"key_file in [hosts.{remote.name}]: {path}{wrong}",
            hint=remedy.removeprefix("run: ")
            if _may_be_a_key(path)
            else f"name the private key's file there, or make one: ssh-keygen -t ed25519 -f {shlex.quote(str(path))}",
        )
    try:
        with contextlib.suppress(TypeError):  # a passphrase is needed
            return paramiko.PKey.from_path(path)
        return paramiko.PKey.from_path(path, secret.encode())  # type: ignore[arg-type] # bytes, whatever it says
    except (paramiko.PasswordRequiredException, TypeError) as error:
        raise HostRefused(
            f"the key file {path} is protected by a passphrase",
            hint=f"put the passphrase into a file (mode 600) that password_file in [hosts.{remote.name}] names",
        ) from error
    except (OSError, ValueError, paramiko.SSHException) as error:
        raise HostRefused(
            f"the key file {path} cannot be read (wrong passphrase, or no private key)",
            hint=f"try it: ssh-keygen -yf {shlex.quote(str(path))}; then see [hosts.{remote.name}]",
        ) from error


def _may_be_a_key(path: Path) -> bool:
    """Say whether a file lies there, or it cannot be told."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return stat.S_ISREG(found.st_mode) and found.st_size > 0


def _log_in(remote: RemoteSettings, transport: paramiko.Transport, key: paramiko.PKey | None, secret: str) -> None:
    """Try once."""
    started = time.monotonic()
    try:
        if key is not None:
            missing = transport.auth_publickey(remote.user, key)
        else:
            missing = transport.auth_password(remote.user, secret)  # where a host only asks, it answers that
    except paramiko.AuthenticationException as error:
        if not transport.is_active() or time.monotonic() - started >= transport.auth_timeout:
            raise HostUnreachable(f"{remote.address} did not answer the login: {error}") from error
        tried = f"the key {remote.key_file}" if key is not None else "the password"
        hint = f"add the public half of {remote.key_file} to its authorized_keys" if key is not None else ""
        raise HostRefused(
            f'login refused for "{remote.user}" at {remote.address} with {tried}. Tried once.',
            hint=hint or f"see password_file in [hosts.{remote.name}]",
        ) from error
    if missing:
        raise HostRefused(
            f"{remote.address} wants more than one proof of who we are: {', '.join(missing)}",
            hint=f'there, in sshd_config: AuthenticationMethods with one of them for "{remote.user}"',
        )


# --- errors ----------------------------------------------------------------------------------------------------------

_TABLE: tuple[tuple[type[Exception], type[RemoteError], str, str], ...] = (
    (socket.gaierror, HostUnreachable, "the host name is not known", "check the name and the DNS of this machine"),
    (ConnectionRefusedError, HostUnreachable, "nothing listens there", "is sshd running, and is this its port?"),
    (TimeoutError, HostUnreachable, "no answer in time", "is the host up and awake, and the network open?"),
    (paramiko.ssh_exception.IncompatiblePeer, HostRefused, "no algorithm in common", "update the host's sshd"),
    (paramiko.ChannelException, HostUnreachable, "the host opens no further session", "raise sshd's MaxSessions"),
    (paramiko.SSHException, HostUnreachable, "SSH failed", "is this an SSH server, and is the host well?"),
    (EOFError, HostUnreachable, "the host closed the connection", "see the host's sshd log"),
    (OSError, HostUnreachable, "the connection failed", "is there a way to its network from this machine?"),
)


@contextlib.contextmanager
def translated(remote: RemoteSettings) -> Iterator[None]:
    """Turn paramiko's and the operating system's errors into ours."""
    try:
        yield
    except RemoteError:
        raise
    except HostKeyRefused as error:
        hint = error.hint or f"see known_hosts_file in [hosts.{remote.name}]"
        raise HostRefused(error.message, hint=hint) from error
    except Exception as error:
        for kind, ours, meaning, hint in _TABLE:
            if isinstance(error, kind):
                said = str(error) or kind.__name__
                raise ours(f"{remote.address}: {meaning} ({said})", hint=hint) from error
        raise
