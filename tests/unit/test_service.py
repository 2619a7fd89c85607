"""What a service's file says, which program it names, and what keeps it from being installed."""

from __future__ import annotations

import os
import plistlib
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from syncd import config, service
from syncd.config.secrets import file_problem
from syncd.core.errors import ConfigError
from syncd.service import check, program
from syncd.service.place import Account, Manager, Place, checked_name
from syncd.service.plist import MARK as PLIST_MARK
from syncd.service.plist import Session, keys, log_of, plist, session_of
from syncd.service.steps import Call, MakeFolder, Until, WriteFile, carry_out
from syncd.service.tools import NOT_FOUND, TIMED_OUT, ServiceFailed, Tools
from syncd.service.unit import MARK, Job, command_line, unit

TOD = Account(1000, "tod", Path("/home/tod"))
SYNCD = Account(990, "syncd", Path("/var/lib/syncd"))
JOB = Job(Path("/opt/syncd/bin/syncd"), Path("/etc/syncd/config.toml"), Path("/var/lib/syncd"))


def place(manager: Manager = Manager.SYSTEMD, *, system: bool = False, name: str = "syncd") -> Place:
    return Place(manager, system, name, SYNCD if system and manager is Manager.SYSTEMD else TOD)


def values(text: str, key: str) -> list[str]:
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{key}=")]


# --- units


@pytest.mark.parametrize(
    ("word", "spelled"),
    [
        ("/opt/syncd", "/opt/syncd"),
        ("/my data/x", '"/my data/x"'),
        ("/100%/x", "/100%%/x"),
        ('/a"b', '"/a\\"b"'),
        ("/a'b", '"/a\'b"'),
        ("/a\\b", '"/a\\\\b"'),
        ("/a;b", '"/a;b"'),
        ("/दस्तावेज़", "/दस्तावेज़"),
    ],
)
def test_a_word_is_spelled_so_that_systemd_reads_it_back(word: str, spelled: str) -> None:
    assert command_line([word, "run"]) == f"{spelled} run"


def test_a_dollar_is_no_variable() -> None:
    assert command_line(["/opt/$HOME/syncd", "run"]) == ":/opt/$HOME/syncd run"


@pytest.mark.parametrize("word", ["/a\nExecStart=/bin/sh", "/a\tb", "/a\x7f"])
def test_a_path_that_no_unit_can_hold_is_refused(word: str) -> None:
    with pytest.raises(ConfigError):
        command_line([word])


@pytest.mark.parametrize("system", [False, True])
def test_a_unit_is_filled_in_completely(system: bool) -> None:
    text = unit(place(system=system), JOB)
    assert text.startswith(f"{MARK}\n[Unit]\n")
    placeholders = ("@ORIGIN@", "@EXEC@", "@NAME@", "@USER@", "@STATE@", "@PATHS@", "@CREDENTIALS@", "@ENVIRONMENT@")
    assert not [each for each in (*placeholders, "@DESCRIPTION@") if each in text]
    assert values(text, "ExecStart") == ["/opt/syncd/bin/syncd -c /etc/syncd/config.toml run"]
    assert values(text, "Type") == ["notify"]
    assert values(text, "WantedBy") == ["multi-user.target" if system else "default.target"]
    assert {"2", "12"} <= set(values(text, "RestartPreventExitStatus")[0].split())
    assert values(text, "User") == (["syncd"] if system else [])
    assert values(text, "StateDirectory") == (["syncd"] if system else [])


def test_another_name_gets_directories_of_its_own() -> None:
    text = unit(place(system=True, name="syncd-news"), JOB)
    assert values(text, "StateDirectory") == ["syncd-news"]
    assert "/run/credentials/syncd-news.service/" in text
    assert values(text, "Description")[0].endswith("(syncd-news)")


def test_folders_secrets_and_variables_are_listed() -> None:
    job = Job(
        JOB.program,
        JOB.config,
        JOB.state,
        environment={"XDG_STATE_HOME": "/data/my state"},
        writable=[Path("/srv/B"), Path("/srv/news letters")],
        credentials=["smb-password"],
    )
    text = unit(place(system=True), job)
    assert values(text, "ReadWritePaths") == ["-/srv/B", '"-/srv/news letters"']
    assert values(text, "LoadCredential") == ["smb-password:/etc/syncd/credentials/smb-password"]
    assert values(unit(place(), job), "Environment") == ['"XDG_STATE_HOME=/data/my state"']


@pytest.mark.parametrize("name", ["", "-x", "a/b", "a b", "a.service", "ü", "a" * 65, "../x"])
def test_names_that_no_service_can_have(name: str) -> None:
    with pytest.raises(ConfigError):
        checked_name(name)


