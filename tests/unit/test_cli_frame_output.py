"""What people see: sizes, durations, tables, progress, log lines."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest

from syncd.cli import output


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KB"),
        (9949, "9.9 KB"),
        (9950, "10 KB"),
        (999_499, "999 KB"),
        (999_500, "1.0 MB"),
        (93_000_000, "93 MB"),
        (41e9, "41 GB"),
        (2e18, "2000 PB"),
    ],
)
def test_bytes(size: float, shown: str) -> None:
    assert output.human_bytes(size) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0008, "0.8 ms"),
        (0.5, "500 ms"),
        (3.44, "3.4 s"),
        (9.96, "10 s"),
        (99.6, "2 min"),
        (3599, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (200_000, "2 days"),
    ],
)
def test_durations(seconds: float, shown: str) -> None:
    assert output.human_duration(seconds) == shown


def test_a_table_lines_up_by_columns_on_the_screen() -> None:
    shown = output.table(
        ["NAME", "FILES", "X"], [["हिन्दी", "4", "a"], ["漢字", "4,000", "b"], ["B\x1b", "1", ""]], right=["FILES"]
    )
    assert shown == "NAME   FILES  X\nहिन्दी      4  a\n漢字   4,000  b\nB\\x1b      1\n"
    assert [output.width(text) for text in ("हिन्दी", "漢字", "a\u0301", "")] == [5, 4, 1, 0]


def test_no_text_can_steer_the_terminal() -> None:
    assert output.printable("a\x1b[31m\r\x07b\u202e") == "a\\x1b[31m\\r\\x07b\\u202e"
    assert output.printable("हिन्दी  (1).PDF") == "हिन्दी  (1).PDF"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_terminal_gets_a_bar_with_files_bytes_rate_and_time_left() -> None:
    terminal = Terminal()
    with output.Progress("Bhushanji", terminal) as progress:
        progress._next = 0.0
        progress.counts.started -= 10
        progress.update(15, 20, 15_000_000, 20_000_000)
    shown = terminal.getvalue()
    for part in ("Bhushanji", "15/20 files", "15 MB/20 MB", " MB/s", " s left"):
        assert part in shown
    progress.close()


def test_elsewhere_progress_is_a_log_line_now_and_then() -> None:
    script = (
        "from syncd.cli.output import Progress\n"
        "with Progress('Bhushanji', every_s=3600) as p:\n"
        "    p.update(1, 20, 10, 200)\n"
        "    p._next = 0\n"
        "    p.update(2, 20, 20, 200)\n"
        "    p.update(3, 20, 30, 200)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    (line,) = done.stderr.splitlines()
    assert "event=run.progress mirror=Bhushanji files_done=2 files_known=20 bytes_done=20 bytes_known=200" in line
    assert done.stdout == ""


def log_lines(script: str, **env: str) -> list[str]:
    full = "from syncd.log import logger\nfrom syncd.config import secrets\nlog = logger()\n" + script
    done = subprocess.run([sys.executable, "-c", full], capture_output=True, text=True, check=True, timeout=60, env=env)
    return done.stderr.splitlines()


def test_log_lines_carry_no_secret_and_stay_on_one_line() -> None:
    script = (
        "secrets._revealed.add('geheim')\n"
        "log.info('login.refused', detail='with geheim', path='a\\nb=c \\x1b[31m', ok=True, n=3)\n"
        "log.debug('not shown')\n"
        "try: 1/0\n"
        "except ZeroDivisionError: log.error('bug', exc_info=True)\n"
    )
    first, *rest = log_lines(script)
    assert 'level=info event=login.refused detail="with ***"' in first
    assert "ok=true n=3" in first
    assert "geheim" not in "".join([first, *rest])
    assert len(rest) == 1
    assert "ZeroDivisionError" in rest[0]


def test_log_as_json() -> None:
    (line,) = log_lines("log.info('run.done', path='हिन्दी', files=3, none=None)", SYNCD_LOG="json")
    found = json.loads(line)
    assert (found["event"], found["path"], found["files"], found["none"]) == ("run.done", "हिन्दी", 3, None)
    assert found["timestamp"].endswith("Z")
    assert "हिन्दी" in line
