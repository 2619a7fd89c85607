"""What goes out on NSQ: FileReady v1 (DESIGN 4.3) and the message that closes a run. Pure.

Bodies are compact JSON in UTF-8. Readers have to ignore fields that they do not know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from syncd.core.model import RelPath

RUNS_TOPIC = "file_sync_runs"


def server_path(mirror: str, path: RelPath) -> str:
    """Return a file's path as a task says it: the mirror's name, then the path on the share."""
    return f"{mirror}/{path}"


def event_id(host: str, mirror: str, path: str, sha256: str, generation: int) -> str:
    """Return the key by which readers recognise an announcement that they have had already."""
    return f"{host}|{mirror}|{path}|{sha256}|{generation}"


def file_ready(
    *,
    event: str,
    mirror: str,
    path: RelPath,
    size: int,
    sha256: str,
    mtime_ns: int,
    generation: int,
    host: str,
    run_id: str,
    at: str,
) -> dict[str, Any]:
    """Return one FileReady v1. event: ready, updated or removed; host: this host's name; at: ISO 8601 UTC."""
    return {
        "v": 1,
        "event": event,
        "id": event_id(host, mirror, path, sha256, generation),
        "mirror": mirror,
        "path": path,
        "server_path": server_path(mirror, path),
        "size": size,
        "sha256": sha256,
        "mtime_ns": mtime_ns,
        "generation": generation,
        "host": host,
        "run_id": run_id,
        "at": at,
    }


_COUNTS = ("scanned", "fetched", "unchanged", "renamed", "retired", "refused", "failed")
FAILURES_SHOWN = 100


def run_closed(report: Mapping[str, Any], *, host: str, run_id: str, state: str, at: str) -> dict[str, Any]:
    """Return the message that closes a run that changed something. report: the mirror's object of DESIGN 4.2."""
    return {
        "v": 1,
        "run_id": run_id,
        "mirror": report.get("name", ""),
        "host": host,
        "state": state,
        **{name: report.get(name, 0) for name in _COUNTS},
        "bytes": report.get("bytes", 0),
        "duration_s": report.get("duration_s", 0),
        "failures": list(report.get("failures", ()))[:FAILURES_SHOWN],
        "at": at,
    }


def encode(message: Mapping[str, Any]) -> bytes:
    """Return a message's body. A path that is no valid Unicode cannot occur: the planner refuses such names."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
