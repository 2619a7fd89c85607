"""What a daemon says of itself, for tests of the page: statuses of several kinds, and a Service that has them."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.fake_service import FakeService

Json = dict[str, Any]


def at(seconds: float) -> str:
    """Return the time that many seconds from now, in ISO 8601 UTC (negative: ago)."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def mirror(name: str, state: str = "ok", **more: Any) -> Json:
    """Return one mirror of `status --json`, well unless told otherwise."""
    return {
        "name": name,
        "state": state,
        "files": 16,
        "bytes": 93_000_000,
        "last_success": at(-120),
        "next_run": at(480),
        "last_run": {
            "run_id": "r1",
            "started_at": at(-125),
            "finished_at": at(-120),
            "state": "ok",
            "exit_code": 0,
            "fetched": 3,
            "retired": 0,
            "failed": 0,
            "bytes": 24_000_000,
            "duration_s": 4.7,
        },
        "pending": {"fetch": 0, "retire": 0, "announce": 0},
        "failures": [],
        "refused": [],
        "foreign": 0,
        "message": "",
        "hint": "",
        "every_s": 600,
        "lag_s": 120,
        "source": "smb://gvpocr@172.12.0.132:13445/gvpocr-bhushanji",
        "target": "/home/tod/gvpocr-worker/data/Bhushanji",
        "watching": {"source": "on", "mirror": "on"},
        "paused_until": None,
        "current": None,
        "disk": {"free_bytes": 41_000_000_000, "floor_bytes": 12_000_000_000, "trash_bytes": 310_000_000},
        "verification": {
            "cursor_fraction": 0.42,
            "cycle_started_at": at(-86_400 * 12),
            "checked": 6_720,
            "damaged": 0,
            "last_found": None,
        },
        **more,
    }


def status(*mirrors: Json, **more: Any) -> Json:
    """Return a status in which all is well but for what the mirrors and `more` say."""
    return {
        "version": "0.1.0",
        "host": "tod-mac",
        "at": at(0),
        "daemon": {"running": True, "pid": 4711, "since": at(-3 * 86_400)},
        "mirrors": list(mirrors) or [mirror("Bhushanji"), mirror("newsletters", files=12_412, bytes=398_000_000)],
        "hops": [
            hop("source Bhushanji", "SMB 3.1.1, signed", 0.8),
            hop("nsqd", "127.0.0.1:4150", 1.4),
            hop("mongodb", state="off", since=None),
        ],
        "workers": [
            {"id": "tod-mac-1", "state": "busy", "since": at(-40), "task": "Bhushanji/hin-written/diary.jpeg"},
            {"id": "tod-mac-2", "state": "idle", "since": at(-300), "task": None},
        ],
        "announcing": {"mode": "nsq", "owed": 0, "oldest": None, "state": "on", "error": "", "warning": ""},
        "leases": {"count": 2, "pins": 2},
        **more,
    }


def hop(name: str, detail: str = "", latency_ms: float | None = None, **more: Any) -> Json:
    """Return one connection of a status, well unless told otherwise."""
    return {"name": name, "state": "ok", "since": at(-3600), "detail": detail, "latency_ms": latency_ms, **more}


def running() -> Json:
    """A run that is half way."""
    current = {
        "run_id": "r2",
        "kind": "full",
        "started_at": at(-42),
        "files_done": 1_204,
        "files_known": 5_000,
        "bytes_done": 1_210_000_000,
        "bytes_known": 4_900_000_000,
        "bytes_per_s": 28_800_000,
    }
    return status(mirror("Bhushanji"), mirror("newsletters", current=current, files=12_412, bytes=398_000_000))


def halted() -> Json:
    """A mass deletion that waits for a person, and announcements that nsqd does not take."""
    message = "214 of 412 files are gone from the share (cap 41). Nothing deleted, new files still arrive."
    held_back = mirror(
        "newsletters",
        "halted",
        files=412,
        bytes=398_000_000,
        message=message,
        hint="syncd approve --mirror newsletters",
        pending={"fetch": 0, "retire": 214, "announce": 3},
    )
    found = status(mirror("Bhushanji"), held_back)
    found["hops"][1] |= {
        "state": "down",
        "since": at(-720),
        "detail": "127.0.0.1:4150: connection refused",
        "latency_ms": None,
    }
    found["announcing"] |= {
        "owed": 3,
        "oldest": at(-720),
        "state": "waiting",
        "error": "nsqd at 127.0.0.1:4150 refused the connection",
    }
    return found  # fmt: skip


