"""What people see: the same forms as syncd's. Results go to stdout, logs and errors to stderr."""

from __future__ import annotations

from syncd.core.shown import human_ago, human_bytes, human_count, human_duration, printable, table, width

__all__ = ["human_ago", "human_bytes", "human_count", "human_duration", "printable", "table", "width"]
