"""Damage of every kind is named as such, kept aside and never believed; a full disk is waited out."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from syncd.core.errors import CatalogueDamaged, CatalogueError, DiskFull, SyncdError
from syncd.core.model import Dropped, RelPath
from syncd.store import schema
from syncd.store.catalogue import Catalogue
from syncd.store.reading import open_readonly
from syncd.store.sql import translate
from tests.support.catalogues import NOW_MS, finish, held, hold, intent, open_catalogue, seen

PAGE = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with open_catalogue(tmp_path) as catalogue:
        mirror = catalogue.mirror("M")
        hold(mirror, *(held(f"d{n % 7}/{n}", seen(n, file_id=n + 1)) for n in range(1_500)))
    return tmp_path / "catalogue.db"


def truncate_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // PAGE * PAGE)


def truncate_to_a_page(path: Path) -> None:
    os.truncate(path, PAGE)


def truncate_to_nothing(path: Path) -> None:
    os.truncate(path, 0)


def zero_the_header(path: Path) -> None:
    path.write_bytes(bytes(100) + path.read_bytes()[100:])


def zero_the_first_page(path: Path) -> None:
    path.write_bytes(bytes(PAGE) + path.read_bytes()[PAGE:])


def write_prose(path: Path) -> None:
    path.write_bytes(b"Dear Sir, " * 1_000)


def make_it_anothers(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipes (name)")


def lose_a_table(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE intents")


def leave_only_the_log(path: Path) -> None:
    path.rename(path.with_name("catalogue.db-wal"))


def make_it_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: list[Callable[[Path], None]] = [
    truncate_half,
    truncate_to_a_page,
    truncate_to_nothing,
    zero_the_header,
    zero_the_first_page,
    write_prose,
    make_it_anothers,
    lose_a_table,
    leave_only_the_log,
    make_it_a_directory,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_seen_at_once_and_set_aside(path: Path, damage: Callable[[Path], None]) -> None:
    damage(path)
    for open_ in (lambda: Catalogue.open(path, app_version="1"), lambda: open_readonly(path)):
        with pytest.raises(CatalogueDamaged) as caught:
            open_()
        assert str(path) in caught.value.message
        assert caught.value.exit_code == 15
        assert caught.value.hint
    aside = schema.set_aside(path)
    assert not path.exists()
    assert aside.name.startswith("catalogue.damaged-20")
    with open_catalogue(path.parent) as catalogue:
        assert catalogue.mirrors() == []
    assert len(list(path.parent.glob("catalogue.damaged-*.db"))) <= 1


def test_what_is_set_aside_takes_its_log_along_and_covers_nothing(path: Path) -> None:
    for content in (b"1", b"2"):
        for companion in (path, *schema.companions(path)):
            companion.write_bytes(content)
        schema.set_aside(path)
    kept = sorted(path.parent.glob("catalogue.damaged-*"))
    assert len(kept) == 6
    assert sorted(name.read_bytes() for name in kept) == [b"1"] * 3 + [b"2"] * 3


def damage_pages(path: Path, chooser: random.Random) -> None:
    with path.open("r+b") as file:
        for _ in range(chooser.randint(1, 4)):
            page = chooser.randrange(1, path.stat().st_size // PAGE)
            for _ in range(chooser.randint(1, 40)):
                file.seek(page * PAGE + chooser.randrange(PAGE) // chooser.choice((1, 1, 64)))
                file.write(bytes([chooser.randrange(256)]))


def use_everything(path: Path) -> None:
    with Catalogue.open(path, app_version="1") as catalogue:
        mirror = catalogue.mirror("M")
        for found, record in mirror.records():
            assert isinstance(found, str)
            assert len(record.sha256) == 64
        for directory in mirror.known_directories_below(RelPath("")):
            mirror.held_in(directory)
        catalogue.announcements(0, 10_000)
        mirror.near_names(RelPath("D1/1"))
        findings = mirror.findings("r1")
        findings.absent_below(RelPath(""))
        list(findings.absences(confirmed=False))
        mirror.declare([intent("1", "d1/new")])
        mirror.commit([held(f"d1/{n}") for n in range(100)], mirror.open_intents(), run_id="r", now_ms=NOW_MS)
        mirror.commit([Dropped(RelPath(f"d2/{n}")) for n in range(100)], [], run_id="r", now_ms=NOW_MS)
        finish(mirror, "r1", findings)


@pytest.mark.parametrize("seed", range(40))
def test_flipped_bytes_are_damage_or_go_unnoticed_but_never_a_crash(path: Path, seed: int) -> None:
    damage_pages(path, random.Random(seed))
    with suppress(CatalogueError):  # named; CatalogueDamaged as a rule
        use_everything(path)


def test_flipped_bytes_are_found_as_a_rule(path: Path) -> None:
    whole = path.read_bytes()
    found = 0
    for seed in range(20):
        path.write_bytes(whole)
        for companion in schema.companions(path):
            companion.unlink(missing_ok=True)
        chooser = random.Random(seed)
        with path.open("r+b") as file:
            for page in chooser.sample(range(1, len(whole) // PAGE), 20):
                file.seek(page * PAGE)
                file.write(chooser.randbytes(64))  # the page's own header
        try:
            use_everything(path)
        except CatalogueDamaged:
            found += 1
    assert found == 20


@pytest.mark.parametrize(
    ("code", "kind", "exit_code"),
    [
        (sqlite3.SQLITE_FULL, DiskFull, 14),
        (sqlite3.SQLITE_CORRUPT, CatalogueDamaged, 15),
        (sqlite3.SQLITE_CORRUPT_INDEX, CatalogueDamaged, 15),
        (sqlite3.SQLITE_NOTADB, CatalogueDamaged, 15),
        (sqlite3.SQLITE_BUSY, CatalogueError, 15),
        (sqlite3.SQLITE_LOCKED, CatalogueError, 15),
        (sqlite3.SQLITE_READONLY, CatalogueError, 15),
        (sqlite3.SQLITE_IOERR_FSYNC, CatalogueError, 15),
        (sqlite3.SQLITE_CONSTRAINT, CatalogueError, 15),
    ],
)
def test_one_table_translates_sqlites_errors(code: int, kind: type[SyncdError], exit_code: int) -> None:
    error = sqlite3.DatabaseError("what SQLite said")
    error.sqlite_errorcode = code
    translated = translate(error, "/state/catalogue.db")
    assert type(translated) is kind
    assert translated.exit_code == exit_code
    assert "/state/catalogue.db" in translated.message


def test_a_catalogue_that_another_program_locks_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncd.store.sql.BUSY_TIMEOUT_MS", 50)
    with Catalogue.open(path, app_version="1") as catalogue, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(CatalogueError, match="locked by another program"):
            hold(catalogue.mirror("M"), held("x"))
        other.rollback()
        hold(catalogue.mirror("M"), held("x"))


# --- a full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = tmp_path / "small"
    mount.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(mount)], check=False, capture_output=True
    )
    if made.returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield mount
    if subprocess.run(["umount", str(mount)], check=False).returncode:
        subprocess.run(["umount", "--lazy", str(mount)], check=True)
        pytest.fail("something in the small disk is still open")


def fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12):
            while True:
                try:
                    if file.write(bytes(size)) < size:
                        break
                except OSError:
                    break
    return ballast


def test_a_full_disk_is_disk_full_and_work_goes_on_afterwards(small_disk: Path) -> None:
    with open_catalogue(small_disk) as catalogue:
        mirror = catalogue.mirror("M")
        hold(mirror, *(held(f"before/{n}") for n in range(100)))
        mirror.declare([intent("1", "a")])
        ballast = fill(small_disk)
        with pytest.raises(DiskFull) as caught:
            for n in range(1_000):
                hold(mirror, *(held(f"during/{n}/{k}") for k in range(200)))
        assert str(small_disk) in caught.value.hint
        held_then = mirror.totals().files
        assert sum(1 for _ in mirror.records()) == held_then
        assert len(mirror.open_intents()) == 1
        ballast.unlink()
        hold(mirror, *(held(f"after/{n}") for n in range(100)))
        assert mirror.totals().files == held_then + 100
    with open_catalogue(small_disk) as catalogue, closing(sqlite3.connect(catalogue.path)) as check:
        assert check.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert catalogue.mirror("M").totals().files == held_then + 100


def test_no_room_for_a_new_catalogue_is_disk_full_and_leaves_none(small_disk: Path) -> None:
    ballast = fill(small_disk)
    with pytest.raises(DiskFull):
        open_catalogue(small_disk)
    assert not (small_disk / "catalogue.db").exists()
    ballast.unlink()
    with open_catalogue(small_disk) as catalogue:
        hold(catalogue.mirror("M"), held("a"))


def test_no_room_to_open_an_existing_catalogue_is_disk_full(small_disk: Path) -> None:
    with open_catalogue(small_disk) as catalogue:
        hold(catalogue.mirror("M"), held("a"))
    ballast = fill(small_disk)
    try:
        with open_catalogue(small_disk) as catalogue:
            hold(catalogue.mirror("M"), *(held(f"b/{n}") for n in range(5_000)))
            pytest.fail("there was room after all")
    except DiskFull:
        pass
    ballast.unlink()
    with open_catalogue(small_disk) as catalogue:
        assert catalogue.mirror("M").record(RelPath("a")) is not None
