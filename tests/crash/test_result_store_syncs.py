"""What the store of results promises of power cuts, as strace sees it: which calls sync before they return."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.support.require import require

CHILD = """
import os, pathlib, sys
from worker_glue.model import Kind, Outcome, TaskKey
from worker_glue.ports import Saved
from worker_glue.store.sqlite import SqliteStore
key = TaskKey("job", 0, "a.jpg")
outcome = Outcome(key, Kind.RESULT, "a.jpg", "id", {"text": "x"})
store = SqliteStore(pathlib.Path(sys.argv[1]), worker_id="host-1")
calls = dict(
    begin=lambda: store.begin(key),
    forgive=lambda: store.forgive(key),
    keep=lambda: store.keep(outcome),
    replace=lambda: store.replace(outcome),
    settled=lambda: store.settled(key, Saved.RECORDED),
    bury=lambda: store.bury(b"x"),
    unbury=lambda: store.unbury(1),
    again=lambda: store.begin(key),
)
for name, call in calls.items():
    os.write(1, f"[{name}]".encode())
    call()
os.write(1, b"[end]")
"""
SYNCED = {"begin", "keep", "replace", "bury", "again"}


def test_what_must_survive_a_power_cut_is_synced_before_it_returns(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    path = tmp_path / "results.db"
    command = [require("strace", "strace"), "-f", "-qq", "-y", "-o", str(trace), "-e", "trace=write,fsync,fdatasync"]
    subprocess.run([*command, sys.executable, "-c", CHILD, str(path)], check=True, capture_output=True, timeout=60)
    synced: dict[str, int] = {}
    name = "opening"
    for line in trace.read_text().splitlines():
        marker = re.search(r'"\[(\w+)\]"', line)
        if marker is not None:
            name = marker.group(1)
        elif re.search(rf"f(data)?sync\(\d+<{re.escape(str(path))}-wal>", line):
            synced[name] = synced.get(name, 0) + 1
    assert synced.keys() - {"opening", "end"} == SYNCED  # the end of the process may close the store, and sync
    assert all(synced[name] == 1 for name in SYNCED - {"begin"})  # the first of a log syncs the log's head, too


def test_a_new_store_and_its_folder_are_synced(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    path = tmp_path / "worker" / "results.db"
    command = [require("strace", "strace"), "-f", "-qq", "-y", "-o", str(trace)]
    calls = ["-e", "trace=fsync,fdatasync,rename,renameat,renameat2"]
    subprocess.run(
        [*command, *calls, sys.executable, "-c", CHILD, str(path)], check=True, capture_output=True, timeout=60
    )
    lines = trace.read_text().splitlines()
    moved = next(at for at, line in enumerate(lines) if "rename" in line and "results.db.new" in line)
    assert any(f"<{path}.new>" in line for line in lines[:moved])
    assert any(f"<{path.parent}>" in line for line in lines[moved:])
