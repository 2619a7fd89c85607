"""The error tree: what failed decides what stops, the exit code and the next step.

SyncdError                 scope (what it stops), transient, exit_code, hint
|- ConfigError             PROCESS 2, .problems
|- SourceError
|  |- SourceUnavailable    RUN 10 transient     |- SourceAuthFailed  PROCESS 12   StandByRefused
|  |- EntryGone, EntryChanged, EntryUnreadable FILE transient    |- EntryDenied FILE
|- AlreadyRunning          PROCESS 11
|- PlanRefused             RUN 13   SourceEmpty, SourceForeign, TooManyRetires, TargetMissing, TargetForeign,
|                                   TargetUnsafe
|- MirrorError             DiskFull RUN 14 transient; LocalIOError, DigestMismatch FILE transient;
|                          PathUnsafe, PathCollision FILE; TargetUnusable PROCESS 2
|- CatalogueError          PROCESS 15   CatalogueDamaged, CatalogueTooNew
|- PublishFailed           RUN transient (the outbox keeps the row)
|- LeaseRefused            FILE transient (too many leases, or their mirror is not kept at the moment)
|- RunStopped              RUN 143 (the daemon ends; what has arrived is committed)

Adapters translate foreign exceptions by one table in one place, always ``from exc``. Only the engine catches FILE,
only the daemon catches RUN, only ``main`` catches all. A message says what failed, where and why; the hint is the
operator's next step.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from syncd.core.reasons import Reason


class Scope(Enum):
    """What an error stops."""

    FILE = "file"
    RUN = "run"
    PROCESS = "process"


class SyncdError(Exception):
    """Base of all errors that syncd raises on purpose. `hint` is what the operator does next ("" = nothing known)."""

    scope: Scope = Scope.PROCESS
    transient: bool = False
    exit_code: int = 1
    reason: Reason = Reason.BUG

    def __init__(self, message: str, *, hint: str = "", reason: Reason | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if reason is not None:
            self.reason = reason


class ConfigError(SyncdError):
    """The configuration cannot be used. `problems` lists every problem found, one line each."""

    exit_code = 2
    reason = Reason.CONFIG

    def __init__(self, message: str, *, problems: Sequence[str] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)


class SourceError(SyncdError):
    """Something about the source."""


class SourceUnavailable(SourceError):
    """The source cannot be asked: network, name, port, share, protocol, time-out."""

    scope = Scope.RUN
    transient = True
    exit_code = 10
    reason = Reason.SOURCE_UNAVAILABLE


class SourceVanished(SourceUnavailable):
    """The server answers, but the folder that is the mirror's root is not there."""

    reason = Reason.SOURCE_VANISHED


class SourceAuthFailed(SourceError):
    """Login refused, host key wrong, or the session would be weaker than asked for. Never retried by itself."""

    scope = Scope.PROCESS
    exit_code = 12
    reason = Reason.AUTH_FAILED


class StandByRefused(SourceAuthFailed):
    """A stand-by refused the login, after the servers before it were unavailable; they are not concerned."""


class EntryGone(SourceError):
    """The file or folder was there when listed and is not there now."""

    scope = Scope.FILE
    transient = True
    exit_code = 3
    reason = Reason.GONE


class EntryChanged(SourceError):
    """The file's fingerprint after the last byte is not the one before the first."""

    scope = Scope.FILE
    transient = True
    exit_code = 3
    reason = Reason.CHANGED_WHILE_READ


class EntryDenied(SourceError):
    """The server refuses to let us read this file or folder."""

    scope = Scope.FILE
    exit_code = 3
    reason = Reason.DENIED


class EntryUnreadable(SourceError):
    """The server failed to deliver this one file or folder (I/O error, sharing violation, is a reparse point, ...)."""

    scope = Scope.FILE
    transient = True
    exit_code = 3
    reason = Reason.UNREADABLE


class AlreadyRunning(SyncdError):
    """Another syncd holds the state directory. `pid` is the other's, 0 when unknown."""

    exit_code = 11
    reason = Reason.ALREADY_RUNNING

    def __init__(self, message: str, *, pid: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.pid = pid


class PlanRefused(SyncdError):
    """The guard holds the plan back; nothing of what is refused has been touched."""

    scope = Scope.RUN
    exit_code = 13
    reason = Reason.REFUSED


class SourceEmpty(PlanRefused):
    """The source is empty, or its marker is missing, while files are held."""

    reason = Reason.SOURCE_EMPTY


class SourceForeign(PlanRefused):
    """Fewer than half of the held files are on this source: it looks like another share."""

    reason = Reason.SOURCE_FOREIGN


class TooManyRetires(PlanRefused):
    """More files would be retired or replaced than the caps allow without a person."""

    reason = Reason.TOO_MANY_CHANGES


class TargetMissing(PlanRefused):
    """The target is known to the catalogue but not on disk: unplugged, unmounted, emptied."""

    reason = Reason.TARGET_MISSING


class TargetForeign(PlanRefused):
    """The target carries another host's or another mirror's owner file."""

    reason = Reason.TARGET_FOREIGN


class TargetUnsafe(PlanRefused):
    """`.syncd` in the target, or a part of it, is a symbolic link or no folder; nothing was followed."""

    reason = Reason.PATH_UNSAFE


class MirrorError(SyncdError):
    """Something about the local mirror."""


class DiskFull(MirrorError):
    """No space or no inodes left, or the free-space floor would be crossed."""

    scope = Scope.RUN
    transient = True
    exit_code = 14
    reason = Reason.DISK_FULL


class TargetUnusable(MirrorError):
    """The target cannot be created or written at all (read-only, not a directory, permission)."""

    exit_code = 2
    reason = Reason.TARGET_UNUSABLE


class LocalIOError(MirrorError):
    """Write, fsync, close or rename of one local file failed; its staged bytes are thrown away."""

    scope = Scope.FILE
    transient = True
    exit_code = 3
    reason = Reason.LOCAL_IO


class DigestMismatch(MirrorError):
    """Bytes are not those that the record or the partial claims."""

    scope = Scope.FILE
    transient = True
    exit_code = 3
    reason = Reason.DIGEST_MISMATCH


class PathUnsafe(MirrorError):
    """A component of the local path is a symbolic link or no folder; nothing was followed."""

    scope = Scope.FILE
    exit_code = 3
    reason = Reason.PATH_UNSAFE


class PathCollision(MirrorError):
    """Another record or a foreign folder lies at the local path."""

    scope = Scope.FILE
    exit_code = 3
    reason = Reason.PATH_COLLISION


class CatalogueError(SyncdError):
    """The catalogue cannot be used as it is."""

    exit_code = 15
    reason = Reason.CATALOGUE


class CatalogueDamaged(CatalogueError):
    """SQLite says the file is malformed or no database. It is kept aside and rebuilt by the next run."""


class CatalogueTooNew(CatalogueError):
    """A newer syncd wrote this catalogue."""


class PublishFailed(SyncdError):
    """nsqd did not say OK; the outbox keeps the row."""

    scope = Scope.RUN
    transient = True
    reason = Reason.PUBLISH_FAILED


class LeaseRefused(SyncdError):
    """A lease cannot be given or looked at now: there are too many, or the daemon does not keep its mirror just now."""

    scope = Scope.FILE
    transient = True
    exit_code = 3
    reason = Reason.TOO_MANY_LEASES


class RunStopped(SyncdError):
    """The run was asked to stop: what had arrived is committed, the rest is for the next run."""

    scope = Scope.RUN
    transient = True
    exit_code = 143
    reason = Reason.STOPPED
