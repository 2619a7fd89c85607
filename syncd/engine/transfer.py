"""Many files in flight: source -> staged and hashed as bytes arrive -> groups for the committer.

Two threads: one drives the source and writes staged files, the other commits groups, so that syncing overlaps with the
network. Memory: the backlog's bound, the files of two groups, and what the source keeps in flight.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import replace

from syncd.core.errors import EntryChanged, MirrorError, SyncdError
from syncd.core.model import LocalStat, Partial, RelPath, Wanted
from syncd.core.reasons import Reason
from syncd.engine.backlog import MAX_ATTEMPTS, Backlog, Fetch
from syncd.engine.commit import Arrived, Committer, stops_run
from syncd.engine.inbox import GROUP_AGE_S, GROUP_FILES, Inbox
from syncd.engine.report import Report
from syncd.engine.space import Space
from syncd.ports import Fetched, Mirror, MirrorCatalogue, Sink, Source, Staged

CHECKPOINT_BYTES = 64 << 20
SYNC_GOAL_S = 0.1


class DigestSink:
    """Hashes without writing: the local bytes are perhaps the server's already."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self.received = 0

    def write(self, chunk: memoryview) -> None:
        self._digest.update(chunk)
        self.received += len(chunk)

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


class CheckpointSink:
    """A large file's sink: every 64 MiB of it are synced and journalled, so that a later run can go on from there."""

    def __init__(self, staged: Staged, fetch: Fetch, catalogue: MirrorCatalogue, server: int = 0) -> None:
        self.staged = staged
        self._print = fetch.known_by(server)
        self._fetch = fetch
        self._catalogue = catalogue
        self._since = 0

    def write(self, chunk: memoryview) -> None:
        self.staged.write(chunk)
        self._since += len(chunk)
        if self._since >= CHECKPOINT_BYTES:
            self._since = 0
            offset, sha256 = self.staged.checkpoint()
            self._catalogue.save_partial(Partial(self._fetch.path, self._print, self.staged.name, offset, sha256))

    @property
    def received(self) -> int:
        """Bytes that came in this run."""
        return self.staged.size - self._fetch.offset

    def give_up(self, error: SyncdError | None) -> None:
        """Leave the partial for a resume, unless what arrived is not to be used."""
        if isinstance(error, (EntryChanged, MirrorError)) or self._catalogue.partial(self._fetch.path) is None:
            self._catalogue.forget_partial(self._fetch.path)
            self.staged.discard()
        else:
            self.staged.keep()


Settled = Callable[[Fetch], None]
"""Told of each fetch whose group was committed (or that failed, which the report knows)."""


