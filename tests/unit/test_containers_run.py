"""What the containers' suite says and returns when time is short, or when the machine cannot hold containers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.support import containers_run
from tests.support.containers_images import BaseFailed

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def asked() -> list[Sequence[str]]:
    """What pytest was asked for."""
    return []


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], asked: list[Sequence[str]]
) -> Callable[..., tuple[int, str]]:
    """Run the command on a machine that can, where images are there and tests pass, but for what is given."""

    def pytest_runs(arguments: Sequence[str], limit_s: float) -> int | None:
        asked.append(arguments)
        return 0

    def run(*argv: str, **parts: object) -> tuple[int, str]:
        usual = {"trouble": str, "cached": lambda: True, "make_base": id, "build_images": id, "_pytest": pytest_runs}
        for name, part in {**usual, **parts}.items():
            monkeypatch.setattr(containers_run, name, part)
        monkeypatch.setattr(sys, "argv", ["containers_run", *argv])
        code = containers_run.main()
        return code, capsys.readouterr().out.splitlines()[-1]

    return run


def failing(error: Exception) -> Callable[[object], None]:
    def fail(_timeout_s: object) -> None:
        raise error

    return fail


def test_all_of_it_where_there_is_time(run: Run, asked: list[Sequence[str]]) -> None:
    for argv in ((), ("--left", "700")):
        code, said = run(*argv, "-x")
        assert (code, asked.pop()) == (0, ["-x"])
        assert said.startswith("containers: passed: the whole suite")


def test_one_job_only_where_time_is_short(run: Run, asked: list[Sequence[str]]) -> None:
    code, said = run("--left", "150")
    assert (code, asked) == (0, [["-k", containers_run.JOB]])
    assert "one job only, since 1" in said


@pytest.mark.parametrize("left", ["50", "0", "-30"])
def test_nothing_where_there_is_no_time(run: Run, asked: list[Sequence[str]], left: str) -> None:
    code, said = run("--left", left)
    assert (code, asked) == (0, [])
    assert said.startswith("CONTAINERS NOT TESTED: ") and " s are left" in said


def test_nothing_where_images_take_the_time_that_is_left(run: Run, asked: list[Sequence[str]]) -> None:
    code, said = run("--left", "150", cached=lambda: False)
    assert (code, asked) == (0, [])
    assert said.startswith("CONTAINERS NOT TESTED: ")


def test_a_machine_that_cannot_is_no_failure_in_ci_and_one_by_hand(run: Run, asked: list[Sequence[str]]) -> None:
    for argv, code in ((("--left", "700"), 0), ((), 1)):
        said = run(*argv, trouble=lambda: "podman's networks need root")
        assert said[0] == code
        assert "CONTAINERS NOT TESTED: this machine cannot hold them: podman's networks need root" in said[1]
    assert not asked


def test_no_network_for_the_base_image_is_no_failure(run: Run) -> None:
    for part in (
        {"make_base": failing(BaseFailed("E: Failed to fetch"))},
        {"build_images": failing(subprocess.TimeoutExpired("podman", 300))},
    ):
        code, said = run("--left", "700", **part)
        assert (code, said[:21]) == (0, "CONTAINERS NOT TESTED")


def test_failures_fail(run: Run) -> None:
    for part in (
        {"_pytest": lambda _arguments, _limit_s: 1},
        {"_pytest": lambda _arguments, _limit_s: None},
        {"build_images": failing(AssertionError("podman build: exit 1"))},
    ):
        code, said = run("--left", "700", **part)
        assert code == 1
        assert said.startswith("containers: failed")


def test_a_suite_that_hangs_is_stopped_and_takes_its_projects_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tests" / "containers"
    folder.mkdir(parents=True)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_hangs.py").write_text(
        "import os, pathlib, pytest, time\n"
        "@pytest.fixture\n"
        "def project():\n"
        "    yield\n"
        "    pathlib.Path('ended').write_text(os.environ['SYNCD_CONTAINERS'])\n"
        "def test_hangs(project):\n"
        "    pathlib.Path('began').touch()\n"
        "    time.sleep(600)\n"
    )
    removed: list[str] = []
    monkeypatch.setattr(containers_run, "ROOT", tmp_path)
    monkeypatch.setattr(containers_run, "remove", removed.append)
    limit_s = 2.0
    while not (tmp_path / "began").exists() and limit_s < 60:  # a busy machine: once more, with more time
        limit_s *= 2
        assert containers_run._pytest([], limit_s) is None
    assert (tmp_path / "ended").read_text() == removed[-1]
