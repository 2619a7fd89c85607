"""The store of results against plain dictionaries: any order of calls, of two processes' stores, and of restarts."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from worker_glue.model import Counts, Kind, Outcome, TaskKey
from worker_glue.ports import Saved
from worker_glue.store.reading import Reading
from worker_glue.store.sqlite import SqliteStore

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # thousands of syncs; durability is tried elsewhere
T0 = 1_770_000_000.0

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.builds(TaskKey, st.sampled_from(["j", "k"]), st.sampled_from([None, 0, 1]), st.sampled_from(["a", "\ud800"]))
ENTRIES = st.dictionaries(st.text(max_size=5) | st.just("text"), JSON, max_size=3)
OUTCOMES = st.builds(Outcome, KEYS, st.sampled_from(Kind), st.text(max_size=5), st.just("id"), ENTRIES)


class StoreModel(RuleBasedStateMachine):
    """Drives two stores on one file, as two workers of a host have them, and a model side by side."""

    @initialize()
    def begin_all(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="results-", dir=MEMORY))
        self.path = self.folder / "results.db"
        self.now = T0
        self.starts: list[tuple[TaskKey, int]] = []
        self.owed: dict[TaskKey, tuple[float, Outcome]] = {}
        self.replaced: set[TaskKey] = set()
        self.texts: dict[TaskKey, Outcome] = {}
        self.known: dict[TaskKey, Saved] = {}
        self.buried: list[tuple[int, bytes]] = []
        self.lives = 2
        self.stores = {number: self.open() for number in range(2)}
        self.life = {0: 0, 1: 1}

    def open(self) -> SqliteStore:
        return SqliteStore(self.path, worker_id="host-1", clock=lambda: self.now)

    def teardown(self) -> None:
        if hasattr(self, "stores"):
            for store in self.stores.values():
                store.close()
            shutil.rmtree(self.folder)

    # --- rules

    @rule(who=st.integers(0, 1), key=KEYS)
    def begin(self, who: int, key: TaskKey) -> None:
        before = sum(task == key for task, _ in self.starts)
        assert self.stores[who].begin(key) == before
        self.starts.append((key, self.life[who]))

    @rule(who=st.integers(0, 1), key=KEYS)
    def forgive(self, who: int, key: TaskKey) -> None:
        self.stores[who].forgive(key)
        if (key, self.life[who]) in self.starts:
            self.starts.remove((key, self.life[who]))

    @rule(who=st.integers(0, 1), outcome=OUTCOMES)
    def keep(self, who: int, outcome: Outcome) -> None:
        self.starts = [start for start in self.starts if start[0] != outcome.key]
        first = self.owed.setdefault(outcome.key, (self.now, outcome))[1]
        assert self.stores[who].keep(outcome) == first

    @rule(who=st.integers(0, 1), outcome=OUTCOMES)
    def replace(self, who: int, outcome: Outcome) -> None:
        self.stores[who].replace(outcome)
        self.keep_text(outcome.key)
        self.owed[outcome.key] = self.owed.get(outcome.key, (self.now,))[0], outcome
        self.replaced.add(outcome.key)

    @rule(who=st.integers(0, 1), key=KEYS, saved=st.sampled_from(Saved))
    def settle(self, who: int, key: TaskKey, saved: Saved) -> None:
        self.stores[who].settled(key, saved)
        if key not in self.owed:
            return
        if saved is Saved.TOO_LARGE:
            self.keep_text(key)
        if saved is not Saved.DONE_BEFORE or self.known.get(key) is not Saved.RECORDED:
            self.known[key] = saved
        del self.owed[key]
        self.replaced.discard(key)

    def keep_text(self, key: TaskKey) -> None:
        if key in self.owed and key not in self.replaced:
            self.texts[key] = self.owed[key][1]

    @rule(who=st.integers(0, 1), body=st.binary(max_size=5))
    def bury(self, who: int, body: bytes) -> None:
        number = self.stores[who].bury(body)
        assert all(number > other for other, _ in self.buried)
        self.buried.append((number, body))

    @rule(who=st.integers(0, 1), which=st.integers(0, 3))
    def unbury(self, who: int, which: int) -> None:
        for number, _ in self.buried[which : which + 1]:
            self.stores[who].unbury(number)
        del self.buried[which : which + 1]

    @rule(who=st.integers(0, 1))
    def restart(self, who: int) -> None:
        self.stores[who].close()
        self.stores[who] = self.open()
        self.life[who] = self.lives
        self.lives += 1

    @rule(seconds=st.floats(0.5, 100))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(who=st.integers(0, 1), age=st.floats(0, 150), limit=st.integers(0, 5))
    def owing(self, who: int, age: float, limit: int) -> None:
        expected = [outcome for at, outcome in self.owed.values() if at <= self.now - age]
        assert list(self.stores[who].owing(limit, age)) == expected[:limit]

    # --- what is always so

    @invariant()
    def both_tell_the_same(self) -> None:
        if not hasattr(self, "stores"):
            return
        counts = Counts(len(self.owed), min((at for at, _ in self.owed.values()), default=None))
        for store in self.stores.values():
            assert store.counts() == counts
            assert list(store.buried(99)) == self.buried

    @invariant()
    def operators_read_what_is_there(self) -> None:
        if not hasattr(self, "stores"):
            return
        with Reading(self.path) as reading:
            assert [row.key for row in reading.owed()] == list(self.owed)
            assert {row.key: row.saved for row in reading.settled()} == self.known
            for key in {*self.texts, *self.owed}:
                expected = self.texts.get(key) or self.owed[key][1]
                assert reading.outcome_of(key) == expected
            assert {key: times for key, times, _ in reading.failing()} == {
                key: sum(key == task for task, _ in self.starts) for key, _ in self.starts
            }


EXAMPLES = 1_000 if os.environ.get("SYNCD_EXHAUSTIVE") else 30
TestStoreModel = StoreModel.TestCase
TestStoreModel.settings = settings(max_examples=EXAMPLES, stateful_step_count=40, deadline=None)
