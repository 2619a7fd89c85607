"""The benchmark of announcing does its work, and counts what arrived."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import announcing
from bench.measure import BenchError
from tests.support.require import require


def test_a_small_run_is_measured(tmp_path: Path) -> None:
    require("socat", "socat")
    found = announcing.measure(tmp_path, 2, 700)
    assert len(found.walls_s) == 2
    assert 0 < found.median_s < announcing.DEADLINE_S
    assert 400 < found.body_bytes < 1_000
    assert found.as_json()["announcements"] == 700


def test_what_does_not_arrive_is_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("socat", "socat")
    monkeypatch.setattr(announcing, "DEADLINE_S", 0.2)
    monkeypatch.setattr(announcing, "_announce", lambda *_: 0.001)
    with pytest.raises(BenchError, match="0 of 10 announcements arrived"):
        announcing.measure(tmp_path, 1, 10)
