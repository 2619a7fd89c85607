"""Rules of the mirror on disk that need no disk: errors, syncing, ownership, mount points, file systems."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from syncd.core.errors import (
    DiskFull,
    LocalIOError,
    PathCollision,
    PathUnsafe,
    Scope,
    SyncdError,
    TargetMissing,
    TargetUnsafe,
    TargetUnusable,
)
from syncd.store import durable, probe
from syncd.store.disk_errors import translate, translated
from syncd.store.durable import MANY, Syncer
from syncd.store.owner import Claim, Owner
from tests.support.mirrors import opened, peeked

# --- errors


@pytest.mark.parametrize(
    ("code", "kind", "exit_code"),
    [
        (errno.ENOSPC, DiskFull, 14),
        (errno.EDQUOT, DiskFull, 14),
        (errno.EROFS, TargetUnusable, 2),
        (errno.ESTALE, TargetMissing, 13),
        (errno.ENOTDIR, PathUnsafe, 3),
        (errno.ELOOP, PathUnsafe, 3),
        (errno.EEXIST, PathCollision, 3),
        (errno.EISDIR, PathCollision, 3),
        (errno.ENOTEMPTY, PathCollision, 3),
        (errno.EIO, LocalIOError, 3),
        (errno.EACCES, LocalIOError, 3),
        (errno.ENAMETOOLONG, LocalIOError, 3),
        (errno.EMFILE, LocalIOError, 3),
    ],
)
def test_every_errno_has_its_error(code: int, kind: type[SyncdError], exit_code: int) -> None:
    error = translate(OSError(code, os.strerror(code)), "write", "a/b\x1b[2J")
    assert type(error) is kind
    assert error.exit_code == exit_code
    assert error.hint
    assert "write" in error.message
    assert "\x1b" not in error.message


def test_the_cause_is_kept_and_other_exceptions_pass() -> None:
    with pytest.raises(DiskFull) as caught, translated("write", "x"):
        raise OSError(errno.ENOSPC, "full")
    assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(KeyError), translated("write", "x"):
        raise KeyError("x")


def test_an_unsafe_target_is_an_error_of_its_own() -> None:
    error = TargetUnsafe("x")
    assert (error.scope, error.exit_code, error.reason.value) == (Scope.RUN, 13, "path_unsafe")


# --- syncing


class Calls:
    """Stands in for the system calls that sync, and remembers them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.syncfs: list[int] = []
        self.fsync: list[int] = []
        self.syncfs_answer = 0
        self.broken: set[int] = set()
        self.clock = 1000.0
        self.syncfs_takes_s = 0.0
        monkeypatch.setattr(durable, "_load_syncfs", lambda: self._syncfs)
        monkeypatch.setattr(durable.os, "fsync", self._fsync)
        monkeypatch.setattr(durable.time, "monotonic", lambda: self.clock)
        monkeypatch.setattr(durable.sys, "platform", "linux")
        self.kernel(monkeypatch, (6, 1))

    def kernel(self, monkeypatch: pytest.MonkeyPatch, release: tuple[int, int]) -> None:
        monkeypatch.setattr(durable, "_kernel_release", lambda: release)

    def _syncfs(self, descriptor: int) -> int:
        self.syncfs.append(descriptor)
        self.clock += self.syncfs_takes_s
        return self.syncfs_answer

    def _fsync(self, descriptor: int) -> None:
        self.fsync.append(descriptor)
        if descriptor in self.broken:
            raise OSError(errno.EIO, "I/O error")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


GROUP = list(range(100, 100 + 3 * MANY))


def test_a_large_group_is_one_syncfs_and_a_small_one_fsyncs(calls: Calls) -> None:
    syncer = Syncer(7, "ext4")
    syncer.files(GROUP, closed=False)
    assert (calls.syncfs, calls.fsync) == ([7], [])
    syncer.files(GROUP[: MANY - 1], closed=False)
    assert calls.syncfs == [7]
    assert sorted(calls.fsync) == GROUP[: MANY - 1]


def test_files_that_are_closed_already_need_syncfs(calls: Calls) -> None:
    Syncer(7, "ext4").files([], closed=True)
    assert calls.syncfs == [7]


