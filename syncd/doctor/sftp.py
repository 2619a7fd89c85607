"""Hop by hop to an SFTP server: name, port, banner, host key, login, folder."""

from __future__ import annotations

import re
import socket
import time

from syncd.config import MirrorSettings, SourceUrl
from syncd.core.errors import SourceAuthFailed, SourceUnavailable, SourceVanished, SyncdError
from syncd.core.paths import printable
from syncd.doctor.checks import Check, Pace, fail, ok, skipped, within
from syncd.doctor.dial import Peer, Stopped, reach
from syncd.ports import Source
from syncd.sources.sftp import SftpSource

SHARED_HOPS: tuple[str, ...] = ("name", "port", "banner", "host key", "login")
"""What fails here fails for every mirror on the same server with the same login."""

_HOPS = (*SHARED_HOPS, "folder")
_BANNER = re.compile(rb"^SSH-(2\.0|1\.99)-[^\r\n]*", re.MULTILINE)
_BANNER_BYTES = 8192
_OTHER_HINT = "check the port in the mirror's source: it must be the SSH server's"


def hops(mirror: MirrorSettings, url: SourceUrl, secret_hint: str, pace: Pace) -> list[Check]:
    """Try each hop; the password or key is not tried again once it was refused."""
    checks: list[Check] = []
    try:
        line = reach(Peer(url.host, url.port, "the mirror's source"), pace, checks)
        with line.socket:
            checks.append(ok("banner", _banner(url, line.socket, pace)))
        checks += _log_in(mirror, url, secret_hint, pace)
    except Stopped as stopped:
        checks.append(stopped.check)
    return _completed(checks)


def open_source(mirror: MirrorSettings, url: SourceUrl, secret_hint: str, pace: Pace) -> Source:
    """Return the source with this run's short deadlines; nothing connects yet."""
    return SftpSource(
        **mirror.sftp_login(url),
        folder=url.folder,
        connections=1,
        secret_hint=secret_hint,
        stall_s=pace.stall_s,
    )


def _completed(checks: list[Check]) -> list[Check]:
    """Add what was not tried because of the last one."""
    told = [check.name for check in checks]
    rest = [name for name in _HOPS if name not in told]
    return checks + skipped(rest, f"{told[-1]} failed") if rest else checks


def _banner(url: SourceUrl, end: socket.socket, pace: Pace) -> str:
    """Return the identification string; lines before it are allowed (RFC 4253, section 4.2)."""
    until = time.monotonic() + pace.connect_s
    said = b""
    while len(said) < _BANNER_BYTES:
        found = _BANNER.search(said)
        if found is not None and b"\n" in said[found.start() :]:
            return printable(found[0].decode("ascii", "replace"))
        try:
            end.settimeout(max(until - time.monotonic(), 0.01))
            piece = end.recv(1024)
        except TimeoutError:
            break
        except OSError:
            piece = b""
        if not piece:
            raise Stopped(fail("banner", f"{url.server} closes the connection{_told(said)}", _OTHER_HINT))
        said += piece
    if not said:
        raise Stopped(fail("banner", f"{url.server} accepts connections but says nothing", _OTHER_HINT))
    raise Stopped(
        fail("banner", f"something else than an SSH server answers at {url.server}{_told(said)}", _OTHER_HINT)
    )


def _told(said: bytes) -> str:
    line = said.split(b"\n")[0][:40].decode("ascii", "replace").strip()
    return f' (it says "{printable(line)}")' if line else " without a word"


def _log_in(mirror: MirrorSettings, url: SourceUrl, secret_hint: str, pace: Pace) -> list[Check]:
    """Log in once and open the folder; the error tells at which hop it ended."""
    source = open_source(mirror, url, secret_hint, pace)
    key = ok("host key", f"is the one pinned in {mirror.known_hosts_file}")
    how = f"with the key {mirror.key_file}" if mirror.key_file is not None else "with the password"
    login = ok("login", f'logged in as "{url.user}" {how}')
    try:
        info = within(pace.check_s, source.check, source.close)
    except SyncdError as error:
        hop = _hop_of(error)
        passed = {"host key": [], "login": [key], "folder": [key, login]}[hop]
        return [*passed, fail(hop, error.message, error.hint)]
    finally:
        source.close()
    return [key, login, ok("folder", info.description)]


def _hop_of(error: SyncdError) -> str:
    """Tell where an attempt ended. The adapter's errors differ by class, and by words for what one class covers."""
    if isinstance(error, SourceVanished):
        return "folder"
    if isinstance(error, SourceAuthFailed):
        return "host key" if "host key" in error.message or "known_hosts" in error.message else "login"
    if isinstance(error, SourceUnavailable) and ("the folder" in error.message or "not a folder" in error.message):
        return "folder"
    return "login"
