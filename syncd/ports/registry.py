"""Where it is told which host holds what, and what that is told of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from syncd.core.model import (
    RelPath,
)
from syncd.core.named import NamedTuple
from syncd.ports.catalogue import Announcement, MirrorCatalogue


class RegistryEntry(NamedTuple):
    """One file that a host holds (or, removed, does not hold any more), for the registry.

    server_path: as core.wire.server_path() makes it. generation: also says when, in ms since the Unix epoch.
    """

    mirror: str
    server_path: str
    size: int
    sha256: str
    generation: int
    removed: bool


class Bookmark(NamedTuple):
    """How far a host's files are in the registry. It lies there beside them, so that both are lost together.

    through: what was announced up to this number is stored. mark: the key of that announcement ("" = there was none),
    by which another catalogue is noticed. whole_ms: when all that is held was last compared with what is stored (Unix
    ms, 0 = never). place: while such a comparison goes on, the last (mirror, path) that was compared, ("", "") at its
    beginning; None: none goes on.
    """

    through: int
    mark: str
    whole_ms: int
    place: tuple[str, str] | None


class BeatAnswer(NamedTuple):
    """What the registry knows when it hears from a host. bookmark: None where it has none of this host's files.

    namesakes: ids of other hosts of the same name that were heard of lately.
    """

    bookmark: Bookmark | None
    namesakes: tuple[str, ...]


class Registry(Protocol):
    """Where people and dashboards see which host holds what. Never on the critical path: nothing waits for it.

    Used by one thread (close() by any). Connects when first needed, and anew after a failure. Every call ends by its
    deadline and may raise PublishFailed: then what it was to store is stored in full, in part, or not at all, so it is
    to be stored again. ConfigError where the secret with the address cannot be read.
    """

    def beat(self, host: Mapping[str, Any]) -> BeatAnswer:
        """Store what a host says of itself, and that it was heard of now, by the registry's own clock.

        host: id, name, version, started_at (ISO 8601 UTC), files (whether files are recorded), workers (how many), away
        (perhaps: hours in which it sleeps by plan, each (from, to) in minutes of the day, UTC) and mirrors, each {name,
        state, files, bytes, last_success, source, target}.
        """

    def mark(self, host_id: str, bookmark: Bookmark, before: Bookmark | None) -> None:
        """Store how far a host's files are, after what it says has been stored.

        before: the bookmark that is there, None: any or none. Where it is not, or the host has not been heard of, all
        may have been lost: PublishFailed, and nothing is stored.
        """

    def record(self, host_id: str, entries: Sequence[RegistryEntry]) -> None:
        """Store what changed; idempotent, in any order, also late.

        An entry that is there with the same or a higher generation stays as it is; so does a removed one.
        """

    def entries(
        self, host_id: str, mirror: str, after: RelPath, until: RelPath | None, limit: int
    ) -> list[RegistryEntry]:
        """Return what is stored of a mirror, removed entries too, ordered by directory and name as the catalogue is.

        after: the path that they come after (ROOT: all do). until: the last path that is asked for, None: to the end.
        """

    def drop(self, host_id: str, entries: Sequence[RegistryEntry]) -> None:
        """Take entries out; one that has another generation by now stays."""

    def keep_only(self, host_id: str, mirrors: Sequence[str]) -> None:
        """Take out what is stored of a host's other mirrors."""

    def close(self) -> None:
        """End the connection for good; safe to repeat, and from another thread to make a call that waits end."""


class Holdings(Protocol):
    """What the registry is told of: the numbered feed, and all that is held. Thread-safe. Raises CatalogueError."""

    def announcements(self, since: int, limit: int) -> list[Announcement]:
        """Return the feed after a number, in order, accepted by nsqd or not."""

    def last_announcement(self) -> int:
        """Return the number of the newest announcement, also of one that is not kept any more."""

    def mirror(self, name: str) -> MirrorCatalogue:
        """Return one mirror's facts."""