@pytest.mark.parametrize("file_system", ["nfs4", "fuse.sshfs", "overlay", "", "cifs", "vfat"])
def test_where_syncfs_promises_nothing_every_file_is_synced(calls: Calls, file_system: str) -> None:
    syncer = Syncer(7, file_system)
    assert syncer.needs_descriptors
    syncer.files(GROUP, closed=False)
    syncer.folders(GROUP, closed=False)
    assert calls.syncfs == []
    assert sorted(calls.fsync) == sorted(GROUP * 2)


def test_old_kernels_lose_errors_in_syncfs(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    calls.kernel(monkeypatch, (5, 7))
    assert Syncer(7, "ext4").needs_descriptors
    calls.kernel(monkeypatch, (5, 10))
    syncer = Syncer(7, "ext4")
    assert not syncer.needs_descriptors
    assert not syncer.may_close_folders
    syncer.folders(GROUP, closed=False)
    assert calls.syncfs == []
    assert calls.fsync == GROUP


def test_folders_are_synced_in_order_when_few_and_by_syncfs_when_many(calls: Calls) -> None:
    syncer = Syncer(7, "ext4")
    syncer.folders([3, 1, 2], closed=False)
    assert calls.fsync == [3, 1, 2]
    syncer.folders(GROUP, closed=False)
    syncer.folders([], closed=True)
    assert calls.syncfs == [7, 7]


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EINVAL])
def test_a_system_without_syncfs_falls_back(calls: Calls, code: int) -> None:
    calls.syncfs_answer = code
    syncer = Syncer(7, "ext4")
    syncer.files(GROUP, closed=False)
    assert sorted(calls.fsync) == GROUP
    syncer.files(GROUP, closed=False)
    assert calls.syncfs == [7]
    assert syncer.needs_descriptors


def test_closed_files_that_syncfs_cannot_reach_are_never_called_durable(calls: Calls) -> None:
    calls.syncfs_answer = errno.ENOSYS
    with pytest.raises(OSError, match="closed already"):
        Syncer(7, "ext4").files(GROUP, closed=True)
    with pytest.raises(OSError, match="closed already"):
        Syncer(7, "ext4").folders(GROUP, closed=True)


def test_a_failed_syncfs_fails_the_group_and_the_next_ones_look_at_their_own_files(calls: Calls) -> None:
    syncer = Syncer(7, "ext4")
    calls.syncfs_answer = errno.EIO
    with pytest.raises(OSError, match="Input/output"):
        syncer.files(GROUP, closed=False)
    assert calls.fsync == []
    calls.syncfs_answer = 0
    assert syncer.needs_descriptors
    syncer.files(GROUP, closed=False)
    assert calls.syncfs == [7]
    assert sorted(calls.fsync) == GROUP
    calls.clock += 3600
    assert not syncer.needs_descriptors
    syncer.files(GROUP, closed=False)
    assert calls.syncfs == [7, 7]


def test_a_slow_syncfs_is_left_alone_for_a_while(calls: Calls) -> None:
    calls.syncfs_takes_s = 30.0
    syncer = Syncer(7, "ext4")
    syncer.files(GROUP, closed=False)
    syncer.files(GROUP, closed=False)
    assert calls.syncfs == [7]
    assert sorted(calls.fsync) == GROUP


@pytest.mark.parametrize("broken", [GROUP[0], GROUP[5], GROUP[-1]])
def test_one_failed_fsync_among_many_is_never_lost(calls: Calls, broken: int) -> None:
    calls.broken = {broken}
    with pytest.raises(OSError, match="I/O error"):
        Syncer(7, "nfs").files(GROUP, closed=False)


