"""Listing many directories at once over one session."""

from __future__ import annotations

import time
from collections.abc import Callable

from syncd.core.errors import EntryUnreadable
from syncd.core.model import ROOT, Entry, Kind, Listing, RelPath
from syncd.core.reasons import Reason
from syncd.core.shown import counted_are
from syncd.sources.sftp.wire import (
    ATTRS,
    CLOSE,
    EOF,
    HANDLE,
    LSTAT,
    NAME,
    OPENDIR,
    READDIR,
    STATUS,
    Named,
    Reply,
    Session,
    parse_attributes,
    parse_handle,
    parse_names,
    parse_status,
    string,
)
from syncd.sources.sftp.work import Task, Work, entry_error

FOLDERS_IN_FLIGHT = 32
READDIRS_FIRST = 2  # the usual folder: its names, and the end
READDIRS_MAX = 8
ENTRIES_IN_FLIGHT = 100_000
NAME_BYTES_MAX = 4096
FOLDER_TIME_S = 600.0


class Scanning(Work[Listing]):
    """One call of scan(). locate: path -> the server's path. max_entries: of one directory, against endless ones."""

    def __init__(self, pending: list[RelPath], locate: Callable[[str], bytes], max_entries: int) -> None:
        super().__init__(FOLDERS_IN_FLIGHT)
        self._pending = pending
        self._open: dict[_Directory, None] = {}
        self.locate = locate
        self.max_entries = max_entries
        self.held = 0

    @property
    def exhausted(self) -> bool:
        return not self._pending

    def next_task(self) -> _Directory | None:
        return _Directory(self, self._pending.pop()) if self._pending and self.held < ENTRIES_IN_FLIGHT else None

    def opened(self, directory: _Directory) -> None:
        """A directory has a handle and wants to be read on."""
        self._open[directory] = None

    def ask_more(self) -> None:
        """While very many entries are held, only the oldest directory reads on: its listing gets out first."""
        for directory in list(self._open):
            if directory.done or not directory.wants_more:
                del self._open[directory]
                continue
            directory.read_on()
            if self.held >= ENTRIES_IN_FLIGHT:
                return


class _Directory(Task):
    """One directory: LSTAT and OPENDIR together, READDIR until the end, CLOSE."""

    def __init__(self, work: Scanning, path: RelPath) -> None:
        super().__init__()
        self._work = work
        self._path = path
        self._reset()

    def _reset(self) -> None:
        self._entries: list[Entry] = []
        self._undecodable: list[str] = []
        self._handle = b""
        self._asked = 0
        self._ended = False
        self._window = READDIRS_FIRST
        self._problem: tuple[Reason, str] | None = None

    @property
    def wants_more(self) -> bool:
        return not self._ended and bool(self._handle)

    def begin(self, session: Session) -> None:
        self._work.held -= len(self._entries)
        self._reset()
        self._session = session
        self._began_s = time.monotonic()
        path = string(self._work.locate(self._path))
        if self._path != ROOT:  # the root may be a link, what lies below it may not
            session.ask(LSTAT, path, self._looked)
        session.ask(OPENDIR, path, self._opened)

    def give_up(self, error: EntryUnreadable) -> None:
        self._problem = self._problem or (Reason.TIMEOUT, error.message)
        self._finish()

    def _looked(self, reply: Reply) -> None:
        """A link that has taken the folder's place is not followed. (An error here comes again, from OPENDIR.)"""
        if reply.kind == ATTRS and parse_attributes(reply).kind is not Kind.DIRECTORY:
            self._problem = (Reason.GONE, f"{self._path!r} is not a folder any more")

    def _opened(self, reply: Reply) -> None:
        if reply.kind != HANDLE:
            error = entry_error(reply, self._path)
            self._problem = self._problem or (error.reason, error.message)
            self._finish()
            return
        self._handle = parse_handle(reply)
        if self._problem is not None:
            self._close()
            self._finish()
            return
        self.read_on()
        self._work.opened(self)

    def read_on(self) -> None:
        """Keep a few READDIRs in flight; their replies may come in any order, what counts is that all have come."""
        while self._asked < self._window and not self._ended:
            self._asked += 1
            self._session.ask(READDIR, self._handle, self._read)

    def _read(self, reply: Reply) -> None:
        self._asked -= 1
        if reply.kind == NAME and not self.done:
            self.moved = True
            self._window = READDIRS_MAX
            names = parse_names(reply)
            if not names and not self._ended:
                self._stop(Reason.UNREADABLE, "the server sent an empty part of the listing")
            held = len(self._entries)
            for each in names:
                self._add(each)
            self._work.held += len(self._entries) - held
            if len(self._entries) > self._work.max_entries:
                self._stop(Reason.LISTING_INCOMPLETE, f"more than {self._work.max_entries} entries in one folder")
            elif time.monotonic() - self._began_s > FOLDER_TIME_S:
                self._stop(Reason.TIMEOUT, f"the listing did not end within {FOLDER_TIME_S:g} s")
        elif reply.kind == STATUS and parse_status(reply)[0] == EOF:
            self._ended = True
        elif not self._ended:
            error = entry_error(reply, self._path)
            self._stop(Reason.LISTING_INCOMPLETE if self._entries else error.reason, error.message)
        if self._ended and self._asked == 0 and not self.done:
            self._close()
            self._finish()

    def _add(self, named: Named) -> None:
        if named.name in (b".", b".."):
            return
        try:
            name = named.name.decode("utf-8")
        except UnicodeDecodeError:
            self._undecodable.append(named.name[:NAME_BYTES_MAX].decode("utf-8", "backslashreplace"))
            return
        kind, fingerprint = named.attributes.kind, named.attributes.fingerprint
        if named.attributes.mode is None or (fingerprint is None and kind is Kind.FILE) or len(name) > NAME_BYTES_MAX:
            self._problem = (Reason.LISTING_INCOMPLETE, f"the server does not say what {name[:200]!r} is")
            return
        size, mtime_ns, ctime_ns, file_id = fingerprint or (0, 0, 0, 0)
        self._entries.append(Entry(name, kind, size, mtime_ns, ctime_ns, file_id))

    def _stop(self, reason: Reason, detail: str) -> None:
        """Ask for nothing more; what is in flight is waited for, so that the handle can be closed."""
        self._ended = True
        self._problem = (reason, detail)

    def _close(self) -> None:
        self._session.ask(CLOSE, self._handle, _ignore)
        self._handle = b""

    def _finish(self) -> None:
        if self._problem is None and self._undecodable:
            self._problem = Reason.NAME_UNDECODABLE, f"{counted_are(len(self._undecodable), 'name')} not UTF-8"
        reason, detail = self._problem or (None, "")
        listing = Listing(self._path, self._entries, reason is None, reason, detail, tuple(self._undecodable))
        self._work.held -= len(self._entries)
        self._entries = []
        self._work.end(self, listing)


def _ignore(_reply: Reply) -> None:
    """A handle was closed; whatever the server says of it, it is of no use to us any more."""
