"""What became of a task, as `bulk_jobs` keeps it (CONTRACTS section 3). Pure; every entry is JSON all through."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from syncd.core.shown import counted
from worker_glue.model import NOBODYS, Kind, Outcome, Page, Recognized, SourceOf, Task
from worker_glue.tasks.text import one_line, storable

ERROR_MAX = 500
SUCCESS = "success"


def result(
    task: Task,
    recognized: Recognized,
    source: SourceOf,
    *,
    message_id: str,
    worker_id: str,
    took_s: float,
    retries: int,
    now: datetime,
) -> Outcome:
    """Return the result of a task. took_s: OCR's time. retries: starts before this one. now: aware."""
    text = storable(recognized.text)
    words = [word for page in recognized.pages for word in page.words]
    entry = {
        **_of(task),
        "file_index": task.file_index,
        "status": SUCCESS,
        "provider": task.provider or recognized.engine,
        "languages": list(task.languages),
        "handwriting": task.handwriting,
        "text": text,
        "full_text": text,
        "confidence": _confidence(recognized.pages),
        "detected_language": storable(recognized.detected_language),
        "blocks_count": len({(page.number, word.block) for page in recognized.pages for word in page.words}),
        "words_count": len(words) or len(text.split()),
        "pages_processed": len(recognized.pages),
        "file_info": {"size": source.size, "extension": posixpath.splitext(task.basename)[1].lower()},
        "metadata": {"processing_time": round(took_s, 3), "worker_id": worker_id},
        "processed_at": _naive(now),
        "retry_count": retries,
        **_made_from(source),
        "engine": recognized.engine,
        "engine_version": recognized.version,
    }
    return Outcome(task.key, Kind.RESULT, task.file_path, message_id, entry)


def error(
    task: Task,
    message: str,
    *,
    message_id: str,
    worker_id: str,
    now: datetime,
    source: SourceOf | None = None,
    retries: int = 0,
    reason: str = "",
) -> Outcome:
    """Return the error of a task, its message cut to one short line. reason: a code of docs/reasons.md. now: aware."""
    entry = {
        **_of(task),
        "error": one_line(message, ERROR_MAX),
        "processed_at": _naive(now),
        **_index(task.file_index),
        "retry_count": retries,
        **({"reason": reason} if reason else {}),
        "metadata": {"worker_id": worker_id},
        **_made_from(source or NOBODYS),
    }
    return Outcome(task.key, Kind.ERROR, task.file_path, message_id, entry)


def too_large(outcome: Outcome, *, host: str, now: datetime) -> Outcome:
    """Return the short error in the place of a result that the job's document does not take any more.

    host: where its text is kept.
    """
    entry, pages = outcome.entry, outcome.entry.get("pages_processed", 0)
    characters = len(str(entry.get("text", "")))
    said = (
        f"the result ({counted(pages, 'page')}, {characters} characters) does not fit into the job's document (16 MiB)"
    )
    kept = {
        name: entry[name] for name in ("metadata", "retry_count", "source_sha256", "source_generation") if name in entry
    }
    short = {
        "file": entry["file"],
        "file_path": entry["file_path"],
        "error": one_line(f"{said}; its text is kept on {host}", ERROR_MAX),
        "processed_at": _naive(now),
        **_index(outcome.key.file_index),
        "reason": "too_large",
        **kept,
    }
    return outcome._replace(kind=Kind.ERROR, entry=short)


def _of(task: Task) -> dict[str, Any]:
    return {"file": task.basename, "file_path": task.file_path}


def _index(file_index: int | None) -> dict[str, Any]:
    return {} if file_index is None else {"file_index": file_index}


def _made_from(source: SourceOf) -> dict[str, Any]:
    """Name the bytes; nothing where there were none."""
    return {} if not source.sha256 else {"source_sha256": source.sha256, "source_generation": source.generation}


def _naive(now: datetime) -> str:
    """Return a time as the backend writes it: UTC, and without saying so."""
    return now.astimezone(UTC).replace(tzinfo=None).isoformat()


def _confidence(pages: Sequence[Page]) -> float:
    """Return the mean over all words, 0 to 1; a page whose words are not known counts as one word."""
    known = [(page.confidence, max(1, len(page.words))) for page in pages if page.confidence is not None]
    weight = sum(words for _, words in known)
    mean = sum(confidence * words for confidence, words in known) / weight if weight else 0.0
    return round(mean, 4) if math.isfinite(mean) else 0.0
