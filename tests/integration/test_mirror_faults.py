"""What the mirror promises when the system fails it: order of calls, full and read-only disks, failed calls, kills."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncd.core.errors import DiskFull, LocalIOError, MirrorError, SyncdError, TargetUnusable
from syncd.store import durable
from tests.support.mirrors import BATCH, opened, put, rel, sha256, snapshot, staged, visible
from tests.support.require import require

PRELUDE = f"""
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {os.getcwd()!r})
from tests.support.mirrors import BATCH, opened, put, rel, staged
"""


def script(code: str, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*before, sys.executable, "-c", PRELUDE + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


# --- the order of system calls

GROUP = """
mirror = opened(Path(sys.argv[1]))
put(mirror, "old/0", b"old")
try: os.stat("/group-begins")
except OSError: pass
files = [staged(mirror, b"x" * 1000) for _ in range(int(sys.argv[2]))]
mirror.sync(files)
for number, file in enumerate(files):
    mirror.promote(file, rel(f"{'old' if number == 0 else 'new/deep'}/{number}"), batch=BATCH)
mirror.sync_directories()
try: os.stat("/group-ends")
except OSError: pass
"""


@pytest.mark.skipif(sys.platform != "linux", reason="strace")
@pytest.mark.parametrize("count", [3, 40])
def test_bytes_are_synced_before_names_change_and_names_before_the_group_ends(tmp_path: Path, count: int) -> None:
    strace = require("strace", "strace")
    log = tmp_path / "calls"
    wanted = "trace=openat,write,utimensat,fsync,syncfs,linkat,renameat,renameat2,mkdirat,stat,newfstatat,close"
    answer = script(GROUP, str(tmp_path / "t"), str(count), before=(strace, "-f", "-y", "-o", str(log), "-e", wanted))
    assert answer.returncode == 0, answer.stderr
    calls = [line.split(maxsplit=1)[1] for line in log.read_text(errors="replace").splitlines()]
    first = next(n for n, call in enumerate(calls) if "group-begins" in call)
    last = next(n for n, call in enumerate(calls) if "group-ends" in call)
    calls = calls[first:last]

    def places(pattern: str) -> list[int]:
        return [n for n, call in enumerate(calls) if re.search(pattern, call)]

    renames = places(r"^renameat2?\(.*/\.syncd/staging>")
    links = places(r"^linkat\(")
    stamps = places(r"^utimensat\(")
    assert len(renames) == count
    assert len(links) == 1
    if count < durable.MANY:
        synced = places(r"^fsync\(\d+</.*/\.syncd/staging/")
        assert len(synced) == count
    else:
        synced = places(r"^syncfs\(")[:1]
    assert max(stamps) < min(synced)
    assert max(synced) < min(links + renames)
    assert links[0] < renames[0]
    folders = [str(tmp_path / "t" / each) for each in (f".syncd/trash/{BATCH}/old", "old", "new/deep", "new", "")]
    for folder in folders:
        after = places(r"^fsync\(\d+<" + re.escape(folder.rstrip("/")) + r">")
        assert after, folder
        assert min(after) > max(renames)


# --- failing calls


class Failing:
    """Makes one function of `os` fail from the n-th call on that `concerns` accepts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, code: int, concerns: Callable[..., bool]) -> None:
        self.armed = True
        self.hits = 0
        real = getattr(os, name)

        def call(*arguments: object, **named: object) -> object:
            if self.armed and concerns(*arguments, **named):
                self.hits += 1
                raise OSError(code, os.strerror(code))
            return real(*arguments, **named)

        monkeypatch.setattr(os, name, call)


def always(*_: object, **__: object) -> bool:
    return True


