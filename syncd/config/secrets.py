"""Secrets by reference: where one is kept, read only when it is needed, and never shown.

A secret file belongs to its owner alone: one that others can read or write is refused. What systemd hands to a service
(LoadCredential=) lies in a folder that only root and the service can enter.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from shlex import quote

from syncd.core.errors import ConfigError

_LIMIT_BYTES = 64 * 1024
_HANDED_OVER = Path("/run/credentials")
_MOUNTED = Path("/run/secrets")
_revealed: set[str] = set()


class Secret:
    """A password or connection string kept in a file or an environment variable.

    Read again at each reveal(), so that a changed one is used at the next connection. Printing, comparing or
    formatting a Secret never shows what is in it.
    """

    __slots__ = ("_env", "path", "variable")

    def __init__(self, *, path: Path | None = None, variable: str = "", env: Mapping[str, str] | None = None) -> None:
        """Refer to a file, or to a variable of `env` (default: this process's)."""
        self.path = path
        self.variable = variable
        self._env = os.environ if env is None else env

    def __repr__(self) -> str:
        return f"Secret({self.where})"

    @property
    def where(self) -> str:
        """Say where the secret is kept, for messages."""
        return f"${self.variable}" if self.path is None else str(self.path)

    def reveal(self) -> str:
        """Read the secret now; one line end at its end is not part of it.

        Raises: ConfigError naming the file or variable, when it is missing, empty, or open to others.
        """
        wrong = self.problem()
        if wrong:
            raise ConfigError(wrong, problems=[wrong])
        value = self._env[self.variable] if self.path is None else _read(self.path)
        if len(value) >= 4:
            _revealed.add(value)
        return value

    def problem(self) -> str:
        """Return why reveal() would fail and what to do, or "" when it would not. Does not read a file's contents."""
        if self.path is None:
            return "" if self._env.get(self.variable) else f"the environment has no {self.variable}, or an empty one"
        return file_problem(self.path)


def file_problem(path: Path) -> str:
    """Return what is wrong with a secret file, naming it, and the remedy; "" when nothing is."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return f"{path} does not exist; {_write_it(path)}"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}; {_let_in(path)}"
    if stat.S_ISDIR(found.st_mode):
        return (
            f"{path} is not a regular file but a folder (Docker makes one where a file to mount is missing); "
            f"remove it, and {_write_it(path)}"
        )
    if not stat.S_ISREG(found.st_mode):
        return f"{path} is not a regular file; {_write_it(path)}"
    # there the service's user reads by an ACL, whose mask stat() shows as the group's bits (acl(5))
    if found.st_mode & (0o037 if is_handed_over(path) else 0o077):
        return f"{path} is open to others (mode {stat.S_IMODE(found.st_mode):04o}); {_close_it(path)}"
    if not os.access(path, os.R_OK):
        return (
            f"{path} cannot be read by this user (uid {os.geteuid()}): it is uid {found.st_uid}'s, "
            f"mode {stat.S_IMODE(found.st_mode):04o}; {_give_it(path)}"
        )
    if found.st_size == 0:
        return f"{path} is empty; write the secret into it"
    if found.st_size > _LIMIT_BYTES:
        return f"{path} is too large for a secret ({found.st_size} bytes); is another file meant?"
    return ""


# What is mounted below /run/secrets is mended where the container is described: in there it is read-only. Docker Swarm
# and podman mount a secret as root's, mode 0444: refused as any other, since uid: and mode: say it better.


def _write_it(path: Path) -> str:
    if is_mounted(path):
        return "write the secret into its file on the host, and name it under secrets: of this container"
    return f"write the secret into it and run: chmod 600 {quote(str(path))}"


def _close_it(path: Path) -> str:
    if is_mounted(path):
        return f"run chmod 600 on its file on the host; in a swarm or podman: {_owned()} under secrets:"
    return f"run: chmod 600 {quote(str(path))}"


def _give_it(path: Path) -> str:
    if is_mounted(path):
        return f"run chown {os.geteuid()} on its file on the host; in a swarm or podman: {_owned()} under secrets:"
    return f"run: sudo chown {os.geteuid()} {quote(str(path))}"


def _let_in(path: Path) -> str:
    """Name the first folder on the way that this user may not enter."""
    shut = next((each for each in reversed(path.parents) if each.is_dir() and not os.access(each, os.X_OK)), None)
    return f"let uid {os.geteuid()} into {shut}" if shut is not None else "look at the disk that it lies on"


def _owned() -> str:
    return f'uid: "{os.geteuid()}" and mode: 0400'


def is_mounted(path: Path | None) -> bool:
    """Say whether this is a secret that a container was given."""
    return path is not None and path.is_relative_to(_MOUNTED)


def is_handed_over(path: Path) -> bool:
    """Say whether systemd puts this file there for a service while it runs (systemd.exec(5), CREDENTIALS)."""
    return path.is_relative_to(_HANDED_OVER)


def redact(message: str) -> str:
    """Return the text with every secret that this process has read replaced by "***"."""
    for value in _revealed:
        message = message.replace(value, "***")
    return message


def _read(path: Path) -> str:
    try:
        value = path.read_bytes().decode("utf-8").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text") from None
    if not value:
        raise ConfigError(f"{path} has an empty first line; write the secret into it")
    return value
