"""The numbered feed of announcements, a page at a time, as `GET /api/v1/events` and `syncd events` show it."""

from __future__ import annotations

from typing import Any, Protocol

from syncd.engine.relay import message_of
from syncd.ports import Announcement


class FeedReads(Protocol):
    """What is asked of the catalogue."""

    def announcements(self, since: int, limit: int) -> list[Announcement]:
        """Return the announcements after a number, published or not."""

    def last_announcement(self) -> int:
        """Return the number of the newest announcement."""

    def oldest_announcement(self) -> int:
        """Return the number of the oldest announcement that is kept; the next one's where none is."""


def page(feed: FeedReads, host: str, since: int, limit: int) -> dict[str, Any]:
    """Return {"events": [FileReady v1 + "seq"], "next", "oldest", "gap"}: the events after `since`, at most `limit`.

    next: what to ask with the next time. gap: some after `since` are not kept any more, or `since` is a number that was
    never given (of another catalogue): what is kept follows. since 0: all that is kept; -1: none, only `next`.
    """
    last = feed.last_announcement()
    oldest = feed.oldest_announcement()
    if since < 0:
        return {"events": [], "next": last, "oldest": oldest, "gap": False}
    rows = feed.announcements(since if since <= last else 0, limit)
    return {
        "events": [{**message_of(row, host), "seq": row.seq} for row in rows],
        "next": rows[-1].seq if rows else min(since, last),
        "oldest": oldest,
        "gap": since > last or 0 < since < oldest - 1,
    }