@pytest.fixture(params=[True, False], ids=["fsync", "syncfs"])
def each(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if request.param:
        monkeypatch.setattr(durable, "_SYNCFS_SYSTEMS", frozenset())
    return bool(request.param)


@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize(("code", "kind"), [(errno.EIO, LocalIOError), (errno.ENOSPC, DiskFull)])
def test_after_a_failed_sync_nothing_of_the_group_can_be_promoted(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    each: bool,
    count: int,
    code: int,
    kind: type[SyncdError],
) -> None:
    mirror = opened(tmp_path / "t")
    put(mirror, "0", b"held")
    files = [staged(mirror, b"x") for _ in range(count)]
    with monkeypatch.context() as patch:
        if not each and count > 1:
            patch.setattr(durable, "_load_syncfs", lambda: lambda descriptor: code)
        else:
            Failing(patch, "fsync", code, always)
        with pytest.raises(kind):
            mirror.sync(files)
    with pytest.raises(MirrorError):
        mirror.sync(files)
    for number, file in enumerate(files):
        with pytest.raises(LocalIOError):
            mirror.promote(file, rel(str(number)), batch=BATCH)
        file.discard()
    assert visible(tmp_path / "t") == {"0": b"held"}
    assert os.listdir(tmp_path / "t/.syncd/staging") == []
    put(mirror, "1", b"goes on")
    mirror.close()


def test_a_failed_close_fails_the_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = opened(tmp_path / "t")
    files = [staged(mirror, b"x") for _ in range(3)]
    victim = files[1].descriptor  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        Failing(patch, "close", errno.EIO, lambda descriptor: descriptor == victim)
        with pytest.raises(LocalIOError):
            mirror.sync(files)
    os.close(victim)
    for file in files:
        with pytest.raises(LocalIOError):
            mirror.promote(file, rel("x"), batch=BATCH)
        file.discard()
    assert visible(tmp_path / "t") == {}
    mirror.close()


@pytest.mark.parametrize("name", ["write", "utime"])
def test_a_failed_write_spoils_the_file_for_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    mirror = opened(tmp_path / "t")
    file = mirror.stage()
    with monkeypatch.context() as patch:
        Failing(patch, name, errno.EIO, always)
        with pytest.raises(LocalIOError):
            file.write(memoryview(b"x"))
            file.seal(0)
    with pytest.raises(LocalIOError):
        file.seal(0)
    with pytest.raises(LocalIOError):
        file.checkpoint()
    with pytest.raises(LocalIOError):
        mirror.sync([file])
    file.discard()
    mirror.close()


def test_a_failed_checkpoint_spoils_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = opened(tmp_path / "t")
    file = mirror.stage()
    file.write(memoryview(b"x"))
    with monkeypatch.context() as patch:
        Failing(patch, "fsync", errno.EIO, always)
        with pytest.raises(LocalIOError):
            file.checkpoint()
    with pytest.raises(LocalIOError):
        file.seal(0)
    file.discard()
    mirror.close()


@pytest.mark.parametrize("name", ["rename", "link", "mkdir", "open", "stat"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EMFILE])
def test_a_failed_promote_leaves_the_old_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    mirror = opened(tmp_path / "t")
    put(mirror, "a/x", b"old")
    file = staged(mirror, b"new")
    mirror.sync([file])
    with monkeypatch.context() as patch:
        failing = Failing(patch, name, code, always)
        with pytest.raises(SyncdError):
            mirror.promote(file, rel("a/x"), batch=BATCH)
        failing.armed = False
        assert failing.hits
    assert (tmp_path / "t/a/x").read_bytes() == b"old"
    file.discard()
    mirror.sync_directories()
    assert put(mirror, "a/x", b"newer").size == 5
    assert not any(data == b"new" for data in snapshot(tmp_path / "t/.syncd/trash").values())
    mirror.close()


@pytest.mark.parametrize("name", ["write", "fsync", "close", "utime"])
def test_a_failed_copy_into_the_trash_leaves_the_old_version_and_no_torn_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    mirror = opened(tmp_path / "t")
    put(mirror, "x", b"old")
    file = staged(mirror, b"new")
    mirror.sync([file])
    with monkeypatch.context() as patch:
        Failing(patch, "link", errno.EPERM, always)
        failing = Failing(patch, name, errno.EIO, lambda *_, **__: name != "close")
        if name == "close":
            real = os.close

            def close(descriptor: int) -> None:
                shown = os.readlink(f"/proc/self/fd/{descriptor}")
                real(descriptor)
                if "/trash/" in shown and shown.endswith("/x"):
                    failing.hits += 1
                    raise OSError(errno.EIO, "close")

            patch.setattr(os, "close", close)
        with pytest.raises(LocalIOError):
            mirror.promote(file, rel("x"), batch=BATCH)
        if name == "write" and not failing.hits:
            pytest.skip("this file system shares blocks, so nothing is written")
        assert failing.hits
    assert (tmp_path / "t/x").read_bytes() == b"old"
    assert [data for data in snapshot(tmp_path / "t/.syncd/trash").values() if isinstance(data, bytes)] == []
    mirror.close()


@pytest.mark.parametrize("count", [1, 40])
def test_a_failed_sync_of_folders_is_told_and_the_next_group_is_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, each: bool, count: int
) -> None:
    mirror = opened(tmp_path / "t")
    files = [staged(mirror, b"x") for _ in range(count)]
    mirror.sync(files)
    for number, file in enumerate(files):
        mirror.promote(file, rel(f"{number}/x"), batch=BATCH)
    with monkeypatch.context() as patch:
        Failing(patch, "fsync", errno.EIO, always)
        patch.setattr(mirror._writing.syncer, "_syncfs", lambda descriptor: errno.EIO)
        with pytest.raises(LocalIOError):
            mirror.sync_directories()
    put(mirror, "0/y", b"y")
    mirror.close()


