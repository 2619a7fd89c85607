# ruff: noqa: S608  (statements are put together from names in this file; values are always bound)
"""Names that somebody may mean who names a file that is not held. Bounded: workers ask for what will never come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import itemgetter

from syncd.core.model import FileEvent, RelPath
from syncd.core.paths import fold, join, split
from syncd.store.sql import Reader

NEAR_NAMES = 3
RECENT_ANNOUNCEMENTS = 100_000
"""How far back a rename is looked for: the feed has no index by path, and this takes some 20 ms."""
SIBLINGS = 20_000
"""Names of one folder that are compared."""
FOLDERS = 64
"""Folders of one depth that are gone into: so many whose names are the same but for case, spaces and form."""
ELSEWHERE = 1_000
"""Folders that are looked into for the same name."""

_PLAIN = "(lower(replace(name, ' ', '')) = ? OR length(name) < length(CAST(name AS BLOB)))"
"""_folded() by SQLite, of names that are ASCII; the others are left for _folded() itself."""


class Near:
    """Looks for near names in one mirror. holds: says whether a path is held."""

    def __init__(self, reader: Reader, mirror_id: int, holds: Callable[[RelPath], bool]) -> None:
        self._reader = reader
        self._id = mirror_id
        self._holds = holds

    def names(self, path: RelPath) -> list[RelPath]:
        """Return held paths, at most NEAR_NAMES, the likeliest first.

        Its new name after a rename; the same but for case, spaces and Unicode form; the same basename elsewhere.
        """
        near: dict[RelPath, None] = {}
        for candidate in self._candidates(path):
            if candidate != path:
                near[candidate] = None
            if len(near) == NEAR_NAMES:
                break
        return list(near)

    def _candidates(self, path: RelPath) -> Iterator[RelPath]:
        yield from self._renamed_to(path)
        yield from self._respelled(path)
        yield from self._elsewhere(path)

    def _renamed_to(self, path: RelPath) -> Iterator[RelPath]:
        """Yield held paths that appeared with the same bytes in the run that removed `path`."""
        if self._reader.row("SELECT 1 FROM tombstones WHERE mirror_id = ? AND path = ?", (self._id, path)) is None:
            return  # it was never held
        recent = f"seq > (SELECT next_seq FROM feed) - {RECENT_ANNOUNCEMENTS}"
        removed = self._reader.row(
            f"SELECT run_id, sha256 FROM outbox WHERE {recent} AND mirror_id = ? AND path = ? AND event = ?"
            " ORDER BY seq DESC LIMIT 1",
            (self._id, path, FileEvent.REMOVED.value),
        )
        if removed is not None:
            rows = self._reader.rows(
                f"SELECT path FROM outbox WHERE {recent} AND mirror_id = ? AND run_id = ? AND sha256 = ? AND event = ?"
                " ORDER BY seq LIMIT ?",
                (self._id, *removed, FileEvent.READY.value, NEAR_NAMES),
            )
            yield from (RelPath(new) for (new,) in rows if self._holds(RelPath(new)))

    def _respelled(self, path: RelPath) -> Iterator[RelPath]:
        """Descend from the root by what names are but for case, spaces and form."""
        *above, name = path.split("/")
        root = self._reader.row("SELECT id FROM directories WHERE mirror_id = ? AND path = ''", (self._id,))
        level = [(root[0], RelPath(""))] if root is not None else []
        for folder in above:
            level = [found for inside in level[:FOLDERS] for found in self._folders(*inside, _folded(folder))]
        for directory_id, directory in level[:FOLDERS]:
            yield from (join(directory, found) for found in self._files(directory_id, _folded(name)))

    def _folders(self, parent_id: int, parent: RelPath, folded: str) -> Iterator[tuple[int, RelPath]]:
        begin = len(parent) + 2 if parent else 1
        select = f"SELECT id, substr(path, {begin}) AS name FROM directories WHERE parent_id = ?"
        for directory_id, name in self._alike(select, parent_id, folded):
            yield directory_id, join(parent, name)

    def _files(self, directory_id: int, folded: str) -> Iterator[str]:
        select = "SELECT directory_id, name FROM records WHERE directory_id = ?"
        return (name for _, name in self._alike(select, directory_id, folded))

    def _alike(self, select: str, of: int, folded: str) -> Iterator[tuple[int, str]]:
        """Yield those (id, name) rows of a folder whose name folds to `folded`, by name."""
        plain = folded.isascii()
        statement = f"SELECT * FROM ({select} LIMIT {SIBLINGS}) {f'WHERE {_PLAIN}' if plain else ''}"
        rows = self._reader.bulk(statement, 2, (of, folded) if plain else (of,))
        return iter(sorted(((key, name) for key, name in rows if _folded(name) == folded), key=itemgetter(1)))

    def _elsewhere(self, path: RelPath) -> Iterator[RelPath]:
        directory, name = split(path)
        elsewhere = f"""SELECT d.path FROM (SELECT id, path FROM directories WHERE mirror_id = ? ORDER BY path
                                            LIMIT {ELSEWHERE}) AS d
                        WHERE d.path <> ? AND EXISTS (SELECT 1 FROM records AS r
                                                      WHERE r.directory_id = d.id AND r.name = ?)
                        ORDER BY d.path LIMIT ?"""
        rows = self._reader.rows(elsewhere, (self._id, directory, name, NEAR_NAMES))
        yield from (join(RelPath(other), name) for (other,) in rows)


def _folded(name: str) -> str:
    """Return the form in which names that people mix up are equal: case, Unicode form, spaces."""
    return "".join(fold(name).split())
