"""The contract of ports.HintSource, held against every adapter: in memory, a local folder, a real Samba.

On the share the changes come twice: made over SMB by another client, and made on the server itself.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.core.errors import SourceAuthFailed
from syncd.core.model import RelPath
from syncd.ports import Hint
from tests.conformance.hint_backends import HintBackend, LocalHints, MemoryHints, SmbHints, SmbServerHints
from tests.support.hints import CLOSED_WITHIN_S, Told, watching
from tests.support.hostile_smb import wait_until
from tests.support.smbd import SmbServer, start_smbd

_numbers = itertools.count()
FOCUS = [RelPath(path) for path in ("a", "b", "a/deep")]


@pytest.fixture(scope="module")
def writable_smbd(base: Path) -> Iterator[SmbServer]:
    """A share that others may write to."""
    (base / "smb-hints").mkdir()
    with start_smbd(base / "smb-hints", read_only=False) as server:
        yield server


@pytest.fixture(params=["memory", "local", "smb-server", "smb-client"])
def backend(request: pytest.FixtureRequest, base: Path) -> Iterator[HintBackend]:
    made: HintBackend
    match request.param:
        case "memory":
            made = MemoryHints()
        case "local":
            made = LocalHints(base / f"hints-{next(_numbers)}")
        case kind:
            server = request.getfixturevalue("writable_smbd")
            adapter = SmbHints if kind == "smb-client" else SmbServerHints
            made = adapter(server.root / f"hints-{next(_numbers)}", server)
    yield made
    made.close()


@pytest.fixture
def told(backend: HintBackend) -> Iterator[Told]:
    """What a watch told that focuses on all folders; it has begun."""
    source = backend.watch()
    source.focus(FOCUS)
    with watching(source) as story:
        story.everything()
        yield story


def test_first_everything_is_told_and_then_nothing_until_something_changes(backend: HintBackend) -> None:
    source = backend.watch()
    assert source.state.startswith("off: ")
    source.focus(FOCUS)
    with watching(source) as told:
        told.count(1)
        assert told.hints[0] == Hint(None)
        wait_until(lambda: source.state == "on")
        time.sleep(0.3)
        assert told.hints == [Hint(None)]
    assert source.state.startswith("off: ")


def test_a_file_is_made_written_renamed_and_removed(backend: HintBackend, told: Told) -> None:
    for edit in (
        lambda: backend.put("a/new .jpg", b"1"),
        lambda: backend.put("a/new .jpg", b"written over"),
        lambda: backend.rename("a/new .jpg", "a/हिन्दी.jpg"),
        lambda: backend.remove("a/हिन्दी.jpg"),
    ):
        since = told.mark()
        edit()
        told.of("a", since=since)


def test_changes_in_the_root_itself_are_told(backend: HintBackend, told: Told) -> None:
    for edit in (lambda: backend.put("x"), lambda: backend.remove("x")):
        since = told.mark()
        edit()
        told.of("", since=since)


def test_folders_are_made_renamed_and_removed(backend: HintBackend, told: Told) -> None:
    for edit in (
        lambda: backend.mkdir("a/folder"),
        lambda: backend.rename("a/folder", "a/other"),
        lambda: backend.remove("a/other"),
    ):
        since = told.mark()
        edit()
        told.of("a", since=since)


def test_a_file_that_moves_is_told_of_both_folders(backend: HintBackend, told: Told) -> None:
    backend.put("a/x")
    told.of("a")
    since = told.mark()
    backend.rename("a/x", "b/x")
    told.of("a", "b", since=since)


def test_hints_name_the_folder_and_not_more(backend: HintBackend, told: Told) -> None:
    since = told.mark()
    backend.put("a/deep/x")
    told.of("a/deep", since=since)
    assert "b" not in told.directories(since)
    assert all(each.directories is not None for each in told.hints[since:])


def test_a_folder_made_later_is_watched_too(backend: HintBackend, told: Told) -> None:
    if not backend.everywhere:
        pytest.skip("Samba tells what changes on the server itself only of folders in focus")
    backend.mkdir("b/later")
    told.of("b")
    since = told.mark()
    backend.put("b/later/x")
    told.of("b/later", since=since)


def test_a_folder_that_was_moved_is_watched_where_it_is(backend: HintBackend, told: Told) -> None:
    if not backend.everywhere:
        pytest.skip("Samba tells what changes on the server itself only of folders in focus")
    backend.rename("a/deep", "b/moved")
    told.of("a", "b")
    since = told.mark()
    backend.put("b/moved/x")
    told.of("b/moved", since=since)


def test_what_comes_into_focus_later_is_told_from_then_on(backend: HintBackend) -> None:
    source = backend.watch()
    with watching(source) as told:
        told.everything()
        source.focus([RelPath("b")])
        if not backend.everywhere:
            told.of("b")  # it may have changed before it was watched
        since = told.mark()
        backend.put("b/x")
        told.of("b", since=since)


def test_folders_that_are_not_there_are_left_out(backend: HintBackend) -> None:
    source = backend.watch()
    source.focus([RelPath("nothing"), RelPath("a"), RelPath("nothing/at all"), RelPath("")])
    with watching(source) as told:
        told.everything()
        backend.put("a/x")
        told.of("a", since=1)
        assert source.state == "on"


def test_a_burst_loses_nothing_for_good(backend: HintBackend, told: Told) -> None:
    since = told.mark()
    for number in range(300):
        backend.put(f"a/page {number}.jpg")
    told.of("a", since=since)
    wait_until(lambda: _is_quiet(told))
    since = told.mark()
    backend.put("a/last")
    told.of("a", since=since)


def _is_quiet(told: Told) -> bool:
    before = told.mark()
    time.sleep(0.3)
    return told.mark() == before


def test_a_lost_connection_is_made_again_and_everything_told(backend: HintBackend, told: Told) -> None:
    if not backend.connects:
        pytest.skip(f"{backend.name}: there is no connection")
    for _ in range(2):
        since = told.mark()
        backend.lose()
        told.everything(since)
        since = told.mark()
        backend.put("a/after")
        told.of("a", since=since)
        backend.remove("a/after")


def test_close_ends_it_soon_and_leaves_nothing_open(backend: HintBackend, told: Told) -> None:
    backend.put("a/x")
    told.of("a", since=1)
    source = backend._made[0]
    began = time.monotonic()
    source.close()
    source.close()
    told.end()
    assert time.monotonic() - began < CLOSED_WITHIN_S
    assert told.error is None
    assert source.state.startswith("off: ")
    assert backend.open_files() == []
    since = told.mark()
    backend.put("a/y")
    time.sleep(0.3)
    assert told.mark() == since


def test_a_watch_closed_before_it_begins_tells_nothing(backend: HintBackend) -> None:
    source = backend.watch()
    source.close()
    source.watch(lambda hint: pytest.fail(f"told {hint}"))


def test_while_tell_takes_its_time_nobody_waits_and_nothing_is_lost(backend: HintBackend) -> None:
    source = backend.watch()
    source.focus(FOCUS)
    busy, go_on = threading.Event(), threading.Event()
    hints: list[Hint] = []

    def tell(hint: Hint) -> None:
        hints.append(hint)
        busy.set()
        go_on.wait(CLOSED_WITHIN_S)

    thread = threading.Thread(target=source.watch, args=(tell,), name="test-slow", daemon=True)
    thread.start()
    assert busy.wait(15)
    began = time.monotonic()
    source.focus([RelPath("a")])
    assert source.state
    assert time.monotonic() - began < CLOSED_WITHIN_S
    backend.put("a/x")
    go_on.set()
    wait_until(lambda: len(hints) > 1)
    assert hints[-1].directories is None or RelPath("a") in {d for h in hints for d in h.directories or ()}
    source.close()
    thread.join(CLOSED_WITHIN_S)
    assert not thread.is_alive()


def test_a_refused_login_is_raised_and_tried_once(backend: HintBackend) -> None:
    if not backend.connects:
        pytest.skip(f"{backend.name} has no secret")
    before = backend.refused_logins()
    source = backend.watch_with_wrong_secret()
    for _ in range(2):
        with pytest.raises(SourceAuthFailed):
            source.watch(lambda hint: pytest.fail(f"told {hint}"))
    assert source.state.startswith("off: ")
    assert backend.refused_logins() == before + 1