# --- property lists


def test_the_keys_of_an_agent() -> None:
    found = plistlib.loads(plist(place(Manager.LAUNCHD), JOB).encode())
    assert found == keys(place(Manager.LAUNCHD), JOB)
    log = "/home/tod/Library/Logs/syncd/syncd.log"
    assert found["Label"] == "local.syncd"
    assert found["ProgramArguments"] == [
        "/opt/syncd/bin/syncd",
        *("-c", "/etc/syncd/config.toml", "run", "--wait-for-config", "--log-file", log),
    ]
    assert os.path.isabs(found["ProgramArguments"][0]), "launchd has no PATH to look in"
    assert found["RunAtLoad"] is True
    assert found["KeepAlive"] == {"SuccessfulExit": False}, "a clean stop stays one"
    assert found["ThrottleInterval"] >= 10
    assert found["ExitTimeOut"] > 10, "the daemon may need 10 s"
    assert found["ProcessType"] == "Standard"
    assert found["SoftResourceLimits"]["NumberOfFiles"] >= 1024
    assert found["StandardErrorPath"].startswith("/home/tod/Library/Logs/")
    assert "EnvironmentVariables" not in found
    assert "UserName" not in found
    assert "LimitLoadToSessionType" not in found


def test_the_keys_of_an_agent_without_a_screen() -> None:
    text = plist(place(Manager.LAUNCHD), JOB, Session.BACKGROUND)
    assert plistlib.loads(text.encode())["LimitLoadToSessionType"] == "Background"
    assert session_of(text) is Session.BACKGROUND
    assert session_of(plist(place(Manager.LAUNCHD), JOB)) is Session.AQUA


def test_the_keys_of_a_daemon() -> None:
    found = keys(place(Manager.LAUNCHD, system=True), JOB, Session.BACKGROUND)
    assert found["UserName"] == "tod"
    assert found["EnvironmentVariables"] == {"HOME": "/home/tod"}
    assert "LimitLoadToSessionType" not in found, "a daemon has no session"


def test_a_property_list_says_who_wrote_it() -> None:
    text = plist(place(Manager.LAUNCHD), JOB)
    assert text.splitlines()[2] == PLIST_MARK
    assert log_of(text) == "/home/tod/Library/Logs/syncd/syncd.log"


@pytest.mark.parametrize("content", ["", "no plist", "<plist><array/></plist>", "<plist><dict>", "\x00"])
def test_something_else_is_no_property_list_of_ours(content: str) -> None:
    assert session_of(content) is None
    assert log_of(content) == ""


@pytest.mark.parametrize("file", sorted((Path(__file__).parents[2] / "launchd").glob("*.plist")), ids=lambda f: f.name)
def test_the_property_lists_that_come_along_can_be_read(file: Path) -> None:
    found = plistlib.loads(file.read_bytes())
    assert found["Label"] == "local.syncd"
    assert found.get("UserName", "OPERATOR") == "OPERATOR", "it runs as its user, never as root"


@pytest.mark.skipif(shutil.which("plutil") is None, reason="plutil is on macOS only")
@pytest.mark.parametrize("system", [False, True])
def test_plutil_finds_no_fault(tmp_path: Path, system: bool) -> None:
    file = tmp_path / "local.syncd.plist"
    file.write_text(plist(place(Manager.LAUNCHD, system=system), JOB))
    subprocess.run(["plutil", "-lint", str(file)], check=True, timeout=30)


# --- the program


def executable(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_the_program_is_the_one_that_was_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called = executable(tmp_path / "bin" / "syncd")
    assert program.stable_program(str(called), []) == called
    monkeypatch.chdir(tmp_path)
    assert program.stable_program("bin/syncd", []) == called
    monkeypatch.setenv("PATH", str(called.parent))
    assert program.stable_program("syncd", []) == called


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """pipx puts ~/.local/bin/syncd in place anew when it makes another environment."""
    link = tmp_path / "bin" / "syncd"
    link.parent.mkdir()
    link.symlink_to(executable(tmp_path / "venvs" / "syncd-1.0" / "bin" / "syncd"))
    assert program.stable_program(str(link), []) == link


def test_python_dash_m_finds_the_program_beside_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside = executable(tmp_path / "scripts" / "syncd")
    monkeypatch.setattr(program, "_scripts", lambda scheme: str(beside.parent if scheme is None else tmp_path))
    assert program.stable_program(str(tmp_path / "syncd" / "__main__.py"), []) == beside


def test_a_program_that_does_not_stay_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "_scripts", lambda scheme: str(tmp_path / "nothing"))
    passing = executable(tmp_path / "tmp" / "venv" / "bin" / "syncd")
    cached = executable(tmp_path / "home" / ".cache" / "uv" / "bin" / "syncd")
    link = tmp_path / "bin" / "syncd"
    link.parent.mkdir()
    link.symlink_to(passing)
    for called in (passing, cached, link):
        with pytest.raises(ConfigError, match="does not stay") as caught:
            program.stable_program(str(called), [tmp_path / "tmp"])
        assert "install" in caught.value.hint
    with pytest.raises(ConfigError, match="does not stay"):
        program.stable_program(str(passing))  # pytest's own folder is a temporary one
    with pytest.raises(ConfigError, match="cannot be found"):
        program.stable_program("-c", [])


