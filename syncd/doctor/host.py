"""Checks of this host: versions, configuration, state directory, catalogue, announcements."""

from __future__ import annotations

import os
import platform
import shlex
import stat
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from syncd import __version__
from syncd.client.file_systems import file_system_type, is_layer
from syncd.config import Settings
from syncd.core.errors import CatalogueDamaged, CatalogueError, CatalogueTooNew, ConfigError, SyncdError
from syncd.core.shown import counted
from syncd.doctor.checks import Check, fail, failed, ok, warn
from syncd.store.reading import ReadonlyCatalogue, open_readonly
from syncd.store.schema import MIGRATIONS
from syncd.store.state import StateDirectory

LITTLE_ROOM_BYTES = 64 << 20
"""Below so much free space the state directory gets a warning: a catalogue grows by some 200 bytes a file."""


def check_versions() -> Check:
    """Say what runs where."""
    python = ".".join(map(str, sys.version_info[:3]))
    return ok("versions", f"syncd {__version__}, Python {python}, {platform.platform(terse=True)}")


def check_configuration(settings: Settings) -> list[Check]:
    """Look at a configuration that loads."""
    checks = [ok("configuration", f"{settings.path}: {counted(len(settings.mirrors), 'mirror')}")]
    mode = settings.path.stat().st_mode
    if mode & 0o022:
        seen = f"others can write {settings.path} (mode {stat.S_IMODE(mode):04o}): it says where passwords are sent"
        checks.append(warn("configuration", seen, f"chmod go-w {shlex.quote(str(settings.path))}"))
    return checks


def explain(error: ConfigError, program: str) -> list[Check]:
    """Turn a configuration that does not load into one check a problem."""
    problems = error.problems or (error.message,)
    hint = error.hint or f"put that right, then: {program} doctor"
    return [
        fail("configuration", problem, hint if n == len(problems) - 1 else "") for n, problem in enumerate(problems)
    ]


def check_state(settings: Settings, program: str) -> list[Check]:
    """Look at the state directory and what is in it; nothing is made."""
    path = settings.host.state_dir
    try:
        state = StateDirectory.open(path, create=False)
        host = state.known_host()
    except SyncdError as error:
        return [failed("state directory", error)]
    if not state.exists:
        return [_missing(path)]
    checks = [_lies_on(path, f", host {host.name}" if host is not None else "")]
    if not os.access(path, os.W_OK | os.X_OK):
        checks = [
            fail(
                "state directory",
                f"{path} may not be written by this user",
                f"chown -R $(id -u) {shlex.quote(str(path))}",
            )
        ]
    checks += [*_room(path), _running(state)]
    return checks + _catalogue(settings, state, program)


def _lies_on(path: Path, more: str) -> Check:
    """Judge a file system that the state directory's own rule (no network) lets pass."""
    kind = file_system_type(path)
    if is_layer(kind):
        seen = f"{path} on {kind}, a container's own layer: it goes with the container, and what is held is read again"
        return warn("state directory", seen + more, "mount a volume there (deploy/worker/compose.yaml has one)")
    return ok("state directory", f"{path} on {kind or 'an unknown file system'} (local){more}")


def _missing(path: Path) -> Check:
    above = next(parent for parent in path.parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        todo = "set host.state_dir to a directory on a local disk that this user may write"
        return fail("state directory", f"{path} is not there, and {above} may not be written by this user", todo)
    return _lies_on(path, "; not there yet, the first run makes it")


def _room(path: Path) -> list[Check]:
    found = os.statvfs(path)
    free = found.f_bavail * found.f_frsize
    if free >= LITTLE_ROOM_BYTES:
        return []
    return [warn("state directory", f"only {free >> 20} MiB are free for the catalogue", f"free some space at {path}")]


def _running(state: StateDirectory) -> Check:
    pid = state.holder_pid()
    if pid is None:
        return ok("other syncd", "none is running on this state directory")
    return ok("other syncd", f"process {pid} is running" if pid else "another process is running, and starting up")


def _catalogue(settings: Settings, state: StateDirectory, program: str) -> list[Check]:
    if not state.catalogue.exists():
        return [ok("catalogue", "none yet; the first run makes it")]
    try:
        with open_readonly(state.catalogue) as catalogue:
            return [*_contents(settings, catalogue, program), _owed(settings, catalogue)]
    except CatalogueDamaged as error:
        return [warn("catalogue", error.message, "have it kept aside and rebuilt: syncd run-once")]
    except CatalogueTooNew as error:
        return [failed("catalogue", error)]
    except CatalogueError as error:
        level = warn if error.hint == "syncd run-once" else fail
        return [level("catalogue", error.message, error.hint)]


def _contents(settings: Settings, catalogue: ReadonlyCatalogue, program: str) -> list[Check]:
    mirrors = catalogue.mirrors()
    files = sum(mirror.totals.files for mirror in mirrors)
    checks = [
        ok("catalogue", f"schema {len(MIGRATIONS)}, {counted(files, 'file')} in {counted(len(mirrors), 'mirror')}")
    ]
    for name in _forgotten([mirror.name for mirror in mirrors], settings):
        seen = f'"{name}" is in the catalogue, but not in the configuration: its files stay, and are not served'
        checks.append(warn("catalogue", seen, f"{program} forget {shlex.quote(name)}"))
    return checks


def _forgotten(known: Iterable[str], settings: Settings) -> Sequence[str]:
    return [name for name in known if settings.mirror(name) is None]


def _owed(settings: Settings, catalogue: ReadonlyCatalogue) -> Check:
    owed = catalogue.owed()
    if not owed.count:
        return ok("announcements", "none owed")
    seen = f"{owed.count:,} owed, the oldest since {owed.oldest}"
    if settings.nsq.announce != "nsq":
        return ok("announcements", f'{seen}; announce = "{settings.nsq.announce}"')
    nsqd = ", ".join(map(str, settings.nsq.nsqd))
    return warn("announcements", f"{seen}; they are kept until nsqd takes them", f"see that nsqd answers at {nsqd}")
