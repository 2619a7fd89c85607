"""The files in flight on one channel: how many, what is asked of the server next, which are done."""

from __future__ import annotations

from syncd.ports import Pace, Sink
from syncd.sources.smb.channel import Channel
from syncd.sources.smb.delivering import Delivering
from syncd.sources.smb.limits import SmbLimits
from syncd.sources.smb.packets import CREDIT_UNIT
from syncd.sources.smb.reading import FileRead
from syncd.sources.smb.whole import SMALL

_FEWEST_FILES = 8
_SLOW_S, _QUICK_S = 0.5, 0.2  # above the server's best
_SOON_S = 0.1  # so long at most a file may wait behind others, where more than the usual number are in flight
_LOOK_S = 0.05


class ReadLane:
    """The files in flight on one channel; fewer while the server is slow to answer."""

    def __init__(self, channel: Channel, limits: SmbLimits, delivering: Delivering, pace: Pace) -> None:
        self.channel = channel
        self._pace = pace
        self._delivering = delivering
        self.files: dict[FileRead, None] = {}
        self.done: list[FileRead] = []
        self.delivered = 0
        self._limits = limits
        self._unclosed: list[FileRead] = []
        self._large: dict[FileRead, None] = {}
        self._bytes = 0
        self._most_files = limits.files_in_flight
        self._most_bytes = limits.bytes_in_flight
        self._paced_at = self._crowded_at = 0.0
        self._came = self._soon = 0
        self._best_s = float("inf")
        self._careful = False

    @property
    def has_room(self) -> bool:
        """Whether another file may be started. Hot, and so without has_bytes."""
        return len(self.files) < self._most_files and self._bytes + self._delivering.owed < self._most_bytes

    @property
    def has_bytes(self) -> bool:
        """Whether more bytes may be asked for: those asked for and those not yet written are bounded together."""
        return self._bytes + self._delivering.owed < self._most_bytes

    def try_start(self, file: FileRead) -> bool:
        """Send the first requests of a file; False when the credits do not allow that now."""
        if not file.begun and self._start_whole(file):
            return True
        channel = self.channel
        others = 3 if file.delivered else 2
        inline = min(self._longest(file), channel.affordable(others))
        first = min(file.wanted.fingerprint.size - file.delivered, inline)
        if not channel.can_send(others + channel.charge(first)):
            return False
        steps = file.begin(self, inline)
        self.files[file] = None
        self._bytes += first
        if not file.closing:
            self._large[file] = None
        channel.send(steps)
        self._pace.charge(first)
        return True

    def _start_whole(self, file: FileRead) -> bool:
        """Send the only requests of a small file; False where it is none, or credits or pace do not allow that."""
        as_listed, channel = file.wanted.fingerprint, self.channel
        size = as_listed[0]
        charge = (size - 1) // CREDIT_UNIT + 1
        if not 0 < size < SMALL or file.delivered or channel.credits < charge + 2:
            return False
        if size > self._pace.piece(channel.max_read):
            return False
        channel.send_whole(file, as_listed, file.path, charge)
        file.begin_whole(self)
        self.files[file] = None
        self._bytes += size
        self._pace.charge(size)
        return True

    def came_whole(self, file: FileRead) -> None:
        """All of a small file came, and its sink has it or refused it."""
        self._bytes -= file.wanted.fingerprint[0]
        self._came += 1
        del self.files[file]
        self.done.append(file)

    def feed(self) -> None:
        """Close what is to be closed, then ask for further ranges of the large files, the oldest file first.

        As far as window and credits go.
        """
        channel = self.channel
        while self._unclosed and channel.can_send(1):
            file = self._unclosed.pop()
            if file.handle is not None:
                channel.send([file.closing_step(file.handle)])
        affordable = channel.affordable(0)
        for file in self._large:
            longest = min(self._longest(file), affordable)
            while file.handle is not None and file.unread > 0 and self.has_bytes and self._pace.wait_s() <= 0:
                length = min(file.unread, longest)
                ahead = file.next + length - file.delivered
                if ahead > self._limits.file_window or not channel.can_send(channel.charge(length)):
                    break
                self._bytes += length
                channel.send([file.range(file.handle, length)])
                self._pace.charge(length)

    def _longest(self, file: FileRead) -> int:
        """Shorter READs for a file that was in flight when a connection broke: something must get through."""
        most = self._pace.piece(self.channel.max_read)
        return max(most >> file.losses, min(most, CREDIT_UNIT))

    def came(self, file: FileRead, length: int) -> None:
        """A range was answered."""
        self._bytes -= length
        self.advance(file)

    def hand_over(self, file: FileRead, sink: Sink, kept: memoryview) -> None:
        """Let a piece be written by the other thread; settle() tells the file."""
        file.owed += len(kept)
        self._delivering.put(file, sink, kept)

    def settle(self, wait_s: float | None = 0.0) -> None:
        """Tell files what has been written of them; wait at most `wait_s` for the first (None: for all)."""
        for file, kept, error in self._delivering.take(wait_s):
            file.written(len(kept), error)
            self.channel.let_go(kept)
            if file in self.files:
                self.advance(file)

    @property
    def must_settle(self) -> bool:
        """Whether nothing more comes from the server before something is written."""
        return self._delivering.owed > 0 and self.channel.in_flight == 0

    def advance(self, file: FileRead) -> None:
        """Close a file that has all its bytes or failed; it is done when the server holds no handle of it."""
        if file.closing or file.pending or file.owed or file.unread > 0:
            return
        self._large.pop(file, None)
        if file.handle is not None:
            file.closing = True
            self._unclosed.append(file)
            return
        del self.files[file]
        file.judge()
        self.done.append(file)

    def pace(self, now: float) -> None:
        """Fit the amounts in flight to how long the server takes to answer, so that nobody queues behind us.

        What counts is how much longer than at its best: the way there and back is nobody's queue.
        """
        latency = self.channel.latency_s
        passed_s = now - self._paced_at
        if passed_s < max(latency, _LOOK_S):
            return
        self._best_s = min(self._best_s, latency)
        self._soon = int(self._came / passed_s * (self._best_s + _SOON_S))
        self._paced_at, self._came = now, 0
        if latency > self._best_s + _SLOW_S:
            self._halve()
        elif latency < self._best_s + _QUICK_S:
            self._grow()
        self._most_files = min(self._most_files, self._useful_files)

    @property
    def _useful_files(self) -> int:
        """As many as are answered within the way there and back and a moment, by what came lately."""
        return max(self._limits.files_in_flight, min(self._soon, self._limits.most_files_in_flight))

    def crowded(self, now: float) -> None:
        """The server has not enough for all that is asked of it: ask for half as much, once for all such answers."""
        if now - self._crowded_at < max(self.channel.latency_s, _LOOK_S):
            return
        self._crowded_at = self._paced_at = now
        self._careful = True
        self._halve()

    def _halve(self) -> None:
        self._most_files = max(self._most_files // 2, _FEWEST_FILES)
        self._most_bytes = max(self._most_bytes // 2, 2 * self.channel.max_read)

    def _grow(self) -> None:
        """Twice as much; by an eighth where the server said once that it was too much."""
        files, size = self._most_files, self._most_bytes
        self._most_files = files + (max(files // 8, 1) if self._careful else files)
        self._most_bytes = min(size + (size // 8 if self._careful else size), self._limits.bytes_in_flight)
