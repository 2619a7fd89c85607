"""The child that holds this machine awake: one at most, ended when idle, never left behind, and not indispensable."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from syncd import awake
from syncd.awake import AGAIN_S, LIVED_S, Awake, Way, ways
from syncd.core.wakefulness import Wakefulness, Work
from tests.support.inhibitors import Inhibitors, until

RUN = Work(("a run of M",))
IDLE = Work()
NOW = "2026-11-27T10:00:00Z"


class Held:
    """An Awake over stand-ins, a clock that a test moves, and what was logged."""

    def __init__(self, find: Callable[[], Sequence[Way]]) -> None:
        self.now = 1_000.0
        self.events: list[tuple[str, str]] = []
        decide = Wakefulness(grace_s=15, patience_s=7200)
        self.awake = Awake(self._event, lambda: NOW, find=find, decide=decide, monotonic=lambda: self.now)

    def _event(self, name: str, **fields: object) -> None:
        self.events.append((name, str(fields)))

    @property
    def told(self) -> list[str]:
        return [name for name, _ in self.events]

    def look(self, work: Work, after_s: float = 2.0) -> bool:
        self.now += after_s
        self.awake.look(work)
        return bool(self.awake.holding.since)


@pytest.fixture
def programs(tmp_path: Path) -> Inhibitors:
    return Inhibitors(tmp_path / "programs")


@pytest.fixture(params=["systemd-inhibit", "caffeinate"])
def held(request: pytest.FixtureRequest, programs: Inhibitors) -> Iterator[Held]:
    programs.systemd()
    programs.caffeinate()
    platform = {"systemd-inhibit": "linux", "caffeinate": "darwin"}[request.param]
    held = Held(lambda: ways(platform, {"PATH": str(programs.folder)}, str(programs.caffeinate_path)))
    yield held
    held.awake.close()
    assert programs.living() == 0


def test_one_child_while_there_is_work_and_none_after_the_grace(held: Held, programs: Inhibitors) -> None:
    assert not held.look(IDLE)
    assert programs.started() == []
    assert held.look(RUN)
    assert held.awake.holding.as_json()["for"] == ["a run of M"]
    assert held.awake.holding.since == NOW
    programs.until_living(1)
    for _ in range(3):
        assert held.look(RUN)
    assert held.look(IDLE, 14)
    assert held.awake.holding.doing == ("a run of M",), "what it was held for, not nothing"
    assert programs.living() == 1
    assert not held.look(IDLE, 15)
    assert programs.living() == 0, "it has ended by then"
    assert len(programs.started()) == 1
    assert held.told == ["awake.held", "awake.let_go"]
    assert held.look(RUN)
    held.awake.close()
    assert programs.living() == 0
    held.awake.close()


def test_a_child_that_somebody_ended_is_replaced(held: Held, programs: Inhibitors) -> None:
    assert held.look(RUN)
    programs.until_living(1)
    (first, _), *_ = programs.started()
    os.kill(first, signal.SIGKILL)
    until(lambda: not held.awake._child.lives, "it is gone")  # type: ignore[union-attr]
    assert held.look(RUN, LIVED_S)
    programs.until_living(1)
    assert len(programs.started()) == 2
    assert held.told == ["awake.held"], "it was held all the time, but for a moment"


def test_one_that_ends_at_once_again_and_again_is_not_started_again_and_again(held: Held, programs: Inhibitors) -> None:
    for each in (programs.folder / "systemd-inhibit", programs.caffeinate_path):
        each.write_text("#!/bin/sh\necho no session >&2\nexit 1\n")
    for _ in range(20):
        assert not held.look(RUN)
    assert held.told == ["awake.impossible"]
    assert "no session" in held.awake.holding.problem
    programs.systemd()
    programs.caffeinate()
    assert held.look(RUN, AGAIN_S)
    assert held.awake.holding.problem == ""


def test_stuck_work_lets_go_and_says_so(held: Held, programs: Inhibitors) -> None:
    assert held.look(RUN)
    assert not held.look(RUN, 7200)
    assert not held.look(RUN)
    assert programs.living() == 0
    assert held.told == ["awake.held", "awake.let_go", "awake.gave_up"]
    assert "nothing has got on for 2 h" in held.awake.holding.as_json()["problem"]


def test_where_logind_grants_only_idle_that_is_what_is_held(programs: Inhibitors) -> None:
    programs.systemd(refuse=["sleep"])
    held = Held(lambda: ways("linux", {"PATH": str(programs.folder)}))
    assert held.look(RUN)
    assert held.awake.holding.what == "idle"
    assert not held.look(IDLE, 20)
    assert held.look(RUN)
    asked = [words.split()[0] for _, words in programs.started()]
    assert asked == ["--what=sleep:idle", "--what=idle", "--what=idle"], "what was refused is not asked for each time"
    held.awake.close()


def test_without_any_program_work_goes_on_and_it_is_said_once() -> None:
    held = Held(list)
    assert [held.look(RUN) for _ in range(3)] == [False] * 3
    assert held.told == ["awake.impossible"]
    assert not held.look(IDLE, 60)
    assert not held.look(RUN)
    assert held.told == ["awake.impossible"]


def test_a_program_that_cannot_be_started_is_a_problem_too(tmp_path: Path) -> None:
    held = Held(lambda: [Way("caffeinate", "idle sleep", (str(tmp_path / "missing"),))])
    assert not held.look(RUN)
    assert "No such file" in held.awake.holding.problem


def test_the_ways_of_each_system(tmp_path: Path, programs: Inhibitors) -> None:
    assert ways("darwin", {}, str(tmp_path / "none")) == []
    programs.caffeinate()
    (mac,) = ways("darwin", {}, str(programs.caffeinate_path))
    assert mac.argv[1:] == ("-i", "-w", str(os.getpid())), "never -d: the display may sleep"
    programs.systemd()
    both = ways("linux", {"PATH": str(programs.folder)})
    assert [each.what for each in both] == ["sleep:idle", "idle"]
    assert {each.argv[0] for each in both} == {str(programs.folder / "systemd-inhibit")}
    assert awake.CAFFEINATE == "/usr/bin/caffeinate"


HOLDER = """
import sys, time
from syncd.awake import Awake, ways
from syncd.core.wakefulness import Work
find = lambda: ways(sys.argv[1], {"PATH": sys.argv[2]}, sys.argv[2] + "/caffeinate")
Awake(lambda *_, **__: None, lambda: "now", find=find).look(Work(("work",)))
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_kill_9_leaves_none_behind(platform: str, programs: Inhibitors) -> None:
    programs.systemd()
    programs.caffeinate()
    argv = [sys.executable, "-c", HOLDER, platform, str(programs.folder)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=Path(awake.__file__).parents[1]) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        programs.until_living(1)
        holder.kill()
        holder.wait(10)
    programs.until_living(0)


def test_a_secret_in_our_environment_is_not_in_the_childs(
    held: Held, programs: Inhibitors, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/proc/self/environ").exists():
        pytest.skip("no /proc")
    monkeypatch.setenv("MONGO_URI", "mongodb://u:hush@h/")
    assert held.look(RUN)
    programs.until_living(1)
    ((pid, _),) = programs.started()
    assert b"hush" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_the_real_systemd_inhibit_without_logind_is_a_problem_that_is_said() -> None:
    program = shutil.which("systemd-inhibit")
    if program is None or os.path.exists("/run/dbus/system_bus_socket"):
        pytest.skip("systemd-inhibit is not there, or a system bus is")
    held = Held(lambda: ways("linux"))
    assert not held.look(RUN)
    assert "Failed to connect to bus" in held.awake.holding.problem
