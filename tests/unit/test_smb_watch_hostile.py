"""SmbWatch against a server of our own that says what it likes: what becomes a hint, and what does no harm."""

from __future__ import annotations

import os
import random
import struct
import time
from collections.abc import Callable

import pytest

from syncd.core.errors import SourceAuthFailed, SourceUnavailable
from syncd.core.model import ROOT, RelPath
from syncd.core.paths import refuse_name
from syncd.ports import Hint
from syncd.sources.smb import watched, watching
from syncd.sources.smb.limits import SmbLimits
from syncd.sources.smb.notified import directory_of
from syncd.sources.smb.watching import SmbWatch
from tests.support.hints import Told
from tests.support.hints import watching as watch_with
from tests.support.hostile_smb import (
    CLOSE,
    CREATE,
    QUERY_INFO,
    QUICK,
    Quirks,
    Reply,
    Request,
    hostile_source,
    wait_until,
)
from tests.support.hostile_watch import CHANGE_NOTIFY, ECHO, NotifyingServer, changes

FILES = {"a\\x": b"1", "a\\b\\y": b"2", "c\\z": b"3"}
DELETE_PENDING, ENUM_DIR, CLEANUP = 0xC0000056, 0x10C, 0x10B


def rel(*paths: str) -> list[RelPath]:
    return [RelPath(path) for path in paths]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """This server watches from the start."""
    monkeypatch.setattr(watched, "_SETTLED_S", 0.05)


def tree_of(server: NotifyingServer) -> object:
    wait_until(lambda: bool(server.outstanding("", tree=True)))
    return server.outstanding("", tree=True)[0]


def tell(server: NotifyingServer, path: str, status: int = 0, buffer: bytes = b"") -> None:
    """Answer the request for one folder ("" for the tree), once there is one."""
    wait_until(lambda: bool(server.outstanding(path)))
    server.answer(server.outstanding(path)[0], status, buffer)


class Watched:
    """A server, a watch on it, and what it told; the first hint has come."""

    def __init__(self, server: NotifyingServer, limits: SmbLimits = QUICK, focus: list[RelPath] | None = None) -> None:
        self.server = server
        self._source = hostile_source(server, limits)
        self._focus = focus or []

    def __enter__(self) -> tuple[SmbWatch, Told]:
        self.server.__enter__()
        self.watch = self._source.__enter__().watcher()
        self.watch.focus(self._focus)
        self._watching = watch_with(self.watch)
        told = self._watching.__enter__()
        told.everything()
        return self.watch, told

    def __exit__(self, *exc: object) -> None:
        self._watching.__exit__(None, None, None)
        self._source.__exit__(None, None, None)
        self.server.__exit__()


# --- what is asked for ------------------------------------------------------------------------------------------------


def test_the_root_is_watched_as_a_tree_and_the_focus_folder_by_folder_with_the_least_rights() -> None:
    server = NotifyingServer(dict(FILES))
    with Watched(server, focus=rel("a", "a/b", "nothing")) as (watch, told):
        assert [each.tree for each in server.outstanding("")] == [True]
        assert [each.tree for path in ("a", "a\\b") for each in server.outstanding(path)] == [False, False]
        assert watch.state == "on"
        assert told.hints == [Hint(None)]
        for request in server.requests:
            if request.command == CREATE:
                access, _, sharing = struct.unpack_from("<III", request.body, 24)
                assert access & ~(0x1 | 0x80) == 0  # LIST_DIRECTORY and READ_ATTRIBUTES
                assert sharing == 7
            if request.command == CHANGE_NOTIFY:
                assert struct.unpack_from("<I", request.body, 24)[0] == 0x5F


def test_no_more_folders_than_the_cap_get_a_handle_and_the_state_says_so() -> None:
    server = NotifyingServer({f"d{number}\\x": b"" for number in range(10)})
    limits = SmbLimits(stall_s=2.0, watched_folders=3)
    with Watched(server, limits, focus=rel(*(f"d{number}" for number in range(10)))) as (watch, told):
        assert {each.path for each in server.asked} == {"", "d0", "d1", "d2"}
        assert watch.state.startswith("partly: ")
        assert "3 of 10" in watch.state
        watch.focus(rel("d9", "d0"))
        told.of("d9")
        wait_until(lambda: {each.path for each in server.asked} >= {"", "d0", "d9"})
        wait_until(lambda: watch.state == "on")
        assert sum(each.command == CLOSE for each in server.requests) == 2


