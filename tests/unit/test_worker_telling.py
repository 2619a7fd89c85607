"""A worker tells MongoDB how it is, and says at once, before any task comes, that it is not let in."""

from __future__ import annotations

import threading
from typing import Any

from worker_glue.errors import JobsAway, JobsRefused
from worker_glue.running.telling import tell


def test_a_refusal_is_said_once_until_it_changes() -> None:
    stop, gone = threading.Event(), []
    refused = JobsRefused("login refused", hint="correct the password")
    answers = [refused, refused, JobsAway("no answer"), None, JobsRefused("no right to write")]
    said: list[dict[str, Any]] = []

    def beat() -> None:
        answer = answers.pop(0)
        if not answers:
            stop.set()
        if answer is not None:
            raise answer

    tell(beat, lambda: gone.append(1), stop, lambda name, **fields: said.append({"name": name, **fields}), 0.001)
    assert said == [
        {"name": "mongo.refused", "error": "login refused", "hint": "correct the password"},
        {"name": "mongo.refused", "error": "no right to write", "hint": ""},
    ]
    assert gone == [1]
