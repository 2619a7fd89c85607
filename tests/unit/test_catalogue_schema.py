"""Schema versions: creation, upgrade step by step with a copy before each, refusal of what is newer."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from syncd.core.errors import CatalogueDamaged, CatalogueError, CatalogueTooNew
from syncd.store import schema
from syncd.store.catalogue import Catalogue
from syncd.store.reading import open_readonly
from syncd.store.sql import connect_writer
from tests.support.catalogues import held, hold, open_catalogue


def add_colour(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE mirrors ADD COLUMN colour TEXT NOT NULL DEFAULT 'red'")


def paint_and_fail(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE mirrors SET colour = 'blue'")
    raise sqlite3.OperationalError("no paint")


def paint(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE mirrors SET colour = 'blue'")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with open_catalogue(tmp_path) as catalogue:
        hold(catalogue.mirror("M"), held("a"))
    return tmp_path / "catalogue.db"


NOW = len(schema.MIGRATIONS)


def upgrade(path: Path, *more: schema.Migration, version: str = "9.9") -> None:
    with closing(connect_writer(path)) as connection:
        schema.upgrade(connection, path, version, (*schema.MIGRATIONS, *more))


def ask(path: Path, question: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(question).fetchall()


def test_a_new_catalogue_says_who_wrote_it(path: Path) -> None:
    assert ask(path, "PRAGMA user_version") == [(NOW,)]
    meta = dict(ask(path, "SELECT key, value FROM meta"))
    assert meta["written_by"] == "1.2.3"
    assert str(meta["created_at"]).startswith("20")
    assert [name.name for name in path.parent.iterdir()] == ["catalogue.db"], "closed catalogues leave nothing beside"


def test_each_step_is_preceded_by_a_copy(path: Path) -> None:
    upgrade(path, add_colour, paint)
    assert ask(path, "PRAGMA user_version") == [(NOW + 2,)]
    assert ask(path, "SELECT name, colour FROM mirrors") == [("M", "blue")]
    assert ask(path, "SELECT value FROM meta WHERE key = 'written_by'") == [("9.9",)]
    first, second = (path.with_name(f"catalogue.db.v{NOW + step}.bak") for step in (0, 1))
    assert ask(first, "PRAGMA user_version") == [(NOW,)]
    assert ask(first, "SELECT count(*) FROM records") == [(1,)]
    assert ask(second, "SELECT colour FROM mirrors") == [("red",)]
    assert first.stat().st_mode & 0o777 == 0o600


def test_nothing_is_copied_where_nothing_is_to_be_done(path: Path) -> None:
    upgrade(path)
    assert list(path.parent.glob("*.bak")) == []


def test_a_step_that_fails_leaves_the_catalogue_as_before_it(path: Path) -> None:
    with pytest.raises(CatalogueError, match="no paint"):
        upgrade(path, add_colour, paint_and_fail)
    assert ask(path, "PRAGMA user_version") == [(NOW + 1,)]
    assert ask(path, "SELECT colour FROM mirrors") == [("red",)]
    upgrade(path, add_colour, paint)
    assert ask(path, "SELECT colour FROM mirrors") == [("blue",)]


def test_a_newer_catalogue_is_left_alone(path: Path) -> None:
    upgrade(path, add_colour)
    before = path.read_bytes()
    for open_ in (lambda: Catalogue.open(path, app_version="1.2.3"), lambda: open_readonly(path)):
        with pytest.raises(CatalogueTooNew, match=rf"syncd 9\.9 \(schema {NOW + 1}\)") as caught:
            open_()
        assert caught.value.exit_code == 15
        assert "syncd 9.9" in caught.value.hint
    assert path.read_bytes() == before


def test_an_older_catalogue_is_not_read_before_it_is_brought_up_to_date(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, add_colour))
    monkeypatch.setattr(schema.check, "__kwdefaults__", {"newest": NOW + 1})
    with pytest.raises(CatalogueError, match="older syncd") as caught:
        open_readonly(path)
    assert not isinstance(caught.value, CatalogueDamaged)
    assert caught.value.hint == "syncd run-once"


def test_creation_is_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.db"
    with pytest.raises(CatalogueError, match="no paint"):
        schema.create(path, "1", (*schema.MIGRATIONS, add_colour, paint_and_fail))
    assert not path.exists()
    with open_catalogue(tmp_path) as catalogue:
        assert catalogue.mirrors() == []
    assert [name.name for name in tmp_path.iterdir()] == ["catalogue.db"]
