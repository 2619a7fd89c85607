"""Large groups: what a commit makes of many facts at once is what it makes of each, wherever the statements are cut."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.core.model import Dropped, FileEvent, Fingerprint, Intent, IntentKind, RelPath
from syncd.store.catalogue import Catalogue, SqliteMirrorCatalogue
from syncd.store.handles import is_there, looks_for_names
from syncd.store.sql import write_flat
from tests.support.catalogues import NOW_MS, digest, held, hold, open_catalogue, record_of, seen

NAMES = ("a.jpg", "ä.jpg", 'with "quotes" and \\', "\U0001f600.jpg", "अ\u200c.jpg", "tab\there")


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    with open_catalogue(tmp_path) as catalogue:
        yield catalogue


@pytest.fixture
def mirror(catalogue: Catalogue) -> SqliteMirrorCatalogue:
    return catalogue.mirror("M")


def test_a_large_group_over_many_directories(mirror: SqliteMirrorCatalogue, catalogue: Catalogue) -> None:
    paths = [f"d{n % 97}/{n}-{NAMES[n % len(NAMES)]}" for n in range(1_173)] + list(NAMES)
    before = [held(path, content="before") for path in paths[::3]]
    hold(mirror, *before)
    now = [held(path, seen(size=n, file_id=n)) for n, path in enumerate(paths)]
    gone = [Dropped(fact.path) for fact in now[::7]] + [Dropped(RelPath("d1/never")), Dropped(RelPath("nowhere/never"))]
    mirror.commit([*now, *gone], [], run_id="r1", now_ms=NOW_MS + 5)
    left = {fact.path: fact for n, fact in enumerate(now) if n % 7}
    assert dict(mirror.records()) == {path: record_of(fact, NOW_MS + 5) for path, fact in left.items()}
    assert mirror.totals() == (len(left), sum(fact.fingerprint.size for fact in left.values()))
    news = [each for each in catalogue.announcements(0, 5_000) if each.run_id == "r1"]
    told = [(each.path, each.event, each.sha256) for each in news]
    was = {fact.path for fact in before}
    arrived = [(f.path, FileEvent.UPDATED if f.path in was else FileEvent.READY, f.sha256) for f in now]
    removed = [(f.path, FileEvent.REMOVED, f.sha256) for f in now[::7]]
    assert told == arrived + removed


@pytest.mark.parametrize("count", [0, 1, 7, 8, 63, 65, 511, 512, 513, 1_100])
def test_rows_that_lie_end_to_end(count: int) -> None:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.execute("CREATE TABLE t (run TEXT, one INTEGER, other TEXT, gap TEXT)")
    values: list[Any] = []
    for n in range(count):
        values += (n, f"v{n}")
    write_flat(db, "INSERT INTO t (run, gap, one, other) VALUES {}", "(?1, NULL, ?, ?)", values, ("r",))
    assert db.execute("SELECT * FROM t ORDER BY one").fetchall() == [("r", n, f"v{n}", None) for n in range(count)]
    db.close()


def test_intents_come_back_as_they_were(mirror: SqliteMirrorCatalogue) -> None:
    strange = Fingerprint(-1, -(2**70), 2**64, 2**64 - 1)
    intents = [
        Intent(f"r.{n}", kind, RelPath(name), digest(name), strange, f"s{n}", RelPath(f"old/{name}"))
        for n, (name, kind) in enumerate((name, kind) for name in NAMES for kind in IntentKind)
    ]
    mirror.declare(intents)
    assert mirror.open_intents() == intents
    mirror.commit([], intents[:3], run_id="r", now_ms=NOW_MS)
    assert mirror.open_intents() == intents[3:]
    mirror.commit([], intents[3:], run_id="r", now_ms=NOW_MS)
    assert mirror.open_intents() == []


def test_a_group_is_closed_by_whoever_knows_its_ids(mirror: SqliteMirrorCatalogue, catalogue: Catalogue) -> None:
    intents = [Intent(f"r.{n}", IntentKind.RETIRE, RelPath(f"{n}"), digest("x"), seen()) for n in range(5)]
    mirror.declare(intents)
    catalogue.mirror("M").commit([], list(reversed(intents)), run_id="r", now_ms=NOW_MS)
    assert mirror.open_intents() == []


@pytest.mark.parametrize("file_system", ["tmpfs", "ext4", "nfs4", ""])
def test_what_is_there_is_seen_a_link_that_leads_nowhere_too(tmp_path: Path, file_system: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        there = looks_for_names(folder, file_system)
        assert [there(name, folder) for name in ("file", "folder", "link", "none")] == [True, True, True, False]
    finally:
        os.close(folder)


def test_the_quick_look_is_not_believed_where_it_could_say_no_of_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some sandboxes refuse faccessat2(2), and what a network says for a moment is no answer either."""
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        assert looks_for_names(folder, "nfs4") is is_there
        monkeypatch.setattr(os, "access", lambda *_, **__: False)
        assert looks_for_names(folder, "ext4") is is_there

        def unknown(*_: object, **__: object) -> bool:
            raise NotImplementedError

        monkeypatch.setattr(os, "access", unknown)
        assert looks_for_names(folder, "ext4") is is_there
    finally:
        os.close(folder)
