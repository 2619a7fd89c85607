"""`syncd init` and `syncd secret`: answers from a pipe or a terminal; secrets are 0600 and nothing is overwritten."""

from __future__ import annotations

import io
import os
import pty
import secrets
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from syncd import config
from syncd.cli.main import main


def answer(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(line + "\n" for line in lines)))


@pytest.fixture
def password() -> str:
    return secrets.token_urlsafe(12)


def test_init_writes_a_configuration_that_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, password: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "conf" / "config.toml"
    uri = f"mongodb://u:{password}@127.0.0.1:27017/gvpocr?authSource=admin"
    answer(monkeypatch, "smb://gvpocr@127.0.0.1:13445/a share", str(tmp_path / "data" / "B"), password, "proxy", uri)
    assert main(["-c", str(path), "init", "--no-doctor"]) == 0
    settings = config.load(path, {})
    (mirror,) = settings.mirrors
    assert (mirror.name, mirror.source.share, mirror.source.port) == ("B", "a share", 13445)
    assert mirror.password is not None
    assert mirror.password.reveal() == password
    assert settings.mongo.uri is not None
    assert settings.mongo.uri.reveal() == uri
    assert [str(a) for a in settings.nsq.nsqd] == ["proxy:4150"]
    for file in path.parent.glob("*"):
        assert password not in file.read_text() or file.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    out, err = capsys.readouterr()
    assert out.splitlines()[-2:] == [f"  syncd -c {path} run-once", f"  syncd -c {path} status"]
    assert password not in out + err


def test_init_by_arguments_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    path, kept = tmp_path / "config.toml", tmp_path / "my-password"
    kept.write_text(password)
    kept.chmod(0o600)
    answer(monkeypatch)
    monkeypatch.chdir(tmp_path)
    argv = ["init", "smb://u@127.0.0.1/s", "data", "--name", "scans", "--nsqd", "", "--no-mongo", "--no-doctor"]
    assert main(["-c", str(path), *argv, "--password-file", "my-password"]) == 0
    (mirror,) = config.load(path, {}).mirrors
    assert (mirror.name, mirror.target) == ("scans", tmp_path / "data")
    assert mirror.password is not None
    assert mirror.password.path == kept
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.toml", "my-password"]


@pytest.mark.parametrize("existing", ["config.toml", "B.password"])
def test_init_overwrites_nothing(
    existing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, password: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / existing).write_text("mine")
    answer(monkeypatch, password)
    argv = [
        "init",
        "smb://u@127.0.0.1/s",
        str(tmp_path / "B"),
        "--name",
        "B",
        "--nsqd",
        "",
        "--no-mongo",
        "--no-doctor",
    ]
    assert main(["-c", str(tmp_path / "config.toml"), *argv]) == 2
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [(existing, "mine")]
    assert "exists already, and nothing is overwritten" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "lines", "said"),
    [
        ("smb://u:pw-in-url@h/s", (), "password in it"),
        ("//h/s", (), "is not a source"),
        ("smb://h/s", (), "names no user"),
        ("smb://u@h/s", ("",), "no password was given"),
        ("smb://u@h/s", ("secret-answer", "no address!"), "is not HOST:PORT"),
        ("file:///", ("", ""), "must lie apart"),
    ],
)
def test_init_with_a_wrong_answer_writes_nothing(
    url: str,
    lines: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answer(monkeypatch, *lines)
    argv = ["init", url, str(tmp_path / "B"), "--name", "B", "--no-mongo", "--no-doctor"]
    assert main(["-c", str(tmp_path / "config.toml"), *argv]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "pw-in-url" not in err
    assert "secret-answer" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_asks_again_and_never_echoes(tmp_path: Path, password: str) -> None:
    path = tmp_path / "config.toml"
    controller, terminal = pty.openpty()
    argv = [sys.executable, "-m", "syncd", "-c", str(path), "init", "--no-doctor", "--no-mongo"]
    child = subprocess.Popen(argv, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True)
    os.close(terminal)
    steps = [
        ("Source", "nonsense"),
        ("not a source", None),
        ("Source", "smb://u@127.0.0.1:1/s"),
        ("Target", str(tmp_path / "B")),
    ]
    steps += [("Password of u", password), ("nsqd", "")]
    seen, position = "", 0
    for prompt, typed in steps:
        seen, position = _wait_for(controller, seen, position, prompt)
        if typed is not None:
            time.sleep(0.05)  # getpass switches echo off before it prompts; typing ahead would be flushed
            os.write(controller, typed.encode() + b"\n")
    assert child.wait(60) == 0
    seen += _rest(controller)
    os.close(controller)
    assert password not in seen
    (mirror,) = config.load(path, {}).mirrors
    assert mirror.password is not None
    assert mirror.password.reveal() == password


def test_a_terminal_is_not_asked_again_about_a_wrong_argument(tmp_path: Path) -> None:
    controller, terminal = pty.openpty()
    argv = [sys.executable, "-m", "syncd", "-c", str(tmp_path / "config.toml"), "init", "nonsense"]
    child = subprocess.Popen(argv, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True)
    os.close(terminal)
    seen, _position = _wait_for(controller, "", 0, "is not a source")
    assert child.wait(60) == 2
    os.close(controller)
    assert seen.count("is not a source") == 1


def _wait_for(controller: int, seen: str, position: int, text: str) -> tuple[str, int]:
    deadline = time.monotonic() + 60
    while text not in seen[position:]:
        assert time.monotonic() < deadline, f"{text!r} did not come; so far: {seen!r}"
        if select.select([controller], [], [], 1)[0]:
            seen += os.read(controller, 4096).decode()
    return seen, seen.index(text, position) + len(text)


def _rest(controller: int) -> str:
    read = b""
    try:
        while select.select([controller], [], [], 0.2)[0]:
            read += os.read(controller, 4096)
    except OSError:  # Linux: EIO once the other side is closed
        pass
    return read.decode()


# --- secret ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def smb_config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(
        '[[mirror]]\nname = "B"\nsource = "smb://u@127.0.0.1/s"\ntarget = "data"\npassword_file = "sub/pw"\n'
        '[[mirror]]\nname = "E"\nsource = "smb://u@127.0.0.1/s"\ntarget = "data2"\npassword_env = "PW"\n'
    )
    return path


@pytest.mark.parametrize("before", [None, 0o644, 0o600])
def test_secret_writes_what_is_missing_or_open_to_others(
    before: int | None,
    smb_config: Path,
    monkeypatch: pytest.MonkeyPatch,
    password: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = smb_config.parent / "sub" / "pw"
    if before is not None:
        file.parent.mkdir()
        file.write_text("old")
        file.chmod(before)
    answer(monkeypatch, password)
    assert main(["-c", str(smb_config), "secret", "B"]) == 0
    assert file.read_text() == password + "\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(file.parent.iterdir()) == [file]
    out, err = capsys.readouterr()
    assert password not in out + err
    assert f"syncd -c {smb_config} doctor" in out


@pytest.mark.parametrize(
    ("name", "typed", "said"),
    [("X", "x", 'no mirror "X"'), ("E", "x", "is kept in $PW"), ("B", "", "an empty password")],
)
def test_secret_refuses(
    name: str,
    typed: str,
    said: str,
    smb_config: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answer(monkeypatch, typed)
    assert main(["-c", str(smb_config), "secret", name]) == 2
    assert said in capsys.readouterr().err
    assert not (smb_config.parent / "sub").exists()
