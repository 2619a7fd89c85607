"""dev.py in CI: tests that failed beside others are run once more, alone; and what its last lines say then."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
STEADY = "def test_steady():\n    pass\n"
UNSTEADY = """
def test_unsteady{number}(pytestconfig):
    assert not hasattr(pytestconfig, "workerinput"), "shared cores"
"""
BROKEN = "def test_broken():\n    assert 1 == 2, 'broken'\n"


@pytest.fixture
def dev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """dev.py, in a checkout that has nothing but tests."""
    spec = importlib.util.spec_from_file_location("dev_of_a_test", ROOT / "dev.py")
    assert spec is not None and spec.loader is not None
    dev = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(dev)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr(dev, "ROOT", tmp_path)
    monkeypatch.setattr(dev, "PYTHON", sys.executable)
    monkeypatch.setattr(dev, "workers", lambda: 2)
    return dev


SERVERLESS = """
import pytest


@pytest.fixture(scope="module")
def server(pytestconfig):
    assert not hasattr(pytestconfig, "workerinput"), "shared cores"
"""


def holding(folder: Path, *tests: str) -> None:
    (folder / "test_tiny.py").write_text("\n".join(tests))


def test_a_test_that_passes_alone_is_named_in_the_last_lines(
    dev: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    holding(tmp_path, STEADY, UNSTEADY.format(number=1))
    code, last = dev.run_tests([])
    assert code == 0
    assert last[0].startswith("UNSTEADY, passed when run alone: FAILED test_tiny.py::test_unsteady1 - AssertionError")
    assert "shared cores" in last[0]
    assert "1 failed, 1 passed" in last[1]
    assert last[0] in capfd.readouterr().out.splitlines()[-1]


def test_a_server_that_did_not_start_beside_others_fails_no_module_of_tests(dev: ModuleType, tmp_path: Path) -> None:
    many = 2 * dev.MOST_UNSTEADY
    holding(tmp_path, SERVERLESS, *(f"def test_asks{number}(server):\n    pass\n" for number in range(many)))
    code, last = dev.run_tests([])
    assert code == 0
    assert len([line for line in last if line.startswith("UNSTEADY, passed when run alone: ERROR ")]) == many


def test_a_test_that_fails_alone_too_fails_the_run(dev: ModuleType, tmp_path: Path) -> None:
    holding(tmp_path, UNSTEADY.format(number=1), BROKEN)
    code, last = dev.run_tests([])
    assert code == 1
    assert len(last) == 1
    assert "2 failed" in last[0]


@pytest.mark.parametrize("ci", [True, False])
def test_many_failures_and_failures_by_hand_are_not_run_again(
    dev: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], ci: bool
) -> None:
    for number in range(dev.MOST_UNSTEADY + ci):
        (tmp_path / f"test_tiny{number}.py").write_text(UNSTEADY.format(number=number))
    if not ci:
        monkeypatch.delenv("CI")
    assert dev.run_tests([])[0] == 1
    assert capfd.readouterr().out.count("test session starts") == 1


def test_a_run_without_failures_ends_with_its_own_summary(dev: ModuleType, tmp_path: Path) -> None:
    holding(tmp_path, STEADY)
    code, last = dev.run_tests([])
    assert code == 0
    assert "1 passed" in last[-1] and len(last) == 1


@pytest.mark.parametrize(("tests", "containers"), [(0, 0), (1, 0), (0, 1)])
def test_the_containers_come_last_with_the_time_that_is_left_and_the_summary_is_said_again(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tests: int, containers: int
) -> None:
    """Failed tests do not keep the containers from being tried, and either fails the whole."""

    def call_containers(arguments: list[str]) -> int:
        print("containers", *arguments)
        return containers

    monkeypatch.setattr(dev, "install", print)
    monkeypatch.setattr(dev, "install_for_containers", lambda: None)
    monkeypatch.setattr(dev, "check", lambda arguments: (tests, ["= 9 passed ="]))
    monkeypatch.setattr(dev, "call_containers", call_containers)
    assert dev.ci([]) == (tests or containers)
    said, errors = capfd.readouterr()
    asked, last = said.splitlines()[-2:]
    assert 0 < float(asked.removeprefix("containers --left ")) <= dev.CI_S
    assert last == "= 9 passed ="
    assert ("failed: containers" in errors) == bool(containers)
