"""What the server's and the network's failures mean: the one table NTSTATUS -> error, and the one for sockets.

Status values and names: [MS-ERREF] 2.3.1.
"""

from __future__ import annotations

import errno
import socket
import sys
from enum import Enum, auto

from syncd.core.errors import (
    EntryChanged,
    EntryDenied,
    EntryGone,
    EntryUnreadable,
    SourceAuthFailed,
    SourceError,
    SourceUnavailable,
    SyncdError,
)
from syncd.core.reasons import Reason

SUCCESS = 0x00000000
PENDING = 0x00000103
NOTIFY_CLEANUP, NOTIFY_ENUM_DIR = 0x0000010B, 0x0000010C
NO_MORE_FILES = 0x80000006
BUFFER_OVERFLOW = 0x80000005
NO_SUCH_FILE = 0xC000000F
END_OF_FILE = 0xC0000011


class ChannelLost(Exception):
    """This connection cannot be used any more. `error` is what to raise when it cannot be replaced either."""

    def __init__(self, error: SourceError) -> None:
        super().__init__(error.message)
        self.error = error


class Meaning(Enum):
    """What a status says about what we wanted."""

    GONE = auto()
    DENIED = auto()
    UNREADABLE = auto()
    CHANGED = auto()
    LINK = auto()
    BUSY = auto()
    SESSION_ENDED = auto()
    LOGIN_REFUSED = auto()
    NO_SHARE = auto()
    NOT_SPOKEN = auto()


