"""Which program a service starts: the `syncd` that is running, under a path that stays."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from syncd.core.errors import ConfigError

_PASSING = ("/tmp", "/var/tmp", "/private/tmp", "/private/var/tmp", "/private/var/folders", "/dev/shm")  # noqa: S108
_CACHES = (".cache", "Caches")
"""Names of folders that are emptied by others: uvx and pipx run start programs from there."""

_HOMES = ("/home", "/root", "/run/user")
"""What ProtectHome= hides from a system service of systemd (systemd.exec(5))."""


def stable_program(argv0: str, temporary: Iterable[str | Path] | None = None) -> Path:
    """Return the absolute path of the running syncd as a service can start it after an upgrade and a reboot.

    Links are kept as they are: ~/.local/bin/syncd stays where an upgrade replaces what it points to.
    temporary: folders whose contents do not last (default: the system's).
    Raises: ConfigError when there is no such path.
    """
    folders = [Path(os.path.realpath(each)) for each in (_temporary() if temporary is None else temporary)]
    passing: list[Path] = []
    for candidate in _candidates(argv0):
        if not (candidate.is_file() and os.access(candidate, os.X_OK)):
            continue
        if not _passes(candidate, folders):
            return candidate
        passing.append(candidate)
    if passing:
        raise ConfigError(
            f"{passing[0]} does not stay: a service needs a syncd that is still there after a reboot",
            hint="install it, then call that one: pipx install syncd, or pip install in a venv that you keep",
        )
    raise ConfigError(
        f"the program of this syncd cannot be found ({argv0})",
        hint="call it by its path: /PATH/TO/syncd service install",
    )


def hidden_from_system(program: Path, interpreter: str | None = None) -> Path | None:
    """Return the program, or the Python that runs it, when a system service of systemd could not see it."""
    for path in (program, Path(os.path.realpath(program)), Path(os.path.realpath(interpreter or sys.executable))):
        if any(path.is_relative_to(home) for home in _HOMES):
            return path
    return None


def is_hidden(path: Path) -> bool:
    """Say whether ProtectHome= hides a path."""
    return any(path.is_relative_to(home) for home in _HOMES)


def _candidates(argv0: str) -> Iterator[Path]:
    """Yield where the program may be: as it was called, then where this Python's scripts are."""
    called = argv0 if os.sep in argv0 else (shutil.which(argv0) or "")
    if called and not called.endswith(".py"):
        yield Path(os.path.abspath(called))
    for scheme in (None, "user"):
        yield Path(_scripts(scheme)) / "syncd"


def _scripts(scheme: str | None) -> str:
    name = sysconfig.get_default_scheme() if scheme is None else sysconfig.get_preferred_scheme("user")
    return sysconfig.get_path("scripts", name)


def _temporary() -> Sequence[str]:
    return (*_PASSING, tempfile.gettempdir())


def _passes(path: Path, folders: Iterable[Path]) -> bool:
    """Say whether a path lies where things do not last."""
    real = Path(os.path.realpath(path))
    here = (path, real)
    if any(each.is_relative_to(folder) for each in here for folder in folders):
        return True
    return any(part in _CACHES for each in here for part in each.parts[:-1])
