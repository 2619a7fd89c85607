"""The closed list of reason codes, and what each means to an operator.

Every `reason` in JSON output, in the catalogue and in messages is one of these. docs/reasons.md is generated from here.
"""

from __future__ import annotations

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
    BUG = "bug"
