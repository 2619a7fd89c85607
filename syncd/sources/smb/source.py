"""The Samba share as a Source."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from syncd.core.errors import EntryGone, EntryUnreadable, SourceError, SourceUnavailable, SourceVanished
from syncd.core.model import ROOT, Fingerprint, Listing, RelPath, Wanted
from syncd.core.reasons import Reason
from syncd.ports import FetchQueue, Outcome, Pace, Sink, SourceInfo
from syncd.sources import Unpaced
from syncd.sources.smb import packets
from syncd.sources.smb.asking import look_at
from syncd.sources.smb.channel import Channel
from syncd.sources.smb.connecting import Establish
from syncd.sources.smb.errors import ChannelLost, Meaning, entry_error, meaning_of, status_name
from syncd.sources.smb.fetching import Fetching
from syncd.sources.smb.limits import SmbLimits
from syncd.sources.smb.packets import AllInformation
from syncd.sources.smb.pool import Logins, Pool
from syncd.sources.smb.probing import list_shares
from syncd.sources.smb.scanning import Scanning
from syncd.sources.smb.session import Server
from syncd.sources.smb.watching import SmbWatch

_NOT_A_DIRECTORY = 0xC0000103


class SmbSource:
    """A folder of an SMB share (syncd.ports.Source). Connects when first needed.

    folder: below the share, "/"-separated, "" for the share's root. password is asked at each login and may be None for
    Kerberos tickets. connections is the most at a time (0: as many as help); watcher() has one of its own.
    secret_hint: what the operator does about a refused login.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int = 445,
        share: str,
        folder: str = "",
        username: str = "",
        domain: str = "",
        password: Callable[[], str] | None = None,
        encrypt: bool = False,
        auth: str = "negotiate",
        connections: int = 0,
        secret_hint: str = "",
        limits: SmbLimits | None = None,
    ) -> None:
        self._server = Server(host, port, username, domain, password, encrypt, auth, secret_hint)
        self._share = share
        self._folder = folder.strip("/").replace("/", "\\")
        self._limits = limits or SmbLimits()
        self._pace: Pace = Unpaced()
        self._pool = Pool(self._establish, Logins(password), self._limits, connections)

    @property
    def description(self) -> str:
        """The share as a URL, for messages."""
        folder = f"/{self._folder}".replace("\\", "/") if self._folder else ""
        return f"smb://{self._server.username}@{self._server.where}/{self._share}{folder}"

    def check(self) -> SourceInfo:
        """See ports.Source."""
        channel, status, found = self._look_at(self._folder)
        if found is None:
            raise self._no_root(status)
        if not found.attributes & packets.ATTRIBUTE_DIRECTORY:
            raise self._no_root(_NOT_A_DIRECTORY)
        return SourceInfo(self.description, channel.clock_offset_ns)

    def scan(self, pending: list[RelPath]) -> Iterator[Listing]:
        """See ports.Source."""
        return Scanning(self._pool, pending, self._locate, self._limits).listings()

    def fetch(self, queue: FetchQueue, sink: Callable[[Wanted], Sink]) -> Iterator[Outcome]:
        """See ports.Source."""
        fetching = Fetching(self._pool, queue, sink, lambda wanted: self._locate(wanted.path), self._limits, self._pace)
        return fetching.outcomes()

    def keep_pace(self, pace: Pace) -> None:
        """See ports.Source."""
        self._pace = pace

    def read(self, path: RelPath) -> Fingerprint:
        """See ports.Source."""
        _, status, found = self._look_at(self._locate(path))
        if found is None:
            raise entry_error(status, path)
        if found.attributes & packets.ATTRIBUTE_REPARSE:
            raise EntryUnreadable(f'"{path}" is a link or junction, which syncd does not follow', reason=Reason.LINK)
        if found.attributes & packets.ATTRIBUTE_DIRECTORY:
            raise EntryGone(f'"{path}" is a folder now')
        return Fingerprint(found.size, found.mtime_ns, found.ctime_ns, found.file_id)

    def watcher(self) -> SmbWatch:
        """Return what tells of changes in the same folder; it has a connection of its own and outlives this source."""
        return SmbWatch(self._pool.sibling(), self._locate, self._limits)

    def close(self) -> None:
        """See ports.Source."""
        self._pool.close()

    # --- inside

    def _establish(self) -> Establish:
        return Establish(self._server, self._share, self._limits, lambda: list_shares(self._server, self._limits))

    def _locate(self, path: RelPath) -> str:
        below = path.replace("/", "\\")
        return f"{self._folder}\\{below}" if self._folder and path != ROOT else self._folder or below

    def _look_at(self, path: str) -> tuple[Channel, int, AllInformation | None]:
        """Look at one path; on a new connection where a kept one turns out to be dead."""
        while True:
            channel = self._pool.channel()
            try:
                status, found = look_at(channel, path)
            except ChannelLost as lost:
                channel.close()
                if not channel.reused:
                    raise lost.error from lost
            except BaseException:
                channel.close()
                raise
            else:
                self._pool.give_back(channel)
                return channel, status, found

    def _no_root(self, status: int) -> SourceError:
        where = f'the folder "{self._folder}" of the share' if self._folder else "the root of the share"
        if meaning_of(status) is Meaning.GONE:
            text = f'{where} "{self._share}" at {self._server.where} is not there ({status_name(status)})'
            return SourceVanished(text, hint="check the folder in the mirror's source")
        text = f'{where} "{self._share}" at {self._server.where} cannot be read ({status_name(status)})'
        return SourceUnavailable(text, hint="give the share's user read permission on the server")
