"""What an answer to CHANGE_NOTIFY names, taken as untrusted input."""

from __future__ import annotations

from syncd.core.model import RelPath
from syncd.core.paths import MAX_PATH_BYTES, join, refuse_name
from syncd.sources.smb import packets
from syncd.sources.smb.packets import ProtocolError

_UNDECODED = "\ufffd"


def names_in(view: memoryview, start: int, end: int) -> list[str]:
    """Return the names in an answer; none, which stands for anything, where they are not well-formed."""
    first, last = packets.unpack_output(view, start, end, "CHANGE_NOTIFY")
    try:
        return packets.unpack_changes(view, first, last)
    except ProtocolError:
        return []


def directory_of(watched: RelPath, name: str) -> tuple[RelPath, RelPath]:
    """Return (the directory that a changed name lies in, the path of the name itself).

    name: as the server sent it, "\\"-separated below `watched`. Where a part of it can be no RelPath the nearest
    valid directory above stands for both.
    """
    *folders, last = name.split("\\")
    directory = watched
    for part in folders:
        if not _is_usable(part) or len(f"{directory}/{part}".encode()) > MAX_PATH_BYTES:
            return directory, directory
        directory = join(directory, part)
    return directory, join(directory, last) if _is_usable(last) else directory


def _is_usable(name: str) -> bool:
    return refuse_name(name) is None and _UNDECODED not in name
