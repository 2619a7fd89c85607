"""A token bucket with debt: how many bytes a second may be read. Pure: the caller brings the time."""

from __future__ import annotations

BURST_S = 0.1
"""What was not used for a moment may be caught up with later, but no more than this much of it."""

PIECE_S = 0.05
SHORTEST_WAIT_S = 0.001
SMALLEST_PIECE = 1 << 16


class Bucket:
    """Bytes are charged before they come; what was charged too much is a debt that is paid off at the rate that holds.

    So one read may be larger than what is free, and a change of the rate takes effect at once. A rate of 0 is no limit.
    """

    __slots__ = ("_at_s", "_debt")

    def __init__(self, now_s: float) -> None:
        self._at_s = now_s
        self._debt = 0.0

    def wait_s(self, bytes_per_s: int, now_s: float) -> float:
        """Return the seconds until something may be charged again; 0 is now."""
        self._pay_off(bytes_per_s, now_s)
        return max(self._debt / bytes_per_s, SHORTEST_WAIT_S) if self._debt > 0 else 0.0

    def charge(self, count: int, bytes_per_s: int, now_s: float) -> None:
        """Charge bytes that are read from now on."""
        self._pay_off(bytes_per_s, now_s)
        if bytes_per_s:
            self._debt += count

    def _pay_off(self, bytes_per_s: int, now_s: float) -> None:
        elapsed_s, self._at_s = max(now_s - self._at_s, 0.0), now_s
        if not bytes_per_s:
            self._debt = 0.0
        else:
            self._debt = max(self._debt - elapsed_s * bytes_per_s, -BURST_S * bytes_per_s)


def piece(bytes_per_s: int, longest: int) -> int:
    """Return how many bytes one read should ask for at most, so that the rate is smooth."""
    return min(longest, max(int(bytes_per_s * PIECE_S), SMALLEST_PIECE)) if bytes_per_s else longest
