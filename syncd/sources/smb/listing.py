"""Listing folders over one channel, many in flight.

A folder is CREATE + QUERY_DIRECTORY + QUERY_DIRECTORY + CLOSE as one related compound: one round trip. The second query
must say "no more files"; where it does not, the folder is large and listed again with its handle kept open.
"""

from __future__ import annotations

from functools import partial

from syncd.core.model import Entry, Listing, RelPath
from syncd.core.reasons import Reason
from syncd.core.shown import counted_are
from syncd.sources.smb import packets
from syncd.sources.smb.channel import Channel, Step
from syncd.sources.smb.errors import (
    NO_MORE_FILES,
    NO_SUCH_FILE,
    Meaning,
    entry_error,
    meaning_of,
    timed_out,
)
from syncd.sources.smb.limits import SmbLimits
from syncd.sources.smb.mangled import Probe, could_be_mangled
from syncd.sources.smb.packets import (
    CLOSE,
    CREATE,
    QUERY_DIRECTORY,
    QUERY_INFO,
    pack_close,
    pack_create,
    pack_query_directory,
    pack_query_info,
)

_ACCESS = packets.FILE_LIST_DIRECTORY | packets.FILE_READ_ATTRIBUTES
_OPTIONS = packets.OPTION_DIRECTORY | packets.OPTION_REPARSE
_QUERIES_AHEAD = 3
_PROBES_AHEAD = 16
_INFO_SIZE = 8192
_FIRST_FOLDERS, _FEWEST_FOLDERS = 8, 3
_QUEUE_S = 0.02
_EVER = 1e9
_END = frozenset({NO_MORE_FILES, NO_SUCH_FILE})
_BUSY_TRIES = 5


class FolderList:
    """One folder on its way to a Listing, over as many connections as it takes."""

    _lane: ListLane  # since begin()

    def __init__(self, directory: RelPath, path: str) -> None:
        self.directory = directory
        self.path = path
        self.losses = 0
        self.busy = 0
        self._whole = True
        self._reset()

    def _reset(self) -> None:
        self.entries: list[Entry] = []
        self.undecodable: list[str] = []
        self.mangled: set[str] = set()
        self.self_id = 0
        self.failed = 0
        self.overflow = False
        self.ended = False
        self.handle: bytes | None = None
        self.pending = 0
        self.closing = False
        self._suspects: list[str] | None = None

    # --- asking

    def begin(self, lane: ListLane) -> None:
        """Send the requests to start with."""
        self._reset()
        self._lane = lane
        size, charge = lane.query_size, lane.channel.charge(lane.query_size)
        steps: list[Step] = [(CREATE, pack_create(self.path, _ACCESS, _OPTIONS), 1, self._on_create)]
        query: Step = (QUERY_DIRECTORY, pack_query_directory(size), charge, self._on_query)
        self.pending = 2
        if self._whole:
            self.pending, self.closing = 4, True
            steps += [query, query, (CLOSE, pack_close(), 1, self._on_close)]
        else:
            steps.append(query)
        lane.channel.send(steps)

    def advance(self) -> bool:
        """Send what the state asks for: queries, CLOSE, or probes of names; True when there is no more to do."""
        if self.closing:
            return False
        going_on = not (self.ended or self.failed or self.overflow)
        if self.handle is not None:
            if going_on:
                self._query(self.handle)
            else:
                self._close(self.handle)
            return False
        if self.pending or (self._suspects is None and not self._choose_suspects()):
            return False
        self._probe()
        return self.pending == 0 and not self._suspects

    def _query(self, handle: bytes) -> None:
        lane = self._lane
        charge = lane.channel.charge(lane.query_size)
        while self.pending < _QUERIES_AHEAD and lane.channel.can_send(charge):
            self.pending += 1
            body = pack_query_directory(lane.query_size, handle)
            lane.channel.send([(QUERY_DIRECTORY, body, charge, self._on_query)])

    def _close(self, handle: bytes) -> None:
        if self.pending == 0 and self._lane.channel.can_send(1):
            self.closing = True
            self.pending = 1
            self._lane.channel.send([(CLOSE, pack_close(handle), 1, self._on_close)])
            self.handle = None

    def _choose_suspects(self) -> bool:
        self._suspects = (
            [] if self.failed else [e.name for e in self.entries if "~" in e.name and could_be_mangled(e.name)]
        )
        return True

    def _probe(self) -> None:
        channel = self._lane.channel
        while self._suspects and self.pending < _PROBES_AHEAD and channel.can_send(3):
            probe = Probe(self._suspects.pop())
            path = f"{self.path}\\{probe.name}" if self.path else probe.name
            self.pending += 1
            channel.send(
                [
                    (
                        CREATE,
                        pack_create(path, packets.FILE_READ_ATTRIBUTES, packets.OPTION_REPARSE),
                        1,
                        probe.on_create,
                    ),
                    (QUERY_INFO, pack_query_info(packets.ALL_INFORMATION, _INFO_SIZE), 1, probe.on_query),
                    (CLOSE, pack_close(), 1, partial(self._on_probed, probe)),
                ]
            )

    # --- replies

    def _on_probed(self, probe: Probe, status: int, view: memoryview, start: int, end: int) -> None:
        self.pending -= 1
        probe.on_close(status, view, start, end)
        if probe.mangled:
            self.mangled.add(probe.name)
        if probe.handle is not None:
            raise packets.ProtocolError("a CLOSE that failed")
        self._touched()

    def _touched(self) -> None:
        self._lane.touched[self] = None

    def _on_create(self, status: int, view: memoryview, start: int, end: int) -> None:
        self.pending -= 1
        self._touched()
        if status:
            self.failed = status
            return
        _, _, _, attributes, self.handle = packets.unpack_create(view, start, end)
        if attributes & packets.ATTRIBUTE_REPARSE or not attributes & packets.ATTRIBUTE_DIRECTORY:
            self.failed = _NOT_A_DIRECTORY

    def _on_query(self, status: int, view: memoryview, start: int, end: int) -> None:
        self.pending -= 1
        self._touched()
        if status in _END:
            self.ended = True
        elif status:
            self.failed = self.failed or status
        elif not (self.failed or self.overflow):
            first, last = packets.unpack_output(view, start, end, "QUERY_DIRECTORY")
            part = packets.unpack_directory(view, first, last)
            self._take(part)

    def _take(self, part: packets.Directory) -> None:
        if self.entries:
            self.entries += part.entries
        else:
            self.entries = part.entries
        self.undecodable += part.undecodable[: packets.MAX_UNDECODABLE - len(self.undecodable)]
        self.self_id = part.self_id or self.self_id
        lane = self._lane
        lane.entries += len(part.entries)
        self.overflow = lane.entries > lane.max_entries

    def _on_close(self, status: int, view: memoryview, start: int, end: int) -> None:  # noqa: ARG002
        self.pending -= 1
        self._touched()
        self.closing = False
        if status == 0:
            self.handle = None
        elif self.handle is not None:
            raise packets.ProtocolError("a CLOSE that failed")

    # --- settling

    def must_go_on(self) -> bool:
        """Return whether it is to be begun again: too large for one round trip, or the server was busy."""
        if meaning_of(self.failed) is Meaning.BUSY and self.failed and self.busy < _BUSY_TRIES:
            self.busy += 1
            return True
        if self._whole and not self.ended and not self.failed:
            self._whole = False
            return True
        return False

    def listing(self) -> Listing:
        """Return the result."""
        reason, detail = self._incomplete()
        return Listing(
            self.directory,
            [] if reason is not None and self.failed else self.entries,
            reason is None,
            reason,
            detail,
            tuple(self.undecodable),
            frozenset(self.mangled),
        )

    def _incomplete(self) -> tuple[Reason | None, str]:
        if self.failed:
            error = entry_error(self.failed, self.directory)
            return error.reason, error.message
        if self.overflow:
            return Reason.LISTING_INCOMPLETE, "too many names to hold at once"
        if self.undecodable:
            return Reason.NAME_UNDECODABLE, f"{counted_are(len(self.undecodable), 'name')} no UTF-16"
        return None, ""


