"""Change hints of an SMB share (syncd.ports.HintSource): one connection of its own, made again whenever it is lost."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Self

from syncd.core.errors import SourceAuthFailed, SourceError, SourceUnavailable
from syncd.core.model import RelPath
from syncd.ports import Hint
from syncd.sources.smb.channel import Channel
from syncd.sources.smb.errors import ChannelLost, closed_by_us, status_name
from syncd.sources.smb.limits import SmbLimits
from syncd.sources.smb.pool import Pool
from syncd.sources.smb.watched import WatchLane

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 60.0
_STEADY_S = 60.0  # a connection that lasted this long was no failure


class SmbWatch:
    """CHANGE_NOTIFY on a share's folder: a tree watch on the root, handles of their own on the folders in focus().

    Samba tells of changes made over SMB anywhere below the root, and of those made on the server itself in the root and
    in the focused folders. Folders are opened to list and to read attributes, everything shared; a handle keeps its
    folder from being removed over SMB for the time of a round trip (it is closed at the server's word). close() ends
    the connection, and with it every handle.
    """

    def __init__(self, pool: Pool, locate: Callable[[RelPath], str], limits: SmbLimits) -> None:
        self._pool = pool
        self._locate = locate
        self._limits = limits
        self._closed = threading.Event()
        self._focus: Sequence[RelPath] = ()
        self._bell = _Bell()
        self._state = "off: not begun"

    @property
    def state(self) -> str:
        """See ports.HintSource."""
        return self._state

    def focus(self, directories: Sequence[RelPath]) -> None:
        """See ports.HintSource; as many as SmbLimits.watched_folders."""
        self._focus = tuple(directories)
        self._bell.ring()

    def watch(self, tell: Callable[[Hint], None]) -> None:
        """See ports.HintSource."""
        try:
            with self._bell:
                self._keep_watching(tell)
        except (SourceAuthFailed, SourceUnavailable) as error:
            self._state = f"off: {error.message}"
            raise
        self._state = "off: closed"

    def close(self) -> None:
        """See ports.HintSource."""
        self._closed.set()
        self._pool.close()
        self._bell.ring()

    # --- inside

    def _keep_watching(self, tell: Callable[[Hint], None]) -> None:
        """Go from one connection to the next until close(). Raises what trying again cannot mend."""
        pause_s = _FIRST_PAUSE_S
        while not self._closed.is_set():
            began = time.monotonic()
            error = self._one_connection(tell)
            self._state = f"off: {error.message}"
            if time.monotonic() - began > _STEADY_S:
                pause_s = _FIRST_PAUSE_S
            self._closed.wait(min(pause_s * random.uniform(0.5, 1.5), _LONGEST_PAUSE_S))  # noqa: S311
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _one_connection(self, tell: Callable[[Hint], None]) -> SourceError:
        """Watch over one connection until it is lost; return why."""
        try:
            channel = self._pool.channel()
        except SourceUnavailable as error:
            return error
        lane = WatchLane(channel, self._locate, self._limits)
        try:
            return self._follow(lane, channel, tell)
        except ChannelLost as lost:
            if lane.refused:
                text = f"{channel.where} does not tell of changes ({status_name(lane.refused)})"
                raise SourceUnavailable(
                    text, hint="changes are found on schedule; Samba: change notify = yes"
                ) from lost
            return lost.error
        finally:
            channel.close()

    def _follow(self, lane: WatchLane, channel: Channel, tell: Callable[[Hint], None]) -> SourceError:
        focus: Sequence[RelPath] = ()
        while not self._closed.is_set():
            if self._focus is not focus:
                focus = self._focus
                lane.want(focus)
            lane.advance()
            if lane.begun:
                self._state = lane.state
            if (hint := lane.take_hint()) is not None:
                tell(hint)
            if not channel.receive(0):
                self._wait(channel, min(lane.next_s, self._limits.stall_s / 4))
        return closed_by_us()

    def _wait(self, channel: Channel, seconds: float) -> None:
        """Wait until the server says something or the bell rings."""
        poll = select.poll()
        number = channel.poll(poll)
        self._bell.poll(poll)
        began = time.monotonic()
        ready = {each for each, _ in poll.poll(seconds * 1000)} if number >= 0 else {number}
        if number not in ready:
            channel.silent_for(time.monotonic() - began)
        self._bell.hush()


class _Bell:
    """Wakes the thread that waits in poll(); any thread may ring. Has sockets only within its `with`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: tuple[socket.socket, socket.socket] | None = None

    def __enter__(self) -> Self:
        self._ends = socket.socketpair()
        for end in self._ends:
            end.setblocking(False)
        return self

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            ends, self._ends = self._ends, None
        for end in ends or ():
            end.close()

    def ring(self) -> None:
        with self._lock, contextlib.suppress(BlockingIOError):  # full of rings: it is about to wake up
            if self._ends is not None:
                self._ends[0].send(b"!")

    def poll(self, poll: select.poll) -> None:
        if self._ends is not None:
            poll.register(self._ends[1], select.POLLIN)

    def hush(self) -> None:
        with contextlib.suppress(BlockingIOError):
            if self._ends is not None:
                self._ends[1].recv(4096)
