"""MongoDB as a worker uses it: the connection string, the login through the proxy, the jobs, and its clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from syncd.config import Settings
from syncd.core.clocks import Apart
from syncd.core.errors import ConfigError
from syncd.core.mongo_uri import DATABASE, read
from worker_glue.doctor.checks import Check, fail, failed, ok, warn
from worker_glue.doctor.clocks import compared
from worker_glue.errors import JobsAway, JobsRefused

_PROXY = "see whether the proxy and MongoDB are up; else check the address"


def checks(settings: Settings, clocks: list[Apart]) -> Iterator[Check]:
    """Read the connection string, log in, look at the jobs. A password is tried once; nothing is written.

    clocks: gets MongoDB's.
    """
    secret = settings.mongo.uri
    if secret is None:
        todo = "set MONGO_URI, or mongo.uri_file"
        yield warn("uri", "no MongoDB is configured: results would stay in the local store", todo)
        return
    try:
        uri, troubles = read(secret.reveal())
    except ConfigError as error:
        yield failed("uri", error)
        return
    for trouble in troubles:
        yield (fail if trouble.fatal else warn)("uri", f"{secret.where}: {trouble.seen}", trouble.todo)
    if uri is None or any(trouble.fatal for trouble in troubles):
        return
    yield ok("uri", f"{secret.where}: {uri.shown}")
    yield from _logged_in(settings, uri.database or DATABASE, clocks)


def _logged_in(settings: Settings, database: str, clocks: list[Apart]) -> Iterator[Check]:
    from worker_glue.jobs.link import Link

    assert settings.mongo.uri is not None  # noqa: S101  (looked at above)
    warnings: list[str] = []
    link = Link(settings.mongo.uri.reveal, where=settings.mongo.uri.where, warn=warnings.append)
    try:
        began = time.monotonic()
        link.call(lambda db: db.command("ping"))
        yield ok("login", f"{link.place} accepts the login, in {1000 * (time.monotonic() - began):.0f} ms")
        for warning in warnings:
            yield warn("login", warning)
        yield _jobs(database, link.call(lambda db: db["bulk_jobs"].find_one({}, {"job_id": 1})))
        before = time.time()
        yield _clock(link.call(lambda db: db.command("hello")), (before + time.time()) / 2, clocks)
    except JobsAway as error:
        yield fail("login", error.message, _PROXY)
    except JobsRefused as error:
        yield failed("login", error)
    finally:
        link.close()


def _jobs(database: str, found: dict[str, Any] | None) -> Check:
    if found is None:
        todo = "name the backend's database in the connection string, unless no job was ever made"
        return warn("jobs", f"there are no jobs in {database}.bulk_jobs", todo)
    return ok("jobs", f"{database}.bulk_jobs can be read")


def _clock(hello: dict[str, Any], now: float, found: list[Apart]) -> Check:
    told = hello.get("localTime")
    if not isinstance(told, datetime):
        return ok("clock", "MongoDB does not tell its time")
    found.append(Apart("MongoDB's", told.timestamp() - now))
    return compared(found[-1])
