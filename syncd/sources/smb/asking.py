"""One question at a time over a channel: what is at a path, and what a named pipe answers."""

from __future__ import annotations

import time
from collections.abc import Sequence

from syncd.sources.smb import packets
from syncd.sources.smb.channel import Channel
from syncd.sources.smb.errors import BUFFER_OVERFLOW, SUCCESS, broken, stalled
from syncd.sources.smb.packets import (
    CLOSE,
    CREATE,
    IOCTL,
    QUERY_INFO,
    READ,
    AllInformation,
    pack_close,
    pack_create,
    pack_ioctl,
    pack_query_info,
    pack_read,
)

_WAIT_S = 0.5
_INFO_SIZE = 8192
_PIPE_ACCESS = packets.FILE_READ_DATA | packets.FILE_WRITE_DATA | packets.FILE_READ_ATTRIBUTES
_TRANSCEIVE = 0x0011C017  # FSCTL_PIPE_TRANSCEIVE, [MS-FSCC] 2.3.49
_PIPE_SIZE = packets.CREDIT_UNIT

Reply = tuple[int, bytes]
"""A status, and the whole reply from its header on."""


def ask(channel: Channel, steps: Sequence[tuple[int, bytes, int]]) -> list[Reply]:
    """Send requests (command, body, charge) as one compound and wait for all replies. Raises ChannelLost."""
    replies: list[Reply] = []

    def keep(status: int, view: memoryview, start: int, end: int) -> None:
        replies.append((status, bytes(view[start:end])))

    total = sum(step[2] for step in steps)
    until = time.monotonic() + channel.ask_s
    sent = False
    while len(replies) < len(steps):
        if not sent and channel.can_send(total):
            channel.send([(command, body, charge, keep) for command, body, charge in steps])
            sent = True
        if time.monotonic() > until:
            raise stalled(channel.where, channel.ask_s)
        channel.receive(_WAIT_S)
    return replies


def look_at(channel: Channel, path: str) -> tuple[int, AllInformation | None]:
    """Return a file's or folder's status and, if that is success, what it is. path: below the share, "\\"-separated."""
    created, queried, _ = ask(
        channel,
        [
            (CREATE, pack_create(path, packets.FILE_READ_ATTRIBUTES, packets.OPTION_REPARSE), 1),
            (QUERY_INFO, pack_query_info(packets.ALL_INFORMATION, _INFO_SIZE), 1),
            (CLOSE, pack_close(), 1),
        ],
    )
    status = created[0] or queried[0]
    if status not in {SUCCESS, BUFFER_OVERFLOW}:
        return status, None
    view = memoryview(queried[1])
    try:
        return SUCCESS, packets.unpack_all_information(view, *packets.unpack_output(view, 0, len(view), "QUERY_INFO"))
    except packets.ProtocolError as exc:
        raise broken(channel.where, str(exc)) from exc


class Pipe:
    """A named pipe opened over IPC$, closed by the end of its connection."""

    def __init__(self, channel: Channel, name: str) -> None:
        self._channel = channel
        self.status, reply = ask(channel, [(CREATE, pack_create(name, _PIPE_ACCESS, 0), 1)])[0]
        view = memoryview(reply)
        self._handle = b"" if self.status else packets.unpack_create(view, 0, len(view))[4]

    def transceive(self, message: bytes) -> bytes:
        """Write a message and return what comes back first; b"" when the pipe refuses."""
        body = pack_ioctl(_TRANSCEIVE, message, _PIPE_SIZE, self._handle)
        status, reply = ask(self._channel, [(IOCTL, body, 1)])[0]
        return packets.unpack_ioctl(memoryview(reply), 0, len(reply)) if status in {SUCCESS, BUFFER_OVERFLOW} else b""

    def read(self) -> bytes:
        """Return what else the pipe has; b"" when it refuses."""
        status, reply = ask(self._channel, [(READ, pack_read(_PIPE_SIZE, 0, self._handle), 1)])[0]
        if status not in {SUCCESS, BUFFER_OVERFLOW}:
            return b""
        first, last = packets.unpack_read(memoryview(reply), 0, len(reply))
        return reply[first:last]
