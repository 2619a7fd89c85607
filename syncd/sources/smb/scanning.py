"""The scan loop: folders from `pending` into a lane, listings out of it, lost connections replaced."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from syncd.core.errors import SourceUnavailable
from syncd.core.model import ROOT, Entry, Kind, Listing, RelPath
from syncd.sources.smb.channel import Channel, wait_for_any
from syncd.sources.smb.errors import ChannelLost
from syncd.sources.smb.limits import SmbLimits
from syncd.sources.smb.listing import FolderList, ListLane, given_up
from syncd.sources.smb.pool import Pool

_WAIT_S = 0.5
_ALONE_S = 0.1  # a scan that waits longer than this for one connection gets another
_LANES = 4


class Scanning:
    """One call of scan(): one connection at first, more for a scan that has to wait (the server works one each)."""

    def __init__(self, pool: Pool, pending: list[RelPath], locate: Callable[[RelPath], str], limits: SmbLimits) -> None:
        self._pool = pool
        self._pending = pending
        self._locate = locate
        self._limits = limits
        self._most_lanes = max(pool.most - 1, 1) if pool.most else _LANES  # one is left for the files
        self._putting_down = False
        self._lanes: list[ListLane] = []
        self._again: deque[FolderList] = deque()
        self._waited_s = 0.0
        self._fruitless = 0
        self._how = ""
        self._loops = LoopGuard()

    def listings(self) -> Iterator[Listing]:
        """Yield a listing for each folder taken from the end of `pending`, until there is none."""
        try:
            while self._pending or self._again or any(lane.folders for lane in self._lanes):
                self._pool.raise_if_closed()
                done = self._step()
                if done and self._pool.most == 1:
                    done += self._put_down()
                for folder in done:
                    if folder.losses > self._limits.losses:
                        yield given_up(folder.directory, self._how)
                    elif folder.must_go_on():
                        self._again.append(folder)
                    else:
                        self._fruitless = 0
                        yield self._loops.checked(folder.listing(), folder.self_id)
        finally:
            self._release()

    # --- starting

    def _open_lanes(self) -> None:
        """Open the first lane, or one more for a scan that waits long; where the server grants no more, these do.

        What counts is time in which nothing came: a further login helps nobody who is busy with what has come.
        """
        if not self._lanes:
            self._lanes.append(ListLane(self._pool.channel(again=self._fruitless > 0), self._limits))
            return
        enough = len(self._lanes) >= self._most_lanes or len(self._pending) < 2 * len(self._lanes)
        if enough or self._waited_s < _ALONE_S * len(self._lanes):
            return
        try:
            self._lanes.append(ListLane(self._pool.channel(), self._limits))
        except SourceUnavailable:
            self._pool.raise_if_closed()
            self._most_lanes = len(self._lanes)

    def _put_down(self) -> list[FolderList]:
        """End what is in flight and give the only connection back: files are fetched over it until the next step."""
        done: list[FolderList] = []
        self._putting_down = True
        while any(lane.folders for lane in self._lanes):
            done += self._step()
        self._putting_down = False
        self._release()
        return done

    def _start_folders(self, lane: ListLane) -> None:
        while not self._putting_down and (self._again or self._pending) and lane.has_room():
            lane.start(self._again.popleft() if self._again else self._next_folder())

    def _next_folder(self) -> FolderList:
        directory = self._pending.pop()
        return FolderList(directory, self._locate(directory))

    # --- exchanging

    def _step(self) -> list[FolderList]:
        """Start folders, take what has come on every lane, wait where nothing has; return folders that are done."""
        self._open_lanes()
        done: list[FolderList] = []
        came = False
        for lane in sorted(self._lanes, key=lambda lane: len(lane.folders)):
            try:
                self._start_folders(lane)
                came |= lane.channel.receive(0)
                done += lane.settle()
            except ChannelLost as lost:
                done += self._lose(lane, lost)
                came = True
        return done if came or done else self._wait()

    def _wait(self) -> list[FolderList]:
        done: list[FolderList] = []
        silent, elapsed = wait_for_any([lane.channel for lane in self._lanes if lane.channel.in_flight], _WAIT_S)
        self._waited_s += elapsed
        for lane in [each for each in self._lanes if each.channel in silent]:
            try:
                lane.channel.silent_for(elapsed)
            except ChannelLost as lost:
                done += self._lose(lane, lost)
        return done

    def _lose(self, lane: ListLane, lost: ChannelLost) -> list[FolderList]:
        """Give up the channel that was lost; its folders begin again, those that broke too many are returned."""
        self._lanes.remove(lane)
        lane.channel.close()
        self._pool.raise_if_closed()
        self._fruitless += 1
        if self._fruitless > 2 * self._limits.losses:
            raise lost.error from lost
        for folder in lane.folders:
            folder.losses += 1
        hopeless = [folder for folder in lane.folders if folder.losses > self._limits.losses]
        self._again.extend(folder for folder in lane.folders if folder.losses <= self._limits.losses)
        if hopeless:
            self._pool.make_sure()
            self._how = lost.error.message
        return hopeless

    def _release(self) -> None:
        for lane in self._lanes:
            if lane.folders:
                lane.channel.close()
            else:
                self._pool.give_back(lane.channel)
        self._lanes = []


def list_one(channel: Channel, path: str, limits: SmbLimits) -> Listing:
    """List one folder ("\\"-separated below the share) on a channel of the caller's own. Raises ChannelLost."""
    lane = ListLane(channel, limits)
    folder = FolderList(ROOT, path)
    while True:
        if folder not in lane.folders and lane.has_room():
            lane.start(folder)
        channel.receive(_WAIT_S)
        for done in lane.settle():
            if not done.must_go_on():
                return done.listing()


class LoopGuard:
    """Finds folders that lie within themselves: a link on the server, which Samba follows and does not show as one.

    Keeps the file id of each folder that has folders; a listed folder with the id of one above it is a link.
    """

    def __init__(self) -> None:
        self._ids: dict[RelPath, int] = {}

    def checked(self, listing: Listing, self_id: int) -> Listing:
        """Return the listing with such folders as Kind.OTHER."""
        directory = Kind.DIRECTORY
        folders = [entry for entry in listing.entries if entry.kind is directory]
        if not folders or not self_id:
            return listing
        self._ids[listing.directory] = self_id
        above = self._above(listing.directory)
        if not any(entry.file_id in above for entry in folders):
            return listing
        entries = [_as_link(entry) if _is_in(entry, above) else entry for entry in listing.entries]
        listing.entries[:] = entries
        return listing

    def _above(self, directory: RelPath) -> set[int]:
        ids = set()
        path: str = directory
        while True:
            if RelPath(path) in self._ids:
                ids.add(self._ids[RelPath(path)])
            if path == ROOT:
                return ids
            path = path.rpartition("/")[0]


def _is_in(entry: Entry, above: set[int]) -> bool:
    return entry.kind is Kind.DIRECTORY and entry.file_id in above


def _as_link(entry: Entry) -> Entry:
    return entry._replace(kind=Kind.OTHER)
