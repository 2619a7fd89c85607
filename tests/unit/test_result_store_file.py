"""The store's file: made whole, shared, damaged, full, of another version; what is kept of what was settled."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.core.errors import DiskFull
from worker_glue.errors import StoreFailed
from worker_glue.model import Kind, Outcome, TaskKey
from worker_glue.ports import Saved
from worker_glue.store import file, sqlite
from worker_glue.store.commits import Commits
from worker_glue.store.reading import Reading
from worker_glue.store.sqlite import Bounds, SqliteStore

T0 = 1_770_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "worker" / "results.db"


@pytest.fixture
def store(path: Path, clock: Clock) -> Iterator[SqliteStore]:
    with SqliteStore(path, worker_id="host-1", clock=clock) as made:
        yield made


def key(number: int = 0, job: str = "job") -> TaskKey:
    return TaskKey(job, number, "a.jpg")


def result(task: TaskKey | None = None, text: str = "text", kind: Kind = Kind.RESULT) -> Outcome:
    entry = {"text": text, "full_text": text, "source_sha256": "ab" * 32, "source_generation": 7}
    return Outcome(task or key(), kind, "Bhushanji/a.jpg", "0123456789abcdef", entry)


# --- the file --------------------------------------------------------------------------------------------------------


def test_others_can_read_neither_folder_nor_file(store: SqliteStore) -> None:
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert store.path.parent.stat().st_mode & 0o777 == 0o700


def test_it_is_there_after_closing_and_opening(path: Path) -> None:
    with SqliteStore(path, worker_id="a") as store:
        store.begin(key(1))
        store.keep(result())
        number = store.bury(b"body")
    with SqliteStore(path, worker_id="b") as store:
        assert store.begin(key(1)) == 1
        assert store.owed(key()) == result()
        assert store.buried(9) == [(number, b"body")]


def test_closing_twice_is_harmless_and_use_afterwards_is_an_error_of_ours(path: Path) -> None:
    store = SqliteStore(path, worker_id="a")
    store.close()
    store.close()
    for use in (lambda: store.begin(key()), lambda: store.owed(key())):
        with pytest.raises(StoreFailed):
            use()


def test_a_process_forgives_its_own_start_and_not_anothers(path: Path) -> None:
    with SqliteStore(path, worker_id="a") as one, SqliteStore(path, worker_id="b") as two:
        assert (one.begin(key()), two.begin(key())) == (0, 1)
        one.forgive(key())
        one.forgive(key())
        assert two.begin(key()) == 1


def test_it_is_not_used_across_a_fork(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with pytest.raises(StoreFailed, match="another process"):
        store.begin(key())


def test_processes_that_start_at_once_make_one_store(path: Path) -> None:
    code = """
import sys, pathlib
from worker_glue.store.sqlite import SqliteStore
from worker_glue.model import TaskKey
with SqliteStore(pathlib.Path(sys.argv[1]), worker_id=sys.argv[2]) as store:
    for _ in range(25):
        store.begin(TaskKey("job", 0, "a.jpg"))
