"""What launchd is told, carried out here: how the daemon ends under it, and an agent whose logs were cleared away."""

from __future__ import annotations

import argparse
import os
import plistlib
import re
import shutil
import signal
import subprocess
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from syncd.service.launchd import _detail
from syncd.service.place import Account, Manager, Place
from syncd.service.plist import keys
from syncd.service.tools import Answer
from syncd.service.unit import Job
from tests.support.cli import COMMAND
from tests.support.daemon import put
from tests.support.services import FakeHost
from worker_glue.cli.run import GRACE_S, configure

WITHIN_S = 30.0
CONFIG = '[host]\nstate_dir = "{0}/state"\n[[mirror]]\nname = "M"\nsource = "file://{0}/source"\ntarget = "{0}/M"\n'


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_a_wrong_configuration_is_no_crash_loop_and_an_end_that_was_asked_for_is_one(tmp_path: Path) -> None:
    """KeepAlive is SuccessfulExit = false: 0 stays ended, all else is started again every 30 s, for ever."""
    place = Place(Manager.LAUNCHD, False, "syncd", Account(1000, "tod", tmp_path / "home"))
    config = tmp_path / "Application Support" / "config.toml"
    config.parent.mkdir()
    config.write_text("[host]\nnmae = 1\n")
    started = keys(place, Job(Path("/opt/syncd"), config, tmp_path / "state"))
    assert started["KeepAlive"] == {"SuccessfulExit": False}
    log = tmp_path / "home" / "Library" / "Logs" / "syncd" / "syncd.log"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen([*COMMAND, *started["ProgramArguments"][1:]], env=env) as process:
        try:
            until(lambda: log.exists() and "nmae" in log.read_text(), "the log, in a folder that nobody made, says why")
            assert process.poll() is None, "it stays up"
            put(tmp_path / "source", "x.jpg", b"x")
            config.write_text(CONFIG.format(tmp_path))
            until(lambda: "event=run.done" in log.read_text(), "it goes on once that is put right")
            process.send_signal(signal.SIGTERM)
            assert process.wait(WITHIN_S) == 0, "launchctl kill SIGTERM ends it for good"
        finally:
            process.kill()


@pytest.fixture
def mac(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path, platform="darwin")


def test_installing_again_brings_back_the_folder_for_logs(mac: FakeHost) -> None:
    """Without it launchd cannot open StandardErrorPath, and starts nothing."""
    assert mac.syncd("install", "--user").code == 0
    logs = mac.home / "Library" / "Logs" / "syncd"
    shutil.rmtree(logs)
    mac.tell(running={})
    done = mac.syncd("install", "--user")
    assert done.code == 0, done
    assert logs.is_dir()
    assert mac.calls[-1] == "launchctl kickstart gui/1000/local.syncd", "the agent itself is as it was"


def test_nothing_in_the_property_list_slows_the_daemon_down(mac: FakeHost) -> None:
    assert mac.syncd("install", "--user").code == 0
    found = plistlib.loads((mac.home / "Library/LaunchAgents/local.syncd.plist").read_bytes())
    assert found["ProcessType"] == "Standard"
    assert not found.keys() & {"LowPriorityIO", "LowPriorityBackgroundIO", "Nice", "StartInterval"}


@pytest.mark.parametrize(
    ("state", "told"),
    [("spawn scheduled", "to be started again soon, last exit code 15"), ("not running", "stopped, last exit code 15")],
)
def test_an_agent_that_ended_says_whether_it_comes_back(state: str, told: str) -> None:
    answer = Answer(("launchctl", "print"), 0, "", "")
    assert _detail(answer, {"state": state, "last exit code": "15"}, installed=True) == told


def test_the_agent_for_workers_in_the_documents_is_one(tmp_path: Path) -> None:
    """Carried out by sh as it stands there, up to launchctl."""
    text = (Path(__file__).parents[2] / "docs" / "macos.md").read_text()
    block = textwrap.dedent(re.findall(r"(?m)^  ```sh\n(.*?)^  ```", text, re.DOTALL)[-1])
    (tmp_path / "launchctl").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "launchctl").chmod(0o755)
    env = {"HOME": str(tmp_path), "PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["sh", "-ec", block], env=env, capture_output=True, text=True, timeout=30, check=True)
    file = tmp_path / "Library/LaunchAgents/local.worker-glue.plist"
    assert done.stdout.split()[0::2] == ["bootstrap", str(file)]
    found = plistlib.loads(file.read_bytes())
    program, *words = found["ProgramArguments"]
    assert program == f"{tmp_path}/.local/bin/worker-glue"
    assert found["Label"] == "local.worker-glue"
    assert found["ExitTimeOut"] > GRACE_S
    assert found["KeepAlive"] == {"SuccessfulExit": False}
    assert (tmp_path / "Library/Logs/syncd").is_dir()
    parser = argparse.ArgumentParser()
    configure(parser)
    args = parser.parse_args(words[1:])
    assert (words[0], args.wait_for_config, str(args.log_file.parent)) == (
        "run",
        True,
        f"{tmp_path}/Library/Logs/syncd",
    )
