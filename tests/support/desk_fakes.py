"""What the operator's commands stand on, without servers: paths, jobs and a press that can be told to fail."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from syncd.core.errors import PublishFailed
from syncd.core.reasons import Reason
from syncd.core.resolution import Resolution, State
from worker_glue.desk.ports import Entry, Line, SourceRow, Standing
from worker_glue.model import basename


class FakePaths:
    """A mirror M, with each path's state; folders are what lies above the paths."""

    def __init__(self, states: Mapping[str, State | Reason], near: Sequence[str] = ()) -> None:
        self.states = dict(states)
        self.near = tuple(near)
        self.asked: list[str] = []

    def resolve(self, path: str) -> Resolution:
        self.asked.append(path)
        inner = path.removeprefix("/app/").removeprefix("M").strip("/")
        state = self.states.get(inner)
        whole = f"M/{inner}"
        if state is State.READY:
            return Resolution(State.READY, "M", inner, whole, f"/mirror/{inner}", 10, f"sha-{inner}", 1)
        if isinstance(state, Reason):
            return Resolution(State.REFUSED, "M", inner, whole, reason=state)
        if state is not None:
            return Resolution(state, "M", inner, whole, reason=Reason.NEW, listed_at="2026-07-04T06:13:20Z")
        if path.removeprefix("/app/").split("/")[0] == "M" and any(
            each.startswith(f"{inner}/" if inner else "") for each in self.states
        ):
            return Resolution(State.REFUSED, "M", inner, whole, reason=Reason.FOLDER)
        return Resolution(State.MISSING, "M", inner, whole, reason=Reason.NOT_LISTED, near=self.near)


class FakeListing:
    """Names of mirror M."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)

    def files(self, mirror: str, folder: str) -> Iterable[str]:
        assert mirror == "M"
        return [name for name in self.names if not folder or name.startswith(f"{folder}/")]


class FakeBoard:
    """Jobs in memory. log: what was written, in order."""

    def __init__(self, log: list[str] | None = None) -> None:
        self.jobs: dict[str, Standing] = {}
        self.kept: dict[str, list[Line]] = {}
        self.recorded: dict[str, list[Entry]] = {}
        self.extra: dict[str, dict[str, Any]] = {}
        self.log = [] if log is None else log

    def standing(self, job_id: str) -> Standing | None:
        found = self.jobs.get(job_id)
        if found is None:
            return None
        entries = self.recorded.get(job_id, [])
        errors = sum(entry.error is not None for entry in entries)
        return found._replace(consumed=len(entries), results=len(entries) - errors, errors=errors)

    def recent(self, limit: int) -> Sequence[Standing]:
        return [found for job in list(self.jobs)[:limit] if (found := self.standing(job)) is not None]

    def create(self, job_id: str, total: int, extra: dict[str, Any]) -> None:
        self.log.append("create")
        self.extra[job_id] = extra
        self.jobs[job_id] = Standing(job_id, "processing", total, total, 0, 0, 0)

    def entries(self, job_id: str) -> Iterable[Entry]:
        return list(self.recorded.get(job_id, ()))

    def keep_lines(self, job_id: str, lines: Sequence[Line]) -> None:
        self.log.append("keep")
        self.kept[job_id] = list(lines)

    def lines(self, job_id: str) -> Sequence[Line]:
        return self.kept.get(job_id, [])

    def sources(self, job_id: str | None) -> Iterable[SourceRow]:
        return []


class FakePress:
    """Takes messages until it is told to fail. fail_after: batches that it takes (None: all)."""

    def __init__(self, log: list[str] | None = None, fail_after: int | None = None) -> None:
        self.log = [] if log is None else log
        self.fail_after = fail_after
        self.bodies: list[bytes] = []
        self.batches: list[int] = []

    def publish_many(self, bodies: Sequence[bytes]) -> None:
        if self.fail_after is not None and len(self.batches) >= self.fail_after:
            raise PublishFailed("nsqd is away")
        self.log.append("publish")
        self.batches.append(len(bodies))
        self.bodies += bodies

    @property
    def tasks(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body in self.bodies]


def result(index: int | None, path: str, **more: Any) -> Entry:
    """Return a result's entry."""
    return Entry(index, basename(path), path, None, more.get("wish"))


def failure(index: int | None, path: str, error: str = "unreadable") -> Entry:
    """Return an error's entry."""
    return Entry(index, basename(path), path, error, None)
