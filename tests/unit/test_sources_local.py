"""What is special about a local folder as a source; that it keeps the contract is shown in tests/conformance."""

from __future__ import annotations

import errno
import os
import socket
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.core.errors import (
    EntryChanged,
    EntryUnreadable,
    SourceUnavailable,
    SourceVanished,
    SyncdError,
)
from syncd.core.model import ROOT, Kind, RelPath
from syncd.core.reasons import Reason
from syncd.ports import Fetched
from syncd.sources import local
from syncd.sources.local import LocalSource
from tests.support.queues import ListQueue, Sinks, error_of, fetch_all, scan_all, want_all

NOBODY = 65_534


@pytest.fixture
def source(tmp_path: Path) -> LocalSource:
    root = tmp_path / "root"
    root.mkdir()
    return LocalSource(root)


def root_of(source: LocalSource) -> Path:
    return source._root


def open_descriptors() -> int:
    return len(os.listdir("/dev/fd"))


# --- the root --------------------------------------------------------------------------------------------------------


def test_the_root_may_be_a_link(source: LocalSource, tmp_path: Path) -> None:
    (root_of(source) / "a.jpg").write_bytes(b"a")
    (tmp_path / "link").symlink_to(root_of(source))
    linked = LocalSource(tmp_path / "link")
    linked.check()
    sinks, _ = fetch_all(linked, want_all(scan_all(linked)))
    assert sinks.content("a.jpg") == b"a"


def test_a_root_that_is_a_dangling_link_has_vanished(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(SourceVanished):
        LocalSource(tmp_path / "link").check()


def test_a_root_that_is_a_file_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SourceUnavailable, match="not a folder") as caught:
        LocalSource(tmp_path / "file").check()
    assert not isinstance(caught.value, SourceVanished)


def test_a_root_that_may_not_be_read_is_unavailable_with_a_hint() -> None:
    with tempfile.TemporaryDirectory() as made:
        os.chmod(made, 0o000)
        root = os.geteuid() == 0
        if root:
            os.seteuid(NOBODY)
        try:
            with pytest.raises(SourceUnavailable) as caught:
                LocalSource(Path(made)).check()
        finally:
            if root:
                os.seteuid(0)
            os.chmod(made, 0o700)
    assert caught.value.hint
    assert not isinstance(caught.value, SourceVanished)


def test_every_call_says_that_the_root_vanished(source: LocalSource) -> None:
    root_of(source).rmdir()
    for call in (
        source.check,
        lambda: list(source.scan([ROOT])),
        lambda: fetch_all(source, []),
        lambda: source.read(RelPath("x")),
    ):
        with pytest.raises(SourceVanished):
            call()


# --- handles ---------------------------------------------------------------------------------------------------------


def test_no_descriptor_is_left_whatever_happens(source: LocalSource) -> None:
    for number in range(100):
        folder = root_of(source) / f"{number % 10}" / f"{number}"
        folder.mkdir(parents=True)
        (folder / "a.jpg").write_bytes(b"x" * number)
    before = open_descriptors()
    wanted = want_all(scan_all(source))
    (root_of(source) / "3" / "3" / "a.jpg").unlink()
    (root_of(source) / "4" / "4" / "a.jpg").write_bytes(b"longer than before")
    fetch_all(source, wanted)
    assert open_descriptors() == before
    outcomes = source.fetch(ListQueue(wanted), Sinks())
    next(outcomes)
    assert before < open_descriptors() <= before + 10
    outcomes.close()  # type: ignore[attr-defined]
    listings = source.scan([ROOT])
    next(listings)
    listings.close()  # type: ignore[attr-defined]
    assert open_descriptors() == before


def test_few_folders_are_open_at_a_time_however_many_there_are(source: LocalSource) -> None:
    for number in range(300):
        (root_of(source) / f"{number}").mkdir()
        (root_of(source) / f"{number}" / "a.jpg").write_bytes(b"")
    before = open_descriptors()
    most = 0
    for _ in source.fetch(ListQueue(want_all(scan_all(source))), Sinks()):
        most = max(most, open_descriptors() - before)
    assert 1 <= most <= local.OPEN_FOLDERS_MAX + 3


def test_a_folder_that_was_replaced_is_walked_to_anew(source: LocalSource) -> None:
    """Its handle is still open from the file before; the new file is only in the new folder."""
    root = root_of(source)
    (root / "f").mkdir()
    (root / "f" / "1.jpg").write_bytes(b"one")
    queue = ListQueue(want_all(scan_all(source)), closed=False)
    sinks = Sinks()
    outcomes = source.fetch(queue, sinks)
    assert isinstance(next(outcomes), Fetched)
    (root / "f").rename(root / "moved")
    (root / "f").mkdir()
    (root / "f" / "2.jpg").write_bytes(b"two")
    (again,) = [each for each in want_all(scan_all(source)) if each.path == "f/2.jpg"]
    queue.put(again)
    queue.close()
    assert [isinstance(each, Fetched) for each in outcomes] == [True]
    assert sinks.content("f/2.jpg") == b"two"


