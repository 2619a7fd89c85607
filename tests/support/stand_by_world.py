"""A world whose mirror M has stand-bys: each server a source in memory of its own, with ids of its own."""

from __future__ import annotations

from pathlib import Path

from syncd.app.everything import App
from syncd.config.settings import MirrorSettings
from syncd.sources.memory import MemorySource
from tests.support.world import World

AFAR = 1_000_000


class StandByWorld(World):
    """`source` is the main server; stand_bys[n] is the one at file:///.../stand-by-n."""

    def __init__(self, base: Path, files: dict[str, bytes] | None = None, *, stand_bys: int = 1) -> None:
        self.urls = [f"file://{base}/stand-by-{number}" for number in range(stand_bys)]
        listed = ", ".join(f'"{url}"' for url in self.urls)
        super().__init__(base, files, extra=f"fallback_sources = [{listed}]")
        self.stand_bys = [MemorySource() for _ in self.urls]
        for number, stand_by in enumerate(self.stand_bys, 1):
            stand_by._ids = number * AFAR
            self.replicate(stand_by)

    @property
    def stand_by(self) -> MemorySource:
        return self.stand_bys[0]

    @property
    def bytes_read(self) -> int:
        """How many bytes of content all servers have given."""
        return sum(source.calls["bytes"] for source in (self.source, *self.stand_bys))

    def replicate(self, stand_by: MemorySource | None = None) -> None:
        """Bring a stand-by's files to what the main server has, with their times (as rsync -a --delete would)."""
        stand_by = stand_by or self.stand_by
        wanted = self.source.tree()
        for path in stand_by.tree().keys() - wanted.keys():
            stand_by.remove(path)
        for path, content in wanted.items():
            stand_by.put(path, content, self.source._look(path).mtime_ns)  # type: ignore[arg-type]

    def server_of(self, settings: MirrorSettings) -> MemorySource:
        """Build the source of settings with one server."""
        url = str(settings.source)
        found = self.stand_bys[self.urls.index(url)] if url in self.urls else self.source
        found._closed = False
        return found

    def app(self) -> App:
        return App(self.settings, self.clock, self.server_of)
