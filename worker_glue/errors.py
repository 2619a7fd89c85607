"""What worker_glue raises.

SyncdError
|- FileMissing      a FileNotFoundError   the path is not on the source, or of a collection that is not mirrored
|- FileRefused      a PermissionError     the path can never be had: refused or ambiguous
|- FileNotReady     a TimeoutError        it may come: on its way, or the source cannot be asked
|- LeaseLost        the pinned version is not protected any more: what was made from it does not count
|- OcrError
|  |- OcrRefused    the file cannot be read by OCR, now or later (damaged, encrypted, too many pages, no such type)
|  |- OcrFailed     transient: the engine died, hung or had no memory
|  |- OcrStopped    it was asked to stop
|- JobsAway         transient: MongoDB does not answer
|- JobsRefused      MongoDB refuses: a person has to act
|- StoreFailed      the local store cannot be used

The first three carry `.resolution`, how the path was.
"""

from __future__ import annotations

from syncd.core.errors import Scope, SyncdError
from syncd.core.reasons import Reason
from syncd.core.resolution import Resolution, State


class FileTrouble(SyncdError):
    """A path's file cannot be used. resolution: how the path is."""

    scope = Scope.FILE

    def __init__(self, message: str, resolution: Resolution, *, hint: str = "") -> None:
        super().__init__(message, hint=hint or resolution.hint, reason=resolution.reason)
        self.resolution = resolution


class FileMissing(FileTrouble, FileNotFoundError):
    """The path is not on the source as of the last complete look, or its collection is not mirrored here."""

    exit_code = 5


class FileRefused(FileTrouble, PermissionError):
    """The path can never be had as it is spelled."""

    exit_code = 6


class FileNotReady(FileTrouble, TimeoutError):
    """The file was not there in time; it may come."""

    transient = True
    exit_code = 4


_TROUBLES: dict[State, type[FileTrouble]] = {
    State.FETCHING: FileNotReady,
    State.UNAVAILABLE: FileNotReady,
    State.MISSING: FileMissing,
    State.NO_MIRROR: FileMissing,
    State.REFUSED: FileRefused,
    State.AMBIGUOUS: FileRefused,
}


def trouble(spelled: str, resolution: Resolution) -> FileTrouble:
    """Return the error for a path that is not ready."""
    why = "" if resolution.reason is None else f" ({resolution.reason.value})"
    return _TROUBLES[resolution.state](f"{spelled!r} is {resolution.state.value}{why}", resolution)


class LeaseLost(SyncdError):
    """The version in use is not protected any more."""

    scope = Scope.FILE
    transient = True


class OcrError(SyncdError):
    """OCR of one file did not come to a result."""

    scope = Scope.FILE


class OcrRefused(OcrError):
    """It never will, with these bytes and this engine."""

    reason = Reason.UNREADABLE


class OcrFailed(OcrError):
    """It may, another time."""

    transient = True
    reason = Reason.UNREADABLE


class OcrStopped(OcrError):
    """It was asked to stop."""

    transient = True
    reason = Reason.STOPPED


class JobsAway(SyncdError):
    """MongoDB does not answer."""

    scope = Scope.RUN
    transient = True
    exit_code = 10


class JobsRefused(SyncdError):
    """MongoDB answers, and refuses."""

    exit_code = 12
    reason = Reason.AUTH_FAILED


class StoreFailed(SyncdError):
    """The local store of results cannot be used."""

    exit_code = 15
    reason = Reason.CATALOGUE
