"""The hand-over from smbprotocol: it sets a session up (negotiate, login, keys, tree connect), we take its socket.

This is the only module that touches smbprotocol's internals (library.py imports it); its version is pinned exactly, and
tests/unit/test_smb_session.py names every attribute used here. smbprotocol's transport is replaced by our own, because
its own has no deadlines, trusts any frame length and accepts unsigned replies (transport.py).
"""

from __future__ import annotations

import logging
import socket
import threading
import time
import uuid
from collections.abc import Callable
from enum import Enum
from typing import Any

from syncd.core.errors import SourceAuthFailed, SourceError, SourceUnavailable
from syncd.core.named import NamedTuple
from syncd.sources.smb import packets
from syncd.sources.smb.crypto import AES_128_CCM, Sealer, Signer, Verifier, make_signer, make_verifier
from syncd.sources.smb.errors import (
    Meaning,
    login_refused,
    meaning_of,
    status_name,
    unreachable,
    unresolved,
)
from syncd.sources.smb.library import (
    Connection,
    Session,
    SMBAuthenticationError,
    SMBException,
    SMBResponseException,
    TreeConnect,
)
from syncd.sources.smb.limits import SmbLimits
from syncd.sources.smb.transport import OLD_HINT, Transport

# smbprotocol logs a traceback when its reader thread meets a reply it cannot parse; we report that ourselves.
logging.getLogger("smbprotocol").addHandler(logging.NullHandler())
logging.getLogger("smbprotocol").propagate = False
logging.getLogger("spnego").addHandler(logging.NullHandler())
logging.getLogger("spnego").propagate = False

_FIRST_CREDITS = 512
_GUEST, _NULL = 0x1, 0x2
_ADDRESSES = 4
_READER_END_S = 2.0
_LIBRARY_LATER_S = 5.0  # our own deadline comes first: its error says more


class Hop(Enum):
    """The steps of a set-up, in order."""

    NAME = "name"
    TCP = "tcp"
    NEGOTIATE = "negotiate"
    LOGIN = "login"
    SHARE = "share"


class Server(NamedTuple):
    """Where and as whom to log in. password is asked at each login; it and secret_hint may be left out."""

    host: str
    port: int
    username: str
    domain: str = ""
    password: Callable[[], str] | None = None
    encrypt: bool = False
    auth: str = "negotiate"
    secret_hint: str = ""

    @property
    def where(self) -> str:
        """host:port as it is written in messages."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Link(NamedTuple):
    """An established session with one share, its socket free for our own use (non-blocking).

    next_id: the next message id; credits: how many ids from there the server lets us use now.
    Either sealer is set, or signer and verifier are.
    """

    sock: socket.socket
    where: str
    dialect: int
    session_id: int
    tree_id: int
    signer: Signer | None
    verifier: Verifier | None
    sealer: Sealer | None
    next_id: int
    credits: int
    large_mtu: bool
    max_read: int
    max_transact: int
    clock_offset_ns: int


class SetupFailed(Exception):
    """A session could not be set up. `hop` is where it ended, `status` the server's answer (0: there was none)."""

    def __init__(self, hop: Hop, error: SourceError, status: int = 0) -> None:
        super().__init__(error.message)
        self.hop = hop
        self.error = error
        self.status = status