def test_a_folder_closed_early_whose_sync_failed_fails_the_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "_SYNCFS_SYSTEMS", frozenset())
    monkeypatch.setattr("syncd.store.handles.MAX_OPEN", 10)
    mirror = opened(tmp_path / "t")
    files = [staged(mirror, b"x") for _ in range(40)]
    mirror.sync(files)
    with monkeypatch.context() as patch:
        failing = Failing(patch, "fsync", errno.EIO, always)
        for number, file in enumerate(files):
            mirror.promote(file, rel(f"{number}/x"), batch=BATCH)
        assert failing.hits
    with pytest.raises(LocalIOError):
        mirror.sync_directories()
    mirror.sync_directories()
    mirror.close()


@pytest.mark.parametrize("name", ["fsync", "rename", "open"])
def test_a_failed_manifest_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    mirror = opened(tmp_path / "t")
    mirror.write_manifest([b"old"])
    with monkeypatch.context() as patch:
        Failing(patch, name, errno.EIO, always)
        with pytest.raises(LocalIOError):
            mirror.write_manifest([b"new"])
    assert list(mirror.read_manifest()) == [b"old\n"]
    assert os.listdir(tmp_path / "t/.syncd/staging") == []
    mirror.close()


# --- full and read-only disks


class Mounts:
    """Mounts tmpfs for a test; takes them away afterwards."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def tmpfs(self, options: str) -> Path:
        self._folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "syncd-test", str(self._folder)]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        if answer.returncode:
            pytest.skip(f"cannot mount a tmpfs: {answer.stderr.strip()}")
        return self._folder

    def remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(self._folder)], check=True, timeout=30)

    def end(self) -> None:
        if self._folder.is_mount():
            subprocess.run(["umount", "-l", str(self._folder)], check=True, timeout=30)


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[Mounts]:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs root to mount a small tmpfs")
    mounts = Mounts(tmp_path / "disk")
    yield mounts
    mounts.end()


def test_a_disk_full_of_bytes_keeps_the_old_versions_and_goes_on_when_there_is_room(mounts: Mounts) -> None:
    target = mounts.tmpfs("size=1m") / "t"
    mirror = opened(target)
    put(mirror, "a/x", b"old" * 1000)
    ballast = target.parent / "ballast"
    with pytest.raises(OSError, match="No space"), ballast.open("wb") as file:
        while True:
            file.write(b"x" * 4096)
    file = mirror.stage()
    with pytest.raises(DiskFull) as caught:
        file.write(memoryview(b"new" * 5000))
    assert (caught.value.exit_code, caught.value.transient) == (14, True)
    file.discard()
    with pytest.raises(DiskFull):
        mirror.write_manifest([b"x" * 100_000])
    assert (target / "a/x").read_bytes() == b"old" * 1000
    assert os.listdir(target / ".syncd/staging") == []
    ballast.unlink()
    put(mirror, "a/x", b"new" * 5000)
    assert (target / "a/x").read_bytes() == b"new" * 5000
    mirror.close()


def test_a_disk_full_of_inodes_is_full(mounts: Mounts) -> None:
    target = mounts.tmpfs("size=1m,nr_inodes=24") / "t"
    mirror = opened(target)
    put(mirror, "a/x", b"old")
    file = staged(mirror, b"new")
    mirror.sync([file])
    assert mirror.room().total_inodes == 24
    ballast = 0
    with pytest.raises(OSError, match="No space"):
        while True:
            (target.parent / f"ballast{ballast}").touch()
            ballast += 1
    assert mirror.room().free_inodes == 0
    with pytest.raises(DiskFull):
        mirror.stage()
    with pytest.raises(DiskFull):
        mirror.make_directory(rel("b/c"))
    with pytest.raises(DiskFull):  # no inode for the trash folder: the old version stays
        mirror.promote(file, rel("a/x"), batch=BATCH)
    assert (target / "a/x").read_bytes() == b"old"
    for number in range(ballast):
        (target.parent / f"ballast{number}").unlink()
    mirror.promote(file, rel("a/x"), batch=BATCH)
    mirror.sync_directories()
    assert (target / "a/x").read_bytes() == b"new"
    mirror.close()


def test_a_disk_that_turns_read_only_makes_the_target_unusable(mounts: Mounts) -> None:
    target = mounts.tmpfs("size=1m") / "t"
    mirror = opened(target)
    local = put(mirror, "a/x", b"old")
    file = staged(mirror, b"new")
    mirror.sync([file])
    mounts.remount("ro")
    for write in (
        mirror.stage,
        lambda: mirror.promote(file, rel("a/x"), batch=BATCH),
        lambda: mirror.retire(rel("a/x"), local, batch=BATCH),
        lambda: mirror.make_directory(rel("b")),
        lambda: mirror.write_manifest([b"x"]),
    ):
        with pytest.raises(TargetUnusable) as caught:
            write()
        assert caught.value.exit_code == 2
        assert caught.value.hint
    assert mirror.hash_local(rel("a/x")) == (sha256(b"old"), local)
    mirror.close()
    with pytest.raises(TargetUnusable):
        opened(target, known=True)
    with pytest.raises(TargetUnusable):
        opened(target.parent / "another")
    mounts.remount("rw")
    opened(target, known=True).close()


# --- killed at every call

RUN = """
at, target = int(sys.argv[1]), Path(sys.argv[2])
mirror = opened(target)
for number in range(12):
    put(mirror, f"held/{number}", b"old%d" % number * 500)
