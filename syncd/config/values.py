"""Readers of single configuration values: each takes what TOML gave and returns a typed value.

A reader raises ValueError whose text says what is wrong and how to write it; the loader puts file, table and key in
front. Durations come back in seconds, sizes in bytes, rates in bytes a second.
"""

from __future__ import annotations

import re

from syncd.core.hours import Hours
from syncd.core.named import NamedTuple

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d)\s*)+", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", re.ASCII)
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%", re.ASCII)
_WINDOW = re.compile(r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})\s+(\S.*)", re.ASCII)
_HOURS = re.compile(r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})", re.ASCII)
_NSQ_NAME = re.compile(r"[.a-zA-Z0-9_-]{1,64}(#ephemeral)?", re.ASCII)
_MAIL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@[A-Za-z0-9.-]+", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_UNITS = {
    "": 1,
    "b": 1,
    "k": KIB,
    "kib": KIB,
    "kb": 10**3,
    "m": MIB,
    "mib": MIB,
    "mb": 10**6,
    "g": GIB,
    "gib": GIB,
    "gb": 10**9,
    "t": TIB,
    "tib": TIB,
    "tb": 10**12,
}
_MINUTES_A_DAY = 24 * 60


class MinFree(NamedTuple):
    """The free-space floor of a file system: a share of it, a number of bytes, or the smaller of both."""

    fraction: float | None
    bytes: int | None

    def floor(self, total_bytes: int) -> int:
        """Return how many bytes must stay free on a file system of `total_bytes`; 0 is no floor."""
        bounds = []
        if self.fraction is not None:
            bounds.append(int(total_bytes * self.fraction))
        if self.bytes is not None:
            bounds.append(self.bytes)
        return min(bounds, default=0)


class RateWindow(NamedTuple):
    """From `start` to before `end` this rate holds: minutes of the day, local time; over midnight when end <= start."""

    start: int
    end: int
    bytes_per_s: int

    def holds(self, minute: int) -> bool:
        """Say whether a minute of the day (0 to 1439) lies in this window."""
        return Hours(self.start, self.end).holds(minute)


class Rate(NamedTuple):
    """A limit in bytes a second, perhaps another one at some times of the day; 0 is unlimited."""

    bytes_per_s: int
    windows: tuple[RateWindow, ...] = ()

    def at(self, minute: int) -> int:
        """Return the limit in a minute of the day (0 to 1439, local time); the first window that holds wins."""
        for window in self.windows:
            if window.holds(minute):
                return window.bytes_per_s
        return self.bytes_per_s


class Address(NamedTuple):
    """Where to dial: host (an IPv6 address without its brackets) and port."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether it lies on this machine's own loopback interface."""
        return re.fullmatch(r"127(\.\d{1,3}){3}|::1|localhost", self.host) is not None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


_LOGIN = re.compile(r"^(\s*(?>(?:[A-Za-z][\w+.-]*:)?[/\\]+|)[^:/\\]*?)(?::|%3[Aa])(.+)@", re.DOTALL)
"""The start of a text that may be an address with a password in it, however badly it is written."""


def shown(value: object) -> str:
    """Return a value as its reader wrote it, more or less: quoted text, true and false, shortened, no password."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        text = _LOGIN.sub(r"\1:***@", value)
        text = text if len(text) <= 60 else text[:57] + "..."
        return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text) + '"'
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    return str(value)[:60]


def password_in(text: str) -> str:
    """Return what may be the password in an address, "" if there is none."""
    found = _LOGIN.match(text)
    return found[2] if found else ""


def text(value: object) -> str:
    """Return a text that is not empty and has no control characters."""
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is not a text; put it in quotes")
    if not value.strip():
        raise ValueError("is empty")
    if any(ord(c) < 32 or ord(c) == 127 for c in value):
        raise ValueError(f"{shown(value)} has a control character in it")
    return value


def boolean(value: object) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{shown(value)} is neither true nor false (without quotes)")
    return value


def whole(value: object, low: int, high: int) -> int:
    """Return a whole number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{shown(value)} is not a whole number (without quotes)")
    if not low <= value <= high:
        raise ValueError(f"{value} is out of range; from {low} to {high} is allowed")
    return value