"""
    children = [subprocess.Popen([sys.executable, "-c", code, str(path), f"host-{n}"]) for n in range(3)]
    assert [child.wait(60) for child in children] == [0, 0, 0]
    with SqliteStore(path, worker_id="after") as store:
        assert store.begin(key()) == 75


def test_what_another_process_leaves_of_an_unfinished_start_is_no_store(path: Path) -> None:
    path.parent.mkdir()
    path.with_name("results.db.new").write_bytes(b"half of a data base")
    path.with_name("results.db.new-wal").write_bytes(b"x")
    with SqliteStore(path, worker_id="a") as store:
        assert store.counts().owed == 0
    assert not path.with_name("results.db.new").exists()


# --- what cannot be used ---------------------------------------------------------------------------------------------


def _refused(path: Path) -> StoreFailed:
    before = path.read_bytes() if path.is_file() else None
    for _ in range(2):  # it is as it was after the first try, too
        with pytest.raises(StoreFailed) as caught:
            SqliteStore(path, worker_id="a")
    assert (path.read_bytes() if path.is_file() else None) == before
    assert str(path) in caught.value.message
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("content", [b"", b"no database", b"\0" * 8192])
def test_a_damaged_file_is_refused_and_left_as_it_lies(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    assert "damaged" in _refused(path).message


def test_a_file_that_is_gone_while_its_log_is_there_is_refused(path: Path) -> None:
    path.parent.mkdir()
    path.with_name("results.db-wal").write_bytes(b"what was owed")
    assert "gone" in _refused(path).message
    assert path.with_name("results.db-wal").read_bytes() == b"what was owed"


def test_a_folder_in_its_place_is_refused(path: Path) -> None:
    path.mkdir(parents=True)
    _refused(path)


def test_another_programs_data_base_is_refused(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE owed (x)")
    other.close()
    _refused(path)


def test_a_store_without_a_table_is_refused(path: Path) -> None:
    SqliteStore(path, worker_id="a").close()
    with sqlite3.connect(path) as other:
        other.execute("DROP TABLE owed")
    other.close()
    assert "damaged" in _refused(path).message


def test_a_store_of_a_newer_version_is_refused(path: Path) -> None:
    SqliteStore(path, worker_id="a").close()
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version=2")
    other.close()
    assert "newer" in _refused(path).message


def test_a_page_that_is_damaged_later_is_an_error_and_nothing_is_begun_anew(path: Path) -> None:
    with SqliteStore(path, worker_id="a") as store:
        for number in range(50):
            store.keep(result(key(number), os.urandom(3_000).hex()))
    with open(path, "r+b") as stream:
        stream.seek(8192)
        stream.write(os.urandom(path.stat().st_size - 8192))
    with pytest.raises(StoreFailed) as caught:
        _use_all(path)
    assert "damaged" in caught.value.message
    assert "job JOB --missing" in caught.value.hint


def _use_all(path: Path) -> None:
    with SqliteStore(path, worker_id="a") as store:
        store.owing(100, 0)
        store.keep(result(key(99)))


def test_a_network_file_system_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "file_system_type", lambda folder: "nfs4")
    with pytest.raises(StoreFailed, match="nfs4"):
        SqliteStore(path, worker_id="a")
    assert not path.exists()


@pytest.mark.parametrize("kind", ["ext4", "tmpfs", "overlay", "", "fuse.ext4", "fuseblk", "btrfs"])
def test_local_file_systems_are_none(path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(file, "file_system_type", lambda folder: kind)
    SqliteStore(path, worker_id="a").close()


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="Linux only")
def test_the_type_of_a_file_system_is_known() -> None:
    assert file.file_system_type("/proc/self") == "proc"


def test_another_program_that_holds_the_lock_for_too_long_is_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "BUSY_MS", 50)
    with SqliteStore(path, worker_id="a") as store, sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreFailed, match="locked"):
            store.keep(result())
        other.execute("ROLLBACK")
        assert store.keep(result()) == result()
    other.close()


# --- no room ---------------------------------------------------------------------------------------------------------


def _limit(store: SqliteStore, pages_more: int) -> None:
    """Let the file grow by so much, as a full disk would."""
    connection = store._commits._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count={pages + pages_more}")


def test_a_full_disk_leaves_what_was_there_and_work_goes_on_once_there_is_room(store: SqliteStore) -> None:
    store.keep(result(key(0)))
    _limit(store, 4)
    large = result(key(1), os.urandom(100_000).hex())
    for _ in range(2):
        with pytest.raises(DiskFull) as caught:
            store.keep(large)
        assert str(store.path.parent) in caught.value.hint
    with pytest.raises(DiskFull):
        store.replace(large._replace(key=key(0)))
    assert store.owing(9, 0) == [result(key(0))]
    assert store.begin(key(2)) == 0
    store.settled(key(0), Saved.RECORDED)
    _limit(store, 1_000)
    assert store.keep(large) == large


def test_of_calls_in_one_transaction_only_the_one_without_room_fails(store: SqliteStore) -> None:
    _limit(store, 8)
    outcomes = [result(key(0), os.urandom(200_000).hex()), *(result(key(number)) for number in range(1, 6))]
    failed: list[TaskKey] = []

    def keep(outcome: Outcome) -> None:
        try:
            store.keep(outcome)
        except DiskFull:
            failed.append(outcome.key)

    threads = [threading.Thread(target=keep, args=(outcome,)) for outcome in outcomes]
    with store._commits._writing:  # all of them wait for one moment
        for thread in threads:
            thread.start()
        while len(store._commits._waiting) < len(threads):
            pass
    for thread in threads:
        thread.join()
    assert failed == [key(0)]
    assert sorted(outcome.key for outcome in store.owing(9, 0)) == [key(number) for number in range(1, 6)]


def test_a_mistake_of_one_caller_is_no_others(path: Path) -> None:
    commits = Commits(path)
    answers: list[object] = []

    def call(number: int) -> None:
        try:
            answers.append(commits.run(lambda db: 6 // number))
        except ZeroDivisionError as error:
            answers.append(error)

    threads = [threading.Thread(target=call, args=(number,)) for number in (0, 1, 2, 3)]
    with commits._writing:
        for thread in threads:
            thread.start()
        while len(commits._waiting) < len(threads):
            pass
    for thread in threads:
        thread.join()
    commits.close()
    assert sorted(answer for answer in answers if isinstance(answer, int)) == [2, 3, 6]
    assert len(answers) == 4


def test_when_it_is_full_is_said(store: SqliteStore) -> None:
    assert store.full(Bounds(free_bytes=0)) == ""
    store.keep(result(key(0)))
    store.keep(result(key(1)))
    assert "2 results" in store.full(Bounds(owed=1, free_bytes=0))
    assert "2 results" in store.full(Bounds(owed_bytes=10, free_bytes=0))
    assert "stay free" in store.full(Bounds(free_bytes=1 << 60))
    store.settled(key(0), Saved.RECORDED)
    assert store.full(Bounds(owed=1, free_bytes=0)) == ""


# --- what is kept, and how long --------------------------------------------------------------------------------------


def test_what_was_settled_can_be_asked_for(store: SqliteStore, clock: Clock) -> None:
    store.keep(result(key(0)))
    store.keep(result(key(0, "other"), kind=Kind.ERROR))
    store.keep(result(key(1)))
    clock.now += 5
    store.settled(key(0), Saved.RECORDED)
    store.settled(key(0, "other"), Saved.DONE_BEFORE)
    with Reading(store.path) as reading:
        (row,) = reading.settled("job")
        assert row[:8] == (key(0), Kind.RESULT, "Bhushanji/a.jpg", "", "ab" * 32, 7, Saved.RECORDED, T0 + 5)
        assert (row.worker, row.text_kept) == ("host-1", False)
        assert [(row.key, row.saved) for row in reading.settled()] == [
            (key(0), Saved.RECORDED),
            (key(0, "other"), Saved.DONE_BEFORE),
        ]
        assert [(row.key, row.saved, row.at) for row in reading.owed()] == [(key(1), None, T0)]
        assert list(reading.owed("other")) == []
        assert reading.text_of(key(0)) is None
        assert reading.text_of(key(1)) == "text"
        assert reading.counts().owed == 1


def test_the_text_of_a_result_that_was_too_large_stays(store: SqliteStore) -> None:
    store.keep(result(text="long"))
    store.replace(result(text="short", kind=Kind.ERROR))
    store.replace(result(text="shorter", kind=Kind.ERROR))
    store.settled(key(), Saved.RECORDED)
    store.keep(result(key(1), text="another"))
    store.settled(key(1), Saved.TOO_LARGE)
    with Reading(store.path) as reading:
        assert (reading.text_of(key()), reading.text_of(key(1))) == ("long", "another")
        assert [row.text_kept for row in reading.settled()] == [True, True]
        assert [row.kind for row in reading.settled()] == [Kind.ERROR, Kind.RESULT]
        whole = reading.outcome_of(key())
    assert whole == result(text="long")


def test_a_result_made_anew_keeps_its_own_text(store: SqliteStore) -> None:
    for text in ("first", "2nd"):
        store.keep(result(text=text))
        store.replace(result(text="", kind=Kind.ERROR))
        store.settled(key(), Saved.RECORDED)
    with Reading(store.path) as reading:
        assert reading.text_of(key()) == "2nd"


def test_tasks_that_fail_can_be_asked_for(store: SqliteStore, clock: Clock) -> None:
    store.begin(key())
    clock.now += 1
    store.begin(key())
    store.bury(b"x")
    with Reading(store.path) as reading:
        assert reading.failing() == [(key(), 2, T0 + 1)]
        assert reading.buried() == 1


def test_history_goes_after_a_month_and_what_is_owed_never(store: SqliteStore, clock: Clock) -> None:
    store.begin(key(9))
    for number in range(3):
        store.keep(result(key(number)))
    store.settled(key(0), Saved.RECORDED)
    store.settled(key(1), Saved.TOO_LARGE)
    clock.now += 31 * 86_400
    store.keep(result(key(3)))
    store.settled(key(3), Saved.RECORDED)
    assert [store.known(key(number)) for number in range(4)] == [None, None, None, Saved.RECORDED]
    assert store.begin(key(9)) == 0
    assert store.owed(key(2)) == result(key(2))
    with Reading(store.path) as reading:
        assert reading.text_of(key(1)) == "text"


def test_history_is_bounded(store: SqliteStore, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "KEPT_ROWS", 2)
    monkeypatch.setattr(sqlite, "TEXTS_KEPT", 1)
    for number in range(4):
        clock.now += 4_000
        store.keep(result(key(number)))
        store.settled(key(number), Saved.TOO_LARGE)
    with Reading(store.path) as reading:
        assert [row.key.file_index for row in reading.settled()] == [2, 3]
        assert [reading.text_of(key(number)) for number in range(4)] == [None, None, None, "text"]


def test_long_lists_are_read_whole(store: SqliteStore) -> None:
    for number in range(1_200):
        store._commits.run(
            lambda db, n=number: db.execute(sqlite._KEEP, store._row(result(key(n), "t"))), durable=False
        )
    with Reading(store.path) as reading:
        assert [row.key.file_index for row in reading.owed("job")] == list(range(1_200))


def test_a_store_is_read_while_nobody_has_it_open(path: Path) -> None:
    with pytest.raises(StoreFailed, match="no store"):
        Reading(path)
    assert not path.parent.exists()
    with SqliteStore(path, worker_id="a") as store:
        store.keep(result())
    with Reading(path) as reading:
        assert [row.key for row in reading.owed()] == [key()]
    with pytest.raises(StoreFailed):
        reading.counts()
