"""What a worker and its engine's process say to each other: JSON objects, each behind its length, over pipes.

Worker -> engine: {engine, table, limits}, once; then {path, languages, handwriting} for each file.
Engine -> worker: {what: "ready", version, languages} or {what: "config", message, problems, hint}, once; then for each
file {what: "pages", pages}, {what: "page", page: [...]} for each, and {what: "done"}, "refused" or "failed".
"""

from __future__ import annotations

import json
import os
import struct
from typing import Any

MESSAGE_MAX = 64 << 20
_HEAD = struct.Struct(">I")
_READ_BYTES = 1 << 18
_in_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=str, separators=(",", ":")).encode

Message = dict[str, Any]


class MessageTooLarge(ValueError):
    """More than MESSAGE_MAX bytes."""


def write(descriptor: int, message: Message) -> None:
    """Write a message; blocks until it is taken. Raises: OSError, MessageTooLarge, ValueError (no JSON)."""
    body = _in_json(message).encode("utf-8", "surrogatepass")  # a path may have bytes that are no UTF-8
    if len(body) > MESSAGE_MAX:
        raise MessageTooLarge(f"a message of {len(body)} bytes")
    rest = memoryview(_HEAD.pack(len(body)) + body)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


class Reader:
    """Takes messages off a pipe. size: bytes of all that were taken."""

    def __init__(self, descriptor: int) -> None:
        self.size = 0
        self._descriptor = descriptor
        self._arrived = bytearray()

    def take(self) -> Message | None:
        """Return the next message, if it is here as a whole. Raises ValueError for what is none."""
        if len(self._arrived) < _HEAD.size:
            return None
        (length,) = _HEAD.unpack_from(self._arrived)
        if length > MESSAGE_MAX:
            raise MessageTooLarge(f"a message of {length} bytes")
        end = _HEAD.size + length
        if len(self._arrived) < end:
            return None
        message = json.loads(self._arrived[_HEAD.size : end])
        del self._arrived[:end]
        self.size += end
        if not isinstance(message, dict):
            raise ValueError("no object")
        return message

    def fill(self) -> bool:
        """Read what there is, waiting for the first byte; False at the end."""
        arrived = os.read(self._descriptor, _READ_BYTES)
        self._arrived += arrived
        return bool(arrived)

    def wait(self) -> Message | None:
        """Return the next message, however long it takes; None at the end."""
        while (message := self.take()) is None:
            if not self.fill():
                return None
        return message