def choice(value: object, choices: tuple[str, ...]) -> str:
    """Return one of a closed set of words."""
    if value not in choices or not isinstance(value, str):
        raise ValueError(f"{shown(value)} is not one of " + ", ".join(f'"{c}"' for c in choices))
    return value


def texts(value: object) -> tuple[str, ...]:
    """Return a list of texts, none of them empty."""
    if not isinstance(value, list):
        raise ValueError(f'{shown(value)} is not a list; write it like ["one", "two"]')
    return tuple(text(item) for item in value)


def duration(value: object, low_s: float, high_s: float) -> float:
    """Return a duration in seconds, written like "90s", "10m" or "1h30m"."""
    stripped = value.strip() if isinstance(value, str) else ""
    if not _DURATION.fullmatch(stripped):
        raise ValueError(f'{shown(value)} is not a duration; write it like "10m" or "90s"')
    seconds = sum(float(n) * _SECONDS[unit] for n, unit in _DURATION_PART.findall(stripped))
    if not low_s <= seconds <= high_s:
        raise ValueError(f"{shown(value)} is out of range; from {plain_s(low_s)} to {plain_s(high_s)} is allowed")
    return seconds


def plain_s(seconds: float) -> str:
    """Return a duration as duration() reads it, in the largest unit that divides it: 600 is "10m"."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if seconds >= size and seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    return "0s" if seconds == 0 else f"{round(seconds * 1000)}ms"


def size(value: object) -> int:
    """Return a size in bytes, written like "512MiB" or "1GiB" (K, M, G, T alone mean KiB, MiB, GiB, TiB)."""
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    unit = _UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError(f'{shown(value)} is not a size; write it like "512MiB" or "1GiB"')
    number = int(float(match[1]) * unit)
    if number >= 1 << 62:
        raise ValueError(f"{shown(value)} is out of range")
    return number


def percent(value: object) -> float:
    """Return "10%" as 0.1; from 0% to 100%."""
    match = _PERCENT.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'{shown(value)} is not a percentage; write it like "10%"')
    fraction = float(match[1]) / 100
    if fraction > 1:
        raise ValueError(f"{shown(value)} is out of range; from 0% to 100% is allowed")
    return fraction


def min_free(value: object) -> MinFree:
    """Return a free-space floor: "5%", "1GiB", or "0%" for none."""
    if isinstance(value, str) and value.strip().endswith("%"):
        return MinFree(percent(value), None)
    try:
        return MinFree(None, size(value))
    except ValueError:
        raise ValueError(f'{shown(value)} is not a free-space floor; write it like "5%" or "1GiB"') from None


def rate(value: object) -> Rate:
    """Return a rate: "0" (unlimited), "20M", or windows before it: "22:00-06:00 0; 20M".

    Between the windows, the one part without hours holds; without it there is no limit outside of the windows.
    """
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f'{shown(value)} is not a rate; write it like "20M", "0" or "22:00-06:00 0; 20M"')
    windows: list[RateWindow] = []
    otherwise: int | None = None
    for part in (p.strip() for p in value.split(";")):
        match = _WINDOW.fullmatch(part)
        if match:
            windows.append(_window(match, part))
        elif otherwise is None:
            otherwise = _per_second(part)
        else:
            raise ValueError(f"{shown(value)} has two parts without hours; one is allowed")
    return Rate(otherwise or 0, tuple(windows))


def _window(match: re.Match[str], part: str) -> RateWindow:
    found = _minutes(match)
    if found is None:
        raise ValueError(f'{shown(part)} is not a time window; write it like "22:00-06:00 20M"')
    return RateWindow(*found, _per_second(match[5]))


def _minutes(match: re.Match[str]) -> tuple[int, int] | None:
    """Return start and end of HH:MM-HH:MM in minutes of the day; None for what is no time of a day."""
    start, end = (int(match[i]) * 60 + int(match[i + 1]) for i in (1, 3))
    minutes_fit = int(match[2]) < 60 and int(match[4]) < 60
    if not minutes_fit or start >= _MINUTES_A_DAY or end > _MINUTES_A_DAY or start == end:
        return None
    return start, end % _MINUTES_A_DAY


def hours(value: object) -> tuple[Hours, ...]:
    """Return parts of a day: "22:00-07:00", or several with ";" between them; "" is none."""
    parts = [part.strip() for part in value.split(";")] if isinstance(value, str) and value.strip() else []
    matches = [_HOURS.fullmatch(part) for part in parts]
    found = [None if match is None else _minutes(match) for match in matches]
    if not isinstance(value, str) or None in found:
        raise ValueError(f'{shown(value)} are no hours; write them like "22:00-07:00" or "12:00-13:00; 22:00-07:00"')
    return tuple(Hours(*each) for each in found if each is not None)


def _per_second(part: str) -> int:
    try:
        return size(part.removesuffix("/s"))
    except ValueError:
        raise ValueError(f'{shown(part)} is not a rate; write it like "20M", "500K" or "0"') from None


def address(value: object, default_port: int | None = None, *, port_zero: bool = False) -> Address:
    """Return HOST:PORT; `http://` in front and `/` behind are allowed; IPv6 addresses stand in brackets."""
    raw = value if isinstance(value, str) else ""
    trimmed = raw.strip().removeprefix("http://").rstrip("/")
    host, colon, port = trimmed.rpartition(":")
    if not colon or (trimmed.startswith("[") and trimmed.endswith("]")):
        host, port = trimmed, "" if default_port is None else str(default_port)
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    bad_host = not bare or (":" in bare and not bracketed) or any(c in bare for c in " /@[]\\\t")
    if bad_host or not (port.isascii() and port.isdigit()) or not (0 if port_zero else 1) <= int(port) <= 65535:
        raise ValueError(f'{shown(value)} is not HOST:PORT; write it like "127.0.0.1:4150"')
    return Address(bare, int(port))


def web_url(value: object) -> str:
    """Return an http:// or https:// URL without a login in it."""
    raw = value.strip() if isinstance(value, str) else ""
    scheme, _, rest = raw.partition("://")
    place = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if scheme not in ("http", "https") or not raw.isascii() or not raw.isprintable() or " " in raw or "@" in place:
        raise ValueError("is not a URL without a login; write it like https://host/path")
    address(place, 443 if scheme == "https" else 80)
    return raw


