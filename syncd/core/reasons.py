"""The closed list of reason codes, and what each means to an operator.

Every `reason` in JSON output, in the catalogue and in messages is one of these. docs/reasons.md is generated from here.
"""

from __future__ import annotations

import shlex
from enum import StrEnum


class Reason(StrEnum):
    """Why something is planned, waits, was refused or failed."""

    # why a file is planned
    NEW = "new"
    CHANGED = "changed"
    LOST = "lost"
    LOCAL_CHANGED = "local_changed"
    DAMAGED = "damaged"
    UNKNOWN_LOCAL = "unknown_local"
    REMOVED = "removed"
    EXCLUDED = "excluded"
    TYPE_CHANGED = "type_changed"
    MOVED = "moved"
    REBUILT = "rebuilt"
    # why a file waits
    UNSETTLED = "unsettled"
    ABSENT_ONCE = "absent_once"
    # why a name is refused
    NAME_DOT = "name_dot"
    NAME_SEPARATOR = "name_separator"
    NAME_CONTROL = "name_control"
    NAME_STREAM = "name_stream"
    NAME_TOO_LONG = "name_too_long"
    NAME_UNDECODABLE = "name_undecodable"
    NAME_MANGLED = "name_mangled"
    NAME_RESERVED = "name_reserved"
    CASE_TWIN = "case_twin"
    UNICODE_TWIN = "unicode_twin"
    LINK = "link"
    SPECIAL_FILE = "special_file"
    # why a file or folder failed
    GONE = "gone"
    CHANGED_WHILE_READ = "changed_while_read"
    DENIED = "denied"
    UNREADABLE = "unreadable"
    TIMEOUT = "timeout"
    LISTING_INCOMPLETE = "listing_incomplete"
    LOCAL_IO = "local_io"
    DIGEST_MISMATCH = "digest_mismatch"
    PATH_UNSAFE = "path_unsafe"
    PATH_COLLISION = "path_collision"
    # why a run or the process stopped
    SOURCE_UNAVAILABLE = "source_unavailable"
    SOURCE_VANISHED = "source_vanished"
    AUTH_FAILED = "auth_failed"
    ALREADY_RUNNING = "already_running"
    REFUSED = "refused"
    SOURCE_EMPTY = "source_empty"
    SOURCE_FOREIGN = "source_foreign"
    TOO_MANY_CHANGES = "too_many_changes"
    TARGET_MISSING = "target_missing"
    TARGET_FOREIGN = "target_foreign"
    TARGET_UNUSABLE = "target_unusable"
    DISK_FULL = "disk_full"
    CATALOGUE = "catalogue"
    CONFIG = "config"
    PUBLISH_FAILED = "publish_failed"
    STOPPED = "stopped"
    # why the resolver does not give a path
    NOT_LISTED = "not_listed"
    NEVER_LISTED = "never_listed"
    AMBIGUOUS = "ambiguous"
    NO_MIRROR = "no_mirror"
    PATH_MALFORMED = "path_malformed"
    OUTSIDE = "outside"
    FOLDER = "folder"
    VETOED = "vetoed"
    TOO_MANY_LEASES = "too_many_leases"
    BUG = "bug"


_RUN = "syncd run-once"
_SHARE = "ask the share's admin to let this user read it"

