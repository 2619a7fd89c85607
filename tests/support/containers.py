"""Compose projects in real containers, by podman and podman-compose, for tests/containers.

    image = build_images()                        # the project's own, and NSQ and FerretDB for the lab; once a session
    with loopback_address() as address:           # an address of its own on `lo`, which containers reach
        project = Project("name", folder)         # a copy of a deploy/ folder
        project.up(); project.run("worker-1", "worker-glue", "doctor"); project.down()

No registry is asked: the base image is made by debootstrap under the name that the Dockerfiles use. Needs root.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import ferretdb, nsqd
from tests.support.gobuild import built
from tests.support.require import require

ROOT = Path(__file__).resolve().parents[2]
BASE = "docker.io/library/debian:bookworm-slim"
OURS = ("proxy", "samba", "sshd", "syncd", "worker")
BUILD_S, UP_S, RUN_S = 900, 240, 120
_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")

_NSQ = "FROM debian:bookworm-slim\nCOPY nsqd nsqlookupd /\nRUN install -d -m 1777 /state\n"
_FERRETDB = """FROM debian:bookworm-slim
COPY ferretdb serve /
RUN install -d -m 1777 /data/db
CMD ["sh", "/serve"]
"""
_SERVE = """export FERRETDB_SETUP_USERNAME="$MONGO_INITDB_ROOT_USERNAME"
export FERRETDB_SETUP_PASSWORD="$(cat "$MONGO_INITDB_ROOT_PASSWORD_FILE")"
exec /ferretdb --handler=sqlite --sqlite-url=file:/data/db/ --listen-addr=0.0.0.0:27017 --debug-addr=- \\
    --telemetry=disable --state-dir=/data/db --setup-database=admin --log-level=error --test-enable-new-auth
"""


def image(name: str) -> str:
    """Return the name of one of our images as the tests build it."""
    return f"localhost/syncd-test-{name}"


def call(*argv: str | Path, timeout_s: float = RUN_S, cwd: Path | None = None, check: bool = True) -> str:
    """Run a command; return what it printed. Raises AssertionError with all of it when it fails."""
    done = subprocess.run(
        list(map(str, argv)), cwd=cwd, capture_output=True, text=True, check=False, timeout=timeout_s, errors="replace"
    )
    if check and done.returncode:
        raise AssertionError(f"{' '.join(map(str, argv))}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def build_images() -> None:
    """Build what both projects run, where it changed since; layers are cached by podman."""
    podman = require("podman", "podman")
    if subprocess.run([podman, "image", "exists", BASE], check=False, timeout=RUN_S).returncode:
        _make_base(podman)
    trust = ["--volume", f"{_AUTHORITIES}:/ca.crt:ro", "--build-arg", "CA=/ca.crt"] if _AUTHORITIES.exists() else []
    for name in OURS:
        extra = trust if name in {"syncd", "worker"} else []
        file = f"deploy/images/{name}.Dockerfile"
        argv = [podman, "build", "--format", "docker", "-q", *extra, "-t", image(name), "-f", file, ROOT]
        call(*argv, timeout_s=BUILD_S, cwd=ROOT)
    _build_from_programs(podman, "nsq", {"nsqd": built(nsqd.RECIPE), "nsqlookupd": built(nsqd.RECIPE)}, _NSQ)
    _build_from_programs(podman, "ferretdb", {"ferretdb": built(ferretdb.RECIPE)}, _FERRETDB, {"serve": _SERVE})


def _make_base(podman: str) -> None:
    debootstrap = require("debootstrap", "debootstrap")
    with tempfile.TemporaryDirectory() as folder:
        call(debootstrap, "--variant=minbase", "bookworm", folder, timeout_s=BUILD_S)
        with subprocess.Popen(["tar", "-C", folder, "-c", "."], stdout=subprocess.PIPE) as tar:
            done = subprocess.run([podman, "import", "-q", "-", BASE], stdin=tar.stdout, check=False, timeout=BUILD_S)
        assert done.returncode == 0 and tar.returncode == 0


def _build_from_programs(
    podman: str, name: str, programs: Mapping[str, Path], recipe: str, files: Mapping[str, str] | None = None
) -> None:
    with tempfile.TemporaryDirectory() as context:
        for program, folder in programs.items():
            shutil.copy2(folder / program, context)
        for file, content in {"Dockerfile": recipe, **(files or {})}.items():
            (Path(context) / file).write_text(content)
        call(podman, "build", "--format", "docker", "-q", "-t", image(name), context, timeout_s=BUILD_S)


@contextlib.contextmanager
def loopback_address() -> Iterator[str]:
    """Give the loopback device one more address, which containers reach through their own gateway."""
    address = f"10.253.{secrets.randbelow(250)}.{1 + secrets.randbelow(250)}"
    call("ip", "address", "add", f"{address}/32", "dev", "lo")
    try:
        yield address
    finally:
        call("ip", "address", "del", f"{address}/32", "dev", "lo", check=False)


@dataclass
class Project:
    """One compose project of its own name. `folder` is a copy of deploy/worker or deploy/main-server, with its .env."""

    name: str
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ("compose.yaml",)

    def configure(self, **settings: str) -> None:
        """Write .env."""
        self.environment.update(settings)
        lines = [f"{key}={value}\n" for key, value in self.environment.items()]
        (self.folder / ".env").write_text("".join(lines))

    def secret(self, name: str, content: str, owner: int = 1000) -> Path:
        """Write a secret as README.md says: mode 600, owned by the uid that the containers run as."""
        path = self.folder / "secrets" / name
        path.touch(mode=0o600)
        path.write_text(content)
        os.chown(path, owner, owner)
        return path

    def compose(self, *argv: str, check: bool = True, timeout_s: float = UP_S) -> str:
        """Run podman-compose on the project."""
        program = [sys.executable, "-m", "podman_compose", "-p", self.name]
        files = [word for file in self.files for word in ("-f", file)]
        return call(*program, *files, *argv, cwd=self.folder, check=check, timeout_s=timeout_s)

    def up(self) -> None:
        self.compose("up", "-d", "--no-build")

    def down(self, *, volumes: bool = False) -> None:
        self.compose("down", *(["-v"] if volumes else []), check=False)

    def container(self, service: str) -> str:
        return f"{self.name}_{service}_1"

    def run(self, service: str, *argv: str, check: bool = True) -> str:
        """Run a command inside a service's container."""
        return call("podman", "exec", self.container(service), *argv, check=check)

    def code(self, service: str, *argv: str) -> int:
        """Return the exit code of a command inside a service's container."""
        argv = ("podman", "exec", self.container(service), *argv)
        return subprocess.run(argv, capture_output=True, check=False, timeout=RUN_S).returncode

    def podman(self, verb: str, service: str, *options: str, check: bool = True) -> str:
        """Start, stop, kill ... a service's container."""
        return call("podman", *verb.split(), *options, self.container(service), check=check)

    def logs(self, service: str) -> str:
        argv = ["podman", "logs", self.container(service)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=RUN_S)
        return done.stdout + done.stderr

    def until(self, what: str, true: Callable[[], object], within_s: float = 120) -> None:
        """Wait until `true()` is; fail with every service's last lines."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if true():
                return
            time.sleep(0.5)
        names = call("podman", "ps", "-a", "--format", "{{.Names}}").split()
        ours = [name.removeprefix(f"{self.name}_").removesuffix("_1") for name in names if self.name in name]
        raise AssertionError(f"not {what}:\n" + "\n".join(f"== {s}\n{self.logs(s)[-1500:]}" for s in ours))