def mail_address(value: object) -> str:
    """Return an e-mail address (the address alone, no name)."""
    found = text(value)
    if not _MAIL.fullmatch(found):
        raise ValueError(f'{shown(value)} is not an e-mail address; write it like "operator@example.org"')
    return found


def addresses(value: object, default_port: int | None = None) -> tuple[Address, ...]:
    """Return one HOST:PORT or a list of them, each once and in order."""
    items = value if isinstance(value, list) else [value]
    return tuple(dict.fromkeys(address(item, default_port) for item in items))


def nsq_name(value: object) -> str:
    """Return a valid topic name. Source: the NSQ protocol spec ("Valid topic and channel names")."""
    if not isinstance(value, str) or not _NSQ_NAME.fullmatch(value):
        raise ValueError(f"{shown(value)} is not an NSQ topic: up to 64 letters, digits, dots, - and _ are")
    return value


def variable(value: object) -> str:
    """Return the name of an environment variable; what is none is not repeated, it could be the secret itself."""
    if not isinstance(value, str) or not _VARIABLE.fullmatch(value):
        raise ValueError("is not the name of an environment variable (letters, digits and _)")
    return value


def name(value: object, noun: str) -> str:
    """Return the name of a mirror or host; it is part of ids, paths and messages, so it is a file name without "|"."""
    found = text(value)
    if len(found) > 64 or found != found.strip() or found[0] in ".-" or any(c in '/\\|:*?"<>' for c in found):
        raise ValueError(
            f'{shown(found)} is not a {noun} name: at most 64 characters, none of / \\ | : * ? " < >, '
            "no dot, dash or space in front"
        )
    return found


def relative(value: object) -> str:
    """Return a path below the share: parts between "/", none of them "." or ".."."""
    path = text(value).replace("\\", "/").strip("/")
    if not path or any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError(f'{shown(value)} is not a path inside of the share; write it like "folder/.marker"')
    return path
