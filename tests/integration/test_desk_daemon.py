"""worker-glue check and submit beside a running daemon: what is listed and not here yet counts, and can be fetched."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Host, put
from worker_glue.cli.main import main


def told(capsys: pytest.CaptureFixture[str], host: Host, *words: str) -> tuple[int, Any]:
    capsys.readouterr()
    code = main(["-c", str(host.config), *words, "--json"])
    out, err = capsys.readouterr()
    assert "bug" not in err, err
    return code, json.loads(out) if out else err


def test_what_is_on_its_way_is_listed_and_fetched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "source", tmp_path / "data" / "M"
    for name in ("eng/a.jpg", "eng/b 1 .JPG", "eng/deep/c.pdf", "eng/notes.txt"):
        put(source, name, name.encode())
    host = Host(tmp_path)
    host.add_mirror("M", f"file://{source}", target)
    with host.daemon() as daemon:
        daemon.until_ok()
        daemon.api.pause()  # else it is whole again before anybody looks
        (target / "eng" / "b 1 .JPG").unlink()
        os.truncate(target / "eng" / "deep" / "c.pdf", 3)
        code, found = told(capsys, host, "check", "M")
        assert (code, found["ready"], found["to_fetch"]) == (3, 1, 2)
        code, found = told(capsys, host, "submit", "M/eng", "--dry-run")
        assert (code, [each["file_path"] for each in found["files"]]) == (
            0,
            ["M/eng/a.jpg", "M/eng/b 1 .JPG", "M/eng/deep/c.pdf"],
        )
        resumed = threading.Timer(0.5, daemon.api.resume)
        resumed.start()
        code, found = told(capsys, host, "check", "--fetch", "M")
        resumed.join()
        assert (code, found["ready"], found["to_fetch"]) == (0, 3, 0)
        assert (target / "eng" / "b 1 .JPG").read_bytes() == b"eng/b 1 .JPG"
        put(source, "eng/new.jpg", b"new")
        code, found = told(capsys, host, "check", "--fetch", "M/eng/new.jpg", "M/eng/nix.jpg")
        assert (code, found["ready"], found["missing"]) == (3, 1, 1)  # added since the last run, and never there
        assert [each["path"] for each in found["files"]] == ["M/eng/nix.jpg"]
        assert daemon.stop() == 0
