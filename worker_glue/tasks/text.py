"""Text that MongoDB can store and that people can read. Pure."""

from __future__ import annotations

import re

_SURROGATES = re.compile("[\ud800-\udfff]")
_NO_TEXT = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def storable(text: str) -> str:
    """Return text that has a UTF-8 form, as BSON needs: lone surrogates become U+FFFD. NUL stays."""
    return _SURROGATES.sub("\ufffd", text)


def one_line(text: str, longest: int) -> str:
    """Return text as one line of at most so many characters, without control characters."""
    line = _NO_TEXT.sub(" ", storable(text)).strip()
    return line if len(line) <= longest else f"{line[: longest - 3].rstrip()}..."