_TABLE: dict[int, tuple[str, Meaning]] = {
    0xC0000002: ("STATUS_NOT_IMPLEMENTED", Meaning.NOT_SPOKEN),
    0xC0000008: ("STATUS_INVALID_HANDLE", Meaning.UNREADABLE),
    0xC000000D: ("STATUS_INVALID_PARAMETER", Meaning.UNREADABLE),
    0xC000000E: ("STATUS_NO_SUCH_DEVICE", Meaning.UNREADABLE),
    0xC000000F: ("STATUS_NO_SUCH_FILE", Meaning.GONE),
    0xC0000010: ("STATUS_INVALID_DEVICE_REQUEST", Meaning.UNREADABLE),
    0xC0000011: ("STATUS_END_OF_FILE", Meaning.CHANGED),
    0xC0000022: ("STATUS_ACCESS_DENIED", Meaning.DENIED),
    0xC0000033: ("STATUS_OBJECT_NAME_INVALID", Meaning.UNREADABLE),
    0xC0000034: ("STATUS_OBJECT_NAME_NOT_FOUND", Meaning.GONE),
    0xC0000039: ("STATUS_OBJECT_PATH_INVALID", Meaning.GONE),
    0xC000003A: ("STATUS_OBJECT_PATH_NOT_FOUND", Meaning.GONE),
    0xC000003B: ("STATUS_OBJECT_PATH_SYNTAX_BAD", Meaning.UNREADABLE),
    0xC000003E: ("STATUS_DATA_ERROR", Meaning.UNREADABLE),
    0xC0000043: ("STATUS_SHARING_VIOLATION", Meaning.UNREADABLE),
    0xC0000054: ("STATUS_FILE_LOCK_CONFLICT", Meaning.UNREADABLE),
    0xC0000056: ("STATUS_DELETE_PENDING", Meaning.GONE),
    0xC0000061: ("STATUS_PRIVILEGE_NOT_HELD", Meaning.DENIED),
    0xC0000064: ("STATUS_NO_SUCH_USER", Meaning.LOGIN_REFUSED),
    0xC000006A: ("STATUS_WRONG_PASSWORD", Meaning.LOGIN_REFUSED),
    0xC000006D: ("STATUS_LOGON_FAILURE", Meaning.LOGIN_REFUSED),
    0xC000006E: ("STATUS_ACCOUNT_RESTRICTION", Meaning.LOGIN_REFUSED),
    0xC000006F: ("STATUS_INVALID_LOGON_HOURS", Meaning.LOGIN_REFUSED),
    0xC0000070: ("STATUS_INVALID_WORKSTATION", Meaning.LOGIN_REFUSED),
    0xC0000071: ("STATUS_PASSWORD_EXPIRED", Meaning.LOGIN_REFUSED),
    0xC0000072: ("STATUS_ACCOUNT_DISABLED", Meaning.LOGIN_REFUSED),
    0xC000009A: ("STATUS_INSUFFICIENT_RESOURCES", Meaning.BUSY),
    0xC000009C: ("STATUS_DEVICE_DATA_ERROR", Meaning.UNREADABLE),
    0xC00000AC: ("STATUS_PIPE_NOT_AVAILABLE", Meaning.BUSY),
    0xC00000B5: ("STATUS_IO_TIMEOUT", Meaning.UNREADABLE),
    0xC00000BA: ("STATUS_FILE_IS_A_DIRECTORY", Meaning.CHANGED),
    0xC00000BB: ("STATUS_NOT_SUPPORTED", Meaning.NOT_SPOKEN),
    0xC00000BE: ("STATUS_BAD_NETWORK_PATH", Meaning.NO_SHARE),
    0xC00000C9: ("STATUS_NETWORK_NAME_DELETED", Meaning.SESSION_ENDED),
    0xC00000CA: ("STATUS_NETWORK_ACCESS_DENIED", Meaning.DENIED),
    0xC00000CB: ("STATUS_BAD_DEVICE_TYPE", Meaning.NO_SHARE),
    0xC00000CC: ("STATUS_BAD_NETWORK_NAME", Meaning.NO_SHARE),
    0xC00000D0: ("STATUS_REQUEST_NOT_ACCEPTED", Meaning.BUSY),
    0xC0000102: ("STATUS_FILE_CORRUPT_ERROR", Meaning.UNREADABLE),
    0xC0000103: ("STATUS_NOT_A_DIRECTORY", Meaning.GONE),
    0xC000011F: ("STATUS_TOO_MANY_OPENED_FILES", Meaning.BUSY),
    0xC0000120: ("STATUS_CANCELLED", Meaning.UNREADABLE),
    0xC0000123: ("STATUS_FILE_DELETED", Meaning.GONE),
    0xC0000128: ("STATUS_FILE_CLOSED", Meaning.UNREADABLE),
    0xC000015B: ("STATUS_LOGON_TYPE_NOT_GRANTED", Meaning.LOGIN_REFUSED),
    0xC0000184: ("STATUS_INVALID_DEVICE_STATE", Meaning.UNREADABLE),
    0xC0000185: ("STATUS_IO_DEVICE_ERROR", Meaning.UNREADABLE),
    0xC0000192: ("STATUS_NETLOGON_NOT_STARTED", Meaning.LOGIN_REFUSED),
    0xC0000193: ("STATUS_ACCOUNT_EXPIRED", Meaning.LOGIN_REFUSED),
    0xC0000203: ("STATUS_USER_SESSION_DELETED", Meaning.SESSION_ENDED),
    0xC0000205: ("STATUS_INSUFF_SERVER_RESOURCES", Meaning.BUSY),
    0xC000020C: ("STATUS_CONNECTION_DISCONNECTED", Meaning.SESSION_ENDED),
    0xC000020D: ("STATUS_CONNECTION_RESET", Meaning.SESSION_ENDED),
    0xC0000224: ("STATUS_PASSWORD_MUST_CHANGE", Meaning.LOGIN_REFUSED),
    0xC0000234: ("STATUS_ACCOUNT_LOCKED_OUT", Meaning.LOGIN_REFUSED),
    0xC0000257: ("STATUS_PATH_NOT_COVERED", Meaning.LINK),
    0xC0000275: ("STATUS_NOT_A_REPARSE_POINT", Meaning.UNREADABLE),
    0xC000035C: ("STATUS_NETWORK_SESSION_EXPIRED", Meaning.SESSION_ENDED),
    0xC0000413: ("STATUS_AUTHENTICATION_FIREWALL_FAILED", Meaning.LOGIN_REFUSED),
    0x8000002D: ("STATUS_STOPPED_ON_SYMLINK", Meaning.LINK),
    0x80000005: ("STATUS_BUFFER_OVERFLOW", Meaning.UNREADABLE),
    0x80000006: ("STATUS_NO_MORE_FILES", Meaning.UNREADABLE),
}


def status_name(status: int) -> str:
    """Return the name of an NTSTATUS as operators can look it up, its hexadecimal value when we know none."""
    known = _TABLE.get(status)
    return known[0] if known else f"NTSTATUS 0x{status:08X}"


