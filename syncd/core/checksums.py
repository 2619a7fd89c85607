"""SHA256SUMS, the format of sha256sum(1): which digest its lines give to which paths below the file's folder. Pure.

The text comes from the share, so it may be anything: a line of any other form, or with a name that the mirror could not
hold ("..", absolute, a control), says nothing; neither does a path with two different digests.
Source: GNU coreutils manual, sections "md5sum invocation" and "sha2 utilities".
"""

from __future__ import annotations

import re

from syncd.core import paths
from syncd.core.model import RelPath

CHECKSUM_FILE = "SHA256SUMS"
MAX_LINES = 100_000
"""Lines of one file; each takes some 350 bytes of memory."""

_LINE = re.compile(rb"(\\?)([0-9A-Fa-f]{64}) [ *](.+)", re.DOTALL)
_MAX_LINE_BYTES = 1 + 64 + 2 + 2 * paths.MAX_PATH_BYTES  # each byte of a name may be escaped
_ESCAPE = re.compile(rb"\\(.?)", re.DOTALL)
_ESCAPED = {b"\\": b"\\", b"n": b"\n", b"r": b"\r"}


def parse_checksums(text: bytes) -> dict[RelPath, str] | None:
    """Return path -> SHA-256 in lower-case hex; None when there are more than MAX_LINES lines."""
    found: dict[RelPath, str] = {}
    doubtful: set[RelPath] = set()
    start, count = 0, 0
    while start < len(text):  # not splitlines(): its list of 16 MiB of empty lines would take ten times as much
        end = text.find(b"\n", start)
        end = len(text) if end < 0 else end
        count += 1
        if count > MAX_LINES:
            return None
        said = _parse_line(text[start:end]) if end - start <= _MAX_LINE_BYTES + 1 else None
        if said is not None and found.setdefault(*said) != said[1]:
            doubtful.add(said[0])
        start = end + 1
    for path in doubtful:
        del found[path]
    return found


def _parse_line(line: bytes) -> tuple[RelPath, str] | None:
    matched = _LINE.fullmatch(line.removesuffix(b"\r"))
    if matched is None:
        return None
    escaped, digest, raw = matched.groups()
    path = _path(_unescape(raw) if escaped else raw)
    return None if path is None else (path, digest.decode().lower())


def _unescape(raw: bytes) -> bytes | None:
    if any(escape not in _ESCAPED for escape in _ESCAPE.findall(raw)):
        return None
    return _ESCAPE.sub(lambda escape: _ESCAPED[escape[1]], raw)


def _path(raw: bytes | None) -> RelPath | None:
    """Return the path that a line's name stands for; None for one that could not lie in a mirror."""
    try:
        name = (raw or b"").decode().removeprefix("./")
    except UnicodeDecodeError:
        return None
    if len(name.encode()) > paths.MAX_PATH_BYTES or any(paths.refuse_name(part) for part in name.split("/")):
        return None
    return RelPath(name)
