"""Raw server names -> names that are safe to be one component of a local path, or the reason why not. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from syncd.core.model import RelPath
from syncd.core.reasons import Reason

STATE_FOLDER = ".syncd"
MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 3_500
_NOT_FIRST = frozenset({"", ".", "/"})

# C0 and C1 controls, DEL, the separators of both worlds, the stream separator, lone surrogates.
_SUSPECT = re.compile("[\x00-\x1f\x7f-\x9f/\\\\:\ud800-\udfff]")


def refuse_name(name: str) -> Reason | None:
    """Say why a raw name cannot be one path component in the mirror; None when it can."""
    found = _SUSPECT.search(name)
    if found is not None:
        return _suspect_reason(found.group())
    if len(name) > MAX_NAME_BYTES // 4 and len(name.encode()) > MAX_NAME_BYTES:
        return Reason.NAME_TOO_LONG
    if name in ("", ".", ".."):
        return Reason.NAME_DOT
    if name[0] == "." and len(name) >= len(STATE_FOLDER) and fold(name) == STATE_FOLDER:
        return Reason.NAME_RESERVED
    return None


def join_plain(names: Sequence[str]) -> str | None:
    """Return a directory's names joined by "/" when it is certain at a glance that refuse_name() refuses none of them.

    None says nothing. A twentieth of the time of asking for each; none of the names begins with a dot.
    """
    joined = "/".join(names)
    if not joined.isprintable() or joined.count("/") != len(names) - 1:
        return None  # a control or a surrogate, or "/" within a name
    if (
        joined[:1] in _NOT_FIRST
        or joined[-1] == "/"
        or "/." in joined
        or "//" in joined
        or "\\" in joined
        or ":" in joined
    ):
        return None
    return joined if max(map(len, names)) <= MAX_NAME_BYTES // 4 else None


def _suspect_reason(character: str) -> Reason:
    if character in "/\\":
        return Reason.NAME_SEPARATOR
    if character == ":":
        return Reason.NAME_STREAM
    if "\ud800" <= character <= "\udfff":
        return Reason.NAME_UNDECODABLE
    return Reason.NAME_CONTROL


def fold(name: str, *, case: bool = True, form: bool = True) -> str:
    """Return the form under which a folding file system would keep `name` (case, Unicode form, or both)."""
    if case:
        name = unicodedata.normalize("NFC", name).casefold() if form else name.casefold()
    return unicodedata.normalize("NFC", name) if form else name


def join(directory: RelPath, name: str) -> RelPath:
    """Append one validated name to a directory."""
    return RelPath(f"{directory}/{name}") if directory else RelPath(name)


def split(path: RelPath) -> tuple[RelPath, str]:
    """Return (directory, name) of a path."""
    directory, _, name = path.rpartition("/")
    return RelPath(directory), name


def parents(path: RelPath) -> list[RelPath]:
    """Return the directories above a path, the topmost first, the root left out."""
    parts = path.split("/")[:-1]
    return [RelPath("/".join(parts[: n + 1])) for n in range(len(parts))]


def is_below(path: RelPath, directory: RelPath) -> bool:
    """Say whether `path` is `directory` or lies below it."""
    return not directory or path == directory or path.startswith(directory + "/")


def printable(name: str) -> str:
    """Return a name fit for a screen or a log line: controls and undecodable parts escaped."""
    return (
        "".join(c if c.isprintable() or c == " " else c.encode("unicode_escape", "replace").decode() for c in name)
        .encode("utf-8", "backslashreplace")
        .decode()
    )
