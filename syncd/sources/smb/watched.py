"""Folders watched over one channel: a handle and an outstanding CHANGE_NOTIFY each, opened and checked a few at a time.

What Samba 4.17 does (measured): a request on the handle of a folder that an SMB client removes is answered
STATUS_DELETE_PENDING, one made a moment later is not answered at all: so after each request the handle is asked whether
its folder is on the way out, and closed at once if it is. A folder removed or moved on the server itself tells its own
handle nothing, so that every handle is checked against its path now and then. Watching begins some ms after the server
says so. In-place writes on the server are told as changes of attributes only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from syncd.core.errors import SourceUnavailable, SourceVanished
from syncd.core.model import ROOT, RelPath
from syncd.core.paths import split
from syncd.ports import Hint
from syncd.sources.smb import packets
from syncd.sources.smb.channel import Channel
from syncd.sources.smb.errors import (
    NOTIFY_CLEANUP,
    NOTIFY_ENUM_DIR,
    SUCCESS,
    ChannelLost,
    Meaning,
    meaning_of,
    status_name,
)
from syncd.sources.smb.limits import SmbLimits
from syncd.sources.smb.notified import directory_of, names_in
from syncd.sources.smb.packets import CHANGE_NOTIFY, CLOSE, CREATE, ECHO, QUERY_INFO

TICK_S = 15.0
_CHECKS_A_TICK = 50
_HINTED_MAX = 1_000
_ANSWER_BYTES = packets.CREDIT_UNIT
_INFO_BYTES = 8192
_ACCESS = packets.FILE_LIST_DIRECTORY | packets.FILE_READ_ATTRIBUTES
_OPTIONS = packets.OPTION_DIRECTORY | packets.OPTION_REPARSE
_SETTLED_S = 0.5  # after a handle was opened the server watches for certain
_BURST, _BREATH_S = 20, 0.02
_GONE, _LINK, _LEAVING = 0xC0000034, 0x8000002D, 0xC0000056
_NOT_TOLD = frozenset({0xC0000002, 0xC000000D, 0xC0000010, 0xC00000BB})  # not implemented, no such parameter, ...


class WatchedFolder:
    """One folder and its handle. file_id: 0 until the server told it."""

    def __init__(self, directory: RelPath, path: str) -> None:
        self.directory = directory
        self.path = path
        self.handle: bytes | None = None
        self.file_id = 0


class WatchLane:
    """All folders watched on one channel, and the changes they told of since take_hint().

    The mirror's root is watched as a tree; those that want() names have a handle of their own. begun: all of that
    is watched. refused: the status with which the server refused to watch the root at all. Used by one thread; raises
    ChannelLost.
    """

    def __init__(self, channel: Channel, locate: Callable[[RelPath], str], limits: SmbLimits) -> None:
        self.channel = channel
        self.refused = 0
        self._locate = locate
        self._most = limits.watched_folders
        self._full = ""
        self._root = WatchedFolder(ROOT, locate(ROOT))
        self._folders: dict[RelPath, WatchedFolder] = {}
        self._wanted: dict[RelPath, None] = {}
        self._asked = 0
        self._gone: set[RelPath] = set()
        self._to_open: dict[RelPath, None] = {ROOT: None}
        self._to_check: dict[RelPath, None] = {}
        self._to_close: list[bytes] = []
        self._due: list[WatchedFolder] = []
        self._fresh: dict[WatchedFolder, float] = {}
        self._to_ask: dict[WatchedFolder, None] = {}
        self._changed: set[RelPath] = set()
        self._everything = False
        self.begun = False
        now = time.monotonic()
        self._next_tick = now + TICK_S
        self._answers = 0
        self._breath_at = self._tell_at = now
        self._turn = 0

    # --- state

    @property
    def state(self) -> str:
        """How much is watched, as ports.HintSource.state says it."""
        there = self._asked - len(self._gone)
        watched = len(self._folders)
        if watched >= there:
            return "on"
        why = f" ({self._full})" if self._full else ""
        return f"partly: what changes on the server itself is told at once for {watched} of {there} folders{why}"

    @property
    def next_s(self) -> float:
        """How long advance() has nothing to do if nothing arrives."""
        busy = self._due or self._to_open or self._to_check or self._to_ask or self._fresh or self._has_news
        if busy or not self.begun:
            return _BREATH_S
        return max(self._next_tick - time.monotonic(), 0.0)

    @property
    def _has_news(self) -> bool:
        return self._everything or bool(self._changed)

    # --- asking

    def want(self, directories: Sequence[RelPath]) -> None:
        """Watch these folders, the most important first, in place of those wanted before."""
        asked = dict.fromkeys(each for each in directories if each != ROOT)
        self._asked = len(asked)
        self._wanted = dict.fromkeys(list(asked)[: self._most])
        self._gone &= self._wanted.keys()
        for directory in self._folders.keys() - self._wanted.keys():
            self._close(self._folders.pop(directory))
        self._to_check = {each: None for each in self._to_check if each == ROOT or each in self._wanted}
        self._to_open = {each: None for each in self._to_open if each == ROOT}
        self._to_open.update((each, None) for each in self._wanted if each not in self._folders)

    def advance(self) -> None:
        """Send what is due: handles to open, requests to make again, checks; as far as the credits go."""
        now = time.monotonic()
        self._send_closes()
        self._arm_again(now)
        while self._to_open and self.channel.can_send(3):
            self._open(next(iter(self._to_open)))
        while self._to_check and self.channel.can_send(3):
            self._check(next(iter(self._to_check)))
        self._ask()
        self._settle(now)
        if now >= self._next_tick and self.channel.can_send(1):
            self._tick(now)

    def take_hint(self) -> Hint | None:
        """Return what changed since the last hint; None where nothing did, too soon, or before watching has begun."""
        now = time.monotonic()
        if not (self.begun and self._has_news) or now < self._tell_at:
            return None
        self._tell_at = now + _BREATH_S
        hint = Hint(None if self._everything else frozenset(self._changed))
        self._everything = False
        self._changed = set()
        return hint

    def _settle(self, now: float) -> None:
        """Tell of folders that are watched by now: what changed before must be looked at once."""
        for folder in [each for each, since in self._fresh.items() if now - since >= _SETTLED_S]:
            del self._fresh[folder]
            if self.begun and self.is_current(folder):
                self.tell_all_of(folder)
        if not (self.begun or self._fresh or self._to_open):
            self.begun = self._everything = all(each.handle for each in (self._root, *self._folders.values()))

    def _arm_again(self, now: float) -> None:
        """Make the requests that were answered again: at once, but in a burst of answers every 20 ms.

        Meanwhile the server keeps what happens (3.3.5.19), Samba up to 1,000 changes a handle.
        """
        if not self._due or (self._answers > _BURST and now < self._breath_at):
            return
        if now >= self._breath_at:
            self._answers = 0
            self._breath_at = now + _BREATH_S
        due, self._due = self._due, []
        for folder in due:
            if folder.handle is None:
                continue
            if self.channel.can_send(1):
                body = packets.pack_change_notify(folder is self._root, _ANSWER_BYTES, folder.handle)
                self.channel.send([(CHANGE_NOTIFY, body, 1, _Answers(self, folder))], patient=True)
                self._to_ask[folder] = None
            else:
                self._due.append(folder)

    def _tick(self, now: float) -> None:
        """See that the connection lives, and check the next handles against their paths."""
        self._next_tick = now + TICK_S
        self.channel.send([(ECHO, packets.pack_echo(), 1, _ignore)])
        self._to_check[ROOT] = None
        wanted = list(self._wanted)
        turn, self._turn = self._turn, self._turn + _CHECKS_A_TICK
        if self._turn >= len(wanted):
            self._turn = 0
        for directory in wanted[turn : turn + _CHECKS_A_TICK]:
            self.look_after(directory)

    def look_after(self, directory: RelPath) -> None:
        """A wanted folder may have come, gone or become another: see to its handle soon."""
        if directory in self._folders:
            self._to_check[directory] = None
        elif directory in self._wanted:
            self._to_open[directory] = None

    def _open(self, directory: RelPath) -> None:
        del self._to_open[directory]
        folder = self._root
        if directory != ROOT:
            folder = self._folders[directory] = WatchedFolder(directory, self._locate(directory))
        self.channel.send(
            [
                (CREATE, packets.pack_create(folder.path, _ACCESS, _OPTIONS), 1, _Opens(self, folder)),
                (CHANGE_NOTIFY, packets.pack_change_notify(folder is self._root, _ANSWER_BYTES), 1,
                 _Answers(self, folder)),
            ],
            patient=True,
        )  # fmt: skip

    def _ask(self) -> None:
        """Ask the handles on which a request was just made whether their folders are there to stay."""
        while self._to_ask and self.channel.can_send(1):
            folder = next(iter(self._to_ask))
            del self._to_ask[folder]
            if folder.handle is not None:
                body = packets.pack_query_info(packets.ALL_INFORMATION, _INFO_BYTES, folder.handle)
                self.channel.send([(QUERY_INFO, body, 1, _Identity(self, folder))])

    def _check(self, directory: RelPath) -> None:
        del self._to_check[directory]
        folder = self._root if directory == ROOT else self._folders.get(directory)
        if folder is None or folder.handle is None:
            return
        check = _Check(self, folder)
        self.channel.send(
            [
                (CREATE, packets.pack_create(folder.path, packets.FILE_READ_ATTRIBUTES, _OPTIONS), 1, check.on_create),
                (QUERY_INFO, packets.pack_query_info(packets.ALL_INFORMATION, _INFO_BYTES), 1, check.on_query),
                (CLOSE, packets.pack_close(), 1, _ignore),
            ]
        )

    def _close(self, folder: WatchedFolder) -> None:
        """Close a handle at once; its request is then answered with STATUS_NOTIFY_CLEANUP."""
        if folder.handle is not None:
            self._to_close.append(folder.handle)
            folder.handle = None
            self._send_closes()

    def _send_closes(self) -> None:
        while self._to_close and self.channel.can_send(1):
            self.channel.send([(CLOSE, packets.pack_close(self._to_close.pop()), 1, _ignore)])
            self.channel.flush()

    # --- what the server says

    def is_current(self, folder: WatchedFolder) -> bool:
        """Whether this folder is still wanted, and not a later handle of the same path instead of it."""
        return folder is self._root or self._folders.get(folder.directory) is folder

    def opened(self, folder: WatchedFolder, handle: bytes) -> None:
        """A handle is there; closed again where nobody wants it by now."""
        folder.handle = handle
        self._gone.discard(folder.directory)
        if self.is_current(folder):
            self._fresh[folder] = time.monotonic()
            self._to_ask[folder] = None
        else:
            self._close(folder)

    def answered(self, folder: WatchedFolder, names: list[str]) -> None:
        """Changes were told; the request is to be made again."""
        self._answers += 1
        self._due.append(folder)
        if not names:
            self.tell_all_of(folder)
        for name in names:
            directory, path = directory_of(folder.directory, name)
            self._changed.add(directory)
            if path in self._wanted:
                self.look_after(path)
        if len(self._changed) > _HINTED_MAX:
            self._everything = True

    def tell_all_of(self, folder: WatchedFolder) -> None:
        """Anything may have changed in this folder (for the root: anywhere)."""
        if folder is self._root:
            self._everything = True
        else:
            self._changed.add(folder.directory)

    def drop(self, folder: WatchedFolder, status: int) -> None:
        """A folder cannot be watched (any more). For the root this is the end of the lane."""
        if folder is self._root:
            self._end(status)
        self._forget(folder)
        meaning = meaning_of(status)
        if meaning is Meaning.GONE:
            self._gone.add(folder.directory)
        elif meaning is Meaning.BUSY:
            self._full = "the server opens no more"
            self._most = max(len(self._folders), 1)
            self._wanted = {each: None for each in self._wanted if each in self._folders}
            self._to_open.clear()

    def replaced(self, folder: WatchedFolder) -> None:
        """Something else lies at the path of a handle now."""
        if folder is self._root:
            self._end(_GONE)
        self._forget(folder)
        self.look_after(folder.directory)

    def _forget(self, folder: WatchedFolder) -> None:
        if folder.handle is not None:
            self._changed.add(split(folder.directory)[0])
        self._close(folder)
        self._fresh.pop(folder, None)
        if self._folders.get(folder.directory) is folder:
            del self._folders[folder.directory]

    def _end(self, status: int) -> None:
        if self._root.handle is not None and status in _NOT_TOLD:
            self.refused = status
        text = f"the mirror's root folder at {self.channel.where} cannot be watched ({status_name(status)})"
        vanished = meaning_of(status) is Meaning.GONE
        raise ChannelLost(SourceVanished(text) if vanished else SourceUnavailable(text))


class _Opens:
    """Takes the reply to the CREATE of a folder to watch."""

    def __init__(self, lane: WatchLane, folder: WatchedFolder) -> None:
        self._lane, self._folder = lane, folder

    def __call__(self, status: int, view: memoryview, start: int, end: int) -> None:
        if status:
            self._lane.drop(self._folder, status)
            return
        _, _, _, attributes, handle = packets.unpack_create(view, start, end)
        self._lane.opened(self._folder, handle)
        if attributes & packets.ATTRIBUTE_REPARSE:
            self._lane.drop(self._folder, _LINK)


class _Identity:
    """Takes what the server knows of an open folder: its id, and whether it is to go."""

    def __init__(self, lane: WatchLane, folder: WatchedFolder) -> None:
        self._lane, self._folder = lane, folder

    def __call__(self, status: int, view: memoryview, start: int, end: int) -> None:
        folder = self._folder
        if status != SUCCESS or folder.handle is None or not self._lane.is_current(folder):
            return
        first, last = packets.unpack_output(view, start, end, "QUERY_INFO")
        found = packets.unpack_all_information(view, first, last)
        folder.file_id = folder.file_id or found.file_id
        if found.leaving:
            self._lane.drop(folder, _LEAVING)


class _Answers:
    """Takes the reply to one CHANGE_NOTIFY."""

    def __init__(self, lane: WatchLane, folder: WatchedFolder) -> None:
        self._lane, self._folder = lane, folder

    def __call__(self, status: int, view: memoryview, start: int, end: int) -> None:
        lane, folder = self._lane, self._folder
        if folder.handle is None or not lane.is_current(folder):
            return  # closed by us, or never opened: _Opens has seen to it
        if status == NOTIFY_ENUM_DIR:
            lane.answered(folder, [])
        elif status == NOTIFY_CLEANUP:
            lane.replaced(folder)
        elif status:
            lane.drop(folder, status)
        else:
            lane.answered(folder, names_in(view, start, end))


class _Check:
    """Takes the replies that tell whether a path still leads to the folder that we have open."""

    def __init__(self, lane: WatchLane, folder: WatchedFolder) -> None:
        self._lane, self._folder = lane, folder

    def on_create(self, status: int, view: memoryview, start: int, end: int) -> None:  # noqa: ARG002
        """Take the reply to CREATE."""
        if status and meaning_of(status) is Meaning.GONE and self._lane.is_current(self._folder):
            self._lane.drop(self._folder, status)

    def on_query(self, status: int, view: memoryview, start: int, end: int) -> None:
        """Take the reply to QUERY_INFO."""
        if status or not self._lane.is_current(self._folder) or self._folder.handle is None:
            return
        first, last = packets.unpack_output(view, start, end, "QUERY_INFO")
        found, known = packets.unpack_all_information(view, first, last).file_id, self._folder.file_id
        if known and found != known:
            self._lane.replaced(self._folder)


def _ignore(status: int, view: memoryview, start: int, end: int) -> None:
    """Take a reply that says nothing we need."""
