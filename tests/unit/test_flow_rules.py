"""What a task's message notes about its waiting."""

from __future__ import annotations

import json

import pytest

from worker_glue.flow.rules import waiting_since, with_waiting_since

SINCE = 1_770_000_000.25


@pytest.mark.parametrize(
    "body",
    [
        b'{"job_id": "j", "odd": 1.50e2, "n": 12345678901234567890}',
        b'\xef\xbb\xbf {"job_id": "j"} \n',
        b'{"job_id": "j", "name": "\\ud800"}',
        b'{"job_id": "j", "waiting_since": "yesterday"}',
    ],
)
def test_the_message_stays_as_it_came_but_for_the_note(body: bytes) -> None:
    noted = with_waiting_since(body, SINCE)
    assert noted.startswith(body.rstrip()[:-1])
    assert waiting_since(noted) == SINCE
    assert json.loads(noted) == {**json.loads(body), "waiting_since": SINCE}
    assert with_waiting_since(noted, SINCE) == noted


def test_what_is_no_object_is_left_alone() -> None:
    for body in (b"", b"[]", b"{}", b"\xff"):
        assert with_waiting_since(body, SINCE) == body


@pytest.mark.parametrize("useless", ["null", "true", '"x"', "-5", "0", "NaN", "1e400", "1" + "0" * 400])
def test_a_note_that_is_no_time_is_none(useless: str) -> None:
    assert waiting_since(b'{"waiting_since": %s}' % useless.encode()) is None
