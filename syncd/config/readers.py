"""How the values of single keys are read: what one key alone takes, or what refers to the file's own place.

Values of several keys and their kinds are in values.py.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from syncd.config import values
from syncd.config.urls import SourceUrl, source_url
from syncd.core.named import NamedTuple


class Place(NamedTuple):
    """What relative and "~" paths in a file refer to: the file's folder, and the environment's home."""

    base: Path
    env: Mapping[str, str]

    def path(self, value: object) -> Path:
        """Return an absolute path; "~" is expanded, a relative one is relative to the configuration file."""
        raw = values.text(value)
        home = self.env.get("HOME", "")
        if home and (raw == "~" or raw.startswith("~/")):
            raw = home + raw[1:]
        return Path(os.path.normpath(self.base / os.path.expanduser(raw)))


Reader = Callable[[object, Place], object]


def plain(read: Callable[[object], object]) -> Reader:
    return lambda value, _place: read(value)


def duration(low_s: float, high_s: float) -> Reader:
    return lambda value, _place: values.duration(value, low_s, high_s)


def whole(low: int, high: int) -> Reader:
    return lambda value, _place: values.whole(value, low, high)


def choice(*choices: str) -> Reader:
    return lambda value, _place: values.choice(value, choices)


def here(value: object, place: Place) -> Path:
    return place.path(value)


def secret_file(value: object, place: Place) -> Path | None:
    """Read the path of a secret's file; a secret that somebody wrote in its place is not repeated."""
    if value == "":
        return None
    if isinstance(value, str) and "://" in value:
        raise ValueError("is to name the file that holds the secret, not to be the secret itself")
    return place.path(value)


def source(value: object, place: Place) -> SourceUrl:
    return source_url(value, place.base)


def sources(value: object, place: Place) -> tuple[SourceUrl, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{values.shown(value)} is not a list of sources")
    return tuple(source_url(item, place.base) for item in value)


def zone(value: object) -> str:
    name = values.text(value)
    if name == "local":
        return name
    from zoneinfo import ZoneInfo  # start-up time: only where a zone is named

    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise ValueError(f'{values.shown(name)} is not a time zone; write it like "Asia/Kolkata", or "local"') from None
    return name


def listen(value: object) -> values.Address | None:
    if value == "":
        return None
    found = values.address(value, port_zero=True)
    if not found.is_loopback:
        raise ValueError(f'{values.shown(value)} is not on the loopback interface; write it like "127.0.0.1:9470"')
    return found


def aliases(value: object) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_alias(alias) for alias in values.texts(value)))


def _alias(raw: str) -> str:
    """Return an alias without "./" in front and "/" behind, backslashes turned."""
    alias = raw.replace("\\", "/").removeprefix("./").rstrip("/")
    if not alias:
        raise ValueError(f"{values.shown(raw)} is no alias: nothing is left of it without dots and slashes")
    return alias


def patterns(value: object, _place: Place) -> tuple[str, ...]:
    """Read gitignore patterns; only those with [ or \\ in them, and a bare "!", can be wrong."""
    patterns = values.texts(value)
    for pattern in patterns:
        if "[" in pattern or "\\" in pattern or pattern == "!":
            _check_pattern(pattern)
    return patterns


def _check_pattern(pattern: str) -> None:
    from pathspec import GitIgnoreSpec  # start-up time: most patterns need no check

    try:
        GitIgnoreSpec.from_lines([pattern])
    except (ValueError, re.error):
        raise ValueError(f"{values.shown(pattern)} is not a gitignore pattern") from None


def address_map(value: object) -> dict[str, values.Address]:
    if not isinstance(value, dict):
        raise ValueError(f'{values.shown(value)} is not a table; write {{ "HOST:PORT" = "HOST:PORT" }}')
    found = {}
    for said, dialled in value.items():
        key = said if said.startswith("*:") and said[2:].isdigit() else str(values.address(said))
        found[key] = values.address(dialled)
    return found


def ssh_login(value: object) -> tuple[str, values.Address]:
    """Read USER@HOST[:22] as (user, address)."""
    user, at, server = values.text(value).strip().rpartition("@")
    if ":" in user:  # what may be a password is not repeated
        raise ValueError('has a ":" before the "@"; write it like "gvpocr@172.12.0.83:22", without any password')
    if not at or not user or any(c in user for c in " /@"):
        raise ValueError(f'{values.shown(value)} is not USER@HOST:PORT; write it like "gvpocr@172.12.0.83:22"')
    return user, values.address(server, 22)


def there(value: object) -> str:
    """Read a path on another host: absolute, or below the home directory of the login."""
    path = values.text(value)
    if not path.startswith(("/", "~/")):
        raise ValueError(f"{values.shown(path)} is not an absolute path there (/... or ~/...)")
    return path


def program(value: object) -> str:
    return there(value) if "/" in values.text(value) else values.text(value)


def service_name(value: object) -> str:
    """Read what a service of systemd, launchd or compose may be called."""
    name = values.text(value)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}", name):
        raise ValueError(f"{values.shown(name)} is not the name of a service: letters, digits and _ . @ - are")
    return name


def words(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError(f"{values.shown(value)} is not a table")
    return {name: values.text(word) for name, word in value.items()}


def webhook(value: object) -> str:
    """Read an http(s) URL; one that holds a login, or what looks like a key, belongs into a file. None is repeated."""
    if value == "":
        return ""
    try:
        found = values.web_url(value)
        if "?" in found or re.search(r"/[A-Za-z0-9_-]{20,}(/|$)", found.partition("://")[2]):
            raise ValueError("looks as if it held a secret")
    except ValueError as error:
        raise ValueError(f"{error}; a URL that holds a secret belongs into a file: webhook_file names it") from None
    return found


def command(value: object, place: Place) -> tuple[str, ...]:
    """Read a program and its arguments; a program that is a path is taken as every path here."""
    words = values.texts(value)
    if words and "/" in words[0]:
        return (str(place.path(words[0])), *words[1:])
    return words


def mail_addresses(value: object) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values.mail_address(item) for item in values.texts(value)))


def mounts(value: object) -> dict[str, str]:
    for path in words(value).values():
        if not path.startswith("/"):
            raise ValueError(f'{values.shown(path)} is not an absolute path; write it like "/app/NAME"')
    return words(value)
