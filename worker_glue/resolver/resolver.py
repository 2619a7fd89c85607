"""worker_glue.Resolver: the daemon, else the catalogue, else the manifest; asked anew as they come and go."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self, TypeVar

from syncd.client.verified import LocalFiles
from syncd.core.errors import SyncdError
from syncd.core.reasons import Reason
from syncd.core.resolution import NOBODY, UNAVAILABLE_S, Resolution, State
from syncd.core.spelling import malformed
from worker_glue.ports import Hold
from worker_glue.resolver.daemon import DaemonFiles, unavailable
from worker_glue.resolver.forms import FINAL, Forms, Spelled, text_of
from worker_glue.resolver.prefetching import Prefetch
from worker_glue.resolver.ways import Ways
from worker_glue.resolver.where import UNCONFIGURED

if TYPE_CHECKING:
    from syncd.config.settings import Settings
    from worker_glue.nsq import Watch

POLL_MAX_S = 1.0
_SOON = frozenset({State.FETCHING, State.MISSING, State.UNAVAILABLE})
_left_by_parents: list[object] = []
"""What a forked process inherits and must not close: SQLite's handles among it (sqlite.org/howtocorrupt.html, 2.6)."""

T = TypeVar("T")


class Resolver(Forms):
    """Server paths -> verified local files. Thread-safe, and usable in a process that forks (ports.Files).

    config: the configuration file (None: $SYNCD_CONFIG, else the platform's folder); none is needed. env: in the place
    of os.environ: SYNCD_API, SYNCD_API_TOKEN_FILE, SYNCD_MOUNTS. Making one connects to nothing and opens nothing.
    """

    def __init__(self, config: Path | str | None = None, *, env: Mapping[str, str] | None = None) -> None:
        self._config = None if config is None else Path(config)
        self._env = env
        self._own: dict[int, tuple[Ways, Prefetch]] = {}

    @classmethod
    def from_settings(cls, settings: Settings, env: Mapping[str, str] | None = None) -> Self:
        """Return a resolver for a configuration that has been read; it follows its file."""
        return cls(settings.path, env=env)

    def prefetch(self, paths: Iterable[Spelled]) -> int:
        """Have files brought in the background; how many of them are ready already (see Forms.prefetch)."""
        wanted, ready = [], 0
        for spelled in dict.fromkeys(map(text_of, paths)):
            state = self._resolve(spelled).state
            ready += state is State.READY
            if state in _SOON:
                wanted.append(spelled)
        daemon = self._ways.now().daemon
        if daemon is not None and wanted:
            self._mine[1].want(wanted, daemon)
        return ready

    def watch(
        self,
        channel: str,
        *,
        topic: str | None = None,
        nsqd: Sequence[tuple[str, int]] | None = None,
        lookupd: Sequence[tuple[str, int]] | None = None,
        address_map: Mapping[str, tuple[str, int]] | None = None,
        allow_direct: bool = False,
        say: Callable[[str], None] | None = None,
    ) -> Watch:
        """Follow the announcements on NSQ, as worker_glue.watch() does. Raises ConfigError."""
        from worker_glue import watching
        from worker_glue.nsq import Where

        given = None
        if nsqd is not None or lookupd is not None:
            given = Where(nsqd or (), lookupd or (), address_map or {}, allow_direct)
        env = os.environ if self._env is None else self._env
        return watching.watch(channel, topic, given, say, config=self._config, env=env)

    def close(self) -> None:
        """Let connections and handles go, and what prefetch() still wanted; a later call begins anew."""
        own = self._own.pop(os.getpid(), None)
        _left_by_parents.extend(self._own.values())
        self._own.clear()
        if own is not None:
            own[1].close()
            own[0].close()

    # -- one process

    @property
    def _mine(self) -> tuple[Ways, Prefetch]:
        own = self._own.get(os.getpid())
        if own is None:
            made = Ways(self._config, os.environ if self._env is None else self._env), Prefetch()
            own = self._own.setdefault(os.getpid(), made)  # one call: threads get the same
        return own

    @property
    def _ways(self) -> Ways:
        return self._mine[0]

    # -- what Forms asks for

    def _resolve(self, spelled: str) -> Resolution:
        reason = malformed(spelled)
        if reason is not None:
            return NOBODY.answer(State.REFUSED, reason)
        return self._first(lambda daemon: daemon.resolve(spelled), lambda files: files.resolve(spelled))

    def _hold(self, spelled: str, ttl_s: float) -> Hold | Resolution:
        reason = malformed(spelled)
        if reason is not None:
            return NOBODY.answer(State.REFUSED, reason)
        return self._first(lambda daemon: daemon.hold(spelled, ttl_s), lambda files: self._copied(files, spelled))

    def _copied(self, files: LocalFiles, spelled: str) -> Hold | Resolution:
        verified = files.opened(spelled)
        return verified if isinstance(verified, Resolution) else self._ways.copies.of(verified)

    def _open(self, spelled: str) -> int | Resolution:
        reason = malformed(spelled)
        if reason is not None:
            return NOBODY.answer(State.REFUSED, reason)
        return self._first(lambda daemon: daemon.open(spelled), lambda files: _descriptor(files, spelled))

    def _ensure(self, spelled: str, timeout_s: float) -> Resolution:
        if malformed(spelled) is not None:
            return self._resolve(spelled)
        began, deadline = _now(), time.monotonic() + timeout_s
        while True:
            left_s = max(0.0, deadline - time.monotonic())
            answer = self._ensure_once(spelled, left_s)
            is_live = isinstance(answer, _Live)
            found = answer.found if isinstance(answer, _Live) else answer
            if self._ways.now().is_empty or _is_final(found, is_live=is_live, began=began):
                return found
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return _not_looked_for(found) if found.state is State.MISSING else found
            if not is_live or found.state is not State.FETCHING:
                time.sleep(min(found.retry_after_s or POLL_MAX_S, POLL_MAX_S, left_s))

    def _ensure_once(self, spelled: str, left_s: float) -> _Live | Resolution:
        return self._first(lambda daemon: _Live(daemon.ensure(spelled, left_s)), lambda files: files.resolve(spelled))

    # -- the ways

    def _first(self, by_daemon: Callable[[DaemonFiles], T], by_files: Callable[[LocalFiles], T]) -> T | Resolution:
        """Return the answer of the first way that can be gone; UNAVAILABLE where none can."""
        there = self._mine[0].now()
        troubles: list[SyncdError] = []
        daemon = there.daemon
        ask_last = daemon is not None and daemon.is_quiet  # so that nobody waits for it again and again
        if daemon is not None and not ask_last:
            try:
                return by_daemon(daemon)
            except SyncdError as error:
                troubles.append(daemon.failed(error))
        for slot in there.local:
            try:
                return by_files(slot.get())
            except SyncdError as error:
                troubles.append(error)
        if daemon is not None and ask_last:
            try:
                return by_daemon(daemon)
            except SyncdError as error:
                troubles.append(daemon.failed(error))
        troubles = sorted([*there.troubles, *troubles], key=lambda error: error.transient)
        return unavailable(troubles[0] if troubles else UNCONFIGURED)  # what a person has to put right comes first


class _Live(NamedTuple):
    """What the daemon said, who can look for a file on the source."""

    found: Resolution


def _descriptor(files: LocalFiles, spelled: str) -> int | Resolution:
    verified = files.opened(spelled)
    return verified if isinstance(verified, Resolution) else verified.descriptor


def _is_final(found: Resolution, *, is_live: bool, began: str) -> bool:
    """Say whether waiting on is of no use."""
    if found.state is State.MISSING:
        return is_live or found.listed_at > began
    if found.state is State.UNAVAILABLE:
        return is_live and found.reason is not Reason.STOPPED  # a daemon that ends may be starting anew
    return found.state is State.READY or found.state in FINAL


def _not_looked_for(found: Resolution) -> Resolution:
    """Return the answer for what was missing the last time that somebody looked, while nobody can look now."""
    hint = "without a daemon nobody looks for it on the source: syncd run"
    return found._replace(
        state=State.UNAVAILABLE, reason=Reason.SOURCE_UNAVAILABLE, hint=hint, retry_after_s=UNAVAILABLE_S
    )


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
