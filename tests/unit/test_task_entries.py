"""Results and errors as `bulk_jobs` keeps them, and which engine does a task."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import bson
import pytest

from worker_glue.model import Kind, Outcome, Page, Recognized, SourceOf, Task, Word
from worker_glue.tasks import entries
from worker_glue.tasks.parse import Malformed, read_task
from worker_glue.tasks.providers import engine_for, nobody
from worker_glue.tasks.text import one_line

NOW = datetime(2026, 2, 1, 10, 0, 0, 125000, tzinfo=UTC)
SOURCE = SourceOf("Bhushanji/a/x .JPG", "ab" * 32, 1_770_000_000_123, 8_000_000)
TASK = Task("j", "/app/Bhushanji/a/x .JPG", 3, ("hi", "en"), True, "single", None, None, b"{}")


def word(text: str, confidence: float, block: int) -> Word:
    return Word(text, 1, 2, 3, 4, confidence, block)


PAGES = (
    Page(1, "एक दो", 0.9, (word("एक", 0.8, 1), word("दो", 1.0, 2)), 100, 200),
    Page(2, "three", 0.6, (word("three", 0.6, 1),), 100, 200),
    Page(3, "", None, (), 100, 200),
)


def result(task: Task = TASK, pages: tuple[Page, ...] = PAGES) -> Outcome:
    return entries.result(
        task,
        Recognized(pages, "tesseract", "5.3.0", "hi"),
        SOURCE,
        message_id="0123456789abcdef",
        worker_id="tod-mac-1",
        took_s=5.12345,
        retries=2,
        now=NOW,
    )


def error(message: str = "it is missing", task: Task = TASK, **more: Any) -> Outcome:
    return entries.error(task, message, message_id="0123456789abcdef", worker_id="tod-mac-1", now=NOW, **more)


def test_a_result_has_exactly_what_readers_know_and_our_own() -> None:
    made = result()
    assert (made.key, made.kind, made.file_path, made.message_id) == (
        TASK.key, Kind.RESULT, TASK.file_path, "0123456789abcdef",
    )  # fmt: skip
    assert made.entry == {
        "file": "x .JPG",
        "file_path": "/app/Bhushanji/a/x .JPG",
        "file_index": 3,
        "status": "success",
        "provider": "tesseract",
        "languages": ["hi", "en"],
        "handwriting": True,
        "text": "एक दो\n\nthree\n\n",
        "full_text": "एक दो\n\nthree\n\n",
        "confidence": 0.8,
        "detected_language": "hi",
        "blocks_count": 3,
        "words_count": 3,
        "pages_processed": 3,
        "file_info": {"size": 8_000_000, "extension": ".jpg"},
        "metadata": {"processing_time": 5.123, "worker_id": "tod-mac-1"},
        "processed_at": "2026-02-01T10:00:00.125000",
        "retry_count": 2,
        "source_sha256": "ab" * 32,
        "source_generation": 1_770_000_000_123,
        "engine": "tesseract",
        "engine_version": "5.3.0",
    }
    assert json.loads(json.dumps(made.entry)) == made.entry


def test_the_provider_is_the_tasks_own_where_it_names_one() -> None:
    assert result(TASK._replace(provider="chrome_lens")).entry["provider"] == "chrome_lens"


def test_pages_without_words_or_confidence() -> None:
    plain = result(pages=(Page(1, "two words", 0.5, (), 0, 0),)).entry
    assert (plain["words_count"], plain["blocks_count"], plain["confidence"]) == (2, 0, 0.5)
    nothing = result(pages=()).entry
    assert (nothing["text"], nothing["words_count"], nothing["confidence"], nothing["pages_processed"]) == ("", 0, 0, 0)
    assert result(pages=(Page(1, "x", math.nan, (), 0, 0),)).entry["confidence"] == 0


def test_text_that_has_no_utf8_form_is_stored_all_the_same() -> None:
    bson.encode(dict(result(pages=(Page(1, "a\ud800b\0c", 0.5, (), 0, 0),)).entry))


def test_an_error_is_one_short_line() -> None:
    made = error("first\nsecond\r\n\tthird \x1b[31m\u2028" + "x" * 10_000, reason="gone", retries=3, source=SOURCE)
    assert made.kind is Kind.ERROR
    assert made.entry["error"].startswith("first second third [31m x")
    assert len(made.entry["error"]) == entries.ERROR_MAX
    assert {name: value for name, value in made.entry.items() if name != "error"} == {
        "file": "x .JPG",
        "file_path": "/app/Bhushanji/a/x .JPG",
        "processed_at": "2026-02-01T10:00:00.125000",
        "file_index": 3,
        "retry_count": 3,
        "reason": "gone",
        "metadata": {"worker_id": "tod-mac-1"},
        "source_sha256": "ab" * 32,
        "source_generation": 1_770_000_000_123,
    }


def test_an_error_without_a_file_index_or_bytes_does_not_name_any() -> None:
    assert set(error(task=TASK._replace(file_index=None)).entry) == {
        "file", "file_path", "error", "processed_at", "retry_count", "metadata",
    }  # fmt: skip


def test_a_malformed_message_ends_in_an_error_that_can_be_stored() -> None:
    found = read_task(b'{"job_id": "j", "file_index": 4, "file_path": "a/\\ud800\\u0000.jpg"}')
    assert isinstance(found, Malformed)
    assert found.task is not None
    made = error(found.why, found.task)
    assert (made.key.file_index, made.entry["file_index"]) == (4, 4)
    bson.encode(dict(made.entry))


def test_a_result_that_does_not_fit_becomes_one_short_error_of_the_same_task() -> None:
    large = result(pages=(Page(1, "x" * 1_000_000, 0.5, (), 0, 0),))
    short = entries.too_large(large, host="tod-mac", now=NOW)
    assert (short.key, short.kind, short.message_id) == (large.key, Kind.ERROR, large.message_id)
    assert "1 page, 1000000 characters" in short.entry["error"]
    assert "tod-mac" in short.entry["error"]
    assert len(json.dumps(short.entry)) < 1_000
    assert short.entry["file_index"] == 3
    assert short.entry["source_sha256"] == SOURCE.sha256
    assert entries.too_large(short, host="tod-mac", now=NOW).kind is Kind.ERROR


@pytest.mark.parametrize(
    ("provider", "mode", "engine"),
    [
        (None, "single", "tesseract"),
        ("tesseract", "single", "tesseract"),
        ("chrome_lens", "single", "tesseract"),
        ("azure", "single", "google_vision"),
        ("google_vision", "single", None),
        ("", "chain", None),
        (None, "chain", None),
        ("tesseract", "chain", None),
        (None, "batch", None),
    ],
)
def test_which_engine_does_a_task(provider: str | None, mode: str, engine: str | None) -> None:
    providers = {"chrome_lens": "tesseract", "azure": "google_vision"}
    assert engine_for(TASK._replace(provider=provider, mode=mode), providers, "tesseract") == engine


def test_what_is_said_of_a_task_that_nobody_does() -> None:
    lens = nobody(TASK._replace(provider="chrome_lens"), "tesseract")
    assert (
        lens == 'no worker does provider "chrome_lens"; to have it done: [worker.providers] chrome_lens = "tesseract"'
    )
    assert '"my own" = "tesseract"' in nobody(TASK._replace(provider="my own"))
    assert "chain mode is not run" in nobody(TASK._replace(mode="chain"))
    assert '"batch" is not known' in nobody(TASK._replace(mode="batch"))


def test_one_line_cuts_between_characters() -> None:
    assert one_line("a\n\nb", 10) == "a b"
    assert one_line("x" * 20, 10) == "xxxxxxx..."
    assert one_line("\ud800", 10) == "\ufffd"
