"""Submitting, and what is done with a job afterwards."""

from __future__ import annotations

import pytest

from syncd.core.errors import ConfigError
from syncd.core.resolution import State
from tests.support.desk_fakes import FakeBoard, FakeListing, FakePaths, FakePress, failure, result
from worker_glue.desk.jobs import missing, requeue, requeue_from, retry_errors, standing_of
from worker_glue.desk.ports import Line, Standing, Wish
from worker_glue.desk.publishing import BATCH, Stopped, launch, lines_of, new_job_id
from worker_glue.desk.remaining import gap, rederive, without_entry
from worker_glue.tasks.parse import read_task

HINDI = Wish(("hi", "en"), True, "tesseract")


def paths_of(count: int) -> list[str]:
    return [f"M/{index:05}.jpg" for index in range(count)]


def submitted(count: int, board: FakeBoard, press: FakePress, wish: Wish = HINDI) -> str:
    return launch("job-1", lines_of(paths_of(count), [wish] * count), board, press).job_id


def test_list_then_job_then_tasks() -> None:
    log: list[str] = []
    board, press = FakeBoard(log), FakePress(log)
    submitted(3, board, press)
    assert log == ["keep", "create", "publish"]
    task = read_task(press.bodies[2])
    assert task[:7] == ("job-1", "M/00002.jpg", 2, ("hi", "en"), True, "single", "tesseract")
    assert [each["total_files"] for each in press.tasks] == [3, 3, 3]
    assert board.jobs["job-1"].published == 3


def test_batches() -> None:
    press = FakePress()
    submitted(2 * BATCH + 1, FakeBoard(), press)
    assert press.batches == [BATCH, BATCH, 1]
    assert [each["file_index"] for each in press.tasks] == list(range(2 * BATCH + 1))


def test_a_job_that_is_there_is_left_alone() -> None:
    board, press = FakeBoard(), FakePress()
    submitted(1, board, press)
    with pytest.raises(ConfigError, match="already"):
        submitted(2, board, press)
    assert len(board.kept["job-1"]) == 1
    assert len(press.bodies) == 1


@pytest.mark.parametrize("job_id", ["", "x" * 201, "a\nb", "\ud800"])
def test_ids_that_cannot_be(job_id: str) -> None:
    with pytest.raises(ConfigError):
        launch(job_id, lines_of(paths_of(1), [HINDI]), FakeBoard(), FakePress())


def test_nsqd_goes_half_way_and_requeue_brings_the_rest() -> None:
    board, press = FakeBoard(), FakePress(fail_after=1)
    with pytest.raises(Stopped, match=rf"{BATCH} of {BATCH + 7}") as stopped:
        submitted(BATCH + 7, board, press)
    assert "--requeue" in stopped.value.hint
    standing = standing_of("job-1", board)
    assert (standing.published, standing.complete) == (BATCH + 7, False)
    board.recorded["job-1"] = [result(index, f"M/{index:05}.jpg") for index in range(BATCH)]
    again = FakePress()
    assert requeue(standing, board, again) == 7
    assert [each["file_index"] for each in again.tasks] == list(range(BATCH, BATCH + 7))
    assert {each["total_files"] for each in again.tasks} == {BATCH + 7}


def test_a_path_that_comes_twice_is_refused_before_anything_is_made() -> None:
    board, press = FakeBoard(), FakePress()
    with pytest.raises(ConfigError, match="a path comes twice") as refused:
        launch("job-1", lines_of(["M/a.jpg", "M/b.jpg", "M/a.jpg"], [HINDI] * 3), board, press)
    assert list(refused.value.problems) == ["'M/a.jpg': tasks 0 and 2"]
    assert (board.standing("job-1"), list(board.lines("job-1")), press.tasks) == (None, [], [])


def test_a_path_that_failed_twice_is_tried_again_once() -> None:
    board, press = FakeBoard(), FakePress()
    board.create("old", 3, {})
    board.recorded["old"] = [failure(0, "M/a.jpg"), failure(1, "M/a.jpg"), failure(2, "M/b.jpg")]
    made = retry_errors(standing_of("old", board), board, press)
    assert made is not None
    assert [(each["file_index"], each["file_path"]) for each in press.tasks] == [(0, "M/a.jpg"), (1, "M/b.jpg")]


