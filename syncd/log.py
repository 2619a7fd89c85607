"""Structured log lines on stderr: coloured for a terminal, key=value elsewhere, JSON with SYNCD_LOG=json.

structlog is imported at the first line logged, not before: most commands log nothing. Events are named, not told
(`transfer.done path= size= ms=`); secrets that this process has read are taken out of every value.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from structlog.typing import EventDict, FilteringBoundLogger, Processor

ROTATE_BYTES = 10_000_000
ROTATE_FILES = 5

_logger: FilteringBoundLogger | None = None
_stream: Any = None


def logger() -> FilteringBoundLogger:
    """Return the program's logger; it writes to what sys.stderr is at the first call."""
    global _logger
    if _logger is None:
        _logger = _make()
    return _logger


def log_to(path: Path) -> None:
    """Have log lines, and whatever else goes to stderr, written to a file that is rotated by size.

    For service managers that keep no log of their own (launchd, which makes no folder for it either). Raises OSError.
    """
    global _stream
    path.parent.mkdir(parents=True, exist_ok=True)
    _stream = _Rotated(path)


class _Rotated:
    """A stream over a file that never grows beyond ROTATE_BYTES: PATH, PATH.1 (the one before), ... PATH.4."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._open()

    def write(self, text: str) -> None:
        with self._lock:
            if self._file.tell() + len(text) > ROTATE_BYTES:
                self._rotate()
            self._file.write(text)
            self._file.flush()

    def flush(self) -> None:
        """Every line is flushed when it is written."""

    def _open(self) -> None:
        self._file = self._path.open("a", encoding="utf-8", errors="backslashreplace")
        os.dup2(self._file.fileno(), 2)

    def _rotate(self) -> None:
        self._file.close()
        for number in range(ROTATE_FILES - 1, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number - 1}") if number > 1 else self._path
            if older.exists():
                older.replace(self._path.with_name(f"{self._path.name}.{number}"))
        self._open()


def _make() -> FilteringBoundLogger:
    structlog = _import_structlog()
    level = logging.DEBUG if os.environ.get("SYNCD_DEBUG") == "1" else logging.INFO
    made: FilteringBoundLogger = structlog.wrap_logger(
        structlog.WriteLogger(_stream or sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _redacted,
            _renderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    return made


def _import_structlog() -> ModuleType:
    """Import it without rich, which it takes along for terminals where it can: 5 MB that a daemon never uses."""
    hide = "rich" not in sys.modules and not sys.stderr.isatty()
    if hide:
        sys.modules["rich"] = None  # type: ignore[assignment]  # the import system's own way to say: not there
    try:
        import structlog

        return structlog
    finally:
        if hide:
            del sys.modules["rich"]


def _renderer() -> Processor:
    import structlog

    if os.environ.get("SYNCD_LOG") == "json":
        return structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
    if sys.stderr.isatty():
        return structlog.dev.ConsoleRenderer()
    return structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False)


def _redacted(_logger: object, _method: str, event: EventDict) -> EventDict:
    from syncd.config.secrets import redact

    for key, value in event.items():
        if not isinstance(value, bool | int | float | None):
            event[key] = redact(str(value))
    return event
