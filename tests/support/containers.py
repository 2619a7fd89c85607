"""Compose projects in real containers, by podman and podman-compose, for tests/containers.

    with loopback_address() as address:           # an address of its own on `lo`, which containers reach
        project = Project("name", folder)         # a copy of a deploy/ folder
        project.up(); project.run("worker-1", "worker-glue", "doctor"); project.remove()

Images: containers_images. The command around it all: containers_run. Needs root.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.containers_images import RUN_S, call

UP_S = 240.0


@contextlib.contextmanager
def loopback_address() -> Iterator[str]:
    """Give the loopback device one more address, which containers reach through their own gateway."""
    address = f"10.253.{secrets.randbelow(250)}.{1 + secrets.randbelow(250)}"
    call("ip", "address", "add", f"{address}/32", "dev", "lo")
    try:
        yield address
    finally:
        call("ip", "address", "del", f"{address}/32", "dev", "lo", check=False)


def remove(prefix: str) -> None:
    """Kill and take away all containers, volumes and networks of projects whose names begin so."""
    for kind, listing, force in (
        ("container", ["-a", "--format", "{{.Names}}"], ["-f", "-t", "0"]),
        ("volume", ["--format", "{{.Name}}"], ["-f"]),
        ("network", ["--format", "{{.Name}}"], ["-f"]),
    ):
        names = call("podman", kind, "ls", *listing, check=False).split()
        found = [name for name in names if name.startswith(prefix)]
        if found:
            call("podman", kind, "rm", *force, *found, check=False)


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

    def up(self, *services: str) -> None:
        self.compose("up", "-d", "--no-build", *services)

    def down(self, *first: str, volumes: bool = False) -> None:
        """Take the project down, `first` before the rest: docker compose knows by itself who needs whom to end well."""
        if first:
            call("podman", "stop", "-t", "60", *map(self.container, first))
        self.compose("down", *(["-v"] if volumes else []), check=False)

    def remove(self) -> None:
        """Take away at once all there is of the project."""
        remove(self.name)

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

    def until(self, what: str, true: Callable[[], object], within_s: float = 120, every_s: float = 0.5) -> None:
        """Wait until `true()` is; fail with every service's last lines."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if true():
                return
            time.sleep(every_s)
        names = call("podman", "ps", "-a", "--format", "{{.Names}}").split()
        ours = [name.removeprefix(f"{self.name}_").removesuffix("_1") for name in names if self.name in name]
        raise AssertionError(f"not {what}:\n" + "\n".join(f"== {s}\n{self.logs(s)[-1500:]}" for s in ours))
