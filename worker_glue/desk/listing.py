"""Which names a mirror has: as the daemon knows it, as its manifest says, and as its folder lies there.

Each of them may lack something (a daemon's answer is cut at 1,000 names, a manifest knows only what is held), and
names too many do no harm (desk/gathering.py); so what is found is put together.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from worker_glue.desk.ports import Listing

OWN = ".syncd"
MANIFEST = f"{OWN}/manifest.jsonl"


class Folders(Protocol):
    """The daemon: syncd.client.api.ApiClient."""

    def folder(self, mirror: str, path: str = "") -> dict[str, Any] | None:
        """Return {"folders", "files", "missing", "more"} of one folder; None when there is no such mirror."""


class DaemonListing:
    """What the daemon holds and misses."""

    def __init__(self, daemon: Folders) -> None:
        self._daemon = daemon

    def files(self, mirror: str, folder: str) -> Iterator[str]:
        """Yield the files below a folder. Raises: what the client raises."""
        waiting = [folder]
        while waiting:
            at = waiting.pop()
            found = self._daemon.folder(mirror, at) or {}
            for each in (*found.get("files", ()), *found.get("missing", ())):
                yield _join(at, str(each["name"]))
            waiting += (_join(at, str(each["name"])) for each in found.get("folders", ()))


class ManifestListing:
    """What each mirror's manifest says is held. targets: mirror -> its folder, as this process sees it."""

    def __init__(self, targets: Mapping[str, Path]) -> None:
        self._targets = targets

    def files(self, mirror: str, folder: str) -> Iterator[str]:
        """Yield the files below a folder; none where there is no manifest."""
        target = self._targets.get(mirror)
        if target is None:
            return
        try:
            lines = (target / MANIFEST).open("rb")
        except OSError:
            return
        below = f"{folder}/" if folder else ""
        with lines:
            for line in lines:
                path = _path_of(line)
                if path and path.startswith(below):
                    yield path


class LocalListing:
    """What lies in each mirror's folder. Symbolic links are not followed."""

    def __init__(self, targets: Mapping[str, Path]) -> None:
        self._targets = targets

    def files(self, mirror: str, folder: str) -> Iterator[str]:
        """Yield the files below a folder; none where it is not there."""
        target = self._targets.get(mirror)
        if target is None:
            return
        root = str(target)
        for at, folders, names in os.walk(os.path.join(root, folder)):
            inside = os.path.relpath(at, root)
            inside = "" if inside == "." else inside
            if not inside:
                folders[:] = [name for name in folders if name != OWN]
            yield from (_join(inside, name) for name in names)


class Together:
    """Several listings as one."""

    def __init__(self, listings: Sequence[Listing]) -> None:
        self._listings = tuple(listings)

    def files(self, mirror: str, folder: str) -> Iterable[str]:
        """Yield what any of them knows, each once."""
        seen: set[str] = set()
        for listing in self._listings:
            for path in listing.files(mirror, folder):
                if path not in seen:
                    seen.add(path)
                    yield path


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _path_of(line: bytes) -> str:
    """Return the path of one line of a manifest; "" for what is none."""
    try:
        told = json.loads(line)
    except ValueError:
        return ""
    path = told.get("path") if isinstance(told, dict) else None
    return path if isinstance(path, str) else ""
