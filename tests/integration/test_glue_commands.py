"""worker-glue resolve and exec over a real mirror, and what they end with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.world import World
from worker_glue.cli.exec import filled
from worker_glue.cli.main import main

ROOT = Path(__file__).parents[2]
FILES = {"hin/Patra 3 .JPG": b"letter", "eng/x.pdf": b"pdf", "eng/y.pdf": b"other"}
Glue = Callable[..., int]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(tmp_path, dict(FILES))
    assert world.run().exit_code == 0
    for name in ("SYNCD_API", "SYNCD_API_TOKEN_FILE", "SYNCD_MOUNTS"):
        monkeypatch.delenv(name, raising=False)
    return world


@pytest.fixture
def glue(world: World) -> Glue:
    return lambda *words: main(["-c", str(world.config), *words])


def test_a_file_that_is_ready(world: World, glue: Glue, capsys: pytest.CaptureFixture[str]) -> None:
    assert glue("resolve", "/app/M/hin/Patra 3 .JPG") == 0
    assert capsys.readouterr() == (f"{world.target}/hin/Patra 3 .JPG\n", "")
    assert glue("resolve", "--json", "M/eng/x.pdf") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["state"], told["server_path"], told["size"]) == ("ready", "M/eng/x.pdf", 3)


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        ("M/hin/patra 3.jpg", 5, ["missing (not_listed)", "near names: M/hin/Patra 3 .JPG", "last complete look"]),
        ("newsletters/a/x.jpg", 5, ["no_mirror", "[[mirror]]"]),
        ("M/eng", 6, ["refused (folder)", "name a file in it"]),
        ("M/../x", 6, ["path_malformed"]),
        ("M/\x1b[31m.jpg", 6, ["\\x1b"]),
    ],
)
def test_a_file_that_is_not(
    glue: Glue, capsys: pytest.CaptureFixture[str], path: str, code: int, words: list[str]
) -> None:
    assert glue("resolve", path) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert all(word in err for word in words), err
    assert "next: " in err
    assert glue("resolve", "--json", path) == code
    assert json.loads(capsys.readouterr().out)["local_path"] is None
    assert glue("exec", "--path", path, "--", "cat", "{}") == code


def test_one_that_is_on_its_way(world: World, glue: Glue) -> None:
    (world.target / "eng/x.pdf").unlink()
    assert glue("resolve", "M/eng/x.pdf") == 4
    assert glue("resolve", "--wait", "0.2", "M/eng/x.pdf") == 4


def test_nobody_to_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("SYNCD_API", "SYNCD_MOUNTS", "SYNCD_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert main(["resolve", "M/x.jpg"]) == 10
    assert "SYNCD_MOUNTS" in capsys.readouterr().err
    assert main(["-c", str(tmp_path / "none.toml"), "resolve", "M/x.jpg"]) == 2


@pytest.mark.parametrize(
    ("command", "local", "words"),
    [
        (["a", "{}"], ["/1"], ["a", "/1"]),
        (["a", "--in={}", "{}"], ["/1"], ["a", "--in=/1", "/1"]),
        (["a", "{}", "{}"], ["/1", "/2"], ["a", "/1", "/2"]),
        (["a", "{1}-{0}", "{a}"], ["/1", "/2"], ["a", "/2-/1", "{a}"]),
    ],
)
def test_places_are_filled(command: list[str], local: list[str], words: list[str]) -> None:
    assert filled(command, [Path(path) for path in local]) == words


def test_a_program_gets_files_that_stay(glue: Glue, capfd: pytest.CaptureFixture[str]) -> None:
    assert glue("exec", "--path", "M/hin/Patra 3 .JPG", "--", "cat", "{}") == 0
    assert capfd.readouterr().out == "letter"
    paths = ("--path", "M/eng/x.pdf", "--path", "/app/M/eng/y.pdf")
    assert glue("exec", *paths, "--", "cat", "{}", "{}") == 0
    assert glue("exec", *paths, "--", "cat", "{1}", "{0}", "{1}") == 0
    assert capfd.readouterr().out == "pdfother" + "otherpdfother"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["sh", "-c", "exit 7", "{}"], 7),
        (["sh", "-c", "kill -9 $$", "{}"], 128 + 9),
        (["/nowhere/program", "{}"], 127),
        (["/etc", "{}"], 126),
        (["sh", "-c", 'chmod 600 "$0"; echo spoilt > "$0"', "{}"], 4),
        (["sh", "-c", 'rm "$0"; exit 9', "{}"], 9),
    ],
)
def test_it_ends_as_the_program_does(
    glue: Glue, capfd: pytest.CaptureFixture[str], command: list[str], code: int
) -> None:
    assert glue("exec", "--path", "M/eng/x.pdf", "--", *command) == code
    if code == 4:
        assert "did not stay" in capfd.readouterr().err


@pytest.mark.parametrize("command", [["cat"], ["cat", "{1}"], ["cat", "{}", "{0}"], [], ["--"]])
def test_a_command_that_cannot_be_meant(glue: Glue, command: list[str]) -> None:
    assert glue("exec", "--path", "M/eng/x.pdf", "--", *command) == 2


def test_too_few_places_for_the_files(glue: Glue) -> None:
    assert glue("exec", "--path", "M/eng/x.pdf", "--path", "M/eng/y.pdf", "--", "cat", "{}") == 2


@pytest.mark.parametrize("wait", ["-1", "nan", "inf", "soon", "1e9"])
def test_a_time_that_is_none(glue: Glue, wait: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert glue("resolve", "--wait", wait, "M/eng/x.pdf") == 2


def test_what_ends_it_ends_the_program_and_its_copies(world: World, tmp_path: Path) -> None:
    place = tmp_path / "tmp"
    place.mkdir()
    script = "import sys, time; print(sys.argv[1], flush=True); time.sleep(60)"
    argv = [
        sys.executable,
        "-m",
        "worker_glue.cli.main",
        "-c",
        str(world.config),
        "exec",
        "--path",
        "M/eng/x.pdf",
        "--",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(place)}
    argv[1:3] = ["-c", "import sys; from worker_glue.cli.main import main; sys.exit(main())"]
    argv += [sys.executable, "-c", script, "{}"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        local = Path(process.stdout.readline().decode().strip())
        assert local.read_bytes() == b"pdf"
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
        assert process.stdout.read() == b"", "the program has ended too"
        assert time.monotonic() - began < 30
    assert list(place.iterdir()) == []