def failing() -> Json:
    """Files that the server does not let us read, refused names, damage found, and little room."""
    failures = [
        {
            "path": f"hin-written/पत्र १९६२ ({number}).JPG",
            "reason": "denied",
            "hint": "ask the share's admin to let this user read it",
            "attempts": 3,
            "since": at(-86_400 - number),
        }
        for number in range(1, 8)
    ]
    refused = [{"path": "eng-typed/what: a name.pdf", "reason": "name_stream", "hint": "rename it on the server"}]
    broken = mirror(
        "Bhushanji",
        "failing",
        failures=failures,
        refused=refused,
        foreign=4,
        foreign_files=["notes.txt", "old/a.jpg", "old/b.jpg", "old/c.jpg"],
        message="7 failed, the first: hin-written/पत्र १९६२ (1).JPG (the server refuses to let us read it)",
        hint="syncd status --json",
        pending={"fetch": 7, "retire": 0, "announce": 0},
        disk={"free_bytes": 12_900_000_000, "floor_bytes": 12_000_000_000, "trash_bytes": 310_000_000},
        watching={"source": "partly: 3 of 40 folders", "mirror": "off: no inotify watches left"},
    )
    broken["verification"] |= {"damaged": 1, "last_found": at(-7200)}
    return status(broken, mirror("newsletters", "behind", lag_s=7_300, last_success=at(-7_300), files=412))


def without(found: Json, *fields: str) -> Json:
    """Return a copy whose every object lacks these fields."""
    left = copy.deepcopy(found)
    _strip(left, set(fields))
    return left


def _strip(value: Any, fields: set[str]) -> None:
    if isinstance(value, dict):
        for name in fields & value.keys():
            del value[name]
        for each in value.values():
            _strip(each, fields)
    elif isinstance(value, list):
        for each in value:
            _strip(each, fields)


class PageService(FakeService):
    """A FakeService whose status and folders a test sets; events are whole FileReady messages.

    shown: what status() returns, with the time of asking. folders: (mirror, path) -> answer; all others are empty.
    """

    def __init__(self) -> None:
        super().__init__()
        self.shown = status()
        self.folders: dict[tuple[str, str], Json | None] = {}

    def status(self) -> Json:
        super().status()
        return {**self.shown, "at": at(0)}

    def folder(self, mirror: str, directory: str) -> Json | None:
        super().folder(mirror, directory)
        return self.folders.get((mirror, directory), {"folders": [], "files": [], "missing": [], "more": False})

    def happen(self, event: str, path: str, **more: Any) -> None:
        """Add an event to the feed."""
        self.announce_event(event, path)
        body = {"server_path": f"{self.mirror}/{path}", "size": 8_123_456, "sha256": "ab" * 32, "at": at(0)}
        self._events[-1].update({**body, **more})


def small_tree() -> dict[tuple[str, str], Json | None]:
    """Return folders for PageService: the root of Bhushanji and one folder below it."""
    root = {
        "folders": [
            {"name": "eng-typed", "files": 5, "bytes": 2_800_000},
            {"name": "hin-written", "files": 5, "bytes": 41_000_000},
        ],
        "files": [
            {"name": "Address .jpg", "size": 812_345, "mtime_ns": 1_700_000_000_000_000_000, "sha256": "cd" * 32}
        ],
        "missing": [],
        "more": False,
    }
    below = {
        "folders": [],
        "files": [
            {"name": f"पत्र ({n}).JPG", "size": 8_100_000 + n, "mtime_ns": 0, "sha256": "ef" * 32} for n in range(1, 6)
        ],
        "missing": [
            {
                "name": "diary 14.1.1958.jpeg",
                "reason": "denied",
                "hint": "ask the share's admin to let this user read it",
            }
        ],
        "more": False,
    }
    return {("Bhushanji", ""): root, ("Bhushanji", "hin-written"): below}  # fmt: skip