# --- what is left


def test_tasks_without_entry() -> None:
    lines = lines_of(["M/a/x.jpg", "M/b/x.jpg", "M/c.jpg", "M/d.jpg"], [HINDI] * 4)
    entries = [result(0, "M/a/x.jpg"), failure(None, "M/c.jpg")]
    assert [line.file_index for line in without_entry(lines, entries)] == [1, 3]


def test_one_entry_without_number_stands_for_one_task() -> None:
    lines = lines_of(["M/a.jpg", "M/a.jpg"], [HINDI] * 2)
    assert [line.file_index for line in without_entry(lines, [failure(None, "M/a.jpg")])] == [1]


def test_numbers_of_a_job_without_list() -> None:
    standing = Standing("j", "processing", 5, 5, 2, 2, 0)
    assert gap(standing, [result(0, "a"), result(3, "b")]) == (3, [1, 2, 4], True)
    assert gap(standing, [result(0, "a"), failure(None, "b")]) == (3, [1, 2, 3, 4], False)


def test_missing_tells_which_it_knows() -> None:
    board = FakeBoard()
    submitted(3, board, FakePress())
    board.recorded["job-1"] = [result(1, "M/00001.jpg")]
    listed = missing(standing_of("job-1", board), board)
    assert (listed.open, listed.listed, [line.file_path for line in listed.lines]) == (
        2,
        True,
        ["M/00000.jpg", "M/00002.jpg"],
    )
    board.kept.clear()
    bare = missing(standing_of("job-1", board), board)
    assert (bare.open, bare.listed, list(bare.numbers), bare.exact) == (2, False, [0, 2], True)
    assert bare.as_json()["file_indexes"] == [0, 2]


def test_a_job_of_the_backend_needs_its_folder() -> None:
    board, press = FakeBoard(), FakePress()
    board.create("b", 3, {})
    with pytest.raises(ConfigError) as refused:
        requeue(standing_of("b", board), board, press)
    assert "--folder" in refused.value.hint
    board.recorded["b"] = [result(1, "/app/M/b.jpg", wish=HINDI)]
    paths = FakePaths(dict.fromkeys(("a.jpg", "b.jpg", "c.jpg"), State.READY))
    listing = FakeListing(["a.jpg", "b.jpg", "c.jpg"])
    assert requeue_from(standing_of("b", board), ["M"], board, press, paths, listing) == 2
    assert [(each["file_index"], each["file_path"]) for each in press.tasks] == [
        (0, "/app/M/a.jpg"),
        (2, "/app/M/c.jpg"),
    ]
    assert press.tasks[0]["languages"] == ["hi", "en"]


ENTRIES = [result(1, "/app/M/b.jpg", wish=HINDI)]
MEANT = {"/app/M/b.jpg": "M/b.jpg"}


