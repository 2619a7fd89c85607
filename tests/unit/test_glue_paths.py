"""What worker_glue reads of the environment, and what it opens below a folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from syncd.client.below import open_below
from syncd.core.errors import ConfigError
from worker_glue.resolver.forms import text_of
from worker_glue.resolver.where import UNCONFIGURED, look_around, read_mounts

NOWHERE = {"SYNCD_CONFIG": "/nowhere/syncd.toml"}


@pytest.mark.parametrize(
    ("text", "mounts"),
    [
        ("", {}),
        ("  ", {}),
        ("M=/app/M", {"M": "/app/M"}),
        (" M = /app/M/ , N=/data/n=1,", {"M": "/app/M", "N": "/data/n=1"}),
        ("M=/", {"M": "/"}),
    ],
)
def test_mounts(text: str, mounts: dict[str, str]) -> None:
    assert read_mounts(text) == mounts


@pytest.mark.parametrize("text", ["M", "=/app", "M=", "M=app", "M=/a,N", "M=/a\0b"])
def test_mounts_that_cannot_be_used(text: str) -> None:
    with pytest.raises(ConfigError, match="SYNCD_MOUNTS"):
        read_mounts(text)


def test_everything_that_is_wrong_is_kept_and_the_rest_is_used() -> None:
    found = look_around(None, NOWHERE | {"SYNCD_API": "gopher://x", "SYNCD_MOUNTS": "M=/app/M"})
    assert (found.address, found.settings, found.mounts) == (None, None, {"M": "/app/M"})
    assert [type(error) for error in found.troubles] == [ConfigError]
    assert look_around(None, NOWHERE).troubles == (UNCONFIGURED,)
    assert look_around(None, NOWHERE | {"SYNCD_API": "unix:///s"}).troubles == ()


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "syncd.toml"
    file.write_text(
        f'[host]\nstate_dir = "{tmp_path}/state"\n'
        f'[[mirror]]\nname = "M"\nsource = "file:///nowhere/M"\ntarget = "{tmp_path}/M"\n'
        '[worker.mounts]\nM = "/file/M"\n'
    )
    of_file = look_around(file, {})
    assert (str(of_file.address), of_file.mounts) == (f"{tmp_path}/state/run/syncd.sock", {"M": "/file/M"})
    of_both = look_around(file, {"SYNCD_API": "http://host:9470", "SYNCD_MOUNTS": "M=/env/M"})
    assert (str(of_both.address), of_both.mounts) == ("http://host:9470", {"M": "/env/M"})
    assert look_around(None, {"SYNCD_CONFIG": str(file)}) == of_file


def test_paths_become_plain_text() -> None:
    class Text(str):
        __slots__ = ()

    assert type(text_of(Text("M/x"))) is str
    assert text_of("M/é".encode()) == "M/é"
    assert text_of(b"M/\xff") == "M/\udcff"


@pytest.mark.parametrize("path", ["", "/", "a//b", "../x", "a/../x", ".", "a/./x", "x\0", "/etc/passwd", "link", "in/f",
                                  "folder", "fifo", "none", "file/x", "socket"])  # fmt: skip
def test_nothing_but_a_file_below_the_folder_is_opened(tmp_path: Path, path: str) -> None:
    import socket

    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    (root / "file").write_bytes(b"1")
    (tmp_path / "x").write_bytes(b"1")
    (tmp_path / "f").write_bytes(b"1")
    (root / "link").symlink_to(root / "file")
    (root / "in").symlink_to(tmp_path)
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        folder = os.getcwd()
        os.chdir(root)  # its path is too long otherwise
        listening.bind("socket")
        os.chdir(folder)
        before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
        with pytest.raises(OSError):
            open_below(root, path)
        assert not before or len(os.listdir("/proc/self/fd")) == before
