"""Leases over a real mirror and catalogue: what is pinned stays, whatever happens to the mirror, the daemon or the pin.

`python -m tests.integration.test_leases BASE POINT` is the process that is killed at a point.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.core.errors import DiskFull, LeaseRefused, TargetMissing
from syncd.core.lease import Lease, WouldWait
from syncd.core.model import RelPath
from syncd.core.reasons import Reason
from syncd.core.resolution import Resolution, State
from syncd.engine import leasing
from syncd.store.leases import SqliteLeases, boot_id
from tests.support.desk import Desk
from tests.support.world import World

FILES = {"hin/Patra 3 .JPG": b"first version", "eng/x.pdf": b"pdf", "empty": b"", "पत्र.jpg": "हिंदी".encode()}
PATH = "M/hin/Patra 3 .JPG"


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path, dict(FILES))
    assert world.run().exit_code == 0
    return world


@pytest.fixture
def desk(world: World) -> Iterator[Desk]:
    desk = Desk(world)
    yield desk
    desk.close()


def no_links(monkeypatch: pytest.MonkeyPatch, code: int = errno.EPERM) -> None:
    def link(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", link)


# --- one lease


@pytest.mark.parametrize("path", sorted(FILES))
def test_a_lease_pins_the_version_that_is_held(desk: Desk, path: str) -> None:
    lease = desk.lease(f"M/{path}", 60)
    held = desk.world.target / path
    pinned = Path(lease.pinned_path)
    assert pinned == desk.world.target / lease.pinned_rel
    assert (pinned.name, pinned.read_bytes()) == (held.name, FILES[path])
    assert pinned.parent.parent == desk.pins_folder
    assert pinned.stat().st_ino == held.stat().st_ino
    assert (lease.mirror, lease.path, lease.server_path) == ("M", path, f"M/{path}")
    assert (lease.size, lease.sha256) == (len(FILES[path]), hashlib.sha256(FILES[path]).hexdigest())
    assert lease.expires_at == "2023-11-14T22:14:20Z"
    assert desk.leases.release(lease.lease_id) is True
    assert (desk.pins(), desk.journalled()) == (set(), {})
    assert desk.leases.release(lease.lease_id) is None
    assert held.read_bytes() == FILES[path]


def test_leases_of_one_version_share_a_pin_that_goes_with_the_last(desk: Desk) -> None:
    first, second, other = desk.lease(PATH), desk.lease(PATH), desk.lease("M/eng/x.pdf")
    assert first.pinned_path == second.pinned_path != other.pinned_path
    assert first.lease_id != second.lease_id
    assert desk.leases.counts() == {"count": 3, "pins": 2}
    assert desk.leases.release(first.lease_id) is True
    assert Path(second.pinned_path).read_bytes() == FILES["hin/Patra 3 .JPG"]
    assert desk.leases.release(second.lease_id) is True
    assert len(desk.pins()) == 1
    assert desk.leases.counts() == {"count": 1, "pins": 1}


@pytest.mark.parametrize(
    ("path", "state"),
    [("M/hin/none.jpg", State.MISSING), ("M/../x", State.REFUSED), ("M/hin", State.REFUSED), ("N/x", State.NO_MIRROR)],
)
def test_what_is_not_ready_is_not_leased(desk: Desk, path: str, state: State) -> None:
    found = desk.leases.lease(path, 60)
    assert isinstance(found, Resolution)
    assert found.state is state
    assert (desk.pins(), desk.journalled()) == (set(), {})


def test_a_mirror_that_no_run_has_made_is_left_alone(tmp_path: Path) -> None:
    desk = Desk(World(tmp_path, dict(FILES)))
    found = desk.leases.lease(PATH, 60)
    assert isinstance(found, Resolution)
    assert (found.state, found.reason) == (State.FETCHING, Reason.NEVER_LISTED)
    desk.leases.sweep()
    desk.leases.expire()
    assert not desk.world.target.exists()
    desk.close()


# --- what happens to the mirror meanwhile


def test_a_lease_holds_while_the_file_is_replaced(desk: Desk) -> None:
    old = desk.lease(PATH)
    desk.world.source.put("hin/Patra 3 .JPG", b"second version")
    desk.run()
    new = desk.lease(PATH)
    assert Path(old.pinned_path).read_bytes() == b"first version"
    assert Path(new.pinned_path).read_bytes() == b"second version"
    assert old.generation < new.generation
    assert desk.leases.release(old.lease_id) is True
    assert desk.leases.release(new.lease_id) is True
    assert desk.pins() == set()


def test_a_lease_holds_while_the_file_is_retired_and_its_trash_purged(desk: Desk) -> None:
    lease = desk.lease(PATH)
    desk.world.source.remove("hin/Patra 3 .JPG")
    desk.run()
    desk.run()
    assert not (desk.world.target / "hin/Patra 3 .JPG").exists()
    with desk.keeping.target.use() as mirror:
        batches = {trashed.batch for trashed in mirror.trash()}
        assert [mirror.purge(batch) for batch in batches]
        assert list(mirror.trash()) == []
    assert Path(lease.pinned_path).read_bytes() == b"first version"
    assert desk.leases.release(lease.lease_id) is True


def test_a_file_that_changed_under_ocr_is_told_and_its_pin_shared_no_more(desk: Desk) -> None:
    lease = desk.lease(PATH)
    Path(lease.pinned_path).write_bytes(b"edited in place")
    found = desk.leases.lease(PATH, 60)
    assert isinstance(found, Resolution)
    assert (found.state, found.reason) == (State.FETCHING, Reason.LOCAL_CHANGED)
    assert "hin/Patra 3 .JPG" in desk.suspected
    assert desk.leases.release(lease.lease_id) is False
    assert desk.pins() == set()


def test_a_pin_that_somebody_removed_is_a_lease_lost(desk: Desk) -> None:
    lease = desk.lease(PATH)
    shutil.rmtree(Path(lease.pinned_path).parent)
    again = desk.lease(PATH)
    assert again.pinned_path != lease.pinned_path
    assert desk.leases.renew(lease.lease_id, 60) is None
    assert desk.leases.release(lease.lease_id) is None
    assert Path(again.pinned_path).exists()


def test_a_file_that_is_replaced_between_the_look_and_the_pin_is_leased_as_it_is_then(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, once = os.link, iter([True])

    def link(*arguments: Any, **folders: Any) -> None:
        if next(once, False):
            monkeypatch.setattr(os, "link", real)
            desk.world.source.put("hin/Patra 3 .JPG", b"second version")
            desk.run()
        real(*arguments, **folders)

    monkeypatch.setattr(os, "link", link)
    lease = desk.lease(PATH)
    assert Path(lease.pinned_path).read_bytes() == b"second version"
    assert lease.sha256 == hashlib.sha256(b"second version").hexdigest()
    assert len(desk.pins()) == 1


def test_a_link_in_the_place_of_a_file_or_folder_is_never_pinned(desk: Desk, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    (secret / "hin").mkdir(parents=True)
    (secret / "hin" / "Patra 3 .JPG").write_bytes(b"first version")
    shutil.move(desk.world.target / "hin", tmp_path / "moved")
    (desk.world.target / "hin").symlink_to(secret / "hin")
    found = desk.leases.lease(PATH, 60)
    assert isinstance(found, Resolution)
    assert found.state is State.FETCHING
    (desk.world.target / "eng/x.pdf").unlink()
    (desk.world.target / "eng/x.pdf").symlink_to(secret / "hin" / "Patra 3 .JPG")
    assert isinstance(desk.leases.lease("M/eng/x.pdf", 60), Resolution)
    assert desk.pins() == set()


# --- at once, or not at all


def test_at_once_as_otherwise(desk: Desk) -> None:
    first = desk.leases.lease(PATH, 60, wait=False)
    second = desk.leases.lease(PATH, 60, wait=False)
    assert isinstance(first, Lease)
    assert isinstance(second, Lease)
    assert first.pinned_path == second.pinned_path
    found = desk.leases.lease("M/nothing", 60, wait=False)
    assert isinstance(found, Resolution)
    assert found.state is State.MISSING
    assert [desk.leases.release(each.lease_id, wait=False) for each in (first, second, first)] == [True, True, None]
    assert (desk.pins(), desk.journalled()) == (set(), {})


def test_at_once_nobody_waits_for_who_writes_the_catalogue(desk: Desk) -> None:
    lease = desk.lease(PATH)
    writing, written = threading.Event(), threading.Event()

    def write() -> None:
        with desk.catalogue.transaction():
            writing.set()
            written.wait(20)

    writer = threading.Thread(target=write)
    writer.start()
    assert writing.wait(20)
    try:
        with pytest.raises(WouldWait):
            desk.leases.lease("M/eng/x.pdf", 60, wait=False)
        with pytest.raises(WouldWait):
            desk.leases.release(lease.lease_id, wait=False)
    finally:
        written.set()
        writer.join()
    assert set(desk.journalled()) == {lease.lease_id}
    assert desk.leases.release(lease.lease_id, wait=False) is True


def test_at_once_nothing_is_copied(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    no_links(monkeypatch)
    with pytest.raises(WouldWait):
        desk.leases.lease(PATH, 60, wait=False)
    assert (desk.pins(), desk.journalled()) == (set(), {})
    assert desk.leases.counts() == {"count": 0, "pins": 0}
    assert Path(desk.lease(PATH).pinned_path).read_bytes() == FILES["hin/Patra 3 .JPG"]
    assert isinstance(desk.leases.lease(PATH, 60, wait=False), Lease)  # the copy is there by now


def test_at_once_a_file_that_is_being_replaced_is_left_to_who_can_wait(desk: Desk) -> None:
    held = desk.world.target / "hin/Patra 3 .JPG"
    os.utime(held, (1, 1))
    with pytest.raises(WouldWait):
        desk.leases.lease(PATH, 60, wait=False)
    assert (desk.pins(), desk.journalled()) == (set(), {})


# --- no hard links


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_without_hard_links_a_verified_copy_is_pinned(desk: Desk, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    no_links(monkeypatch, code)
    lease = desk.lease(PATH)
    pinned, held = Path(lease.pinned_path), desk.world.target / "hin/Patra 3 .JPG"
    assert pinned.read_bytes() == b"first version"
    assert pinned.stat().st_ino != held.stat().st_ino
    assert pinned.stat().st_mtime_ns == held.stat().st_mtime_ns
    assert desk.lease(PATH).pinned_path == lease.pinned_path
    pinned.write_bytes(b"edited in place")
    fresh = desk.lease(PATH)
    assert Path(fresh.pinned_path).read_bytes() == b"first version"
    assert desk.leases.release(lease.lease_id) is False
    assert desk.leases.release(fresh.lease_id) is True


def test_a_copy_that_is_not_what_the_record_says_is_not_pinned(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    no_links(monkeypatch)
    held = desk.world.target / "hin/Patra 3 .JPG"
    status = held.stat()
    held.write_bytes(b"FIRST version")
    os.utime(held, ns=(status.st_mtime_ns, status.st_mtime_ns))
    found = desk.leases.lease(PATH, 60)
    assert isinstance(found, Resolution)
    assert (found.state, found.reason, found.local_path) == (State.FETCHING, Reason.DIGEST_MISMATCH, None)
    assert (desk.pins(), desk.journalled()) == (set(), {})


def test_a_copy_respects_the_free_space_floor(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    no_links(monkeypatch)
    desk.kept["M"] = desk.kept["M"]._replace(floor=lambda total: total)
    with pytest.raises(DiskFull):
        desk.leases.lease(PATH, 60)
    assert (desk.pins(), desk.journalled()) == (set(), {})
    assert desk.leases.counts() == {"count": 0, "pins": 0}


# --- time


def test_a_lease_ends_with_its_time_and_is_kept_by_renewing_it(desk: Desk) -> None:
    short, kept = desk.lease(PATH, ttl_s=10), desk.lease("M/eng/x.pdf", ttl_s=10)
    desk.now = 9
    renewed = desk.leases.renew(kept.lease_id, 30)
    assert renewed is not None
    assert (renewed.lease_id, renewed.pinned_path) == (kept.lease_id, kept.pinned_path)
    assert renewed.expires_at > kept.expires_at
    assert desk.leases.expire() == 0
    desk.now = 11
    assert desk.leases.expire() == 1
    assert desk.leases.renew(short.lease_id, 10) is None
    assert not Path(short.pinned_path).exists()
    desk.now = 38
    assert desk.leases.expire() == 0
    desk.now = 40
    assert desk.leases.expire() == 1
    assert (desk.pins(), desk.journalled()) == (set(), {})


@pytest.mark.parametrize(("asked", "given"), [(0.0, 1.0), (-5.0, 1.0), (1e9, 3600.0), (float("nan"), 1.0)])
def test_a_lease_lasts_from_a_second_to_an_hour(desk: Desk, asked: float, given: float) -> None:
    desk.lease(PATH, ttl_s=asked)
    desk.now = given - 0.5
    assert desk.leases.expire() == 0
    desk.now = given + 0.5
    assert desk.leases.expire() == 1


def test_after_sleep_every_lease_has_its_time_again(desk: Desk) -> None:
    lease = desk.lease(PATH, ttl_s=60)
    desk.now = 30_000
    desk.leases.woke()
    assert desk.leases.expire() == 0
    assert desk.leases.renew(lease.lease_id, 60) is not None
    desk.now = 30_061
    assert desk.leases.expire() == 1


@pytest.mark.parametrize("bound", ["MAX_LEASES", "MAX_OF_ONE_PATH"])
def test_there_are_only_so_many(desk: Desk, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    monkeypatch.setattr(leasing, bound, 3)
    taken = [desk.lease(PATH) for _ in range(3)]
    with pytest.raises(LeaseRefused, match="3 leases"):
        desk.leases.lease(PATH, 60)
    assert desk.leases.release(taken[0].lease_id) is True
    assert desk.lease(PATH)


# --- the daemon comes and goes


def test_leases_survive_a_restart_of_the_daemon_with_their_time_again(desk: Desk) -> None:
    first, second = desk.lease(PATH, ttl_s=60), desk.lease(PATH, ttl_s=60)
    desk.close()
    later = Desk(desk.world)
    later.leases.sweep()
    assert later.leases.counts() == {"count": 2, "pins": 1}
    later.now = 59
    assert later.leases.expire() == 0
    assert later.leases.release(first.lease_id) is True
    assert Path(second.pinned_path).read_bytes() == b"first version"
    assert later.lease(PATH).pinned_path == second.pinned_path
    later.now = 200
    assert later.leases.expire() == 2
    assert later.pins() == set()
    later.close()


@pytest.mark.parametrize("boot", ["boot-2", ""])
def test_leases_do_not_survive_a_restart_of_the_machine(desk: Desk, boot: str) -> None:
    lease = desk.lease(PATH)
    desk.close()
    later = Desk(desk.world, boot)
    later.leases.sweep()
    assert later.leases.release(lease.lease_id) is None
    assert (later.pins(), later.journalled()) == (set(), {})
    later.close()


def test_this_start_of_the_machine_is_told_from_others() -> None:
    assert boot_id() == boot_id() != ""


def test_the_journal_keeps_every_number_a_file_may_have(desk: Desk) -> None:
    lease = desk.lease(PATH)
    (kept,) = SqliteLeases(desk.catalogue).load()
    odd = kept._replace(lease_id="odd", local=kept.local._replace(inode=2**64 - 1))
    SqliteLeases(desk.catalogue).add(odd)
    assert {each.lease_id: each for each in SqliteLeases(desk.catalogue).load()} == {lease.lease_id: kept, "odd": odd}
    assert kept.path == RelPath("hin/Patra 3 .JPG")


def test_what_no_lease_knows_is_swept_and_no_link_followed(desk: Desk, tmp_path: Path) -> None:
    lease = desk.lease(PATH)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(b"not ours")
    (desk.pins_folder / "deep" / "er").mkdir(parents=True)
    (desk.pins_folder / "deep" / "er" / "file").write_bytes(b"")
    (desk.pins_folder / "link").symlink_to(tmp_path / "outside")
    (desk.pins_folder / "file").write_bytes(b"")
    desk.leases.sweep()
    assert desk.pins() == {Path(lease.pinned_path).parent.name}
    assert (tmp_path / "outside" / "file").read_bytes() == b"not ours"
    assert desk.leases.release(lease.lease_id) is True


def test_a_sweep_leaves_a_pin_alone_that_is_being_made(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    real, links = os.link, []

    def link(*arguments: Any, **folders: Any) -> None:
        real(*arguments, **folders)
        links.append(arguments)
        desk.leases.sweep()

    monkeypatch.setattr(os, "link", link)
    lease = desk.lease(PATH)
    assert len(links) == 1
    assert desk.leases.release(lease.lease_id) is True


def test_a_target_that_is_unplugged_loses_no_lease(desk: Desk, tmp_path: Path) -> None:
    lease, other = desk.lease(PATH), desk.lease("M/eng/x.pdf")
    desk.world.target.rename(tmp_path / "unplugged")
    found = desk.leases.lease(PATH, 60)
    assert isinstance(found, Resolution)
    assert (found.state, found.reason) == (State.UNAVAILABLE, Reason.TARGET_MISSING)
    with pytest.raises(TargetMissing):
        desk.leases.renew(lease.lease_id, 60)
    assert desk.leases.release(other.lease_id) is False
    assert not desk.world.target.exists()
    (tmp_path / "unplugged").rename(desk.world.target)
    assert desk.leases.renew(lease.lease_id, 600) is not None
    desk.now = 100
    desk.leases.expire()
    assert desk.pins() == {Path(lease.pinned_path).parent.name}
    assert desk.leases.release(lease.lease_id) is True


# --- many at once


def test_many_workers_at_once_leave_nothing_behind(desk: Desk) -> None:
    wrong: list[object] = []

    def work() -> None:
        for number in range(15):
            path = ("hin/Patra 3 .JPG", "eng/x.pdf")[number % 2]
            found = desk.leases.lease(f"M/{path}", 60)
            if isinstance(found, Resolution):
                if found.state is not State.FETCHING:
                    wrong.append(found)
                continue
            if hashlib.sha256(Path(found.pinned_path).read_bytes()).hexdigest() != found.sha256:
                wrong.append(found)
            if desk.leases.release(found.lease_id) is not True:
                wrong.append(found)

    threads = [threading.Thread(target=work, name=f"worker {number}") for number in range(6)]
    for thread in threads:
        thread.start()
    for number in range(5):
        desk.world.source.put("hin/Patra 3 .JPG", b"version %d" % number)
        desk.run()
        desk.leases.sweep()
        desk.leases.expire()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert (desk.pins(), desk.journalled(), desk.leases.counts()) == (set(), {}, {"count": 0, "pins": 0})


# --- killed


POINTS = ("pin made", "linked", "before journal", "journalled", "before strike", "struck", "pin emptied")


@pytest.mark.parametrize("point", POINTS)
def test_killed_anywhere_no_pin_is_left_that_nobody_knows(world: World, point: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.test_leases", str(world.base), point],
        cwd=Path(__file__).parents[2],
        timeout=60,
        check=False,
    )
    assert done.returncode == 9
    desk = Desk(world)
    desk.leases.sweep()
    known = desk.journalled()
    assert desk.pins() == set(known.values())
    assert len(known) == (1 if point in ("journalled", "before strike") else 0)
    assert [desk.leases.release(lease_id) for lease_id in known] == [True] * len(known)
    assert desk.pins() == set()
    assert desk.world.mirrored() == FILES
    desk.close()


def die(*_: object, **__: object) -> None:
    os._exit(9)


def before(place: Any, name: str) -> None:
    setattr(place, name, die)


def after(place: Any, name: str) -> None:
    real: Callable[..., object] = getattr(place, name)

    def call(*arguments: object, **named: object) -> None:
        real(*arguments, **named)
        die()

    setattr(place, name, call)


def be_killed(base: Path, point: str) -> None:
    desk = Desk(World(base))
    if point in ("before strike", "struck", "pin emptied"):
        lease = desk.lease(PATH)
        arm = {
            "before strike": lambda: before(SqliteLeases, "remove"),
            "struck": lambda: after(SqliteLeases, "remove"),
            "pin emptied": lambda: after(os, "unlink"),
        }
        arm[point]()
        desk.leases.release(lease.lease_id)
    else:
        with desk.keeping.target.use():  # opened before anything is armed
            arm = {
                "pin made": lambda: after(os, "mkdir"),
                "linked": lambda: after(os, "link"),
                "before journal": lambda: before(SqliteLeases, "add"),
                "journalled": lambda: after(SqliteLeases, "add"),
            }
            arm[point]()
            desk.leases.lease(PATH, 60)


if __name__ == "__main__":
    be_killed(Path(sys.argv[1]), sys.argv[2])
    sys.exit("was not killed")
