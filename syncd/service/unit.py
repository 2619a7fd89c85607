"""Write systemd units: the templates in units/, filled in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from syncd.core.errors import ConfigError
from syncd.service.place import DEFAULT_NAME, Place

MARK = "# Installed by: syncd service install"
"""The first line of what was installed; only a file that has it is replaced or removed."""

CREDENTIAL_FOLDER = Path("/etc/syncd/credentials")
"""Where root keeps the secrets that systemd hands to a system service."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a service is to do, whichever manager starts it.

    state: the state directory. environment: variables that the service needs and would not have. writable,
    credentials: for a system service of systemd, the folders it may write and the names of the secrets it is handed.
    """

    program: Path
    config: Path
    state: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    writable: Sequence[Path] = ()
    credentials: Sequence[str] = ()


def unit(place: Place, job: Job, origin: str = MARK) -> str:
    """Return the unit. origin: its first line. Raises: ConfigError for a path that no unit can hold."""
    template = "system.service" if place.system else "user.service"
    text = resources.files("syncd.service").joinpath("units", template).read_text(encoding="utf-8")
    credentials = [f"LoadCredential={name}:{CREDENTIAL_FOLDER / name}" for name in job.credentials]
    filled = {
        "@ORIGIN@": [origin],
        "@CREDENTIALS@": credentials,
        "@PATHS@": [f"ReadWritePaths={_quoted(f'-{path}')}" for path in job.writable],
        "@ENVIRONMENT@": [f"Environment={_quoted(f'{name}={value}')}" for name, value in job.environment.items()],
    }
    words = {
        "@DESCRIPTION@": "Mirror shares for OCR workers, whole and verified"
        + ("" if place.name == DEFAULT_NAME else f" ({place.name})"),
        "@EXEC@": command_line([str(job.program), "-c", str(job.config), "run"]),
        "@USER@": place.account.name,
        "@NAME@": place.name,
        "@STATE@": str(place.state),
    }
    return "".join(f"{line}\n" for given in text.splitlines() for line in _lines(given, filled, words))


def command_line(words: Sequence[str]) -> str:
    """Return words as an ExecStart= line that starts exactly them (systemd.service(5), COMMAND LINES)."""
    # ":" keeps systemd from putting variables in the place of $NAME
    prefix = ":" if any("$" in word for word in words) else ""
    return prefix + " ".join(_quoted(word) for word in words)


def _lines(given: str, filled: Mapping[str, list[str]], words: Mapping[str, str]) -> list[str]:
    if given in filled:
        return filled[given]
    for token, value in words.items():
        given = given.replace(token, value)
    return [given]


def _quoted(word: str) -> str:
    """Return one word as a unit file spells it: "%" starts a specifier, blanks and quotes end a word."""
    if any(not c.isprintable() and c != " " for c in word):
        raise ConfigError(f"{word!r} has characters that no unit can hold", hint="use a path without them")
    word = word.replace("%", "%%")
    if any(c in word for c in " \"'\\;"):
        escaped = word.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return word
