"""Which service is meant: whose it is, who manages it, and the file that makes it one."""

from __future__ import annotations

import os
import pwd
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from syncd.core.errors import ConfigError

DEFAULT_NAME = "syncd"
SERVICE_USER = "syncd"
"""Whom a system service of systemd runs as, unless --run-as names another."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_BOOTED = Path("run/systemd/system")  # sd_booted(3) looks for it


class Manager(StrEnum):
    """What starts and watches services here."""

    SYSTEMD = "systemd"
    LAUNCHD = "launchd"


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine."""

    uid: int
    name: str
    home: Path


@dataclass(frozen=True, slots=True)
class Place:
    """One service's place.

    account: the user the service runs as. root: where absolute paths begin ("/", but for tests).
    """

    manager: Manager
    system: bool
    name: str
    account: Account
    root: Path = Path("/")

    @property
    def unit(self) -> str:
        """What the manager calls the service."""
        return f"{self.name}.service" if self.manager is Manager.SYSTEMD else f"local.{self.name}"

    @property
    def file(self) -> Path:
        """The unit or property list that makes it a service."""
        if self.manager is Manager.SYSTEMD:
            # a user's systemd has its own environment: the shell's $XDG_CONFIG_HOME is not what it looks at
            folder = self.root / "etc/systemd/system" if self.system else self.account.home / ".config/systemd/user"
            return folder / self.unit
        library = self.root / "Library/LaunchDaemons" if self.system else self.account.home / "Library/LaunchAgents"
        return library / f"{self.unit}.plist"

    @property
    def install_command(self) -> str:
        """What installs the service, as a person types it."""
        name = "" if self.name == DEFAULT_NAME else f" --name {self.name}"
        return f"syncd service install {'--system' if self.system else '--user'}{name}"

    @property
    def state(self) -> Path:
        """The state directory that systemd makes for a system service."""
        return Path("/var/lib") / self.name

    @property
    def credentials(self) -> Path:
        """Where a system service of systemd finds the secrets that it was handed (systemd.exec(5), CREDENTIALS)."""
        return Path("/run/credentials") / self.unit

    @property
    def kind(self) -> str:
        """The service in the manager's own words."""
        if self.manager is Manager.SYSTEMD:
            return "systemd system service" if self.system else "systemd user service"
        return "launchd daemon" if self.system else "launchd agent"


def detected(root: Path = Path("/")) -> Manager | None:
    """Return what manages services on this machine; None in a container, or under another init."""
    if sys.platform == "darwin":
        return Manager.LAUNCHD
    return Manager.SYSTEMD if (root / _BOOTED).is_dir() else None


def checked_name(name: str) -> str:
    """Return the name if a unit, a label and a file can be called so. Raises ConfigError."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f'"{name}" cannot be the name of a service: use letters, digits, - and _, 64 at most')
    return name


def me() -> Account:
    """Return the user whose process this is. $HOME is not asked: the service manager does not ask it either."""
    return account_of(pwd.getpwuid(os.geteuid()))


def named(name: str) -> Account | None:
    """Return the user of that name."""
    try:
        return account_of(pwd.getpwnam(name))
    except KeyError:
        return None


def account_of(entry: pwd.struct_passwd) -> Account:
    return Account(entry.pw_uid, entry.pw_name, Path(entry.pw_dir))


def runs_as(manager: Manager, wanted: str, env: Mapping[str, str]) -> Account:
    """Return whom a system service runs as: `wanted`, else systemd's own user for it, else the user behind sudo.

    The user of systemd's need not exist yet. Raises ConfigError when launchd's cannot be told.
    """
    name = wanted or (SERVICE_USER if manager is Manager.SYSTEMD else env.get("SUDO_USER", ""))
    if not name:
        raise ConfigError("whom shall the daemon run as?", hint="name a user of this machine: --run-as USER")
    found = named(name)
    if found is not None:
        return found
    if name != SERVICE_USER or manager is Manager.LAUNCHD:
        raise ConfigError(f'there is no user "{name}" on this machine', hint="--run-as names one that exists")
    return Account(-1, name, Path("/var/lib") / SERVICE_USER)
