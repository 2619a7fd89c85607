"""syncd doctor about keep_awake: it tries, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

from syncd.awake import ways
from syncd.doctor.awake import check_awake
from syncd.doctor.checks import Level
from tests.support.daemon import Host, put
from tests.support.inhibitors import Inhibitors


def test_it_tries_and_leaves_nothing_behind(tmp_path: Path) -> None:
    programs = Inhibitors(tmp_path / "programs")
    programs.systemd()
    env = {"PATH": str(programs.folder)}
    (check,) = check_awake(wanted=True, find=lambda: ways("linux", env))
    assert (check.status, check.name) == (Level.OK, "keep awake")
    assert "holds this machine from sleep:idle" in check.seen
    programs.systemd(refuse=["sleep"])
    (check,) = check_awake(wanted=True, find=lambda: ways("linux", env))
    assert check.status is Level.OK
    assert "is not stopped" in check.seen
    programs.systemd(refuse=["sleep", "idle"])
    (check,) = check_awake(wanted=True, find=lambda: ways("linux", env))
    assert check.status is Level.WARN
    assert "Access denied" in check.seen
    assert programs.living() == 0


def test_a_mac_has_its_own_program(tmp_path: Path) -> None:
    programs = Inhibitors(tmp_path / "programs")
    programs.caffeinate()
    (check,) = check_awake(wanted=True, find=lambda: ways("darwin", {}, str(programs.caffeinate_path)))
    assert "caffeinate holds this machine from idle sleep" in check.seen
    assert programs.living() == 0


def test_nothing_is_tried_where_nobody_wants_it() -> None:
    assert check_awake(wanted=False, find=lambda: 1 / 0) == []  # type: ignore[arg-type, return-value]


def test_the_command_says_it(tmp_path: Path) -> None:
    put(tmp_path / "source", "x.jpg", b"x")
    host = Host(tmp_path)
    host.add_mirror("M", f"file://{tmp_path}/source", tmp_path / "data" / "M")
    assert "keep awake" not in host("doctor").out
    host.host_table += "\nkeep_awake = true"
    host.write()
    assert "keep awake" in host("doctor").out
