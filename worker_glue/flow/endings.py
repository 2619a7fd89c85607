"""How a message ends. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Finish(NamedTuple):
    """It is done with."""


class GiveBack(NamedTuple):
    """nsqd delivers it again, after delay_s: as the same message, or as a copy once it was delivered too often."""

    delay_s: float


class PassOn(NamedTuple):
    """A new message takes its place, after delay_s; only once nsqd has it, this one is finished."""

    body: bytes
    delay_s: float


class Abandon(NamedTuple):
    """Somebody else ends it: nsqd, which has it again, or the hand that works on the same task."""


Ending = Finish | GiveBack | PassOn | Abandon


class Ended(Exception):
    """Work on a message is over."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending)
        self.ending = ending


def gentle(ending: Ending, attempts: int, requeues: int, body: bytes) -> Ending:
    """Return the ending that costs no neighbour the message: older workers drop one in silence at its 5th delivery.

    attempts: deliveries so far; requeues: after which the message is replaced by a copy that starts anew.
    """
    if isinstance(ending, GiveBack) and attempts > requeues:
        return PassOn(body, ending.delay_s)
    return ending
