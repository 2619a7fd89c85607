"""The frame of the command line: help, exit codes, errors, and what start-up must not import."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncd import __version__
from syncd.cli import frame, main
from syncd.cli.main import VERBS, Verb
from syncd.core.errors import ConfigError, DiskFull, SourceAuthFailed

HEAVY = (
    "smbprotocol",
    "spnego",
    "paramiko",
    "nsq",
    "tornado",
    "pymongo",
    "structlog",
    "rich",
    "apscheduler",
    "watchdog",
)
CONFIG = '[[mirror]]\nname = "B"\nsource = "file://./share"\ntarget = "data"\n[host]\nstate_dir = "state"\n'

Run = Callable[..., int]


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Run], None]]:
    """Register a verb `probe` that does what the test says."""

    def register(run: Run, *, needs_settings: bool = True) -> None:
        module = types.ModuleType("syncd.cli.probe")
        module.configure = _configure  # type: ignore[attr-defined]
        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "syncd.cli.probe", module)
        monkeypatch.setitem(
            VERBS, "probe", Verb("Test", "syncd.cli.probe", "do as the test says", needs_settings=needs_settings)
        )

    yield register
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--deep", action="store_true")
    frame.describe(parser, "Probe.", ["syncd probe"], [0, 13])


def syncd(*argv: str, env: dict[str, str] | None = None, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "syncd", *argv],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **(env or {})},
        check=False,
        **more,  # type: ignore[call-overload]
    )


# --- start-up --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["main.main(['--help'])", "main.main(['--version'])", "main.main([])"])
def test_help_imports_nothing_heavy(code: str) -> None:
    heavy = f"[m for m in {(*HEAVY, 'argparse', 'typing', 're', 'pathlib')!r} if m in sys.modules]"
    script = f"import sys; from syncd.cli import main; {code}; sys.exit(repr({heavy}) if {heavy} else 0)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_loading_the_settings_imports_nothing_heavy(config_file: Path) -> None:
    heavy = f"[m for m in {HEAVY!r} if m in sys.modules]"
    load = f"config.load(pathlib.Path({str(config_file)!r}))"
    script = f"import sys, pathlib; from syncd import config; {load}; sys.exit(repr({heavy}) if {heavy} else 0)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


# --- help and usage --------------------------------------------------------------------------------------------------


def test_help_lists_every_verb_and_an_example() -> None:
    done = syncd("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    for name, entry in VERBS.items():
        assert f"  {name:<10} {entry.about}\n" in done.stdout
    assert "Example:" in done.stdout
    assert syncd("help").stdout == done.stdout


def test_version() -> None:
    assert syncd("--version").stdout == f"syncd {__version__}\n"


def test_no_command_is_a_usage_error() -> None:
    done = syncd()
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage:" in done.stderr


def test_unknown_command_suggests_the_nearest() -> None:
    done = syncd("statsu")
    assert done.returncode == 2
    assert done.stderr == 'error: there is no command "statsu"; did you mean "status"?\n  next: syncd --help\n'


def test_help_of_an_unknown_command_is_no_help_of_all() -> None:
    done = syncd("help", "statsu")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == 'error: there is no command "statsu"; did you mean "status"?\n  next: syncd --help\n'
    assert syncd("help", "--help").stdout == syncd("--help").stdout


@pytest.mark.parametrize(
    "words",
    [
        ["approve", "--yes", "--mirror", ""],
        ["trash", "purge", "--yes", "--mirror="],
        ["remote", "approve", "--all", "--yes", "--mirror", ""],
        ["announce", "--all", "--mirror", ""],
        ["manifest", "--mirror", ""],
        ["doctor", "--mirror", ""],
        ["pause", "--for", ""],
    ],
)
def test_an_empty_value_is_no_wish_for_everything(
    words: list[str], config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["-c", str(config_file), *words]) == 2
    assert f"argument {words[-1].removesuffix('=') or words[-2]}: is empty" in capsys.readouterr().err


def test_what_is_no_percentage_is_said(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["-c", str(config_file), "verify", "--sample", "half"]) == 2
    assert "half is no percentage from 1% to 100%" in capsys.readouterr().err


def test_a_mirror_without_a_password_has_none_to_replace(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["-c", str(config_file), "secret", "B"]) == 2
    assert "error: B has no password" in capsys.readouterr().err


@pytest.mark.parametrize("name", VERBS)
def test_each_verb_s_help_has_an_example_and_its_exit_codes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip(VERBS[name].module, reason="this verb is not written yet", exc_type=ImportError)
    assert main.main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"usage: syncd {name}" in shown
    assert f"Examples:\n  syncd {name}" in shown or f"| syncd {name}" in shown
    assert "Exit codes:\n    0  done\n" in shown
    assert main.main(["help", name]) == 0
    assert capsys.readouterr().out == shown


def test_an_unknown_argument_is_exit_2(verb: Callable[[Run], None], config_file: Path) -> None:
    verb(lambda _args, _settings: 0)
    assert main.main(["-c", str(config_file), "probe", "--nope"]) == 2
    assert main.main(["-c", str(config_file), "probe", "--de"]) == 2


@pytest.mark.parametrize("form", ["-c {} probe", "probe -c {}", "--config={} probe", "-c{} probe", "probe --config {}"])
def test_the_file_is_named_before_or_after_the_verb(form: str, verb: Callable[[Run], None], config_file: Path) -> None:
    seen = []

    def run(args: argparse.Namespace, settings: object) -> int:
        seen.append((args.config, settings.path))  # type: ignore[attr-defined]
        return 7

    verb(run)
    assert main.main(form.format(config_file).split(" ")) == 7
    assert seen == [(config_file, config_file)]


def test_config_option_without_a_file() -> None:
    assert main.main(["-c"]) == 2


def test_the_file_of_the_environment_is_used(
    verb: Callable[[Run], None], config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNCD_CONFIG", str(config_file))
    verb(lambda _args, settings: 0 if settings.path == config_file else 9)
    assert main.main(["probe"]) == 0


# --- errors ----------------------------------------------------------------------------------------------------------


def test_configuration_problems_are_listed_one_a_line(
    verb: Callable[[Run], None], config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verb(lambda _args, _settings: 0)
    config_file.write_text(CONFIG + "[nsq]\ntopik = 5\n[foo]\n")
    assert main.main(["-c", str(config_file), "probe"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"error: the configuration {config_file} has 2 problems",
        f'  - {config_file}: unknown table "foo"; known are host, mirror, nsq, mongo, api, worker, alerts, hosts',
        f'  - {config_file}: nsq: unknown key "topik"; did you mean "topic"?',
    ]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SourceAuthFailed("login refused for \x1b[31mu", hint="syncd secret B\nsyncd doctor"), 12),
        (DiskFull("no space"), 14),
        (ConfigError("bad", hint="syncd init"), 2),
    ],
)
def test_an_error_says_what_and_what_next(
    error: Exception, code: int, verb: Callable[[Run], None], config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verb(_raising(error))
    assert main.main(["-c", str(config_file), "probe"]) == code
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert "\x1b" not in shown
    hints = error.hint.splitlines()  # type: ignore[attr-defined]
    nexts = [f"  next: {h}" if h == "syncd init" else f"  next: {h} -c {config_file}" for h in hints]
    assert [line for line in shown.splitlines() if line.startswith("  next: ")] == nexts


def _raising(error: BaseException) -> Run:
    def run(_args: object, _settings: object) -> int:
        raise error

    return run


def test_ctrl_c_and_sigterm(verb: Callable[[Run], None], config_file: Path) -> None:
    verb(_raising(KeyboardInterrupt()))
    assert main.main(["-c", str(config_file), "probe"]) == 130
    cleaned = []

    def run(_args: object, _settings: object) -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            cleaned.append(True)
        return 0

    verb(run)
    assert main.main(["-c", str(config_file), "probe"]) == 143
    assert cleaned == [True]


def test_a_bug_is_one_line_and_a_file_without_secrets(
    verb: Callable[[Run], None], config_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from syncd.config import secrets as config_secrets

    monkeypatch.delenv("SYNCD_DEBUG", raising=False)
    monkeypatch.setattr(config_secrets, "_revealed", {"s3cr3t-value"})
    state = config_file.parent / "state"
    state.mkdir()
    for n in range(12):
        (state / f"crash-2020010{n:02}.txt").touch()
    verb(_raising(KeyError("s3cr3t-value")))
    assert main.main(["-c", str(config_file), "probe"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert "this is a bug" in err
    assert "s3cr3t" not in err
    kept = sorted(state.glob("crash-*.txt"))
    assert len(kept) == 10
    assert str(kept[-1]) in err
    assert kept[-1].stat().st_mode & 0o777 == 0o600
    text = kept[-1].read_text()
    assert "KeyError: '***'" in text


def test_a_bug_without_a_state_directory_shows_its_traceback(
    verb: Callable[[Run], None], config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verb(_raising(KeyError("x")))
    assert main.main(["-c", str(config_file), "probe"]) == 1
    assert "Traceback" in capsys.readouterr().err
    assert not (config_file.parent / "state").exists()


def test_debug_shows_the_traceback(
    verb: Callable[[Run], None], config_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNCD_DEBUG", "1")
    (config_file.parent / "state").mkdir()
    verb(_raising(KeyError("x")))
    assert main.main(["-c", str(config_file), "probe"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_closed_pipe_is_quiet() -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "syncd", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    errors = child.stderr.read()
    child.stderr.close()
    assert child.wait(60) == 141
    assert errors == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_output_that_cannot_be_written_is_an_error() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "syncd", "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 14
    assert done.stderr == "error: the output cannot be written: No space left on device\n"


def test_a_name_that_the_terminal_cannot_show_is_escaped(config_file: Path) -> None:
    done = syncd(
        "-c", "/nowhere/हिन्दी.toml", "secret", "x", env={"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    )
    assert done.returncode == 2
    assert "\\u" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_configuration_names_the_next_step(tmp_path: Path) -> None:
    done = syncd("secret", "B", env={"HOME": str(tmp_path), "SYNCD_CONFIG": ""})
    assert done.returncode == 2
    assert "there is no configuration file at " + str(tmp_path) in done.stderr
    assert "  next: syncd" in done.stderr
    assert "init" in done.stderr
