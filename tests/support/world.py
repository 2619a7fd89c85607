"""A whole syncd over a source in memory: real catalogue, real mirror on disk, run as the commands run it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from syncd import config
from syncd.app.everything import App
from syncd.app.runs import RunResult
from syncd.config.settings import Settings
from syncd.core.model import Record, RelPath
from syncd.engine.clock import Clock
from syncd.engine.report import Report
from syncd.sources.memory import MemorySource
from syncd.store.reading import open_readonly

CONFIG = """
[host]
state_dir = "{state}"
[[mirror]]
name = "M"
source = "file://{source}"
target = "{target}"
settle = "0.01s"
min_free = "0%"
{extra}
"""


class World:
    """One mirror called M. `source` is edited by the test; run() is `syncd run-once`."""

    def __init__(self, base: Path, files: dict[str, bytes] | None = None, extra: str = "") -> None:
        self.base = base
        self.state = base / "state"
        self.target = base / "data" / "M"
        self.source = MemorySource(files)
        (base / "nothing").mkdir(exist_ok=True)
        self.config = base / "syncd.toml"
        self.extra = extra
        self.clock = Clock()

    @property
    def settings(self) -> Settings:
        self.config.write_text(
            CONFIG.format(state=self.state, source=self.base / "nothing", target=self.target, extra=self.extra)
        )
        return config.load(self.config, {})

    def app(self) -> App:
        def source(_: object) -> MemorySource:
            self.source._closed = False
            return self.source

        return App(self.settings, self.clock, source)

    def run(self, only: Sequence[str] = (), *, new_target: bool = False, take_over: bool = False) -> Report:
        (report,) = self.app().run_once((), only, new_target=new_target, take_over=take_over).reports
        return report

    def dry_run(self, only: Sequence[str] = (), *, new_target: bool = False, take_over: bool = False) -> Report:
        (report,) = self.app().dry_run((), only, new_target=new_target, take_over=take_over).reports
        return report

    def run_result(self) -> RunResult:
        return self.app().run_once()

    # -- looking

    def mirrored(self) -> dict[str, bytes]:
        """Return every file in the target but .syncd."""
        found = {}
        for folder, names, files in os.walk(self.target):
            if Path(folder) == self.target and ".syncd" in names:
                names.remove(".syncd")
            for name in files:
                path = Path(folder, name)
                found[str(path.relative_to(self.target))] = path.read_bytes()
        return found

    def folders(self) -> set[str]:
        return {
            str(path.relative_to(self.target))
            for path in self.target.rglob("*")
            if path.is_dir() and ".syncd" not in path.parts
        }

    def trashed(self) -> dict[str, bytes]:
        trash = self.target / ".syncd" / "trash"
        return {
            str(path.relative_to(trash)).partition("/")[2]: path.read_bytes()
            for path in sorted(trash.rglob("*"))
            if path.is_file()
        }

    def staged(self) -> list[str]:
        return [path.name for path in (self.target / ".syncd" / "staging").iterdir()]

    def records(self) -> dict[RelPath, Record]:
        with open_readonly(self.state / "catalogue.db") as catalogue:
            return dict(catalogue.mirror("M").records())

    def announced(self) -> list[tuple[str, str]]:
        with open_readonly(self.state / "catalogue.db") as catalogue:
            return [(row.event.value, row.path) for row in catalogue.announcements(0, 100_000)]

    def converged(self) -> bool:
        return self.mirrored() == self.source.tree()