class Transfer:
    """Fetches what is put into `backlog` until finish(). Errors that stop the run are raised from finish().

    settled: for work that goes on without end (files on demand): each group is committed as soon as it can be, what has
    to be fetched again is queued at once, and `settled` is told of each file. None: a run, which waits for full groups.
    """

    def __init__(
        self,
        source: Source,
        mirror: Mirror,
        catalogue: MirrorCatalogue,
        committer: Committer,
        space: Space,
        report: Report,
        *,
        yielding: Callable[[], bool] | None = None,
        settled: Settled | None = None,
    ) -> None:
        self.backlog = Backlog(yielding=yielding)
        self._settled = settled
        self._source = source
        self._mirror = mirror
        self._catalogue = catalogue
        self._committer = committer
        self._space = space
        self._report = report
        self._inbox = Inbox(GROUP_AGE_S if settled is None else 0.0)
        self._open: dict[RelPath, Staged | CheckpointSink | DigestSink] = {}
        self._reserved: dict[RelPath, tuple[Staged, int]] = {}
        space.unwritten = self._unwritten
        self._resumed: dict[RelPath, Staged] = {}
        self._again: list[Fetch] = []
        self._stand_by = 0
        self._error: BaseException | None = None
        self._threads: list[threading.Thread] = []

    def only_missing(self, server_id: str) -> None:
        """Fetch from a stand-by: nothing that lies here already is written over. Before the first want()."""
        digest = hashlib.blake2b(server_id.encode(), digest_size=8).digest()
        self._stand_by = int.from_bytes(digest) | 1

    def want(self, fetch: Fetch) -> None:
        """Queue one fetch; a large one goes on from its journalled partial. Starts the threads with the first."""
        if fetch.fingerprint.size >= CHECKPOINT_BYTES and not fetch.adopt:
            fetch = self._resume(fetch)
        self._report.wanted += 1
        self._report.wanted_bytes += fetch.fingerprint.size - fetch.offset
        if not self._threads:
            self._start()
        self.backlog.put(fetch)

    def keep(self, fetch: Fetch, sha256: str, local: LocalStat) -> None:
        """Hold a file as it lies here: its bytes are known to be the server's. From the thread that calls want()."""
        self._report.wanted += 1
        if not self._threads:
            self._start()
        self._inbox.put(Arrived(fetch, sha256, None, local), 0)

    def finish(self) -> None:
        """Wait until everything wanted is committed or failed. Raises what stopped it."""
        self.backlog.close()
        for thread in self._threads:
            thread.join()
        self._threads = []
        self._inbox.discard()
        if self._error is not None:
            raise self._error

    def abort(self, error: BaseException | None = None) -> None:
        """Fetch nothing more; what has arrived is committed. error: what finish() raises then. From any thread."""
        if error is not None:
            self._stop(error)
        self.backlog.abort()
        self._source.close()

    @property
    def stopped(self) -> bool:
        """True once an error stopped the transfer: there is no use in wanting more."""
        return self._error is not None

    # -- the reading thread

    def _start(self) -> None:
        self._threads = [
            threading.Thread(target=self._commit_groups, name="commit", daemon=True),
            threading.Thread(target=self._read_all, name="fetch", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _read_all(self) -> None:
        try:
            backlog: Backlog | None = self.backlog
            while backlog is not None:
                for outcome in self._source.fetch(backlog, self._sink):
                    if isinstance(outcome, Fetched):
                        self._arrive(_ours(outcome.wanted))
                    else:
                        self._lose(_ours(outcome.wanted), outcome.error)
                self._inbox.drain()
                backlog = self._second_pass()
        except BaseException as error:  # noqa: BLE001 - carried to finish(), which raises it in the run's thread
            self._stop(error)
        finally:
            for sink in self._open.values():
                self._give_up(sink, None)
            self._inbox.end()

    def _stop(self, error: BaseException) -> None:
        if self._error is None:
            self._error = error
        self.backlog.abort()

    def _second_pass(self) -> Backlog | None:
        if not self._again:
            return None
        backlog = Backlog()
        again, self._again = self._again, []
        for fetch in again:
            backlog.put(fetch, wait=False)
        backlog.close()
        return backlog

    def _sink(self, wanted: Wanted) -> Sink:
        fetch = _ours(wanted)
        path, size = fetch.path, fetch.fingerprint.size
        if size < CHECKPOINT_BYTES and not fetch.adopt:  # nearly all
            self._space.reserve(size)
            self._open[path] = staged = self._mirror.stage()
            return staged
        self._open[path] = sink = DigestSink() if fetch.adopt else self._checkpointed(fetch)
        return sink

    def _checkpointed(self, fetch: Fetch) -> CheckpointSink:
        path, size = fetch.path, fetch.fingerprint.size
        self._space.reserve(size - fetch.offset)
        staged = self._resumed.pop(path, None) or self._mirror.stage()
        self._reserved[path] = staged, size
        return CheckpointSink(staged, fetch, self._catalogue, self._stand_by)

    def _unwritten(self) -> int:
        return sum(size - staged.size for staged, size in list(self._reserved.values()))

    def _arrive(self, fetch: Fetch) -> None:
        path, fingerprint = fetch.path, fetch.fingerprint
        sink = self._open.pop(path)
        size, mtime_ns, _, _ = fingerprint
        self._report.bytes += size - fetch.offset
        if isinstance(sink, DigestSink):
            self._adopt(fetch, sink.hexdigest())
            return
        if isinstance(sink, CheckpointSink):
            self._reserved.pop(path, None)
            sink = sink.staged
        try:
            sha256 = sink.seal(mtime_ns)
        except MirrorError as error:
            sink.discard()
            self._lose_locally(fetch, error)
            return
        self._inbox.put(tuple.__new__(Arrived, (fetch, sha256, sink, None)), size)

    def _adopt(self, fetch: Fetch, sha256: str) -> None:
        """Keep the local file as it lies if its bytes are the server's; else fetch again, to be written this time."""
        try:
            digest, local = self._mirror.hash_local(fetch.path, durable=True)
        except MirrorError:
            digest, local = "", None
        if digest == sha256 and local is not None:
            self._inbox.put(Arrived(fetch, sha256, None, local), fetch.fingerprint.size)
        elif self._stand_by:
            text = "its bytes are not the stand-by's; it stays until the main server can be asked"
            self._fail(fetch, MirrorError(text, reason=Reason.UNKNOWN_LOCAL))
        else:
            self._fetch_again(replace(fetch, adopt=False))

    def _lose(self, fetch: Fetch, error: SyncdError) -> None:
        sink = self._open.pop(fetch.path, None)
        self._reserved.pop(fetch.path, None)
        if sink is not None:
            self._give_up(sink, error)
        if isinstance(error, MirrorError):
            self._lose_locally(fetch, error)
        else:
            self._fail(fetch, error)

    def _give_up(self, sink: Staged | CheckpointSink | DigestSink, error: SyncdError | None) -> None:
        """End a file that does not come; what came of it is counted, since it was read."""
        if isinstance(sink, CheckpointSink):
            self._report.bytes += sink.received
            sink.give_up(error)
        elif isinstance(sink, DigestSink):
            self._report.bytes += sink.received
        else:
            self._report.bytes += sink.size
            sink.discard()

    def _lose_locally(self, fetch: Fetch, error: MirrorError) -> None:
        if stops_run(error):
            raise error
        if fetch.attempts + 1 < MAX_ATTEMPTS:
            self._fetch_again(replace(fetch, attempts=fetch.attempts + 1, offset=0))
        else:
            self._fail(fetch, error)

    def _fail(self, fetch: Fetch, error: SyncdError) -> None:
        self._report.fail(fetch.path, error.reason, error.message)
        if self._settled is not None:
            self._settled(fetch)

    def _fetch_again(self, fetch: Fetch) -> None:
        if self._settled is not None:
            self.backlog.put(fetch, wait=False)
        else:
            self._again.append(fetch)

    def _resume(self, fetch: Fetch) -> Fetch:
        partial = self._catalogue.partial(fetch.path)
        if partial is None:
            return fetch
        staged = None
        wanted = fetch.known_by(self._stand_by)
        if partial.fingerprint[:2] == wanted[:2] and partial.fingerprint[3] == wanted[3]:
            staged = self._mirror.resume(partial)
        if staged is None:
            self._catalogue.forget_partial(fetch.path)
            return fetch
        self._resumed[fetch.path] = staged
        return replace(fetch, offset=partial.offset)

    # -- the committing thread

    def _commit_groups(self) -> None:
        try:
            while group := self._inbox.take():
                again = self._committer.group(group)
                for fetch in again:
                    self._fetch_again(fetch)
                if self._settled is not None:
                    self._tell_settled(group, again)
                self._fit_groups()
        except BaseException as error:  # noqa: BLE001 - carried to finish(), which raises it in the run's thread
            self._stop(error)
            self._inbox.end()

    def _tell_settled(self, group: list[Arrived], again: list[Fetch]) -> None:
        coming = {fetch.path for fetch in again}
        for arrived in group:
            if self._settled is not None and arrived.fetch.path not in coming:
                self._settled(arrived.fetch)

    def _fit_groups(self) -> None:
        """Cut groups so that one sync stays below its goal."""
        if self._committer.last_sync_s > SYNC_GOAL_S:
            self._inbox.files = max(16, self._inbox.files // 2)
        elif self._committer.last_sync_s < SYNC_GOAL_S / 4:
            self._inbox.files = min(GROUP_FILES, self._inbox.files * 2)


def _ours(wanted: Wanted) -> Fetch:
    if not isinstance(wanted, Fetch):
        raise TypeError("a source gave back something that it did not take from the backlog")
    return wanted
