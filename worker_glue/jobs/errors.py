"""What pymongo's exceptions mean to a worker: one table, no secret in any message.

JobsAway      no answer, broken connection, not the primary, a write that no majority acknowledges, anything unknown
JobsRefused   login, rights, connection string, a job's document whose form takes no entry
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from bson.errors import BSONError
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    DocumentTooLarge,
    ExecutionTimeout,
    InvalidName,
    InvalidOperation,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteConcernError,
    WTimeoutError,
)

from worker_glue.errors import JobsAway, JobsRefused
from worker_glue.ports import Saved

_Meaning = tuple[type[JobsAway] | type[JobsRefused], str, str]

DOCTOR = "worker-glue doctor"
LOGIN_CODES = frozenset({18, 8000})
_GRANT = "grant that user readWrite on this database (db.grantRolesToUser), or name another in the URI"
_FORM = "look at this job's document: its checkpoint is not as the backend writes it"
_CODES: dict[int, _Meaning] = {  # https://www.mongodb.com/docs/manual/reference/error-codes/
    2: (JobsRefused, "it does not take what is to be stored", _FORM),
    13: (JobsRefused, "this user may not do that", _GRANT),
    14: (JobsRefused, "it does not take what is to be stored", _FORM),
    18: (JobsRefused, "login refused", ""),
    28: (JobsRefused, "it does not take what is to be stored", _FORM),
    73: (JobsRefused, "the name of the database cannot be used", ""),
    8000: (JobsRefused, "login refused", ""),
}
_CLASSES: tuple[tuple[type[Exception] | tuple[type[Exception], ...], _Meaning], ...] = (
    (NotPrimaryError, (JobsAway, "it is not the primary, and takes no writes", "name the primary in the URI")),
    (
        (WriteConcernError, WTimeoutError),
        (JobsAway, "a majority's journal does not acknowledge writes", "look at the replica set's members"),
    ),
    ((NetworkTimeout, ServerSelectionTimeoutError, ExecutionTimeout), (JobsAway, "no answer in time", "")),
    (AutoReconnect, (JobsAway, "the connection breaks", "")),
    (InvalidName, (JobsRefused, "the name of the database cannot be used", "")),
    (ConfigurationError, (JobsRefused, "the driver refuses the connection string", "")),
    (InvalidOperation, (JobsAway, "the connection was closed", "")),
    ((OverflowError, BSONError, UnicodeError), (JobsRefused, "what is to be stored has no form there", "")),
    (PyMongoError, (JobsAway, "it failed", "")),
    (OSError, (JobsAway, "the connection breaks", "")),
)
_WRONG_FORM = frozenset({14, 28})
"""TypeMismatch, PathNotViable; that a field "must be an array" comes as 2, BadValue."""
_TOO_LARGE = frozenset({10334, 17419, 17420})
"""BSONObjectTooLarge; the document after an update, or an upsert, is larger than 16 MiB."""


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Turn what pymongo raises into one of the two. place: which server, for the message."""
    try:
        yield
    except (PyMongoError, BSONError, OSError, OverflowError, UnicodeError) as error:
        kind, seen, hint = _meaning(error)
        said = _said(error)
        raise kind(f"MongoDB at {place}: {seen}{said and f' ({said})'}", hint=hint or DOCTOR) from error


def why_no_entry(error: Exception) -> Saved | None:
    """Return TOO_LARGE where MongoDB, or the driver before it, refused a document for its size, WRONG_FORM where the
    job's takes no entry at all because it is not as the backend writes it; None for anything else. Neither is the
    server's fault, nor any other job's trouble.
    """
    if isinstance(error, DocumentTooLarge):
        return Saved.TOO_LARGE
    if not isinstance(error, OperationFailure):
        return None
    if error.code in _TOO_LARGE:
        return Saved.TOO_LARGE
    no_array = error.code == 2 and "array" in str(error.details)
    return Saved.WRONG_FORM if error.code in _WRONG_FORM or no_array else None


def is_login_refused(error: BaseException | None) -> bool:
    """Say whether the server did not let the user in."""
    return isinstance(error, OperationFailure) and error.code in LOGIN_CODES


def is_broken(error: BaseException | None) -> bool:
    """Say whether a connection broke, as opposed to a server that does not answer or is not the primary."""
    late = NotPrimaryError | NetworkTimeout | ServerSelectionTimeoutError
    return isinstance(error, AutoReconnect) and not isinstance(error, late)


def _meaning(error: Exception) -> _Meaning:
    if isinstance(error, OperationFailure) and error.code in _CODES:
        return _CODES[error.code]
    return next(meaning for classes, meaning in _CLASSES if isinstance(error, classes))


def _said(error: Exception) -> str:
    """Return what the server said. The driver's own words are left out: they may repeat parts of the URI."""
    if not isinstance(error, OperationFailure):
        return f"errno {error.errno}" if isinstance(error, OSError) and error.errno else ""
    details = error.details if isinstance(error.details, Mapping) else {}
    text = " ".join(str(details.get("errmsg", "")).split())[:200]
    return f"{text} code {error.code}".strip() if error.code is not None else text
