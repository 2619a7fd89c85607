"""Counts are read by people: one file is, two files are."""

from __future__ import annotations

import argparse

import pytest

from syncd.alerts.rules import Queue, _said_of
from syncd.core.guard import Caps, Census, judge
from syncd.core.shown import counted_are
from worker_glue.cli.job import _show
from worker_glue.desk.ports import Standing


@pytest.mark.parametrize(("number", "said"), [(0, "0 files are"), (1, "1 file is"), (2_000, "2,000 files are")])
def test_a_number_its_noun_and_its_verb_agree(number: int, said: str) -> None:
    assert counted_are(number, "file") == said


def test_the_last_file_that_is_gone_is_one_file() -> None:
    census = Census(1, 1, 0, 1, 0, 0, 0)
    assert "1 of 1 file gone" in judge(census, Caps()).message


@pytest.mark.parametrize(
    ("queue", "said"), [(Queue(1, 1), "1 task waits, 1 is in hand"), (Queue(2, 0), "2 tasks wait, 0 are in hand")]
)
def test_a_queue_of_one_task(queue: Queue, said: str) -> None:
    assert said in _said_of(queue)


@pytest.mark.parametrize(("errors", "said"), [(0, "0 errors"), (1, "1 error,"), (2, "2 errors")])
def test_a_job_with_one_error(errors: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    _show(argparse.Namespace(json=False, config=None), Standing("j", "processing", 3, 3, errors, 0, errors))
    assert said in capsys.readouterr().out
