"""The rule of renames (RULES section 1) in SQL, against the same rule spelled out in Python."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.core.model import Fingerprint, RelPath
from tests.support.catalogues import held, hold, open_catalogue

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # a catalogue for each example: syncs take the time

PRINTS = st.builds(Fingerprint, st.integers(1, 2), st.integers(1, 2), st.integers(0, 1), st.integers(0, 3))
TREE = st.dictionaries(st.sampled_from([f"{folder}/{name}" for folder in "ab" for name in "123"]), PRINTS, max_size=6)


def proven(before: dict[str, Fingerprint], after: dict[str, Fingerprint]) -> set[tuple[str, str]]:
    absent = before.keys() - after.keys()
    listed = [(path, seen) for path, seen in after.items() if before.get(path) != seen]
    found = set()
    for new in after.keys() - before.keys():
        seen = after[new]
        others = [path for path, other in listed if other.file_id == seen.file_id and path != new]
        others += [path for path, other in before.items() if other.file_id == seen.file_id]
        for old in absent:
            identity = before[old].file_id, before[old].size, before[old].mtime_ns
            if seen.file_id and others == [old] and identity == (seen.file_id, seen.size, seen.mtime_ns):
                found.add((old, new))
    return found


@settings(max_examples=150, deadline=None)
@given(TREE, TREE)
def test_renames_are_those_that_the_rule_proves(before: dict[str, Fingerprint], after: dict[str, Fingerprint]) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as state, open_catalogue(Path(state)) as catalogue:
        mirror = catalogue.mirror("M")
        hold(mirror, *(held(path, seen) for path, seen in before.items()))
        findings = mirror.findings("r1")
        for path in before.keys() - after.keys():
            findings.absent(RelPath(path[:1]), [path[2:]])
        for path, seen in after.items():
            if path not in before:
                findings.arrived(RelPath(path), seen)
            elif before[path] != seen:
                findings.replaced(RelPath(path), seen)
        assert {(old, new) for old, _, new, _ in findings.renames()} == proven(before, after)
