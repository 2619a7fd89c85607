"""The exported manifest: however many files are held, each has one line, in order, and is JSON."""

from __future__ import annotations

import json

import pytest

from syncd.core.model import Record, RelPath
from syncd.store.manifest import manifest_lines


def record(number: int) -> Record:
    return Record(number, 10 * number, 3, 4, f"{number:064x}", 100 + number, 7, 8, 9, "run")


@pytest.mark.parametrize("count", [0, 1, 499, 500, 501, 1_203])
def test_each_file_has_its_line(count: int) -> None:
    held = [(RelPath(f'page "{number}" \u0928\x7f.jpg'), record(number)) for number in range(count)]
    blocks = list(manifest_lines(held))
    assert all(block.endswith(b"\n") for block in blocks)
    assert [json.loads(line) for line in b"".join(blocks).splitlines()] == [
        {
            "path": f'page "{number}" \u0928\x7f.jpg',
            "size": number,
            "sha256": f"{number:064x}",
            "mtime_ns": 10 * number,
            "generation": 100 + number,
        }
        for number in range(count)
    ]