class Attempt:
    """One attempt to set a session up. `abort()` ends it from another thread; `negotiated` is known from then on."""

    def __init__(self, server: Server, share: str, limits: SmbLimits) -> None:
        self._server = server
        self._share = share
        self._limits = limits
        self._deadline = time.monotonic() + limits.setup_s
        self._transport: Transport | None = None
        self._connection: Any = None
        self._aborted = False
        self.negotiated: packets.Negotiated | None = None
        self.seen: dict[Hop, str] = {}

    def abort(self) -> None:
        """Make run() fail soon."""
        self._aborted = True
        if self._transport is not None:
            self._transport.shut()

    @property
    def closed_early(self) -> bool:
        """Whether the server hung up without a word."""
        return self._transport is not None and self._transport.closed_early

    def run(self) -> Link:
        """Set the session up. Raises SetupFailed by the deadline at the latest."""
        addresses = resolve(self._server.host, self._server.port, self._limits.resolve_s)
        self.seen[Hop.NAME] = ", ".join(str(address[4][0]) for address in addresses)
        self._transport = transport = Transport(addresses, self._server.where, self._deadline, self._limits.connect_s)
        if self._aborted:
            raise SetupFailed(Hop.TCP, SourceUnavailable("the source was closed"))
        try:
            return self._link(transport)
        except BaseException:
            transport.shut()
            if self._connection is not None and (reader := _reader_of(self._connection)) is not None:
                reader.join(_READER_END_S)
            transport.close()
            raise

    def _link(self, transport: Transport) -> Link:
        connection = self._negotiate(transport)
        session = self._login(connection, transport)
        # What comes after the tree connect is a question about the negotiation that 3.1.1 does not need; a sealed reply
        # does not show whether another one follows.
        ends = int(connection.dialect) >= packets.DIALECT_311 and not session.encrypt_data
        if ends:
            connection.ask_for_credits()
            transport.end_after_next()
        tree = self._tree(session, transport)
        offset_ns = self.negotiated.system_time_ns - transport.negotiated_at_ns if self.negotiated else 0
        try:
            if not ends:
                transport.end_after_next()
                connection.echo(session.session_id, self._left() + _LIBRARY_LATER_S, _FIRST_CREDITS)
            _reader_of(connection).join(self._left())
            sock = transport.release()
        except Exception as exc:
            raise self._broken(Hop.SHARE, transport, exc) from exc
        return _take_over(connection, session, tree, sock, self._server.where, offset_ns)

    def _left(self) -> float:
        return max(self._deadline - time.monotonic(), 0.1)

    def _negotiate(self, transport: Transport) -> Any:
        self._connection = connection = _Connection(transport, self._server)
        try:
            connection.connect(timeout=self._left() + _LIBRARY_LATER_S)
        except OSError as exc:
            if transport.peer:
                raise self._broken(Hop.NEGOTIATE, transport, exc) from exc
            raise SetupFailed(Hop.TCP, unreachable(exc, self._server.where)) from exc
        except SMBResponseException as exc:
            status = int(exc.status)
            text = f"{self._server.where} speaks no SMB dialect that syncd does ({status_name(status)})"
            raise SetupFailed(Hop.NEGOTIATE, SourceUnavailable(text, hint=OLD_HINT), status) from exc
        except Exception as exc:
            raise self._broken(Hop.NEGOTIATE, transport, exc) from exc
        self.negotiated = transport.negotiated
        self.seen[Hop.TCP] = f"connected to {transport.peer}"
        return connection

    def _login(self, connection: Any, transport: Transport) -> Any:
        server = self._server
        user = f"{server.domain}\\{server.username}" if server.domain else server.username
        password = server.password() if server.password is not None else None
        try:
            session = Session(connection, user, password, require_encryption=server.encrypt, auth_protocol=server.auth)
            session.connect()
        except SMBResponseException as exc:
            raise SetupFailed(Hop.LOGIN, self._refused(int(exc.status)), int(exc.status)) from exc
        except SMBAuthenticationError as exc:
            text = f'no login as "{server.username}" at {server.where} is possible: {exc}'
            raise SetupFailed(Hop.LOGIN, SourceAuthFailed(text, hint=server.secret_hint or _LOGIN_HINT)) from exc
        except Exception as exc:
            raise self._weak(transport) or self._broken(Hop.LOGIN, transport, exc) from exc
        weak = self._weak(transport)
        if weak is not None:
            raise weak
        return session

    def _refused(self, status: int) -> SourceError:
        if meaning_of(status) in {Meaning.LOGIN_REFUSED, Meaning.DENIED}:
            return login_refused(status, self._server.username, self._server.where, self._server.secret_hint)
        return SourceUnavailable(f"{self._server.where} did not let us log in now ({status_name(status)})")

    def _weak(self, transport: Transport) -> SetupFailed | None:
        """A guest or anonymous session proves nothing about either side: never used (P18)."""
        server = self._server
        if transport.session_flags & (_GUEST | _NULL):
            text = (
                f'{server.where} does not know "{server.username}" and logs it in as guest; guest sessions are refused'
            )
            return SetupFailed(Hop.LOGIN, SourceAuthFailed(text, hint=server.secret_hint or _LOGIN_HINT))
        return None

    def _tree(self, session: Any, transport: Transport) -> Any:
        tree = TreeConnect(session, f"\\\\{self._server.host}\\{self._share}")
        try:
            tree.connect(require_secure_negotiate=True)
        except SMBResponseException as exc:
            raise SetupFailed(Hop.SHARE, self._no_share(int(exc.status)), int(exc.status)) from exc
        except Exception as exc:
            raise self._broken(Hop.SHARE, transport, exc) from exc
        if tree.is_dfs_share:
            text = f'the share "{self._share}" at {self._server.where} is a DFS root, which could send us elsewhere'
            raise SetupFailed(Hop.SHARE, SourceUnavailable(text, hint="name the server and share that hold the files"))
        return tree

    def _no_share(self, status: int) -> SourceError:
        meaning = meaning_of(status)
        share, where, user = self._share, self._server.where, self._server.username
        if meaning is Meaning.NO_SHARE:
            text = f'there is no share "{share}" at {where} ({status_name(status)})'
            return SourceUnavailable(text, hint="check the share in the mirror's source")
        if meaning is Meaning.DENIED:
            text = f'"{user}" may not use the share "{share}" at {where} ({status_name(status)})'
            return SourceAuthFailed(text, hint="give the user access to the share on the server")
        return SourceUnavailable(f'the share "{share}" at {where} cannot be used now ({status_name(status)})')

    def _broken(self, hop: Hop, transport: Transport, exc: BaseException) -> SetupFailed:
        if self._aborted:
            return SetupFailed(hop, SourceUnavailable("the source was closed"))
        if transport.failure is not None:
            return SetupFailed(hop, transport.failure)
        if isinstance(exc, SMBException) and "encryption is required" in str(exc):
            text = f"{self._server.where} cannot encrypt, and encryption is asked for"
            return SetupFailed(
                hop, SourceAuthFailed(text, hint="turn on encryption at the server, or off for this mirror")
            )
        text = f"the answer of {self._server.where} cannot be understood ({type(exc).__name__}: {exc})"
        return SetupFailed(hop, SourceUnavailable(text, hint="run syncd doctor"))


