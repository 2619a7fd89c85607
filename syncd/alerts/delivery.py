"""One thread a channel: tells it what has begun and what is over since it last took a message.

Nothing is queued: each attempt tells the difference between what is on and what the channel knows. So an outage of the
channel ends in one message, whatever happened meanwhile, and what began and ended within it is not told at all.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from syncd.alerts.kept import Kept
from syncd.alerts.model import Alert, Channel, Notice
from syncd.core.errors import SyncdError

Tell = Callable[[str, str], None]
"""Told of a channel that does not take messages (its name, why), and with "" when it does again."""


class Pace(NamedTuple):
    """Pauses between attempts, in seconds: doubled each time, with jitter."""

    first_s: float = 5.0
    most_s: float = 600.0


PACE = Pace()


class Delivery:
    """Keeps one channel current. start() once; want() and close() from any thread.

    notice: makes a message of (begun, ended). tell: see Tell. bug: told of what nobody foresaw.
    """

    def __init__(
        self,
        channel: Channel,
        kept: Kept,
        notice: Callable[[tuple[Alert, ...], tuple[Alert, ...]], Notice],
        *,
        tell: Tell,
        bug: Callable[[BaseException], None],
        pace: Pace = PACE,
    ) -> None:
        self.name = channel.name
        self._channel = channel
        self._kept = kept
        self._notice = notice
        self._tell = tell
        self._bug = bug
        self._pace = pace
        self._changed = threading.Condition()
        self._wanted: dict[str, Alert] | None = None
        self._closed = False
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name=f"alerts {channel.name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def want(self, alerts: Mapping[str, Alert]) -> None:
        """Have the channel know of these alerts and no others, soon."""
        with self._changed:
            self._wanted = dict(alerts)
            self._changed.notify_all()

    def close(self, wait_s: float) -> None:
        """End; an attempt that goes on is left to its thread beyond wait_s. Safe to repeat."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(wait_s)

    def _run(self) -> None:
        while (wanted := self._next()) is not None:
            try:
                with self._kept.turn(self.name):
                    self._attempt(wanted)
            except Exception as error:  # noqa: BLE001 (a bug in one message is never worth the next)
                self._failures += 1
                if self._failures == 1:
                    self._bug(error)

    def _next(self) -> dict[str, Alert] | None:
        """Wait until there is something to tell and it is time to; None when it ends."""
        pause_s = self._pause_s()
        until = time.monotonic() + pause_s
        with self._changed:
            while not self._closed:
                left_s = until - time.monotonic()
                if left_s <= 0 and self._wanted is not None and self._wanted.keys() != self._known().keys():
                    return dict(self._wanted)
                self._changed.wait(left_s if left_s > 0 else None)
        return None

    def _pause_s(self) -> float:
        if not self._failures:
            return 0.0
        longest_s = min(self._pace.first_s * 2.0 ** min(self._failures - 1, 20), self._pace.most_s)
        return longest_s * random.uniform(0.5, 1)  # noqa: S311 (jitter, not a secret)

    def _known(self) -> dict[str, Alert]:
        return self._kept.told_to(self.name)

    def _attempt(self, wanted: dict[str, Alert]) -> None:
        known = self._known()
        if self._closed or wanted.keys() == known.keys():  # another has had the turn before
            return
        begun = tuple(alert for key, alert in wanted.items() if key not in known)
        ended = tuple(alert for key, alert in known.items() if key not in wanted)
        try:
            self._channel.send(self._notice(begun, ended))
        except SyncdError as error:
            self._failures += 1
            if self._failures == 1:
                self._tell(self.name, error.message)
            return
        if self._failures:
            self._tell(self.name, "")
        self._failures = 0
        with self._kept.changing():
            told = self._kept.told.setdefault(self.name, {})
            told.update({alert.key: alert for alert in begun})
            for alert in ended:
                told.pop(alert.key, None)
