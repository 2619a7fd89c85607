"""The backends of the source contract: servers once a session, a fresh tree for every test."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.backends import Backend, LocalBackend, MemoryBackend, SftpBackend, SmbBackend, StandByBackend
from tests.support.smbd import SmbServer, start_smbd
from tests.support.sshd import SshServer, start_sshd

_numbers = itertools.count()


@pytest.fixture(scope="session")
def base() -> Iterator[Path]:
    """A folder that other users can reach too (pytest's own are closed to them)."""
    folder = Path(tempfile.mkdtemp(prefix="contract-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def sshd(base: Path) -> Iterator[SshServer]:
    (base / "ssh-trees").mkdir()
    username = "nobody" if os.geteuid() == 0 else None
    with start_sshd(base / "ssh", root=base / "ssh-trees", username=username) as server:
        yield server


@pytest.fixture(scope="session")
def smbd(base: Path) -> Iterator[SmbServer]:
    (base / "smb").mkdir()
    force_user = "nobody" if os.geteuid() == 0 else ""
    with start_smbd(base / "smb", root=base / "smb-trees", force_user=force_user) as server:
        yield server


@pytest.fixture(params=["memory", "stand-by", "local", "sftp", "smb"])
def backend(request: pytest.FixtureRequest, base: Path) -> Iterator[Backend]:
    made = _make(request, base, f"tree-{next(_numbers)}")
    yield made
    made.close()


def _make(request: pytest.FixtureRequest, base: Path, name: str) -> Backend:
    match request.param:
        case "stand-by":
            return StandByBackend()
        case "memory":
            return MemoryBackend()
        case "local":
            return LocalBackend(base / name)
        case "sftp":
            return SftpBackend(base / "ssh-trees" / name, request.getfixturevalue("sshd"))
        case _:
            return SmbBackend(base / "smb-trees" / name, request.getfixturevalue("smbd"))
