"""The dead topic as the operator sees it, and stale results."""

from __future__ import annotations

import json

import pytest

from syncd.core.errors import PublishFailed
from syncd.core.resolution import Resolution, State
from tests.support.desk_fakes import FakeBoard, FakePaths, FakePress, failure
from worker_glue.desk.dead_letters import Settled, as_json, by_reason, listed, replay
from worker_glue.desk.ports import SourceRow
from worker_glue.desk.staleness import Freshness, counts, judge, judged, stale
from worker_glue.tasks.dead import dead_body


class Letter:
    def __init__(self, body: bytes) -> None:
        self.body = body
        self.end = ""

    def finish(self) -> None:
        self.end = "finished"

    def requeue(self, delay_s: float) -> None:
        self.end = "requeued"


def letter(job_id: str = "j", index: int = 0, reason: str = "unknown_job") -> Letter:
    task = {"job_id": job_id, "file_path": f"M/{index}.jpg", "file_index": index, "passed_since": 3.5}
    return Letter(dead_body(json.dumps(task).encode(), reason, "why", 2, "tod-mac", "tod-mac-1", 0.0))


def nobody(_: object) -> bool:
    return False


def test_listing_leaves_everything_where_it_is() -> None:
    letters = [letter("j"), letter("k", reason="document_full"), Letter(dead_body(b"junk", "bug", "", 1, "h", "w", 0))]
    found = listed(letters)
    assert [each.end for each in letters] == ["requeued"] * 3
    assert by_reason(found) == {"unknown_job": 1, "document_full": 1, "bug": 1}
    assert [dead.job_id for dead in listed(letters, "k")] == ["k"]
    assert as_json(found[0])["attempts"] == 2
    assert [as_json(each)["task"] for each in found] == [True, True, False]


def test_a_replay_publishes_then_finishes() -> None:
    letters = [letter("j"), letter("k"), Letter(b"junk")]
    press = FakePress()
    assert replay(letters, press, nobody, "j") == (1, 2, 0)
    assert [each.end for each in letters] == ["finished", "requeued", "requeued"]
    assert press.tasks == [{"job_id": "j", "file_path": "M/0.jpg", "file_index": 0}]


def test_what_nsqd_does_not_take_stays() -> None:
    letters = [letter(index=0), letter(index=1)]
    with pytest.raises(PublishFailed):
        replay(letters, FakePress(fail_after=1), nobody)
    assert [each.end for each in letters] == ["finished", ""]


def test_a_replay_in_vain_is_told() -> None:
    board = FakeBoard()
    board.recorded["j"] = [failure(0, "M/0.jpg"), failure(None, "M/7.jpg")]
    assert replay([letter(index=0), letter(index=1)], FakePress(), Settled(board)).settled == 1


# --- stale


def row(path: str, sha256: str) -> SourceRow:
    return SourceRow("j", 0, path, sha256, 1)


def test_results_against_their_sources() -> None:
    paths = FakePaths({"a.jpg": State.READY, "b.jpg": State.READY, "c.jpg": State.FETCHING})
    rows = [
        row("M/a.jpg", "sha-a.jpg"),
        row("M/b.jpg", "old"),
        row("M/b.jpg", ""),
        row("M/c.jpg", "x"),
        row("M/d.jpg", "x"),
    ]
    found = judged(rows, paths)
    assert [each.freshness.value for each in found] == ["current", "changed", "unknown", "unknown", "gone"]
    assert counts(found) == {"current": 1, "changed": 1, "gone": 1, "unknown": 2}
    assert [each.row.file_path for each in stale(found)] == ["M/b.jpg", "M/d.jpg"]
    assert len(paths.asked) == 4
    assert found[1].as_json()["sha256_now"] == "sha-b.jpg"


@pytest.mark.parametrize("state", [State.REFUSED, State.AMBIGUOUS, State.UNAVAILABLE, State.NO_MIRROR])
def test_what_cannot_be_compared_is_unknown(state: State) -> None:
    assert judge(row("x", "y"), Resolution(state)) is Freshness.UNKNOWN
