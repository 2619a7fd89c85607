"""What is asked of a server over a channel, and who takes the answers: the types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from syncd.core.model import Fingerprint

Callback = Callable[[int, memoryview, int, int], None]
"""Takes one final reply: its NTSTATUS, and where it lies: view[start:end], header first. Valid during the call only."""

Waiting = tuple[int, Callback, int, float, int]
"""An unanswered request: command, callback, charge, when it was sent, and what had been received by then."""

Step = tuple[int, bytes, int, Callback]
"""One request: command, packed body, credit charge, who takes the reply."""


class WholeFile(Protocol):
    """Takes what comes of a small file that is asked for by one compound."""

    def take_whole(self, content: memoryview) -> None:
        """Take all of it, which came as it was listed and did not change meanwhile. Valid during the call only."""

    def steps(self) -> list[Step]:
        """Return the compound's requests, of which each reply is taken on its own instead."""


Whole = tuple[WholeFile, Fingerprint, int, float, int]
"""Such a compound without an answer: who takes it, as what, READ's charge, when it was sent, what was received then."""
