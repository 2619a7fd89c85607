"""The three ways to a file, in the order in which they are tried, for one process; looked for anew as things change."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from syncd.client.address import Address, SocketAddress
from syncd.client.verified import LocalFiles
from syncd.core.errors import SyncdError
from worker_glue.resolver.copies import Copies
from worker_glue.resolver.daemon import DaemonFiles
from worker_glue.resolver.mounts import Mounts
from worker_glue.resolver.where import Where, config_file, look_around

if TYPE_CHECKING:
    from syncd.client.manifest import MountedMirror
    from syncd.config.settings import Settings

LOOK_S = 1.0
"""How often the configuration is looked at, and a catalogue that could not be opened tried again."""


class Ways:
    """What one process can ask. Thread-safe; a process that forked makes another."""

    def __init__(self, config: Path | None, env: Mapping[str, str]) -> None:
        self.pid = os.getpid()
        self.copies = Copies()
        self._config = config
        self._env = env
        self._file = config_file(config, env)
        self._lock = threading.Lock()
        self._looked_at = float("-inf")
        self._signature: tuple[int, ...] | None = None
        self._current: _Generation | None = None
        self._old: list[_Generation] = []

    def now(self) -> _Generation:
        """Return what there is to ask, as of a second ago at the most."""
        current = self._current
        if current is not None and time.monotonic() - self._looked_at < LOOK_S:
            return current
        with self._lock:
            signature = _signature(self._file)
            if self._current is None or signature != self._signature:
                if self._current is not None:
                    self._old.append(self._current)  # somebody may be asking it: closed with everything else
                self._current = _Generation(look_around(self._config, self._env))
                self._signature = signature
            self._looked_at = time.monotonic()
            return self._current

    def close(self) -> None:
        """Let everything go; safe to repeat."""
        with self._lock:
            closing, self._old = self._old, []
            if self._current is not None:
                closing.append(self._current)
                self._current = None
        for generation in closing:
            generation.close()
        self.copies.close()


class _Generation:
    """What one state of the configuration and the environment gives to ask.

    daemon: None where none is named. local: the ways without it, in order.
    """

    def __init__(self, where: Where) -> None:
        self.troubles = where.troubles
        self.daemon = None if where.address is None else _daemon(where.address, where.mounts)
        settings, mounts = where.settings, where.mounts
        self.local: list[_Slot] = []
        if settings is not None and settings.mirrors:
            self.local.append(_Slot(lambda: _catalogue(settings)))
        if mounts:
            self.local.append(_Slot(lambda: _manifests(settings, mounts, for_daemon=self.daemon is not None)))

    @property
    def is_empty(self) -> bool:
        """Whether there is nobody to ask."""
        return self.daemon is None and not self.local

    def close(self) -> None:
        if self.daemon is not None:
            self.daemon.close()
        for slot in self.local:
            slot.close()


class _Slot:
    """One way that is opened when it is first needed; where that fails, again after a while."""

    def __init__(self, make: Callable[[], LocalFiles]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: LocalFiles | None = None
        self._failed: tuple[float, SyncdError] | None = None

    def get(self) -> LocalFiles:
        """Return what was made. Raises SyncdError."""
        made = self._made
        if made is not None:
            return made
        with self._lock:
            if self._made is None:
                if self._failed is not None and time.monotonic() - self._failed[0] < LOOK_S:
                    raise self._failed[1].with_traceback(None)
                try:
                    self._made = self._make()
                except SyncdError as error:
                    self._failed = time.monotonic(), error
                    raise
            return self._made

    def close(self) -> None:
        with self._lock:
            made, self._made = self._made, None
        if made is not None:
            made.close()


def _daemon(address: Address, mounts: Mapping[str, str]) -> DaemonFiles:
    return DaemonFiles(address, Mounts(mounts, here=isinstance(address, SocketAddress)))


def _catalogue(settings: Settings) -> LocalFiles:
    from syncd.client.catalogue import CatalogueFiles

    return CatalogueFiles(settings)


def _manifests(settings: Settings | None, mounts: Mapping[str, str], *, for_daemon: bool) -> LocalFiles:
    from syncd.client.manifest import ManifestFiles

    mirrors = [_mounted(settings, name, root) for name, root in mounts.items()]
    return ManifestFiles(mirrors, for_daemon=for_daemon)


def _mounted(settings: Settings | None, name: str, root: str) -> MountedMirror:
    from syncd.client.manifest import MountedMirror

    mirror = None if settings is None else settings.mirror(name)
    if mirror is None:
        return MountedMirror.at(name, root)
    from syncd.config.spellings import spellings_of
    from syncd.core.filters import Filters

    return MountedMirror(name, root, spellings_of(mirror), Filters(mirror.include, mirror.exclude).drops)


def _signature(file: Path) -> tuple[int, ...] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
