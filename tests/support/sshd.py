"""A real OpenSSH server on a free loopback port, for tests and benchmarks: own host key, own login key, SFTP only.

    with start_sshd(directory, root=directory / "tree") as server:
        SftpSource("127.0.0.1", server.port, server.username, str(server.root), key_file=server.key_file, ...)

Everything the server keeps lies below `directory`; keys are made at run time. Without root only the user who runs it
can log in. With root, `username="nobody"` makes file modes deny again (they deny root nothing); then `directory` and
`root` must lie where that user can reach them.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.support.require import require

READY_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 5.0


@dataclass
class SshServer:
    """One running sshd. `root` is the folder that a source should mirror, as the server sees it."""

    directory: Path
    root: Path
    port: int
    username: str
    key_file: Path
    known_hosts_file: Path
    host: str = "127.0.0.1"
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def url(self) -> str:
        return f"sftp://{self.username}@{self.host}:{self.port}{self.root}"

    @property
    def log(self) -> str:
        """What the server logged so far (LogLevel VERBOSE)."""
        return (self.directory / "sshd.log").read_text(errors="replace")

    def known_hosts_for(self, port: int, path: Path) -> Path:
        """Write a known_hosts file that trusts this server's key on another port (that of a proxy in front of it)."""
        path.write_text(self.known_hosts_file.read_text().replace(f":{self.port} ", f":{port} "))
        return path

    def stop(self) -> None:
        """End the server and every session it forked; safe to repeat."""
        if self.process is None:
            return
        for pid in _children(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 15)
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def start(self) -> None:
        """Start (again) on the same port with the same keys; wait until it greets."""
        sshd = require("sshd", "openssh-server")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's compiled-in privilege separation directory
        with (self.directory / "sshd.log").open("ab") as log:
            command = [sshd, "-D", "-e", "-f", str(self.directory / "sshd_config")]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self._greets():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"sshd did not start:\n{self.log}")
            time.sleep(0.02)

    def _greets(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), timeout=2) as end:
                return end.recv(4) == b"SSH-"
        except OSError:
            return False


def write_key(path: Path, passphrase: bytes | None = None) -> str:
    """Make an ed25519 key pair at run time; write the private half to `path` (0600), return the public line."""
    key = Ed25519PrivateKey.generate()
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, encryption)
    path.touch(mode=0o600)
    path.write_bytes(private)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return public.decode("ascii")


def prepare_sshd(
    directory: Path, root: Path, *, username: str | None = None, options: dict[str, str] | None = None
) -> SshServer:
    """Write keys and configuration for a server on a free port, not yet started. options: lines for sshd_config."""
    directory.mkdir(parents=True, exist_ok=True)
    username = username or getpass.getuser()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    host_public = write_key(directory / "host_key")
    (directory / "authorized_keys").write_text(write_key(directory / "login_key") + "\n")
    (directory / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_public}\n")
    settings = {
        "Port": str(port),
        "ListenAddress": "127.0.0.1",
        "HostKey": str(directory / "host_key"),
        "PidFile": "none",
        "AuthorizedKeysFile": str(directory / "authorized_keys"),
        "StrictModes": "no",
        "UsePAM": "no",
        "PermitRootLogin": "prohibit-password",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "Subsystem": "sftp internal-sftp",
        "LogLevel": "VERBOSE",
        "UseDNS": "no",
        "MaxStartups": "100",
    } | (options or {})
    (directory / "sshd_config").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    return SshServer(directory, root, port, username, directory / "login_key", directory / "known_hosts")


@contextlib.contextmanager
def start_sshd(
    directory: Path, *, root: Path, username: str | None = None, options: dict[str, str] | None = None
) -> Iterator[SshServer]:
    """Run a server for the time of the context. Skips (or fails, in CI) where sshd is not installed."""
    require("sshd", "openssh-server")
    server = prepare_sshd(directory, root, username=username, options=options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _children(pid: int) -> list[int]:
    """Return the processes below `pid`, deepest last (each session has one or two)."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(child): int(parent) for child, parent in (line.split() for line in listed.splitlines())}
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found[1:]
