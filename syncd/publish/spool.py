"""The embedded spool: where announcements go when no nsqd is configured."""

from __future__ import annotations

from collections.abc import Sequence


class SpoolPublisher:
    """ports.Publisher that accepts everything at once.

    The outbox in the catalogue is the durable, numbered feed already, which readers follow by number (`syncd events`,
    GET /api/v1/events) and which keeps 7 days: a second copy would add nothing. Nothing here can be lost by another
    program's restart, so `connections` stays 0 and nothing is ever sent again.
    """

    connections = 0

    def publish(self, topic: str, bodies: Sequence[bytes]) -> None:
        """Accept: what is in the outbox has arrived."""

    def close(self) -> None:
        """Nothing is open."""
