"""`syncd doctor` beside a running daemon: a real API server on the socket of the state directory."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from syncd import config
from syncd.cli.main import main
from syncd.doctor import daemon
from syncd.doctor.checks import Check, Level, Pace
from syncd.doctor.examine import examine
from syncd.service import Inspection
from syncd.store.state import StateDirectory
from syncd.web.port import Errand
from syncd.web.server import ApiServer
from tests.support import statuses
from tests.support.statuses import PageService

QUICK = Pace(check_s=1.0, answer_s=1.0, whole_s=20)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "share").mkdir()
    (tmp_path / "share" / "a.pdf").write_bytes(b"x")
    path = tmp_path / "config.toml"
    path.write_text(
        '[host]\nstate_dir = "state"\n[[mirror]]\nname = "B"\nsource = "file://./share"\ntarget = "data"\n'
        'settle = "0s"\n'
    )
    path.chmod(0o644)
    return path


@pytest.fixture
def serving(file: Path) -> Iterator[PageService]:
    assert main(["-c", str(file), "run-once"]) == 0
    service = PageService()
    path = file.parent / "state" / "run" / "syncd.sock"
    path.parent.mkdir(exist_ok=True)
    server = ApiServer(
        service, path, listen=None, token=lambda: "", allowed_hosts=(), on_bug=lambda _bug: None, limits=None
    )
    server.start()
    try:
        yield service
    finally:
        server.close()


def told(file: Path, pace: Pace = QUICK) -> list[Check]:
    env = {"HOME": str(file.parent)}
    checks: list[Check] = []
    daemon.add_checks(config.load(file, env), env, "syncd", pace, checks)
    return checks


def doctor(file: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = main(["-c", str(file), "doctor", "--json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, found


def test_both_answers_are_shown(file: Path, serving: PageService, capsys: pytest.CaptureFixture[str]) -> None:
    serving.shown = statuses.status(statuses.mirror("B"))
    serving.shown["hops"][0] |= {"name": "source B", "state": "down", "detail": "No route to host"}
    code, found = doctor(file, capsys)
    assert (code, found["state"]) == (3, "fail")
    here = next(check for check in found["checks"] if check["mirror"] == "B" and check["name"] == "folder")
    there = next(check for check in found["checks"] if check["name"] == "source B")
    assert (here["status"], there["status"], there["group"]) == ("ok", "fail", "daemon")
    assert there["seen"].startswith("the daemon says: down since ")
    assert "compare with the checks above" in there["todo"]


def test_a_daemon_that_is_well(file: Path, serving: PageService, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = doctor(file, capsys)
    assert (code, found["state"]) == (0, "ok")
    seen = next(check["seen"] for check in found["checks"] if check["name"] == "daemon")
    assert "runs as process 1 since" in seen


def test_the_bundle_has_the_status_of_the_daemon(file: Path, serving: PageService, tmp_path: Path) -> None:
    assert main(["-c", str(file), "doctor", "--bundle", str(tmp_path / "b.zip")]) == 0
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        status = json.loads(archive.read("syncd-doctor/status.json"))
    assert [hop["name"] for hop in status["hops"]] == ["source Bhushanji", "nsqd", "mongodb"]


def test_an_unhealthy_daemon_fails(file: Path, serving: PageService) -> None:
    serving.is_healthy = False
    check = next(check for check in told(file) if check.name == "daemon")
    assert check.status is Level.FAIL
    assert "the catalogue cannot be written" in check.seen


def test_no_daemon_is_fine_and_a_run_once_is_none(file: Path) -> None:
    assert [check.seen for check in told(file) if check.name == "daemon"] == [
        "not running; syncd run keeps the mirrors up to date"
    ]
    with StateDirectory.open(file.parent / "state", create=True).lock():
        (check,) = [check for check in told(file) if check.name == "daemon"]
    assert check.status is Level.OK
    assert "a run-once?" in check.seen


def test_a_service_that_runs_on_something_else_fails(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Inspection("syncd", kind="launchd agent", installed=True, running=True, detail="running")
    monkeypatch.setattr(daemon, "inspect", lambda env: runs)
    check = next(check for check in told(file) if check.name == "daemon")
    assert check.status is Level.FAIL
    assert "another configuration or state directory" in check.todo


def test_a_daemon_that_hangs_ends_in_time(file: Path) -> None:
    path = file.parent / "state" / "run" / "syncd.sock"
    path.parent.mkdir(parents=True)
    started = time.monotonic()
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(path))
        listener.listen()
        checks = told(file)
    assert time.monotonic() - started < 10
    assert (checks[-1].name, checks[-1].status) == ("daemon", Level.FAIL)
    assert "takes calls and answers none" in checks[-1].seen


# --- the checks that the daemon makes itself -------------------------------------------------------------------------


def examined(serving: PageService, monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
    """Have every errand of the daemon answer like this."""
    monkeypatch.setattr(serving, "errand", lambda errand_id: Errand(errand_id, **more))


def test_what_only_the_daemon_is_refused_is_shown(
    file: Path, serving: PageService, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = {
        "group": "mirror",
        "mirror": "B",
        "name": "target",
        "status": "fail",
        "seen": "not permitted",
        "todo": "",
    }
    examined(serving, monkeypatch, done=True, result={"checks": [refused]}, exit_code=3)
    code, found = doctor(file, capsys)
    assert code == 3
    here, there = [check for check in found["checks"] if check["name"] == "target"]
    assert (here["group"], here["status"]) == ("mirror", "ok")
    assert (there["group"], there["status"], there["seen"]) == ("daemon", "fail", "in the daemon, B: not permitted")


def test_a_login_that_was_refused_is_not_tried_again_but_the_target_is(file: Path) -> None:
    (file.parent / "secret").write_text("wrong")
    (file.parent / "secret").chmod(0o600)
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        url = f"smb://u@127.0.0.1:{listener.getsockname()[1]}/share"
        text = file.read_text().replace('"file://./share"', f'"{url}"\npassword_file = "secret"')
        file.write_text(text)
        settings = config.load(file, {"HOME": str(file.parent)})
        (group,) = examine(settings, {}, pace=QUICK, daemon=False, refused={"B"})
        listener.settimeout(0.2)
        with pytest.raises(TimeoutError):
            listener.accept()
    checks = {check.name: check for check in group.checks}
    assert checks["target"].status is Level.OK
    assert (checks["source"].status, "tried once" in checks["source"].seen) == (Level.WARN, True)


def test_an_examination_that_broke_off_is_not_well(
    file: Path, serving: PageService, monkeypatch: pytest.MonkeyPatch
) -> None:
    bug = {"message": "a bug in the daemon: KeyError", "hint": "see the daemon's log", "problems": []}
    examined(serving, monkeypatch, done=True, result={"checks": []}, exit_code=1, errors=(bug,))
    check = told(file)[-1]
    assert (check.name, check.status, check.todo) == ("checks", Level.FAIL, "see the daemon's log")
    assert "broken off: a bug in the daemon: KeyError" in check.seen


def test_an_examination_without_end_is_left(file: Path, serving: PageService, monkeypatch: pytest.MonkeyPatch) -> None:
    examined(serving, monkeypatch, done=False)
    started = time.monotonic()
    check = told(file, replace(QUICK, whole_s=daemon.RESERVE_S + 1))[-1]
    assert time.monotonic() - started < 10
    assert (check.name, check.status) == ("in the daemon", Level.WARN)


def test_a_daemon_that_hangs_during_its_examination_ends_in_time(
    file: Path, serving: PageService, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr(serving, "errand", lambda _errand_id: released.wait(30) and None)
    started = time.monotonic()
    try:
        check = told(file)[-1]
    finally:
        released.set()
    assert time.monotonic() - started < 10
    assert (check.name, check.status) == ("daemon", Level.FAIL)
    assert "no answer within" in check.seen
