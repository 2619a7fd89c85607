"""How numbers, texts and tables are shown to people. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

_UNITS = ("B", "KB", "MB", "GB", "TB", "PB")


def human_bytes(size: float) -> str:
    """Return a size as people read it: 512 B, 9.4 MB, 398 MB (units of 1000)."""
    unit = 0
    while size >= 999.5 and unit < len(_UNITS) - 1:
        size /= 1000
        unit += 1
    return f"{size:.1f} {_UNITS[unit]}" if unit and size < 9.95 else f"{size:.0f} {_UNITS[unit]}"


def human_duration(seconds: float) -> str:
    """Return a duration as people read it: 0.8 ms, 3.4 s, 2 min, 1 h 05 min, 3 days."""
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{round(minutes / 1440)} days"


def human_ago(seconds: float) -> str:
    """Return how long ago something was: "just now", "2 min ago"; a time to come is "just now" too."""
    return "just now" if seconds < 1 else f"{human_duration(seconds)} ago"


def human_count(number: int) -> str:
    """Return a number with thousands set apart: 12,345."""
    return f"{number:,}"


def counted(number: int, noun: str) -> str:
    """Return how many there are of something: "1 file", "1,234 files"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def is_or_are(number: int) -> str:
    """Return the verb that goes with so many."""
    return "is" if number == 1 else "are"


def counted_are(number: int, noun: str) -> str:
    """Return how many of something, with the verb that goes with so many: "1 file is", "2 files are"."""
    return f"{counted(number, noun)} {is_or_are(number)}"


def printable(text: str) -> str:
    """Return text that cannot move the cursor or recolour a terminal: control characters are shown as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode("ascii") for c in text)


def width(text: str) -> int:
    """Return how many columns a terminal needs for a text: none for combining marks, two for wide characters."""
    if text.isascii():
        return len(text)
    columns = 0
    for c in text:
        if unicodedata.category(c) not in ("Mn", "Me", "Cf"):
            columns += 2 if unicodedata.east_asian_width(c) in ("W", "F") else 1
    return columns


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> str:
    """Return rows under their header, in columns two spaces apart; columns named in `right` are set flush right."""
    lines = [[printable(cell) for cell in row] for row in (header, *rows)]
    widths = [max(width(row[i]) for row in lines) for i in range(len(header))]
    flush_right = [name in right for name in header]
    return "".join(_row(cells, widths, flush_right) + "\n" for cells in lines)


def _row(cells: Sequence[str], widths: Sequence[int], flush_right: Sequence[bool]) -> str:
    padded = []
    for cell, columns, to_right in zip(cells, widths, flush_right, strict=True):
        room = " " * (columns - width(cell))
        padded.append(room + cell if to_right else cell + room)
    return "  ".join(padded).rstrip()
