"""All checks, in the order of a task's journey."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from syncd.config import Settings
from syncd.core.clocks import Apart
from worker_glue.doctor import clocks, files, local, mongo, nsq, ocr, scaler
from worker_glue.doctor.checks import Check, Group, group


def examine(settings: Settings, env: Mapping[str, str]) -> Iterator[Group]:
    """Yield each hop's group in order; all are looked at together, within half a minute. Never raises."""
    told: list[Apart] = []
    hops: list[tuple[str, str, Callable[[], Iterable[Check]]]] = [
        ("host", "this host", lambda: local.checks(settings, env)),
        ("nsqd", "nsqd, where tasks come from", lambda: nsq.nsqd_checks(settings.nsq)),
        ("nsqlookupd", "nsqlookupd, which tells where tasks are", lambda: nsq.lookupd_checks(settings.nsq)),
        ("nsqlookupd", "nsqd, as a scaler sees it", lambda: scaler.checks(settings.nsq, env, told)),
        ("mongodb", "MongoDB, where results go", lambda: mongo.checks(settings, told)),
        ("files", "the daemon, and the mirrors as seen from here", lambda: files.checks(settings, env, told)),
        ("ocr", "OCR", lambda: ocr.checks(settings.worker)),
    ]
    with ThreadPoolExecutor(len(hops), thread_name_prefix="doctor") as pool:
        yield from (each for each in pool.map(lambda hop: group(*hop), hops) if each.checks)
    apart = list(clocks.checks(told))
    if apart:
        yield Group("host", "clocks, against this host's", apart)
