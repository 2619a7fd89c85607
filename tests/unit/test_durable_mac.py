"""On macOS fsync does not reach the disk: the last file of a group, and single ones, are synced by F_FULLFSYNC."""

from __future__ import annotations

import errno
import fcntl
import os

import pytest

from syncd.store import durable
from syncd.store.durable import Syncer, sync_descriptor

FULLFSYNC = 51


class Mac:
    """Notes what is asked of the system, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, int]] = []
        self.refuses = 0
        monkeypatch.setattr(durable.sys, "platform", "darwin")
        monkeypatch.setattr(fcntl, "F_FULLFSYNC", FULLFSYNC, raising=False)
        monkeypatch.setattr(fcntl, "fcntl", self._fcntl)
        monkeypatch.setattr(os, "fsync", lambda descriptor: self.calls.append(("fsync", descriptor)))

    def _fcntl(self, descriptor: int, command: int) -> None:
        assert command == FULLFSYNC
        self.calls.append(("full", descriptor))
        if self.refuses:
            raise OSError(self.refuses, os.strerror(self.refuses))


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> Mac:
    return Mac(monkeypatch)


def test_one_file_is_synced_to_the_disk(mac: Mac) -> None:
    sync_descriptor(5)
    assert mac.calls == [("full", 5)]


@pytest.mark.parametrize("count", [1, 3, 200])
def test_a_group_flushes_the_drive_once_after_all_else(mac: Mac, count: int) -> None:
    syncer = Syncer(3, "apfs")
    assert syncer.needs_descriptors
    assert not syncer.may_close_folders
    syncer.files(range(10, 10 + count), closed=False)
    assert mac.calls[-1] == ("full", 9 + count)
    assert sorted(mac.calls[:-1]) == [("fsync", number) for number in range(10, 9 + count)]


def test_folders_are_flushed_in_order(mac: Mac) -> None:
    Syncer(3, "apfs").folders([4, 5, 6], closed=False)
    assert mac.calls == [("fsync", 4), ("fsync", 5), ("full", 6)]


@pytest.mark.parametrize("code", [errno.ENOTSUP, errno.ENOTTY, errno.EINVAL])
def test_a_file_system_without_it_is_synced_as_well_as_it_can_be(mac: Mac, code: int) -> None:
    mac.refuses = code
    sync_descriptor(5)
    assert mac.calls == [("full", 5), ("fsync", 5)]


def test_an_error_of_the_disk_is_no_reason_to_try_the_weaker_one(mac: Mac) -> None:
    mac.refuses = errno.EIO
    with pytest.raises(OSError, match="Input/output"):
        sync_descriptor(5)
    assert mac.calls == [("full", 5)]
