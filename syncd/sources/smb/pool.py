"""Connections to one share: made when needed, kept while idle, replaced when lost; no password is hammered."""

from __future__ import annotations

import hashlib
import hmac
import random
import secrets
import threading
import time
from collections.abc import Callable

from syncd.core.errors import SourceAuthFailed, SourceUnavailable
from syncd.sources.smb.asking import look_at
from syncd.sources.smb.channel import Channel
from syncd.sources.smb.connecting import Establish
from syncd.sources.smb.errors import ChannelLost, closed_by_us
from syncd.sources.smb.limits import SmbLimits

_MOST_IDLE = 4
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
_REFUSED_FOR_S = 3600.0
_LOOK_S = 0.2
_TURN_S = 0.01


class Logins:
    """The last login that was refused, shared by all connections to one share; the lock lets one log in at a time."""

    def __init__(self, password: Callable[[], str] | None) -> None:
        self.lock = threading.Lock()
        self._password = password
        self._refusal: tuple[SourceAuthFailed, bytes, float] | None = None
        self._key = secrets.token_bytes(16)

    def refused(self, error: SourceAuthFailed) -> None:
        """Keep in mind that this password was refused."""
        self._refusal = (error, self._fingerprint(), time.monotonic())

    def refuse_again(self) -> None:
        """Raise the last refusal as long as it would be the same password within the hour."""
        if self._refusal is None:
            return
        error, secret, at = self._refusal
        if time.monotonic() - at < _REFUSED_FOR_S and hmac.compare_digest(secret, self._fingerprint()):
            raise SourceAuthFailed(error.message, hint=error.hint)
        self._refusal = None

    def _fingerprint(self) -> bytes:
        """Tell one password from another without keeping it."""
        password = self._password() if self._password is not None else ""
        return hashlib.blake2b(password.encode(), key=self._key).digest()


class Pool:
    """Thread-safe. close() makes every other call end with SourceUnavailable, those waiting in a channel too.

    most: so many connections at a time, idle ones included; 0: no bound.
    """

    def __init__(self, establish: Callable[[], Establish], logins: Logins, limits: SmbLimits, most: int = 0) -> None:
        self.most = most
        self._waiting = 0
        self._connecting = 0
        self._establish = establish
        self._logins = logins
        self._limits = limits
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._idle: list[Channel] = []
        self._used: set[Channel] = set()
        self._attempts: set[Establish] = set()

    def sibling(self) -> Pool:
        """Return another pool to the same share, which is closed on its own but shares what logins were refused."""
        return Pool(self._establish, self._logins, self._limits)

    def channel(self, *, again: bool = False) -> Channel:
        """Return a channel for the caller's own use until give_back() or its close().

        Waits while there are as many as there may be. again: one was lost just now, so that trying for some time is
        right. Raises SourceUnavailable, SourceAuthFailed.
        """
        idle = self._take_turn()
        if idle is not None:
            return idle
        try:
            return self._connect_in_time(again)
        finally:
            with self._lock:
                self._connecting -= 1

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for a connection: whoever has one and does not need it now gives it back."""
        return self._waiting > 0

    def _connect_in_time(self, again: bool) -> Channel:
        deadline = time.monotonic() + (self._limits.reconnect_s if again else 0)
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return self._connect()
            except SourceUnavailable:
                if time.monotonic() + pause_s >= deadline:
                    raise
            self.pause(pause_s * random.uniform(0.5, 1.5))  # noqa: S311
            self.raise_if_closed()
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def give_back(self, channel: Channel) -> None:
        """Keep an idle channel for the next caller."""
        with self._lock:
            self._used.discard(channel)
            if not self._closed.is_set() and len(self._idle) < _MOST_IDLE and channel.in_flight == 0:
                self._idle.append(channel)
                return
        channel.close()

    def make_sure(self) -> None:
        """See that the share still answers at all; raises SourceUnavailable when it does not."""
        channel = self.channel(again=True)
        try:
            look_at(channel, "")
        except ChannelLost as lost:
            channel.close()
            raise lost.error from lost
        self.give_back(channel)

    def pause(self, seconds: float) -> None:
        """Sleep; close() ends it."""
        self._closed.wait(seconds)

    def raise_if_closed(self) -> None:
        """Raise SourceUnavailable once close() was called."""
        if self._closed.is_set():
            raise closed_by_us()

    def close(self) -> None:
        """End everything; safe to repeat, from any thread."""
        with self._lock:
            self._closed.set()
            idle, self._idle = self._idle, []
            used, attempts = list(self._used), list(self._attempts)
        for channel in idle:
            channel.close()
        for channel in used:
            channel.shut()  # its own thread closes it
        for attempt in attempts:
            attempt.abort()

    # --- inside

    def _take_turn(self) -> Channel | None:
        """Return an idle channel, or None once there may be one more: it counts from then on."""
        waits = False
        try:
            while True:
                idle = self._take_idle()
                if idle is not None:
                    return idle
                with self._lock:
                    used = sum(not channel.closed for channel in self._used)
                    if not self.most or used + len(self._idle) + self._connecting < self.most:
                        self._connecting += 1
                        return None
                    self._waiting += not waits
                    waits = True
                self.pause(_TURN_S)
                self.raise_if_closed()
        finally:
            with self._lock:
                self._waiting -= waits

    def _take_idle(self) -> Channel | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                channel = self._idle.pop()
                self._used.add(channel)
            if channel.idle_and_alive():
                channel.reused = True
                return channel
            self._drop(channel)

    def _drop(self, channel: Channel) -> None:
        with self._lock:
            self._used.discard(channel)
        channel.close()

    def _connect(self) -> Channel:
        """Log in; one at a time, so that a password that is refused is tried once and not once a thread."""
        while not self._logins.lock.acquire(timeout=_LOOK_S):
            self.raise_if_closed()
        try:
            self.raise_if_closed()
            self._logins.refuse_again()
            attempt = self._establish()
            with self._lock:
                self.raise_if_closed()
                self._attempts.add(attempt)
            try:
                channel = Channel(attempt.run(), self._limits)
            except SourceAuthFailed as exc:
                if attempt.login_refused:
                    self._logins.refused(exc)
                raise
            finally:
                with self._lock:
                    self._attempts.discard(attempt)
        finally:
            self._logins.lock.release()
        with self._lock:
            if not self._closed.is_set():
                self._used.add(channel)
                self._used = {used for used in self._used if not used.closed}
                return channel
        channel.close()
        raise closed_by_us()
