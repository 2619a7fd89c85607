"""A private Samba server on a free loopback port, for tests and benchmarks; needs no root and no pytest.

    with start_smbd(directory, root=directory / "share") as server:
        server.url()            # smb://USER@127.0.0.1:PORT/gvpocr-bhushanji
        server.password         # made at run time, never in argv or a log

Everything the server keeps (configuration, passwords, locks, logs) lies below `directory`. As root, smbd bypasses file
modes; `force_user="nobody"` makes chmod deny again.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.ports import free_port
from tests.support.require import require

SHARE = "gvpocr-bhushanji"
READY_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 5.0


@dataclass
class SmbServer:
    """One running smbd. `root` is the folder behind the (first) share; `roots` has those of all shares."""

    directory: Path
    host: str
    port: int
    username: str
    password: str = field(repr=False)
    share: str
    root: Path
    roots: dict[str, Path]
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def config(self) -> Path:
        return self.directory / "smb.conf"

    @property
    def password_file(self) -> Path:
        """The password in a file that only its owner can read, without a newline at the end."""
        return self.directory / "password"

    @property
    def log(self) -> str:
        """What all of the server's processes logged so far."""
        logs = (path for path in sorted((self.directory / "log").glob("*")) if path.is_file())  # not smbd's "cores"
        return "".join(path.read_text(errors="replace") for path in logs)

    def url(self, folder: str = "", *, share: str = "", port: int = 0) -> str:
        """Return the source URL of a folder in a share, as syncd's configuration has it."""
        url = f"smb://{self.username}@{self.host}:{port or self.port}/{share or self.share}"
        return f"{url}/{folder}" if folder else url

    def status(self, *flags: str) -> str:
        """Return what smbstatus says, e.g. status("-L") for locked files, status("-p") for processes."""
        program = require("smbstatus", "samba")
        done = subprocess.run([program, "-s", str(self.config), *flags], capture_output=True, check=False, timeout=20)
        return done.stdout.decode(errors="replace")

    def sessions(self) -> list[int]:
        """Return the pids of the processes that serve a connection at the moment."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split() if _is_session(int(pid))]

    def open_files(self) -> list[str]:
        """Return the paths below the shares that the server holds open for its clients, once that is settled.

        A busy server closes a moment after it has answered: what is open is looked at for up to two seconds.
        """
        deadline = time.monotonic() + 2.0
        while (found := self._open_files()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found

    def _open_files(self) -> list[str]:
        found = []
        for pid in self.sessions():
            with contextlib.suppress(OSError):  # it may have ended meanwhile
                for fd in Path(f"/proc/{pid}/fd").iterdir():
                    with contextlib.suppress(OSError):
                        found.append(str(fd.readlink()))
        return sorted(path for path in found if any(Path(path).is_relative_to(root) for root in self.roots.values()))

    def drop_connections(self) -> int:
        """Kill the processes that serve connections (the listener lives on); return how many there were."""
        pids = self.sessions()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(pids)

    def stop(self) -> None:
        """End the server and all of its processes; safe to repeat."""
        _stop(self.process)
        _stop_rpc_daemon(self.directory / "pid" / "samba-dcerpcd.pid")


def _is_session(pid: int) -> bool:
    """The listener's helpers name themselves smbd-notifyd and smbd-cleanupd; a session's process is plain smbd."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "smbd"
    except OSError:
        return False


