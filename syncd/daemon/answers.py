"""What the daemon answers on its API: web/port.py's Service."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from syncd import __version__
from syncd.app.announcing import announce_again
from syncd.app.site import Site, new_run_id
from syncd.core import paths
from syncd.core.errors import ConfigError, SyncdError
from syncd.core.model import RelPath
from syncd.core.reasons import hint_for
from syncd.core.resolution import Resolution, State
from syncd.daemon import sampling, statuses
from syncd.daemon.errands import DoctorErrand, Errands, RunErrand, VerifyErrand
from syncd.daemon.kept import KeptMirror
from syncd.daemon.resolving import Leasing, Resolving
from syncd.daemon.somewhere import somewhere
from syncd.engine.feed import page
from syncd.engine.status import FOR_EVER
from syncd.web.port import Errand, Lease, Sample

if TYPE_CHECKING:
    from syncd.daemon.living import Daemon
    from syncd.doctor.checks import Group

FOLDER_ITEMS = 1_000
SUMMED = 20_000
"""Of folders with more files than this no sum of bytes is told: it would take a second."""
TOPIC_LOOK_S = 60.0
WAITING_STATES = (State.FETCHING, State.MISSING)


class Answers:
    """Answers for one daemon. Thread-safe."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._errands = Errands()
        self._resolving = Resolving(daemon)
        self._leasing = Leasing(daemon, self._resolving)
        self.topic_warning = ""
        self.topic_channels: int | None = None
        self._topic_looked = float("-inf")
        self._looking = threading.Lock()

    # -- for the daemon

    def close(self) -> None:
        """Nothing is open here."""

    def mirrors_changed(self, back_soon: Sequence[KeptMirror] = ()) -> None:
        """Other mirrors are kept now; of those that are back soon, what they hold is served meanwhile."""
        self._resolving.mirrors_changed(back_soon)
        self._leasing.mirrors_changed()

    def woke(self) -> None:
        """The machine slept: leases get their time again."""
        self._leasing.woke()

    def look_after(self) -> None:
        """End leases whose time is over; look at the topic now and then."""
        self._leasing.expire()
        if time.monotonic() - self._topic_looked > TOPIC_LOOK_S and self._looking.acquire(blocking=False):
            self._topic_looked = time.monotonic()
            threading.Thread(target=self._look_at_topic, name="topic", daemon=True).start()

    def resolve_in(self, mirror: str, path: RelPath) -> Resolution:
        """Say how a path of a mirror is."""
        return self._resolving.resolve_in(mirror, path)

    def prefetch(self, spelled: str) -> None:
        """A task that names this path waits in the queue: fetch its file before the rest."""
        try:
            found = self._resolving.resolve(spelled, near=False)  # a flood of tasks asks for a flood of missing files
        except SyncdError:
            return
        kept = self._daemon.find(found.mirror)
        if kept is not None and found.path and found.state in WAITING_STATES:
            kept.demand.prefetch(RelPath(found.path))

    def states(self) -> dict[str, str]:
        """Return each mirror's state."""
        return {name: statuses.line_of(self._daemon, kept).state for name, kept in list(self._daemon.kept.items())}

    def lease_counts(self) -> dict[str, int]:
        """Return how many leases and pins there are."""
        return self._leasing.counts()

    @property
    def leases_given(self) -> int:
        """How many leases were given since the start."""
        return self._leasing.given

    def _look_at_topic(self) -> None:
        """A topic without a channel keeps everything on nsqd for ever: say so."""
        try:
            self.topic_warning, self.topic_channels = _topic(self._daemon)
        finally:
            self._looking.release()

    # -- looking

    def health(self) -> dict[str, Any]:
        problems = self._daemon.problems()
        return {
            "ok": not self._daemon.faults(),
            "version": __version__,
            "pid": os.getpid(),
            "since": self._daemon.since,
            "problems": problems,
        }

    def status(self) -> dict[str, Any]:
        return statuses.status_json(self._daemon)

    def events(self, since: int, limit: int) -> dict[str, Any]:
        return page(self._daemon.catalogue, self._daemon.host.name, since, limit)

    def on_event(self, tell: Callable[[], None]) -> Callable[[], None]:
        return self._daemon.on_event(tell)

    def folder(self, mirror: str, directory: str) -> dict[str, Any] | None:
        kept = self._daemon.find(mirror)
        return None if kept is None else _folder(kept, RelPath(directory.strip("/")))

    def samples(self) -> list[Sample]:
        return sampling.samples(self._daemon, f"{sys.version_info.major}.{sys.version_info.minor}")

    # -- files

    def resolve(self, path: str) -> Resolution:
        return self._resolving.resolve(path)

    def ensure(self, path: str) -> Future[Resolution]:
        found = self.resolve(path)
        kept = self._daemon.find(found.mirror)
        if kept is None and found.mirror:
            self._daemon.settle()
            kept = self._daemon.find(found.mirror)
        if kept is not None and found.path and found.state in WAITING_STATES:
            return kept.demand.ensure(RelPath(found.path))
        if not found.mirror and found.state in (State.MISSING, State.NO_MIRROR):
            return self._ensure_somewhere(path, found)
        future: Future[Resolution] = Future()
        future.set_result(found)
        return future

    def _ensure_somewhere(self, spelled: str, found: Resolution) -> Future[Resolution]:
        """Look for a path that names no mirror in each that it may lie in: its folder may be newer than any listing."""
        kept = [(self._daemon.find(mirror), path) for mirror, path in self._resolving.places(spelled)]
        wishes = [each.demand.ensure(path) for each, path in kept if each is not None]
        return somewhere(wishes, found, lambda: self.resolve(spelled))

    def lease(self, path: str, ttl_s: float, *, wait: bool = True) -> Lease | Resolution:
        return self._leasing.lease(path, ttl_s, wait=wait)

    def renew(self, lease_id: str, ttl_s: float) -> Lease | None:
        return self._leasing.renew(lease_id, ttl_s)

    def release(self, lease_id: str, *, wait: bool = True) -> bool | None:
        return self._leasing.release(lease_id, wait=wait)

    # -- changes

    def start(self, kind: str, wishes: Mapping[str, Any]) -> str:
        if kind == "doctor":
            return self._start_doctor()
        names = self._names(wishes.get("mirrors") or ())
        errand = self._run_errand(names, wishes) if kind == "run" else self._verify_errand(names, wishes)
        self._errands.add(errand)
        for name in errand.mirrors:
            self._daemon.kept[name].keeper.wish(errand)
        return errand.id

    def _start_doctor(self) -> str:
        """Examine from here; a second caller follows the first one's. No refused login is tried again."""
        settings = self._daemon.settings
        kept = [self._daemon.find(mirror.name) for mirror in settings.mirrors]
        refused = {each.name for each in kept if each is not None and each.keeping.logins.refused}

        def examine() -> Iterator[Group]:
            from syncd.doctor import examine as doctor  # only where somebody asks

            try:
                yield from doctor.examine(settings, os.environ, daemon=False, refused=refused)
            except Exception as error:
                if not isinstance(error, SyncdError):
                    self._daemon.bug(error, "doctor")
                raise

        return self._errands.examine(DoctorErrand(new_run_id(), examine))

    def _run_errand(self, names: Sequence[str], wishes: Mapping[str, Any]) -> RunErrand:
        spelled = list(wishes.get("only") or ())
        site = Site(self._daemon.settings)
        only = site.in_mirrors([self._daemon.kept[name].settings for name in names], spelled)
        if spelled:
            only = {name: found for name, found in only.items() if found}
        return RunErrand(
            new_run_id(),
            only,
            new_target=bool(wishes.get("new_target")),
            take_over=bool(wishes.get("take_over")),
        )

    def _verify_errand(self, names: Sequence[str], wishes: Mapping[str, Any]) -> VerifyErrand:
        return VerifyErrand(
            new_run_id(),
            names,
            fraction=float(wishes.get("fraction", 1.0)),
            source=bool(wishes.get("source")),
            checksums=bool(wishes.get("checksums")),
            repair=bool(wishes.get("repair")),
        )

    def errand(self, errand_id: str) -> Errand | None:
        return self._errands.find(errand_id)

    def approve(self, wishes: Mapping[str, Any]) -> dict[str, Any]:
        (name,) = self._names([wishes["mirror"]])
        kept = self._daemon.kept[name]
        approved = kept.keeping.facts.approve([RelPath(path) for path in wishes["paths"]])
        kept.keeper.due()
        return {"approved": approved}

    def pause(self, wishes: Mapping[str, Any]) -> dict[str, Any]:
        names = self._names(wishes.get("mirrors") or ())
        for_s = wishes.get("for_s")
        until = FOR_EVER
        if for_s is not None:
            until = (datetime.now(UTC) + timedelta(seconds=float(for_s))).strftime("%Y-%m-%dT%H:%M:%SZ")
        for name in names:
            self._daemon.kept[name].keeper.pause(until)
        return {"paused": list(names), "until": until}

    def resume(self, wishes: Mapping[str, Any]) -> dict[str, Any]:
        names = self._names(wishes.get("mirrors") or ())
        for name in names:
            keeper = self._daemon.kept[name].keeper
            keeper.pause("")
            keeper.due()
        return {"resumed": list(names)}

    def announce(self, wishes: Mapping[str, Any]) -> dict[str, Any]:
        owed = announce_again(
            self._daemon.catalogue,
            self._daemon.settings,
            since=wishes.get("since"),
            spelled=list(wishes.get("paths") or ()),
            everything=bool(wishes.get("all")),
        )
        self._daemon.relay.wake()
        return {"owed": owed}

    def _names(self, names: Sequence[str]) -> Sequence[str]:
        self._daemon.settle()
        known = list(self._daemon.kept)
        for name in names:
            if name not in known:
                raise ConfigError(
                    f'there is no mirror "{name}" in {self._daemon.settings.path}', hint=f"one of: {', '.join(known)}"
                )
        return list(names) or known


