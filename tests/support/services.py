"""Machines on which `syncd service` is tried: one whose managers are played, and a Linux of its own with systemd."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import fake_managers
from tests.support.cli import Done

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = Path(pytest.__file__).resolve().parents[1]
SEEN_REPOSITORY, SEEN_PACKAGES = "/opt/tests/repository", "/opt/tests/packages"
"""Where the booted machine has them: a checkout below /tmp or /root is hidden from its services."""
CALL_TIMEOUT_S = 60
BOOT_TIMEOUT_S = 40

CONFIG = """
[host]
state_dir = "{state}"
[[mirror]]
name = "B"
source = "file://{source}"
target = "{target}"
"""

FAKE_ENTRY = """
import sys
from pathlib import Path
from syncd import service
from syncd.cli import main, service as verb
from syncd.service import program
from syncd.service.place import Account
verb.ROOT = Path({root!r})
service.me = lambda: Account({uid}, {user!r}, Path({home!r}))
if {platform!r} == "darwin":
    service.place.sys = type("sys", (), {{"platform": "darwin"}})
program._temporary = lambda: ()
program._HOMES = ()
sys.argv[0] = {program!r}
sys.exit(main.main())
"""


@dataclass
class FakeHost:
    """A machine whose service manager is played by executables in a folder that is first on PATH."""

    base: Path
    platform: str = "linux"
    user: str = "tod"
    uid: int = 1000

    def __post_init__(self) -> None:
        self.root, self.home, self.bin = self.base / "root", self.base / "home", self.base / "bin"
        for folder in (self.home, self.bin, self.base / "share", self.base / "B", self.root / "etc/systemd/system"):
            folder.mkdir(parents=True)
        (self.root / "run/systemd/system").mkdir(parents=True)
        fake_managers.put_on_path(self.bin)
        program = self.bin / "syncd"
        program.write_text("#!/bin/sh\necho syncd 0\n")
        program.chmod(0o755)
        self.config = self.base / "config.toml"
        self.config.write_text(
            CONFIG.format(state=self.base / "state", source=self.base / "share", target=self.base / "B")
        )
        units = {"user_units": self.home / ".config/systemd/user", "system_units": self.root / "etc/systemd/system"}
        self.kept = self.base / "managers.json"
        self.tell(**{name: str(path) for name, path in units.items()}, domains=["gui/1000", "user/1000", "system"])

    def tell(self, **more: Any) -> None:
        """Set something in the state of the managers."""
        known = json.loads(self.kept.read_text()) if self.kept.exists() else {}
        self.kept.write_text(json.dumps({**known, **more}))

    @property
    def calls(self) -> list[str]:
        """Every call so far that can change something."""
        asks = (" show ", " show-user ", "launchctl print")
        made = json.loads(self.kept.read_text()).get("calls", [])
        return [call for call in made if not any(ask in call for ask in asks)]

    def syncd(self, *words: str, env: dict[str, str] | None = None) -> Done:
        entry = FAKE_ENTRY.format(
            root=str(self.root),
            uid=self.uid,
            user=self.user,
            home=str(self.home),
            platform=self.platform,
            program=str(self.bin / "syncd"),
        )
        path = f"{self.bin}:{os.environ['PATH']}"
        variables = {"PATH": path, "HOME": str(self.home), "PYTHONPATH": str(REPOSITORY)}
        variables |= {fake_managers.STATE: str(self.kept), **(env or {})}
        return finished([sys.executable, "-c", entry, "-c", str(self.config), "service", *words], env=variables)


# --- a Linux of its own

BOOT = """
set -e
mount --make-rprivate /
mount -t tmpfs none {base}
mkdir {base}/upper {base}/work {base}/root
mount -t overlay overlay -o lowerdir=/,upperdir={base}/upper,workdir={base}/work {base}/root
cd {base}/root
mount -t proc proc proc
mount -t sysfs -o ro sys sys
{cgroups}
mount -t tmpfs run run
mount -t tmpfs tmp tmp
mkdir -p .{seen_repository} .{seen_packages}
mount --bind {repository} .{seen_repository}
mount --bind {packages} .{seen_packages}
mount --rbind /dev dev
mkdir -p run/systemd .before
pivot_root . .before
umount -l /.before
# what would look for this machine's devices and clock, or be slow, stays away
rm -rf /etc/systemd/system/*.wants
for unit in dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount \\
    sys-kernel-config.mount proc-sys-fs-binfmt_misc.automount systemd-udevd.service systemd-udev-trigger.service \\
    systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-sysctl.service systemd-modules-load.service \\
    systemd-timesyncd.service systemd-networkd.service systemd-tmpfiles-setup-dev.service \\
    systemd-remount-fs.service systemd-random-seed.service systemd-binfmt.service systemd-update-utmp.service \\
    systemd-firstboot.service systemd-hwdb-update.service systemd-journal-flush.service; do
  ln -sf /dev/null /etc/systemd/system/$unit
done
mkdir -p /var/log/journal && rm -rf /var/log/journal
mount --make-rshared /
export container=syncd-test
exec {systemd} --system --unit=basic.target --show-status=false
"""


class BootedHost:
    """A systemd that runs as process 1 of namespaces of its own, over a throw-away copy of this machine's files."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.root = Path(f"/proc/{pid}/root")

    def run(self, *argv: str, user: str = "", env: dict[str, str] | None = None) -> Done:
        """Run a program there, as root or as another user; its environment is `env` and little else."""
        entry = pwd.getpwnam("root") if not user else None
        home = entry.pw_dir if entry else f"/home/{user}"
        variables = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": home, **(env or {})}
        become = [] if not user else ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        assigned = [f"{name}={value}" for name, value in variables.items()]
        return finished(["nsenter", "-t", str(self.pid), "-a", *become, "env", "-i", *assigned, *argv])

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Put a file there."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def read(self, path: str) -> str:
        return (self.root / path.lstrip("/")).read_text()

    def exists(self, path: str) -> bool:
        return os.path.lexists(self.root / path.lstrip("/"))


@contextmanager
def booted(base: Path) -> Iterator[BootedHost]:
    """Boot one. Skips the test where this machine does not let us: no root, no systemd, no namespaces."""
    systemd = next((path for path in ("/lib/systemd/systemd", "/usr/lib/systemd/systemd") if os.path.exists(path)), "")
    if os.geteuid() != 0 or not systemd or not all(map(shutil.which, ("unshare", "nsenter", "setpriv"))):
        pytest.skip("a systemd of our own needs root, systemd and util-linux")
    with _cgroups() as (cgroups, mounts):
        script = base / "boot.sh"
        places = {"repository": REPOSITORY, "packages": PACKAGES}
        seen = {"seen_repository": SEEN_REPOSITORY, "seen_packages": SEEN_PACKAGES}
        script.write_text(BOOT.format(base=base, cgroups=mounts, systemd=systemd, **places, **seen))
        join = "\n".join(f"echo $$ > {cgroup}/cgroup.procs" for cgroup in cgroups)
        inner = f"{join}\nexec unshare -m -p -u -i -n -C -f --kill-child bash {script}"
        with open(base / "boot.log", "wb") as log:
            process = subprocess.Popen(
                ["bash", "-c", inner], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            host = _first_process(process)
            if host is None or not _is_up(host):
                pytest.skip(f"no systemd of our own comes up here: {(base / 'boot.log').read_text()[-500:]}")
            yield host
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # --kill-child: process 1 there ends too, and with it everything
            process.wait(timeout=CALL_TIMEOUT_S)


@contextmanager
def _cgroups() -> Iterator[tuple[list[Path], str]]:
    """Make a cgroup of our own in each hierarchy systemd wants; yield them and the commands that mount them."""
    top = Path("/sys/fs/cgroup")
    if (top / "cgroup.controllers").exists():
        tops, mounts = [top], "mount -t cgroup2 cgroup2 sys/fs/cgroup"
    else:
        tops = [path for path in (top / "systemd", top / "unified") if path.is_dir()]
        mounts = textwrap.dedent("""\
            mount -t tmpfs cgroup sys/fs/cgroup
            mkdir sys/fs/cgroup/systemd sys/fs/cgroup/unified
            mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
            mount -t cgroup2 cgroup2 sys/fs/cgroup/unified""")
    made = [path / f"syncd-test-{os.getpid()}-{time.monotonic_ns()}" for path in tops]
    try:
        for path in made:
            path.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup of our own can be made: {error}")
    try:
        yield made, mounts
    finally:
        for path in made:
            _remove_cgroup(path)


def _remove_cgroup(path: Path) -> None:
    """Remove a cgroup and those below; they are empty once the last process there has gone."""
    until = time.monotonic() + 10
    for folder in [each for each, _, _ in os.walk(path, topdown=False)]:
        while os.path.isdir(folder) and time.monotonic() < until:
            with suppress(OSError):
                os.rmdir(folder)
                break
            time.sleep(0.05)


def _first_process(process: subprocess.Popen[bytes]) -> BootedHost | None:
    """Return the host once process 1 of the new namespace is there: unshare's only child."""
    until = time.monotonic() + BOOT_TIMEOUT_S
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while time.monotonic() < until and process.poll() is None:
        with suppress(OSError):
            found = children.read_text().split()
            if found and Path(f"/proc/{found[0]}/comm").read_text().strip() == "systemd":
                return BootedHost(int(found[0]))
        time.sleep(0.05)
    return None


def _is_up(host: BootedHost) -> bool:
    until = time.monotonic() + BOOT_TIMEOUT_S
    while time.monotonic() < until:
        if host.run("systemctl", "is-system-running").out.strip() in ("running", "degraded"):
            return True
        time.sleep(0.2)
    return False


def finished(argv: Sequence[str], env: dict[str, str] | None = None) -> Done:
    """Run a program to its end."""
    done = subprocess.run(
        argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=CALL_TIMEOUT_S, check=False, env=env
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())
