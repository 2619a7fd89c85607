"""What pymongo's exceptions mean to the registry: one table, no secret in any message.

PublishFailed
|- RegistryAway       10 transient: no answer, broken connection, not the primary
|- RegistryRefused    12: login refused; not tried again until the secret changes, or for an hour
|- RegistryDenied     12: logged in, but this user may not do that in this database
|- RegistryUnusable    2: the connection string or the name of the database cannot be used
|- RegistryFailed     10 transient: anything else that the server or the driver says
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from bson.errors import BSONError
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConfigurationError,
    DocumentTooLarge,
    ExecutionTimeout,
    InvalidName,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteConcernError,
    WTimeoutError,
)

from syncd.core.errors import PublishFailed
from syncd.core.reasons import Reason

_DOCTOR = "syncd doctor"
_GRANT = "grant that user readWrite on this database (db.grantRolesToUser), or name another in the URI"


class RegistryAway(PublishFailed):
    """MongoDB cannot be asked now."""

    exit_code = 10


class RegistryFailed(PublishFailed):
    """MongoDB was asked, and something about the answer is wrong."""

    exit_code = 10


class RegistryRefused(PublishFailed):
    """The login was refused."""

    exit_code = 12
    transient = False
    reason = Reason.AUTH_FAILED


class RegistryDenied(PublishFailed):
    """The user that logged in may not do this."""

    exit_code = 12
    transient = False
    reason = Reason.AUTH_FAILED


class RegistryUnusable(PublishFailed):
    """The connection string cannot be used as it is."""

    exit_code = 2
    transient = False
    reason = Reason.CONFIG


_Meaning = tuple[type[PublishFailed], str, str]
_CODES: dict[int, _Meaning] = {  # https://www.mongodb.com/docs/manual/reference/error-codes/
    13: (RegistryDenied, "this user may not do that", _GRANT),
    18: (RegistryRefused, "login refused", ""),
    50: (RegistryAway, "no answer in time", _DOCTOR),
    73: (RegistryUnusable, "the name of the database cannot be used", ""),
    8000: (RegistryRefused, "login refused", ""),
}
_CLASSES: tuple[tuple[type[Exception] | tuple[type[Exception], ...], _Meaning], ...] = (
    (NotPrimaryError, (RegistryAway, "it is not the primary, and takes no writes", "name the primary in the URI")),
    (
        (WriteConcernError, WTimeoutError),
        (RegistryFailed, "a majority's journal does not acknowledge writes", "look at the replica set's members"),
    ),
    ((NetworkTimeout, ServerSelectionTimeoutError, ExecutionTimeout), (RegistryAway, "no answer in time", _DOCTOR)),
    (AutoReconnect, (RegistryAway, "the connection breaks", _DOCTOR)),
    (InvalidName, (RegistryUnusable, "the name of the database cannot be used", "")),
    (ConfigurationError, (RegistryUnusable, "the driver refuses the connection string", "")),
    (DocumentTooLarge, (RegistryFailed, "a document is too large", _DOCTOR)),
    ((PyMongoError, BSONError), (RegistryFailed, "it failed", _DOCTOR)),
    (OSError, (RegistryAway, "the connection breaks", _DOCTOR)),
)


@contextmanager
def translated(place: Callable[[], str]) -> Iterator[None]:
    """Turn what pymongo raises into one of the errors above. place: says which server, for the message."""
    try:
        yield
    except (PyMongoError, BSONError, OSError) as error:
        kind, seen, hint = _meaning(error)
        said = _said(error)
        raise kind(f"MongoDB at {place()}: {seen}{said and f' ({said})'}", hint=hint or _DOCTOR) from error


def _meaning(error: Exception) -> _Meaning:
    if isinstance(error, BulkWriteError) and (codes := _failed_writes(error)):
        return _CODES.get(codes[0], (RegistryFailed, "it does not take what is to be stored", _DOCTOR))
    if isinstance(error, OperationFailure) and error.code in _CODES:
        return _CODES[error.code]
    return next(meaning for classes, meaning in _CLASSES if isinstance(error, classes))


def _failed_writes(error: BulkWriteError) -> list[int]:
    writes = error.details.get("writeErrors") if isinstance(error.details, Mapping) else None
    return [int(write.get("code", 0)) for write in writes or ()]


def _said(error: Exception) -> str:
    """Return what the server said. The driver's own words are left out: they may repeat parts of the URI."""
    if not isinstance(error, OperationFailure):
        return f"errno {error.errno}" if isinstance(error, OSError) and error.errno else ""
    details = error.details if isinstance(error.details, Mapping) else {}
    written: Mapping[str, Any] = next(iter(details.get("writeErrors") or ()), {})
    told = details.get("errmsg") or written.get("errmsg") or ""
    code = written.get("code") or error.code
    return " ".join(part for part in (str(told)[:300], f"code {code}" if code else "") if part)