def meaning_of(status: int) -> Meaning:
    """Return what a status that is no success means; what we do not know makes the entry unreadable."""
    known = _TABLE.get(status)
    return known[1] if known else Meaning.UNREADABLE


_ENTRY: dict[Meaning, tuple[type[SyncdError], str, str]] = {
    Meaning.GONE: (EntryGone, "is not there any more", ""),
    Meaning.DENIED: (EntryDenied, "may not be read", "give the share's user read permission on the server"),
    Meaning.CHANGED: (EntryChanged, "changed while it was read", ""),
    Meaning.LINK: (EntryUnreadable, "is a link or junction, which syncd does not follow", ""),
    Meaning.BUSY: (EntryUnreadable, "was not delivered: the server is short of resources", ""),
}


def _shown(path: str) -> str:
    return f'"{path}"' if path else "the root folder"


def entry_error(status: int, path: str) -> SyncdError:
    """Return the error (scope FILE) for one file or folder that the server answered with `status`."""
    kind, text, hint = _ENTRY.get(meaning_of(status), (EntryUnreadable, "could not be read", ""))
    return kind(f"{_shown(path)} {text} ({status_name(status)})", hint=hint)


def timed_out(path: str, how: str) -> SyncdError:
    """Return the error for one file or folder with which the connection broke or stalled again and again."""
    return EntryUnreadable(f"{_shown(path)}: the connection broke every time it was read: {how}", reason=Reason.TIMEOUT)


def session_ended(status: int, where: str) -> ChannelLost:
    """Return the loss of a connection whose session the server ended."""
    return ChannelLost(SourceUnavailable(f"{where} ended the session ({status_name(status)})"))


def broken(where: str, what: str) -> ChannelLost:
    """Return the loss of a connection on which something was received that [MS-SMB2] does not allow."""
    hint = "run syncd doctor; if it lasts, something between here and the server changes the traffic"
    return ChannelLost(SourceUnavailable(f"{where} broke the protocol: {what}", hint=hint))


def stalled(where: str, seconds: float) -> ChannelLost:
    """Return the loss of a connection on which nothing was heard for too long."""
    return ChannelLost(SourceUnavailable(f"{where} did not answer for {seconds:.0f} s"))


def closed_by_peer(where: str) -> ChannelLost:
    """Return the loss of a connection that the other side closed."""
    return ChannelLost(SourceUnavailable(f"{where} closed the connection"))


def closed_by_us() -> SourceUnavailable:
    """Return the error of a call that close() interrupted."""
    return SourceUnavailable("the source was closed")


def lost_by(exc: OSError, where: str) -> ChannelLost:
    """Return the loss of a connection by a socket error."""
    return ChannelLost(SourceUnavailable(f"the connection to {where} broke: {_reason(exc)}"))


def unreachable(exc: OSError, where: str) -> SourceUnavailable:
    """Return the error for a TCP connection that could not be made."""
    hint = "check host and port in the mirror's source, and that the server is up"
    if isinstance(exc, TimeoutError):
        return SourceUnavailable(f"{where} does not answer (TCP connect timed out)", hint=hint)
    if exc.errno == errno.ECONNREFUSED:
        return SourceUnavailable(f"nothing listens at {where} (connection refused)", hint=hint)
    if exc.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH) and sys.platform == "darwin":
        hint = "check the network; on macOS also System Settings, Privacy & Security, Local Network"
    return SourceUnavailable(f"cannot connect to {where}: {_reason(exc)}", hint=hint)


def unresolved(exc: OSError | None, host: str) -> SourceUnavailable:
    """Return the error for a host name that has no address (None: the resolver did not answer in time)."""
    text = "the name service does not answer" if exc is None else _reason(exc)
    return SourceUnavailable(f'the host name "{host}" cannot be resolved: {text}', hint="check the host in the source")


def login_refused(status: int, username: str, where: str, secret_hint: str) -> SourceAuthFailed:
    """Return the error for a login that the server refused."""
    text = f'login refused for "{username}" at {where} ({status_name(status)}). Tried once.'
    return SourceAuthFailed(text, hint=secret_hint or "check user and password_file")


def _reason(exc: OSError) -> str:
    if isinstance(exc, socket.gaierror):
        return str(exc.args[1]) if len(exc.args) > 1 else str(exc)
    return exc.strerror or str(exc) or type(exc).__name__
