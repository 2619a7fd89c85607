"""The catalogue against a plain dictionary: any order of commits, runs and restarts gives the same facts."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from syncd.core.model import Dropped, Fact, Fingerprint, Held, Intent, LocalStat, Partial, Record, RelPath, Unheld
from syncd.core.reasons import Reason
from syncd.ports import Totals
from syncd.store.catalogue import Catalogue
from syncd.store.reading import open_readonly
from tests.support.catalogues import digest, finish, intent

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # thousands of syncs; durability is tried elsewhere

NAMES = st.sampled_from(["a", "b", "A", "a b", "ü", "0", "a.jpg"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(lambda names: RelPath("/".join(names)))
IDS = st.integers(0, 5) | st.just(2**64 - 1)
FINGERPRINTS = st.builds(Fingerprint, st.integers(0, 3), st.integers(0, 2), st.integers(0, 1), IDS)
DIGESTS = st.sampled_from([digest(text) for text in "xyz"])
HELD = st.builds(
    Held, PATHS, FINGERPRINTS, DIGESTS, st.builds(LocalStat, IDS, st.integers(0, 3), st.integers(0, 3)), st.booleans()
)
DROPPED = st.builds(Dropped, PATHS, st.none() | st.just(Reason.LOST))
FACTS = st.lists(HELD | DROPPED, max_size=12)
CLOCK = st.integers(0, 50).map(lambda ms: 1_767_225_600_000 + ms)  # the days of finish(): no tombstone is old


class CatalogueModel(RuleBasedStateMachine):
    """Drives a real catalogue and a dictionary side by side."""

    @initialize()
    def begin(self) -> None:
        self.state = Path(tempfile.mkdtemp(prefix="catalogue-", dir=MEMORY))
        self.records: dict[RelPath, Record] = {}
        self.last_generation: dict[RelPath, int] = {}
        self.events: list[tuple[str, RelPath, int, str]] = []
        self.published = 0
        self.intents: list[Intent] = []
        self.partials: dict[RelPath, Partial] = {}
        self.unheld: dict[RelPath, tuple[Reason, int]] = {}
        self.serial = 0
        self.open()

    def open(self) -> None:
        self.catalogue = Catalogue.open(self.state / "catalogue.db", app_version="1")
        self.mirror = self.catalogue.mirror("M")

    def teardown(self) -> None:
        if hasattr(self, "catalogue"):
            self.catalogue.close()
            shutil.rmtree(self.state)

    # --- rules

    @rule(facts=FACTS, now_ms=CLOCK, closes=st.integers(0, 3))
    def commit(self, facts: list[Fact], now_ms: int, closes: int) -> None:
        closed, self.intents = self.intents[:closes], self.intents[closes:]
        self.mirror.commit(facts, closed, run_id="r", now_ms=now_ms)
        # a path that occurs twice is committed in order; which of two paths is announced first is nobody's promise
        for fact in facts:
            self.expect(fact, now_ms)

    def expect(self, fact: Fact, now_ms: int) -> None:
        old = self.records.get(fact.path)
        generation = max(self.last_generation.get(fact.path, 0) + 1, now_ms)
        if isinstance(fact, Dropped):
            if old is not None:
                del self.records[fact.path]
                self.announce("removed", fact.path, generation, old.sha256)
                if fact.why is not None:
                    self.unheld[fact.path] = (fact.why, 1)
            return
        if old is not None and not fact.announce and old.sha256 == fact.sha256:
            generation = old.generation
        else:
            self.announce("ready" if old is None else "updated", fact.path, generation, fact.sha256)
        self.records[fact.path] = Record(*fact.fingerprint, fact.sha256, generation, *fact.local)
        self.partials.pop(fact.path, None)
        self.unheld.pop(fact.path, None)

    def announce(self, event: str, path: RelPath, generation: int, sha256: str) -> None:
        self.last_generation[path] = generation
        self.events.append((event, path, generation, sha256))

    @rule(paths=st.lists(PATHS, min_size=1, max_size=4))
    def declare(self, paths: list[RelPath]) -> None:
        group = []
        for path in paths:
            self.serial += 1
            group.append(intent(str(self.serial), path))
        self.mirror.declare(group)
        self.intents += group

    @rule(path=PATHS, fingerprint=FINGERPRINTS, offset=st.integers(0, 9))
    def save_partial(self, path: RelPath, fingerprint: Fingerprint, offset: int) -> None:
        self.partials[path] = Partial(path, fingerprint, "s", offset, digest(str(offset)))
        self.mirror.save_partial(self.partials[path])

    @rule(absent=st.sets(PATHS), again=st.sets(PATHS), unheld=st.dictionaries(PATHS, st.sampled_from(list(Reason))))
    def run(self, absent: set[RelPath], again: set[RelPath], unheld: dict[RelPath, Reason]) -> None:
        self.serial += 1
        run_id = f"run{self.serial}"
        findings = self.mirror.findings(run_id)
        missing = absent & self.records.keys()
        for path in absent:
            directory, _, name = path.rpartition("/")
            findings.absent(RelPath(directory), [name])
        for path in again - absent:
            findings.seen_again(path)
        for path, reason in unheld.items():
            findings.unheld(Unheld(path, reason, ""))
        confirmed = {path for path in missing if self.records[path].absent_run}
        assert {path for path, _ in findings.absences(confirmed=True)} == confirmed
        assert {path for path, _ in findings.absences(confirmed=False)} == missing - confirmed
        finish(self.mirror, run_id, findings)
        for path in missing - confirmed:
            self.records[path] = self.records[path]._replace(absent_run=run_id)
        for path in (again - absent) & self.records.keys():
            self.records[path] = self.records[path]._replace(absent_run="")
        before, self.unheld = self.unheld, {}
        for path, reason in unheld.items():
            known, attempts = before.get(path, (None, 0))
            self.unheld[path] = (reason, attempts + 1 if known is reason else 1)

    @rule(count=st.integers(1, 20))
    def publish(self, count: int) -> None:
        rows = self.catalogue.unpublished(count)
        self.catalogue.mark_published([row.seq for row in rows], at="2026-01-01T00:00:00Z")
        self.published += len(rows)

    @rule()
    def restart(self) -> None:
        self.catalogue.close()
        assert [path.name for path in self.state.iterdir()] == ["catalogue.db"]
        with open_readonly(self.state / "catalogue.db") as reading:
            assert dict(reading.mirror("M").records()) == self.records
        self.open()

    # --- what always holds

    @invariant()
    def records_are_equal(self) -> None:
        if not hasattr(self, "catalogue"):
            return
        assert dict(self.mirror.records()) == self.records
        sizes = sum(record.size for record in self.records.values())
        assert self.mirror.totals() == Totals(len(self.records), sizes)
        for path in list(self.records)[:3]:
            directory, _, name = path.rpartition("/")
            assert self.mirror.held_in(RelPath(directory)).records[name] == self.mirror.record(path)

    @invariant()
    def the_feed_tells_each_paths_history(self) -> None:
        if not hasattr(self, "catalogue"):
            return
        rows = self.catalogue.announcements(0, 10_000)
        assert [row.seq for row in rows] == list(range(rows[0].seq, rows[0].seq + len(rows))) if rows else True
        told = [(row.event.value, row.path, row.generation, row.sha256) for row in rows]
        for path in self.last_generation:
            assert [row for row in told if row[1] == path] == [row for row in self.events if row[1] == path]
        assert len(told) == len(self.events)
        assert self.catalogue.owed().count == self.mirror.owed().count == len(self.events) - self.published
        assert len(self.catalogue.unpublished(10_000)) == len(self.events) - self.published

    @invariant()
    def the_rest_is_equal(self) -> None:
        if not hasattr(self, "catalogue"):
            return
        assert self.mirror.open_intents() == self.intents
        assert {partial.path: partial for partial in self.mirror.partials()} == self.partials
        assert {u.path: (u.reason, u.attempts) for u in self.mirror.unheld()} == self.unheld

    @invariant()
    def directories_are_known_with_their_parents(self) -> None:
        if not hasattr(self, "catalogue"):
            return
        known = set(self.mirror.known_directories_below(RelPath("")))
        for path in {RelPath(path.rpartition("/")[0]) for path in (*self.records, *known)} - {""}:
            assert path in known
            parent, _, name = path.rpartition("/")
            assert name in self.mirror.held_in(RelPath(parent)).folders


EXAMPLES = 1_000 if os.environ.get("SYNCD_EXHAUSTIVE") else 40
TestCatalogueModel = CatalogueModel.TestCase
TestCatalogueModel.settings = settings(max_examples=EXAMPLES, stateful_step_count=25, deadline=None)
