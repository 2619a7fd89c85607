"""The backend's side of end-to-end tests: what it calls complete, and that nothing else passes for it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.backend import Backend, Job, Wanted

JOB = Job("j", (Wanted("Bhushanji/a/x.jpg"), Wanted("./Bhushanji/b/x.jpg")), (b"", b""))


def document() -> dict[str, Any]:
    now = datetime.now(UTC).replace(tzinfo=None).isoformat()
    result = {
        "file": "x.jpg",
        "file_path": "Bhushanji/a/x.jpg",
        "file_index": 0,
        "status": "success",
        "provider": "tesseract",
        "languages": ["en"],
        "handwriting": False,
        "text": "a",
        "full_text": "a",
        "confidence": 0.9,
        "detected_language": "",
        "blocks_count": 1,
        "words_count": 1,
        "pages_processed": 1,
        "file_info": {"size": 1, "extension": ".jpg"},
        "metadata": {"processing_time": 0.1, "worker_id": "tod-mac-1"},
        "processed_at": now,
        "retry_count": 0,
        "source_sha256": "0" * 64,
        "source_generation": 1,
        "engine": "tesseract",
        "engine_version": "5",
    }
    error = {"file": "x.jpg", "file_path": "./Bhushanji/b/x.jpg", "error": "no", "processed_at": now, "file_index": 1}
    return {
        "status": "processing",
        "published_count": 2,
        "consumed_count": 2,
        "progress": {"current": 2, "total": 2, "percentage": 100, "filename": "x.jpg"},
        "checkpoint": {
            "results": [result],
            "errors": [error],
            "processed_files": [task.path for task in JOB.tasks],
            "processed_message_ids": ["0" * 16, "1" * 16],
        },
    }


def test_one_entry_for_each_task_is_complete() -> None:
    Backend.assert_complete(JOB, document())


def result(made: dict[str, Any]) -> Any:
    return made["checkpoint"]["results"][0]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda made: made["checkpoint"]["results"].append(copy.deepcopy(result(made))),
        lambda made: made["checkpoint"]["errors"].clear(),
        lambda made: made["checkpoint"]["errors"][0].update(file_index=0),
        lambda made: made["checkpoint"]["errors"][0].update(error=""),
        lambda made: made["checkpoint"]["errors"][0].update(error="x" * 5000),
        lambda made: made["checkpoint"]["processed_message_ids"].append("0" * 16),
        lambda made: made["checkpoint"]["processed_files"].pop(),
        lambda made: made.update(consumed_count=1),
        lambda made: result(made).update(file_path="/app/Bhushanji/a/x.jpg"),
        lambda made: result(made).update(file_index=True),
        lambda made: result(made).update(processed_at="2020-01-01T00:00:00"),
        lambda made: result(made).update(processed_at=datetime.now(UTC).isoformat()),
        lambda made: result(made)["metadata"].update(worker_id="${HOSTNAME}"),
        lambda made: result(made).pop("words_count"),
    ],
)
def test_anything_else_is_not(spoil: Callable[[dict[str, Any]], object]) -> None:
    made = document()
    spoil(made)
    with pytest.raises(AssertionError):
        Backend.assert_complete(JOB, made)


def test_local_paths_are_found() -> None:
    made = document()
    Backend.assert_no_local_path(made, "/home/x/data")
    result(made)["metadata"]["path"] = "/home/x/data/a.jpg"
    with pytest.raises(AssertionError):
        Backend.assert_no_local_path(made, "/home/x/data")
