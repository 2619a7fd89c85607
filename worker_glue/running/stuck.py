"""Whether a worker hangs although its heart beats: a task that does not get on, in a phase that has its own end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from worker_glue.flow.hand import Hand, Phase

LIMIT_S = 600.0
"""Asking the daemon, MongoDB, the store and nsqd: each call has a deadline far below this."""
MARGIN_S = 300.0
"""Beyond the engine's own limit for a task: its start, and a lease."""


class Stuck:
    """Says which task is stuck: a mirror on a mount that is dead holds a thread, and the place of all others, for ever.

    Waiting, for a file or for the place, is bounded by others. ocr_limit_s: the engine's longest limit for a task.
    """

    def __init__(
        self,
        hands: Callable[[], Sequence[Hand]],
        ocr_limit_s: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hands = hands
        self._ocr_limit_s = ocr_limit_s
        self._clock = clock
        self._since: dict[Hand, tuple[Phase, float]] = {}

    def __call__(self) -> str:
        """Return the path of a task that is stuck, "" where none is. One thread."""
        now, before = self._clock(), self._since
        self._since = {}
        found = ""
        for hand in self._hands():
            phase, since = before.get(hand, (hand.phase, now))
            if phase is not hand.phase:
                phase, since = hand.phase, now
            self._since[hand] = phase, since
            limit_s = self._limit_s(phase)
            if limit_s is not None and now - since > limit_s:
                found = found or hand.task.file_path
        return found

    def _limit_s(self, phase: Phase) -> float | None:
        match phase:
            case Phase.WAITING | Phase.QUEUED:
                return None
            case Phase.OCR:
                return self._ocr_limit_s() + MARGIN_S
            case Phase.LOOKING | Phase.SAVING:
                return LIMIT_S