def test_on_a_mac_the_last_file_flushes_the_drive(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    full: list[int] = []
    monkeypatch.setattr(durable.sys, "platform", "darwin")
    monkeypatch.setattr(durable, "_full_fsync", full.append)
    syncer = Syncer(7, "apfs")
    syncer.files([1, 2, 3], closed=False)
    assert (sorted(calls.fsync), full) == ([1, 2], [3])
    syncer.folders([4, 5], closed=False)
    assert full == [3, 5]


def test_a_disk_without_full_fsync_gets_fsync(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def refuse(code: int) -> Callable[[int, int], int]:
        def call(descriptor: int, command: int) -> int:
            raise OSError(code, os.strerror(code))

        return call

    monkeypatch.setattr(fcntl, "fcntl", refuse(errno.ENOTSUP))
    durable._full_fsync(9)
    assert calls.fsync == [9]
    monkeypatch.setattr(fcntl, "fcntl", refuse(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        durable._full_fsync(9)


# --- whose a target is


@pytest.mark.parametrize(
    ("owner", "known", "new_target", "ours"),
    [
        (("uid-1", "Bhushanji", "host-1"), True, False, True),
        (("uid-1", "Bhushanji", "host-1"), False, False, True),
        (("uid-1", "renamed", "host-1"), True, False, True),
        (("uid-2", "Bhushanji", "host-1"), False, False, True),  # the catalogue was lost
        (("uid-2", "Bhushanji", "host-1"), True, False, False),  # a disk of an earlier life
        (("uid-2", "Bhushanji", "host-1"), True, True, True),
        (("uid-2", "newsletters", "host-1"), False, False, False),
        (("uid-2", "newsletters", "host-1"), True, True, False),
        (("uid-1", "Bhushanji", "host-2"), False, False, False),
        (("uid-1", "Bhushanji", "host-2"), True, True, False),
    ],
)
def test_whose_a_target_is(owner: tuple[str, str, str], known: bool, new_target: bool, ours: bool) -> None:
    claim = Claim("uid-1", "Bhushanji", "host-1", "tod-mac", known, new_target)
    uid, mirror, host_id = owner
    assert claim.owns(Owner(uid, mirror, host_id, "x", "2026-01-01T00:00:00Z")) is ours


@pytest.mark.parametrize(
    "target",
    [
        "/mnt/syncd-no-such-disk",
        "/mnt/syncd-no-such-disk/data/Bhushanji",
        "/media/syncd-no-such-disk/Bhushanji",
        "/media/syncd-no-such-user/disk/Bhushanji",
        "/Volumes/syncd-no-such-disk/Bhushanji",
        "/run/media/syncd-no-such-user/disk/data",
    ],
)
def test_an_unmounted_disk_is_missing_and_nothing_is_made_in_its_place(target: str) -> None:
    top = Path(*Path(target).parts[:3])
    for look in (opened, peeked):
        with pytest.raises(TargetMissing) as caught:
            look(Path(target))
        assert caught.value.exit_code == 13
        assert "mount" in caught.value.hint
        assert not top.exists() or top == Path("/run/media")


def test_a_link_to_an_unmounted_disk_is_missing_too(tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to("/mnt/syncd-no-such-disk")
    with pytest.raises(TargetMissing):
        opened(tmp_path / "data" / "Bhushanji")
    assert not Path("/mnt/syncd-no-such-disk").exists()


# --- file systems


@pytest.mark.parametrize(
    "name", ["nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "fuse.sshfs", "fuse.rclone"]
)
def test_shared_file_systems_are_known(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(probe, "_type_of", lambda descriptor: name)
    assert probe.is_network_file_system("/") == name


@pytest.mark.parametrize("name", ["ext4", "xfs", "btrfs", "tmpfs", "apfs", "hfs", "exfat", "overlay", "fuseblk", ""])
def test_local_file_systems_are_local(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(probe, "_type_of", lambda descriptor: name)
    assert probe.is_network_file_system("/") is None


def test_the_type_of_a_path_that_is_not_there_yet_is_that_of_the_folder_above(tmp_path: Path) -> None:
    here = probe.file_system_of(tmp_path)
    assert here
    assert probe.file_system_of(tmp_path / "not" / "there") == here
    assert probe.file_system_of(Path("/proc/self")) == "proc"


@pytest.mark.parametrize(("name", "inodes"), [("ext4", True), ("apfs", True), ("exfat", False), ("fuse.rclone", False)])
def test_inode_numbers_count_only_where_they_last(name: str, inodes: bool) -> None:
    assert probe.has_inodes(name) is inodes
