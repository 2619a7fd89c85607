"""A small mirror with something of everything left to do, and what must be true however the run that does it ends."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

from syncd import config
from syncd.app.everything import App
from syncd.store.reading import open_readonly

OLD = {
    "eng-typed/letter 1 .pdf": b"one" * 2000,
    "eng-typed/letter 2.pdf": b"two",
    "hin-typed/gone.JPG": b"gone soon",
    "hin-typed/kept.JPG": b"kept",
    "flips": b"a file that becomes a folder",
    "moves.jpg": b"found elsewhere later",
}
NEW = {
    "eng-typed/letter 1 .pdf": b"one, corrected" * 3000,
    "eng-typed/letter 2.pdf": b"two",
    "hin-typed/kept.JPG": b"kept",
    "flips/inside.jpg": b"now inside",
    "moved/moves.jpg": b"found elsewhere later",
    "new/deep/page.jpg": b"new",
    "new/empty.jpg": b"",
    "new/second.jpg": b"second" * 500,
}
CONFIG = """
[host]
state_dir = "{base}/state"
[[mirror]]
name = "M"
source = "file://{base}/share"
target = "{base}/data/M"
min_free = "0%"
"""
COMMAND = [sys.executable, "-c", "from syncd.cli.main import main; raise SystemExit(main())"]


class Scenario:
    """OLD is mirrored, one run has missed what is gone, and the source holds NEW."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.share = base / "share"
        self.target = base / "data" / "M"
        self.config = base / "syncd.toml"
        self.config.write_text(CONFIG.format(base=base))
        self._mtime = 1_600_000_000
        for path, content in OLD.items():
            self._put(path, content)
        self.run()
        (self.share / "hin-typed/gone.JPG").unlink()
        self.run()
        (self.share / "flips").unlink()
        (self.share / "moved").mkdir()
        (self.share / "moves.jpg").rename(self.share / "moved/moves.jpg")
        for path, content in NEW.items():
            here = self.share / path
            if not here.exists() or here.read_bytes() != content:
                self._put(path, content)

    def _put(self, path: str, content: bytes) -> None:
        here = self.share / path
        here.parent.mkdir(parents=True, exist_ok=True)
        here.write_bytes(content)
        self._mtime += 10
        os.utime(here, (self._mtime, self._mtime))

    def run(self) -> int:
        return App(config.load(self.config, {})).run_once().exit_code

    @property
    def command(self) -> list[str]:
        """`syncd run-once` as a process."""
        return [*COMMAND, "-c", str(self.config), "run-once"]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(Path(__file__).parents[2])}

    # -- what must be true

    def mirrored(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.target)): path.read_bytes()
            for path in self.target.rglob("*")
            if path.is_file() and ".syncd" not in path.relative_to(self.target).parts
        }

    def check_after_the_fault(self) -> None:
        """No torn file, no held path without a file, everything announced is true or superseded."""
        for path, content in self.mirrored().items():
            assert content in (OLD.get(path), NEW.get(path)), f"torn: {path}"
        with open_readonly(self.base / "state" / "catalogue.db") as catalogue:
            facts = catalogue.mirror("M")
            moving = {intent.path for intent in facts.open_intents()}
            moving |= {intent.from_path for intent in facts.open_intents()}
            for path, record in facts.records():
                here = self.target / path
                if path not in moving:
                    assert here.is_file(), f"held without a file: {path}"
                    assert hashlib.sha256(here.read_bytes()).hexdigest() == record.sha256, path

    def check_convergence(self) -> None:
        """At most two clean runs later mirror == source, nothing is left over, and the manifest is true."""
        codes = [self.run(), self.run()]
        assert codes == [0, 0], codes
        assert self.mirrored() == NEW
        assert not list((self.target / ".syncd/staging").iterdir())
        lines = [json.loads(line) for line in (self.target / ".syncd/manifest.jsonl").read_text().splitlines()]
        assert {line["path"]: line["sha256"] for line in lines} == {
            path: hashlib.sha256(content).hexdigest() for path, content in NEW.items()
        }
        with open_readonly(self.base / "state" / "catalogue.db") as catalogue:
            facts = catalogue.mirror("M")
            assert not facts.open_intents()
            latest = {row.path: row for row in catalogue.announcements(0, 10_000)}
            records = dict(facts.records())
            for path, row in latest.items():
                held = records.get(path)
                assert (row.event.value == "removed") == (held is None), path
                assert held is None or (row.sha256, row.generation) == (held.sha256, held.generation), path
            assert set(records) <= set(latest)
