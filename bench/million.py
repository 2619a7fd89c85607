"""Memory with 1,000,000 files: first run and no-change run from a source in memory into a real mirror and catalogue.

Each run is a process of its own (`python -m bench.million FOLDER FILES`), measured like every other command.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from bench.corpora import Corpus
from bench.measure import BenchError, Series, run
from bench.peers import check_report, write_config

FILES = 1_000_000
QUICK_FILES = 2_000
SIZE = 64
PER_FOLDER = 1000
BYTES_PER_FILE = 6000
"""What a file of a few bytes takes: a page, its inode and name, its share of catalogue and manifest."""
LIMIT_BYTES = 200_000_000
TIMEOUT_S = 3600.0


def measure(folder: Path, files: int) -> dict[str, Series]:
    """Return the cost of the first run and of a run with no change.

    Raises: BenchError when there is no room for it, or a run does not do what it should.
    """
    free = shutil.disk_usage(folder).free
    if free < files * BYTES_PER_FILE:
        raise BenchError(f"{files:,} files need {files * BYTES_PER_FILE / 1e9:.0f} GB in {folder}")
    corpus = Corpus("generated", files, SIZE, -(-files // PER_FOLDER))
    found = {}
    for name, unchanged in (("first run", False), ("no change", True)):
        sample = run([sys.executable, "-m", "bench.million", str(folder), str(files)], folder, timeout_s=TIMEOUT_S)
        check_report(sample.stdout.read_bytes(), corpus, unchanged=unchanged)
        found[name] = Series([])
        found[name].add(sample)
    return found


def main(folder: str, files: str) -> int:
    """Do one run, as `syncd run-once --json` does it but for its source."""
    from syncd import config
    from syncd.app.everything import App
    from syncd.sources.memory import GeneratedSource

    base = Path(folder)
    (base / "nothing").mkdir(exist_ok=True)
    mirror = {"name": "Bench", "source": f"file://{base / 'nothing'}", "target": str(base / "out")}
    write_config(base / "syncd.toml", base / "state", mirror)
    source = GeneratedSource(int(files), per_folder=PER_FOLDER, size=SIZE)
    result = App(config.load(base / "syncd.toml", {}), source_of=lambda _: source).run_once()
    json.dump(result.as_json(), sys.stdout)
    return result.exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
