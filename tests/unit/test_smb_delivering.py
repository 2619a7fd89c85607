"""Large pieces on their way into sinks: in order for each file, files beside each other, errors where they belong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import cast

import pytest

from syncd.core.errors import LocalIOError
from syncd.sources.smb.delivering import WRITERS, Delivering, Writer
from syncd.sources.smb.reading import FileRead

SOON_S = 10.0


class File:
    """What Delivering knows of a FileRead."""

    writer: Writer | None = None


class Kept:
    """A sink that keeps what it is given; `gate` holds it up, `broken` makes it refuse."""

    def __init__(self, *, broken: bool = False) -> None:
        self.content = bytearray()
        self.calls = 0
        self.threads: set[int] = set()
        self.broken = broken
        self.gate = threading.Event()
        self.gate.set()

    def write(self, chunk: memoryview) -> None:
        assert self.gate.wait(SOON_S)
        self.calls += 1
        self.threads.add(threading.get_ident())
        if self.broken:
            raise LocalIOError("no")
        self.content += chunk


@pytest.fixture
def delivering() -> Iterator[Delivering]:
    made = Delivering()
    yield made
    made.end()


def file() -> FileRead:
    return cast("FileRead", File())


def piece(text: str) -> memoryview:
    return memoryview(text.encode())


def test_pieces_of_a_file_keep_their_order_and_their_thread(delivering: Delivering) -> None:
    files, sinks = [file() for _ in range(5)], [Kept() for _ in range(5)]
    for number in range(50):
        for each, sink in zip(files, sinks, strict=True):
            delivering.put(each, sink, piece(f"{number},"))
    told = list(delivering.take(None))
    assert delivering.owed == 0
    expected = "".join(f"{number}," for number in range(50)).encode()
    assert [bytes(sink.content) for sink in sinks] == [expected] * 5
    assert all(len(sink.threads) == 1 for sink in sinks)
    assert len(told) == 250
    for each in files:
        texts = [bytes(kept).decode() for other, kept, _ in told if other is each]
        assert texts == [f"{number}," for number in range(50)]


def test_a_file_whose_disk_is_slow_does_not_hold_up_the_next_one(delivering: Delivering) -> None:
    slow, quick = Kept(), Kept()
    slow.gate.clear()
    first, second = file(), file()
    delivering.put(first, slow, piece("slow"))
    delivering.put(second, quick, piece("quick"))
    other, kept, error = next(iter(delivering.take(SOON_S)))
    assert (other, bytes(kept), error) == (second, b"quick", None)
    assert delivering.owed == len("slow")
    slow.gate.set()
    assert [(other, error) for other, _, error in delivering.take(None)] == [(first, None)]
    assert slow.threads.isdisjoint(quick.threads)


def test_new_files_go_to_the_thread_with_the_least_to_do(delivering: Delivering) -> None:
    sinks = [Kept() for _ in range(WRITERS)]
    for sink in sinks:
        sink.gate.clear()
    files = [file() for _ in range(WRITERS)]
    for number, (each, sink) in enumerate(zip(files, sinks, strict=True)):
        delivering.put(each, sink, piece("x" * (100 - number)))
    assert len({id(each.writer) for each in files}) == WRITERS
    late = file()
    delivering.put(late, Kept(), piece("late"))
    assert late.writer is files[-1].writer
    for sink in sinks:
        sink.gate.set()
    assert len(list(delivering.take(None))) == WRITERS + 1


def test_after_a_refusal_nothing_more_of_that_file_is_written(delivering: Delivering) -> None:
    broken, whole = Kept(broken=True), Kept()
    bad, good = file(), file()
    for text in ("a", "b", "c"):
        delivering.put(bad, broken, piece(text))
        delivering.put(good, whole, piece(text))
    told = list(delivering.take(None))
    errors = [error for other, _, error in told if other is bad]
    assert len(errors) == 3
    assert all(isinstance(error, LocalIOError) for error in errors)
    assert (broken.calls, bytes(whole.content)) == (1, b"abc")
    assert [error for other, _, error in told if other is good] == [None] * 3


def test_nothing_is_waited_for_when_nothing_is_owed(delivering: Delivering) -> None:
    assert list(delivering.take(None)) == []
    assert list(delivering.take(SOON_S)) == []


def test_the_end_waits_for_what_is_being_written() -> None:
    made, sink = Delivering(), Kept()
    for number in range(20):
        made.put(file(), sink, piece(f"{number};"))
    made.end()
    made.end()
    assert sink.calls == 20
    assert not [each for each in threading.enumerate() if each.name == "deliver"]
