"""A small file in one round trip: CREATE + READ + CLOSE as one compound, packed at once, its replies parsed at once.

Three headers and three bodies of packets.py joined, for speed alone. unpack_whole() takes nothing but three good
replies in one frame. Whatever is otherwise is taken reply by reply, where it has its meaning (channel.py, reading.py).
"""

from __future__ import annotations

from struct import Struct

from syncd.sources.smb.packets import (
    ATTRIBUTE_DEVICE,
    ATTRIBUTE_DIRECTORY,
    ATTRIBUTE_REPARSE,
    CLOSE,
    CREATE,
    FILE_READ_ATTRIBUTES,
    FILE_READ_DATA,
    FLAG_RELATED,
    FLAG_REPLY,
    FLAG_SIGNED,
    OPTION_FILE,
    OPTION_REPARSE,
    PLAIN_ID,
    READ,
    pack_close,
    pack_create,
    pack_read,
)

ACCESS = FILE_READ_DATA | FILE_READ_ATTRIBUTES
OPTIONS = OPTION_FILE | OPTION_REPARSE
NO_FILE = ATTRIBUTE_DIRECTORY | ATTRIBUTE_REPARSE | ATTRIBUTE_DEVICE

SMALL = 1 << 18
"""Files below this are read so: from so many bytes on handing a piece to another thread costs less than it brings."""

READ_AT, CLOSE_AT = 0, 120
"""Where the second and the third request begin in what pack() returns as the rest."""

# --- requests --------------------------------------------------------------------------------------------------------

# of a header: ProtocolId .. Command | Credits Flags NextCommand MessageId | Reserved TreeId SessionId | Signature
_OPENING = Struct("<14sHIIQ16s16x46sH8x")  # and CREATE up to the length of its name, and to its end
_REST = Struct("<14sHIIQ16s16x4sI48s14sHIIQ16s16x24s")  # READ with its length; CLOSE
_OPENING_SIZE = _OPENING.size
_HEAD = Struct("<4sHHIH")
_IDS = Struct("<IIQ")
_CREATE_BODY = pack_create("x", ACCESS, OPTIONS)[:46]
_READ_BODY = pack_read(0, 0)
_READ_BEGIN, _READ_END = _READ_BODY[:4], _READ_BODY[8:].ljust(48, b"\0")
_CLOSE_BODY = pack_close()
_PADS = tuple(bytes(-length & 7) for length in range(8))


class WholePacker:
    """Packs for one session. flags: of every request; large_mtu: whether credit charges are told (3.2.4.1.5)."""

    def __init__(self, tree_id: int, session_id: int, flags: int, *, large_mtu: bool) -> None:
        self._ids = _IDS.pack(0xFEFF, tree_id, session_id)
        self._flags = flags
        self._create, self._close = (_HEAD.pack(PLAIN_ID, 64, int(large_mtu), 0, each) for each in (CREATE, CLOSE))
        self._reads = [_HEAD.pack(PLAIN_ID, 64, charge * large_mtu, 0, READ) for charge in range(8)]

    def pack(self, name: bytes, size: int, charge: int, more: int, message_id: int) -> tuple[bytes, bytes]:
        """Return CREATE, and READ and CLOSE, unsigned: of a file with this name in UTF-16, for its first `size` bytes.

        charge: READ's, below 8. more: so many credits are asked for beyond what is charged.
        """
        ids, related, length = self._ids, self._flags | FLAG_RELATED, len(name)
        pad = _PADS[length & 7]
        following = _OPENING_SIZE + length + len(pad)
        read_id = message_id + 1
        opening = _OPENING.pack(self._create, 1, self._flags, following, message_id, ids, _CREATE_BODY, length)
        return opening + name + pad, _REST.pack(
            self._reads[charge], charge, related, CLOSE_AT, read_id, ids, _READ_BEGIN, size, _READ_END,
            self._close, 1 + more, related, 0, read_id + charge, ids, _CLOSE_BODY,
        )  # fmt: skip


# --- replies ---------------------------------------------------------------------------------------------------------

# of a header: ProtocolId StructureSize | Status Command | Credits Flags NextCommand MessageId; then the body
_CREATED = Struct("<6s2x6sHIIQ32xH6x8x8xQQ8xqI4x16x8x")
_HAS_READ = Struct("<6s2x6sHIIQ32xHBxI8x")
_CLOSED = Struct("<6s2x6sHIIQ32xHHI8x8xQQ8xqI")
_CREATED_SIZE, _HAS_READ_SIZE, _CLOSED_SIZE = _CREATED.size, _HAS_READ.size, _CLOSED.size
_MAGIC = PLAIN_ID + b"\x40\0"
_CREATE_OK, _READ_OK, _CLOSE_OK = (bytes(4) + each.to_bytes(2, "little") for each in (CREATE, READ, CLOSE))
_SMALLEST = _CREATED_SIZE + _HAS_READ_SIZE + _CLOSED_SIZE

Whole = tuple[int, int, int, int, int, int, int, int, int, int]
"""Of three good replies: CREATE's message id, READ's charge, credits granted, where the second and the third begin,
where the content begins and ends, LastWriteTime (FILETIME), size, and 1 if all of them say they are signed, else 0."""


def unpack_whole(view: memoryview, start: int, end: int) -> Whole | None:
    """Return what view[start:end] says if it's the three replies to one compound, all good and of a file as it stayed.

    That is: a regular file, with the same size and times at CREATE and at CLOSE. Their signatures are not looked at.
    """
    if end - start < _SMALLEST:
        return None
    magic, outcome, granted, flags, following, message_id, structure, mtime, ctime, size, attributes = (
        _CREATED.unpack_from(view, start)
    )
    second = start + following
    if (
        magic != _MAGIC
        or outcome != _CREATE_OK
        or structure != 89
        or attributes & NO_FILE
        or following < _CREATED_SIZE
        or following & 7
        or second + _HAS_READ_SIZE > end
    ):
        return None
    magic, outcome, granted_2, flags_2, following, read_id, structure, offset, length = _HAS_READ.unpack_from(
        view, second
    )
    third = second + following
    first = second + offset
    last = first + length
    if (
        magic != _MAGIC
        or outcome != _READ_OK
        or structure != 17
        or read_id != message_id + 1
        or following < _HAS_READ_SIZE
        or following & 7
        or offset < 64
        or last > third
        or third + _CLOSED_SIZE > end
    ):
        return None
    magic, outcome, granted_3, flags_3, following, close_id, structure, queried, _, mtime_3, ctime_3, size_3, _ = (
        _CLOSED.unpack_from(view, third)
    )
    flags &= flags_2 & flags_3
    if (
        magic != _MAGIC
        or outcome != _CLOSE_OK
        or structure != 60
        or following
        or not queried & 1
        or not flags & FLAG_REPLY
        or mtime != mtime_3
        or ctime != ctime_3
        or size != size_3
    ):
        return None
    signed = flags & FLAG_SIGNED
    granted += granted_2 + granted_3
    return message_id, close_id - read_id, granted, second, third, first, last, mtime, size, signed
