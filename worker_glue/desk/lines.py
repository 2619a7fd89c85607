"""The list of a submitted job's tasks as it lies in MongoDB (sync_tasks), so that what a queue lost can be published
again. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from worker_glue.desk.ports import Line, Wish


def documents(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Return what is kept of each task. What is not asked for is left out."""
    return [_document(line) for line in lines]


def read(found: Iterable[Mapping[str, Any]]) -> list[Line]:
    """Return the tasks that were kept, by file_index; what is none is left out."""
    lines: dict[int, Line] = {}
    for each in found:
        index, path, provider = each.get("file_index"), each.get("file_path"), each.get("provider")
        if isinstance(index, int) and isinstance(path, str):
            languages = tuple(str(language) for language in each.get("languages") or ())
            wish = Wish(languages, bool(each.get("handwriting")), provider if isinstance(provider, str) else None)
            lines[index] = Line(index, path, wish)
    return [lines[index] for index in sorted(lines)]


def _document(line: Line) -> dict[str, Any]:
    wish = line.wish
    return {
        "file_index": line.file_index,
        "file_path": line.file_path,
        "languages": list(wish.languages),
        **({"handwriting": True} if wish.handwriting else {}),
        **({"provider": wish.provider} if wish.provider is not None else {}),
    }