@pytest.mark.parametrize("quirks", [Quirks(sealed=True), Quirks(credits=6), Quirks(split=True)], ids=str)
def test_whatever_way_the_replies_come_changes_are_told(quirks: Quirks) -> None:
    server = NotifyingServer(dict(FILES), quirks)
    with Watched(server, focus=rel("a", "c")) as (_, told):
        for turn in range(5):
            since = told.mark()
            tell(server, "", buffer=changes(f"a\\b\\{turn}"))
            tell(server, "c", buffer=changes("z"))
            told.of("a/b", "c", since=since)
        assert server.connections == 1


# --- what is told -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("watched_at", "name", "directory"),
    [
        ("", "x.jpg", ""),
        ("", "a\\b c\\x.jpg", "a/b c"),
        ("a", "x.jpg", "a"),
        ("", "a\\..\\..\\etc\\passwd", "a"),
        ("", "..\\x", ""),
        ("", "/etc/x\\y", ""),
        ("", "a\\b:stream\\x", "a"),
        ("", ".syncd\\x", ""),
        ("", "a\\\\x", "a"),
        ("", "a\\" + "n" * 256 + "\\x", "a"),
        ("", "a\\\ufffd\\x", "a"),
        ("", "a\\b\0c\\x", "a"),
        ("", "", ""),
    ],
)
def test_a_name_leads_to_the_nearest_directory_that_can_be_one(watched_at: str, name: str, directory: str) -> None:
    assert directory_of(RelPath(watched_at), name)[0] == directory


def test_a_path_without_end_is_cut() -> None:
    directory, path = directory_of(ROOT, "\\".join(["दसअक्षरहैं"] * 2000))
    assert 3_000 < len(directory.encode()) <= 3_500
    assert path == directory


def test_names_become_directories_and_the_request_is_made_again() -> None:
    server = NotifyingServer(dict(FILES))
    with Watched(server, focus=rel("c")) as (_, told):
        tell(server, "", buffer=changes("a\\new", "a\\b\\y", "top"))
        told.of("a", "a/b", "")
        tell(server, "c", buffer=changes("z"))
        told.of("c")
        assert all(each.directories is not None for each in told.hints[1:])
        tell(server, "", buffer=changes("c\\z"))
        tree_of(server)


@pytest.mark.parametrize(
    ("status", "buffer"),
    [
        (0, b""),
        (ENUM_DIR, b""),
        (0, b"\xff" * 11),
        (0, changes("a\\x", "b")[:-3]),
        (0, struct.pack("<III", 4, 1, 2) + b"x\0" + changes("y")),
        (0, struct.pack("<III", 0xFFFFFFF0, 1, 2) + b"x\0"),
        (0, struct.pack("<III", 0, 1, 0xFFFFFFFF) + b"x\0"),
    ],
)
def test_an_overflow_an_empty_and_a_malformed_answer_stand_for_anything(status: int, buffer: bytes) -> None:
    server = NotifyingServer(dict(FILES))
    with Watched(server, focus=rel("c")) as (_, told):
        since = told.mark()
        tell(server, "c", status, buffer)
        told.of("c", since=since)
        assert told.directories(since) == {"c"}
        tell(server, "", status, buffer)
        told.everything(since)
        assert server.connections == 1


def test_more_directories_than_can_be_kept_are_everything() -> None:
    server = NotifyingServer(dict(FILES))
    with Watched(server) as (_, told):
        since = told.mark()
        tell(server, "", buffer=changes(*(f"{number}\\x" for number in range(1_500))))
        told.everything(since)
        assert told.directories(since) == set()


def test_a_new_focus_is_looked_at_once_it_is_watched() -> None:
    """What changed before its handle was there is told by nobody."""
    server = NotifyingServer(dict(FILES))
    with Watched(server) as (watch, told):
        since = told.mark()
        watch.focus(rel("a"))
        told.of("a", since=since)
        assert told.directories(since) == {"a"}


# --- folders that go --------------------------------------------------------------------------------------------------


def test_a_folder_about_to_be_removed_is_let_go_at_once_and_watched_again_when_it_is_back() -> None:
    server = NotifyingServer(dict(FILES))
    with Watched(server, focus=rel("c")) as (watch, told):
        removed = server.files.pop("c\\z")
        tell(server, "c", DELETE_PENDING)
        wait_until(lambda: any(each.command == CLOSE and each.path == "c" for each in server.requests))
        wait_until(lambda: watch.state == "on")
        server.files["c\\z"] = removed
        since = told.mark()
        tell(server, "", buffer=changes("c"))
        told.of("", "c", since=since)
        wait_until(lambda: bool(server.outstanding("c")))


