"""The dead topic's messages: what is written can be read, tried again, and always fits."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from worker_glue.tasks.dead import dead_body, raw_body, read_dead

TASK = {"job_id": "j", "file_path": "Bhushanji/हिन्दी  .JPG", "file_index": 3, "languages": ["hi"], "provider": None}


def give_up(body: bytes, error: str = "MongoDB refused it", at: float | datetime = 0.0) -> bytes:
    return dead_body(body, "unreadable", error, 4, "tod-mac", "tod-mac-1", at)


def test_a_task_keeps_its_fields_and_gains_dead() -> None:
    written = json.loads(give_up(json.dumps(TASK).encode(), at=1_700_000_000))
    assert written == TASK | {
        "reason": "unreadable",
        "attempts": 4,
        "host": "tod-mac",
        "dead": {
            "reason": "unreadable",
            "error": "MongoDB refused it",
            "attempts": 4,
            "host": "tod-mac",
            "worker_id": "tod-mac-1",
            "at": "2023-11-14T22:13:20Z",
        },
    }


def test_a_field_of_the_tasks_own_wins_and_comes_back() -> None:
    body = json.dumps(TASK | {"host": "backend-2"}).encode()
    written = give_up(body)
    assert json.loads(written)["host"] == "backend-2" and read_dead(written).host == "tod-mac"
    assert json.loads(read_dead(written).body) == json.loads(body)


def test_what_was_written_is_read() -> None:
    dead = read_dead(give_up(json.dumps(TASK).encode()))
    assert (dead.job_id, dead.file_path, dead.file_index) == ("j", TASK["file_path"], 3)
    assert (dead.reason, dead.error, dead.attempts, dead.host) == ("unreadable", "MongoDB refused it", 4, "tod-mac")
    assert json.loads(dead.body) == TASK


def test_a_replayed_task_starts_anew() -> None:
    dead = read_dead(give_up(json.dumps(TASK | {"passed_since": 1.5, "waiting_since": 2, "dead": "stale"}).encode()))
    assert json.loads(dead.body) == TASK


@pytest.mark.parametrize("body", [b"", b"\xff\x00", b"[1]", b"7", b'{"a": NaN}', b"{", b"[" * 100_000])
def test_junk_is_kept_byte_for_byte_and_never_replayed(body: bytes) -> None:
    written = give_up(body)
    dead = read_dead(written)
    assert raw_body(written) == body
    assert (dead.task, dead.body, dead.reason) == (None, b"", "unreadable")


@pytest.mark.parametrize("body", [b"\xff" * (1 << 20), b'{"job_id": "' + b"x" * ((1 << 20) - 14) + b'"}'])
def test_a_body_of_nsqds_limit_still_fits(body: bytes) -> None:
    written = give_up(body, error="e" * 1_000_000)
    assert len(written) <= 1 << 20
    assert json.loads(written)["body_size"] == len(body)
    kept = raw_body(written)
    assert kept is not None
    assert body.startswith(kept)
    assert len(kept) > 500_000


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b'{"job_id": 7}', b'{"dead": 7}', b'{"dead": {"attempts": "x"}}']
)
def test_foreign_messages_are_read_too(body: bytes) -> None:
    dead = read_dead(body)
    assert (dead.body, dead.job_id, dead.attempts) == (b"", "", 0)


def test_a_lone_surrogate_survives() -> None:
    dead = read_dead(give_up(rb'{"job_id": "j", "file_path": "a\ud800.jpg"}'))
    assert dead.file_path == "a\ud800.jpg"
    assert json.loads(dead.body)["file_path"] == "a\ud800.jpg"


def test_a_task_that_has_a_field_of_the_raw_forms_name_is_a_task() -> None:
    assert read_dead(give_up(b'{"job_id": "j", "body_base64": "AAAA"}')).job_id == "j"


def test_times_are_utc() -> None:
    at = datetime(2026, 7, 4, 12, 0, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert read_dead(give_up(b"{}", at=at)).at == "2026-07-04T06:30:00Z"
    assert read_dead(give_up(b"{}", at=datetime.fromtimestamp(0, UTC))).at == "1970-01-01T00:00:00Z"
