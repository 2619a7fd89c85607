"""The whole examination: this host, then every mirror; mirrors at the same time, so that a silent server costs little.

What is learned of a server up to the login holds for all mirrors that log in there alike: a refused password is not
tried again by the next mirror.
"""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from syncd.config import MirrorSettings, Settings, SourceUrl
from syncd.core.errors import ConfigError, EntryGone, SyncdError
from syncd.core.model import RelPath
from syncd.doctor import awake, clock, host, listening, mac, secrets, services
from syncd.doctor.checks import (
    Check,
    Group,
    Level,
    Pace,
    TimedOut,
    fail,
    failed,
    ok,
    skipped,
    within,
)
from syncd.doctor.parallel import Running, results
from syncd.doctor.sample import check_listing
from syncd.doctor.target import Target
from syncd.ports import Source

AT_ONCE = 8
_LISTINGS = ("listing",)


def examine_host(
    settings: Settings | None, error: ConfigError | None, program: str = "syncd", pace: Pace | None = None
) -> Group:
    """Look at what does not belong to a mirror. settings None: the configuration does not load; error says why."""
    wanted = settings is not None and settings.host.keep_awake
    group = Group("", "this host", [host.check_versions(), *awake.check_sleep(wanted=wanted)])
    if error is not None:
        group.checks += host.explain(error, program)
    elif settings is not None:
        group.checks += host.check_configuration(settings)
    if settings is not None:
        group.checks += secrets.check_host(settings)
        group.checks += services.check_announcements(settings)
        group.checks += _state(settings, program, pace or Pace())
    return group


def _state(settings: Settings, program: str, pace: Pace) -> list[Check]:
    def look() -> list[Check]:
        return host.check_state(settings, program) + listening.check_addresses(settings)

    try:
        return within(pace.target_s, look)
    except TimedOut as error:
        seen = f"{settings.host.state_dir}: {error.message}: is it on a server or disk that is away?"
        return [fail("state directory", seen, "set host.state_dir to a directory on a local disk")]


def examine(
    settings: Settings,
    env: Mapping[str, str],
    program: str = "syncd",
    pace: Pace | None = None,
    *,
    only: str = "",
    daemon: bool = True,
    refused: Collection[str] = (),
) -> Iterator[Group]:
    """Yield the checks of each mirror in the order of the configuration, then those of NSQ, MongoDB and the service.

    Last comes how far the clocks are apart.

    All are made at the same time and done after pace.whole_s at the latest. program: how the operator calls syncd with
    this configuration, for the next steps. env: whose variables win over the file. only: this mirror alone.
    daemon: the service and the daemon too (False in the daemon itself). refused: mirrors whose login was refused to the
    daemon already: their sources are not tried.
    """
    pace = pace or Pace()
    until = time.monotonic() + pace.whole_s
    running = _mirrors(settings, program, pace, only, refused)
    if not only:
        running += services.begin(settings, env, program, pace, daemon=daemon)
    told: list[Check] = []
    for group in results(running, lambda: until - time.monotonic(), pace.whole_s):
        told += group.checks
        yield group
    clocks = clock.largest_of(told)
    if clocks:
        yield Group("", "clocks, against this host's", clocks)


def examine_mirrors(
    settings: Settings, program: str = "syncd", pace: Pace | None = None, *, only: str = ""
) -> Iterator[Group]:
    """Yield the checks of each mirror, as examine() does."""
    pace = pace or Pace()
    until = time.monotonic() + pace.whole_s
    running = _mirrors(settings, program, pace, only)
    yield from results(running, lambda: until - time.monotonic(), pace.whole_s)


def _mirrors(settings: Settings, program: str, pace: Pace, only: str, refused: Collection[str] = ()) -> list[Running]:
    servers = _Servers()
    slots = threading.BoundedSemaphore(AT_ONCE)
    return [
        Running(
            Group(mirror.name, f"{mirror.source} -> {mirror.target}"),
            _Examination(mirror, settings, servers, program, pace, refused=mirror.name in refused).add_to,
            slots,
        )
        for mirror in settings.mirrors
        if only in ("", mirror.name)
    ]


class _Servers:
    """What stopped us at a server, by everything that makes one login the same as another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[object, ...], _Server] = {}

    def of(self, mirror: MirrorSettings, url: SourceUrl) -> _Server:
        secret = mirror.password.where if mirror.password is not None else ""
        key = (
            url.scheme,
            url.host,
            url.port,
            url.domain,
            url.user,
            secret,
            mirror.key_file,
            mirror.auth,
            mirror.encrypt,
        )
        with self._lock:
            return self._known.setdefault(key, _Server())


@dataclass(slots=True)
class _Server:
    """One server as one user. stopped: the failed hop, and the mirror whose examination found it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: tuple[Check, str] | None = None


