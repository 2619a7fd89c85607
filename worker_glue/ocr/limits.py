"""The limits that hold for every engine; they are keys of each `[worker.engine.NAME]` table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeVar

from syncd.config import values
from worker_glue.ocr.tables import Table, duration, whole

T = TypeVar("T")

PAGE_LIMIT_S = 300.0
TASK_LIMIT_S = 3600.0
MAX_PAGES = 2000
MAX_MEGAPIXELS = 200
DPI = 300
KEYS = ("page_limit", "task_limit", "max_pages", "max_megapixels", "dpi", "memory_limit")


class Limits(NamedTuple):
    """Where a file stops being read.

    page_limit_s, task_limit_s: seconds for a page, for a file. max_pages: a file with more is refused. max_megapixels:
    an image with more is refused; a page of a PDF is rendered smaller instead. dpi: PDFs are rendered so. memory_limit:
    bytes of address space of the engine's process and of each program that it starts (RLIMIT_AS); 0 = none.
    """

    page_limit_s: float = PAGE_LIMIT_S
    task_limit_s: float = TASK_LIMIT_S
    max_pages: int = MAX_PAGES
    max_megapixels: int = MAX_MEGAPIXELS
    dpi: int = DPI
    memory_limit: int = 0


def split(name: str, given: Mapping[str, object]) -> tuple[Limits, Mapping[str, object], list[str]]:
    """Return the limits in an engine's table, the rest of it, and what is wrong with the limits."""
    table = Table(name, given)
    limits = Limits(
        table.take("page_limit", duration(1, 86400), PAGE_LIMIT_S),
        table.take("task_limit", duration(1, 7 * 86400), TASK_LIMIT_S),
        table.take("max_pages", whole(1, 100_000), MAX_PAGES),
        table.take("max_megapixels", whole(1, 2000), MAX_MEGAPIXELS),
        table.take("dpi", whole(70, 1200), DPI),
        table.take("memory_limit", values.size, 0),
    )
    return limits, table.rest(), table.problems
