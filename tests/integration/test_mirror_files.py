"""Files in the mirror on a real disk: staging, promoting, retiring, moving, the trash, the manifest."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.core.errors import LocalIOError, PathCollision, PathUnsafe, TargetMissing
from syncd.core.model import Fingerprint, Kind, LocalStat, Partial
from syncd.ports import Traits
from syncd.store import durable, handles, probe, staging
from syncd.store import mirror as mirror_module
from syncd.store.mirror import DiskMirror
from tests.support.mirrors import BATCH, MTIME_NS, opened, put, rel, sha256, snapshot, staged, visible

LONG = "न" * 85  # 255 bytes
NAMES = [
    "page 1 .JPG",
    "x" * 255,
    LONG,
    "हिन्दी/पत्र १ .jpg",
    "a,b (c)/d..e/-rf",
    "'\"$(x);\n".replace("\n", "") + "/`y`",
    "deep/" * 40 + "end.pdf",
    f"{LONG}/{LONG}/{LONG}/{LONG}/f",
]


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[DiskMirror]:
    mirror = opened(tmp_path / "t")
    yield mirror
    mirror.close()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "t"


# --- staging and promoting


@pytest.mark.parametrize("name", NAMES)
def test_a_file_arrives_whole_with_the_sources_time(mirror: DiskMirror, target: Path, name: str) -> None:
    local = put(mirror, name, b"bytes")
    root = os.open(target, os.O_RDONLY)
    found = mirror.stat_local(rel(name))
    assert found is not None
    assert found.kind is Kind.FILE
    assert found.stat == local == LocalStat(found.stat.inode, 5, MTIME_NS)
    assert mirror.hash_local(rel(name)) == (sha256(b"bytes"), local)
    assert os.listdir(target / ".syncd/staging") == []
    directory, _, last = name.rpartition("/")
    assert (mirror.list_local(rel(directory)) or {})[last] == found
    os.close(root)


def test_modes_follow_the_umask(tmp_path: Path) -> None:
    code = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {os.getcwd()!r})
os.umask(0o027)
from tests.support.mirrors import opened, put
put(opened(Path({str(tmp_path / "t")!r})), "a/b/c", b"x")
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
    modes = [stat.S_IMODE((tmp_path / "t" / part).stat().st_mode) for part in ("a", "a/b", "a/b/c")]
    assert modes == [0o750, 0o750, 0o640]


def test_many_writes_and_an_empty_file_hash_right(mirror: DiskMirror) -> None:
    file = mirror.stage()
    data = os.urandom(3 << 20)
    for start in range(0, len(data), 65_537):
        file.write(memoryview(data)[start : start + 65_537])
    assert file.size == len(data)
    assert file.seal(MTIME_NS) == sha256(data)
    empty = staged(mirror, b"")
    mirror.sync([file, empty])
    assert mirror.promote(file, rel("big"), batch=BATCH).size == len(data)
    assert mirror.promote(empty, rel("empty"), batch=BATCH).size == 0
    mirror.sync_directories()
    assert mirror.hash_local(rel("big"))[0] == sha256(data)
    assert mirror.hash_local(rel("empty"), past_page_cache=True)[0] == sha256(b"")


def test_short_writes_are_completed(mirror: DiskMirror, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(staging.os, "write", lambda descriptor, data: real(descriptor, bytes(data[:7])))
        file = staged(mirror, b"a longer text than seven")
    mirror.sync([file])
    mirror.promote(file, rel("x"), batch=BATCH)
    assert mirror.hash_local(rel("x"))[0] == sha256(b"a longer text than seven")


@pytest.mark.parametrize("mtime_ns", [0, -1, -(10**18), 2**63 - 1, 10**30, -(10**30), 253_402_300_800 * 10**9])
def test_any_time_a_server_may_claim_is_survived(mirror: DiskMirror, mtime_ns: int) -> None:
    local = put(mirror, "x", b"x", mtime_ns=mtime_ns)
    found = mirror.stat_local(rel("x"))
    assert found is not None
    assert found.stat == local


def test_what_was_not_synced_is_not_promoted(mirror: DiskMirror, target: Path) -> None:
    file = staged(mirror, b"x")
    with pytest.raises(LocalIOError, match="not synced"):
        mirror.promote(file, rel("x"), batch=BATCH)
    assert visible(target) == {}
    file.discard()
    file.discard()
    assert os.listdir(target / ".syncd/staging") == []


@pytest.mark.parametrize("each", [True, False])
@pytest.mark.parametrize("count", [1, 7, 40])
def test_groups_above_the_bound_of_open_files_are_durable_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, each: bool, count: int
) -> None:
    if each:
        monkeypatch.setattr(durable, "_SYNCFS_SYSTEMS", frozenset())
    monkeypatch.setattr(staging, "_MAX_SEALED", 8)
    synced = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    mirror = opened(tmp_path / "t")
    monkeypatch.setattr(os, "fsync", fsync)
    files = [staged(mirror, b"%d" % number) for number in range(count)]
    opened_now = {os.stat(f"/proc/self/fd/{each}").st_ino for each in os.listdir("/proc/self/fd") if _is_open(each)}
    inodes = {(tmp_path / "t/.syncd/staging" / file.name).stat().st_ino for file in files}
    assert len(inodes & opened_now) <= 8
    mirror.sync(files)
    if each or count < durable.MANY:
        assert inodes <= set(synced)
    for number, file in enumerate(files):
        mirror.promote(file, rel(f"f{number}"), batch=BATCH)
    mirror.sync_directories()
    assert len(visible(tmp_path / "t")) == count
    mirror.close()


def _is_open(descriptor: str) -> bool:
    return os.path.exists(f"/proc/self/fd/{descriptor}")


def test_stage_may_be_called_from_many_threads(mirror: DiskMirror, target: Path) -> None:
    files = []
    lock = threading.Lock()

    def work() -> None:
        for _ in range(50):
            file = staged(mirror, b"x")
            with lock:
                files.append(file)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({file.name for file in files}) == 400
    mirror.sync(files)
    for number, file in enumerate(files):
        mirror.promote(file, rel(f"{number}"), batch=BATCH)
    mirror.sync_directories()
    assert len(visible(target)) == 400


# --- what lay there before


def test_what_is_replaced_lies_in_the_trash(mirror: DiskMirror, target: Path) -> None:
    put(mirror, "a/x", b"one")
    put(mirror, "a/x", b"two")
    put(mirror, "a/x", b"three")
    assert visible(target) == {"a": "drwxr-xr-x", "a/x": b"three"}
    trashed = list(mirror.trash())
    assert [(each.batch, each.path, each.size) for each in trashed] == [
        (BATCH, "a/x", 3),
        (f"{BATCH}.2", "a/x", 3),
    ]
    assert (target / ".syncd/trash" / BATCH / "a/x").read_bytes() == b"one"
    assert (target / ".syncd/trash" / f"{BATCH}.2" / "a/x").read_bytes() == b"two"
    assert trashed[0].trashed_at_ns == 1_767_323_045 * 10**9


def test_a_reader_never_finds_nothing_while_files_are_replaced(mirror: DiskMirror, target: Path) -> None:
    put(mirror, "x", b"a" * 5000)
    wrong: list[object] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                data = (target / "x").read_bytes()
            except OSError as error:
                wrong.append(error)
                return
            if len(data) != 5000 or len(set(data)) != 1:
                wrong.append(data[:20])
                return

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(200):
        put(mirror, "x", bytes([65 + number % 26]) * 5000, batch=f"20260102T030405Z-{number}")
    done.set()
    reader.join()
    assert wrong == []


def test_a_link_in_the_place_of_a_file_is_replaced_not_followed(mirror: DiskMirror, target: Path) -> None:
    outside = target.parent / "outside"
    outside.write_bytes(b"precious")
    (target / "x").symlink_to(outside)
    with pytest.raises(PathUnsafe):
        mirror.hash_local(rel("x"))
    assert mirror.stat_local(rel("x")).kind is Kind.OTHER  # type: ignore[union-attr]
    put(mirror, "x", b"ours")
    assert outside.read_bytes() == b"precious"
    assert not (target / "x").is_symlink()
    assert (target / ".syncd/trash" / BATCH / "x").is_symlink()
    assert [each.path for each in mirror.trash()] == ["x"]


def test_a_folder_in_the_place_of_a_file_goes_when_empty(mirror: DiskMirror, target: Path) -> None:
    (target / "x").mkdir()
    put(mirror, "x", b"ours")
    (target / "y").mkdir()
    (target / "y/theirs").write_bytes(b"theirs")
    file = staged(mirror, b"ours")
    mirror.sync([file])
    with pytest.raises(PathCollision):
        mirror.promote(file, rel("y"), batch=BATCH)
    file.discard()
    assert visible(target) == {"x": b"ours", "y": "drwxr-xr-x", "y/theirs": b"theirs"}


@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_a_special_file_in_the_way_is_moved_and_never_opened(
    mirror: DiskMirror, target: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(target)
    if kind == "fifo":
        os.mkfifo("x")
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("x")
    with pytest.raises(LocalIOError):
        mirror.hash_local(rel("x"))
    assert put(mirror, "x", b"ours").size == 4
    assert not stat.S_ISREG((target / ".syncd/trash" / BATCH / "x").lstat().st_mode)


def test_a_file_in_the_place_of_a_folder_fails_that_file_only(mirror: DiskMirror, target: Path) -> None:
    put(mirror, "a", b"file")
    file = staged(mirror, b"x")
    mirror.sync([file])
    with pytest.raises(PathUnsafe):
        mirror.promote(file, rel("a/b"), batch=BATCH)
    with pytest.raises(PathUnsafe):
        mirror.make_directory(rel("a"))
    with pytest.raises(PathUnsafe):
        mirror.list_local(rel("a"))
    file.discard()
    put(mirror, "c", b"goes on")
    assert visible(target) == {"a": b"file", "c": b"goes on"}


def test_a_folder_that_somebody_removed_in_mid_group_is_made_again(mirror: DiskMirror, target: Path) -> None:
    files = [staged(mirror, b"x") for _ in range(2)]
    mirror.sync(files)
    mirror.promote(files[0], rel("a/b/1"), batch=BATCH)
    (target / "a/b/1").unlink()
    (target / "a/b").rmdir()
    mirror.promote(files[1], rel("a/b/2"), batch=BATCH)
    mirror.sync_directories()
    assert (target / "a/b/2").read_bytes() == b"x"


def test_when_the_target_itself_is_removed_nothing_counts_as_done(mirror: DiskMirror, target: Path) -> None:
    files = [staged(mirror, b"x")]
    mirror.sync(files)
    shutil.rmtree(target)
    with pytest.raises(LocalIOError):
        mirror.promote(files[0], rel("a"), batch=BATCH)
    with pytest.raises(TargetMissing):
        mirror.stage()
    assert not target.exists()


# --- retiring, setting aside, moving


def test_retire_moves_only_the_file_on_record(mirror: DiskMirror, target: Path) -> None:
    local = put(mirror, "a/x", b"one")
    assert not mirror.retire(rel("a/x"), local._replace(size=4), batch=BATCH)
    assert not mirror.retire(rel("a/nothing"), local, batch=BATCH)
    assert not mirror.retire(rel("nowhere/x"), local, batch=BATCH)
    assert mirror.retire(rel("a/x"), local, batch=BATCH)
    assert not mirror.retire(rel("a/x"), local, batch=BATCH)
    mirror.sync_directories()
    assert visible(target) == {"a": "drwxr-xr-x"}
    assert [each.path for each in mirror.trash()] == ["a/x"]


def test_a_file_touched_since_stays(mirror: DiskMirror, target: Path) -> None:
    local = put(mirror, "x", b"one")
    os.utime(target / "x")
    assert not mirror.retire(rel("x"), local, batch=BATCH)
    assert mirror.set_aside(rel("x"), batch=BATCH)
    assert not mirror.set_aside(rel("x"), batch=BATCH)
    mirror.sync_directories()
    assert visible(target) == {}


def test_set_aside_takes_links_but_no_folders(mirror: DiskMirror, target: Path) -> None:
    (target / "dir").mkdir()
    (target / "link").symlink_to("/etc/passwd")
    assert not mirror.set_aside(rel("dir"), batch=BATCH)
    assert mirror.set_aside(rel("link"), batch=BATCH)
    mirror.sync_directories()
    assert visible(target) == {"dir": "drwxr-xr-x"}


def test_a_type_that_flips_and_flips_back_fits_into_one_batch(mirror: DiskMirror, target: Path) -> None:
    for _ in range(2):
        assert mirror.retire(rel("a"), put(mirror, "a", b"file"), batch=BATCH)
        assert mirror.retire(rel("a/b"), put(mirror, "a/b", b"below"), batch=BATCH)
        mirror.sync_directories()
        assert mirror.remove_directory(rel("a"))
    assert sorted((each.path, each.batch[len(BATCH) :]) for each in mirror.trash()) == [
        ("a", ""),
        ("a", ".3"),
        ("a/b", ".2"),
        ("a/b", ".4"),
    ]


def test_move_renames_and_never_over_anything(mirror: DiskMirror, target: Path) -> None:
    local = put(mirror, "a/x", b"one")
    other = put(mirror, "b/y", b"two")
    assert not mirror.move(rel("a/x"), rel("b/y"), local)
    assert not mirror.move(rel("a/x"), rel("c/x"), other)
    assert not mirror.move(rel("a/none"), rel("c/x"), local)
    assert not mirror.move(rel("none/x"), rel("c/x"), local)
    assert mirror.move(rel("a/x"), rel("new/deep/x"), local)
    mirror.sync_directories()
    assert mirror.stat_local(rel("new/deep/x")).stat == local  # type: ignore[union-attr]
    assert mirror.stat_local(rel("a/x")) is None
    assert (target / "b/y").read_bytes() == b"two"


def test_hard_links_of_one_file_are_not_a_respelling(mirror: DiskMirror, target: Path) -> None:
    mirror.traits = Traits(folds_case=True, folds_unicode=True, hard_links=True)
    local = put(mirror, "x", b"one")
    os.link(target / "x", target / "y")
    assert not mirror.move(rel("x"), rel("y"), local)
    assert sorted(visible(target)) == ["x", "y"]


class FoldingOs:
    """A stand-in for `os` that finds names in any case, as a casefolded ext4 does.

    rename(2) between two spellings of one file does nothing there, and over another file keeps that file's spelling.
    """

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    @staticmethod
    def _real(name: str, folder: int) -> str:
        return next((each for each in os.listdir(folder) if each.casefold() == name.casefold()), name)

    def stat(self, name: str, *, dir_fd: int, follow_symlinks: bool) -> os.stat_result:
        return os.stat(self._real(name, dir_fd), dir_fd=dir_fd, follow_symlinks=follow_symlinks)

    def rename(self, old: str, new: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        old, new = self._real(old, src_dir_fd), self._real(new, dst_dir_fd)
        if (src_dir_fd, old) != (dst_dir_fd, new):
            os.rename(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)


def test_a_name_changes_its_case_where_the_file_system_folds(
    mirror: DiskMirror, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = put(mirror, "a/Photo.JPG", b"one")
    monkeypatch.setattr(mirror_module, "os", FoldingOs())
    mirror.traits = Traits(folds_case=True, folds_unicode=True, hard_links=True)
    assert mirror.move(rel("a/Photo.JPG"), rel("a/photo.JPG"), local)
    mirror.sync_directories()
    assert list(mirror.list_local(rel("a")) or {}) == ["photo.JPG"]
    assert mirror.hash_local(rel("a/photo.JPG")) == (sha256(b"one"), local)
    assert os.listdir(target / ".syncd/staging") == []


def test_the_probe_sees_folding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "os", FoldingOs())
    mirror = opened(tmp_path / "t")
    assert mirror.traits == Traits(folds_case=True, folds_unicode=False, hard_links=True)
    mirror.close()


@pytest.mark.parametrize("failing", ["EPERM", "EOPNOTSUPP", "EMLINK", "known"])
def test_without_hard_links_the_old_version_is_copied_before_it_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    calls: list[str] = []

    def link(*_: object, **__: object) -> None:
        calls.append("link")
        code = errno.EPERM if failing == "known" else getattr(errno, failing)
        raise OSError(code, os.strerror(code))

    real_rename = os.rename

    def rename(*arguments: object, **folders: object) -> None:
        if arguments[1] == "x" and calls:
            copies = [each for each in (tmp_path / "t/.syncd/trash").rglob("x") if each.is_file()]
            assert [each.read_bytes() for each in copies] == [b"one"]
            calls.append("rename")
        real_rename(*arguments, **folders)  # type: ignore[arg-type]

    if failing == "known":
        monkeypatch.setattr(os, "link", link)
    mirror = opened(tmp_path / "t")
    monkeypatch.setattr(os, "link", link)
    assert mirror.traits.hard_links is (failing != "known")
    put(mirror, "a/x", b"one")
    calls[:] = ["ready"]
    monkeypatch.setattr(os, "rename", rename)
    put(mirror, "a/x", b"two")
    assert calls == (["ready", "rename"] if failing == "known" else ["ready", "link", "rename"])
    trashed = next(iter(mirror.trash()))
    assert (tmp_path / "t/.syncd/trash" / trashed.batch / trashed.path).stat().st_mtime_ns == MTIME_NS
    mirror.close()


# --- folders


def test_folders_are_made_and_removed_when_empty(mirror: DiskMirror, target: Path) -> None:
    mirror.make_directory(rel("a/b/c"))
    mirror.make_directory(rel("a/b/c"))
    mirror.make_directory(rel(""))
    put(mirror, "a/x", b"x")
    assert not mirror.remove_directory(rel("a"))
    assert mirror.remove_directory(rel("a/b/c"))
    assert mirror.remove_directory(rel("a/b/c"))
    assert mirror.remove_directory(rel("nowhere/b"))
    assert not mirror.remove_directory(rel("a/x"))
    assert not mirror.remove_directory(rel(""))
    put(mirror, "a/b/c/again", b"x")
    assert sorted(visible(target)) == ["a", "a/b", "a/b/c", "a/b/c/again", "a/x"]


def test_very_deep_folders_cost_neither_handles_nor_stack(mirror: DiskMirror, target: Path) -> None:
    path = "/".join(["d"] * 1000)
    before = len(os.listdir("/proc/self/fd"))
    local = put(mirror, path + "/x", b"deep")
    assert len(os.listdir("/proc/self/fd")) - before < 50
    assert mirror.hash_local(rel(path + "/x")) == (sha256(b"deep"), local)
    assert mirror.retire(rel(path + "/x"), local, batch=BATCH)
    mirror.sync_directories()
    assert [len(each.path) for each in mirror.trash()] == [len(path) + 2]
    assert mirror.purge(BATCH) == 4
    assert list(mirror.trash()) == []
    for depth in range(1000, 990, -1):
        assert mirror.remove_directory(rel("/".join(["d"] * depth)))
    mirror.sync_directories()
    root = os.open(target, os.O_RDONLY)
    assert handles.demolish(root, "d") == 0
    os.close(root)
    assert visible(target) == {}


@pytest.mark.parametrize("each", [True, False])
def test_thousands_of_folders_in_one_group_keep_few_handles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, each: bool
) -> None:
    if each:
        monkeypatch.setattr(durable, "_SYNCFS_SYSTEMS", frozenset())
    monkeypatch.setattr(handles, "MAX_OPEN", 20)
    mirror = opened(tmp_path / "t")
    synced: set[int] = set()
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    whole: list[int] = []
    files = [staged(mirror, b"x") for _ in range(300)]
    mirror.sync(files)
    monkeypatch.setattr(mirror._writing.syncer, "_syncfs", lambda descriptor: len(whole.append(descriptor) or ()))
    monkeypatch.setattr(durable, "MANY", 1000)  # only what was closed early asks for syncfs
    for number, file in enumerate(files):
        mirror.promote(file, rel(f"d{number}/x"), batch=BATCH)
        assert len(mirror._writing.handles._open) <= 30
    mirror.sync_directories()
    folders = {(tmp_path / "t" / f"d{number}").stat().st_ino for number in range(300)}
    assert folders <= synced or whole
    assert bool(whole) is not each
    mirror.close()


# --- looking


def test_list_local_shows_everything_but_our_own_folder(mirror: DiskMirror, target: Path) -> None:
    (target / "dir").mkdir()
    (target / "file").write_bytes(b"123")
    (target / "link").symlink_to("file")
    os.mkfifo(target / "fifo")
    found = mirror.list_local(rel("")) or {}
    assert {name: entry.kind for name, entry in found.items()} == {
        "dir": Kind.DIRECTORY,
        "file": Kind.FILE,
        "link": Kind.OTHER,
        "fifo": Kind.OTHER,
    }
    status = (target / "file").stat()
    assert found["file"].stat == LocalStat(status.st_ino, 3, status.st_mtime_ns)
    assert found["file"] == mirror.stat_local(rel("file"))
    assert mirror.list_local(rel("none")) is None
    assert mirror.list_local(rel("dir/none")) is None
    assert mirror.list_local(rel("dir")) == {}
    assert mirror.stat_local(rel("none/none")) is None
    assert mirror.stat_local(rel("")).kind is Kind.DIRECTORY  # type: ignore[union-attr]


def test_hash_local_notices_a_change_while_it_reads(
    mirror: DiskMirror, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (target / "x").write_bytes(b"a" * 100)
    real = os.readv

    def readv(descriptor: int, buffers: list[memoryview]) -> int:
        os.utime(target / "x")
        return real(descriptor, buffers)

    monkeypatch.setattr(os, "readv", readv)
    with pytest.raises(LocalIOError, match="changed"):
        mirror.hash_local(rel("x"))
    with pytest.raises(LocalIOError):
        mirror.hash_local(rel("none"))
    with pytest.raises(LocalIOError):
        mirror.hash_local(rel("none/none"))


def test_a_file_about_to_be_adopted_is_synced_with_all_folders_above(
    mirror: DiskMirror, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (target / "a/b").mkdir(parents=True)
    (target / "a/b/x").write_bytes(b"x")
    synced = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    mirror.hash_local(rel("a/b/x"), durable=True)
    assert synced == [(target / each).stat().st_ino for each in ("a/b/x", "a/b", "a", "")]


def test_read_small_reads_regular_files_only(mirror: DiskMirror, target: Path) -> None:
    put(mirror, "a/SHA256SUMS", b"sums")
    os.mkfifo(target / "fifo")
    (target / "link").symlink_to(target / "a/SHA256SUMS")
    before = len(os.listdir("/proc/self/fd"))
    assert mirror.read_small(rel("a/SHA256SUMS")) == b"sums"
    assert mirror.read_small(rel("a/SHA256SUMS"), 2) == b"su"
    for wrong in ("a", "none", "none/none", "fifo"):
        with pytest.raises(LocalIOError):
            mirror.read_small(rel(wrong))
    with pytest.raises(PathUnsafe):
        mirror.read_small(rel("link"))
    assert len(os.listdir("/proc/self/fd")) == before


def test_room_is_that_of_the_disk(mirror: DiskMirror, target: Path) -> None:
    room = mirror.room()
    found = os.statvfs(target)
    assert room.total_bytes == found.f_blocks * found.f_frsize
    assert 0 < room.free_bytes <= room.total_bytes
    assert room.total_inodes == found.f_files


# --- partials and what staging is left with


def partial(name: str, offset: int, digest: str) -> Partial:
    return Partial(rel("x"), Fingerprint(10, 0, 0, 0), name, offset, digest)


def test_a_partial_goes_on_from_its_durable_prefix(mirror: DiskMirror, target: Path) -> None:
    file = mirror.stage()
    file.write(memoryview(b"hello "))
    assert file.checkpoint() == (6, sha256(b"hello "))
    file.write(memoryview(b"not synced"))
    file.keep()
    again = mirror.resume(partial(file.name, 6, sha256(b"hello ")))
    assert again is not None
    assert again.size == 6
    again.write(memoryview(b"world"))
    assert again.seal(MTIME_NS) == sha256(b"hello world")
    mirror.sync([again])
    mirror.promote(again, rel("x"), batch=BATCH)
    assert (target / "x").read_bytes() == b"hello world"


@pytest.mark.parametrize("damage", ["other bytes", "cut", "a link", "gone", "a folder"])
def test_a_damaged_partial_is_thrown_away(mirror: DiskMirror, target: Path, damage: str) -> None:
    file = mirror.stage()
    file.write(memoryview(b"hello "))
    file.checkpoint()
    file.keep()
    here = target / ".syncd/staging" / file.name
    outside = target.parent / "outside"
    outside.write_bytes(b"hello ")
    if damage == "other bytes":
        here.write_bytes(b"hullo ")
    elif damage == "cut":
        here.write_bytes(b"hell")
    else:
        here.unlink()
    if damage == "a link":
        here.symlink_to(outside)
        with pytest.raises(PathUnsafe):
            mirror.resume(partial(file.name, 6, sha256(b"hello ")))
    elif damage == "a folder":
        here.mkdir()
        with pytest.raises(PathCollision):
            mirror.resume(partial(file.name, 6, sha256(b"hello ")))
    else:
        assert mirror.resume(partial(file.name, 6, sha256(b"hello "))) is None
        assert not here.exists()
    assert outside.read_bytes() == b"hello "
    assert mirror.sweep_staging([]) == (1 if damage in ("a link", "a folder") else 0)


def test_recovery_promotes_by_name(mirror: DiskMirror, target: Path) -> None:
    file = staged(mirror, b"recovered")
    mirror.sync([file])
    mirror.close()
    again = opened(target, known=True)
    assert again.staged_digest(file.name) == sha256(b"recovered")
    assert again.staged_digest("none") is None
    again.touch(rel("a/b/x"))
    local = again.promote(file.name, rel("a/b/x"), batch=BATCH)
    again.sync_directories()
    assert again.hash_local(rel("a/b/x")) == (sha256(b"recovered"), local)
    for wrong in ("none", "../owner", "", ".."):
        with pytest.raises(LocalIOError):
            again.promote(wrong, rel("y"), batch=BATCH)
    again.close()


def test_recovery_syncs_every_folder_above(mirror: DiskMirror, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(mirror, "a/b/x", b"x")
    synced = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    mirror.touch(rel("a/b/x"))
    mirror.sync_directories()
    assert synced == [(target / each).stat().st_ino for each in ("a/b", "a", "")]
    mirror.touch(rel("nowhere/b/x"))
    mirror.sync_directories()


def test_folders_that_a_killed_process_made_are_synced_by_the_next(
    mirror: DiskMirror, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (target / "a/b").mkdir(parents=True)
    synced = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    file = staged(mirror, b"x")
    mirror.sync([file])
    monkeypatch.setattr(os, "fsync", fsync)
    mirror.promote(file, rel("a/b/x"), batch=BATCH)
    mirror.sync_directories()
    assert synced == [(target / each).stat().st_ino for each in ("a/b", "a", "")]
    synced.clear()
    assert mirror.retire(rel("a/b/x"), mirror.stat_local(rel("a/b/x")).stat, batch=BATCH)  # type: ignore[union-attr]
    mirror.sync_directories()
    inodes = {each: (target / each).stat().st_ino for each in ("a", "a/b", "")}
    assert inodes["a/b"] in synced
    assert inodes["a"] not in synced


def test_the_sweep_leaves_partials_and_what_is_arriving(mirror: DiskMirror, target: Path) -> None:
    folder = target / ".syncd/staging"
    (folder / "old-1").write_bytes(b"")
    (folder / "kept").write_bytes(b"")
    (folder / "tree/below/deep").mkdir(parents=True)
    (folder / "tree/below/f").write_bytes(b"x")
    outside = target.parent / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"x")
    (folder / "link").symlink_to(outside)
    (folder / "tree/link").symlink_to(outside)
    arriving = mirror.stage()
    assert mirror.sweep_staging(["kept"]) == 3
    assert sorted(os.listdir(folder)) == sorted(["kept", arriving.name])
    assert (outside / "precious").read_bytes() == b"x"
    arriving.discard()
    assert mirror.sweep_staging([]) == 1


# --- the trash


def test_restore_copies_and_never_overwrites(mirror: DiskMirror, target: Path, tmp_path: Path) -> None:
    local = put(mirror, "a/b/x .pdf", b"one")
    mirror.retire(rel("a/b/x .pdf"), local, batch=BATCH)
    mirror.sync_directories()
    trashed = next(iter(mirror.trash()))
    where = mirror.restore(trashed, str(tmp_path / "rescued" / "here"))
    assert where == str(tmp_path / "rescued/here/a/b/x .pdf")
    assert Path(where).read_bytes() == b"one"
    assert Path(where).stat().st_mtime_ns == MTIME_NS
    Path(where).write_bytes(b"edited")
    with pytest.raises(PathCollision):
        mirror.restore(trashed, str(tmp_path / "rescued" / "here"))
    assert Path(where).read_bytes() == b"edited"
    assert os.listdir(Path(where).parent) == ["x .pdf"]
    assert list(mirror.trash()) == [trashed]


def test_restore_refuses_our_own_folder_and_links(mirror: DiskMirror, target: Path, tmp_path: Path) -> None:
    mirror.retire(rel("a/x"), put(mirror, "a/x", b"one"), batch=BATCH)
    mirror.sync_directories()
    trashed = next(iter(mirror.trash()))
    (tmp_path / "way-in").symlink_to(target / ".syncd")
    (tmp_path / "to").mkdir()
    (tmp_path / "to/a").symlink_to(tmp_path)
    before = snapshot(tmp_path)
    for to in (".syncd", ".syncd/staging", ".syncd/new", "../way-in", "../way-in/pins"):
        with pytest.raises(PathUnsafe):
            mirror.restore(trashed, str(target / to))
    with pytest.raises(PathUnsafe):
        mirror.restore(trashed, str(tmp_path / "to"))
    assert snapshot(tmp_path) == before
    forged = type(trashed)(BATCH, rel(".syncd/pins/x"), 3, 0)
    (target / ".syncd/trash" / BATCH / ".syncd/pins").mkdir(parents=True)
    (target / ".syncd/trash" / BATCH / ".syncd/pins/x").write_bytes(b"bad")
    with pytest.raises(PathUnsafe):
        mirror.restore(forged, str(target))
    assert os.listdir(target / ".syncd/pins") == []


@pytest.mark.parametrize("links", [True, False])
def test_restore_works_without_hard_links(
    mirror: DiskMirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    mirror.retire(rel("x"), put(mirror, "x", b"one"), batch=BATCH)
    mirror.sync_directories()

    def link(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", link)
    trashed = next(iter(mirror.trash()))
    assert Path(mirror.restore(trashed, str(tmp_path / "r"))).read_bytes() == b"one"
    with pytest.raises(PathCollision):
        mirror.restore(trashed, str(tmp_path / "r"))
    assert os.listdir(tmp_path / "r") == ["x"]


def test_restore_of_nothing_or_no_file_says_so(mirror: DiskMirror, target: Path, tmp_path: Path) -> None:
    (target / "x").symlink_to("/etc/passwd")
    mirror.set_aside(rel("x"), batch=BATCH)
    mirror.sync_directories()
    trashed = next(iter(mirror.trash()))
    with pytest.raises(PathUnsafe):
        mirror.restore(trashed, str(tmp_path / "r"))
    with pytest.raises(PathCollision, match="not in the trash"):
        mirror.restore(type(trashed)(BATCH, rel("gone"), 0, 0), str(tmp_path / "r"))
    with pytest.raises(PathCollision, match="not in the trash"):
        mirror.restore(type(trashed)("gone", rel("gone"), 0, 0), str(tmp_path / "r"))


def test_purge_frees_what_no_lease_holds(mirror: DiskMirror, target: Path) -> None:
    for number in range(3):
        mirror.retire(rel(f"a/{number}"), put(mirror, f"a/{number}", b"x" * 100), batch=BATCH)
    put(mirror, "z", b"old")
    mirror.retire(rel("z"), mirror.stat_local(rel("z")).stat, batch="20250101T000000Z-x")  # type: ignore[union-attr]
    mirror.sync_directories()
    os.link(target / ".syncd/trash" / BATCH / "a/0", target / ".syncd/pins/0")
    assert [each.batch[:4] for each in mirror.trash()] == ["2025", "2026", "2026", "2026"]
    assert mirror.purge(BATCH) == 200
    assert mirror.purge(BATCH) == 0
    assert [each.path for each in mirror.trash()] == ["z"]
    assert (target / ".syncd/pins/0").read_bytes() == b"x" * 100
    assert os.listdir(target / ".syncd/staging") == []
    for wrong in ("", "..", ".", "a/b", "../pins"):
        with pytest.raises(PathUnsafe):
            mirror.purge(wrong)


def test_foreign_things_in_the_trash_are_not_followed(mirror: DiskMirror, target: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"x")
    trash = target / ".syncd/trash"
    (trash / BATCH).symlink_to(outside)
    (trash / "a-file").write_bytes(b"x")
    local = put(mirror, "precious", b"one")
    put(mirror, "precious", b"two")
    assert [(each.batch, each.path) for each in mirror.trash()] == [(f"{BATCH}.2", "precious")]
    assert mirror.stat_local(rel("precious")).stat != local  # type: ignore[union-attr]
    mirror.purge(BATCH)
    mirror.purge("a-file")
    assert sorted(os.listdir(trash)) == [f"{BATCH}.2"]
    assert (outside / "precious").read_bytes() == b"x"


# --- the manifest


def test_the_manifest_is_replaced_whole(mirror: DiskMirror, target: Path) -> None:
    assert list(mirror.read_manifest()) == []
    lines = [b'{"n": %d}\n' % number for number in range(20_000)]
    mirror.write_manifest(iter(lines))
    assert list(mirror.read_manifest()) == lines
    assert stat.S_IMODE((target / ".syncd/manifest.jsonl").stat().st_mode) == 0o644

    def broken() -> object:
        yield b"half\n"
        raise KeyError("catalogue")

    with pytest.raises(KeyError):
        mirror.write_manifest(broken())  # type: ignore[arg-type]
    assert list(mirror.read_manifest()) == lines
    assert os.listdir(target / ".syncd/staging") == []
    mirror.write_manifest([])
    assert list(mirror.read_manifest()) == []
