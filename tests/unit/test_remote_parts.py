"""`syncd remote` without a network: what is run there, and one answer of many."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import paramiko
import pytest

from syncd.cli.main import load_verb
from syncd.cli.remote import _refuse_idle_options
from syncd.config import Address, RemoteSettings
from syncd.core.errors import ConfigError
from syncd.remote import answers, commands, updating
from syncd.remote.answers import Ran
from syncd.remote.connecting import _load_key, _peer
from syncd.remote.errors import SEVERITY, HostRefused, HostUnfit, HostUnreachable, RemoteError, worst
from syncd.remote.running import Host, _Marked
from syncd.remote.verbs import Lines
from syncd.sources.sftp.ssh import HostKeyRefused

ODD = "a b'c\"d$(touch pwned)`;&"
NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


def remote(**keys: Any) -> RemoteSettings:
    given = {"kind": "systemd", "service": "syncd", "command": "syncd", "config": "", "compose_dir": ""} | keys
    return RemoteSettings("one", "u", Address("127.0.0.1", 22), Path("/key"), None, Path("/known"), **given)


class Shell:
    """A host's shell: a home, and programs that write down how they were called."""

    def __init__(self, home: Path) -> None:
        self.home = home
        (home / ".local/bin").mkdir(parents=True)

    def put(self, name: str, text: str = "") -> None:
        program = self.home / ".local/bin" / name
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$PWD" "${{0##*/}}" "$@" >>"$HOME/calls"\n{text}\n')
        program.chmod(0o755)

    def run(self, line: str) -> subprocess.CompletedProcess[str]:
        env = {"HOME": str(self.home), "PATH": os.environ["PATH"]}
        return subprocess.run(["sh", "-c", line], env=env, cwd=self.home, capture_output=True, text=True, timeout=20)

    @property
    def calls(self) -> list[str]:
        return (self.home / "calls").read_text().splitlines()


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "home")


def test_words_reach_the_program_as_they_are(shell: Shell) -> None:
    shell.put("syncd")
    shell.run(commands.syncd(remote(config="~/x y/c.toml"), "approve", "--mirror", ODD))
    assert shell.calls[1:] == ["syncd", "-c", f"{shell.home}/x y/c.toml", "approve", "--mirror", ODD]
    assert not (shell.home / "pwned").exists()


def test_a_program_is_named_by_its_path_below_the_home_there(shell: Shell) -> None:
    folder = shell.home / "an app"
    folder.mkdir()
    (folder / "syncd").symlink_to("/bin/echo")
    assert shell.run(commands.syncd(remote(command="~/an app/syncd"), "status")).stdout == f"{commands.MARK}\nstatus\n"


@pytest.mark.parametrize(
    ("terminal", "expected"),
    [
        (False, ["compose", "exec", "-T", "syncd", "/app/syncd", "-c", "/etc/c.toml", "status"]),
        (True, ["compose", "exec", "syncd", "/app/syncd", "-c", "/etc/c.toml", "status"]),
    ],
)
def test_a_compose_project_is_asked_in_its_folder(shell: Shell, terminal: bool, expected: list[str]) -> None:
    (shell.home / "the project").mkdir()
    shell.put("docker")
    host = remote(kind="compose", compose_dir="~/the project", command="/app/syncd", config="/etc/c.toml")
    shell.run(commands.syncd(host, "status", terminal=terminal))
    assert shell.calls == [f"{shell.home}/the project", "docker", *expected]


def test_a_project_that_is_not_there_is_an_error_of_the_configuration(shell: Shell) -> None:
    host = remote(kind="compose", compose_dir="~/none")
    done = shell.run(commands.restart(host, []))
    error = answers.failed(host, Ran(done.returncode, done.stdout, done.stderr))
    assert (error.exit_code, error.kind) == (2, "unfit")
    assert f"there is no folder {shell.home}/none" in error.message
    assert "compose_dir" in error.hint


@pytest.mark.parametrize(
    ("kind", "program", "expected"),
    [
        ("systemd", "systemctl", ["--user", "--no-ask-password", "restart", "a@1"]),
        ("compose", "docker", ["compose", "restart", "a@1"]),
    ],
)
def test_other_services_are_restarted(shell: Shell, kind: str, program: str, expected: list[str]) -> None:
    shell.put(program)
    shell.run(commands.restart(remote(kind=kind, compose_dir="~/"), ["a@1"]))
    assert shell.calls[1:] == [program, *expected]


def test_an_agent_is_restarted_in_the_session_that_has_it(shell: Shell) -> None:
    uid = os.getuid()
    shell.put("launchctl", f'[ "$1" != print ] || [ "$2" = user/{uid}/local.syncd ]')
    assert shell.run(commands.restart(remote(kind="launchd"), [])).returncode == 0
    assert shell.calls[-4:] == ["launchctl", "kickstart", "-k", f"user/{uid}/local.syncd"]
    done = shell.run(commands.restart(remote(kind="launchd"), ["other"]))
    assert done.returncode == 113
    assert "launchd has no local.other" in done.stderr


def test_what_is_followed_ends_when_we_hang_up(shell: Shell) -> None:
    log = shell.home / "Library/Logs/syncd/syncd.log"
    log.parent.mkdir(parents=True)
    log.write_text("one\ntwo\n")
    line = commands.logs(remote(kind="launchd"), [], 1, follow=True)
    env = {"HOME": str(shell.home), "PATH": os.environ["PATH"]}
    with subprocess.Popen(["sh", "-c", line], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == f"{commands.MARK}\n".encode()
        assert process.stdout.readline() == b"two\n"
        process.stdin.close()
        assert process.stdout.read() == b""
        process.wait(20)


def test_no_line_of_any_command_is_read_by_another_shell_in_another_way() -> None:
    for line in (
        commands.syncd(remote(), "status"),
        commands.logs(remote(), ["x"], 5, follow=True),
        commands.restart(remote(kind="launchd"), []),
    ):
        first, option, _text = shlex.split(line)
        assert (first, option) == ("sh", "-c")


# --- answers ---------------------------------------------------------------------------------------------------------

STATUS = {
    "version": "1.2",
    "daemon": {"running": True, "pid": 7},
    "mirrors": [
        {
            "name": "B",
            "state": "halted",
            "files": 1234,
            "bytes": 5_000_000,
            "last_success": "2026-01-02T11:58:00Z",
            "pending": {"announce": 2},
            "message": "9 files gone",
            "hint": "syncd approve --mirror B",
        },
        {"name": "n", "state": "ok", "files": 0, "bytes": 0, "last_success": None, "pending": {}},
    ],
    "workers": [{"state": "idle"}, {"id": "one-2", "state": "gone", "last_heartbeat": "2026-01-02T11:00:00Z"}],
    "hops": [{"name": "nsqd", "state": "down", "detail": "refused"}, {"name": "mongodb", "state": "ok"}],
}


def test_each_mirror_of_a_host_is_a_row() -> None:
    assert answers.status_rows("one", STATUS, NOW) == [
        ["one", "1.2", "running", "B", "HALTED", "1,234", "5.0 MB", "2 min ago", "2", "1/2"],
        ["one", "1.2", "running", "n", "ok", "0", "0 B", "never", "-", "1/2"],
    ]
    assert answers.status_exit(STATUS) == 13
    assert answers.status_remarks(STATUS) == [
        "B: 9 files gone",
        "next, there: syncd approve --mirror B",
        "worker one-2 is gone, last heard of 2026-01-02T11:00:00Z",
        "nsqd DOWN refused",
    ]


@pytest.mark.parametrize("joined", [lambda rows: json.dumps(rows), lambda rows: "\n".join(map(json.dumps, rows))])
def test_a_project_s_containers_are_told_of(joined: Callable[[list[Any]], str]) -> None:
    rows = [
        {"Service": "worker-2", "State": "exited", "Health": "", "Name": "x"},
        {"Service": "worker-1", "State": "running", "Health": "healthy"},
        {"Service": "nsqd-proxy", "State": "running", "Health": "unhealthy"},
        {"Service": "syncd", "State": "running"},
        {"State": "running"},
    ]
    found = answers.containers("a warning\n" + joined(rows))
    assert [row["service"] for row in found] == ["nsqd-proxy", "syncd", "worker-1", "worker-2"]
    status = {"mirrors": [], "containers": found}
    assert answers.status_rows("one", status, NOW)[0][-1] == "1/2"
    assert answers.status_remarks(status) == [
        "container nsqd-proxy is running unhealthy",
        "container worker-2 is exited",
    ]
    assert answers.status_exit(status) == 3
    assert answers.containers("5\n[[1]]\nnull\n") == []


@pytest.mark.parametrize("odd", [None, 5, "x", [], {}, True, [5], {"running": []}])
def test_a_host_may_say_anything(odd: object) -> None:
    keys = ("name", "state", "files", "bytes", "last_success", "pending", "message", "hint")
    status = {"version": odd, "daemon": odd, "workers": odd, "hops": odd, "problems": odd}
    status["mirrors"] = [dict.fromkeys(keys, odd), {}]
    for row in answers.status_rows("one", status, NOW):
        assert len(row) == len(answers.STATUS_HEADER)
        assert all(isinstance(cell, str) for cell in row)
    answers.status_remarks(status)
    assert answers.status_exit(status) == 3
    report = {"state": odd, "checks": [dict.fromkeys(("group", "mirror", "name", "status", "seen", "todo"), odd)]}
    assert answers.doctor_row("one", report)[0] == "one"
    answers.doctor_remarks(report)
    answers.failing_checks(report)


@pytest.mark.parametrize(
    ("ran", "exit_code", "message"),
    [
        (Ran(127, "", "sh: 1: exec: syncd: not found\n"), 2, "cannot be started"),
        (Ran(2, "", "error: there is no configuration file at /x\n  next: syncd init\n"), 2, "no configuration"),
        (Ran(15, "", "warning\nerror: the catalogue is damaged\n"), 15, "the catalogue is damaged"),
        (Ran(1, "", 'service "syncd" is not running\n'), 3, "is not running"),
        (Ran(1, "", "error: this is a bug in syncd 1.2: ValueError\n"), 1, "a bug"),
        (Ran(None, "", ""), 3, "killed"),
        (Ran(0, "no json", ""), 3, "does not answer as syncd does"),
        (Ran(0, '{"mirrors": 5}', ""), 3, "does not answer as syncd does"),
        (Ran(0, "[" * 100_000, ""), 3, "does not answer as syncd does"),
        (Ran(77, "", ""), 3, "exit code 77"),
    ],
)
def test_what_is_no_answer_is_an_error_with_an_exit_code(ran: Ran, exit_code: int, message: str) -> None:
    with pytest.raises(RemoteError, match=message) as caught:
        answers.parsed(remote(), ran, "mirrors")
    assert caught.value.exit_code == exit_code


def test_the_hint_says_which_host_to_type_it_on() -> None:
    ran = Ran(2, "", "error: none\n  next: syncd init\n")
    assert answers.failed(remote(), ran).hint == "on one: syncd init"
    assert isinstance(answers.failed(remote(), Ran(126, "", "")), HostUnfit)


def test_the_worst_exit_code_counts() -> None:
    assert worst([]) == 0
    assert worst([0, 3, 0]) == 3
    assert worst([13, 10, 3]) == 10
    assert worst([12, 10]) == 12
    assert worst([0, 77]) == 1
    assert len(set(SEVERITY)) == len(SEVERITY)


def test_lines_are_whole_whatever_the_pieces() -> None:
    said: list[str] = []
    lines = Lines(said.append)
    for piece in ("a", "b\nc\r\n", "नम".encode()[:4], "नम".encode()[4:] + b"\nrest", b"x" * Lines.LONGEST):
        lines.add(piece if isinstance(piece, bytes) else piece.encode())
    lines.end()
    assert said == ["ab", "c", "नम", "rest" + "x" * Lines.LONGEST]


# --- update ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "python"),
    [
        ("#!/home/u/.venv/bin/python\n", "/home/u/.venv/bin/python"),
        ("#!/opt/x y/bin/python3.11\n# -*-", "/opt/x y/bin/python3.11"),
        ("#!/v/bin/python -E\n", "/v/bin/python"),
        ('#!/bin/sh\n\'\'\'exec\' "/a b/bin/python3" "$0" "$@"\n', "/a b/bin/python3"),
        ("#!/bin/sh\n'''exec' '/a b/bin/python3' \"$0\" \"$@\"\n", "/a b/bin/python3"),
        ("#!/bin/sh\nexec /usr/bin/python3 -m syncd\n", None),
        ("#!/usr/bin/env python3\n", None),
        ("\x7fELF", None),
    ],
)
def test_the_python_of_a_program_is_found(text: str, python: str | None) -> None:
    found = updating._SCRIPT_OF.search(text)
    assert (found and found[1]) == python


def test_one_line_of_an_env_file_is_changed() -> None:
    text = "SERVER=1.2.3.4\n# SYNCD_IMAGE=old\nSYNCD_IMAGE='syncd:1'\nX=y\n"
    assert updating.assigned(text, "SYNCD_IMAGE") == "syncd:1"
    changed = updating.with_assigned(text, "SYNCD_IMAGE", "syncd:2")
    assert changed == "SERVER=1.2.3.4\n# SYNCD_IMAGE=old\nX=y\nSYNCD_IMAGE=syncd:2\n"
    assert updating.assigned("", "SYNCD_IMAGE") == ""
    assert updating.with_assigned("", "X", "1") == "X=1\n"
    assert updating.with_assigned("A=1\n\n# b\x0cc\u2028d", "X", "1") == "A=1\n\n# b\x0cc\u2028d\nX=1\n"


def test_what_stood_in_an_env_file_is_put_back_as_it_was(shell: Shell) -> None:
    env, kept = shell.home / ".env", shell.home / ".env.before"
    for before in (b"A=f\xfcr\r\n\nB=1", b"", None):
        kept.write_bytes(b"of an update long ago")
        env.unlink(missing_ok=True)
        if before is not None:
            env.write_bytes(before)
        for text in (updating._KEEP_ENV, "echo X=new >.env\n", updating._BACK_ENV, updating._BACK_ENV):
            assert shell.run(commands.shell(text)).returncode == 0
        assert (env.read_bytes() if env.exists() else None) == before


@pytest.mark.parametrize("image", ["", "-x", "a b", "x;y", "$(x)", "a\nb"])
def test_what_is_no_image_is_refused(image: str) -> None:
    with pytest.raises(ConfigError):
        updating.ImageChange(image)


def test_what_is_no_wheel_of_syncd_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "syncd-1-py3-none-any.whl"
    text.write_text("no zip")
    with zipfile.ZipFile(tmp_path / "other-1-py3-none-any.whl", "w") as archive:
        archive.writestr("syncd/__init__.py", "")
    with zipfile.ZipFile(tmp_path / "syncd-2-py3-none-any.whl", "w") as archive:
        archive.writestr("other/__init__.py", "")
    for path in (text, tmp_path / "other-1-py3-none-any.whl", tmp_path / "syncd-2-py3-none-any.whl", tmp_path / "none"):
        with pytest.raises(ConfigError):
            updating.read_wheel(path)


def test_only_new_failures_count_against_an_update() -> None:
    check = {"group": "nsq", "mirror": None, "name": "nsqd", "status": "fail"}
    assert answers.failing_checks({"checks": [check, {**check, "status": "warn", "name": "x"}]}) == {
        ("nsq", "None", "nsqd")
    }
    assert json.dumps(answers.error_json(updating.WentBack("m", hint="h"))) == (
        '{"kind": "went_back", "message": "m", "hint": "h"}'
    )


class Played:
    """An update whose steps fail as they are told to; writes down what is done."""

    def __init__(self, **fails: RemoteError) -> None:
        self.fails = fails
        self.done: list[str] = []
        self.version = "1"

    def step(self, name: str) -> None:
        self.done.append(name)
        if name in self.fails:
            raise self.fails[name]

    def prepare(self, _host: Host) -> None:
        self.step("prepare")

    def put_in(self, _host: Host) -> None:
        self.version = "2"
        self.step("put_in")

    def back(self, _host: Host) -> None:
        self.step("back")
        self.version = "1"


def play(monkeypatch: pytest.MonkeyPatch, played: Played, checks: list[list[str]], *, runs: bool = True) -> Any:
    looks = iter([{"checks": [{"name": name, "status": "fail"} for name in failing]} for failing in checks])
    monkeypatch.setattr("syncd.remote.verbs.examined", lambda _host: next(looks))
    monkeypatch.setattr("syncd.remote.verbs.daemon_of", lambda _host: {"pid": 1} if runs else None)
    monkeypatch.setattr("syncd.remote.verbs.restart", lambda _host, _names: played.step("restart"))
    monkeypatch.setattr(updating, "version", lambda _host: played.version)
    return updating.update(Host(remote()), played)


def test_an_update_that_works_is_restarted_and_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played()
    answer = play(monkeypatch, played, [["old trouble"], ["old trouble"]])
    assert answer.told == {"before": "1", "now": "2", "daemon": True}
    assert played.done == ["prepare", "put_in", "restart"]
    played = Played()
    assert play(monkeypatch, played, [[], []], runs=False).rows == [["one", "1", "2", "not running, as before"]]
    assert played.done == ["prepare", "put_in"]


def test_nothing_is_put_back_that_was_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(prepare=HostUnfit("no environment"))
    with pytest.raises(HostUnfit):
        play(monkeypatch, played, [[]])
    assert played.done == ["prepare"]


@pytest.mark.parametrize(
    ("fails", "checks"),
    [
        ({"put_in": HostUnreachable("lost")}, [[]]),
        ({}, [["old"], ["old", "new"]]),
    ],
)
def test_an_update_that_fails_is_undone(
    monkeypatch: pytest.MonkeyPatch, fails: dict[str, RemoteError], checks: list[list[str]]
) -> None:
    played = Played(**fails)
    with pytest.raises(updating.WentBack, match="went back to 1: ") as caught:
        play(monkeypatch, played, checks)
    assert caught.value.exit_code == 3
    assert played.done[-2:] == ["back", "restart"]
    assert played.version == "1"


def test_what_cannot_be_undone_says_both(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(put_in=RemoteError("no space"), back=HostUnreachable("lost"))
    with pytest.raises(RemoteError, match=r"failed \(no space\), and going back to 1 failed too: lost") as caught:
        play(monkeypatch, played, [[]])
    assert caught.value.kind == "failed"


def test_what_the_login_s_shell_says_is_no_answer() -> None:
    said: list[bytes] = []
    marked = _Marked(said.append)
    for piece in (b"Welcome!\n--- syncd", b" remote ---\n{}", b"\nmore"):
        marked.add(piece)
    assert (b"".join(said), marked.unmarked) == (b"{}\nmore", "")
    marked = _Marked(said.append)
    marked.add(b"This account is not available.\n")
    assert marked.unmarked == "This account is not available.\n"


@pytest.mark.parametrize("secret", ["", "wr0ng"])
@pytest.mark.parametrize("passphrase", ["", "right"])
def test_a_key_that_cannot_be_used_says_what_to_do_and_no_secret(tmp_path: Path, passphrase: str, secret: str) -> None:
    file = tmp_path / "a key"
    paramiko.RSAKey.generate(1024).write_private_key_file(str(file), password=passphrase or None)
    if not passphrase:
        file.write_text("no key")
    with pytest.raises(HostRefused) as refused:
        _load_key(remote()._replace(key_file=file), secret)
    assert "[hosts.one]" in refused.value.hint
    assert "wr0ng" not in refused.value.message + refused.value.hint


def test_a_key_file_that_is_missing_or_unreadable_is_named_with_its_key_and_a_way_on(tmp_path: Path) -> None:
    missing, folder, empty, open_ = (tmp_path / name for name in ("a; key", "folder", "empty", "open"))
    folder.mkdir()
    empty.touch(0o600)
    open_.write_text("key")
    open_.chmod(0o644)
    make = "name the private key's file there, or make one: ssh-keygen -t ed25519 -f "
    for file, wrong, hint in (
        (missing, "does not exist", f"{make}'{missing}'"),
        (folder, "is not a regular file but a folder", f"{make}{folder}"),
        (empty, "is empty", f"{make}{empty}"),
        (open_, "is open to others (mode 0644)", f"chmod 600 {open_}"),
    ):
        with pytest.raises(HostRefused) as refused:
            _load_key(remote()._replace(key_file=file), "")
        assert refused.value.message.startswith(f"key_file in [hosts.one]: {file} {wrong}")
        assert refused.value.hint == hint


def test_a_key_file_that_this_user_may_not_read_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key"
    file.write_text("key")
    file.chmod(0o600)
    monkeypatch.setattr("os.access", lambda *_: False)  # root may read everything
    with pytest.raises(HostRefused) as refused:
        _load_key(remote()._replace(key_file=file), "")
    assert "cannot be read by this user" in refused.value.message
    assert refused.value.hint == f"sudo chown {os.geteuid()} {file}"


def test_the_line_that_adds_a_host_key_can_be_pasted(tmp_path: Path) -> None:
    key, file = paramiko.RSAKey.generate(1024), tmp_path / "it's known"
    there = _peer(remote()._replace(known_hosts_file=file))
    with pytest.raises(HostKeyRefused) as refused:
        there.require_known({}, key)
    subprocess.run(["sh", "-c", refused.value.hint.rpartition("then: ")[2]], check=True, timeout=20)
    there.require_known(there.known_keys(), key)


def test_every_command_of_the_document_can_be_typed() -> None:
    text = (Path(__file__).parents[2] / "docs" / "remote.md").read_text(encoding="utf-8")
    typed = re.findall(r"`syncd (remote \S[^`]*)`", text)
    assert len(typed) > 8
    for line in typed:
        args = load_verb("remote")[0].parse_args(shlex.split(line)[1:])
        _refuse_idle_options(args)
