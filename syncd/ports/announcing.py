"""What the relay needs: the outbox, and who takes announcements."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Protocol

from syncd.core.named import NamedTuple
from syncd.ports.catalogue import Announcement


class ClosedRun(NamedTuple):
    """A finished run of one mirror that changed something; report: the mirror's object of DESIGN 4.2."""

    mirror: str
    run_id: str
    state: str
    finished_at: str
    report: dict[str, Any]


class Outbox(Protocol):
    """What is to be announced, durably kept; the relay's view of the catalogue. Thread-safe. Raises CatalogueError."""

    def unpublished(self, limit: int, but_of: Collection[str] = ()) -> list[Announcement]:
        """Return the oldest announcements that have not been accepted, in the order of commit; but_of: without those
        of these mirrors.
        """

    def mark_published(self, numbers: Iterable[int], *, at: str) -> None:
        """Note, durably, that these announcements were accepted (ISO 8601 UTC)."""

    def last_announcement(self) -> int:
        """Return the number of the newest announcement."""

    def published_since(self, at: str) -> Sequence[int]:
        """Return the numbers of what was accepted at or after `at` and is the newest of its path, owed rows counted."""

    def still_newest(self, numbers: Sequence[int], after: int) -> list[Announcement]:
        """Return those of these announcements whose path has not been announced again with a number above `after`."""

    def runs_to_announce(self, limit: int) -> list[ClosedRun]:
        """Return runs whose message is due since all their announcements were accepted, the oldest first."""

    def mark_run_announced(self, run: ClosedRun) -> None:
        """Note, durably, that a run's message was accepted."""

    def trim_announcements(self, before: str, *, owed_too: bool = False) -> int:
        """Remove what was accepted before a time (owed_too: all committed before it), a part at a time: how many."""

    def count_owed(self) -> int:
        """Return how many announcements have not been accepted."""


class Publisher(Protocol):
    """Takes announcements; used by one thread (close() by any). Connects when first needed.

    topic and bodies are as on the wire (core.wire). Every call ends by its deadline.
    """

    connections: int
    """How many connections have been made so far: what an earlier one took may be lost when this rises."""

    def publish(self, topic: str, bodies: Sequence[bytes]) -> None:
        """Return once all bodies were accepted, in their order. No bodies: once there is a connection that is alive.

        Raises: PublishFailed when it is not certain that all were: none, some or all of them may have arrived, so that
                all are to be sent again. The connection is given up then; the next call makes a new one.
        """

    def close(self) -> None:
        """End the connection; safe to repeat, and from another thread to make a blocked call end."""
