"""docs/tutorial.md, done for real: each of its commands in its order, against a real smbd, nsqd and MongoDB server.

Two things are played: `sh install.sh` needs the network (test_install_script.py runs it), and the service manager
(test_service_managers.py has a real one); the daemon that it would start is started.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from syncd.client.address import SOCKET, SocketAddress
from syncd.client.api import ApiClient
from syncd.core.errors import SyncdError
from tests.e2e.test_readme_commands import lend_environment
from tests.support import fake_managers
from tests.support.console import Step, fits, steps
from tests.support.mongo import KINDS, MongoServer, start_mongo
from tests.support.nsqd import NsqdServer, start_nsqd
from tests.support.require import require
from tests.support.services import FAKE_ENTRY, FakeHost
from tests.support.smbd import SmbServer, start_smbd

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "tutorial.md"
SHARE, USER, HOME = "172.12.0.132:13445", "gvpocr", "/home/tod"
LIMIT_S = 60.0
LENT = ("dev.py", "config.example.toml", "pyproject.toml", "install.sh", "requirements", "syncd")


class Machine:
    """The operator's machine: a home, a checkout of the sources in which the commands are typed, programs on PATH."""

    def __init__(self, base: Path, share: SmbServer, nsqd: NsqdServer, mongo: MongoServer) -> None:
        self.share, self.nsqd, self.mongo = share, nsqd, mongo
        self.managers = FakeHost(base / "managers")
        self.home = self.managers.home
        self.checkout = base / "checkout"
        self._daemon: subprocess.Popen[bytes] | None = None
        for name in LENT:
            to = self.checkout / name
            to.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if (ROOT / name).is_dir() else shutil.copy2)(ROOT / name, to)
        lend_environment(self.checkout, "runtime")
        self._put("syncd", "-m syncd")
        self._put("worker-glue", "-m worker_glue")
        self._put("python3", "")
        installed = self.home / ".local/share/syncd/current/bin"  # as install.sh has it
        installed.mkdir(parents=True)
        (installed / "python").symlink_to(self.managers.bin / "python3")
        entry = base / "service.py"
        entry.write_text(self._entry())
        self._put("syncd-service", str(entry))

    def _put(self, name: str, words: str) -> None:
        program = self.managers.bin / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        program.chmod(0o755)

    def _entry(self) -> str:
        return FAKE_ENTRY.format(
            root=str(self.managers.root),
            uid=self.managers.uid,
            user=self.managers.user,
            home=str(self.home),
            platform="linux",
            program=str(self.managers.bin / "syncd"),
        )

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TMPDIR") if name in os.environ}
        return {
            **kept,
            "PATH": f"{self.managers.bin}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "PYTHONPATH": str(ROOT),
            "OMP_THREAD_LIMIT": "1",
            fake_managers.STATE: str(self.managers.kept),
        }

    def type(self, command: str) -> str:
        """Do what a person does who types a command; return what is printed. Raises AssertionError where it fails."""
        answers = ""
        if command == "sh install.sh":
            return ""
        if command.startswith("syncd init"):
            answers = f"{self.share.password}\n127.0.0.1:{self.nsqd.tcp_port}\n{self.mongo.uri()}\n"
        elif command.startswith("syncd service"):
            command = command.replace("syncd service", "syncd-service service") + " --user"
        done = subprocess.run(
            ["/bin/bash", "-ec", command.replace(f"smb://{USER}@{SHARE}/{self.share.share}", self.share.url())],
            cwd=self.checkout,
            env=self.environment,
            input=answers,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
        )
        assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        if command.startswith("syncd-service service install"):
            self._start_daemon()
        return self._as_shown(done.stdout)

    def _as_shown(self, said: str) -> str:
        said = said.replace(self.share.url(), f"smb://{USER}@{SHARE}/{self.share.share}")
        said = said.replace(str(self.checkout), f"{HOME}/syncd").replace(str(self.home), HOME)
        said = said.replace(f'"{self.share.username}"', f'"{USER}"')
        return re.sub(r"^host \S+ \|", "host tod-mac |", said, flags=re.MULTILINE)

    def _start_daemon(self) -> None:
        syncd = str(self.managers.bin / "syncd")
        with (self.home / "daemon.log").open("wb") as log:
            self._daemon = subprocess.Popen(
                [syncd, "run"], cwd=self.home, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + LIMIT_S
        while not self._is_up():
            assert time.monotonic() < deadline, (self.home / "daemon.log").read_text()
            time.sleep(0.1)

    def _is_up(self) -> bool:
        """Say whether the daemon has looked at everything once."""
        try:
            with ApiClient(SocketAddress(self.home / ".local/state/syncd" / SOCKET), 5.0) as api:
                told = api.status()
        except SyncdError:
            return False
        (mirror,) = told["mirrors"]
        looked = all(hop["state"] == "ok" and hop["latency_ms"] is not None for hop in told["hops"])
        return looked and mirror["state"] == "ok" and mirror["current"] is None and mirror["disk"] is not None

    def close(self) -> None:
        """End the daemon."""
        if self._daemon is not None:
            self._daemon.terminate()
            assert self._daemon.wait(30) == 0, (self.home / "daemon.log").read_text()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    require("tesseract", "tesseract-ocr")
    with ExitStack() as stack:
        share = stack.enter_context(start_smbd(tmp_path))
        shutil.copytree(ROOT / "syncd" / "sample" / "Bhushanji", share.root, dirs_exist_ok=True)
        nsqd = stack.enter_context(start_nsqd(tmp_path))
        made = Machine(tmp_path, share, nsqd, stack.enter_context(start_mongo(KINDS[-1], tmp_path)))
        stack.callback(made.close)
        yield made


@pytest.mark.timeout(300)
def test_the_tutorial_is_true(machine: Machine) -> None:
    typed = list(steps(PAGE))
    assert len(typed) > 15
    for step in typed:
        _try(machine, step)


def _try(machine: Machine, step: Step) -> None:
    said = machine.type(step.command)
    assert fits(step.shown, said), f"{step.where}: $ {step.command}\n--- shown\n{step.shown}\n--- said\n{said}"
