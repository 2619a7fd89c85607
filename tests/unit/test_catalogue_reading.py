"""Reading without the lock: nothing written, whoever else is there; and what the screens ask."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncd.core.errors import CatalogueError
from syncd.core.model import Dropped, RelPath, Unheld
from syncd.core.reasons import Reason
from syncd.ports import MirrorCatalogue, Totals
from syncd.store import schema
from syncd.store.catalogue import Catalogue
from syncd.store.reading import ReadonlyCatalogue, open_readonly
from syncd.store.sql import Parameters, Reader, Row
from tests.support.catalogues import NOW_MS, finish, held, hold, intent, open_catalogue, record_of, seen, snapshot

A, B = RelPath("a"), RelPath("d/b")
ROOT = RelPath("")

WRITER = """
import os, signal, sys
from pathlib import Path
from tests.support.catalogues import *
catalogue = open_catalogue(Path(sys.argv[1]))
hold(catalogue.mirror("M"), held("a"), held("d/b"))
print("ready", flush=True)
for line in sys.stdin:
    if line.startswith("hold "):
        hold(catalogue.mirror("M"), *(held(f"{line[5:-1]}/{n}") for n in range(300)))
    if line == "checkpoint\\n":
        catalogue._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    print("done", flush=True)
catalogue.close()
"""


class Writer:
    """A syncd in a process of its own that writes what it is told."""

    def __init__(self, state: Path) -> None:
        command = [sys.executable, "-c", WRITER, str(state)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer("ready\n")

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        print(line, file=self.process.stdin, flush=True)
        self._answer("done\n")

    def _answer(self, expected: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == expected

    def end(self) -> None:
        self.process.communicate(timeout=30)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate(timeout=30)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    started = Writer(tmp_path)
    yield started
    started.kill()


def catalogue_in(state: Path) -> Path:
    return state / "catalogue.db"


def read_everything(catalogue: ReadonlyCatalogue) -> set[str]:
    mirror = catalogue.mirror("M")
    catalogue.mirrors(), catalogue.runs(), catalogue.owed(), catalogue.announcements(0, 10), catalogue.unpublished(10)
    mirror.held_in(ROOT), mirror.unheld(), mirror.last_run(), mirror.near_names(B), mirror.open_intents()
    findings = mirror.findings("dry")
    findings.absent_below(RelPath("d"))
    findings.arrived(RelPath("new"), seen(file_id=4))
    list(findings.renames()), list(findings.absences(confirmed=False))
    return {path for path, _ in mirror.records()}


# --- nothing is written


def test_nothing_is_written_where_nobody_writes(tmp_path: Path, writer: Writer) -> None:
    writer.end()
    before = snapshot(tmp_path)
    assert list(before) == ["catalogue.db"]
    stat = os.stat(tmp_path)
    with open_readonly(catalogue_in(tmp_path)) as catalogue:
        assert read_everything(catalogue) == {A, B}
        assert [name.name for name in tmp_path.iterdir()] == ["catalogue.db"]
    assert snapshot(tmp_path) == before
    assert os.stat(tmp_path).st_mtime_ns == stat.st_mtime_ns


def test_nothing_is_written_over_what_a_killed_one_left(tmp_path: Path, writer: Writer) -> None:
    writer.kill()
    before = snapshot(tmp_path)
    assert len(before) == 3
    with open_readonly(catalogue_in(tmp_path)) as catalogue:
        assert read_everything(catalogue) == {A, B}, "what only the log knows is seen"
    assert snapshot(tmp_path) == before


def test_nothing_is_written_beside_a_running_one(tmp_path: Path, writer: Writer) -> None:
    before = snapshot(tmp_path)
    with open_readonly(catalogue_in(tmp_path)) as catalogue:
        assert read_everything(catalogue) == {A, B}
        assert snapshot(tmp_path) == before
        writer.tell("hold more")
        assert len(read_everything(catalogue)) == 302, "a commit is seen by an open reader"


def test_a_directory_that_cannot_be_written_can_be_read(tmp_path: Path, writer: Writer) -> None:
    writer.kill()
    tmp_path.chmod(0o500)
    try:
        with open_readonly(catalogue_in(tmp_path)) as catalogue:
            assert read_everything(catalogue) == {A, B}
    finally:
        tmp_path.chmod(0o700)


def test_no_catalogue_is_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "catalogue.db"
    with open_readonly(path) as catalogue:
        assert catalogue.mirrors() == []
        assert read_everything(catalogue) == set()
        assert catalogue.mirror("M").totals() == Totals(0, 0)
        assert catalogue.mirror("M").last_run() is None
    assert not path.parent.exists()


def test_a_log_without_its_index_is_read_and_its_successor_followed(tmp_path: Path, writer: Writer) -> None:
    writer.kill()
    schema.companions(catalogue_in(tmp_path))[1].unlink()
    with open_readonly(catalogue_in(tmp_path)) as catalogue:
        assert read_everything(catalogue) == {A, B}
        second = Writer(tmp_path)
        second.tell("hold x")
        assert len(list(catalogue.mirror("M").records())) == 302
        second.kill()


# --- a reader that stays


def test_a_reader_follows_a_writer_that_comes_and_goes(tmp_path: Path, writer: Writer) -> None:
    writer.end()
    with open_readonly(catalogue_in(tmp_path)) as catalogue:
        assert len(list(catalogue.mirror("M").records())) == 2
        second = Writer(tmp_path)
        second.tell("hold x")
        assert len(list(catalogue.mirror("M").records())) == 302
        second.tell("checkpoint")
        second.tell("hold y")
        assert len(list(catalogue.mirror("M").records())) == 602
        second.end()
        assert len(list(catalogue.mirror("M").records())) == 602
        third = Writer(tmp_path)
        third.tell("hold z")
        third.end()
        assert len(list(catalogue.mirror("M").records())) == 902


def test_a_reader_follows_a_killed_writers_successor(tmp_path: Path, writer: Writer) -> None:
    with open_readonly(catalogue_in(tmp_path)) as catalogue:
        assert len(list(catalogue.mirror("M").records())) == 2
        writer.tell("hold x")
        writer.kill()
        assert len(list(catalogue.mirror("M").records())) == 302
        second = Writer(tmp_path)
        second.tell("hold y")
        second.tell("checkpoint")
        second.tell("hold z")
        assert len(list(catalogue.mirror("M").records())) == 902
        second.kill()


def test_a_reader_follows_a_catalogue_that_was_replaced(tmp_path: Path, writer: Writer) -> None:
    with open_readonly(catalogue_in(tmp_path)) as catalogue:
        assert catalogue.mirror("M").record(A) is not None
        writer.kill()
        schema.set_aside(catalogue_in(tmp_path))
        second = Writer(tmp_path)
        second.tell("hold x")
        assert len(list(catalogue.mirror("M").records())) == 302
        second.kill()


def test_a_read_during_which_a_writer_came_is_repeated(
    tmp_path: Path, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.end()
    with open_readonly(catalogue_in(tmp_path)) as catalogue:
        mirror = catalogue.mirror("M")
        read, intruders = Reader.rows, [Writer]

        def interrupted(self: Reader, statement: str, parameters: Parameters = ()) -> list[Row]:
            rows = read(self, statement, parameters)
            if intruders:
                intruder = intruders.pop()(tmp_path)
                intruder.tell("hold x")
                intruder.end()
            return rows

        monkeypatch.setattr(Reader, "rows", interrupted)
        assert mirror.totals().files == 302


def test_a_dry_run_ends_when_the_catalogue_changes_under_it(tmp_path: Path, writer: Writer) -> None:
    writer.end()
    with open_readonly(catalogue_in(tmp_path)) as catalogue:
        findings = catalogue.mirror("M").findings("dry")
        findings.absent_below(ROOT)
        assert findings.count_absences(confirmed=False) == 2
        second = Writer(tmp_path)
        second.tell("hold x")
        second.end()
        with pytest.raises(CatalogueError, match="changed by another syncd"):
            findings.count_absences(confirmed=False)


# --- the reading half of the port


@pytest.fixture
def dry(tmp_path: Path) -> Iterator[ReadonlyCatalogue]:
    with open_catalogue(tmp_path) as catalogue:
        mirror = catalogue.mirror("M")
        mirror.use_source("one")
        hold(mirror, held(A, seen(5, file_id=9)), held(B))
    with open_readonly(catalogue_in(tmp_path)) as reading:
        yield reading


def test_a_dry_run_has_the_port_and_cannot_write(dry: ReadonlyCatalogue) -> None:
    mirror = dry.mirror("M")
    port: MirrorCatalogue = mirror
    assert port.totals() == Totals(2, 15)
    refused: list[Callable[[], object]] = [
        lambda: port.declare([intent("1", A)]),
        lambda: port.commit([Dropped(A)], [], run_id="r", now_ms=NOW_MS),
        lambda: port.forget_partial(A),
        lambda: port.save_partial(port.partials()[0] if port.partials() else None),  # type: ignore[arg-type]
    ]
    for write in refused:
        with pytest.raises(CatalogueError, match="only to be read"):
            write()


def test_a_dry_run_sees_another_servers_ids_as_unknown(dry: ReadonlyCatalogue) -> None:
    mirror = dry.mirror("M")
    expected = record_of(held(A, seen(5, file_id=9)), NOW_MS)
    mirror.use_source("one")
    assert mirror.record(A) == expected
    mirror.use_source("two")
    unknown = expected._replace(ctime_ns=0, file_id=0)
    assert mirror.record(A) == unknown
    assert mirror.held_in(ROOT).records == {"a": unknown}
    assert dict(mirror.records())[A] == unknown
    assert not mirror.holds_identity(seen(5, file_id=9))


# --- near names


@pytest.mark.parametrize(
    ("held_paths", "asked", "near"),
    [
        (["d/Letter 1.JPG"], "d/letter 1.jpg", ["d/Letter 1.JPG"]),
        (["d/letter  1 .jpg"], "d/letter 1.jpg", ["d/letter  1 .jpg"]),
        (["d/e\u0301t\u00e9.jpg"], "d/\u00e9te\u0301.jpg", ["d/e\u0301t\u00e9.jpg"]),
        (["Hin Typed/x.jpg"], "hin typed/X.jpg", ["Hin Typed/x.jpg"]),
        (["d/x.jpg"], "e/f/x.jpg", ["d/x.jpg"]),
        (["x.jpg"], "d/x.jpg", ["x.jpg"]),
        (["d/x.jpg", "d/X.jpg"], "d/x.jpg", ["d/X.jpg"]),
        ([f"{n}/x.jpg" for n in range(9)], "e/x.jpg", ["0/x.jpg", "1/x.jpg", "2/x.jpg"]),
        (["d/other.jpg"], "d/x.jpg", []),
        ([], "d/x.jpg", []),
    ],
)
def test_near_names(tmp_path: Path, held_paths: list[str], asked: str, near: list[str]) -> None:
    with open_catalogue(tmp_path) as catalogue:
        mirror = catalogue.mirror("M")
        hold(mirror, *map(held, held_paths))
        assert mirror.near_names(RelPath(asked)) == near


def test_the_new_name_after_a_rename_comes_first(tmp_path: Path) -> None:
    with open_catalogue(tmp_path) as catalogue:
        mirror = catalogue.mirror("M")
        hold(mirror, held("d/old.jpg", content="x"), held("e/old.jpg"))
        facts = [Dropped(RelPath("d/old.jpg")), held("d/quite new.jpg", content="x")]
        mirror.commit(facts, [], run_id="r2", now_ms=NOW_MS)
        assert mirror.near_names(RelPath("d/old.jpg")) == ["d/quite new.jpg", "e/old.jpg"]
        mirror.commit([Dropped(RelPath("d/quite new.jpg"))], [], run_id="r3", now_ms=NOW_MS)
        assert mirror.near_names(RelPath("d/old.jpg")) == ["e/old.jpg"]


def test_what_status_asks(tmp_path: Path) -> None:
    with open_catalogue(tmp_path) as catalogue:
        mirror = catalogue.mirror("M")
        hold(mirror, held(A, seen(5)), held(B, seen(6)))
        failures = [Unheld(RelPath(f"f{n}"), Reason.DENIED, "no") for n in range(5)]
        finish(mirror, "r1", mirror.findings("r1"), exit_code=3, failures=failures, report={"fetched": 2})
    with open_readonly(catalogue_in(tmp_path)) as reading:
        (summary,) = reading.mirrors()
        facts = reading.mirror("M")
        assert (summary.name, summary.totals, summary.last_success) == ("M", Totals(2, 11), "2026-01-01T10:00:05Z")
        last = facts.last_run()
        assert last is not None
        assert (last.run_id, last.state, last.exit_code, last.report) == ("r1", "ok", 3, {"fetched": 2})
        assert [unheld.path for unheld in facts.unheld(2)] == ["f0", "f1"]
        assert reading.owed().count == facts.owed().count == 2


def test_a_writer_and_its_readers_close_twice_without_harm(tmp_path: Path) -> None:
    catalogue = Catalogue.open(catalogue_in(tmp_path), app_version="1")
    catalogue.close()
    catalogue.close()
    reading = open_readonly(catalogue_in(tmp_path))
    reading.close()
    reading.close()
