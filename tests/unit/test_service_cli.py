"""`syncd service` on machines whose service managers are played: what is called, what is said, how it ends."""

from __future__ import annotations

import json
import os
import plistlib
from collections.abc import Callable
from pathlib import Path

import pytest

from syncd import service
from syncd.cli import main
from syncd.cli import service as verb
from syncd.service import program
from syncd.service.place import Account
from syncd.store.state import StateDirectory
from tests.support import fake_managers
from tests.support.cli import Done
from tests.support.services import FakeHost

Call = Callable[..., Done]


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path)


@pytest.fixture
def call(host: FakeHost, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """Run `syncd service ...` in this process, as the operator tod."""
    monkeypatch.setattr(verb, "ROOT", host.root)
    monkeypatch.setattr(service, "me", lambda: Account(host.uid, host.user, host.home))
    monkeypatch.setattr(program, "_temporary", lambda: ())
    monkeypatch.setattr(os, "geteuid", lambda: host.uid)
    monkeypatch.setattr("sys.argv", [str(host.bin / "syncd")])
    monkeypatch.setenv("PATH", f"{host.bin}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(host.home))
    monkeypatch.setenv(fake_managers.STATE, str(host.kept))
    monkeypatch.delenv("SUDO_USER", raising=False)

    def run(*words: str, config: bool = True) -> Done:
        named = ["-c", str(host.config)] if config else []
        code = main.main([*named, "service", *words])
        out, err = capfd.readouterr()
        return Done(code, out, err)

    return run


@pytest.fixture
def mac(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    host.platform = "darwin"
    monkeypatch.setattr(verb.service, "detected", lambda root: service.Manager.LAUNCHD)
    return host


def agent(host: FakeHost) -> Path:
    return host.home / "Library/LaunchAgents/local.syncd.plist"


def user_unit(host: FakeHost) -> Path:
    return host.home / ".config/systemd/user/syncd.service"


# --- no manager


def test_without_a_manager_print_says_how_to_print_for_one(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb.service, "detected", lambda root: None)
    done = call("print", "--user", "--name", "second")
    assert (done.code, done.out) == (2, "")
    steps = [line.partition("next: ")[2] for line in done.err.splitlines() if "next: " in line]
    assert [step.partition(" -c ")[0] for step in steps] == [
        "syncd service print --for systemd --user --name second",
        "syncd service print --for launchd --user --name second",
    ]
    assert "start: syncd run" in call("install").err


# --- systemd


def test_the_calls_of_an_installation(host: FakeHost, call: Call) -> None:
    done = call("install")
    assert (done.code, done.err) == (0, "")
    ctl = "systemctl --no-ask-password --user"
    assert host.calls == [
        "loginctl --no-ask-password enable-linger tod",
        f"{ctl} daemon-reload",
        f"{ctl} enable syncd.service",
        f"{ctl} start syncd.service",
    ]
    assert f"ExecStart={host.bin}/syncd -c {host.config} run\n" in user_unit(host).read_text()
    assert "survives logout   yes" in done.out
    assert "survives reboot   yes" in done.out
    assert "journalctl --user -u syncd" in done.out


def test_a_changed_configuration_path_restarts_it(host: FakeHost, call: Call) -> None:
    assert call("install").code == 0
    before = len(host.calls)
    host.config = host.config.rename(host.base / "moved.toml")
    assert call("install").code == 0
    ctl = "systemctl --no-ask-password --user"
    assert host.calls[before:] == [f"{ctl} daemon-reload", f"{ctl} restart syncd.service"]


def test_lingering_that_is_refused_is_for_an_admin(host: FakeHost, call: Call) -> None:
    host.tell(refuse={"enable-linger": "Could not enable linger: Access denied"})
    done = call("install")
    assert done.code == 0, "the service runs, if only while tod is logged in"
    assert "failed: Could not enable linger: Access denied" in done.out
    assert "next: an admin types: sudo loginctl enable-linger tod" in done.out
    assert "survives logout   no" in done.out
    assert "survives reboot   no: it starts when you log in" in done.out
    found = json.loads(call("status", "--json").out)
    assert (found["survives_logout"], found["survives_reboot"]) == (False, False)
    assert found["next"] == "sudo loginctl enable-linger tod"


def test_a_manager_that_refuses_is_quoted(host: FakeHost, call: Call) -> None:
    host.tell(refuse={"user start": "Job for syncd.service failed."})
    done = call("install")
    assert done.code == 3
    assert "error: systemctl --no-ask-password --user start syncd.service: Job for syncd.service failed." in done.err
    assert "next: journalctl --user -u syncd -n 30" in done.err


def test_a_bad_configuration_changes_nothing(host: FakeHost, call: Call) -> None:
    host.config.write_text("[host]\nstate_dirr = 1\n")
    done = call("install")
    assert done.code == 2
    assert "state_dirr" in done.err
    assert "no [[mirror]]" in done.err, "every problem at once"
    assert host.calls == []
    assert not user_unit(host).exists()


def test_a_missing_configuration_is_explained(call: Call) -> None:
    done = call("install", config=False)
    assert done.code == 2
    assert "there is no configuration file" in done.err
    assert "next: syncd init" in done.err


def test_another_syncd_on_the_state_directory(host: FakeHost, call: Call) -> None:
    with StateDirectory.open(host.base / "state", create=True).lock():
        done = call("install")
        assert done.code == 11
        assert f"process {os.getpid()}" in done.err
        assert host.calls == []
    assert call("install").code == 0


@pytest.mark.parametrize("action", ["install", "uninstall"])
def test_a_unit_of_somebody_else_stays(host: FakeHost, call: Call, action: str) -> None:
    user_unit(host).parent.mkdir(parents=True)
    user_unit(host).write_text("[Service]\nExecStart=/bin/true\n")
    done = call(action)
    assert done.code == 2
    assert "was not written by syncd service install" in done.err
    assert user_unit(host).read_text() == "[Service]\nExecStart=/bin/true\n"
    assert host.calls == []


def test_uninstalling_removes_what_was_installed_and_says_what_stays(host: FakeHost, call: Call) -> None:
    user_unit(host).parent.mkdir(parents=True)
    call("install")
    drop_in = user_unit(host).with_name("syncd.service.d") / "mine.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("")
    other = user_unit(host).with_name("other.service")
    other.write_text("")
    done = call("uninstall")
    assert done.code == 0
    assert sorted(path.name for path in user_unit(host).parent.iterdir()) == ["other.service", "syncd.service.d"]
    assert host.config.exists()
    assert f"stays: {drop_in.parent}" in done.out
    assert "stays: lingering of tod" in done.out


def test_a_system_service_is_installed_by_root(host: FakeHost, call: Call) -> None:
    for action in ("install", "uninstall"):
        done = call(action, "--system")
        assert done.code == 2
        assert f"next: sudo {host.bin}/syncd" in done.err
        assert f"service {action} --system" in done.err
    assert host.calls == []


def test_a_system_service_makes_its_user(host: FakeHost, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    host.uid = 0
    monkeypatch.setattr(program, "_HOMES", ())
    monkeypatch.setattr("syncd.service.place.named", lambda name: None)
    done = call("install")
    assert done.code == 0, done.err
    assert host.calls[0].startswith("systemd-sysusers --inline u syncd ")
    assert host.calls[-1] == "systemctl --no-ask-password start syncd.service"
    text = (host.root / "etc/systemd/system/syncd.service").read_text()
    assert f"ReadWritePaths=-{host.base}/B\n" in text
    assert "\nUser=syncd\n" in text
    assert "survives reboot   yes" in done.out
    assert "stays: the user syncd" in call("uninstall").out


def test_status_looks_for_one_s_own_first_then_for_the_machine_s(host: FakeHost, call: Call) -> None:
    done = call("status", config=False)
    assert done.code == 3
    assert "systemd user service" in done.out
    assert "next: syncd service install --user\n" in done.out
    assert "next: syncd service install --user --name second\n" in call("status", "--name", "second", config=False).out
    assert f"next: syncd service install --user -c {host.config}\n" in call("status").out
    (host.root / "etc/systemd/system/syncd.service").write_text("[Service]\n")
    unit = "system/syncd.service"
    host.tell(loaded=[unit], enabled=[unit], running={unit: 7})
    done = call("status", config=False)
    assert done.code == 0
    assert "systemd system service" in done.out


def test_a_manager_that_cannot_be_asked(host: FakeHost, call: Call) -> None:
    host.tell(refuse={"show ": "Failed to connect to bus: No medium found"})
    done = call("status")
    assert done.code == 3
    assert "Failed to connect to bus" in done.out or "not installed" in done.out


def test_names_set_services_apart(host: FakeHost, call: Call) -> None:
    assert call("install", "--name", "syncd-news").code == 0
    assert user_unit(host).with_name("syncd-news.service").exists()
    assert call("status").code == 3
    assert call("status", "--name", "syncd-news").code == 0
    assert call("install", "--name", "a b").code == 2


def test_run_as_is_for_the_machine_s_service(call: Call) -> None:
    done = call("install", "--run-as", "root")
    assert (done.code, "--run-as is for --system" in done.err) == (2, True)


# --- launchd


def test_the_calls_of_an_agent(mac: FakeHost, call: Call) -> None:
    done = call("install")
    assert (done.code, done.err) == (0, "")
    assert mac.calls == ["launchctl enable gui/1000/local.syncd", f"launchctl bootstrap gui/1000 {agent(mac)}"]
    assert plistlib.loads(agent(mac).read_bytes())["ProgramArguments"][0] == str(mac.bin / "syncd")
    assert (mac.home / "Library/Logs/syncd").is_dir(), "launchd makes no folder for logs"
    assert "survives logout   no: it ends when you log out at the screen" in done.out
    assert "survives reboot   no: it starts when you log in" in done.out


def test_an_agent_over_ssh_without_a_screen(mac: FakeHost, call: Call) -> None:
    mac.tell(domains=["user/1000"])
    done = call("install")
    assert done.code == 0, done
    assert mac.calls[-1] == f"launchctl bootstrap user/1000 {agent(mac)}"
    assert plistlib.loads(agent(mac).read_bytes())["LimitLoadToSessionType"] == "Background"
    assert call("install").out.startswith("already installed")
    assert call("status").code == 0
    mac.tell(domains=["user/1000", "gui/1000"])
    assert call("install").code == 0, "now that somebody is at the screen, it moves there"
    assert "launchctl bootout user/1000/local.syncd" in mac.calls
    assert mac.calls[-1] == f"launchctl bootstrap gui/1000 {agent(mac)}"


def test_an_agent_that_the_screen_does_not_take(mac: FakeHost, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """gui/UID can be asked over SSH, yet refuse to load what it is given."""
    monkeypatch.setattr("syncd.service.launchd.BOOTSTRAP_ATTEMPTS", 1)
    mac.tell(refuse={"bootstrap gui/": "Bootstrap failed: 5: Input/output error"})
    done = call("install")
    assert done.code == 0, done
    assert "goes into the background's" in done.out
    assert mac.calls[-1] == f"launchctl bootstrap user/1000 {agent(mac)}"
    mac.tell(refuse={"bootstrap": "Bootstrap failed: 5: Input/output error"}, jobs={}, running={})
    agent(mac).unlink()
    done = call("install")
    assert done.code == 3
    assert "launchctl bootstrap user/1000" in done.err
    assert "next: log in at the screen" in done.err


def test_a_changed_agent_is_taken_out_and_put_back(mac: FakeHost, call: Call) -> None:
    call("install")
    before = len(mac.calls)
    mac.config = mac.config.rename(mac.base / "moved.toml")
    assert call("install").code == 0
    assert mac.calls[before:] == [
        "launchctl bootout gui/1000/local.syncd",
        "launchctl enable gui/1000/local.syncd",
        f"launchctl bootstrap gui/1000 {agent(mac)}",
    ]


def test_a_stopped_agent_is_started_again(mac: FakeHost, call: Call) -> None:
    call("install")
    mac.tell(running={})
    done = call("status")
    assert done.code == 3
    assert "stopped, last exit code 0" in done.out
    assert "next: launchctl kickstart gui/1000/local.syncd" in done.out
    assert call("install").code == 0
    assert mac.calls[-1] == "launchctl kickstart gui/1000/local.syncd"


def test_an_agent_that_was_disabled_is_enabled_again(mac: FakeHost, call: Call) -> None:
    call("install")
    mac.tell(disabled=["local.syncd"])
    assert "survives reboot   no: it is disabled" in call("status").out
    assert call("install").code == 0
    assert "starts by itself  yes" in call("status").out


def test_a_daemon_runs_as_the_user_behind_sudo(mac: FakeHost, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    mac.uid = 0
    (mac.root / "Library/LaunchDaemons").mkdir(parents=True)
    done = call("install")
    assert (done.code, "--run-as USER" in done.err) == (2, True)
    monkeypatch.setenv("SUDO_USER", "nobody")
    monkeypatch.setattr("syncd.service.place.named", lambda name: Account(501, name, mac.home))
    monkeypatch.setattr(os, "chown", lambda *_: None)
    done = call("install")
    assert done.code == 0, done
    file = mac.root / "Library/LaunchDaemons/local.syncd.plist"
    assert plistlib.loads(file.read_bytes())["UserName"] == "nobody"
    assert mac.calls[-1] == f"launchctl bootstrap system {file}"
    assert "survives logout   yes" in done.out
    assert "survives reboot   yes (with FileVault" in done.out
    assert call("uninstall").code == 0
    assert not file.exists()


# --- print, dry runs, nothing there


def test_print_shows_what_would_be_installed_for_either(host: FakeHost, call: Call) -> None:
    (host.bin / "launchctl").unlink()
    done = call("print", "--for", "launchd")
    assert done.code == 0
    assert plistlib.loads(done.out.encode())["Label"] == "local.syncd"
    assert "LimitLoadToSessionType" not in done.out, "where there is no launchctl, it is not asked for a screen"
    done = call("print", "--for", "systemd")
    assert call("install").code == 0
    assert user_unit(host).read_text() == done.out
    host.config.write_text("")
    assert call("print").code == 2


def test_a_machine_without_a_manager(host: FakeHost, call: Call) -> None:
    (host.root / "run/systemd/system").rmdir()
    done = call("install")
    assert done.code == 2
    assert "neither systemd nor launchd" in done.err
    assert "syncd run" in done.err
    done = call("status")
    assert (done.code, "neither systemd nor launchd" in done.out) == (3, True)


def test_inspect_answers_for_doctor(host: FakeHost, call: Call) -> None:
    call("install")
    found = service.inspect(root=host.root)
    assert found.installed
    assert found.running
    assert found.enabled
    assert found.survives_logout
    assert found.survives_reboot
    assert found.ours
    assert found.detail.startswith("running since")
    assert found.todo == ""
