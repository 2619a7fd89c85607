"""What the relay asks of the catalogue: what is owed, what was sent lately, what closes a run."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.core.model import Dropped, FileEvent, RelPath
from syncd.store.catalogue import Catalogue, SqliteMirrorCatalogue
from syncd.store.outbox import Again
from syncd.store.run_end import KEPT_RUNS
from tests.support.catalogues import digest, finish, held, hold, open_catalogue

EARLY, LATE = "2026-01-01T00:00:00.000Z", "2026-01-01T00:20:00.000Z"
SINCE = "2026-01-01T00:10:00.000Z"
FAR = "2099-01-01T00:00:00Z"


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    with open_catalogue(tmp_path) as opened:
        yield opened


@pytest.fixture
def mirror(catalogue: Catalogue) -> SqliteMirrorCatalogue:
    return catalogue.mirror("M")


def publish_all(catalogue: Catalogue, at: str = EARLY) -> list[int]:
    numbers = [row.seq for row in catalogue.unpublished(10_000)]
    catalogue.mark_published(numbers, at=at)
    return numbers


# --- what was sent lately


def test_a_path_that_is_owed_anew_is_not_sent_again(mirror: SqliteMirrorCatalogue, catalogue: Catalogue) -> None:
    hold(mirror, held("1"), held("2"))
    first, second = publish_all(catalogue, LATE)
    hold(mirror, held("1", content="new"))
    assert list(catalogue.published_since(SINCE)) == [second]
    publish_all(catalogue, LATE)
    assert list(catalogue.published_since(SINCE)) == [second, second + 1]
    assert first not in catalogue.published_since(SINCE)


def test_only_what_is_still_the_newest_of_its_path(mirror: SqliteMirrorCatalogue, catalogue: Catalogue) -> None:
    other = catalogue.mirror("N")
    hold(mirror, held("1"), held("2"), held("3"))
    hold(other, held("2"))
    numbers = publish_all(catalogue, LATE)
    newest = catalogue.last_announcement()
    assert [row.seq for row in catalogue.still_newest(numbers, newest)] == numbers
    hold(mirror, held("1", content="new"))
    mirror.commit([Dropped(RelPath("3"))], [], run_id="r", now_ms=1)
    assert [(row.mirror, row.path) for row in catalogue.still_newest(numbers, newest)] == [("M", "2"), ("N", "2")]
    assert catalogue.still_newest([], newest) == []
    assert [row.path for row in catalogue.still_newest(numbers[1:2], newest)] == ["2"]


@pytest.mark.parametrize("seed", range(5))
def test_what_was_sent_lately_against_a_plain_model(
    seed: int, mirror: SqliteMirrorCatalogue, catalogue: Catalogue
) -> None:
    dice = random.Random(seed)
    newest: dict[str, tuple[int, str | None]] = {}
    for turn in range(40):
        paths = sorted({f"p{dice.randrange(12)}" for _ in range(dice.randrange(1, 4))})
        hold(mirror, *(held(path, content=f"{turn}") for path in paths))
        for number, path in zip(range(catalogue.last_announcement() - len(paths) + 1, 10**14), paths, strict=False):
            newest[path] = (number, None)
        if dice.random() < 0.5:
            at = EARLY if turn < 20 else LATE
            published = set(publish_all(catalogue, at))
            newest = {path: (n, at if n in published else then) for path, (n, then) in newest.items()}
    expected = sorted(number for number, at in newest.values() if at is not None and at >= SINCE)
    assert list(catalogue.published_since(SINCE)) == expected


# --- owed again


def test_owed_again_is_the_same_announcement_with_a_new_number(
    mirror: SqliteMirrorCatalogue, catalogue: Catalogue
) -> None:
    hold(mirror, held("1"), held("2"))
    publish_all(catalogue)
    record = mirror.record(RelPath("1"))
    assert record is not None
    again = Again(RelPath("1"), FileEvent.READY, record.size, record.sha256, record.mtime_ns, record.generation)
    assert mirror.owe_again([again] * 3, run_id="again", at=LATE) == 3
    before, *rows = catalogue.announcements(catalogue.last_announcement() - 4, 10)
    assert [row.seq - before.seq for row in rows] == [1, 2, 3]
    assert {(row.path, row.event, row.sha256, row.generation, row.at) for row in rows} == {
        ("1", FileEvent.READY, digest("1"), record.generation, LATE)
    }
    assert (catalogue.owed().count, mirror.owed().oldest) == (3, LATE)
    assert mirror.record(RelPath("1")) == record
    publish_all(catalogue)
    assert catalogue.count_owed() == 0
    hold(mirror, held("3"))
    assert [row.path for row in catalogue.unpublished(10)] == ["3"]


def test_what_was_removed_lately_and_is_not_back(mirror: SqliteMirrorCatalogue) -> None:
    hold(mirror, held("1"), held("2"), held("3"))
    now_ms = 1_767_225_600_000  # 2026-01-01
    mirror.commit([Dropped(RelPath("1")), Dropped(RelPath("2"))], [], run_id="r", now_ms=now_ms)
    hold(mirror, held("2"), now_ms=now_ms + 1)
    (again,) = mirror.removed_since(EARLY)
    assert again[:4] == ("1", FileEvent.REMOVED, 10, digest("1"))
    assert again.generation == now_ms
    assert list(mirror.removed_since(LATE)) == []


# --- what closes a run


def test_a_run_is_due_once_all_it_announced_is_published(mirror: SqliteMirrorCatalogue, catalogue: Catalogue) -> None:
    hold(mirror, held("1"), held("2"), run_id="r1")
    finish(mirror, "r1", None, report={"name": "M", "fetched": 2})
    hold(mirror, held("3"), run_id="r2")
    assert catalogue.runs_to_announce(10) == []
    first, second, third = (row.seq for row in catalogue.unpublished(10))
    catalogue.mark_published([first], at=LATE)
    assert catalogue.runs_to_announce(10) == []
    catalogue.mark_published([second], at=LATE)
    (run,) = catalogue.runs_to_announce(10)
    assert (run.mirror, run.run_id, run.state, run.finished_at) == ("M", "r1", "ok", "2026-01-01T10:00:05Z")
    assert run.report == {"name": "M", "fetched": 2}
    catalogue.mark_run_announced(run)
    assert catalogue.runs_to_announce(10) == []
    assert catalogue.run("r1")[0].report == run.report
    catalogue.mark_published([third], at=LATE)


@pytest.mark.parametrize("count", ["fetched", "adopted", "renamed", "retired"])
def test_a_run_that_changed_something_is_due_without_announcements(
    count: str, mirror: SqliteMirrorCatalogue, catalogue: Catalogue
) -> None:
    finish(mirror, "r1", None, report={count: 1})
    assert [run.run_id for run in catalogue.runs_to_announce(10)] == ["r1"]


def test_a_run_that_only_announced_is_due(mirror: SqliteMirrorCatalogue, catalogue: Catalogue) -> None:
    hold(mirror, held("1"), run_id="r0")
    mirror.commit([Dropped(RelPath("1"))], [], run_id="r1", now_ms=1)
    finish(mirror, "r1", None, report={"scanned": 5})
    publish_all(catalogue)
    assert [run.run_id for run in catalogue.runs_to_announce(10)] == ["r1"]


def test_a_run_that_changed_nothing_says_nothing(mirror: SqliteMirrorCatalogue, catalogue: Catalogue) -> None:
    hold(mirror, held("1"), run_id="r1")
    finish(mirror, "r2", None, report={"scanned": 5, "unchanged": 5, "failed": 1, "refused": 2, "bytes": 9})
    publish_all(catalogue)
    assert catalogue.runs_to_announce(10) == []


def test_a_run_of_another_mirror_with_the_same_id_is_its_own(catalogue: Catalogue) -> None:
    for name in ("M", "N"):
        hold(catalogue.mirror(name), held("1"), run_id="r1")
        finish(catalogue.mirror(name), "r1", None, report={"fetched": 1})
    publish_all(catalogue)
    first, second = catalogue.runs_to_announce(10)
    catalogue.mark_run_announced(first)
    assert catalogue.runs_to_announce(10) == [second]
    assert {first.mirror, second.mirror} == {"M", "N"}


def test_a_run_that_owes_its_message_outlives_the_list_of_runs(
    mirror: SqliteMirrorCatalogue, catalogue: Catalogue
) -> None:
    hold(mirror, held("1"), run_id="first")
    finish(mirror, "first", None, report={"fetched": 1})
    for n in range(KEPT_RUNS + 5):
        finish(mirror, f"r{n}", None, report={})
    publish_all(catalogue)
    (run,) = catalogue.runs_to_announce(10)
    assert run.run_id == "first"
    catalogue.mark_run_announced(run)
    finish(mirror, "last", None, report={})
    assert catalogue.run("first") == []


# --- trimming


def test_trimmed_with_what_is_owed(mirror: SqliteMirrorCatalogue, catalogue: Catalogue) -> None:
    hold(mirror, held("1"), held("2"), run_id="r1")
    finish(mirror, "r1", None, report={"fetched": 2})
    catalogue.mark_published([catalogue.unpublished(1)[0].seq], at=EARLY)
    assert catalogue.oldest_announcement() == catalogue.last_announcement() - 1
    assert catalogue.trim_announcements(FAR) == 1
    assert catalogue.count_owed() == 1
    assert catalogue.trim_announcements(FAR, owed_too=True) == 1
    assert (catalogue.count_owed(), catalogue.unpublished(10), catalogue.runs_to_announce(10)) == (0, [], [])
    assert catalogue.oldest_announcement() == catalogue.last_announcement() + 1
    hold(mirror, held("3"))
    assert [row.path for row in catalogue.unpublished(10)] == ["3"]
    assert catalogue.oldest_announcement() == catalogue.last_announcement()