@contextlib.contextmanager
def start_smbd(
    base_dir: Path,
    share: str = SHARE,
    root: Path | None = None,
    options: Mapping[str, str] | None = None,
    *,
    share_options: Mapping[str, str] | None = None,
    more_shares: Mapping[str, Path] | None = None,
    force_user: str = "",
    read_only: bool = True,
    port: int = 0,
    password: str = "",
) -> Iterator[SmbServer]:
    """Run smbd until the block ends.

    base_dir: an existing folder for the server's own files (a subfolder `smbd` is made; its path should be short).
    root: the folder to share (made if missing; default base_dir/share). options: global smb.conf parameters, winning
    over ours; share_options: those of every share. The share is read-only unless read_only is False.
    Raises: RuntimeError with the server's log when it does not come up.
    """
    directory = base_dir / "smbd"
    root = root or base_dir / "share"
    roots = {share: root, **(more_shares or {})}
    for path in (directory, *roots.values()):
        path.mkdir(parents=True, exist_ok=True)
    username = pwd.getpwuid(os.geteuid()).pw_name
    password = password or secrets.token_urlsafe(18)
    shares = {"force user": force_user} if force_user else {}
    shares |= {"read only": "yes" if read_only else "no", **(share_options or {})}
    port = port or free_port()
    _write_config(directory, port, roots, dict(options or {}), shares)
    _write_password(directory, username, password)
    process = _spawn(directory)
    server = SmbServer(directory, "127.0.0.1", port, username, password, share, root, roots, process)
    try:
        _wait_ready(server)
        yield server
    finally:
        server.stop()


def _write_config(
    directory: Path, port: int, roots: Mapping[str, Path], options: dict[str, str], share_options: Mapping[str, str]
) -> None:
    own = {
        "server role": "standalone server",
        "smb ports": str(port),
        "interfaces": "lo",
        "bind interfaces only": "yes",
        "disable netbios": "yes",
        "load printers": "no",
        "disable spoolss": "yes",
        "printcap name": "/dev/null",
        "map to guest": "never",
        "log level": "1 auth:3",
        "log file": str(directory / "log" / "log"),
        "max log size": "0",
        "max smbd processes": "0",
        "passdb backend": f"tdbsam:{directory / 'private' / 'passdb.tdb'}",
    }
    for name in ("private", "lock", "state", "cache", "pid", "ncalrpc", "log"):
        folder = directory / name
        folder.mkdir(exist_ok=True, mode=0o755)
        if name != "log":
            own[{"private": "private dir", "ncalrpc": "ncalrpc dir"}.get(name, f"{name} directory")] = str(folder)
    lines = ["[global]", *(f"  {key} = {value}" for key, value in (own | options).items())]
    for share, root in roots.items():
        lines += [f"[{share}]", f"  path = {root}", *(f"  {key} = {value}" for key, value in share_options.items())]
    (directory / "smb.conf").write_text("\n".join(lines) + "\n")


def _write_password(directory: Path, username: str, password: str) -> None:
    path = directory / "password"
    path.touch(mode=0o600)
    path.write_text(password)
    # pdbedit and not smbpasswd, whose -a and -L are for root only
    argv = [require("pdbedit", "samba"), "-s", str(directory / "smb.conf"), "-a", "-t", "-u", username]
    done = subprocess.run(
        argv, input=f"{password}\n{password}\n".encode(), capture_output=True, check=False, timeout=30
    )
    if done.returncode != 0:
        raise RuntimeError(f"pdbedit: {(done.stdout + done.stderr).decode(errors='replace')}")


def _spawn(directory: Path) -> subprocess.Popen[bytes]:
    argv = [require("smbd", "samba"), "-F", "--no-process-group", "-s", str(directory / "smb.conf")]
    with (directory / "log" / "stderr").open("wb") as out:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)


def _wait_ready(server: SmbServer) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            break
        try:
            socket.create_connection((server.host, server.port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"smbd did not come up on port {server.port}:\n{server.log[-4000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the listener, then whatever is left of the session that we started it in (its children)."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
    for sent in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sent)
            time.sleep(0.02)
    process.wait(STOP_TIMEOUT_S)


def _stop_rpc_daemon(pid_file: Path) -> None:
    """Asked for its list of shares, smbd starts samba-dcerpcd, which leaves our session and outlives smbd."""
    with contextlib.suppress(OSError, ValueError):
        os.kill(int(pid_file.read_text()), signal.SIGTERM)


def have_smbd() -> bool:
    """Return whether this machine has what start_smbd() needs."""
    return all(shutil.which(program) for program in ("smbd", "pdbedit"))
