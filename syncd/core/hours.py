"""Hours of the day, as they are configured, and told to other hosts."""

from __future__ import annotations

from syncd.core.named import NamedTuple


class Hours(NamedTuple):
    """A part of each day, in minutes of the day, local time: from `start` to before `end`, over midnight or not."""

    start: int
    end: int

    def holds(self, minute: int) -> bool:
        """Say whether a minute of the day (0 to 1439) lies in it."""
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end
