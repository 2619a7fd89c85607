"""From a host name to an SFTP session: TCP, host key, login, channel. The only place that knows paramiko.

A login is tried once. The host key must stand in our own known_hosts file; none is ever added by itself. Translation of
paramiko's and the operating system's errors: the table at the end.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import paramiko

from syncd.core.errors import SourceAuthFailed, SourceError, SourceUnavailable
from syncd.sources.sftp.ssh import HostKeyRefused, Peer, ask_for, ended_by, left_s
from syncd.sources.sftp.wire import Session, SessionLost

CONNECT_S = 6.0
SETUP_S = 20.0
REOPEN_S = 4.0
STALL_S = 20.0
KEEPALIVE_S = 15
WINDOW_BYTES = 16 << 20  # more than a session ever has in flight
PACKET_BYTES = 128 << 10  # four times the default: a third faster on large files (measured)

# GCM needs no second pass for a MAC: twice as fast as CTR in Python (measured). No CBC, no SHA-1.
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512")


Connection = paramiko.Transport


@dataclass(frozen=True)
class Login:
    """Where to go and who we are. password is asked at each login; with a key file it is the key's passphrase."""

    host: str
    port: int
    username: str
    key_file: Path | None
    password: Callable[[], str] | None = field(repr=False)
    known_hosts_file: Path
    secret_hint: str = ""

    @property
    def where(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def peer(self) -> Peer:
        return Peer(self.host, self.port, self.where, self.known_hosts_file)


@dataclass
class Refusals:
    """What the connections of one source share: one logs in at a time, and what was refused is not tried again."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    error: SourceAuthFailed | None = None
    proof: bytes = field(default=b"", repr=False)

    def stop_if_refused(self, proof: bytes) -> None:
        if self.error is not None and proof == self.proof:
            raise SourceAuthFailed(self.error.message, hint=self.error.hint)


class Link:
    """One SSH connection, made when first needed and replaced when it broke; gives sessions. Thread-safe."""

    def __init__(self, login: Login, refusals: Refusals, stall_s: float = STALL_S) -> None:
        self._login = login
        self._refusals = refusals
        self._stall_s = stall_s
        self._lock = threading.Lock()
        self._transport: paramiko.Transport | None = None
        self._socket: socket.socket | None = None
        self._closed = False

    def session(self) -> tuple[Session, Connection]:
        """Return a new session and the connection it goes over, a new one if there is none that works.

        Ends within REOPEN_S + SETUP_S (looking up the host's name apart, and the login of the source's other
        connection, which goes first). Raises: SourceUnavailable, SourceAuthFailed.
        """
        with self._lock, _translated(self._login):
            self._require_open()
            kept = self._transport
            if kept is not None and kept.is_active():
                try:
                    return self._open(kept, time.monotonic() + REOPEN_S), kept
                except paramiko.ChannelException:
                    raise
                except (paramiko.SSHException, SessionLost, OSError, EOFError):
                    self.drop(kept)  # it died while nobody looked
            self._transport = None
            self._require_open()
            with self._refusals.lock:
                deadline = time.monotonic() + SETUP_S
                made = self._transport = self._connect(deadline)
            return self._open(made, deadline), made

    def drop(self, transport: Connection) -> None:
        """Give a connection up: it is stalled or broken. Another one that has replaced it already stays."""
        if self._transport is transport:
            self._transport = None
        transport.close()

    def close(self) -> None:
        """End the connection for good, also one that is just being made."""
        self._closed = True
        transport, end = self._transport, self._socket
        if transport is not None:
            self.drop(transport)
        if end is not None:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    # --- parts -------------------------------------------------------------------------------------------------------

    def _connect(self, deadline: float) -> paramiko.Transport:
        login = self._login
        secret = self._secret()
        key = _load_key(login, login.key_file, secret) if login.key_file is not None else None
        proof = secret.encode() if key is None else key.asbytes()
        self._refusals.stop_if_refused(proof)
        peer = login.peer
        self._socket = peer.dial(deadline, CONNECT_S, _without_delay)
        transport = _transport_over(self._socket)
        try:
            self._require_open()  # from here on close() finds the socket
            with ended_by(deadline, transport):
                known = peer.known_keys()
                ask_for(transport, known)
                transport.start_client(timeout=left_s(deadline))
                peer.require_known(known, transport.get_remote_server_key())
                self._log_in(transport, key, secret, proof)
            transport.set_keepalive(KEEPALIVE_S)
            self._require_open()
        except BaseException:
            transport.close()
            self._socket.close()  # a transport that never started leaves it open
            raise
        return transport

    def _require_open(self) -> None:
        if self._closed:
            raise SourceUnavailable(f"the source {self._login.where} was closed")

    def _secret(self) -> str:
        return self._login.password() if self._login.password is not None else ""

    def _log_in(self, transport: paramiko.Transport, key: paramiko.PKey | None, secret: str, proof: bytes) -> None:
        """Try once. What the server refuses is not tried again with the same secret."""
        login = self._login
        started = time.monotonic()
        try:
            if key is not None:
                missing = transport.auth_publickey(login.username, key)
            else:
                missing = transport.auth_password(login.username, secret, fallback=False)
        except paramiko.AuthenticationException as error:
            if not transport.is_active() or time.monotonic() - started >= transport.auth_timeout:
                raise SourceUnavailable(f"{login.where} did not answer the login: {error}") from error
            self._refusals.error, self._refusals.proof = _refusal(login, error), proof
            raise self._refusals.error from error
        if missing:
            raise SourceAuthFailed(f"{login.where} wants more than one proof of who we are: {', '.join(missing)}")
        self._refusals.error = None

    def _open(self, transport: paramiko.Transport, deadline: float) -> Session:
        with ended_by(deadline, transport):
            channel = transport.open_session(timeout=left_s(deadline))
            try:
                channel.invoke_subsystem("sftp")
                return Session(_ChannelPipe(channel), self._stall_s)
            except BaseException:
                _ChannelPipe(channel).close()
                raise


class _ChannelPipe:
    """A channel whose failures are OSErrors, as a wire.Pipe promises; closing a dead one is no failure."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self.settimeout = channel.settimeout

    def recv(self, nbytes: int) -> bytes:
        with _as_connection_error():  # receiving sends too: the window is opened again as it empties
            return self._channel.recv(nbytes)

    def sendall(self, s: bytes) -> None:
        with _as_connection_error():
            self._channel.sendall(s)

    def close(self) -> None:
        with contextlib.suppress(paramiko.SSHException, OSError, EOFError):
            self._channel.close()


@contextlib.contextmanager
def _as_connection_error() -> Iterator[None]:
    try:
        yield
    except (paramiko.SSHException, EOFError) as error:
        raise ConnectionError(str(error) or "the connection was closed") from error


def _without_delay(end: socket.socket) -> None:
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _transport_over(end: socket.socket) -> paramiko.Transport:
    transport = paramiko.Transport(end, default_window_size=WINDOW_BYTES, default_max_packet_size=PACKET_BYTES)
    options = transport.get_security_options()
    options.ciphers = [each for each in CIPHERS if each in options.ciphers]
    options.digests = [each for each in MACS if each in options.digests]
    transport.banner_timeout = CONNECT_S
    transport.handshake_timeout = CONNECT_S * 2
    transport.auth_timeout = CONNECT_S
    transport.daemon = True
    return transport


# --- secrets ---------------------------------------------------------------------------------------------------------


def _load_key(login: Login, path: Path, secret: str) -> paramiko.PKey:
    try:
        with contextlib.suppress(TypeError):  # a passphrase is needed
            return paramiko.PKey.from_path(path)
        return paramiko.PKey.from_path(path, secret.encode())  # type: ignore[arg-type] # bytes, whatever it says
    except FileNotFoundError as error:
        raise SourceAuthFailed(f"the key file {path} is not there", hint="set key_file to the private key") from error
    except (paramiko.PasswordRequiredException, TypeError) as error:
        raise SourceAuthFailed(
            f"the key file {path} is protected by a passphrase", hint="put the passphrase into password_file"
        ) from error
    except (OSError, ValueError, paramiko.SSHException) as error:
        raise SourceAuthFailed(
            f"the key file {path} cannot be read (wrong passphrase, or no private key)", hint=login.secret_hint
        ) from error


def _refusal(login: Login, error: paramiko.AuthenticationException) -> SourceAuthFailed:
    tried = f"the key {login.key_file}" if login.key_file is not None else "the password"
    offered = (
        f"; it takes: {', '.join(error.allowed_types)}" if isinstance(error, paramiko.BadAuthenticationType) else ""
    )
    hint = "add its public half to the server's authorized_keys" if login.key_file is not None else login.secret_hint
    return SourceAuthFailed(
        f'login refused for "{login.username}" at {login.where} with {tried}{offered}. Tried once.', hint=hint
    )


# --- errors ----------------------------------------------------------------------------------------------------------

_TABLE: tuple[tuple[type[Exception], type[SourceError], str, str], ...] = (
    (socket.gaierror, SourceUnavailable, "the host name is not known", "check the name and the DNS of this machine"),
    (ConnectionRefusedError, SourceUnavailable, "nothing listens there", "is sshd running, and is this its port?"),
    (TimeoutError, SourceUnavailable, "no answer in time", "is the host up, and does a firewall let us through?"),
    (paramiko.ssh_exception.IncompatiblePeer, SourceAuthFailed, "no algorithm in common", "update the server's sshd"),
    (paramiko.ChannelException, SourceUnavailable, "the server opens no further session", "raise sshd's MaxSessions"),
    (paramiko.SSHException, SourceUnavailable, "SSH failed", "is this an SSH server with SFTP turned on?"),
    (SessionLost, SourceUnavailable, "SFTP failed", "is SFTP turned on in sshd (Subsystem sftp internal-sftp)?"),
    (EOFError, SourceUnavailable, "the server closed the connection", "see the server's sshd log"),
    (OSError, SourceUnavailable, "the connection failed", ""),
)


@contextlib.contextmanager
def _translated(login: Login) -> Iterator[None]:
    try:
        yield
    except SourceError:
        raise
    except HostKeyRefused as error:
        raise SourceAuthFailed(error.message, hint=error.hint) from error
    except Exception as error:
        for kind, ours, meaning, hint in _TABLE:
            if isinstance(error, kind):
                said = str(error) or kind.__name__
                raise ours(f"cannot connect to {login.where}: {meaning} ({said})", hint=hint) from error
        raise
