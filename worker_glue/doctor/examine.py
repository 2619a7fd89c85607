"""All checks, in the order of a task's journey."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from syncd.config import Settings
from worker_glue.doctor import files, local, mongo, nsq, ocr
from worker_glue.doctor.checks import Group, group


def examine(settings: Settings, env: Mapping[str, str]) -> Iterator[Group]:
    """Yield each hop's group as it is done; never raises for how things are. Below two minutes in all."""
    yield group("host", "this host", lambda: local.checks(settings, env))
    yield group("nsqd", "nsqd, where tasks come from", lambda: nsq.nsqd_checks(settings.nsq))
    yield group("nsqlookupd", "nsqlookupd, which tells where tasks are", lambda: nsq.lookupd_checks(settings.nsq))
    yield group("mongodb", "MongoDB, where results go", lambda: mongo.checks(settings))
    yield group("files", "the daemon, and the mirrors as seen from here", lambda: files.checks(settings, env))
    yield group("ocr", "OCR", lambda: ocr.checks(settings.worker))