class _Examination:
    """One mirror's checks."""

    def __init__(
        self,
        mirror: MirrorSettings,
        settings: Settings,
        servers: _Servers,
        program: str,
        pace: Pace,
        *,
        refused: bool = False,
    ) -> None:
        self._mirror = mirror
        self._refused = refused
        self._servers = servers
        self._secret_hint = f"{program} secret {shlex.quote(mirror.name)}"
        self._pace = pace
        self._target = Target(mirror, settings.host.state_dir)

    def add_to(self, told: list[Check]) -> None:
        """Add the checks as they are made."""
        closed = secrets.check_mirror(self._mirror, self._secret_hint)
        told += closed
        told += mac.with_folder_advice(self._examine_target())
        if any(check.status is Level.FAIL for check in closed):
            told += skipped(["source"], "its secret cannot be used")
            return
        if self._refused:
            told += skipped(["source"], "the login was refused to the daemon, and a password is tried once")
            return
        refused = False
        for number, url in enumerate(self._mirror.sources):
            checks = mac.with_network_advice(self._examine_source(url, refused))
            refused = refused or any(check.name == "login" and check.status is Level.FAIL for check in checks)
            label = f" (stand-by {number}, {url})" if number else ""
            told += [replace(check, seen=check.seen + label) for check in checks]

    def _examine_target(self) -> list[Check]:
        try:
            return within(self._pace.target_s, self._target.checks)
        except TimedOut as error:
            path = self._mirror.target
            return [fail("target", f"{path}: {error.message}: is it on a server or disk that is away?", f"df {path}")]

    # -- source

    def _examine_source(self, url: SourceUrl, refused: bool) -> list[Check]:
        adapter = _adapter(url)
        if refused:
            return skipped(["source"], "the password was refused above, and a password is tried once")
        checks = self._hops(adapter, url)
        bad = next((check for check in checks if check.status is Level.FAIL), None)
        if bad is not None:
            return checks + skipped(_LISTINGS, f"{bad.name} failed")
        source = adapter.open_source(self._mirror, url, self._secret_hint, self._pace)
        try:
            return checks + self._look(source, [check.name for check in checks])
        finally:
            source.close()

    def _hops(self, adapter: _Adapter, url: SourceUrl) -> list[Check]:
        """Try the hops, unless an examination of the same server with the same login got stuck before the share."""
        shared = adapter.SHARED_HOPS
        server = self._servers.of(self._mirror, url)
        if not shared:
            return adapter.hops(self._mirror, url, self._secret_hint, self._pace)
        with server.lock:
            if server.stopped is not None:
                stopped, by = server.stopped
                return [fail(stopped.name, f"as for the mirror {by}, on the same server: {stopped.seen}", stopped.todo)]
            checks = adapter.hops(self._mirror, url, self._secret_hint, self._pace)
            bad = next((check for check in checks if check.status is Level.FAIL and check.name in shared), None)
            if bad is not None:
                server.stopped = bad, self._mirror.name
            return checks

    def _look(self, source: Source, told: Sequence[str]) -> list[Check]:
        """Open the mirror's root folder, compare clocks, look for the marker, and list."""
        try:
            info = within(self._pace.check_s, source.check, source.close)
        except SyncdError as error:
            name = "login" if error.exit_code == 12 else "folder"
            return [failed(name, error), *skipped(_LISTINGS, f"{name} failed")]
        checks = [] if "folder" in told else [ok("folder", info.description)]
        checks += [*clock.check_clock(info, self._mirror), *self._marker(source)]
        return checks + check_listing(source, self._mirror, self._target.traits, self._target.room, self._pace)

    def _marker(self, source: Source) -> list[Check]:
        marker = self._mirror.marker
        if not marker:
            return []
        try:
            within(self._pace.check_s, lambda: source.read(RelPath(marker)), source.close)
        except EntryGone:
            seen = f'"{marker}" is not on the source: nothing is done while it is missing'
            return [fail("marker", seen, "see whether the share is mounted on the server, or set another marker")]
        except SyncdError as error:
            return [failed("marker", error)]
        return [ok("marker", f'"{marker}" is there')]


class _Adapter(Protocol):
    """What the modules of this package that know one kind of source offer."""

    SHARED_HOPS: tuple[str, ...]

    def hops(self, mirror: MirrorSettings, url: SourceUrl, secret_hint: str, pace: Pace, /) -> list[Check]: ...

    def open_source(self, mirror: MirrorSettings, url: SourceUrl, secret_hint: str, pace: Pace, /) -> Source: ...


def _adapter(url: SourceUrl) -> _Adapter:
    """Return the module that knows the hops of a source; only that one's libraries are loaded."""
    match url.scheme:
        case "smb":
            from syncd.doctor import smb

            return smb
        case "sftp":
            from syncd.doctor import sftp

            return sftp
        case _:
            from syncd.doctor import local

            return local
