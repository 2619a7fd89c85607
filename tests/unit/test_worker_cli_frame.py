"""worker-glue's command line: verbs, exit codes, errors, and settings with no file at all."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from syncd import __version__
from syncd.client import program
from syncd.client.program import Verb
from syncd.core.errors import ConfigError, DiskFull
from worker_glue.cli import frame, main
from worker_glue.running import ids, settings

HEAVY = ("smbprotocol", "paramiko", "nsq", "tornado", "pymongo", "structlog", "prometheus_client", "pypdfium2", "PIL")

Run = Callable[[argparse.Namespace], int]


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Run], None]]:
    """Register a verb `probe` that does what the test says."""

    def register(run: Run) -> None:
        module = types.ModuleType("worker_glue.cli.probe")
        module.configure = _configure  # type: ignore[attr-defined]
        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "worker_glue.cli.probe", module)
        monkeypatch.setitem(main.VERBS, "probe", Verb("Test", "worker_glue.cli.probe", "do as the test says"))

    yield register
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--deep", action="store_true")
    frame.describe(parser, "Probe.", ["worker-glue probe"], [0, 5])


def worker_glue(*argv: str, env: Mapping[str, str] = {}) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "worker_glue", *argv],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **env},
        check=False,
    )


# --- verbs and their help


@pytest.mark.parametrize(
    "code",
    [
        "from worker_glue.cli.main import main; main(['--help'])",
        "import worker_glue",
        "import worker_glue.running.supervisor, worker_glue.cli.run",
    ],
)
def test_starting_loads_nothing_heavy(code: str) -> None:
    program = f"import sys\n{code}\nprint(*[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.strip() == ""


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in main.VERBS)


@pytest.mark.parametrize("name", ["run", "doctor"])
def test_help_of_a_verb_has_an_example_and_the_exit_codes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"worker-glue {name}" in shown
    assert "Examples:" in shown
    for code in (0, 1, 2, 130, 143):
        assert f"  {code:>3}  {frame.EXITS[code]}" in shown


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out == f"worker-glue {__version__}\n"


def test_an_unknown_verb_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["resolv"]) == 2
    assert capsys.readouterr().err == (
        'error: there is no command "resolv"; did you mean "resolve"?\n  next: worker-glue --help\n'
    )


def test_nothing_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([]) == 2
    assert "usage: worker-glue" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv", [["-c", "F", "probe"], ["--config=F", "probe"], ["-cF", "probe"], ["probe", "-c", "F"], ["probe", "-cF"]]
)
def test_the_file_may_stand_on_either_side(verb: Callable[[Run], None], argv: list[str]) -> None:
    seen: list[Path | None] = []

    def look(args: argparse.Namespace) -> int:
        seen.append(args.config)
        return 5

    verb(look)
    assert main.main(argv) == 5
    assert seen == [Path("F").absolute()]


# --- errors


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigError("c", problems=["p"], hint="h"), 2, "error: c\n  - p\n  next: h\n"),
        (DiskFull("full", hint="one\ntwo"), 14, "error: full\n  next: one\n  next: two\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (SystemExit(143), 143, ""),
        (BrokenPipeError(), 141, ""),
    ],
)
def test_an_error_is_a_message_and_an_exit_code(
    verb: Callable[[Run], None],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    said: str,
) -> None:
    def fail(_: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(program, "_drop", lambda descriptor: None)
    verb(fail)
    assert main.main(["probe"]) == code
    assert capfd.readouterr().err == said


def test_a_bug_is_one_line_unless_asked_for_more(
    verb: Callable[[Run], None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: argparse.Namespace) -> int:
        raise ZeroDivisionError

    verb(fail)
    assert main.main(["probe"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "ZeroDivisionError" in lines[0]
    monkeypatch.setenv("SYNCD_DEBUG", "1")
    assert main.main(["probe"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_sigterm_ends_a_verb_with_143(verb: Callable[[Run], None]) -> None:
    def wait(_: argparse.Namespace) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    verb(wait)
    assert main.main(["probe"]) == 143


# --- settings


def test_no_file_is_needed(tmp_path: Path) -> None:
    env = {
        "HOME": str(tmp_path),
        "NSQD_ADDRESS": "nsqd-proxy:4150",
        "NSQLOOKUPD_ADDRESSES": "http://nsqlookupd-proxy:4161",
        "MONGO_URI": "mongodb://u:p@mongodb-proxy/gvpocr",
        "WORKER_ID": "tod-mac-1",
    }
    found = settings.load(None, env)
    assert [str(each) for each in found.nsq.nsqd] == ["nsqd-proxy:4150"]
    assert [str(each) for each in found.nsq.lookupd] == ["nsqlookupd-proxy:4161"]
    assert found.mongo.uri is not None
    assert found.mongo.uri.reveal() == env["MONGO_URI"]
    assert found.worker.id == "tod-mac-1"
    assert found.host.state_dir == tmp_path / ".local/state/syncd"
    assert found.mirrors == ()


@pytest.mark.parametrize("how", ["named", "by the environment"])
def test_a_file_that_is_named_has_to_be_there(tmp_path: Path, how: str) -> None:
    missing = tmp_path / "none.toml"
    env = {"HOME": str(tmp_path)} | ({} if how == "named" else {"SYNCD_CONFIG": str(missing)})
    with pytest.raises(ConfigError, match="there is no configuration file"):
        settings.load(missing if how == "named" else None, env)


def test_a_file_of_a_container_needs_no_mirror_and_may_name_mounts(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[worker]\nworkers = 2\n[worker.mounts]\nBhushanji = "/app/Bhushanji"\n')
    assert settings.load(file, {}).worker.mounts == {"Bhushanji": "/app/Bhushanji"}


def test_a_workers_file_needs_no_secret_of_a_mirror_but_its_own(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    mirror = '[[mirror]]\nname = "B"\nsource = "smb://u@h/s"\ntarget = "data"\npassword_file = "gone"\n'
    file.write_text(mirror)
    assert settings.load(file, {}).mirrors[0].name == "B"
    file.write_text(mirror + '[mongo]\nuri_file = "gone-too"\n')
    with pytest.raises(ConfigError) as raised:
        settings.load(file, {})
    assert "gone-too" in str(raised.value.problems)
    assert len(raised.value.problems) == 1


def test_run_says_what_is_missing(tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path), "NSQD_ADDRESS": "", "NSQLOOKUPD_ADDRESSES": "", "SYNCD_CONFIG": ""}
    done = worker_glue("run", env=env)
    assert done.returncode == 2
    assert "no nsqd to read from" in done.stderr
    assert "next: " in done.stderr


@pytest.mark.parametrize("uri", ["mongodb://u:p@ss:w@mongodb-proxy/gvpocr", "mongodb-proxy:27017", "mongodb://"])
def test_run_refuses_a_connection_string_that_no_driver_takes(tmp_path: Path, uri: str) -> None:
    env = {"HOME": str(tmp_path), "NSQD_ADDRESS": "127.0.0.1:9", "MONGO_URI": uri, "SYNCD_CONFIG": ""}
    done = worker_glue("run", env=env)
    assert done.returncode == 2
    assert "the MongoDB URI in $MONGO_URI cannot be used" in done.stderr
    assert "next: " in done.stderr
    assert "p@ss" not in done.stderr


@pytest.mark.parametrize(("name", "text"), [("SYNCD_API", "127.0.0.1:9470"), ("SYNCD_MOUNTS", "B=data/B")])
def test_run_refuses_words_that_tell_no_place_of_the_files(tmp_path: Path, name: str, text: str) -> None:
    env = {"HOME": str(tmp_path), "NSQD_ADDRESS": "127.0.0.1:9", "SYNCD_CONFIG": "", name: text}
    done = worker_glue("run", env=env)
    assert done.returncode == 2
    assert f"{name} cannot be used" in done.stderr
    assert "next: " in done.stderr


def test_run_refuses_odd_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["--workers", "0"], ["--workers", "x"], ["--grace", "-1"], ["--metrics", "nowhere"]):
        assert main.main(["run", *argv]) == 2
        assert "error: argument" in capsys.readouterr().err


# --- who the workers are


def _settings(tmp_path: Path, text: str = "", **env: str) -> settings.Settings:
    file = tmp_path / "config.toml"
    file.write_text(f'[host]\nstate_dir = "{tmp_path}"\n{text}')
    return settings.load(file, env)


def _first(found: Iterator[str], count: int) -> list[str]:
    return [next(found) for _ in range(count)]


def test_ids_are_the_hosts_name_and_a_number(tmp_path: Path) -> None:
    assert _first(ids.candidates(_settings(tmp_path, 'name = "tod-mac"'), 3), 3) == [
        "tod-mac-1",
        "tod-mac-2",
        "tod-mac-3",
    ]


def test_the_name_that_the_daemon_fixed_counts_before_the_machines(tmp_path: Path) -> None:
    (tmp_path / "host.json").write_text('{"id": "i", "name": "fixed", "machine": ""}')
    assert ids.host_name(_settings(tmp_path)) == "fixed"
    (tmp_path / "host.json").write_text("[1]")
    assert ids.host_name(_settings(tmp_path)) == os.uname().nodename.partition(".")[0]


def test_a_worker_id_that_is_given_is_used_as_it_is(tmp_path: Path) -> None:
    given = _settings(tmp_path, WORKER_ID="w7")
    assert _first(ids.candidates(given, 1), 3) == ["w7", "w7-2", "w7-3"]
    assert _first(ids.candidates(given, 2), 2) == ["w7-1", "w7-2"]


@pytest.mark.parametrize("literal", ["${HOSTNAME}", "worker-$HOSTNAME", "  ", "a\nb", "x" * 101])
def test_what_is_no_id_is_never_one(tmp_path: Path, literal: str) -> None:
    found = next(ids.candidates(_settings(tmp_path, 'name = "h"', WORKER_ID=literal), 1))
    assert found == "h-1"


def test_an_id_is_held_by_one(tmp_path: Path) -> None:
    folder = ids.run_folder(_settings(tmp_path))
    names = ["w", "w-2", "w-3", "w-4"]
    (first,) = ids.claim(folder, iter(names), 1)
    others = ids.claim(folder, iter(names), 2)
    assert [first.worker_id, *(each.worker_id for each in others)] == ["w", "w-2", "w-3"]
    first.release(folder)
    first.release(folder)
    (again,) = ids.claim(folder, iter(names), 1)
    assert again.worker_id == "w"
    with pytest.raises(ConfigError, match="no worker ids left"):
        ids.claim(folder, iter(names[:3]), 1)
    for each in (again, *others):
        each.release(folder)


def test_a_state_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    found = _settings(tmp_path)
    (tmp_path / "worker").write_text("in the way")
    with pytest.raises(ConfigError, match="state directory cannot be used"):
        ids.run_folder(found)
