"""The list of a submitted job's tasks, as it lies in MongoDB, so that what a queue lost can be published again. Pure.

sync_job_tasks  {job_id, first, languages, handwriting, provider, paths: [...]}: tasks first, first + 1, ... of a job,
                at most 1,000 a document, which keeps it far below 16 MiB
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from worker_glue.desk.ports import Line, Wish

COLLECTION = "sync_job_tasks"
PATHS_MAX = 1_000


def documents(job_id: str, lines: Sequence[Line]) -> Iterator[dict[str, Any]]:
    """Yield the documents that hold the tasks of a job. lines: by file_index, which counts up by one."""
    part: list[Line] = []
    for line in lines:
        if part and (len(part) == PATHS_MAX or line.wish != part[0].wish or line.file_index != _next(part)):
            yield _document(job_id, part)
            part = []
        part.append(line)
    if part:
        yield _document(job_id, part)


def read(found: Iterable[Mapping[str, Any]]) -> list[Line]:
    """Return the tasks in documents, by file_index."""
    lines: dict[int, Line] = {}
    for each in found:
        provider = each.get("provider")
        wish = Wish(
            tuple(str(language) for language in each.get("languages") or ()),
            bool(each.get("handwriting")),
            None if provider is None else str(provider),
        )
        for index, path in enumerate(each.get("paths") or (), int(each.get("first") or 0)):
            lines[index] = Line(index, str(path), wish)
    return [lines[index] for index in sorted(lines)]


def _next(part: Sequence[Line]) -> int:
    return part[0].file_index + len(part)


def _document(job_id: str, part: Sequence[Line]) -> dict[str, Any]:
    wish = part[0].wish
    return {
        "job_id": job_id,
        "first": part[0].file_index,
        "languages": list(wish.languages),
        "handwriting": wish.handwriting,
        "provider": wish.provider,
        "paths": [line.file_path for line in part],
    }
