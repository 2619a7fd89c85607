"""What lies in one mirror, between runs: changes by others, verification in the background, room on the disk.

Used by the mirror's keeper, in its thread; `foreign`, `patrol` and measure_disk() may be looked at from others.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from syncd.app.site import batch_name, new_run_id
from syncd.core.errors import SourceUnavailable, SyncdError
from syncd.core.model import Record, RelPath
from syncd.daemon.keeping import Keeping
from syncd.daemon.numbers import Disk
from syncd.engine.clock import utc_text
from syncd.engine.commit import Committer
from syncd.engine.patrol import Cycle, Patrol
from syncd.engine.report import Report
from syncd.engine.tending import Tending
from syncd.engine.verify import Verification, Verifier
from syncd.ports import Mirror

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

PATROL_NOTE = "patrol"
FOREIGN_KEPT = 1_000
TRASH_COUNTED = 10_000


class Care:
    """Looks after one mirror's files. verified: told how many files were verified, and how many found damaged."""

    def __init__(
        self,
        keeping: Keeping,
        now_ns: Callable[[], int],
        log: FilteringBoundLogger,
        verified: Callable[[int, int], None],
    ) -> None:
        self.foreign: OrderedDict[RelPath, None] = OrderedDict()
        self.patrol = Patrol(
            keeping.facts, Cycle.parse(keeping.facts.note(PATROL_NOTE)), float(keeping.mirror.verify_days)
        )
        self._keeping = keeping
        self._name = keeping.mirror.name
        self._now_ns = now_ns
        self._log = log
        self._verified = verified

    def tend(self, changed: frozenset[RelPath] | None) -> list[RelPath]:
        """Look at what changed in the mirror's folder (None: at all); return what is not held any more.

        Raises: TargetMissing and the like, CatalogueError.
        """
        keeping = self._keeping
        with keeping.target.use() as mirror:
            committer = self._committer(mirror)
            found = Tending(mirror, keeping.facts, committer, keeping.target.writing).look(changed)
        self._verified(0, len(found.damaged))
        for path in found.foreign:
            self.foreign[path] = None
        for path in found.gone:
            self.foreign.pop(path, None)
        while len(self.foreign) > FOREIGN_KEPT:
            self.foreign.popitem(last=False)
        if found.damaged:
            self._log.warning(
                "mirror.changed_locally", mirror=self._name, files=len(found.damaged), first=found.damaged[0]
            )
        return found.damaged

    def patrol_some(self, gives_way: Callable[[], bool]) -> bool:
        """Verify what is due now; return whether something was damaged. Raises as tend()."""
        if not self._keeping.mirror.verify_days:
            return False
        before = self.patrol.cycle.as_text()
        result = self._verify(gives_way)
        self._verified(result.checked, result.damaged)
        if result.damaged:
            self.patrol.cycle.damaged += result.damaged
            self.patrol.cycle.last_found = utc_text(self._now_ns())
            first = str(result.problems[0].path)
            self._log.warning("verify.damaged", mirror=self._name, files=result.damaged, first=first)
        if self.patrol.cycle.as_text() != before:
            self._keeping.facts.set_note(PATROL_NOTE, self.patrol.cycle.as_text())
        return bool(result.damaged)

    def measure_disk(self) -> Disk | None:
        """Look at the room on the mirror's disk; None when the target cannot be asked."""
        try:
            with self._keeping.target.use() as mirror:
                room = mirror.room()
                trash = sum(each.size for each in islice(mirror.trash(), TRASH_COUNTED))
        except SyncdError:
            return None
        return Disk(room.free_bytes, self._keeping.mirror.min_free.floor(room.total_bytes), trash)

    def _verify(self, gives_way: Callable[[], bool]) -> Verification:
        result = Verification(self._name)
        with self._keeping.target.use() as mirror:
            batch = batch_name(self._now_ns(), "verify")
            verifier = Verifier(mirror, self._keeping.facts, self._committer(mirror), batch, result)
            walked = []
            for path, record in self.patrol.slice(self._now_ns(), gives_way):
                verifier.check(path, record)
                walked.append((path, record))
            self._compare(verifier, [item for item in walked if item[0] not in result.wrong])
        return result

    def _compare(self, verifier: Verifier, records: Sequence[tuple[RelPath, Record]]) -> None:
        """Read at the source what was re-hashed here: an edit that restores size and mtime shows in bytes only."""
        if not records or self._keeping.at_stand_by:
            return  # the main server was not there just now, and a stand-by's bytes prove nothing
        source = self._keeping.open_source()
        try:
            source.check()
            verifier.against_source(source, records=records)
        except SourceUnavailable:
            pass  # the next run says so
        except SyncdError as error:
            self._keeping.logins.note(error)
            raise
        finally:
            source.close()

    def _committer(self, mirror: Mirror) -> Committer:
        report, now_ns = Report(self._name, new_run_id()), self._now_ns
        batch = batch_name(now_ns(), report.run_id)
        facts, writing = self._keeping.facts, self._keeping.target.writing
        return Committer(mirror, facts, report, batch, lambda: now_ns() // 1_000_000, writing)
