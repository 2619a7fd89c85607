"""install.sh in a home of its own: shown first, installed for real, taken away without touching what is mirrored."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.require import require

SCRIPT = Path(__file__).resolve().parents[2] / "install.sh"


class Home:
    """A user's home folder, and the script run in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bin = path / ".local" / "bin"

    def script(self, *words: str, said: str = "", path: str = "") -> subprocess.CompletedProcess[str]:
        cache = os.environ.get("PIP_CACHE_DIR") or str(Path.home() / ".cache" / "pip")
        env = {"HOME": str(self.path), "PATH": path or os.environ["PATH"], "PIP_CACHE_DIR": cache}
        argv = ["/bin/sh", str(SCRIPT), *words]
        return subprocess.run(argv, input=said, env=env, capture_output=True, text=True, check=False, timeout=380)

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.path)) for path in self.path.rglob("*"))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_it_is_clean_for_shellcheck() -> None:
    argv = [require("shellcheck", "shellcheck"), "-s", "sh", str(SCRIPT)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == ""


def test_a_dry_run_shows_the_steps_and_writes_nothing(home: Home) -> None:
    done = home.script("--dry-run", "--python", sys.executable)
    assert done.returncode == 0
    assert all(f"  {step}. " in done.stdout for step in (1, 2, 3))
    assert home.files() == []


@pytest.mark.parametrize("answer", ["", "n\n"])
def test_without_a_yes_nothing_happens(home: Home, answer: str) -> None:
    done = home.script("--python", sys.executable, said=answer)
    assert (done.returncode, home.files()) == (0, [])
    assert "Nothing was changed." in done.stdout


def test_an_old_python_alone_is_enough_for_the_plan(home: Home, tmp_path_factory: pytest.TempPathFactory) -> None:
    """macOS has Python 3.9 and nothing else: uv is to fetch a newer one."""
    old = tmp_path_factory.mktemp("old") / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")  # what a Python below 3.11 answers to the question
    old.chmod(0o755)
    for tool in ("dirname", "uname", "sed", "date"):
        (old.parent / tool).symlink_to(require(tool, "coreutils"))
    done = home.script("--dry-run", path=str(old.parent))
    assert done.returncode == 0, done.stderr
    assert "fetch Python 3.12 with uv" in done.stdout
    assert home.files() == []


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["--nonsense"], 2, "usage:"),
        (["--prefix", "relative"], 1, "absolute"),
        (["--prefix"], 1, "needs a value"),
        (["--python", "/bin/false"], 1, "3.11"),
        (["--uninstall"], 1, "not installed"),
    ],
)
def test_wrong_words_are_said(home: Home, words: list[str], code: int, named: str) -> None:
    done = home.script(*words)
    assert done.returncode == code
    assert named in done.stderr
    assert home.files() == []


@pytest.mark.timeout(400)
def test_installed_run_and_taken_away(home: Home) -> None:
    done = home.script("--yes", "--python", sys.executable)
    assert done.returncode == 0, done.stderr
    for program in ("syncd", "worker-glue"):
        env = {"HOME": str(home.path), "PATH": "/usr/bin:/bin"}
        argv = [str(home.bin / program), "--version"]
        assert subprocess.run(argv, env=env, check=False, timeout=60, capture_output=True).returncode == 0
    mirrored = home.path / "data" / "Bhushanji" / "letter.pdf"
    mirrored.parent.mkdir(parents=True)
    mirrored.write_bytes(b"x")
    state = home.path / ".local" / "state" / "syncd"
    state.mkdir(parents=True)
    (home.bin / "mine").write_text("x")

    assert home.script("--uninstall", "--dry-run").returncode == 0
    assert (home.bin / "syncd").exists()
    done = home.script("--uninstall", "--yes")
    assert done.returncode == 0, done.stderr
    assert not (home.bin / "syncd").exists() and (home.bin / "mine").exists()
    assert not (home.path / ".local" / "share" / "syncd").exists()
    assert state.exists() and mirrored.exists()
    done = home.script("--uninstall", "--purge", "--yes")
    assert done.returncode == 0, done.stderr
    assert not state.exists() and mirrored.exists()


def test_a_program_of_somebody_else_is_left_alone(home: Home) -> None:
    home.bin.mkdir(parents=True)
    (home.bin / "syncd").write_text("mine")
    done = home.script("--yes", "--python", sys.executable)
    assert done.returncode == 1
    assert "--bin" in done.stderr
    assert (home.bin / "syncd").read_text() == "mine"
    assert not (home.path / ".local" / "share").exists()


def test_a_mirror_inside_of_what_would_go_stops_it(home: Home) -> None:
    owner = home.path / ".local" / "state" / "syncd" / "data" / ".syncd" / "owner"
    owner.parent.mkdir(parents=True)
    owner.write_text("{}")
    done = home.script("--uninstall", "--purge", "--yes")
    assert done.returncode == 1
    assert "there is a mirror in" in done.stderr
    assert owner.exists()
