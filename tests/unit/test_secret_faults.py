"""What is said of a secret that cannot be used: one line with the file, the key and the remedy, never the secret."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd import config
from syncd.cli.main import main
from syncd.config import Secret
from syncd.config.secrets import file_problem
from syncd.core.errors import ConfigError
from syncd.service import check

NOBODY = 65_534
ASK = """
import os, sys
from pathlib import Path
from syncd.config.secrets import file_problem
os.setgroups([])
os.setgid(int(sys.argv[1]))
os.setuid(int(sys.argv[1]))
print(file_problem(Path(sys.argv[2])))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that another user can enter: its parents too."""
    for each in (tmp_path, *tmp_path.parents):
        if each.owner() == "root" and os.geteuid() == 0 and "pytest" in str(each):
            each.chmod(0o755)
    yield tmp_path
    for each in tmp_path.iterdir():
        each.chmod(0o700)


def as_nobody(path: Path) -> str:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    argv = [sys.executable, "-c", ASK, str(NOBODY), str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# --- one file


def test_a_file_with_a_blank_in_its_name_has_a_remedy_that_can_be_pasted(tmp_path: Path) -> None:
    path = tmp_path / "Application Support" / "password"
    assert file_problem(path) == f"{path} does not exist; write the secret into it and run: chmod 600 '{path}'"


def test_a_folder_is_told_as_what_docker_makes_of_a_missing_file(tmp_path: Path) -> None:
    said = file_problem(tmp_path)
    assert said.startswith(f"{tmp_path} is not a regular file but a folder (Docker makes one")
    assert f"; remove it, and write the secret into it and run: chmod 600 {tmp_path}" in said


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    assert "is not a regular file" in file_problem(tmp_path / "fifo")


def test_another_users_file_names_both_users(folder: Path) -> None:
    path = folder / "password"
    path.touch(mode=0o600)
    path.write_text("x")
    said = as_nobody(path)
    assert f"cannot be read by this user (uid {NOBODY}): it is uid 0's, mode 0600" in said
    assert said.endswith(f"; run: sudo chown {NOBODY} {path}")


def test_a_folder_on_the_way_that_is_shut_is_named(folder: Path) -> None:
    shut = folder / "shut"
    shut.mkdir(mode=0o700)
    (shut / "password").write_text("x")
    assert as_nobody(shut / "password") == (
        f"{shut / 'password'} cannot be read: Permission denied; let uid {NOBODY} into {shut}"
    )


def test_what_a_container_was_given_is_mended_outside_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("syncd.config.secrets._MOUNTED", tmp_path)
    path = tmp_path / "smb-password"
    assert file_problem(path).endswith("on the host, and name it under secrets: of this container")
    path.write_text("x")
    path.chmod(0o444)  # as Docker Swarm and podman mount one that says nothing else
    said = file_problem(path)
    assert f"{path} is open to others (mode 0444); run chmod 600 on its file on the host" in said
    assert f'uid: "{os.geteuid()}" and mode: 0400 under secrets:' in said
    path.chmod(0o400)
    assert file_problem(path) == ""


# --- all of a configuration


def configured(tmp_path: Path) -> tuple[Path, list[Path]]:
    """Return a configuration that names every kind of secret, and their files, which are not there."""
    names = ("password", "key", "uri", "token", "hook", "mail", "far")
    files = [tmp_path / name for name in names]
    file = tmp_path / "config.toml"
    file.write_text(
        '[host]\nstate_dir = "state"\n'
        '[[mirror]]\nname = "A"\nsource = "smb://u@127.0.0.1:1/s"\npassword_file = "password"\ntarget = "a"\n'
        '[[mirror]]\nname = "B"\nsource = "sftp://u@127.0.0.1:1/s"\nkey_file = "key"\ntarget = "b"\n'
        '[mongo]\nuri_file = "uri"\n'
        '[api]\nlisten = "127.0.0.1:9470"\ntoken_file = "token"\n'
        '[alerts]\nwebhook_file = "hook"\nmail_to = ["a@example.org"]\nmail_server = "127.0.0.1:25"\nmail_user = "u"\n'
        'password_file = "mail"\n'
        '[hosts.far]\nssh = "u@127.0.0.1:22"\nkey_file = "far"\n'
    )
    return file, files


def test_every_secret_is_one_line_with_file_and_key(tmp_path: Path) -> None:
    file, files = configured(tmp_path)
    with pytest.raises(ConfigError) as caught:
        config.load(file, {})
    keys = ("password_file", "key_file", "uri_file", "token_file", "webhook_file", "password_file")
    for path, key in zip(files, keys, strict=False):
        (line,) = [each for each in caught.value.problems if f"{path} " in each]
        assert f"{key}: {path} does not exist; write the secret into it and run: chmod 600 {path}" in line
    assert caught.value.hint == f"syncd -c {file} secret A"
    assert not any(str(files[-1]) in each for each in caught.value.problems), "mirrors go on without a far host's key"


def checks(file: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    capsys.readouterr()
    main(["-c", str(file), "doctor", "--json"])
    return {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}


def test_the_command_that_writes_a_password_is_named_where_it_would_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, files = configured(tmp_path)
    with pytest.raises(ConfigError) as caught:
        config.load(None, {"SYNCD_CONFIG": str(file)})
    assert caught.value.hint == "syncd secret A"
    write(files[0], "x", 0o644)
    with pytest.raises(ConfigError) as caught:
        config.load(file, {})
    assert caught.value.hint == "", "it is there: the remedy stands in its line"
    files[0].unlink()
    monkeypatch.setattr("syncd.config.secrets._MOUNTED", tmp_path)
    with pytest.raises(ConfigError) as caught:
        config.load(file, {})
    assert caught.value.hint == ""


def write(path: Path, text: str, mode: int) -> None:
    path.write_text(text)
    path.chmod(mode)


def test_doctor_has_a_line_for_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, files = configured(tmp_path)
    told = checks(file, capsys)
    names = ("password", "key file", "MongoDB URI", "API token", "alert webhook", "mail password", "host far")
    for name, path in zip(names, files, strict=True):
        assert told[name]["seen"] == f"{path} does not exist"
        assert told[name]["status"] == ("warn" if name == "host far" else "fail")
        assert told[name]["todo"]
    assert told["password"]["todo"] == f"syncd -c {file} secret A"


def test_a_secret_of_alerts_is_shown_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, files = configured(tmp_path)
    value = f"https://hooks.example.org/{secrets.token_urlsafe(12)}"
    for path in files:
        path.touch(mode=0o600)
        path.write_text(value)
    bundle = tmp_path / "bundle.zip"
    main(["-c", str(file), "doctor", "--bundle", str(bundle)])
    with zipfile.ZipFile(bundle) as archive:
        everything = b"".join(archive.read(name) for name in archive.namelist())
    assert value not in everything.decode("utf-8", "replace") + "".join(capsys.readouterr())


def test_a_service_is_not_installed_with_an_alerts_secret_that_it_cannot_read(tmp_path: Path) -> None:
    file, _ = configured(tmp_path)
    named = dict(check._named_secrets(config.load(file, {}, check_secrets=False)))
    assert {"alerts: webhook_file", "alerts: password"} <= named.keys()
    assert all(isinstance(secret, Secret) for secret in named.values())