@pytest.mark.parametrize(
    ("entries", "meant", "folder", "said"),
    [
        ([], {}, ["M/a.jpg", "M/b.jpg", "M/c.jpg"], "no entry yet"),
        (ENTRIES, MEANT, ["M/a.jpg", "M/b.jpg"], "2 of its tasks are without entry, and the folder has 1 file without"),
        ([failure(None, "/app/M/b.jpg")], MEANT, ["M/a.jpg", "M/c.jpg"], "languages"),
        ([failure(1, "/app/M/b.jpg")], MEANT, ["M/a.jpg", "M/c.jpg"], "languages"),
        ([result(1, "b.jpg", wish=HINDI)], {"b.jpg": "M/b.jpg"}, ["M/a.jpg", "M/c.jpg"], "spells its paths"),
        ([*ENTRIES, result(0, "M/a.jpg", wish=HINDI)], {**MEANT, "M/a.jpg": "M/a.jpg"}, ["M/c.jpg"], "variously"),
        (
            [*ENTRIES, result(0, "/app/M/a.jpg", wish=Wish())],
            {**MEANT, "/app/M/a.jpg": "M/a.jpg"},
            ["M/c.jpg"],
            "various",
        ),
    ],
)
def test_what_cannot_be_put_together_is_refused(entries: list, meant: dict, folder: list, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        rederive(Standing("b", "processing", 3, 3, 0, 0, 0), entries, meant, folder)


def test_entries_without_number_and_numbers_that_came_twice() -> None:
    """Any free number will do: the paths say what is lacking."""
    entries = [result(1, "M/a.jpg", wish=HINDI), failure(1, "M/b.jpg"), failure(None, "M/c.jpg")]
    meant = {entry.file_path: entry.file_path for entry in entries}
    folder = ["M/a.jpg", "M/b.jpg", "M/c.jpg", "M/d.jpg"]
    assert rederive(Standing("b", "processing", 4, 4, 3, 1, 2), entries, meant, folder) == [Line(0, "M/d.jpg", HINDI)]
    assert gap(Standing("b", "processing", 4, 4, 3, 1, 2), entries) == (1, [0, 2, 3], False)


def test_who_read_it_is_not_what_was_asked_for() -> None:
    entries = [result(0, "M/a.jpg", wish=HINDI), result(1, "M/b.jpg", wish=HINDI._replace(provider="azure"))]
    meant = {"M/a.jpg": "M/a.jpg", "M/b.jpg": "M/b.jpg"}
    found = rederive(Standing("b", "processing", 3, 3, 2, 2, 0), entries, meant, ["M/a.jpg", "M/b.jpg", "M/c.jpg"])
    assert found == [Line(2, "M/c.jpg", HINDI._replace(provider=None))]


def test_a_cancelled_job_gets_nothing() -> None:
    board = FakeBoard()
    submitted(1, board, FakePress())
    with pytest.raises(ConfigError, match="cancelled"):
        requeue(standing_of("job-1", board)._replace(status="cancelled"), board, FakePress())


def test_no_such_job() -> None:
    with pytest.raises(ConfigError, match="no job"):
        standing_of("nix", FakeBoard())


# --- errors anew


def test_errors_become_a_job_of_their_own() -> None:
    board, press = FakeBoard(), FakePress()
    submitted(4, board, press)
    board.recorded["job-1"] = [failure(3, "M/00003.jpg"), result(0, "M/00000.jpg"), failure(1, "M/00001.jpg")]
    press = FakePress()
    made = retry_errors(standing_of("job-1", board), board, press)
    assert made is not None
    assert made.job_id not in ("", "job-1")
    assert [(each["file_index"], each["file_path"]) for each in press.tasks] == [(0, "M/00001.jpg"), (1, "M/00003.jpg")]
    assert {(tuple(each["languages"]), each["handwriting"], each["job_id"]) for each in press.tasks} == {
        (("hi", "en"), True, made.job_id)
    }
    assert board.extra[made.job_id] == {"retry_of": "job-1"}


def test_errors_of_the_backends_job_are_asked_for_as_its_results() -> None:
    board, press = FakeBoard(), FakePress()
    board.create("b", 2, {})
    board.recorded["b"] = [failure(None, "/app/M/x.jpg"), result(1, "/app/M/y.jpg", wish=HINDI)]
    assert retry_errors(standing_of("b", board), board, press) is not None
    assert press.tasks[0]["languages"] == ["hi", "en"]


def test_no_errors_no_job() -> None:
    board = FakeBoard()
    board.create("b", 2, {})
    assert retry_errors(standing_of("b", board), board, FakePress()) is None
    assert list(board.jobs) == ["b"]


def test_ids_are_the_backends_kind() -> None:
    assert len(new_job_id()) == 36
    assert new_job_id() != new_job_id()


def test_the_backends_completion_rule() -> None:
    assert Standing("j", "processing", 2, 2, 2, 1, 1).complete
    assert not Standing("j", "processing", 2, 2, 2, 1, 0).complete
    assert Standing("j", "processing", 5, 4, 1, 1, 0).open == 4