def test_a_folder_that_was_to_be_removed_before_the_request_was_made_is_let_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Samba answers DELETE_PENDING only to requests that it has already (measured); the handle would stay for ever."""
    server = NotifyingServer(dict(FILES))
    leaving = False

    def spoil(request: Request, reply: Reply) -> Reply:
        if leaving and request.command == QUERY_INFO and request.path == "c":
            body = bytearray(reply[1])
            body[8 + 60] = 1
            return reply[0], bytes(body)
        return reply

    server.spoil = spoil
    with Watched(server, focus=rel("c")) as (watch, told):
        leaving = True
        tell(server, "c", buffer=changes("z"))
        told.of("", "c", since=1)
        wait_until(lambda: any(each.command == CLOSE and each.path == "c" for each in server.requests))
        wait_until(lambda: watch.state == "on")


def test_a_folder_replaced_behind_its_handle_is_found_by_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "TICK_S", 0.1)
    server = NotifyingServer(dict(FILES))
    ids = {"c": 1}

    def spoil(request: Request, reply: Reply) -> Reply:
        if request.command == QUERY_INFO and request.path in ids:
            body = bytearray(reply[1])
            struct.pack_into("<Q", body, 8 + 64, ids[request.path])
            return reply[0], bytes(body)
        return reply

    server.spoil = spoil
    with Watched(server, focus=rel("c")) as (_, told):
        wait_until(lambda: sum(each.command == ECHO for each in server.requests) > 3)
        assert len(server.outstanding("c")) == 1
        assert told.directories() == set()
        ids["c"] = 2
        told.of("", "c")
        wait_until(lambda: len(server.outstanding("c")) == 2)  # the first never gets its answer from this server
        wait_until(lambda: any(each.command == CLOSE and each.path == "c" for each in server.requests))


def test_a_root_that_goes_is_told_when_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "TICK_S", 0.1)
    server = NotifyingServer(dict(FILES))
    gone = False

    def spoil(request: Request, reply: Reply) -> Reply:
        return (0xC0000034, b"\x09\0" + bytes(7)) if gone and request.command == CREATE else reply

    server.spoil = spoil
    with Watched(server) as (watch, told):
        gone = True
        wait_until(lambda: watch.state.startswith("off: ") and "root folder" in watch.state)
        since = told.mark()
        gone = False
        told.everything(since)
        wait_until(lambda: watch.state == "on")


# --- connections ------------------------------------------------------------------------------------------------------


def test_a_server_that_has_nothing_to_tell_is_not_taken_for_a_stalled_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "TICK_S", 0.1)
    server = NotifyingServer(dict(FILES))
    with Watched(server, SmbLimits(stall_s=0.5), focus=rel("a")) as (watch, told):
        wait_until(lambda: sum(each.command == ECHO for each in server.requests) >= 15)
        assert (watch.state, server.connections, told.hints) == ("on", 1, [Hint(None)])


def test_a_server_that_falls_silent_is_left_and_everything_told_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "TICK_S", 0.1)
    server = NotifyingServer(dict(FILES))
    with Watched(server, SmbLimits(stall_s=0.5)) as (watch, told):
        server.answers = False
        since = told.mark()
        wait_until(lambda: "did not answer" in watch.state)
        server.answers = True
        told.everything(since)
        assert server.connections >= 2


def lose(server: NotifyingServer) -> None:
    for sock in server._sockets:
        sock.shutdown(2)


def test_a_lost_connection_is_made_again_with_the_same_focus() -> None:
    server = NotifyingServer(dict(FILES))
    with Watched(server, focus=rel("a")) as (watch, told):
        since = told.mark()
        server.asked.clear()
        lose(server)
        told.everything(since)
        assert {each.path for each in server.asked} == {"", "a"}
        wait_until(lambda: watch.state == "on")


def test_the_pauses_between_attempts_grow_and_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    server = NotifyingServer(dict(FILES))
    pauses: list[float] = []
    with server, hostile_source(server) as source:
        watch = source.watcher()

        def unreachable() -> object:
            raise SourceUnavailable("nobody there")

        def pause(seconds: float) -> None:
            assert watch.state == "off: nobody there"
            pauses.append(seconds)
            if len(pauses) > 20:
                watch.close()

        watch._pool.channel = unreachable  # type: ignore[method-assign,assignment]
        monkeypatch.setattr(watch._closed, "wait", pause)
        watch.watch(lambda hint: None)
        assert pauses[0] < 0.5
        assert max(pauses) <= watching._LONGEST_PAUSE_S
        assert all(each >= watching._LONGEST_PAUSE_S / 2 for each in pauses[-5:])


def test_a_refused_login_is_raised_and_tried_once_for_source_and_watch_together() -> None:
    logins = []

    class Refusing:
        login_refused = True

        def run(self) -> object:
            logins.append(1)
            raise SourceAuthFailed("wrong password")

        def abort(self) -> None: ...

    server = NotifyingServer(dict(FILES))
    with server, hostile_source(server) as source:
        source._pool._establish = Refusing  # type: ignore[assignment]
        for watch in (source.watcher(), source.watcher()):
            with pytest.raises(SourceAuthFailed):
                watch.watch(lambda hint: None)
            assert watch.state == "off: wrong password"
            watch.close()
        with pytest.raises(SourceAuthFailed):
            source.check()
        assert len(logins) == 1


@pytest.mark.parametrize("status", [0xC00000BB, 0xC000000D, 0xC0000002])
def test_a_server_that_cannot_tell_is_an_error_that_says_so(status: int) -> None:
    server = NotifyingServer(dict(FILES))
    server.spoil = lambda request, reply: (status, b"\x09\0" + bytes(7)) if request.command == CHANGE_NOTIFY else reply
    with server, hostile_source(server) as source:
        watch = source.watcher()
        with pytest.raises(SourceUnavailable, match="does not tell of changes"):
            watch.watch(lambda hint: None)
        assert "does not tell of changes" in watch.state
        watch.close()


def test_close_ends_a_watch_that_waits_for_another_login() -> None:
    server = NotifyingServer(dict(FILES))
    with server, hostile_source(server) as source:
        watch = source.watcher()
        with watch._pool._logins.lock, watch_with(watch):
            time.sleep(0.05)


# --- hostile answers --------------------------------------------------------------------------------------------------


def bad_signature(server: NotifyingServer) -> None:
    server.quirks.wrong_signature = True
    tell(server, "", buffer=changes("x"))
    server.quirks.wrong_signature = False


def no_signature(server: NotifyingServer) -> None:
    server.quirks.signed = False
    tell(server, "", buffer=changes("x"))
    server.quirks.signed = True


def second_answer(server: NotifyingServer) -> None:
    asked = server.outstanding("")[0]
    server.answer(asked, 0, changes("x"))
    server.asked.append(asked)
    server.answer(asked, 0, changes("x"))


def interim_flood(server: NotifyingServer) -> None:
    server.interims = 50
    tell(server, "", buffer=changes("x"))
    wait_until(lambda: server.connections > 1)
    server.interims = 1


def buffer_outside(server: NotifyingServer) -> None:
    asked = server.outstanding("")[0]
    server.asked.remove(asked)
    from tests.support.hostile_smb import ASYNC, _packed

    body = struct.pack("<HHI", 9, 72, 100_000)
    server._put(asked.sock, [_packed(asked.request, (0, body), 0, 1, flags=1 | ASYNC)], signed=True)


@pytest.mark.parametrize("lie", [bad_signature, no_signature, second_answer, interim_flood, buffer_outside])
def test_a_broken_protocol_costs_the_connection_and_a_look_at_everything(
    lie: Callable[[NotifyingServer], None],
) -> None:
    server = NotifyingServer(dict(FILES))
    with Watched(server, focus=rel("a")) as (watch, told):
        since = told.mark()
        lie(server)
        wait_until(lambda: server.connections > 1)
        told.everything(since)
        wait_until(lambda: watch.state == "on")


def test_a_server_that_answers_without_pause_is_asked_at_a_bounded_rate() -> None:
    server = NotifyingServer(dict(FILES))
    server.spoil = lambda request, reply: (
        (0, struct.pack("<HHI", 9, 72, 0)) if request.command == CHANGE_NOTIFY else reply
    )
    with Watched(server) as (_, told):
        began, before = time.monotonic(), len(server.requests)
        time.sleep(1.0)
        asked, took = len(server.requests) - before, time.monotonic() - began
        assert 10 < asked < 2_500 * took
        assert len(told.hints) > 10


def test_random_answers_never_do_more_than_hint() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    server = NotifyingServer(dict(FILES))
    with Watched(server, focus=rel("a", "c")) as (watch, told):
        for turn in range(3_000 if os.environ.get("SYNCD_EXHAUSTIVE") == "1" else 60):
            raw = bytearray(
                changes(*(rng.choice(["a\\x", "..\\y", "c", "नया", ""]) for _ in range(rng.randrange(1, 5))))
            )
            for _ in range(rng.randrange(4)):
                raw[rng.randrange(len(raw))] = rng.randrange(256)
            since = told.mark()
            path = rng.choice(["", "a", "c"])
            tell(server, path, buffer=bytes(raw[: rng.randrange(len(raw) + 1)] if turn % 2 else raw))
            told.count(since + 1)
        assert server.connections == 1
        assert watch.state == "on"
        for directory in told.directories():
            assert [part for part in directory.split("/") if directory and refuse_name(part) is not None] == []
