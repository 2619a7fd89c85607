"""The resolver over a real mirror and catalogue: only what is verified on disk, now, is ready."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncd.core.model import RelPath
from syncd.core.reasons import Reason
from syncd.core.resolution import Resolution, State
from syncd.sources.memory import Fault
from tests.support.desk import Desk
from tests.support.world import World

FILES = {
    "hin/Patra 3 .JPG": b"letter",
    "eng/x.pdf": b"pdf",
    "eng/deep/y.pdf": b"deep",
    "top.pdf": b"top",
    "पत्र.jpg": "हिंदी".encode(),
    "hin/100%20.jpg": b"percent",
}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    world = World(tmp_path, dict(FILES), 'exclude = ["*.tmp", "private/"]')
    assert world.run().exit_code == 0
    desk = Desk(world)
    yield desk
    desk.close()


def told(found: Resolution) -> tuple[State, Reason | None]:
    return found.state, found.reason


@pytest.mark.parametrize("path", sorted(FILES))
@pytest.mark.parametrize("front", ["M/", "./M/", "/app/M/", "/data/M/", "/mnt/sda1/home/M/", "", "smb://h/share/M/"])
def test_what_is_held_is_ready_in_any_spelling(desk: Desk, front: str, path: str) -> None:
    found = desk.resolver.resolve(front + path)
    assert told(found) == (State.READY, None)
    assert (found.mirror, found.path, found.server_path) == ("M", path, f"M/{path}")
    assert found.local_path is not None
    assert Path(found.local_path).read_bytes() == FILES[path]
    assert desk.resolver.resolve(found.local_path) == found
    assert desk.resolver.resolve(found.server_path) == found
    assert desk.resolver.resolve_in("M", RelPath(path)) == found


def test_a_new_version_is_ready_as_soon_as_it_is_committed(desk: Desk) -> None:
    before = desk.resolver.resolve("M/eng/x.pdf")
    desk.world.source.put("eng/x.pdf", b"another")
    assert desk.resolver.resolve("M/eng/x.pdf") == before
    desk.run()
    after = desk.resolver.resolve("M/eng/x.pdf")
    assert after.state is State.READY
    assert (after.size, after.sha256) != (before.size, before.sha256)


def remove(path: Path) -> None:
    path.unlink()


def rewrite(path: Path) -> None:
    path.write_bytes(b"other")


def touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def copy(path: Path) -> None:
    """Put another file with the same bytes and mtime in its place."""
    shutil.copy2(path, path.with_name("copy"))
    path.with_name("copy").rename(path)


def link(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to(path.with_name("moved"))


def link_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))
    path.parent.symlink_to(path.parent.with_name("moved"))


def fold(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("spoil", [remove, rewrite, touch, copy, link, link_folder, fold, pipe])
def test_a_file_that_is_not_as_it_was_verified_is_not_served_but_looked_at(
    desk: Desk, spoil: Callable[[Path], None]
) -> None:
    spoil(desk.world.target / "eng/x.pdf")
    found = desk.resolver.resolve("M/eng/x.pdf")
    assert found.state is State.FETCHING
    assert found.local_path is None
    assert found.retry_after_s is not None
    assert (found.mirror, found.path) == ("M", "eng/x.pdf")
    assert desk.suspected == ["eng/x.pdf"]


def test_a_file_that_did_not_come(desk: Desk) -> None:
    desk.world.source.put("eng/denied.pdf", b"1")
    desk.world.source.put("eng/broken.pdf", b"1")
    desk.world.source.fault("eng/denied.pdf", Fault.DENIED)
    desk.world.source.fault("eng/broken.pdf", Fault.UNREADABLE)
    desk.run()
    denied, broken = (desk.resolver.resolve(f"M/eng/{name}.pdf") for name in ("denied", "broken"))
    assert told(denied) == (State.REFUSED, Reason.DENIED)
    assert told(broken) == (State.FETCHING, Reason.UNREADABLE)
    desk.world.source.heal()
    desk.run()
    assert desk.resolver.resolve("M/eng/denied.pdf").state is State.READY


def test_a_held_file_whose_new_version_did_not_come_is_not_current(desk: Desk) -> None:
    desk.world.source.put("eng/x.pdf", b"second")
    desk.world.source.fault("eng/x.pdf", Fault.UNREADABLE)
    desk.run()
    assert told(desk.resolver.resolve("M/eng/x.pdf")) == (State.FETCHING, Reason.UNREADABLE)
    assert desk.suspected == []


def test_missing_says_as_of_when_and_what_may_be_meant(desk: Desk) -> None:
    found = desk.resolver.resolve("/app/M/hin/patra 3.jpg")
    assert told(found) == (State.MISSING, Reason.NOT_LISTED)
    assert found.listed_at == desk.keeping.facts.listed_at != ""
    assert found.near == ("M/hin/Patra 3 .JPG",)
    assert (found.mirror, found.path) == ("M", "hin/patra 3.jpg")


@pytest.mark.parametrize(
    ("path", "state", "reason"),
    [
        ("uploads/x.pdf", State.NO_MIRROR, Reason.NO_MIRROR),
        ("/etc/passwd", State.REFUSED, Reason.OUTSIDE),
        ("M/eng", State.REFUSED, Reason.FOLDER),
        ("M/", State.REFUSED, Reason.FOLDER),
        ("M/eng/../top.pdf", State.REFUSED, Reason.PATH_MALFORMED),
        ("M/.syncd/owner", State.REFUSED, Reason.NAME_RESERVED),
        ("M/hin/._Patra 3 .JPG", State.REFUSED, Reason.VETOED),
        ("M/Thumbs.db", State.REFUSED, Reason.VETOED),
        ("M/a.tmp", State.REFUSED, Reason.EXCLUDED),
        ("M/private/x.pdf", State.REFUSED, Reason.EXCLUDED),
        ("M/eng/\0", State.REFUSED, Reason.NAME_CONTROL),
    ],
)
def test_what_can_never_be_ready(desk: Desk, path: str, state: State, reason: Reason) -> None:
    found = desk.resolver.resolve(path)
    assert told(found) == (state, reason)
    assert found.retry_after_s is None


def test_a_target_that_is_unplugged_is_unavailable_until_it_is_back(desk: Desk, tmp_path: Path) -> None:
    desk.world.target.rename(tmp_path / "unplugged")
    found = desk.resolver.resolve("M/eng/x.pdf")
    assert told(found) == (State.UNAVAILABLE, Reason.TARGET_MISSING)
    assert found.retry_after_s is not None
    assert not desk.world.target.exists()
    (tmp_path / "unplugged").rename(desk.world.target)
    assert desk.resolver.resolve("M/eng/x.pdf").state is State.READY
    assert desk.suspected == []


def test_before_the_first_run_the_target_is_not_made(tmp_path: Path) -> None:
    desk = Desk(World(tmp_path, dict(FILES)))
    found = desk.resolver.resolve("M/eng/x.pdf")
    assert told(found) == (State.FETCHING, Reason.NEVER_LISTED)
    assert (found.mirror, found.path) == ("M", "eng/x.pdf")
    assert not desk.world.target.exists()
    desk.run()
    assert desk.resolver.resolve("M/eng/x.pdf").state is State.READY
    desk.close()


@pytest.mark.parametrize(("fault", "state"), [(Fault.DENIED, State.REFUSED), (Fault.INCOMPLETE, State.FETCHING)])
def test_below_a_folder_that_was_not_listed_nothing_is_missing(desk: Desk, fault: Fault, state: State) -> None:
    desk.world.source.put("new/a.pdf", b"1")
    desk.world.source.put("new/b.pdf", b"2")
    desk.world.source.fault("new", fault)
    desk.run()
    assert desk.resolver.resolve("M/new/b.pdf").state is state
    assert desk.resolver.resolve("M/eng/x.pdf").state is State.READY


def test_what_was_found_damaged_is_on_its_way_and_not_missing(desk: Desk) -> None:
    (desk.world.target / "eng/x.pdf").write_bytes(b"bad")
    (desk.world.target / "top.pdf").unlink()
    desk.keeping.verify_all(1.0, against_source=False, against_checksums=False, show=None)
    assert told(desk.resolver.resolve("M/eng/x.pdf")) == (State.FETCHING, Reason.DAMAGED)
    assert told(desk.resolver.resolve("M/top.pdf")) == (State.FETCHING, Reason.LOST)
    desk.world.source.remove("top.pdf")
    desk.run()
    assert desk.resolver.resolve("M/eng/x.pdf").state is State.READY
    desk.run()
    assert told(desk.resolver.resolve("M/top.pdf")) == (State.MISSING, Reason.NOT_LISTED)
