"""The real systemd-inhibit and the real logind, on a Linux of its own: what is held is listed, and goes with us."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.services import SEEN_PACKAGES, SEEN_REPOSITORY, BootedHost, booted

WAIT_S = 20.0
HOLDER = """
import os, signal, sys
from syncd.awake import Awake
from syncd.core.wakefulness import Work
awake = Awake(lambda name, **_: print(name), lambda: "now")
awake.look(Work(("work",)))
print(awake.holding, flush=True)
os.system("systemd-inhibit --list --no-legend")
if sys.argv[1] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
awake.close()
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BootedHost]:
    with booted(tmp_path_factory.mktemp("logind")) as host:
        started = host.run("systemctl", "start", "dbus.socket", "systemd-logind.service")
        if started.code != 0:
            pytest.skip(f"no logind comes up here: {started.err}")
        yield host


def hold(host: BootedHost, how: str) -> str:
    python = Path("/proc/self/exe").resolve()
    env = {"PYTHONPATH": f"{SEEN_REPOSITORY}:{SEEN_PACKAGES}"}
    return host.run(str(python), "-c", HOLDER, how, env=env).out


def listed(host: BootedHost) -> str:
    return host.run("systemd-inhibit", "--list", "--no-legend").out


@pytest.mark.parametrize("how", ["closed", "killed"])
def test_logind_lists_what_is_held_and_forgets_it_with_us(host: BootedHost, how: str) -> None:
    said = hold(host, how)
    assert "what='sleep:idle'" in said
    (line,) = [line for line in said.splitlines() if line.startswith("syncd ")]
    assert "sleep:idle" in line
    assert line.endswith("block")
    deadline = time.monotonic() + WAIT_S
    while "syncd " in listed(host):
        assert time.monotonic() < deadline, listed(host)
        time.sleep(0.1)
