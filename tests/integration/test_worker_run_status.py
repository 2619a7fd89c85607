"""The daemon shows the workers of its host by their heartbeat files, and needs no MongoDB for it."""

from __future__ import annotations

import time
from pathlib import Path

from syncd.client.heartbeats import BEAT, FOLDER, LATE_S, file_of
from tests.support.daemon import Host
from worker_glue.health.beat import Beat
from worker_glue.running.ids import claim


def test_status_lists_the_workers(tmp_path: Path) -> None:
    (tmp_path / "share").mkdir()
    host = Host(tmp_path)
    host.add_mirror("B", f"file://{tmp_path / 'share'}", tmp_path / "data")
    folder = host.state / FOLDER
    with host.daemon() as daemon:
        api = daemon.api
        assert api.status()["workers"] == []
        folder.mkdir(parents=True, exist_ok=True)
        claims = claim(folder, (f"tod-mac-{n}" for n in (1, 2, 3, 4)), 4)
        Beat(folder, "tod-mac-1").tell(state="working", task="B/x.pdf", pages=7, pages_done=2)
        Beat(folder, "tod-mac-2", clock=lambda: time.time() - LATE_S - 60).tell(state="idle")
        Beat(folder, "tod-mac-4", clock=lambda: 1e300).tell(state="idle")
        Beat(folder, "tod-mac-5").tell(state="idle")
        file_of(folder, "tod-mac-5", ".lock").touch()
        file_of(folder, "broken", BEAT).write_text("{")
        found = {worker["id"]: worker for worker in api.status()["workers"]}
        states = {name: worker["state"] for name, worker in found.items()}
        assert states == {
            "tod-mac-1": "working",
            "tod-mac-2": "lost",
            "tod-mac-3": "starting",
            "tod-mac-4": "idle",
            "tod-mac-5": "gone",
        }
        assert (found["tod-mac-1"]["task"], found["tod-mac-1"]["pages"]) == ("B/x.pdf", 7)
        assert found["tod-mac-1"]["since"].endswith("Z")
        assert found["tod-mac-4"]["since"] is None
        shown = host("status")
        assert "workers 3/5" in shown.out
        for each in claims:
            each.release(folder)
