"""What arrives on one connection: bytes into buffers that are used again, whole frames out of them ([MS-SMB2] 2.1)."""

from __future__ import annotations

import socket
from struct import Struct

from syncd.sources.smb.crypto import TAG_SIZE, Sealer
from syncd.sources.smb.limits import MIB
from syncd.sources.smb.packets import HEADER_SIZE, SEALED_ID, ProtocolError

FRAME_LIMIT = 4 * MIB
_BUFFER = MIB + MIB // 8  # many small replies; for a larger frame it grows
_ROOM = MIB // 16
_MOST_SPARE = 32
_LENGTH = Struct(">I")


class Frames:
    """Used by one thread. received: so many bytes have arrived."""

    def __init__(self, sealer: Sealer | None) -> None:
        self.received = 0
        self._sealer = sealer
        self._view = memoryview(bytearray(_BUFFER))
        self._plain = memoryview(b"")
        self._spare: list[memoryview] = []
        self._start = self._end = self._whole = 0

    def fill(self, sock: socket.socket) -> int:
        """Read once; return how many bytes came, 0 when the peer closed. Raises OSError, without anything to read too.

        Not beyond the frame that has begun, if it is large: so a large frame begins at the front of the buffer and
        nothing has to be moved. The end stays free for a tag.
        """
        if self._start == self._end:
            self._start = self._end = 0
        elif len(self._view) - self._end < _ROOM:
            self._make_room()
        last = len(self._view) - TAG_SIZE
        if self._whole > _ROOM:
            last = min(last, self._start + self._whole)
        count = sock.recv_into(self._view[self._end : last])
        self._end += count
        self.received += count
        return count

    def _make_room(self) -> None:
        """Move what is there to the front; where one frame fills the buffer, take a bigger one."""
        have = self._end - self._start
        if have and self._start == 0:
            grown = memoryview(bytearray(min(2 * len(self._view), FRAME_LIMIT + MIB)))
            grown[:have] = self._view[:have]
            self._view = grown
        elif have:
            self._view[:have] = self._view[self._start : self._end]
        self._start, self._end = 0, have

    def take(self) -> tuple[memoryview, int, int] | None:
        """Return where the next whole frame lies, deciphered: view[start:end], until the next take(); None: none yet.

        Raises ProtocolError.
        """
        begin = self._start
        if self._end - begin < 4:
            return None
        view = self._view
        (length,) = _LENGTH.unpack_from(view, begin)
        if not HEADER_SIZE <= length <= FRAME_LIMIT:
            raise ProtocolError(f"a frame of {length} bytes")
        begin += 4
        last = begin + length
        if last > self._end:
            self._whole = length + 4
            return None
        self._start, self._whole = last, 0
        return (view, begin, last) if self._sealer is None else self._opened(self._sealer, begin, last)

    def _opened(self, sealer: Sealer, first: int, last: int) -> tuple[memoryview, int, int]:
        if self._view[first : first + 4] != SEALED_ID:
            raise ProtocolError("a reply in the clear in an encrypted session")
        if len(self._plain) < last - first:
            self._plain = self._buffer(last - first)
        return self._plain, 0, sealer.open(self._view, first, last, self._plain)

    # --- buffers

    def keep(self, view: memoryview, first: int, last: int) -> memoryview:
        """Return view[first:last] of the frame last taken so that it stays valid after the next take(), until let_go().

        Without a copy where it fills a good part of its buffer and is alone there, as large ones are: a small piece
        that kept its buffer would cost many times its size.
        """
        if last - first < len(view) // 2:
            return memoryview(bytes(view[first:last]))
        if view is self._plain:
            self._plain = self._buffer(len(view))
        elif view is self._view and self._start == self._end:
            self._view = self._buffer(len(view))
            self._start = self._end = 0
        else:
            return memoryview(bytes(view[first:last]))
        return view[first:last]

    def let_go(self, kept: memoryview) -> None:
        """Use the buffer behind something kept again."""
        if isinstance(kept.obj, bytearray) and len(self._spare) < _MOST_SPARE:
            self._spare.append(memoryview(kept.obj))

    def _buffer(self, size: int) -> memoryview:
        """Return a buffer for at least `size` bytes."""
        while self._spare:
            spare = self._spare.pop()
            if len(spare) >= size:
                return spare
        return memoryview(bytearray(max(size, _BUFFER)))