MEANING: dict[Reason, tuple[str, str]] = {
    Reason.NEW: ("on the source, not held yet", ""),
    Reason.CHANGED: ("size, mtime or id at the source differ from the record", ""),
    Reason.LOST: ("held, but gone from the mirror's folder", ""),
    Reason.LOCAL_CHANGED: ("the local file is not the one that was verified; it goes to the trash", ""),
    Reason.DAMAGED: ("the local bytes do not hash to the record's digest", "syncd verify --repair"),
    Reason.UNKNOWN_LOCAL: (
        "a local file that no record knows lies there; its bytes are compared with the server's",
        "",
    ),
    Reason.REMOVED: ("gone from the source in two runs", ""),
    Reason.EXCLUDED: ("left out by a pattern of the configuration", "syncd why PATH"),
    Reason.TYPE_CHANGED: ("another type of thing has this name at the source now", ""),
    Reason.MOVED: ("the same file under a new path", ""),
    Reason.REBUILT: ("taken over from the manifest after the catalogue was lost", ""),
    Reason.UNSETTLED: ("still being written at the source (see settle)", _RUN),
    Reason.ABSENT_ONCE: ("not seen in one run; retired when a second run does not see it either", _RUN),
    Reason.NAME_DOT: ("the name is empty, . or ..", "rename it on the server"),
    Reason.NAME_SEPARATOR: ("the name contains / or \\", "rename it on the server"),
    Reason.NAME_CONTROL: ("the name contains control characters", "rename it on the server"),
    Reason.NAME_STREAM: ("the name contains a colon, which names a stream", "rename it on the server"),
    Reason.NAME_TOO_LONG: ("the name or its path is too long for a local file system", "rename it on the server"),
    Reason.NAME_UNDECODABLE: ("the name is not valid Unicode", "rename it on the server"),
    Reason.NAME_MANGLED: (
        "the server shows a stand-in (8.3) for a name it cannot express",
        "set 'mangled names = no' in the share's smb.conf",
    ),
    Reason.NAME_RESERVED: ("the name is reserved for syncd's own folder", "rename it on the server"),
    Reason.CASE_TWIN: ("differs only in case from another name, and the target folds case", "rename it on the server"),
    Reason.UNICODE_TWIN: ("differs only in Unicode form from another name", "rename it on the server"),
    Reason.LINK: ("a symbolic link, reparse point or special file: never followed", "put a copy of the file there"),
    Reason.SPECIAL_FILE: ("no regular file", "put a copy of the file there"),
    Reason.GONE: ("vanished between listing and reading", _RUN),
    Reason.CHANGED_WHILE_READ: ("changed while it was read; the old version stays", _RUN),
    Reason.DENIED: ("the server refuses to let us read it", _SHARE),
    Reason.UNREADABLE: (
        "the server failed to deliver it",
        "look at it on the server, then: syncd run-once --only PATH",
    ),
    Reason.TIMEOUT: ("the server did not answer in time", "syncd doctor"),
    Reason.LISTING_INCOMPLETE: ("the folder could not be listed to its end", "syncd doctor"),
    Reason.LOCAL_IO: ("writing, syncing or renaming failed on this machine", "look at the disk, then: " + _RUN),
    Reason.DIGEST_MISMATCH: ("the bytes do not hash to the expected digest", "syncd verify --repair"),
    Reason.PATH_UNSAFE: (
        "a symbolic link or a file lies in the place of a folder of the mirror",
        "remove it from the target, then: " + _RUN,
    ),
    Reason.PATH_COLLISION: (
        "something that syncd did not put there is in the way",
        "move it out of the target, then: " + _RUN,
    ),
    Reason.SOURCE_UNAVAILABLE: ("the source cannot be asked", "syncd doctor"),
    Reason.SOURCE_VANISHED: ("the server answers, but the mirror's root folder is not there", "syncd doctor"),
    Reason.AUTH_FAILED: ("login refused, or the server is not the one that was pinned", "syncd secret NAME"),
    Reason.ALREADY_RUNNING: ("another syncd works on this state directory", "syncd status"),
    Reason.REFUSED: ("held back until a person decides", "syncd approve"),
    Reason.SOURCE_EMPTY: ("the source is empty while files are held", "look at the share, then: " + _RUN),
    Reason.SOURCE_FOREIGN: ("the source looks like another share", "check source in the configuration"),
    Reason.TOO_MANY_CHANGES: ("more files gone or changed than the caps allow", "syncd approve"),
    Reason.TARGET_MISSING: (
        "the target is not on disk",
        "plug it in or mount it; to start over: syncd run-once --new-target --mirror NAME",
    ),
    Reason.TARGET_FOREIGN: ("the target belongs to another host or mirror", "syncd run-once --take-over --mirror NAME"),
    Reason.TARGET_UNUSABLE: ("the target cannot be created or written", "syncd doctor"),
    Reason.DISK_FULL: (
        "no room left, or the free-space floor would be crossed",
        "free some space; the next run goes on",
    ),
    Reason.CATALOGUE: ("the catalogue cannot be used", "syncd doctor"),
    Reason.CONFIG: ("the configuration cannot be used", "syncd doctor"),
    Reason.PUBLISH_FAILED: ("nsqd did not take the announcement; it is kept", "syncd doctor"),
    Reason.STOPPED: ("the run was asked to stop; the next one goes on from there", ""),
    Reason.NOT_LISTED: (
        "not on the source as of the last complete look",
        "compare the spelling with the source; if it was added since: " + _RUN,
    ),
    Reason.NEVER_LISTED: ("the mirror has not had a complete look at its source yet", "syncd status"),
    Reason.AMBIGUOUS: ("the path may mean files of several mirrors", "say the mirror's name in front of the path"),
    Reason.NO_MIRROR: ("a collection that is not mirrored here", "add a [[mirror]] for it to the configuration"),
    Reason.PATH_MALFORMED: (
        "empty, with .. in it, or naming mirrors over and over: no file of a mirror has such a path",
        "send the path as the server spells it",
    ),
    Reason.OUTSIDE: (
        "a place on some machine that is below no spelling of a mirror",
        "if it is a mirror's, add its beginning to aliases in the configuration",
    ),
    Reason.FOLDER: ("a folder, not a file", "name a file in it"),
    Reason.VETOED: (
        "a name that the share hides from everybody (._*, .DS_Store, Thumbs.db): it can never be fetched",
        "take it out of the job: it is no document",
    ),
    Reason.TOO_MANY_LEASES: (
        "more leases at once than the daemon keeps",
        "release leases that are done with, or take them with a shorter time",
    ),
    Reason.BUG: ("a fault in syncd itself", "report it, with the output of: syncd doctor --bundle FILE"),
}
"""What each reason means, and the operator's next step ("" = nothing to do)."""


def hint_for(reason: Reason, path: str = "", mirror: str = "") -> str:
    """Return the next step for a reason, with the path and the mirror's name filled in, as a shell takes them."""
    hint = MEANING[reason][1]
    hint = hint.replace("NAME", shlex.quote(mirror)) if mirror else hint
    return hint.replace("PATH", shlex.quote(path)) if path else hint
