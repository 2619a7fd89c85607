"""`syncd service` from installation to removal: on a real systemd of our own, and on managers that are played.

The same journey runs on both, so that what the played ones answer is what the real one answers. The daemon is a
stand-in that speaks sd_notify through syncd.notify and does what its configuration's neighbour file tells it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.cli import Done
from tests.support.services import CONFIG, SEEN_PACKAGES, SEEN_REPOSITORY, BootedHost, FakeHost, booted, finished

WAIT_S = 20

DAEMON = """
import os, signal, sys, threading
from pathlib import Path
from syncd import config
from syncd.core.errors import SyncdError
from syncd.notify import Notifier, watchdog_interval_s

file = Path(sys.argv[sys.argv.index("-c") + 1])
behave = Path(str(file) + ".behave").read_text() if Path(str(file) + ".behave").exists() else ""
if behave.startswith("exit"):
    sys.exit(int(behave.split()[1]))
try:
    settings = config.load(file)
except SyncdError as error:
    print(error.message, *getattr(error, "problems", ()), file=sys.stderr)
    sys.exit(error.exit_code)
told = Notifier()
done = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: done.set())
signal.signal(signal.SIGHUP, lambda *_: (told.reloading(), told.ready("read again")))
settings.host.state_dir.mkdir(exist_ok=True)
seen = {}
for mirror in settings.mirrors:
    if mirror.password is not None:
        seen["password"] = mirror.password.reveal()
    for folder in (mirror.target, Path("/srv"), Path("/etc"), Path("/home")):
        try:
            (folder / "probe").write_text("")
            seen[str(folder)] = "written"
        except OSError as error:
            seen[str(folder)] = error.strerror
if behave == "import":
    import cryptography.hazmat.primitives.ciphers.aead as aead
    import ctypes, paramiko, pymongo, smbprotocol.connection, spnego, tornado.ioloop, watchdog.observers
    aead.AESGCM(bytes(16)).encrypt(bytes(12), bytes(100_000), None)
    seen["callback"] = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda number: number + 1)(1)
    watching = watchdog.observers.Observer()
    watching.start()
    watching.stop()
(settings.host.state_dir / "seen").write_text(repr(seen))
told.ready(f"{len(settings.mirrors)} mirrors")
while not done.wait(watchdog_interval_s() or 1):
    if behave != "stall":
        told.watchdog()
