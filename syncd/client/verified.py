"""What the ways without a daemon give to read from."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from syncd.core.resolution import Resolution


class Verified(NamedTuple):
    """An open descriptor of the bytes that a READY resolution is about; who has it closes it."""

    descriptor: int
    resolution: Resolution


class LocalFiles(Protocol):
    """Files of this machine, resolved without a daemon. Thread-safe. Raises SyncdError where they cannot be told."""

    def resolve(self, spelled: str) -> Resolution:
        """Say what a spelling means and how it is."""

    def opened(self, spelled: str) -> Verified | Resolution:
        """Open the file that a spelling means; the descriptor's bytes are verified."""

    def close(self) -> None:
        """Let everything go; safe to repeat."""