_LOGIN_HINT = "check user and password_file"


def resolve(host: str, port: int, timeout_s: float) -> list[Any]:
    """Return the addresses of a host as getaddrinfo has them. Raises SetupFailed within `timeout_s`."""
    answer: list[Any] = []
    failure: list[OSError] = []
    # as bytes a name goes past the IDNA codec, whose tables take 4 ms to load
    name = host.encode() if host.isascii() and host.isprintable() else host

    def look_up() -> None:
        try:
            answer.extend(socket.getaddrinfo(name, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as exc:
            failure.append(exc if isinstance(exc, OSError) else OSError(str(exc)))

    worker = threading.Thread(target=look_up, name="resolve", daemon=True)
    worker.start()
    worker.join(timeout_s)
    if answer:
        return answer[:_ADDRESSES]
    raise SetupFailed(Hop.NAME, unresolved(failure[0] if failure else None, host))


class _Requests(dict[int, Any]):
    """smbprotocol's unanswered requests: its reader walks over them while the other thread adds one."""

    def values(self) -> Any:
        return list(super().values())


class _Connection(Connection):  # type: ignore[misc]
    """smbprotocol's connection on a transport of ours: connect() assigns `transport`, and gets ours instead."""

    def __init__(self, transport: Transport, server: Server) -> None:
        self._ours = transport
        super().__init__(uuid.uuid4(), server.host, server.port, require_signing=True)
        self.outstanding_requests = _Requests()
        self._asks = False

    def ask_for_credits(self) -> None:
        """Have the next request ask for as many credits as we begin with."""
        self._asks = True

    def send(self, message: Any, *args: Any, **kwargs: Any) -> Any:
        """See smbprotocol."""
        if self._asks:
            kwargs["credit_request"] = _FIRST_CREDITS
        return super().send(message, *args, **kwargs)

    @property
    def transport(self) -> Transport:
        return self._ours

    @transport.setter
    def transport(self, made: object) -> None:
        """Drop what smbprotocol made (it has no socket yet)."""


def _reader_of(connection: Any) -> Any:
    """Return smbprotocol's reader thread, None before connect() started it."""
    return connection._t_worker  # noqa: SLF001 (the library has no other way to wait for its end)


def _take_over(connection: Any, session: Any, tree: Any, sock: socket.socket, where: str, offset_ns: int) -> Link:
    """Read the state that smbprotocol reached. From here on it is not used again."""
    dialect = int(connection.dialect)
    sealed = bool(session.encrypt_data or tree.encrypt_data)
    signing = connection.signing_algorithm_id
    sealer = None
    if sealed:
        cipher = int(connection.cipher_id) if dialect >= packets.DIALECT_311 else AES_128_CCM
        sealer = Sealer(cipher, session.encryption_key, session.decryption_key, session.session_id)
    low, high = connection.sequence_window["low"], connection.sequence_window["high"]
    large = bool(connection.supports_multi_credit)
    return Link(
        sock=sock,
        where=where,
        dialect=dialect,
        session_id=session.session_id,
        tree_id=tree.tree_connect_id,
        signer=None if sealed else make_signer(dialect, signing, session.signing_key),
        verifier=None if sealed else make_verifier(dialect, signing, session.signing_key),
        sealer=sealer,
        next_id=low,
        credits=high - low,
        large_mtu=large,
        max_read=max(int(connection.max_read_size), 1),
        max_transact=max(int(connection.max_transact_size), 1),
        clock_offset_ns=offset_ns,
    )
