"""How far long work is: one line that redraws itself on a terminal, a log line every 10 s elsewhere. On stderr."""

from __future__ import annotations

import sys
import time
from typing import Self, TextIO

EVERY_S, REDRAW_S = 10.0, 0.1


class Telling:
    """A ports.Tell for one command; closed, it leaves no trace on a terminal. For one thread."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._every_s = REDRAW_S if self._terminal else EVERY_S
        self._next = time.monotonic() + self._every_s
        self._width = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __call__(self, what: str, done: int, of: int) -> None:
        """Say how far it is; cheap, since most calls show nothing."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self._every_s
        if self._terminal:
            self._draw(f"{what} {done:,} of {of:,}" if of else f"{what} {done:,}")
        else:
            from syncd.log import logger

            logger().info("desk.progress", doing=what, done=done, of=of or None)

    def close(self) -> None:
        """Take the line off the terminal; safe to repeat."""
        if self._width:
            self._draw("")
            self._width = 0

    def _draw(self, text: str) -> None:
        self._stream.write(f"\r{text.ljust(self._width)}\r{text}")
        self._stream.flush()
        self._width = max(self._width, len(text))