told.stopping()
"""


@dataclass
class Place:
    """Where a journey goes: how commands are typed there, and how files there are seen from here."""

    scope: str
    syncd: Callable[..., Done]
    exists: Callable[[str], bool]
    service_file: str
    config: str
    kept: list[str]
    stop: Callable[[], None]

    def status(self) -> dict[str, object]:
        done = self.syncd("status", self.scope, "--json")
        assert done.err == ""
        found: dict[str, object] = json.loads(done.out)
        assert (done.code == 0) == found["running"]
        return found


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BootedHost]:
    """A Linux of our own with an operator `tod`, /opt/syncd, and a folder to mirror."""
    python = interpreter()
    with booted(tmp_path_factory.mktemp("boot")) as host:
        host.write("/opt/syncd/daemon.py", DAEMON)
        entry = "import sys; from syncd.cli.main import main; sys.argv[0] = '/opt/syncd/bin/syncd'; sys.exit(main())"
        host.write(
            "/opt/syncd/bin/syncd",
            f'#!/bin/sh\nexport PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="{python_path()}"\n'
            f'case " $* " in *" run "*) exec {python} /opt/syncd/daemon.py "$@" ;; esac\n'
            f'exec {python} -c "{entry}" "$@"\n',
            0o755,
        )
        host.run("useradd", "--create-home", "--shell", "/bin/sh", "tod")
        host.run("mkdir", "-p", "/srv/share", "/srv/B", "/etc/syncd/credentials")
        host.run("systemd-sysusers", "--inline", 'u syncd - "syncd" /var/lib/syncd')
        host.run("chown", "syncd", "/srv/B")
        yield host


def interpreter() -> str:
    """Return a Python that a system service can see: one below /root or /home is hidden from it."""
    asked = finished(["/usr/bin/python3", "-c", "import sys; print(sys.version_info[:2] >= (3, 11))"])
    if asked.out.strip() != "True":
        pytest.skip("there is no Python >= 3.11 at /usr/bin/python3")
    return "/usr/bin/python3"


def python_path() -> str:
    return f"{SEEN_REPOSITORY}:{SEEN_PACKAGES}"


def on_systemd(host: BootedHost, scope: str) -> Place:
    user = "tod" if scope == "--user" else ""
    home = Path("/home/tod" if user else "/var/lib/syncd")
    folder = "/home/tod" if user else "/etc/syncd"
    state, target = str(home / "state"), str(home / "B" if user else "/srv/B")
    config = f"{folder}/config.toml"
    host.write(config, CONFIG.format(state=state, source="/srv/share", target=target))
    if user:
        host.run("mkdir", "-p", target, user=user)
        host.run("systemctl", "start", "dbus", "systemd-logind")
    manager = ["systemctl", *([] if not user else ["--user"])]
    env = {"XDG_RUNTIME_DIR": f"/run/user/{host.run('id', '-u', user or 'root').out.strip()}"}
    return Place(
        scope,
        lambda *words: host.run("/opt/syncd/bin/syncd", "-c", config, "service", *words, user=user),
        host.exists,
        f"{home}/.config/systemd/user/syncd.service" if user else "/etc/systemd/system/syncd.service",
        config,
        [config, state, target],
        lambda: expect(host.run(*manager, "stop", "syncd", user=user, env=env)),
    )


def on_played(base: Path, platform: str, scope: str) -> Place:
    host = FakeHost(base, platform)
    unit = "systemd/user/syncd.service" if platform == "linux" else "LaunchAgents/local.syncd.plist"
    folder = host.home / (".config" if platform == "linux" else "Library")

    def stop() -> None:
        host.tell(running={})

    return Place(
        scope,
        lambda *words: host.syncd(*words),
        lambda path: Path(path).exists(),
        str(folder / unit),
        str(host.config),
        [str(host.config), str(host.base / "B")],
        stop,
    )


def expect(done: Done) -> None:
    assert done.code == 0, done


@pytest.fixture(params=["systemd --user", "systemd --system", "played systemd", "played launchd"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    kind, _, scope = request.param.partition(" ")
    if kind == "played":
        yield on_played(tmp_path, "linux" if scope == "systemd" else "darwin", "--user")
        return
    host = request.getfixturevalue("machine")
    there = on_systemd(host, scope)
    yield there
    there.syncd("uninstall", scope)
    if scope == "--user":
        host.run("loginctl", "disable-linger", "tod")


def test_the_whole_journey(place: Place) -> None:
    assert place.status()["installed"] is False

    planned = place.syncd("install", place.scope, "--dry-run")
    assert planned.code == 0, planned
    assert not place.exists(place.service_file)

    done = place.syncd("install", place.scope)
    assert done.code == 0, done
    assert done.out.startswith(planned.out), "what was announced is what was done"
    assert place.exists(place.service_file)
    first = place.status()
    assert first["installed"] and first["running"] and first["enabled"], first
    assert first["file"] == place.service_file
    assert first["pid"]

    again = place.syncd("install", place.scope)
    assert (again.code, again.out.splitlines()[0]) == (0, f"already installed: {place.service_file}")
    assert place.status()["pid"] == first["pid"], "a second installation leaves the daemon alone"
    assert place.syncd("install", place.scope, "--dry-run").out == "nothing: it is installed and runs\n"

    place.stop()
    stopped = place.status()
    assert (stopped["running"], stopped["enabled"]) == (False, True)
    assert stopped["next"]
    assert place.syncd("install", place.scope).code == 0
    assert place.status()["running"]

    planned = place.syncd("uninstall", place.scope, "--dry-run")
    assert place.status()["running"], "a dry run changes nothing"
    done = place.syncd("uninstall", place.scope)
    assert done.code == 0, done
    assert done.out.startswith(planned.out)
    assert not place.exists(place.service_file)
    gone = place.status()
    assert not (gone["installed"] or gone["running"] or gone["enabled"]), gone
    assert all(place.exists(path) for path in place.kept), "uninstalling removes no data"
    assert place.syncd("uninstall", place.scope).out == f"not installed: there is no {place.service_file}\n"


def test_another_configuration_restarts_the_daemon(machine: BootedHost) -> None:
    place = on_systemd(machine, "--system")
    try:
        expect(place.syncd("install"))
        before = place.status()["pid"]
        other = "/etc/syncd/other.toml"
        machine.write(other, (machine.root / "etc/syncd/config.toml").read_text())
        expect(machine.run("/opt/syncd/bin/syncd", "-c", other, "service", "install"))
        assert place.status()["pid"] != before
        assert f"-c {other} run" in machine.read(place.service_file)
    finally:
        place.syncd("uninstall")


@pytest.mark.parametrize("name", ["with blanks", "50%h $HOME ${HOME} $$", """quotes "x" 'y' ; \\\\ #"""])
def test_odd_paths_reach_the_daemon_as_they_are(machine: BootedHost, name: str) -> None:
    place = on_systemd(machine, "--system")
    odd = f"/etc/syncd/{name}.toml"
    target = f"/srv/{name}"
    machine.run("mkdir", "-p", target)
    machine.run("chown", "syncd", target)
    state = "/var/lib/syncd/state"
    quoted = json.dumps(target)[1:-1]
    machine.write(odd, CONFIG.format(state=state, source="/srv/share", target=quoted))
    try:
        done = machine.run("/opt/syncd/bin/syncd", "-c", odd, "service", "install")
        assert done.code == 0, done
        assert machine.exists(f"{target}/probe"), "the daemon read that file, and may write that folder"
    finally:
        place.syncd("uninstall")


