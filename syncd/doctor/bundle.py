"""One file to send with a report: versions, settings, status, runs, checks, logs. No secret is in it."""

from __future__ import annotations

import io
import json
import os
import platform
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from syncd import __version__
from syncd.config import Settings
from syncd.config.keys import REQUIRED, TABLES
from syncd.core.errors import ConfigError, SyncdError
from syncd.doctor.checks import Group
from syncd.doctor.logs import service_logs
from syncd.doctor.secrets import Scrubber
from syncd.store.reading import open_readonly
from syncd.store.state import StateDirectory

RUNS = 20
CRASHES = 3
_CRASH_BYTES = 256 * 1024
_ENVIRONMENT = {
    ("nsq", "nsqd_tcp_address"): "NSQD_ADDRESS",
    ("nsq", "lookupd_http_addresses"): "NSQLOOKUPD_ADDRESSES",
    ("mongo", "uri_file"): "MONGO_URI",
}
"""Variables that win over the file. The value of the last one is a secret: only that it is set is told."""

_VARIABLES = ("SYNCD_CONFIG", "SYNCD_API", "SYNCD_LOG", "SYNCD_DEBUG", "WORKER_ID", *_ENVIRONMENT.values())
"""Variables that decide something. Of the one with a secret it is told that it is set."""

Shelf = dict[str, bytes]
"""The files of a bundle: name -> contents."""


def collect(
    file: Path,
    env: Mapping[str, str],
    settings: Settings | None,
    groups: Iterable[Group],
    status: Callable[[], dict[str, Any]],
) -> Shelf:
    """Return what goes into the bundle, secrets taken out. settings None: the configuration does not load."""
    scrub = Scrubber(file, env)
    parts: dict[str, Any] = {
        "versions.json": versions(),
        "settings.json": described(file, env),
        "checks.json": [check for group in groups for check in group.as_json()],
    }
    texts = service_logs(env)
    if settings is not None:
        parts["status.json"] = _or_error(status)
        parts["runs.json"] = _or_error(lambda: _runs(settings))
        texts |= dict(_crashes(settings.host.state_dir))
    shelf = {name: _json(scrub.clean_all(content)) for name, content in parts.items()}
    return shelf | {name: scrub.clean(text).encode("utf-8", "backslashreplace") for name, text in texts.items()}


def contents(shelf: Shelf) -> list[str]:
    """Return one line for each file of a bundle, for people to read before it is written."""
    return [
        f"{name:<{max(map(len, shelf))}}  {len(content):>9,} bytes  {_about(name)}" for name, content in shelf.items()
    ]


def write(path: Path, shelf: Shelf) -> None:
    """Write the bundle, for its owner only, over nothing that exists. Raises ConfigError."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in shelf.items():
            archive.writestr(f"syncd-doctor/{name}", content)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ConfigError(f"{path} exists already, and nothing is overwritten", hint="name another file") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}", hint="name another file") from error
    try:
        with open(descriptor, "wb") as out:
            out.write(packed.getvalue())
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        raise ConfigError(f"{path} cannot be written: {error.strerror}", hint="name another file") from error


def versions() -> dict[str, Any]:
    """Return what runs here: syncd, Python and every package it can import, the operating system."""
    return {
        "syncd": __version__,
        "python": sys.version,
        "implementation": platform.python_implementation(),
        "os": platform.platform(),
        "machine": platform.machine(),
        "packages": dict(sorted({each.name: each.version for each in metadata.distributions()}.items())),
    }


# -- settings


def described(file: Path, env: Mapping[str, str]) -> dict[str, Any]:
    """Return every known key with its value and where that is from; of unknown keys and engines' tables the names.

    Read from the file itself, so that it also tells of one that does not load.
    """
    told: dict[str, Any] = {"file": str(file), "environment": _set(env), "tables": {}}
    try:
        raw = tomllib.loads(file.read_bytes().decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        return told | {"problem": f"{type(error).__name__}: {error}"}
    for table, keys in TABLES.items():
        found = raw.get(table, {})
        entries = [each if isinstance(each, dict) else {} for each in (found if isinstance(found, list) else [found])]
        told["tables"][table] = [_table(table, entry, keys, env) for entry in entries]
    told["unknown_tables"] = sorted(set(raw) - set(TABLES))
    return told


def _set(env: Mapping[str, str]) -> dict[str, str]:
    return {name: "(a secret)" if name == "MONGO_URI" else env[name] for name in _VARIABLES if env.get(name)}


def _table(table: str, entry: Mapping[str, Any], keys: Sequence[Any], env: Mapping[str, str]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for key in keys:
        variable = _ENVIRONMENT.get((table, key.name), "")
        if variable and env.get(variable, "").strip():
            hidden = variable == "MONGO_URI"
            told[key.name] = {"value": "(a secret)" if hidden else env[variable], "origin": f"${variable}"}
        elif key.name in entry:
            told[key.name] = {"value": entry[key.name], "origin": "file"}
        else:
            default = None if key.default is REQUIRED else key.default
            told[key.name] = {"value": default, "origin": "missing" if key.default is REQUIRED else "default"}
    unknown = sorted(set(entry) - {key.name for key in keys} - {"engine"})
    if isinstance(entry.get("engine"), str):
        told["engine"] = {"value": entry["engine"], "origin": "file"}
    return told | ({"unknown_keys": unknown} if unknown else {})


# -- state


def _runs(settings: Settings) -> list[dict[str, Any]]:
    state = StateDirectory.open(settings.host.state_dir, create=False)
    with open_readonly(state.catalogue) as catalogue:
        return [row.as_json() for row in catalogue.runs(RUNS)]


def _crashes(state_dir: Path) -> Iterable[tuple[str, str]]:
    """Return the last reports of bugs."""
    for path in sorted(state_dir.glob("crash-*.txt"))[-CRASHES:]:
        with suppress(OSError), path.open("rb") as file:
            yield path.name, file.read(_CRASH_BYTES).decode("utf-8", "replace")


def _or_error(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except SyncdError as error:
        return {"error": error.message, "hint": error.hint}


def _json(content: Any) -> bytes:
    return (json.dumps(content, ensure_ascii=False, indent=1, default=str) + "\n").encode("utf-8", "backslashreplace")


def _about(name: str) -> str:
    known = {
        "versions.json": "syncd, Python and its packages, operating system",
        "settings.json": "the configuration: values and where they are from; no secrets",
        "checks.json": "the checks above",
        "status.json": "syncd status --json; has names of files that failed",
        "runs.json": "the last runs; have names of files that failed",
    }
    if name.startswith("log-"):
        return "the end of what the service logged; has names of files"
    return known.get(name, "a bug in syncd that was met here")
