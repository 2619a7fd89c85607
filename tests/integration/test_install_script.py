"""install.sh in a home of its own: shown first, installed for real, taken away without touching what is mirrored."""

from __future__ import annotations

import os
import re
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
        (["--bin", "my bin"], 1, f"  next: --bin '{Path.cwd()}/my bin'"),
        (["--bin", ""], 1, "absolute"),
        (["--prefix"], 1, "needs a value"),
        (["--python", "/bin/false"], 1, "3.11"),
        (["--uninstall"], 1, "not installed"),
        (["--purge", "--yes"], 1, "goes with --uninstall"),
    ],
)
def test_wrong_words_are_said(home: Home, words: list[str], code: int, named: str) -> None:
    done = home.script(*words)
    assert done.returncode == code
    assert named in done.stderr
    assert home.files() == []


def test_the_help_names_every_option(home: Home) -> None:
    done = home.script("--help")
    options = {word for line in SCRIPT.read_text().splitlines() for word in re.findall(r"^ +(--[a-z]+)\)", line)}
    assert done.returncode == 0
    assert len(options) >= 4
    assert [each for each in {*options, "--prefix", "--bin", "--python"} if f"\n  {each} " not in done.stdout] == []


@pytest.mark.timeout(400)
def test_installed_run_and_taken_away(home: Home) -> None:
    unit = home.path / ".config" / "systemd" / "user" / "syncd.service"
    unit.parent.mkdir(parents=True)
    unit.write_text(f"# Installed by: syncd service install\n[Service]\nExecStart={home.bin}/syncd run\n")
    done = home.script("--yes", "--python", sys.executable)
    assert done.returncode == 0, done.stderr
    assert "systemctl --user restart syncd" in done.stdout, "a service that is there runs what was there before"
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

    shown = home.script("--uninstall", "--dry-run")
    assert shown.returncode == 0
    assert f"  the service syncd, {unit}\n" in shown.stdout
    assert (home.bin / "syncd").exists()
    done = home.script("--uninstall", "--yes")
    assert done.returncode == 0, done.stderr
    assert not (home.bin / "syncd").exists() and (home.bin / "mine").exists()
    assert not (home.path / ".local" / "share" / "syncd").exists()
    assert state.exists() and mirrored.exists()
    done = home.script("--uninstall", "--purge", "--yes")
    assert done.returncode == 0, done.stderr
    assert not state.exists() and mirrored.exists()


