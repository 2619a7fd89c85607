"""approve and trash purge at a terminal: a yes, a no, and Ctrl-D, which is a no and no bug."""

from __future__ import annotations

import os
import pty
import select
import time
from pathlib import Path

import pytest

from tests.support.cli import COMMAND, Syncd

TIMEOUT_S = 60.0


def at_terminal(syncd: Syncd, words: list[str], typed: bytes) -> tuple[int, str]:
    """Run a command with a terminal as its three streams, and type once it asks."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
        os.execvp(COMMAND[0], [*COMMAND, "-c", str(syncd.config), *words])
    shown, deadline = b"", time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                shown += os.read(terminal, 65536)
            except OSError:  # Linux: the other side is closed
                break
        if typed and b"[y/N] " in shown:
            os.write(terminal, typed)
            typed = b""
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), shown.decode()


@pytest.fixture
def syncd(tmp_path: Path) -> Syncd:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(12):
        (source / f"{number}.txt").write_text(f"{number}")
    syncd = Syncd(tmp_path)
    syncd.add_mirror("M", f"file://{source}", tmp_path / "target", extra='settle = "0s"')
    assert syncd.run_once().code == 0
    return syncd


@pytest.mark.parametrize(("typed", "said"), [(b"\x04", "nothing approved"), (b"n\n", "nothing approved")])
def test_approve_takes_the_end_of_input_for_a_no(syncd: Syncd, tmp_path: Path, typed: bytes, said: str) -> None:
    for number in range(6):
        (tmp_path / "source" / f"{number}.txt").unlink()
    assert [syncd.run_once().code for _ in range(2)] == [0, 13]
    code, shown = at_terminal(syncd, ["approve"], typed)
    assert (code, said in shown, "bug" in shown) == (0, True, False)
    assert syncd.run_once().code == 13
    assert at_terminal(syncd, ["approve"], b"y\n")[0] == 0
    assert syncd.run_once().json["mirrors"][0]["retired"] == 6


def test_purge_takes_the_end_of_input_for_a_no(syncd: Syncd, tmp_path: Path) -> None:
    (tmp_path / "target" / "1.txt").write_text("changed here")
    syncd.run_once()
    code, shown = at_terminal(syncd, ["trash", "purge"], b"\x04")
    assert (code, "nothing removed" in shown, "bug" in shown) == (0, True, False)
    assert "1.txt" in syncd("trash", "list").out
    assert at_terminal(syncd, ["trash", "purge"], b"yes\n")[0] == 0
    assert "1.txt" not in syncd("trash", "list").out
