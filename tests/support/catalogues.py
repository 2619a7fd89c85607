"""Builders for catalogue tests: facts, intents and the end of a run, with the boring parts filled in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from syncd.core.model import Fingerprint, Held, Intent, IntentKind, LocalStat, Record, RelPath, Unheld
from syncd.store.catalogue import Catalogue, SqliteMirrorCatalogue
from syncd.store.findings import SqliteFindings

VERSION = "1.2.3"
NOW_MS = 1_700_000_000_000


def open_catalogue(state: Path) -> Catalogue:
    return Catalogue.open(state / "catalogue.db", app_version=VERSION)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def seen(size: int = 10, mtime_ns: int = 1_000, ctime_ns: int = 2_000, file_id: int = 0) -> Fingerprint:
    return Fingerprint(size, mtime_ns, ctime_ns, file_id)


def held(path: str, fingerprint: Fingerprint | None = None, content: str = "", *, announce: bool = True) -> Held:
    fingerprint = fingerprint or seen()
    local = LocalStat(len(path), fingerprint.size, fingerprint.mtime_ns)
    return Held(RelPath(path), fingerprint, digest(content or path), local, announce=announce)


def record_of(fact: Held, generation: int, absent_run: str = "") -> Record:
    return Record(*fact.fingerprint, fact.sha256, generation, *fact.local, absent_run)


def intent(identity: str, path: str, kind: IntentKind = IntentKind.PROMOTE) -> Intent:
    return Intent(identity, kind, RelPath(path), digest(path), seen(file_id=2**64 - 1), staged=f"s-{identity}")


def hold(mirror: SqliteMirrorCatalogue, *facts: Held, run_id: str = "r0", now_ms: int = NOW_MS) -> None:
    mirror.commit(facts, [], run_id=run_id, now_ms=now_ms)


def finish(
    mirror: SqliteMirrorCatalogue,
    run_id: str,
    findings: SqliteFindings | None,
    *,
    exit_code: int = 0,
    failures: Iterable[Unheld] = (),
    day: int = 1,
    report: dict[str, Any] | None = None,
) -> None:
    mirror.finish_run(
        report or {},
        run_id=run_id,
        state="ok",
        exit_code=exit_code,
        started_at=f"2026-01-{day:02}T10:00:00Z",
        finished_at=f"2026-01-{day:02}T10:00:05Z",
        findings=findings,
        failures=failures,
    )


def snapshot(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return name, mtime, size and bytes of every file below a directory."""
    return {
        str(path.relative_to(directory)): (path.stat().st_mtime_ns, path.stat().st_mode, path.read_bytes())
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