@pytest.fixture
def played_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python whose environments hold programs that do nothing: what is installed needs no network."""
    python = tmp_path_factory.mktemp("python") / "python3"
    python.write_text(
        '#!/bin/sh\n[ "$1" = -m ] || exit 0\nmkdir -p "$3/bin"\n'
        "for each in python syncd worker-glue; do\n"
        '  printf "#!/bin/sh\\n" > "$3/bin/$each"; chmod +x "$3/bin/$each"\n'
        "done\n"
    )
    python.chmod(0o755)
    return python


@pytest.mark.parametrize(("configured", "step"), [(False, "init"), (True, "doctor")])
def test_the_next_step_can_be_typed(home: Home, played_python: Path, configured: bool, step: str) -> None:
    """`syncd init` refuses to write over a configuration that is there, as after an upgrade."""
    if configured:
        (home.path / ".config" / "syncd").mkdir(parents=True)
        (home.path / ".config" / "syncd" / "config.toml").touch()
    done = home.script("--yes", "--python", str(played_python))
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if "next: " in line] == [f"  next: {home.bin}/syncd {step}"]


def test_in_a_home_with_a_space_what_is_said_can_be_typed(tmp_path: Path, played_python: Path) -> None:
    home = Home(tmp_path / "Tod's $HOME")
    home.path.mkdir()
    done = home.script("--yes", "--python", str(played_python))
    assert done.returncode == 0, done.stderr
    profile = done.stdout.partition("add to its profile  ")[2].splitlines()[0]
    steps = [line.partition(": ")[2] for line in done.stdout.splitlines() if line.startswith(("  next: ", "  then: "))]
    for typed in (*steps, f"{profile}; command -v syncd"):
        ran = subprocess.run(["/bin/sh", "-c", typed], capture_output=True, text=True, check=False, timeout=60)
        assert ran.returncode == 0, ran.stderr
    assert ran.stdout == f"{home.bin}/syncd\n"


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


# --- a Mac, played: what macOS brings and what it does not

TOOLS = (
    "cat",
    "chmod",
    "date",
    "dirname",
    "find",
    "grep",
    "head",
    "id",
    "ln",
    "mkdir",
    "readlink",
    "rm",
    "rmdir",
    "sed",
)
PLIST = """<?xml version="1.0"?>
<!-- Installed by: syncd service install -->
<plist version="1.0"><dict><key>ProgramArguments</key><array><string>{program}</string></array></dict></plist>
"""


class Mac:
    """Programs of a Mac in a folder of their own; each writes down how it was called."""

    def __init__(self, folder: Path, home: Home) -> None:
        self.home = home
        self.folder = folder
        self.calls = folder / "calls"
        for tool in TOOLS:
            (folder / tool).symlink_to(require(tool, "coreutils"))
        self.program("uname", 'case "${1:-}" in -m) echo arm64 ;; *) echo Darwin ;; esac')
        self.program("xcode-select", "exit 2")
        self.program(
            "curl", 'for word; do case "$before" in --output) echo wheel > "$word" ;; esac; before=$word; done'
        )
        self.program("shasum", f"echo '{self.pinned} '" + ' "$3"')
        self.program("unzip", f'for word; do folder=$word; done; cp_={folder}/uv-program; cat "$cp_" > "$folder/uv"')
        (folder / "uv-program").write_text(
            "#!/bin/sh\n"
            f'echo uv "$@" >> {self.calls}\n'
            'while [ "$1" != --install-dir ]; do shift; done\n'
            'mkdir -p "$2/cpython-3.12/bin"\n'
            f'printf "#!/bin/sh\\necho python \\$* >> {self.calls}; exit 1\\n" > "$2/cpython-3.12/bin/python3"\n'
            'chmod +x "$2/cpython-3.12/bin/python3"\n'
        )

    @property
    def pinned(self) -> str:
        """The SHA-256 of uv that the script has for this kind of Mac."""
        return next(
            line.partition("=")[2].strip('"') for line in SCRIPT.read_text().splitlines() if "UV_ARM64_SUM=" in line
        )

    def program(self, name: str, does: str) -> None:
        (self.folder / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {self.calls}\nbefore=\n{does}\n')
        (self.folder / name).chmod(0o755)

    def script(self, *words: str, more: str = "") -> subprocess.CompletedProcess[str]:
        return self.home.script(*words, path=f"{self.folder}{more}")

    def called(self, name: str) -> list[str]:
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [line for line in lines if line.split()[0] == name]


@pytest.fixture
def mac(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Mac:
    return Mac(tmp_path_factory.mktemp("mac"), home)


def test_a_mac_without_any_python_gets_one_by_what_macos_brings(mac: Mac) -> None:
    """No developer tools, which only an admin can install: so neither python3, nor pip, nor git."""
    done = mac.script("--yes")
    assert "  1. fetch Python 3.12 with uv into " in done.stdout
    (asked,) = mac.called("curl")
    assert "https://files.pythonhosted.org/packages/" in asked
    assert asked.endswith("macosx_11_0_arm64.whl")
    (installed,) = mac.called("uv")
    assert "python install" in installed
    assert "--no-bin" in installed, "else it writes into ~/.local/bin"
    assert "--no-cache" in installed, "else it writes into ~/.cache"
    assert [call.split()[1:3] for call in mac.called("python")][-1] == ["-m", "venv"], "with the one that was fetched"
    assert "cannot make a virtual environment" in done.stderr
    assert not [name for name in mac.home.files() if "/uv" in name]


def test_uv_that_is_not_uv_is_not_run(mac: Mac) -> None:
    mac.program("shasum", f"echo '{'0' * 64} '" + ' "$3"')
    done = mac.script("--yes")
    assert done.returncode == 1
    assert "SHA-256 is another" in done.stderr
    assert mac.called("unzip") == mac.called("uv") == []
    assert not [name for name in mac.home.files() if name.endswith(".whl")]


def test_the_python3_that_only_asks_for_developer_tools_is_not_called(mac: Mac) -> None:
    if not Path("/usr/bin/python3").exists():
        pytest.skip("there is no /usr/bin/python3")
    done = mac.script("--dry-run", more=":/usr/bin:/bin")
    assert "fetch Python" in done.stdout
    mac.program("xcode-select", "echo /Library/Developer/CommandLineTools")
    done = mac.script("--dry-run", more=":/usr/bin:/bin")
    assert "use /usr/bin/python3" in done.stdout


def test_what_goes_from_a_mac_is_listed_with_the_service_and_the_logs(mac: Mac) -> None:
    home = mac.home
    agents, logs = home.path / "Library" / "LaunchAgents", home.path / "Library" / "Logs" / "syncd"
    for folder in (agents, logs, home.path / ".local" / "share" / "syncd" / "versions" / "1"):
        folder.mkdir(parents=True)
    (agents / "local.syncd.plist").write_text(PLIST.format(program=home.bin / "syncd"))
    (agents / "local.other.plist").write_text(PLIST.format(program="/opt/syncd/bin/syncd"))
    (agents / "com.example.plist").write_text(f"<string>{home.bin}/syncd</string>")
    shown = mac.script("--uninstall", "--purge", "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert f"  the service syncd, {agents}/local.syncd.plist\n" in shown.stdout
    assert f"  {logs} (logs)\n" in shown.stdout
    assert "local.other" not in shown.stdout, "another installation's"
    assert "com.example" not in shown.stdout, "not written by syncd"
    assert logs.exists()
