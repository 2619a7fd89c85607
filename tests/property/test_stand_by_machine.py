"""The engine's state machine with a stand-by: it lags, has files of its own, and serves while the main server is down.

Whatever it has: a run from it changes and removes no file that lies here, and two clean runs of the main server later
mirror == source.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from tests.property.test_engine_machine import CONTENT, PATHS, EngineMachine
from tests.support.stand_by_world import StandByWorld

NOT_HERE = (IsADirectoryError, NotADirectoryError, FileNotFoundError)


class StandByMachine(EngineMachine):
    """One mirror with a stand-by, edited and broken at random."""

    world: StandByWorld

    @initialize()
    def begin(self) -> None:
        self.base = Path(
            tempfile.mkdtemp(prefix="syncd-machine-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        )
        self.world = StandByWorld(self.base, {f"base/{n}.jpg": bytes([n]) * n for n in range(4)})
        self.ever = {}
        self.foreign_allowed = False
        self._remember()

    @rule(path=PATHS, content=CONTENT, mtime_ns=st.sampled_from([1, None]))
    def edit_the_stand_by(self, path: str, content: bytes, mtime_ns: int | None) -> None:
        try:
            self.world.stand_by.put(path, content, mtime_ns)
        except NOT_HERE:
            return
        self._remember()

    @rule(data=st.data())
    def remove_from_the_stand_by(self, data: Any) -> None:
        tree = sorted(self.world.stand_by.tree())
        if tree:
            self.world.stand_by.remove(data.draw(st.sampled_from(tree)))

    @rule()
    def replicate(self) -> None:
        for path in self.world.stand_by.tree().keys() - self.world.source.tree().keys():
            self.world.stand_by.remove(path)
        try:
            self.world.replicate()
        except NOT_HERE:
            return
        self._remember()

    @rule()
    def run_from_the_stand_by(self) -> None:
        before = self.world.mirrored() if self.world.target.exists() else {}
        self.world.source.down = True
        report = self.world.run()
        self.world.source.down = False
        assert report.exit_code in (0, 3, 13), report
        assert report.stand_by is not None
        assert (report.retired, report.renamed, report.absent) == (0, 0, 0)
        assert before.items() <= self.world.mirrored().items()

    @rule(number=st.integers(0, 20))
    def lose_locally(self, number: int) -> None:  # type: ignore[override]
        """Which files have come when a connection was lost is a matter of time, so none is drawn by its name."""
        held = sorted(self.world.mirrored()) if self.world.target.exists() else []
        if held:
            (self.world.target / held[number % len(held)]).unlink()

    @rule(count=st.integers(0, 60))
    def lose_the_main_server_and_go_on_elsewhere(self, count: int) -> None:
        app = self.world.app()
        self.world.source.unavailable_after(count)
        app.run_once()
        if self.world.source.down:
            app.run_once()
        self.world.source.heal()

    def _remember(self) -> None:
        super()._remember()
        for path, content in self.world.stand_by.tree().items():
            self.ever.setdefault(path, set()).add(content)


StandByMachine.TestCase.settings = settings(
    max_examples=10, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
TestStandByMachine = StandByMachine.TestCase
del EngineMachine
