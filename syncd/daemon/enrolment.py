"""The registry's loop in the daemon, where [mongo] asks for one; without it, nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from syncd.daemon.living import Daemon


class Enrolment:
    """Starts and ends the loop that tells the registry who holds what."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def start(self) -> None:
        """Begin, if there is a registry."""

    def wake(self) -> None:
        """There is something new."""

    def close(self) -> None:
        """End; safe to repeat."""

    def hop(self) -> dict[str, Any]:
        """Return how MongoDB can be reached."""
        from syncd.daemon.statuses import hop

        return hop("mongodb", "off")

    def workers(self) -> list[dict[str, Any]]:
        """Return the workers that the registry knows of this host."""
        return []
