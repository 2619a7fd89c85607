# ruff: noqa: S608  (statements are put together from names in this file and rows.py; values are always bound)
"""What can be asked of the catalogue as a whole: shared by its writer and by readers without a lock (reading.py)."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from syncd.core.model import RelPath
from syncd.core.paths import split
from syncd.ports import Announcement, ClosedRun
from syncd.store import outbox
from syncd.store.rows import (
    ANNOUNCEMENT,
    OLDEST_OWED,
    RUN,
    MirrorSummary,
    Owed,
    RunRow,
    made,
    to_announcement,
    to_run,
    to_summary,
)
from syncd.store.sql import Reader

RECENT_CHANGES = 5_000


class CatalogueReads:
    """What is asked of the catalogue as a whole. Any thread; raises as MirrorReads."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def mirrors(self) -> list[MirrorSummary]:
        """Return all mirrors that the catalogue knows, by name."""
        rows = self._reader.rows(
            "SELECT name, uid, target, source_id, files, bytes, listed_at, last_success FROM mirrors ORDER BY name"
        )
        return made(to_summary, rows)

    def announcements(self, since: int, limit: int) -> list[Announcement]:
        """Return the numbered event feed after number `since`, published or not; a gap in the numbers is a trim."""
        return self._announcements(f"{ANNOUNCEMENT} WHERE o.seq > ? ORDER BY o.seq LIMIT ?", since, limit)

    def unpublished(self, limit: int, but_of: Collection[str] = ()) -> list[Announcement]:
        """Return the oldest announcements that nsqd has not accepted; but_of: without those of these mirrors."""
        owed = "o.seq > (SELECT published_through FROM feed) AND o.published_at IS NULL"
        if not but_of:
            return self._announcements(f"{ANNOUNCEMENT} WHERE {owed} ORDER BY o.seq LIMIT ?", limit)
        others = f"{ANNOUNCEMENT} WHERE {owed} AND m.name NOT IN (SELECT value FROM json_each(?))"
        rows = self._reader.rows(f"{others} ORDER BY o.seq LIMIT ?", (json.dumps(list(but_of)), limit))
        return made(to_announcement, rows)

    def published_since(self, at: str) -> Sequence[int]:
        """Return the numbers of what was accepted at or after `at` and is the newest of its path, owed rows counted.

        Looks at all that was announced since: on a connection of its own, so that no other read waits.
        """
        with self._reader.another() as reader:
            return outbox.newest_since(reader, at)

    def still_newest(self, numbers: Sequence[int], after: int) -> list[Announcement]:
        """Return those of these announcements whose path has not been announced again with a number above `after`."""
        chosen = json.dumps(list(numbers))
        newest = f"""{outbox.STILL_NEWEST} {ANNOUNCEMENT} WHERE o.seq IN (SELECT value FROM json_each(?))
                     AND (o.mirror_id, o.path) NOT IN (SELECT mirror_id, path FROM newer) ORDER BY o.seq"""
        return made(to_announcement, self._reader.rows(newest, (after, chosen, chosen)))

    def runs_to_announce(self, limit: int) -> list[ClosedRun]:
        """Return runs whose message is due since all their announcements were accepted, the oldest first."""
        return outbox.closed_runs(self._reader, limit)

    def count_owed(self) -> int:
        """Return how many announcements have not been accepted."""
        row = self._reader.row("SELECT coalesce(sum(owed), 0) FROM mirrors")
        return int(row[0]) if row else 0

    def oldest_announcement(self) -> int:
        """Return the number of the oldest announcement that is kept; the next one's number where none is."""
        row = self._reader.row("SELECT coalesce((SELECT min(seq) FROM outbox), next_seq) FROM feed")
        return int(row[0]) if row else 1

    def count_events(self, after: int, through: int) -> list[tuple[str, str, int]]:
        """Return (mirror, event, how many) of the announcements numbered after one, through another."""
        rows = self._reader.rows(
            "SELECT m.name, o.event, count(*) FROM outbox AS o JOIN mirrors AS m ON m.id = o.mirror_id"
            " WHERE o.seq > ? AND o.seq <= ? GROUP BY m.name, o.event",
            (after, through),
        )
        return [(str(name), str(event), int(count)) for name, event, count in rows]

    def recent_directories(self, mirror: str, limit: int) -> list[RelPath]:
        """Return the directories of this mirror in which files were announced lately, the newest first."""
        rows = self._reader.rows(
            "SELECT o.path FROM outbox AS o CROSS JOIN mirrors AS m ON m.id = o.mirror_id"
            " WHERE o.seq > (SELECT next_seq FROM feed) - ? AND m.name = ? ORDER BY o.seq DESC",
            (RECENT_CHANGES, mirror),
        )
        found = dict.fromkeys(split(RelPath(path))[0] for (path,) in rows)
        return list(found)[:limit]

    def owed(self) -> Owed:
        """Return what has not been announced yet, over all mirrors."""
        oldest = self._reader.row(f"{OLDEST_OWED} ORDER BY seq LIMIT 1")
        return Owed(self.count_owed(), oldest[0] if oldest else "")

    def last_announcement(self) -> int:
        """Return the number of the newest announcement; before the first, one less than its number will be."""
        row = self._reader.row("SELECT next_seq - 1 FROM feed")
        return int(row[0]) if row else 0

    def runs(self, limit: int = 20) -> list[RunRow]:
        """Return the latest runs of all mirrors, the newest first."""
        return made(to_run, self._reader.rows(f"{RUN} ORDER BY r.seq DESC LIMIT ?", (limit,)))

    def run(self, run_id: str) -> list[RunRow]:
        """Return one run's rows, one a mirror it saw."""
        return made(to_run, self._reader.rows(f"{RUN} WHERE r.run_id = ? ORDER BY r.seq", (run_id,)))

    def run_days_since(self, day: str) -> int:
        """Return on how many days after `day` (YYYY-MM-DD, UTC) syncd ran: what the trash ages by."""
        row = self._reader.row("SELECT count(*) FROM run_days WHERE day > ?", (day,))
        return int(row[0]) if row else 0

    def _announcements(self, statement: str, *parameters: object) -> list[Announcement]:
        return made(to_announcement, self._reader.bulk(statement, 10, parameters))
