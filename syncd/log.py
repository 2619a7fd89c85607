"""Structured log lines on stderr: coloured for a terminal, key=value elsewhere, JSON with SYNCD_LOG=json.

structlog is imported at the first line logged, not before: most commands log nothing. Events are named, not told
(`transfer.done path= size= ms=`); secrets that this process has read are taken out of every value.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from structlog.typing import EventDict, FilteringBoundLogger, Processor

_logger: FilteringBoundLogger | None = None


def logger() -> FilteringBoundLogger:
    """Return the program's logger; it writes to what sys.stderr is at the first call."""
    global _logger
    if _logger is None:
        _logger = _make()
    return _logger


def _make() -> FilteringBoundLogger:
    import structlog

    level = logging.DEBUG if os.environ.get("SYNCD_DEBUG") == "1" else logging.INFO
    made: FilteringBoundLogger = structlog.wrap_logger(
        structlog.WriteLogger(sys.stderr),
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