def test_what_a_system_service_cannot_see(tmp_path: Path) -> None:
    seen = executable(tmp_path / "syncd")
    assert program.hidden_from_system(seen, "/usr/bin/python3") is None
    assert program.hidden_from_system(Path("/home/tod/.local/bin/syncd"), "/usr/bin/python3")
    assert program.hidden_from_system(seen, "/root/.pyenv/bin/python3") == Path("/root/.pyenv/bin/python3")


# --- the configuration as the service sees it

CONFIG = '[host]\nstate_dir = "{base}/state"\n[[mirror]]\nname = "B"\nsource = "{source}"\ntarget = "{base}/B"\n{more}'


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "B").mkdir()
    return {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}


@pytest.fixture
def here(tmp_path: Path) -> Place:
    """A place for a service of the user whose process this is."""
    return Place(Manager.SYSTEMD, False, "syncd", Account(os.geteuid(), "tod", tmp_path))


@pytest.fixture
def everybodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A place for a system service that runs as somebody else, on a machine without /home."""
    monkeypatch.setattr(program, "_HOMES", ("/home",))
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    return Place(Manager.SYSTEMD, True, "syncd", Account(4321, "syncd", tmp_path))


def configured(base: Path, more: str = "", source: str = "smb://u@127.0.0.1/share") -> Path:
    file = base / "config.toml"
    file.write_text(CONFIG.format(base=base, source=source, more=more))
    return file


def problems(place: Place, file: Path, env: dict[str, str]) -> str:
    with pytest.raises(ConfigError) as caught:
        check.job_of(place, file, Path("/opt/syncd/bin/syncd"), env)
    assert caught.value.exit_code == 2
    return "\n".join((caught.value.message, *caught.value.problems))


def secret(path: Path) -> Path:
    path.write_text("a password\n")
    path.chmod(0o600)
    return path


def test_a_configuration_that_works(tmp_path: Path, here: Place, env: dict[str, str]) -> None:
    file = configured(tmp_path, f'password_file = "{secret(tmp_path / "pw")}"')
    job = check.job_of(here, file, Path("/opt/syncd/bin/syncd"), env)
    assert job == Job(Path("/opt/syncd/bin/syncd"), file, tmp_path / "state")
    assert check.remarks(here, job, env) == []


def test_no_configuration(tmp_path: Path, here: Place, env: dict[str, str]) -> None:
    assert "no configuration file" in problems(here, tmp_path / "config.toml", env)


def test_a_secret_in_a_variable_is_not_there_for_a_service(tmp_path: Path, here: Place, env: dict[str, str]) -> None:
    file = configured(tmp_path, 'password_env = "SHARE_PASSWORD"')
    found = problems(here, file, {**env, "SHARE_PASSWORD": "a password"})
    assert "a service has no variable SHARE_PASSWORD" in found
    assert "a password" not in found


def test_a_secret_that_is_open_or_missing(tmp_path: Path, here: Place, env: dict[str, str]) -> None:
    file = configured(tmp_path, f'password_file = "{tmp_path / "pw"}"')
    assert "does not exist" in problems(here, file, env)
    secret(tmp_path / "pw").chmod(0o644)
    assert "open to others" in problems(here, file, env)


def test_variables_of_the_shell_are_mentioned(tmp_path: Path, here: Place, env: dict[str, str]) -> None:
    shell = {**env, "MONGO_URI": "mongodb://u:hushhush@h/d", "NSQD_ADDRESS": "h:4150"}
    file = configured(tmp_path, f'password_file = "{secret(tmp_path / "pw")}"')
    job = check.job_of(here, file, Path("/opt/syncd/bin/syncd"), shell)
    (remark,) = check.remarks(here, job, shell)
    assert "MONGO_URI, NSQD_ADDRESS" in remark
    assert "hushhush" not in remark + unit(here, job)


def test_a_state_directory_by_variable_is_carried_over(tmp_path: Path, here: Place, env: dict[str, str]) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f'[[mirror]]\nname = "B"\nsource = "file://{tmp_path}/s"\ntarget = "{tmp_path}/B"\n')
    job = check.job_of(here, file, Path("/opt/syncd/bin/syncd"), {**env, "XDG_STATE_HOME": "/data"})
    assert job.environment == {"XDG_STATE_HOME": "/data"}
    assert job.state == Path("/data/syncd")


def test_a_home_directory_that_differs_is_found(tmp_path: Path, everybodys: Place) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[[mirror]]\nname = "B"\nsource = "file:///s"\ntarget = "~/B"\n')
    found = problems(everybodys, file, {"HOME": "/elsewhere"})
    assert f"target would be {tmp_path}/B to the service and /elsewhere/B to your commands" in found
    assert "host.state_dir would be" in found


def test_what_a_system_service_needs(tmp_path: Path, everybodys: Place, env: dict[str, str]) -> None:
    file = configured(tmp_path, source="file:///s")
    job = check.job_of(everybodys, file, Path("/opt/syncd/bin/syncd"), env)
    assert job.writable == (tmp_path / "state", tmp_path / "B")
    assert f"chown -R syncd {tmp_path}/B" in "".join(check.remarks(everybodys, job, env))
    assert "does not see /home/tod/bin/syncd" in _problems_of_program(everybodys, file, env)
    (tmp_path / "B").rmdir()
    file.chmod(0o640)
    found = problems(everybodys, file, env)
    assert f"run: install -d -o syncd {tmp_path}/B" in found
    assert "chmod a+r" in found


def _problems_of_program(place: Place, file: Path, env: dict[str, str]) -> str:
    with pytest.raises(ConfigError) as caught:
        check.job_of(place, file, Path("/home/tod/bin/syncd"), env)
    return "\n".join(caught.value.problems)


def test_a_target_in_a_home_is_refused(tmp_path: Path, everybodys: Place, env: dict[str, str]) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        f'[host]\nstate_dir = "{tmp_path}/state"\n'
        '[[mirror]]\nname = "B"\nsource = "file:///s"\ntarget = "/home/tod/B"\n'
    )
    assert "target: a system service does not see /home/tod/B" in problems(everybodys, file, env)


def test_a_secret_of_another_user(tmp_path: Path, everybodys: Place, env: dict[str, str]) -> None:
    kept = secret(tmp_path / "pw")
    found = problems(everybodys, configured(tmp_path, f'password_file = "{kept}"'), env)
    assert "/run/credentials/syncd.service/pw" in found
    daemon = Place(Manager.LAUNCHD, True, "syncd", everybodys.account)
    assert f"chown syncd {kept}" in problems(daemon, configured(tmp_path, f'password_file = "{kept}"'), env)


def test_a_secret_that_systemd_hands_over(
    tmp_path: Path, everybodys: Place, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "CREDENTIAL_FOLDER", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    file = configured(tmp_path, 'password_file = "/run/credentials/syncd.service/smb-password"')
    found = problems(everybodys, file, env)
    assert f"{tmp_path}/smb-password does not exist" in found
    secret(tmp_path / "smb-password")
    assert check.job_of(everybodys, file, Path("/opt/syncd/bin/syncd"), env).credentials == ("smb-password",)


def test_another_unit_s_secret_is_not_handed_over(tmp_path: Path, everybodys: Place, env: dict[str, str]) -> None:
    file = configured(tmp_path, 'password_file = "/run/credentials/other.service/smb-password"')
    assert "/run/credentials/other.service/smb-password does not exist" in problems(everybodys, file, env)


def test_a_handed_over_secret_may_show_the_bits_of_its_acl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = secret(tmp_path / "smb-password")
    kept.chmod(0o440)
    assert "open to others" in file_problem(kept)
    monkeypatch.setattr("syncd.config.secrets._HANDED_OVER", tmp_path)
    assert file_problem(kept) == ""
    kept.chmod(0o444)
    assert "open to others" in file_problem(kept)


def test_only_the_service_misses_what_is_handed_to_it(tmp_path: Path, env: dict[str, str]) -> None:
    file = configured(tmp_path, 'password_file = "/run/credentials/syncd-test.service/smb-password"')
    assert config.load(file, env).mirrors[0].password is not None
    with pytest.raises(ConfigError, match="1 problem"):
        config.load(file, {**env, "CREDENTIALS_DIRECTORY": "/run/credentials/syncd-test.service"})


# --- calls and steps


def test_a_call_that_fails_is_shown_as_it_was_typed(tmp_path: Path) -> None:
    script = executable(tmp_path / "systemctl")
    script.write_text("#!/bin/sh\necho 'Access denied' >&2\necho '  really' >&2\nexit 4\n")
    with pytest.raises(ServiceFailed) as caught:
        carry_out([Call(("systemctl", "start", "my unit"), hint="ask an admin")], Tools({"PATH": str(tmp_path)}), str)
    assert caught.value.message == "systemctl start 'my unit': Access denied; really"
    assert (caught.value.hint, caught.value.exit_code) == ("ask an admin", 3)


def test_a_program_that_is_missing_or_never_ends(tmp_path: Path) -> None:
    tools = Tools({"PATH": str(tmp_path)})
    missing = tools.ask(("no-such-manager",))
    assert (missing.code, missing.complaint) == (NOT_FOUND, "there is no no-such-manager on this machine")
    (tmp_path / "plain").write_text("")
    assert tools.ask(("plain",)).code == NOT_FOUND
    executable(tmp_path / "silent").write_text("#!/bin/sh\nexec sleep 60\n")
    before = time.monotonic()
    assert tools.ask(("silent",), timeout_s=0.2).code == TIMED_OUT
    assert time.monotonic() - before < 30
    executable(tmp_path / "mute").write_text("#!/bin/sh\nexit 5\n")
    assert tools.ask(("mute",)).complaint == "it ended with exit code 5"


def test_answers_are_in_one_language_and_nobody_is_asked(tmp_path: Path) -> None:
    executable(tmp_path / "show").write_text('#!/bin/sh\necho "$LC_ALL $SYSTEMD_PAGER"; read line || echo nobody\n')
    assert Tools({"PATH": str(tmp_path), "LC_ALL": "hi_IN"}).ask(("show",)).out == "C \nnobody\n"


def test_steps_go_on_where_the_operator_can_help(tmp_path: Path) -> None:
    executable(tmp_path / "refuse").write_text("#!/bin/sh\necho no >&2; exit 1\n")
    said: list[str] = []
    steps = [
        MakeFolder(tmp_path / "a" / "b"),
        WriteFile(tmp_path / "a" / "b" / "unit", "text\n"),
        Call(("refuse",), instead="ask an admin"),
        Until(("refuse",)),
        WriteFile(tmp_path / "a" / "b" / "unit", "other\n"),
    ]
    carry_out(steps, Tools({"PATH": f"{tmp_path}:/bin:/usr/bin"}), said.append)
    assert (tmp_path / "a" / "b" / "unit").read_text() == "other\n"
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["unit"]
    assert (tmp_path / "a" / "b" / "unit").stat().st_mode & 0o777 == 0o644
    assert said[2:5] == ["refuse", "  failed: no", "  next: ask an admin"]
    assert said[:2] + said[5:] == [str(step) for step in steps if step != steps[2]]


def test_a_call_is_tried_again_as_often_as_it_says(tmp_path: Path) -> None:
    count = tmp_path / "count"
    executable(tmp_path / "later").write_text(
        f"#!/bin/sh\necho x >> {shlex.quote(str(count))}\n[ $(wc -l < {count}) -ge 3 ]\n"
    )
    tools = Tools({"PATH": f"{tmp_path}:/bin:/usr/bin"})
    carry_out([Call(("later",), attempts=5, pause_s=0.01)], tools, str)
    assert count.read_text() == "x\nx\nx\n"
    count.unlink()
    with pytest.raises(ServiceFailed):
        carry_out([Call(("later",), attempts=2, pause_s=0.01)], tools, str)


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for step in (WriteFile(tmp_path / "file" / "unit", ""), MakeFolder(tmp_path / "file" / "below")):
        with pytest.raises(ConfigError, match="cannot be written"):
            carry_out([step], Tools({}), str)


# --- looking


def test_without_a_manager_there_is_nothing_to_find(tmp_path: Path) -> None:
    if sys.platform == "darwin":
        pytest.skip("there is always launchd")
    found = service.inspect(root=tmp_path)
    assert not (found.installed or found.running or found.survives_logout)
    assert (found.kind, found.todo) == ("", "syncd run")


def test_a_machine_with_systemd_is_told_by_what_systemd_makes(tmp_path: Path) -> None:
    if sys.platform == "darwin":
        pytest.skip("there is always launchd")
    assert service.detected(tmp_path) is None
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert service.detected(tmp_path) is Manager.SYSTEMD
