"""A command whose standard streams are closed (cron, a service manager) works as any other."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from tests.support.cli import COMMAND, Syncd


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
@pytest.mark.parametrize("words", ["run-once", "status"])
def test_a_command_without_a_stream_does_its_work(tmp_path: Path, words: str, closed: str) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "page.txt").write_text("x")
    syncd = Syncd(tmp_path)
    syncd.add_mirror("M", f"file://{tmp_path / 'source'}", tmp_path / "target", extra='settle = "0s"')
    assert syncd.run_once().code == 0
    (tmp_path / "source" / "more.txt").write_text("y")
    root = Path(__file__).parents[2]
    command = f"{shlex.join([*COMMAND, '-c', str(syncd.config), words])} {closed}"
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        capture_output=True,
        check=False,
        timeout=60,
        cwd=root,
        env={"PYTHONPATH": str(root)},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "target" / "more.txt").exists() == (words == "run-once")
    assert syncd("verify").code == 0