calls = 0
for name in ("open", "write", "utime", "fsync", "close", "rename", "link", "mkdir", "unlink", "rmdir"):
    def hooked(*arguments, _real=getattr(os, name), **named):
        global calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return _real(*arguments, **named)
    setattr(os, name, hooked)
stats = {number: mirror.stat_local(rel(f"held/{number}")).stat for number in range(12)}
files = [staged(mirror, b"new%d" % number * 700) for number in range(10)]
mirror.sync(files)
for number, file in enumerate(files):
    path = f"held/{number}" if number < 5 else f"fresh/{number}/x"
    mirror.promote(file, rel(path), batch="20260203T000000Z-second")
mirror.retire(rel("held/10"), stats[10], batch="20260203T000000Z-second")
mirror.move(rel("held/11"), rel("moved/11"), stats[11])
mirror.sync_directories()
mirror.write_manifest([b"line"] * 100)
mirror.purge(BATCH)
print(calls)
"""


def test_killed_at_any_call_no_file_is_torn_and_no_held_path_is_empty(tmp_path: Path) -> None:
    whole = script(RUN, "0", str(tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr
    total = int(whole.stdout)
    assert total > 100
    step = 1 if os.environ.get("SYNCD_EXHAUSTIVE") else 7
    for at in range(1, total + 1, step):
        target = tmp_path / "t"
        answer = script(RUN, str(at), str(target))
        assert answer.returncode == -signal.SIGKILL, answer.stderr
        check_after_kill(target, f"killed at call {at} of {total}")
        shutil.rmtree(target)


def check_after_kill(target: Path, when: str) -> None:
    def old(number: int) -> bytes:
        return b"old%d" % number * 500

    def new(number: int) -> bytes:
        return b"new%d" % number * 700

    seen = {path: data for path, data in visible(target).items() if isinstance(data, bytes)}
    for number in range(10):
        assert seen.get(f"held/{number}", old(number)) in (old(number), new(number)), when
        assert f"held/{number}" in seen, when
        assert seen.get(f"fresh/{number}/x", new(number)) == new(number), when
    trash = snapshot(target / ".syncd/trash")
    everywhere = [data for data in (*seen.values(), *trash.values()) if isinstance(data, bytes)]
    for number in (*range(5), 10, 11):
        assert old(number) in everywhere, when  # replaced, retired, moved: never lost
    assert set(everywhere) <= {old(n) for n in range(12)} | {new(n) for n in range(10)}, when
    mirror = opened(target, known=True)
    mirror.sweep_staging([])
    assert os.listdir(target / ".syncd/staging") == [], when
    assert [line for line in mirror.read_manifest() if line != b"line\n"] == [], when
    mirror.close()
