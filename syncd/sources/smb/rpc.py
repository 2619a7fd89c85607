"""The one remote procedure call we make: NetrShareEnum, to say which shares a server offers.

DCE/RPC packets: C706 chapter 12; the call: [MS-SRVS] 3.1.4.8, opnum 15, information level 1.
"""

from __future__ import annotations

import uuid
from struct import Struct, error
from typing import Protocol

from syncd.sources.smb.packets import ProtocolError, printable

_HEADER = Struct("<BBBBIHHI")  # version, minor, type, flags, data representation, fragment and auth length, call id
_REQUEST, _RESPONSE, _BIND, _BIND_ACK = 0, 2, 11, 12
_WHOLE = 0x03  # first and last fragment
_LAST = 0x02
_LITTLE_ENDIAN = 0x10
_FRAGMENT = 4280
_SHARE_ENUM = 15
_DISK = 0
_MOST_FRAGMENTS = 64
_MOST_SHARES = 1000

_SRVSVC = uuid.UUID("4b324fc8-1670-01d3-1278-5a47bf6ee188").bytes_le + b"\x03\0\0\0"
_NDR = uuid.UUID("8a885d04-1ceb-11c9-9fe8-08002b104860").bytes_le + b"\x02\0\0\0"


class RpcPipe(Protocol):
    """A named pipe, as asking.Pipe."""

    def transceive(self, message: bytes) -> bytes: ...

    def read(self) -> bytes: ...


def _packet(kind: int, call: int, body: bytes) -> bytes:
    return _HEADER.pack(5, 0, kind, _WHOLE, _LITTLE_ENDIAN, _HEADER.size + len(body), 0, call) + body


def pack_bind() -> bytes:
    """C706 12.6.4.3: bind to srvsvc with NDR."""
    context = Struct("<HHIBxxxHBx").pack(_FRAGMENT, _FRAGMENT, 0, 1, 0, 1)
    return _packet(_BIND, 1, context + _SRVSVC + _NDR)


def pack_share_enum() -> bytes:
    """NetrShareEnum(NULL, level 1, an empty container, no limit, no resume handle)."""
    stub = Struct("<IIIIIIII").pack(0, 1, 1, 0x20004, 0, 0, 0xFFFFFFFF, 0)
    return _packet(_REQUEST, 2, Struct("<IHH").pack(len(stub), 0, _SHARE_ENUM) + stub)


def unpack_fragment(packet: bytes, kind: int) -> tuple[bytes, bool]:
    """Return what follows the common header, and whether it is the last fragment. Raises ProtocolError."""
    if len(packet) < _HEADER.size:
        raise ProtocolError("an RPC packet shorter than its header")
    version, _, found, flags, representation, length, _, _ = _HEADER.unpack_from(packet)
    if version != 5 or found != kind or representation & 0xFF != _LITTLE_ENDIAN or not _HEADER.size <= length:
        raise ProtocolError("an unexpected RPC packet")
    return packet[_HEADER.size : length], bool(flags & _LAST)


def unpack_share_enum(stub: bytes) -> list[str]:
    """Return the names of the disk shares (those that are not administrative). Raises ProtocolError."""
    try:
        return _shares(stub)
    except error:
        raise ProtocolError("a list of shares that is cut off") from None


def _shares(stub: bytes) -> list[str]:
    u32 = Struct("<I").unpack_from
    count, buffer, _most = Struct("<12xIII").unpack_from(stub) if len(stub) >= 24 else (0, 0, 0)
    if not buffer or count > _MOST_SHARES:
        return []
    at = 24
    entries = [Struct("<III").unpack_from(stub, at + 12 * index) for index in range(count)]
    at += 12 * count
    names = []
    for name_pointer, kind, comment_pointer in entries:
        for pointer, is_name in ((name_pointer, True), (comment_pointer, False)):
            if not pointer:
                continue
            (length,) = u32(stub, at + 8)
            first, last = at + 12, at + 12 + 2 * length
            if last > len(stub):
                raise ProtocolError("a share's name that is cut off")
            if is_name and kind == _DISK:
                names.append(printable(stub[first:last]).rstrip("\0"))
            at = (last + 3) & ~3
    return names


def share_names(pipe: RpcPipe) -> list[str]:
    """Ask for the disk shares on offer. Raises ProtocolError."""
    unpack_fragment(pipe.transceive(pack_bind()), _BIND_ACK)
    stub = b""
    packet = pipe.transceive(pack_share_enum())
    for _ in range(_MOST_FRAGMENTS):
        body, last = unpack_fragment(packet, _RESPONSE)
        stub += body[8:]  # allocation hint, context, cancel count
        if last:
            break
        packet = pipe.read()
    return unpack_share_enum(stub)
