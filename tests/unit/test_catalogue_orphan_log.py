"""A killed syncd can leave the catalogue with its log but not the index of it; looking must work and write nothing."""

import subprocess
import sys
from pathlib import Path

from syncd.store.reading import open_readonly

WRITE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from syncd.core.model import Fingerprint, Held, LocalStat, RelPath
from syncd.store.catalogue import Catalogue
catalogue = Catalogue.open(Path(sys.argv[1]), app_version="0")
held = Held(RelPath("a.jpg"), Fingerprint(1, 2, 3, 4), "0" * 64, LocalStat(5, 1, 2))
catalogue.mirror("M").commit([held], [], run_id="r", now_ms=1)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_committed_is_read_without_the_index_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.db"
    subprocess.run([sys.executable, "-c", WRITE_AND_DIE, str(path)], check=False, timeout=60)
    path.with_name("catalogue.db-shm").unlink()
    before = {each.name: (each.stat().st_size, each.stat().st_mtime_ns) for each in tmp_path.iterdir()}
    assert "catalogue.db-wal" in before
    with open_readonly(path) as catalogue:
        assert catalogue.mirror("M").totals().files == 1
    assert {each.name: (each.stat().st_size, each.stat().st_mtime_ns) for each in tmp_path.iterdir()} == before
