"""The one hop to a folder of this machine."""

from __future__ import annotations

from pathlib import Path

from syncd.config import MirrorSettings, SourceUrl
from syncd.doctor.checks import Check, Pace, TimedOut, fail, ok, within
from syncd.ports import Source
from syncd.sources.local import LocalSource
from syncd.store.probe import file_system_of

SHARED_HOPS: tuple[str, ...] = ()


def hops(_mirror: MirrorSettings, url: SourceUrl, _secret_hint: str, pace: Pace) -> list[Check]:
    """Say what the folder lies on. Whether it can be read is asked of the source itself."""
    folder = Path(url.folder)
    try:
        kind = within(pace.check_s, lambda: file_system_of(folder) if folder.exists() else "")
    except TimedOut as error:
        return [fail("folder", f"{folder}: {error.message}: is it on a server that is away?", f"df {folder}")]
    return [ok("folder", f"{folder} on {kind}")] if kind else []


def open_source(_mirror: MirrorSettings, url: SourceUrl, _secret_hint: str, _pace: Pace) -> Source:
    """Return the source."""
    return LocalSource(Path(url.folder))
