"""The ports of the engine: what it needs from source, mirror, catalogue, publisher and registry.

The docstrings are the contract; tests/conformance holds every adapter to it.
"""

from __future__ import annotations

from syncd.ports.announcing import ClosedRun, Outbox, Publisher
from syncd.ports.catalogue import Announcement, Findings, HeldDirectory, MirrorCatalogue, Totals
from syncd.ports.mirror import Mirror, Room, Staged, Traits, Trashed
from syncd.ports.registry import BeatAnswer, Bookmark, Holdings, Registry, RegistryEntry
from syncd.ports.source import Failed, Fetched, FetchQueue, Hint, HintSource, Outcome, Pace, Sink, Source, SourceInfo

__all__ = [
    "Announcement",
    "BeatAnswer",
    "Bookmark",
    "ClosedRun",
    "Failed",
    "FetchQueue",
    "Fetched",
    "Findings",
    "HeldDirectory",
    "Hint",
    "HintSource",
    "Holdings",
    "Mirror",
    "MirrorCatalogue",
    "Outbox",
    "Outcome",
    "Pace",
    "Publisher",
    "Registry",
    "RegistryEntry",
    "Room",
    "Sink",
    "Source",
    "SourceInfo",
    "Staged",
    "Totals",
    "Traits",
    "Trashed",
]