def test_a_socket_in_a_files_place_fails_that_file_only(source: LocalSource) -> None:
    (root_of(source) / "x.jpg").write_bytes(b"")
    wanted = want_all(scan_all(source))
    (root_of(source) / "x.jpg").unlink()
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(root_of(source) / "x.jpg"))
        assert scan_all(source)[""].entries[0].kind is Kind.OTHER
        assert isinstance(error_of(fetch_all(source, wanted)[1]["x.jpg"]), EntryUnreadable | EntryChanged)


# --- what the operating system may say -------------------------------------------------------------------------------


def with_os(monkeypatch: pytest.MonkeyPatch, **replaced: object) -> None:
    """Let the module under test, and nobody else, see an `os` in which a few functions are others."""
    monkeypatch.setattr(local, "os", types.SimpleNamespace(**vars(os) | replaced))


@pytest.mark.parametrize(
    ("call", "code", "error"),
    [
        ("readv", errno.EIO, EntryUnreadable),
        ("readv", errno.ESTALE, EntryUnreadable),
        ("readv", errno.ENOTCONN, SourceUnavailable),
        ("open", errno.EMFILE, SourceUnavailable),
        ("open", errno.EIO, SourceUnavailable),
        ("fstat", errno.EIO, EntryUnreadable),
        ("stat", errno.ESTALE, SourceUnavailable),
    ],
)
def test_errors_of_the_system_become_ours(
    source: LocalSource, monkeypatch: pytest.MonkeyPatch, call: str, code: int, error: type[SyncdError]
) -> None:
    (root_of(source) / "x.jpg").write_bytes(b"content")
    wanted = want_all(scan_all(source))

    def fail(*args: object, **keywords: object) -> None:
        raise OSError(code, os.strerror(code))

    with_os(monkeypatch, **{call: fail})
    if issubclass(error, SourceUnavailable):
        with pytest.raises(error):
            fetch_all(source, wanted)
    else:
        assert isinstance(error_of(fetch_all(source, wanted)[1]["x.jpg"]), error)


def test_a_listing_that_breaks_off_is_incomplete_and_keeps_what_it_has(
    source: LocalSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        (root_of(source) / f"{number}.jpg").write_bytes(b"")
    real = os.scandir

    class BreakingOff:
        def __init__(self, folder: int) -> None:
            self._found = real(folder)

        def __enter__(self) -> Iterator[os.DirEntry[str]]:
            def entries() -> Iterator[os.DirEntry[str]]:
                yield next(self._found)
                yield next(self._found)
                raise OSError(errno.EIO, "Input/output error")

            return entries()

        def __exit__(self, *exc: object) -> None:
            self._found.close()

    with_os(monkeypatch, scandir=BreakingOff)
    (listing,) = source.scan([ROOT])
    assert not listing.complete
    assert listing.reason is Reason.LISTING_INCOMPLETE
    assert len(listing.entries) == 2


def test_a_file_removed_between_its_name_and_its_look_is_simply_absent(
    source: LocalSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root_of(source) / "a.jpg").write_bytes(b"")
    real = os.scandir

    def then_remove(folder: int) -> object:
        found = real(folder)
        (root_of(source) / "a.jpg").unlink()
        return found

    with_os(monkeypatch, scandir=then_remove)
    (listing,) = source.scan([ROOT])
    assert listing.complete
    assert listing.entries == []


def test_without_noatime_everything_works_too(source: LocalSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_NOATIME", 0)
    (root_of(source) / "x.jpg").write_bytes(b"content")
    sinks, _ = fetch_all(source, want_all(scan_all(source)))
    assert sinks.content("x.jpg") == b"content"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a file of somebody else's")
def test_somebody_elses_file_is_read_without_noatime() -> None:
    with tempfile.TemporaryDirectory() as made:
        os.chmod(made, 0o755)
        (Path(made) / "x.jpg").write_bytes(b"content")
        source = LocalSource(Path(made))
        os.seteuid(NOBODY)
        try:
            sinks, outcomes = fetch_all(source, want_all(scan_all(source)))
        finally:
            os.seteuid(0)
    assert isinstance(outcomes["x.jpg"], Fetched)
    assert sinks.content("x.jpg") == b"content"


def test_ids_of_another_file_system_do_not_meet_ours(source: LocalSource) -> None:
    (root_of(source) / "x.jpg").write_bytes(b"content")
    found = (root_of(source) / "x.jpg").stat()
    source._device = found.st_dev
    assert source._fingerprint(found).file_id == found.st_ino
    source._device = found.st_dev + 1
    assert source._fingerprint(found).file_id != found.st_ino
    assert 0 <= source._fingerprint(found).file_id < 1 << 63
