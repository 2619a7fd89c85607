"""What people see: the same forms as syncd's. Results go to stdout, logs and errors to stderr."""

from __future__ import annotations

from syncd.core.shown import (
    counted,
    human_ago,
    human_bytes,
    human_count,
    human_duration,
    is_or_are,
    printable,
    table,
    width,
)

__all__ = [
    "counted",
    "human_ago",
    "human_bytes",
    "human_count",
    "human_duration",
    "is_or_are",
    "printable",
    "table",
    "width",
]