_NOT_A_DIRECTORY = 0xC0000103


def given_up(directory: RelPath, how: str) -> Listing:
    """Return the listing of a folder with which the connection broke again and again."""
    error = timed_out(directory, how)
    return Listing(directory, [], complete=False, reason=error.reason, detail=error.message)


class ListLane:
    """The folders in flight on one channel."""

    def __init__(self, channel: Channel, limits: SmbLimits) -> None:
        self.channel = channel
        self.folders: dict[FolderList, None] = {}
        self.touched: dict[FolderList, None] = {}
        self.entries = 0
        self.max_entries = limits.max_entries
        self._limit = limits.folders_in_flight
        self._most = min(_FIRST_FOLDERS, self._limit)
        self._quickest_s = _EVER

    @property
    def query_size(self) -> int:
        """Bytes asked for with one QUERY_DIRECTORY: two of them, CREATE and CLOSE must fit into the credits."""
        unit = packets.CREDIT_UNIT
        return max(min(self.channel.max_transact, self.channel.affordable(2) // 2 // unit * unit), unit)

    def has_room(self) -> bool:
        """Return whether another folder may be begun now."""
        charge = self.channel.charge(self.query_size)
        return len(self.folders) < self._most and self.channel.can_send(2 + 2 * charge)

    def start(self, folder: FolderList) -> None:
        """Begin a folder, for which has_room() was true."""
        self.folders[folder] = None
        folder.begin(self)

    def settle(self) -> list[FolderList]:
        """Send what the replies that came ask for; return the folders that are done."""
        done = []
        touched, self.touched = self.touched, {}
        for folder in touched:
            if not folder.advance():
                if folder.pending == 0:
                    self.touched[folder] = None  # for want of credits: looked at again
                continue
            del self.folders[folder]
            self.entries -= len(folder.entries)
            self._pace()
            done.append(folder)
        return done

    def _pace(self) -> None:
        """Keep no more in flight than hides the round trip: a lane that hoards starves the others at the end."""
        latency = self.channel.latency_s
        self._quickest_s = min(self._quickest_s, latency)
        if latency > 2 * self._quickest_s + _QUEUE_S:
            self._most = max(self._most - 1, _FEWEST_FOLDERS)
        else:
            self._most = min(self._most + 1, self._limit)