# --- what the real systemd makes of the unit


@pytest.fixture
def system(machine: BootedHost) -> Iterator[Place]:
    place = on_systemd(machine, "--system")
    machine.write("/etc/syncd/config.toml.behave", "")
    yield place
    place.syncd("uninstall")
    machine.run("rm", "-rf", "/etc/systemd/system/syncd.service.d", "/srv/B/probe")


def show(machine: BootedHost, *names: str) -> dict[str, str]:
    out = machine.run("systemctl", "show", "syncd", *(f"--property={name}" for name in names)).out
    return dict(line.split("=", 1) for line in out.splitlines())


def until(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not reached():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)


def test_the_sandbox_lets_it_write_its_mirrors_and_nothing_else(machine: BootedHost, system: Place) -> None:
    secret = "a password"
    machine.write("/etc/syncd/credentials/smb-password", secret + "\n", 0o600)
    named = 'password_file = "/run/credentials/syncd.service/smb-password"\n'
    shared = machine.read(system.config).replace("file:///srv/share", "smb://gvpocr@127.0.0.1/share")
    machine.write(system.config, shared + named)
    machine.write("/etc/syncd/config.toml.behave", "import")
    done = system.syncd("install")
    assert done.code == 0, done
    seen = machine.read("/var/lib/syncd/state/seen")
    assert f"'password': '{secret}'" in seen, "systemd handed it over, and its file was found closed enough"
    assert "'/srv/B': 'written'" in seen
    for closed in ("/srv", "/etc", "/home"):
        assert f"'{closed}': 'written'" not in seen
    assert "'callback': 2" in seen, "the libraries load, and ctypes makes callbacks"
    assert secret not in machine.read(system.service_file) + done.out + done.err
    assert show(machine, "StatusText", "Type") == {"StatusText": "1 mirrors", "Type": "notify"}
    assert machine.run("stat", "-c", "%U %a", "/var/lib/syncd").out == "syncd 750\n"
    # the other commands, which nothing is handed to, work beside it
    assert "is not there" not in machine.run("/opt/syncd/bin/syncd", "-c", system.config, "service", "status").out