def _folder(kept: KeptMirror, directory: RelPath) -> dict[str, Any]:
    facts = kept.keeping.facts
    held = facts.held_in(directory)
    folders = []
    for name in sorted(held.folders)[:FOLDER_ITEMS]:
        below = paths.join(directory, name)
        count = facts.count_below(below)
        size = sum(record.size for _, record in facts.records(below)) if count <= SUMMED else None
        folders.append({"name": name, "files": count, "bytes": size})
    files = [
        {"name": name, "size": record.size, "mtime_ns": record.mtime_ns, "sha256": record.sha256}
        for name, record in sorted(held.records.items())[:FOLDER_ITEMS]
    ]
    missing = [
        {
            "name": paths.split(unheld.path)[1],
            "reason": unheld.reason.value,
            "hint": hint_for(unheld.reason, unheld.path),
        }
        for unheld in facts.unheld()
        if paths.split(unheld.path)[0] == directory and paths.split(unheld.path)[1] not in held.records
    ]
    more = max(len(held.folders), len(held.records), len(missing)) > FOLDER_ITEMS
    return {"folders": folders, "files": files, "missing": missing[:FOLDER_ITEMS], "more": more}


def _topic(daemon: Daemon) -> tuple[str, int | None]:
    """Ask nsqlookupd which channels the topic has; (warning, count), ("", None) when it cannot be told."""
    nsq = daemon.settings.nsq
    if nsq.announce != "nsq" or not nsq.lookupd:
        return "", None
    from syncd.client.lookupd import look_up

    found = []
    for address in nsq.lookupd:
        with suppress(SyncdError):
            found.append(look_up((address.host, address.port), nsq.topic))
    channels = {name for topic in found for name in topic.channels}
    if channels or not any(topic.known for topic in found):
        return "", len(channels) or None
    warning = (
        f"the topic {nsq.topic} has no channel: nsqd keeps every announcement for ever; "
        'read it (syncd events --nsq CHANNEL) or set announce = "local"'
    )
    return warning, 0
