"""From a [hosts] table to a logged-in SSH connection: TCP, host key, login.

The host's key must stand in the operator's known_hosts file; none is ever added. One login is tried, with the one key
or password that is configured: no agent, no look for other keys. Every wait has a deadline.
"""

from __future__ import annotations

import contextlib
import logging
import shlex
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import paramiko

from syncd.config import RemoteSettings, Secret
from syncd.core.errors import ConfigError
from syncd.remote.errors import HostRefused, HostUnreachable, RemoteError

# What goes wrong is raised; paramiko's own log would repeat it, with tracebacks, on stderr.
logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)

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
        end = _dial(remote, deadline)
        transport = paramiko.Transport(end)
        transport.daemon = True
        transport.banner_timeout = transport.auth_timeout = CONNECT_S
        transport.handshake_timeout = CONNECT_S * 2
        try:
            with ended_by(deadline, transport):
                known = _known_keys(remote)
                _ask_for(transport, known)
                transport.start_client(timeout=left_s(deadline))
                _require_known(remote, known, transport.get_remote_server_key())
                _log_in(remote, transport, key, secret)
            transport.set_keepalive(KEEPALIVE_S)
        except BaseException:
            transport.close()
            end.close()  # a transport that never started leaves it open
            raise
        return transport


def left_s(deadline: float) -> float:
    """Return the seconds until a deadline, never quite none."""
    return max(0.1, deadline - time.monotonic())


@contextlib.contextmanager
def ended_by(deadline: float, transport: paramiko.Transport) -> Iterator[None]:
    """Close the connection at the deadline, as some of paramiko's waits know no time-out. Raises: TimeoutError then."""
    late = threading.Event()

    def end() -> None:
        late.set()
        transport.close()

    timer = threading.Timer(left_s(deadline), end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (paramiko.SSHException, EOFError, OSError) as error:
        if late.is_set():
            raise TimeoutError("it took too long, and was given up") from error
        raise
    finally:
        timer.cancel()


# --- the way there ---------------------------------------------------------------------------------------------------


def _dial(remote: RemoteSettings, deadline: float) -> socket.socket:
    """Connect to the first of the host's addresses that answers."""
    last: OSError | None = None
    host, port = remote.address
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        end = socket.socket(family, kind, protocol)
        try:
            end.settimeout(min(CONNECT_S, left_s(deadline)))
            end.connect(address)
            _notice_loss(end)
        except OSError as error:
            end.close()
            last = error
        else:
            return end
    raise last if last is not None else OSError("the host has no address")


def _notice_loss(end: socket.socket) -> None:
    """Let TCP find out about a peer that went away, which a silent log does not."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPALIVE", 15), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            with contextlib.suppress(OSError):
                end.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # sent, and not acknowledged
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, LOST_S * 1000)


# --- the host's key --------------------------------------------------------------------------------------------------


def _known_as(remote: RemoteSettings) -> str:
    """Return the host as known_hosts files spell it."""
    host, port = remote.address
    return host if port == 22 else f"[{host}]:{port}"


def _known_keys(remote: RemoteSettings) -> dict[str, paramiko.PKey]:
    """Return the host's keys on file, by type; none when there is no file."""
    try:
        found = paramiko.HostKeys(str(remote.known_hosts_file)).lookup(_known_as(remote))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, paramiko.SSHException) as error:
        raise HostRefused(
            f"the known_hosts file {remote.known_hosts_file} cannot be read: {error}",
            hint=f"see known_hosts_file in [hosts.{remote.name}]",
        ) from error
    return {} if found is None else {kind: key for kind in found if (key := found[kind]) is not None}


def _ask_for(transport: paramiko.Transport, known: dict[str, paramiko.PKey]) -> None:
    """Ask for a key of a type that is on file, or another key of the same host would look like a change."""
    options = transport.get_security_options()
    types = [each for kind in known for each in (("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,))]
    types = [each for each in types if each in options.key_types]
    if types:
        options.key_types = types


def _require_known(remote: RemoteSettings, known: dict[str, paramiko.PKey], key: paramiko.PKey) -> None:
    on_file = known.get(key.get_name())
    if on_file is not None and on_file.asbytes() == key.asbytes():
        return
    name, file = _known_as(remote), shlex.quote(str(remote.known_hosts_file))
    add = f"echo '{name} {key.get_name()} {key.get_base64()}' >> {file}"
    shown = f"{key.get_name()} {key.fingerprint}"
    if known:
        raise HostRefused(
            f"the host key of {remote.address} has changed: it is now {shown}; another host may be posing as it",
            hint=f"if it was set up anew, compare the fingerprint there, then: ssh-keygen -R '{name}' -f {file} && "
            f"{add}",
        )
    raise HostRefused(
        f"the host key of {remote.address} is not in {file}: {shown}",
        hint=f"compare the fingerprint with the host's (there: ssh-keygen -lf its host key), then: {add}",
    )


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
    except Exception as error:
        for kind, ours, meaning, hint in _TABLE:
            if isinstance(error, kind):
                said = str(error) or kind.__name__
                raise ours(f"{remote.address}: {meaning} ({said})", hint=hint) from error
        raise