def test_reloading_stopping_and_ending_cleanly(machine: BootedHost, system: Place) -> None:
    expect(system.syncd("install"))
    expect(machine.run("systemctl", "reload", "syncd"))
    until(lambda: show(machine, "StatusText") == {"StatusText": "read again"})
    expect(machine.run("systemctl", "stop", "syncd"))
    ended = show(machine, "Result", "ExecMainStatus", "ActiveState")
    assert ended == {"Result": "success", "ExecMainStatus": "0", "ActiveState": "inactive"}


@pytest.mark.parametrize("code", [2, 12])
def test_what_only_a_person_can_mend_is_not_tried_again(machine: BootedHost, system: Place, code: int) -> None:
    machine.write("/etc/syncd/config.toml.behave", f"exit {code}")
    done = system.syncd("install")
    assert done.code == 3
    assert "systemctl --no-ask-password start syncd.service" in done.err, "the command that failed is shown"
    assert "journalctl -u syncd" in done.err
    assert show(machine, "ActiveState", "NRestarts") == {"ActiveState": "failed", "NRestarts": "0"}
    status = system.syncd("status", "--system")
    assert status.code == 3
    assert f"it failed: exit code {code}" in status.out


def test_everything_else_is_tried_again(machine: BootedHost, system: Place) -> None:
    machine.write("/etc/systemd/system/syncd.service.d/soon.conf", "[Service]\nRestartSec=100ms\n")
    machine.write("/etc/syncd/config.toml.behave", "exit 14")
    assert system.syncd("install").code == 3
    until(lambda: int(show(machine, "NRestarts")["NRestarts"]) >= 2)
    machine.write("/etc/syncd/config.toml.behave", "")
    until(lambda: bool(system.status()["running"]))


def test_a_daemon_that_does_not_move_is_ended_and_started_again(machine: BootedHost, system: Place) -> None:
    machine.write("/etc/systemd/system/syncd.service.d/soon.conf", "[Service]\nRestartSec=100ms\nWatchdogSec=500ms\n")
    machine.write("/etc/syncd/config.toml.behave", "stall")
    expect(system.syncd("install"))
    machine.write("/etc/syncd/config.toml.behave", "")
    until(lambda: int(show(machine, "NRestarts")["NRestarts"]) >= 1)
    until(lambda: bool(system.status()["running"]))
    calm = show(machine, "NRestarts")
    time.sleep(1.2)
    assert show(machine, "NRestarts") == calm, "one that feeds its watchdog stays"


def test_a_target_whose_disk_comes_back_can_be_written_again(machine: BootedHost, system: Place) -> None:
    """ReadWritePaths=- and mounts that reach the service: unplugged under it and plugged in again."""
    machine.run("mount", "-t", "tmpfs", "disk", "/srv/B")
    machine.run("chown", "syncd", "/srv/B")
    expect(system.syncd("install"))
    expect(machine.run("umount", "/srv/B"))
    pid = str(system.status()["pid"])
    inside = ["nsenter", "-t", pid, "-m"]
    machine.run("mount", "-t", "tmpfs", "disk", "/srv/B")
    try:
        expect(machine.run(*inside, "touch", "/srv/B/back"))
        assert machine.exists("/srv/B/back")
    finally:
        machine.run("umount", "/srv/B")


def test_an_exposure_of_at_most_one_and_a_half(machine: BootedHost, system: Place) -> None:
    expect(system.syncd("install"))
    said = machine.run("systemd-analyze", "security", "--no-pager", "--threshold=15", "syncd.service")
    assert said.code == 0, said.out[-300:]


def test_lingering_decides_what_survives(machine: BootedHost) -> None:
    place = on_systemd(machine, "--user")
    try:
        expect(place.syncd("install", "--user"))
        found = place.status()
        assert found["survives_logout"] and found["survives_reboot"], found
        out = place.syncd("uninstall", "--user").out
        assert "lingering of tod" in out
        assert machine.run("loginctl", "show-user", "tod", "--property=Linger").out == "Linger=yes\n"
    finally:
        place.syncd("uninstall", "--user")
        machine.run("loginctl", "disable-linger", "tod")
