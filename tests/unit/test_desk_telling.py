"""Progress, and what is kept of a job's tasks."""

from __future__ import annotations

import io
import random

import pytest

from worker_glue.desk import lines as task_lists
from worker_glue.desk import telling
from worker_glue.desk.ports import Line, Wish
from worker_glue.desk.telling import Telling


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_one_line_that_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "REDRAW_S", 0.0)
    stream = Terminal()
    with Telling(stream) as tell:
        tell("resolve", 1_000, 2_000)
        tell("compare", 7, 0)
    shown = stream.getvalue()
    assert "resolve 1,000 of 2,000" in shown
    assert "compare 7" in shown
    assert "\n" not in shown
    assert shown.endswith("\r")


def test_elsewhere_short_work_says_nothing() -> None:
    stream = io.StringIO()
    with Telling(stream) as tell:
        tell("resolve", 1, 2)
    assert stream.getvalue() == ""


def test_tasks_survive_their_documents() -> None:
    wishes = [Wish(), Wish(("hi", "en"), True, "tesseract"), Wish(("en",))]
    lines = [Line(index, f"M/{index}.jpg", wishes[index % 3]) for index in range(50)]
    found = task_lists.documents(lines)
    random.Random(5).shuffle(found)
    assert task_lists.read(found) == lines


def test_what_somebody_else_wrote_is_left_out() -> None:
    assert task_lists.read([{}, {"file_index": "1", "file_path": "x"}, {"file_index": 1}]) == []
