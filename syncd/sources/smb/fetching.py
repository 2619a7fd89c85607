"""The fetch loop: files from the queue into lanes, replies out of them, lost connections replaced."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator

from syncd.core.model import Wanted
from syncd.ports import FetchQueue, Outcome, Pace, Sink
from syncd.sources.smb.delivering import Delivering
from syncd.sources.smb.errors import ChannelLost
from syncd.sources.smb.lane import ReadLane
from syncd.sources.smb.limits import SmbLimits
from syncd.sources.smb.pool import Pool
from syncd.sources.smb.reading import FileRead

_LOOK_S = 0.02  # so often the queue is looked at while there is room
_FULL_S = 0.5
_IDLE_S = 0.1
_BUSY_PAUSE_S = 0.1
_SUSPECT = 2  # so many lost connections make a file be read alone


class Fetching:
    """One call of fetch()."""

    def __init__(
        self,
        pool: Pool,
        queue: FetchQueue,
        make_sink: Callable[[Wanted], Sink],
        locate: Callable[[Wanted], str],
        limits: SmbLimits,
        pace: Pace,
    ) -> None:
        self._pool = pool
        self._queue = queue
        self._make_sink = make_sink
        self._locate = locate
        self._limits = limits
        self._pace = pace
        self._lane: ReadLane | None = None
        self._delivering = Delivering()
        self._again: deque[FileRead] = deque()
        self._suspects: deque[FileRead] = deque()
        self._alone: FileRead | None = None
        self._failed: list[FileRead] = []
        self._not_before = 0.0
        self._fruitless = 0

    def outcomes(self) -> Iterator[Outcome]:
        """Yield an outcome for each file taken, until the queue is closed and empty."""
        try:
            while True:
                self._pool.raise_if_closed()
                ended = self._queue.closed
                full = self._start_files()
                if self._lane is not None and self._lane.files:
                    self._exchange(self._lane, _FULL_S if full else _LOOK_S)
                elif self._again or self._suspects:
                    self._pool.pause(max(self._not_before - time.monotonic(), self._pace.wait_s(), 0.001))
                elif not self._failed:
                    if self._pool.wanted:
                        self._put_down()
                    wanted = self._queue.take(0 if ended else _IDLE_S)
                    if wanted is None and ended:
                        return
                    if wanted is not None:
                        self._again.append(self._reading(wanted))
                yield from self._settled()
        finally:
            self._release()

    def _reading(self, wanted: Wanted) -> FileRead:
        return FileRead(wanted, self._locate(wanted), self._make_sink)

    # --- starting

    def _start_files(self) -> bool:
        """Start as many files as there is room for; True when there may be more than that."""
        try:
            return self._fill_lane()
        except ChannelLost as lost:
            self._lose(lost)
            return False

    def _fill_lane(self) -> bool:
        while self._lane is None or (self._lane.has_room and self._alone not in self._lane.files):
            if self._pace.wait_s() > 0:
                return True
            file = self._next_file()
            if file is None:
                return False
            lane = self._lane_for()
            started = False
            try:
                started = lane.try_start(file)
            finally:
                if not started:
                    self._again.appendleft(file)
            if not started:
                return True
            self._alone = file if file.losses >= _SUSPECT else None
        return True

    def _next_file(self) -> FileRead | None:
        """Those that were begun go first; a suspect waits until it can be alone."""
        if self._again and time.monotonic() >= self._not_before:
            return self._again.popleft()
        alone = self._lane is None or not self._lane.files
        if self._suspects and alone:
            return self._suspects.popleft()
        wanted = self._queue.take(0)
        return None if wanted is None else self._reading(wanted)

    def _lane_for(self) -> ReadLane:
        if self._lane is None:
            self._lane = ReadLane(
                self._pool.channel(again=self._fruitless > 0), self._limits, self._delivering, self._pace
            )
        return self._lane

    # --- exchanging

    def _exchange(self, lane: ReadLane, wait_s: float) -> None:
        try:
            lane.settle()
            lane.feed()
            held_s = self._pace.wait_s()
            if held_s > 0:
                wait_s = min(wait_s, held_s)
            if lane.must_settle:
                lane.settle(wait_s)
            elif held_s > 0 and not lane.channel.in_flight:
                self._pool.pause(wait_s)
            elif lane.channel.receive(wait_s):
                lane.pace(time.monotonic())
        except ChannelLost as lost:
            self._lose(lost)

    def _lose(self, lost: ChannelLost) -> None:
        """Give the channel up; what was in flight begins again where it was, what broke too many fails."""
        lane, self._lane = self._lane, None
        if lane is None:
            raise lost.error from lost
        lane.channel.close()
        lane.settle(None)
        self._pool.raise_if_closed()
        self._failed += lane.done
        lane.done = []
        self._fruitless = 1 if lane.delivered else self._fruitless + 1
        if self._fruitless > 2 * self._limits.losses:
            raise lost.error from lost
        for file in lane.files:
            file.lost(self._limits.losses, lost.error.message)
            if file.given_up:
                self._failed.append(file)
            elif file.losses >= _SUSPECT:
                self._suspects.append(file)
            else:
                self._again.append(file)
        if any(file.given_up for file in lane.files):
            self._pool.make_sure()

    # --- settling

    def _settled(self) -> Iterator[Outcome]:
        done, self._failed = self._failed, []
        if self._lane is not None and self._lane.done:
            done += self._lane.done
            self._lane.done = []
        for file in done:
            if file.stop is not None:
                raise file.stop
            if file.retry:
                self._not_before = time.monotonic() + _BUSY_PAUSE_S * file.busy
                self._again.append(file)
                continue
            if not file.given_up:
                self._fruitless = 0
            yield file.outcome()

    def _release(self) -> None:
        """Give an idle channel back; end one with requests in flight, which closes what it has open."""
        self._delivering.end()
        self._put_down()

    def _put_down(self) -> None:
        lane, self._lane = self._lane, None
        if lane is None:
            return
        if lane.files:
            lane.channel.close()
        else:
            self._pool.give_back(lane.channel)
