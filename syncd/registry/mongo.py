"""The registry in MongoDB: ports.Registry, and what `syncd where` and `syncd hosts` ask.

Every write waits for the journal of a majority, as the workers' results do: a bookmark that outlived what it stands for
would hide a gap, and nothing waits for the registry anyway. It needs guarded updates of single documents and one index,
so FerretDB serves as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from pymongo import DeleteOne, ReturnDocument, UpdateOne

from syncd.core.model import RelPath
from syncd.ports import BeatAnswer, Bookmark, RegistryEntry
from syncd.registry import documents as doc
from syncd.registry.documents import FILES, HOSTS, Holding, HostRow
from syncd.registry.errors import RegistryAway, RegistryFailed
from syncd.registry.link import UNHURRIED, Documents, Link, Patience, silent

BATCH_MAX = 90
"""Entries in one bulk. FerretDB 1.24 hangs at the 100th update of one command (measured)."""
BATCH_FIRST = 16
QUICK_S, SLOW_S = 0.5, 2.0
"""A bulk that took less than the first lets the next be larger, one that took more than the other makes it smaller."""
STORE_TRIES = 3
REMOVED_AT_ONCE = 500
NAMESAKES_MAX = 10
HOSTS_MAX = 10_000
HOLDINGS_MAX = 10_000
_ASKED_AT_ONCE = 500


class MongoRegistry:
    """ports.Registry on MongoDB, and its reading side. Parameters as Link."""

    def __init__(
        self,
        uri: Callable[[], str],
        *,
        where: str = "the connection string",
        warn: Callable[[str], None] = silent,
        patience: Patience = UNHURRIED,
    ) -> None:
        self._link = Link(uri, where=where, warn=warn, patience=patience)
        self._batch = BATCH_FIRST
        self._indexed_at = 0

    @property
    def database(self) -> str:
        """The name of the database in use."""
        return self._link.database

    @property
    def place(self) -> str:
        """HOST:PORT of the server, "?" before the first call."""
        return self._link.place

    # --- ports.Registry

    def beat(self, host: Mapping[str, Any]) -> BeatAnswer:
        host_id, fields = str(host["id"]), doc.host_fields(host)

        def work(db: Documents) -> BeatAnswer:
            stored: Mapping[str, Any] = (
                db[HOSTS].find_one_and_update(
                    {"_id": host_id},
                    {"$set": fields, "$currentDate": {"at": True}},
                    upsert=True,
                    return_document=ReturnDocument.AFTER,
                )
                or {}
            )
            now = stored.get("at")
            lately = doc.aware(now if isinstance(now, datetime) else datetime.now(UTC)) - _STALE_AFTER
            others = {"name": fields["name"], "_id": {"$ne": host_id}, "at": {"$gt": lately}}
            found = db[HOSTS].find(others, {"_id": True}).limit(NAMESAKES_MAX)
            return BeatAnswer(
                doc.bookmark_of(stored.get("bookmark")), tuple(sorted(str(each["_id"]) for each in found))
            )

        return self._link.call(work)

    def mark(self, host_id: str, bookmark: Bookmark, before: Bookmark | None) -> None:
        fields = {"bookmark": doc.bookmark_fields(bookmark)}
        there: dict[str, Any] = {"_id": host_id}
        if before is not None:
            there |= {"bookmark.through": before.through, "bookmark.mark": before.mark}
        done = self._link.call(lambda db: db[HOSTS].update_one(there, {"$set": fields}))
        if not done.matched_count:
            raise RegistryFailed(f"MongoDB at {self.place} does not know any more how far this host's files were")

    def record(self, host_id: str, entries: Sequence[RegistryEntry]) -> None:
        waiting = list(_newest(host_id, entries).items())
        while waiting:
            batch, waiting = dict(waiting[: self._batch]), waiting[self._batch :]
            self._write(partial(_store, host_id=host_id, batch=batch))

    def entries(
        self, host_id: str, mirror: str, after: RelPath, until: RelPath | None, limit: int
    ) -> list[RegistryEntry]:
        first = doc.key(host_id, mirror, after)
        end = {"$lt": doc.after_mirror(host_id, mirror)} if until is None else {"$lte": doc.key(host_id, mirror, until)}

        def work(db: Documents) -> list[RegistryEntry]:
            found = db[FILES].find({"_id": {"$gt": first, **end}}).sort("_id", 1).limit(limit)
            return [doc.entry_of(document) for document in found]

        return self._link.call(work)

    def drop(self, host_id: str, entries: Sequence[RegistryEntry]) -> None:
        wrong = [DeleteOne({"_id": doc.key_of(host_id, entry), "generation": entry.generation}) for entry in entries]
        while wrong:
            batch, wrong = wrong[: self._batch], wrong[self._batch :]
            self._write(partial(_delete, batch=batch))

    def keep_only(self, host_id: str, mirrors: Sequence[str]) -> None:
        for first, end in doc.ranges_beside(host_id, mirrors):
            while self._link.call(lambda db, first=first, end=end: _remove_some(db, first, end)):  # type: ignore[misc]
                pass

    def close(self) -> None:
        self._link.close()

    # --- for people

    def hosts(self) -> list[HostRow]:
        """Return all hosts that have ever registered, by name and id; ages are by MongoDB's clock.

        Raises: the errors of registry.errors.
        """

        def work(db: Documents) -> list[HostRow]:
            told = db.client.admin.command("hello").get("localTime")
            now = doc.aware(told if isinstance(told, datetime) else datetime.now(UTC))
            return [doc.host_row(document, now) for document in db[HOSTS].find().limit(HOSTS_MAX)]

        return sorted(self._link.call(work), key=lambda row: (row.name, row.id))

    def holdings(self, server_paths: Sequence[str]) -> list[Holding]:
        """Return which hosts hold these files, by path and host. Raises as hosts()."""
        asked = list(server_paths)[:_ASKED_AT_ONCE]

        def work(db: Documents) -> list[Holding]:
            found = db[FILES].find({"server_path": {"$in": asked}, "removed": False}).limit(HOLDINGS_MAX)
            return [doc.holding_of(document) for document in found]

        return sorted(self._link.call(work), key=lambda held: (held.server_path, held.host_id))

    # --- plumbing

    def _write(self, work: Callable[[Documents], object]) -> None:
        """Write one batch, and let the next be as large as goes quickly."""

        def indexed(db: Documents) -> None:
            if self._indexed_at != self._link.connections:  # anew: somebody may have dropped the collection
                db[FILES].create_index([("server_path", 1)])
                self._indexed_at = self._link.connections
            work(db)

        began = time.monotonic()
        try:
            self._link.call(indexed)
        except RegistryAway:
            self._batch = max(1, self._batch // 4)
            raise
        took = time.monotonic() - began
        if took > SLOW_S:
            self._batch = max(1, self._batch // 2)
        elif took < QUICK_S:
            self._batch = min(BATCH_MAX, self._batch * 2)


_STALE_AFTER = timedelta(seconds=doc.STALE_AFTER_S)


def _newest(host_id: str, entries: Sequence[RegistryEntry]) -> dict[str, RegistryEntry]:
    """Return the newest entry of each id."""
    newest: dict[str, RegistryEntry] = {}
    for entry in entries:
        place = doc.key_of(host_id, entry)
        if place not in newest or newest[place].generation < entry.generation:
            newest[place] = entry
    return newest


def _store(db: Documents, host_id: str, batch: Mapping[str, RegistryEntry]) -> None:
    """Make entries that are not there, and renew those that are older, by updates that the server guards.

    One upsert with the guard in its filter would fail on a newer entry, as a duplicate; FerretDB then leaves out the
    rest of the bulk, and it finds quickly only what is asked for by its id alone.
    """
    for _ in range(STORE_TRIES):
        found = db[FILES].find({"_id": {"$in": list(batch)}}, {"generation": True})
        stored = {document["_id"]: doc.generation_of(document) for document in found}
        new, renewed = [], []
        for place, entry in batch.items():
            fields = doc.file_fields(host_id, entry)
            if place not in stored:
                new.append(UpdateOne({"_id": place}, {"$setOnInsert": fields}, upsert=True))
            elif stored[place] < entry.generation:
                older = {"_id": place, "generation": {"$lt": entry.generation}}
                renewed.append(UpdateOne(older, {"$set": fields}))
        if not new and not renewed:
            return
        if db[FILES].bulk_write(new + renewed, ordered=False).upserted_count == len(new):
            return
    raise RegistryFailed("another process writes the files of this host into the registry")


def _delete(db: Documents, batch: list[DeleteOne]) -> None:
    db[FILES].bulk_write(batch, ordered=False)


def _remove_some(db: Documents, first: str, end: str) -> int:
    """Remove a part of a range of ids, so that each call ends by its deadline; return how many."""
    found = db[FILES].find({"_id": {"$gte": first, "$lt": end}}, {"_id": True}).limit(REMOVED_AT_ONCE)
    ids = [document["_id"] for document in found]
    return db[FILES].delete_many({"_id": {"$in": ids}}).deleted_count if ids else 0
