"""How far clocks may be apart before it matters. Pure.

What the clocks of several machines decide: Kerberos tickets are refused from 5 min on; a task that workers pass on to
each other is given up after 10 min, one that waits for its file after a day, by the times that others wrote into it;
and people read the times of tasks, results and reports side by side. Leases, heartbeats and alerts go by one clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

APART_S = 2.0
"""From here on a person is told; below it is what NTP and a slow answer leave."""
HARM_S = 300.0
"""From here on work is refused or given up for it."""
NTP = (
    "set both clocks by NTP (Linux: timedatectl set-ntp true; macOS: System Settings > General > Date & Time; Docker "
    "Desktop's clock after a sleep: restart it)"
)
HARM = "tickets are refused, and tasks are given up early or late"


class Apart(NamedTuple):
    """A clock, and how far it is ahead of ours in seconds. whose: as in "MongoDB's"."""

    whose: str
    offset_s: float

    def __str__(self) -> str:
        how = f"{abs(self.offset_s):.1f} s {'ahead of' if self.offset_s > 0 else 'behind'}"
        return f"{self.whose} clock is {how} ours"


def largest(found: Iterable[Apart]) -> Apart | None:
    """Return the clock that is farthest from ours."""
    return max(found, key=lambda each: abs(each.offset_s), default=None)
