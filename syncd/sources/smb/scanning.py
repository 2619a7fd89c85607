"""The scan loop: folders from `pending` into a lane, listings out of it, lost connections replaced."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from syncd.core.model import ROOT, Entry, Kind, Listing, RelPath
from syncd.sources.smb.channel import Channel
from syncd.sources.smb.errors import ChannelLost
from syncd.sources.smb.limits import SmbLimits
from syncd.sources.smb.listing import FolderList, ListLane, given_up
from syncd.sources.smb.pool import Pool

_WAIT_S = 0.5


class Scanning:
    """One call of scan()."""

    def __init__(self, pool: Pool, pending: list[RelPath], locate: Callable[[RelPath], str], limits: SmbLimits) -> None:
        self._pool = pool
        self._pending = pending
        self._locate = locate
        self._limits = limits
        self._lane: ListLane | None = None
        self._again: deque[FolderList] = deque()
        self._fruitless = 0
        self._how = ""
        self._loops = LoopGuard()

    def listings(self) -> Iterator[Listing]:
        """Yield a listing for each folder taken from the end of `pending`, until there is none."""
        try:
            while self._pending or self._again or (self._lane is not None and self._lane.folders):
                self._pool.raise_if_closed()
                done = self._step()
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

    def _step(self) -> list[FolderList]:
        try:
            lane = self._start_folders()
            lane.channel.receive(_WAIT_S)
            return lane.settle()
        except ChannelLost as lost:
            return self._lose(lost)

    def _start_folders(self) -> ListLane:
        if self._lane is None:
            self._lane = ListLane(self._pool.channel(again=self._fruitless > 0), self._limits)
        lane = self._lane
        while self._again or self._pending:
            if not lane.has_room():
                break
            if self._again:
                folder = self._again.popleft()
            else:
                directory = self._pending.pop()
                folder = FolderList(directory, self._locate(directory))
            lane.start(folder)
        return lane

    def _lose(self, lost: ChannelLost) -> list[FolderList]:
        """Give the channel up; folders in flight begin again, those that broke too many are returned."""
        lane, self._lane = self._lane, None
        if lane is None:
            raise lost.error from lost
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
        lane, self._lane = self._lane, None
        if lane is None:
            return
        if lane.folders:
            lane.channel.close()
        else:
            self._pool.give_back(lane.channel)


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
        folders = [entry for entry in listing.entries if entry.kind is Kind.DIRECTORY]
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
