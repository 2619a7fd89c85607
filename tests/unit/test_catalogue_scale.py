"""A large catalogue in bounded memory. Times are printed (pytest -s), never asserted.

SYNCD_EXHAUSTIVE=1 takes a million records; else fifty thousand.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from syncd.core.model import RelPath
from tests.support.catalogues import finish, held, hold, open_catalogue, seen

RECORDS = 1_000_000 if os.environ.get("SYNCD_EXHAUSTIVE") else 50_000
BOUND_MB = 200

FILL_AND_USE = """
import json, resource, sys, time
from pathlib import Path
from syncd.core.model import Fingerprint, Held, Intent, IntentKind, LocalStat, RelPath
from tests.support.catalogues import digest, finish, open_catalogue

count, times = int(sys.argv[2]), {}

def timed(what, work):
    started = time.perf_counter()
    result = work()
    times[what] = round(time.perf_counter() - started, 3)
    return result

def group(first):
    facts, intents = [], []
    for n in range(first, min(first + 512, count)):
        path = RelPath(f"collection {n // 100_000}/folder {n // 1_000:04}/page of a letter {n:07}.jpg")
        seen = Fingerprint(18_000 + n, 10**18 + n, 10**18 + n, 10**6 + n)
        facts.append(Held(path, seen, digest(str(n % 512)), LocalStat(n, 18_000 + n, 10**18 + n)))
        intents.append(Intent(f"i{n}", IntentKind.PROMOTE, path, digest(str(n % 512)), seen, f"s{n}"))
    return facts, intents

def fill():
    for first in range(0, count, 512):
        facts, intents = group(first)
        mirror.declare(intents)
        mirror.commit(facts, intents, run_id="r0", now_ms=10**12)

def judge():
    findings = mirror.findings("r1")
    findings.absent_below(RelPath(""))
    for n in range(count // 10):
        findings.arrived(RelPath(f"new/{n}"), Fingerprint(18_000 + n, 10**18 + n, 0, 10**6 + n))
    assert sum(1 for _ in findings.renames()) == count // 10
    assert findings.count_absences(confirmed=False) == sum(1 for _ in findings.absences(confirmed=False)) == count
    finish(mirror, "r1", findings)

def publish():
    while rows := catalogue.unpublished(500):
        catalogue.mark_published([row.seq for row in rows], at="2026-01-01T00:00:00Z")

with open_catalogue(Path(sys.argv[1])) as catalogue:
    mirror = catalogue.mirror("M")
    timed("fill", fill)
    folder = RelPath("collection 0/folder 0001")
    assert len(timed("one directory", lambda: mirror.held_in(folder)).records) == 1_000
    assert timed("stream", lambda: sum(1 for _ in mirror.records())) == count
    timed("judge and finish", judge)
    assert all(record.absent_run == "r1" for _, record in mirror.records(folder))
    timed("publish", publish)
    timed("another source", lambda: (mirror.use_source("a"), mirror.use_source("b")))
    timed("near names", lambda: mirror.near_names(RelPath("Folder 0001/page of a letter 0000001.jpg")))
    timed("close", catalogue.close)
if sys.platform == "linux":  # ru_maxrss counts what the process that started us used before exec; VmHWM does not
    (line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    peak = int(line.split()[1]) / 1024
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
size = Path(sys.argv[1], "catalogue.db").stat().st_size
print(json.dumps({"peak_mb": round(peak), "bytes_a_record": round(size / count), "seconds": times}))
"""


@pytest.mark.timeout(1_800)
def test_memory_stays_bounded_with_many_records(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FILL_AND_USE, str(tmp_path), str(RECORDS)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=1_700)
    found = json.loads(done.stdout)
    print(f"{RECORDS} records: {found}")
    assert found["peak_mb"] < BOUND_MB


@pytest.mark.parametrize("busy", [False, True])
def test_a_group_takes_few_steps(tmp_path: Path, busy: bool) -> None:
    """sqlite3 gives up the GIL at every step and takes milliseconds to get it back beside a busy thread."""
    with open_catalogue(tmp_path) as catalogue:
        mirror = catalogue.mirror("M")
        before = [held(f"{n % 3}/{n}", seen(n, file_id=n + 1)) for n in range(512)]
        if busy:
            hold(mirror, *before)
            finish(mirror, "r1", mirror.findings("r1"))
        steps: list[str] = []
        with catalogue.transaction() as db:
            db.set_trace_callback(steps.append)
        mirror.commit(before, [], run_id="r2", now_ms=1)
        assert len(mirror.held_in(RelPath("1")).records) == 171
        assert 0 < len(steps) < 20
