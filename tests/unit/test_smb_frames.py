"""Pieces kept out of what arrives: they stay as they are, and cost about what they hold."""

from __future__ import annotations

import socket
import struct

import pytest

from syncd.sources.smb.frames import Frames
from syncd.sources.smb.limits import MIB


def arrived(frames: Frames, content: bytes) -> memoryview:
    """Send one frame and keep all of it."""
    near, far = socket.socketpair()
    with near, far:
        far.settimeout(10)
        message = memoryview(struct.pack(">I", len(content)) + content)
        while (taken := frames.take()) is None:
            if message:
                message = message[near.send(message[: 32 << 10]) :]
            frames.fill(far)
    return frames.keep(*taken)


@pytest.mark.parametrize("size", [64 << 10, 300_000, MIB, 2 * MIB])
def test_what_is_kept_costs_at_most_about_twice_what_it_holds(size: int) -> None:
    frames = Frames(None)
    contents = [bytes([number]) * size for number in range(2, 10)]
    kept = [arrived(frames, content) for content in contents]
    assert [bytes(piece) for piece in kept] == contents
    held = {id(piece.obj): memoryview(piece.obj).nbytes for piece in kept}
    assert sum(held.values()) <= 2.5 * size * len(contents)


def test_a_large_piece_is_kept_without_a_copy_and_its_buffer_used_again() -> None:
    frames = Frames(None)
    first = arrived(frames, b"a" * MIB)
    assert isinstance(first.obj, bytearray)
    frames.let_go(first)
    second = arrived(frames, b"b" * MIB)
    third = arrived(frames, b"c" * MIB)
    assert third.obj is first.obj
    assert bytes(second) == b"b" * MIB
