"""`syncd remote` where something is done: a daemon restarted, logs followed, changes let through, over real sshd."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncd.cli import main
from tests.support.cli import COMMAND, Syncd
from tests.support.far_hosts import ROOT, Desk, put_program, put_syncd, start_far
from tests.support.sshd import SshServer

FILES, LOST = 20, 7
"""LOST is above the cap of 5 files, and less than half."""

# What a user's systemd does, as far as it is asked here: one service, which is a real daemon.
SYSTEMCTL = """[ "$1 $2 $3" = "--user --no-ask-password restart" ] || exit 64
if [ "$4" = proxy ]; then exit 0; fi
if [ "$4" != syncd ]; then echo "Unit $4.service not found." >&2; exit 5; fi
if [ -e "$HOME/pid" ]; then
  kill "$(cat "$HOME/pid")"
  while kill -0 "$(cat "$HOME/pid")" 2>/dev/null; do sleep 0.1; done
fi
syncd run </dev/null >>"$HOME/daemon.log" 2>&1 &
echo $! >"$HOME/pid"
"""
JOURNALCTL = """for word; do case $word in
  --lines=*) lines=${word#*=};; --follow) follow=-f;; -u) unit=next;; *) [ "$unit" != next ] || unit=$word;;
esac; done
exec tail -n "$lines" $follow "$HOME/$unit.log"
"""


class Far:
    """One host: its server, its home, its syncd."""

    def __init__(self, server: SshServer, home: Path) -> None:
        self.server = server
        self.home = home
        self.syncd = Syncd(home)
        self.syncd.config = home / ".config" / "syncd" / "config.toml"


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Far]:
    home = tmp_path / "home"
    with start_far(tmp_path / "sshd", home) as server:
        host = Far(server, home)
        host.syncd.config.parent.mkdir(parents=True)
        share = home / "share"
        share.mkdir()
        for number in range(FILES):
            (share / f"page {number} .txt").write_text(f"{number}")
        host.syncd.add_mirror("Bhushanji", f"file://{share}", home / "data", extra='settle = "0s"')
        (home / ".bashrc").write_text(
            "echo Welcome; echo '{\"mirrors\": []}'\n"
        )  # a login that says more than it should
        put_syncd(home / ".local" / "bin" / "syncd")
        put_program(home, "systemctl", SYSTEMCTL)
        put_program(home, "journalctl", JOURNALCTL)
        try:
            yield host
        finally:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                os.kill(int((home / "pid").read_text()), signal.SIGKILL)


@pytest.fixture
def desk(tmp_path: Path, far: Far) -> Desk:
    found = Desk(tmp_path / "desk")
    found.add("far", far.server)
    return found


def test_a_daemon_is_restarted_and_waited_for(desk: Desk, far: Far) -> None:
    pids = []
    for _ in range(2):
        done = desk("remote", "restart", "far", "--json")
        assert done.code == 0, done.out + done.err
        pids.append(done.json["hosts"][0]["answer"]["daemon"]["pid"])
        assert pids[-1] == int((far.home / "pid").read_text())
    assert pids[0] != pids[1]
    done = desk("remote", "restart", "far", "--service", "proxy")
    assert done.code == 0, done.err
    assert done.out.splitlines()[1].split() == ["far", "proxy", "-"]
    done = desk("remote", "restart", "far", "--service", "none")
    assert done.code == 3
    assert "FAILED" in done.out
    assert "Unit none.service not found." in done.out


def test_what_doctor_finds_there_is_told_with_the_next_step(desk: Desk, far: Far) -> None:
    done = desk("remote", "doctor", "far")
    assert done.code == 0, done.out
    assert done.out.splitlines()[0].split() == ["HOST", "STATE", "OK", "WARN", "FAIL"]
    (far.home / "share").rename(far.home / "elsewhere")
    done = desk("remote", "doctor", "far")
    assert done.code == 3
    assert "! far: FAIL Bhushanji folder" in done.out


def hold_back(far: Far) -> None:
    """Mirror everything, then lose a part of the share: what would be removed waits for a person."""
    assert far.syncd.run_once().code == 0
    for number in range(LOST):
        (far.home / "share" / f"page {number} .txt").unlink()
    assert [far.syncd.run_once().code for _ in range(2)][-1] == 13


def retired(far: Far) -> int:
    assert far.syncd.run_once().code == 0
    return FILES - len(list((far.home / "data").glob("*.txt")))


def test_what_is_held_back_is_let_through_where_somebody_says_so(
    desk: Desk, far: Far, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hold_back(far)
    assert desk("remote", "status", "far").code == 13
    done = desk("remote", "approve", "far")
    assert done.code == 2
    assert "page 0 .txt" in done.out
    assert "no terminal" in done.err
    assert "  next: syncd remote approve far --yes -c " in done.err

    def approve(word: str) -> str:
        asked: list[str] = []
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or word)
        assert main.main(["-c", str(desk.config), "remote", "approve", "far"]) == 0
        assert [question.startswith("Let exactly this through on far?") for question in asked] == [True]
        return capsys.readouterr().out

    out = approve("n")
    assert "page 0 .txt" in out
    assert out.splitlines()[-1].split(maxsplit=2) == ["far", "7", "left as it is"]
    assert far.syncd.run_once().code == 13
    out = approve("y")
    assert out.splitlines()[-1].split() == ["far", "7", "approved"]
    assert retired(far) == LOST
    done = desk("remote", "approve", "far", "--yes")
    assert done.out.splitlines()[-1].split(maxsplit=2) == ["far", "0", "nothing is held back"]


def test_what_is_held_back_is_let_through_without_asking(desk: Desk, far: Far) -> None:
    hold_back(far)
    done = desk("remote", "approve", "--all", "--yes", "--json")
    assert done.code == 0, done.out
    told = done.json["hosts"][0]["answer"]
    assert (told["held_back"], told["approved"]) == (LOST, True)
    assert retired(far) == LOST
    assert desk("remote", "approve", "far", "--mirror", "none", "--yes").code == 2


def test_the_last_lines_of_a_log_have_their_host_in_front(desk: Desk, far: Far) -> None:
    (far.home / "syncd.log").write_text("one\ntwo\x1b[31m\nthree\tx\n")
    (far.home / "other.log").write_text("else\n")
    done = desk("remote", "logs", "-n", "2", "far")
    assert (done.code, done.out) == (0, "far | two\\x1b[31m\nfar | three   x\n")
    done = desk("remote", "logs", "far", "-n", "1", "--service", "other", "--json")
    assert done.json["hosts"][0]["answer"]["lines"] == ["else"]
    done = desk("remote", "logs", "far", "--service", "none")
    assert done.code == 3
    assert "none.log" in done.err


def wait_until(true: Callable[[], bool], within_s: float = 20) -> None:
    until = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_several_logs_are_followed_at_once_until_we_hang_up(desk: Desk, far: Far) -> None:
    log = far.home / "syncd.log"
    log.write_text("before\n")
    desk.add("annex", far.server)
    desk.add("gone", far.server, ssh="u@127.0.0.1:1")
    words = [*COMMAND, "-c", str(desk.config), "remote", "logs", "--all", "-f", "-n", "1"]
    with subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = sorted(process.stdout.readline() for _ in range(2))
        assert first == ["annex | before\n", "far   | before\n"]
        with log.open("a") as file:
            file.write("later\n")
        assert sorted(process.stdout.readline() for _ in range(2)) == ["annex | later\n", "far   | later\n"]
        assert "gone: 127.0.0.1:1: nothing listens there" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    wait_until(
        lambda: str(log) not in subprocess.run(["ps", "-A", "-o", "args"], capture_output=True, text=True).stdout
    )


def test_a_host_that_stalls_after_the_login_costs_its_time_and_no_more(desk: Desk, far: Far, tmp_path: Path) -> None:
    with start_far(tmp_path / "stalling", far.home, {"ForceCommand": "sleep 30"}) as stalling:
        desk.add("stalling", stalling)
        done = desk("remote", "status", "--all", "--json", "--timeout", "6")
    assert done.code == 10
    told = {host["host"]: host for host in done.json["hosts"]}
    assert told["far"]["error"] is None
    assert told["stalling"]["error"]["kind"] == "unreachable"
    assert "took too long" in told["stalling"]["error"]["message"]


def test_no_secret_is_in_any_command_line_or_answer(desk: Desk, far: Far, tmp_path: Path) -> None:
    secret = "correct-horse-battery"
    password = tmp_path / "password"
    password.write_text(secret + "\n")
    password.chmod(0o600)
    desk.add("barred", far.server, password_file=str(password), key_file="")
    done = desk("remote", "status", "barred")
    assert done.code == 12
    assert "REFUSED" in done.out
    assert secret not in done.out + done.err
    assert secret not in far.server.log
    assert json.dumps(secret) not in far.server.log


@pytest.mark.parametrize("words", ["", "--all", "-n 5", "--json --all"])
def test_without_an_action_usage_and_an_example_are_shown(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["remote", *words.split()]) == 2
    said = capsys.readouterr().err
    assert said.startswith("usage: syncd remote ")
    assert " ACTION [HOST ...]\n" in said, "it is not said to be optional"
    assert said.endswith(
        "error: what is to be done: status, doctor, logs, restart, approve or update?\n"
        "  for example: syncd remote status --all\n"
    )
    for wrong in ("stats far", "--help"):
        assert main.main(["remote", *wrong.split()]) in (0, 2)
        shown = capsys.readouterr()
        assert " ACTION [HOST ...]\n" in shown.out + shown.err


def test_what_cannot_be_meant_is_said_before_anybody_is_asked(
    desk: Desk, far: Far, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, said in (
        ("status fr", 'did you mean "far"?'),
        ("status", "which host?"),
        ("status --all far", "--all means every host"),
        ("update far", "--wheel FILE"),
        ("update --image -x far", "expected one argument"),
        ("stats far", "invalid choice"),
        ("update far --image x;y", "not the name of an image"),
        ("logs far --service x/y", "is not the name of a service"),
        ("logs -n -1 far", "-1 is not a number of lines"),
        ("restart far --mirror B", "--mirror is for approve"),
        ("status far -n 5", "--lines is for logs"),
        ("logs far -f --timeout 5", "--timeout is not for logs -f"),
        ("logs far --variable X", "--variable is for update"),
        ("update far --wheel w --variable X", "--variable is for --image"),
        ("update far --image x:1 --variable X=Y", "not the name of a variable"),
        ("approve far --json", "--json cannot"),
    ):
        assert main.main(["-c", str(desk.config), "remote", *words.split()]) == 2, words
        assert said in capsys.readouterr().err
    assert "Accepted" not in far.server.log
