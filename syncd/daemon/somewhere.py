"""One answer from looks at several sources, for a path that names no mirror."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from syncd.core.resolution import Resolution, State

_NOWHERE = (State.MISSING, State.NO_MIRROR)
_CANNOT_TELL = (State.FETCHING, State.UNAVAILABLE)


def somewhere(
    wishes: Sequence[Future[Resolution]], before: Resolution, again: Callable[[], Resolution]
) -> Future[Resolution]:
    """Return the answer once all looks have one. before: what the listings say; again: says it anew.

    Who cancels it takes the looks back. again() is called in whichever thread ends the last look.
    """
    answer: Future[Resolution] = Future()
    if not wishes:
        answer.set_result(before)
        return answer
    left = len(wishes)
    lock = threading.Lock()

    def ended(_: Future[Resolution]) -> None:
        nonlocal left
        with lock:
            left -= 1
            if left:
                return
        if answer.set_running_or_notify_cancel():
            try:
                answer.set_result(_verdict([wish.result() for wish in wishes], again()))
            except BaseException as error:  # noqa: BLE001 - whoever waits is told
                answer.set_exception(error)

    def taken_back(_: Future[Resolution]) -> None:
        if answer.cancelled():
            for wish in wishes:
                wish.cancel()

    answer.add_done_callback(taken_back)
    for wish in wishes:
        wish.add_done_callback(ended)
    return answer


def _verdict(looks: Sequence[Resolution], now: Resolution) -> Resolution:
    """A file that came decides, then a source that could not tell; that none has it is as old as the oldest look."""
    if now.state not in _NOWHERE:
        return now
    untold = next((look for look in looks if look.state in _CANNOT_TELL), None)
    if untold is not None:
        return untold
    refused = next((look for look in looks if look.state is State.REFUSED), None)
    if refused is not None and len(looks) == 1:
        return refused
    listed_at = [look.listed_at for look in looks if look.state is State.MISSING]
    return now._replace(listed_at=min(listed_at)) if now.state is State.MISSING and listed_at else now
