"""Layout of every SMB2 packet on our data path; all integers little-endian. Sections are of [MS-SMB2] unless marked.

Requests are packed to their body (what follows the 64-byte header). Replies are parsed in place from `view[start:end]`,
one reply with its header at `start`; nothing is trusted: what does not fit raises ProtocolError, and nothing else.
"""

from __future__ import annotations

import codecs
from struct import Struct
from typing import NamedTuple

from syncd.core.model import Entry, Kind


class ProtocolError(ValueError):
    """Bytes that [MS-SMB2] does not allow here. The connection they came on is not used any further."""


# --- commands and constants (2.2.1.2, 2.2.13, 2.2.33) ----------------------------------------------------------------

NEGOTIATE, SESSION_SETUP, TREE_CONNECT = 0, 1, 3
CREATE, CLOSE, READ, IOCTL, ECHO, QUERY_DIRECTORY, CHANGE_NOTIFY, QUERY_INFO = 5, 6, 8, 11, 13, 14, 15, 16

FLAG_REPLY, FLAG_ASYNC, FLAG_RELATED, FLAG_SIGNED = 0x1, 0x2, 0x4, 0x8
NO_MESSAGE = 0xFFFFFFFFFFFFFFFF
RELATED_ID = b"\xff" * 16

DIALECT_300, DIALECT_311 = 0x0300, 0x0311

FILE_READ_DATA, FILE_LIST_DIRECTORY, FILE_READ_ATTRIBUTES, FILE_WRITE_DATA = 0x1, 0x1, 0x80, 0x2
SHARE_ALL = 0x7  # READ | WRITE | DELETE: other clients are never locked out
OPTION_DIRECTORY, OPTION_FILE, OPTION_REPARSE = 0x1, 0x40, 0x200000
ATTRIBUTE_DIRECTORY, ATTRIBUTE_DEVICE, ATTRIBUTE_REPARSE = 0x10, 0x40, 0x400

WATCH_TREE = 0x1
NOTIFY_FILTER = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x40  # names, folder names, attributes, size, last write, creation

ID_FULL_DIRECTORY = 0x26
ALL_INFORMATION = 0x12

HEADER_SIZE = 64
TRANSFORM_SIZE = 52
CREDIT_UNIT = 65536
SIGNATURE_AT = 48
PLAIN_ID, SEALED_ID, SMB1_ID = b"\xfeSMB", b"\xfdSMB", b"\xffSMB"

# --- time ([MS-DTYP] 2.3.3) ------------------------------------------------------------------------------------------

_EPOCH = 116_444_736_000_000_000  # 1970 in FILETIME, 100 ns units since 1601
_HALF = (2**63 - 1) // 100
_EARLIEST, _LATEST = _EPOCH - _HALF, _EPOCH + _HALF


def to_ns(filetime: int) -> int:
    """Return a FILETIME as ns since the Unix epoch, kept within a signed 64-bit number."""
    if _EARLIEST <= filetime <= _LATEST:
        return (filetime - _EPOCH) * 100
    return (min(max(filetime, _EARLIEST), _LATEST) - _EPOCH) * 100


# --- header (2.2.1) --------------------------------------------------------------------------------------------------

# ProtocolId StructureSize CreditCharge Status Command Credits Flags NextCommand MessageId Reserved TreeId SessionId
# (Signature follows)
HEADER = Struct("<4sHHIHHIIQIIQ")
_REPLY = Struct("<IHHIHHIIQ")
_PLAIN = int.from_bytes(PLAIN_ID, "little")

pack_header = HEADER.pack
"""Packs a request's header up to its signature from the fields in HEADER's order.

Called without a wrapper, three times a small file.
"""

Header = tuple[int, int, int, int, int, int]
"""Of a reply, as far as it concerns us: status, command, credits granted, flags, next_command, message id."""


def unpack_header(view: memoryview, start: int, end: int) -> Header:
    """Parse one reply's header; `end` is the end of the frame. next_command is 0 or lies within the frame."""
    if end - start < HEADER_SIZE:
        raise ProtocolError("a reply shorter than its header")
    magic, size, _, status, command, granted, flags, following, message_id = _REPLY.unpack_from(view, start)
    if magic != _PLAIN or size != 64 or not flags & FLAG_REPLY:
        raise ProtocolError("a reply that is not SMB2")
    if following and (following < HEADER_SIZE or following & 7 or start + following > end - HEADER_SIZE):
        raise ProtocolError("a compounded reply with a wrong offset")
    return status, command, granted, flags, following, message_id


# --- requests --------------------------------------------------------------------------------------------------------

_CREATE = Struct("<HBBIQQIIIIIHHII")
_READ = Struct("<HBBIQ16sIIIHHx")
_CLOSE = Struct("<HHI16s")
_QUERY_DIRECTORY = Struct("<HBBI16sHHI")
_QUERY_INFO = Struct("<HBBIHHIII16sx")
_IOCTL = Struct("<HHI16sIIIIIIII")
_CHANGE_NOTIFY = Struct("<HHI16sII")
_ECHO = Struct("<HH")
_ANY = "*".encode("utf-16-le")


def pack_create(path: str, access: int, options: int) -> bytes:
    """2.2.13: open what is there, no oplock, sharing everything. path: "\\"-separated below the share, "" its root."""
    name = path.encode("utf-16-le")
    fixed = _CREATE.pack(57, 0, 0, 2, 0, 0, access, 0, SHARE_ALL, 1, options, 120, len(name), 0, 0)
    return fixed + (name or b"\0")


def pack_read(length: int, offset: int, file_id: bytes = RELATED_ID) -> bytes:
    """2.2.19. file_id: RELATED_ID takes that of the compound."""
    return _READ.pack(49, 0, 0, length, offset, file_id, 0, 0, 0, 0, 0)


def pack_close(file_id: bytes = RELATED_ID) -> bytes:
    """2.2.15 with POSTQUERY_ATTRIB: the reply carries size and times as they are at the end."""
    return _CLOSE.pack(24, 1, 0, file_id)


def pack_query_directory(length: int, file_id: bytes = RELATED_ID) -> bytes:
    """2.2.33: all names, FileIdFullDirectoryInformation, going on where the last query of this open ended."""
    return _QUERY_DIRECTORY.pack(33, ID_FULL_DIRECTORY, 0, 0, file_id, 96, len(_ANY), length) + _ANY


def pack_query_info(info_class: int, length: int, file_id: bytes = RELATED_ID) -> bytes:
    """2.2.37, InfoType file."""
    return _QUERY_INFO.pack(41, 1, info_class, length, 0, 0, 0, 0, 0, file_id)


def pack_ioctl(code: int, payload: bytes, max_reply: int, file_id: bytes) -> bytes:
    """2.2.31, an FSCTL with a payload."""
    return _IOCTL.pack(57, 0, code, file_id, 120, len(payload), 0, 0, 0, max_reply, 1, 0) + payload


def pack_change_notify(tree: bool, length: int, file_id: bytes = RELATED_ID) -> bytes:
    """2.2.35: tell of changes in an open folder, tree: and in all below it, in at most `length` bytes."""
    return _CHANGE_NOTIFY.pack(32, WATCH_TREE if tree else 0, length, file_id, NOTIFY_FILTER, 0)


def pack_echo() -> bytes:
    """2.2.28."""
    return _ECHO.pack(4, 0)


# --- replies ---------------------------------------------------------------------------------------------------------

_OPENED = Struct("<H6x8x8xQQ8xqI4x16s8x")
_CLOSED = Struct("<HHI8x8xQQ8xqI")
_READ_REPLY = Struct("<HBxI8x")
_READ_REPLY_SIZE = _READ_REPLY.size
_OUTPUT = Struct("<HHI")
_IOCTL_REPLY = Struct("<H2xI16sIIII8x")
_NEGOTIATED = Struct("<HHH2x16sIIIIQ")


Opened = tuple[int, int, int, int, bytes]
"""What CREATE says of the file: LastWriteTime, ChangeTime (both FILETIME), size, attributes, file id."""

Closed = tuple[bool, int, int, int]
"""What CLOSE says of it: whether it was asked at all, LastWriteTime, ChangeTime (both FILETIME), size."""


def _body(layout: Struct, structure_size: int, view: memoryview, start: int, end: int, what: str) -> tuple[int, ...]:
    body = start + HEADER_SIZE
    if end - body < layout.size:
        raise ProtocolError(f"a {what} reply that is too short")
    fields = layout.unpack_from(view, body)
    if fields[0] != structure_size:
        raise ProtocolError(f"a {what} reply with a wrong structure size")
    return fields


def _within(view_end: int, start: int, offset: int, length: int, what: str) -> tuple[int, int]:
    """Return where a buffer lies whose offset counts from the reply's header; an empty one may have any offset."""
    if length == 0:
        return start, start
    first = start + offset
    if offset < HEADER_SIZE or first + length > view_end:
        raise ProtocolError(f"a {what} reply whose buffer lies outside of it")
    return first, first + length


def unpack_create(view: memoryview, start: int, end: int) -> Opened:
    """2.2.14."""
    body = start + HEADER_SIZE
    if end - body < _OPENED.size:
        raise ProtocolError("a CREATE reply that is too short")
    structure_size, mtime, ctime, size, attributes, file_id = _OPENED.unpack_from(view, body)
    if structure_size != 89 or size < 0:
        raise ProtocolError("a CREATE reply with impossible values")
    return mtime, ctime, size, attributes, file_id


def unpack_close(view: memoryview, start: int, end: int) -> Closed:
    """2.2.16."""
    body = start + HEADER_SIZE
    if end - body < _CLOSED.size:
        raise ProtocolError("a CLOSE reply that is too short")
    structure_size, flags, _, mtime, ctime, size, _attributes = _CLOSED.unpack_from(view, body)
    if structure_size != 60 or size < 0:
        raise ProtocolError("a CLOSE reply with impossible values")
    return bool(flags & 1), mtime, ctime, size


def unpack_read(view: memoryview, start: int, end: int) -> tuple[int, int]:
    """2.2.20: return where the data begin and end in the view. Hot: for each small file."""
    body = start + HEADER_SIZE
    if end - body < _READ_REPLY_SIZE:
        raise ProtocolError("a READ reply that is too short")
    structure_size, offset, length = _READ_REPLY.unpack_from(view, body)
    if structure_size != 17:
        raise ProtocolError("a READ reply with a wrong structure size")
    if length == 0:
        return start, start
    first = start + offset
    if offset < HEADER_SIZE or first + length > end:
        raise ProtocolError("a READ reply whose buffer lies outside of it")
    return first, first + length


def unpack_output(view: memoryview, start: int, end: int, what: str = "query") -> tuple[int, int]:
    """2.2.34, 2.2.36 and 2.2.38: return where the output buffer of QUERY_DIRECTORY, _INFO or CHANGE_NOTIFY lies."""
    _, offset, length = _body(_OUTPUT, 9, view, start, end, what)
    return _within(end, start, offset, length, what)


def unpack_ioctl(view: memoryview, start: int, end: int) -> bytes:
    """2.2.32: return the output."""
    body = start + HEADER_SIZE
    if end - body < _IOCTL_REPLY.size:
        raise ProtocolError("an IOCTL reply that is too short")
    structure_size, _, _, _, _, offset, length = _IOCTL_REPLY.unpack_from(view, body)
    if structure_size != 49:
        raise ProtocolError("an IOCTL reply with a wrong structure size")
    first, last = _within(end, start, offset, length, "IOCTL")
    return bytes(view[first:last])


class Negotiated(NamedTuple):
    """2.2.4: what the server says of itself. system_time_ns: its clock, ns since the Unix epoch."""

    dialect: int
    signing_required: bool
    max_transact: int
    max_read: int
    system_time_ns: int


def unpack_negotiate(view: memoryview, start: int, end: int) -> Negotiated:
    """2.2.4."""
    body = start + HEADER_SIZE
    if end - body < _NEGOTIATED.size:
        raise ProtocolError("a NEGOTIATE reply that is too short")
    fields = _NEGOTIATED.unpack_from(view, body)
    if fields[0] != 65:
        raise ProtocolError("a NEGOTIATE reply with a wrong structure size")
    _, mode, dialect, _guid, _capabilities, max_transact, max_read, _max_write, system_time = fields
    return Negotiated(dialect, bool(mode & 2), max_transact, max_read, to_ns(system_time))


# --- directory entries ([MS-FSCC] 2.4.18 FileIdFullDirectoryInformation) ---------------------------------------------

# NextEntryOffset .. LastWriteTime ChangeTime EndOfFile .. FileAttributes FileNameLength EaSize .. FileId
_ENTRY = Struct("<I20xQQq8xIII4xq")
_ENTRY_SIZE = _ENTRY.size
MAX_UNDECODABLE = 1000


class Directory(NamedTuple):
    """One buffer's worth of a directory. self_id: the file id of ".", 0 when it is not in this buffer."""

    entries: list[Entry]
    undecodable: list[str]
    self_id: int


def _kind(attributes: int) -> Kind:
    if attributes & (ATTRIBUTE_REPARSE | ATTRIBUTE_DEVICE):
        return Kind.OTHER
    return Kind.DIRECTORY if attributes & ATTRIBUTE_DIRECTORY else Kind.FILE


def unpack_directory(view: memoryview, start: int, end: int) -> Directory:
    """Parse the entries in view[start:end]; "." and ".." are left out. Names that are no UTF-16 go to `undecodable`.

    Hot: some 2 us an entry. File ids are taken as signed numbers, which SQLite can hold.
    """
    entries: list[Entry] = []
    undecodable: list[str] = []
    self_id = 0
    data = bytes(view[start:end])  # slices of a memoryview take three times as long
    unpack, new, append, size = _ENTRY.unpack_from, tuple.__new__, entries.append, _ENTRY_SIZE
    decode = codecs.utf_16_le_decode  # by its name it would be looked up for each
    plain = (Kind.FILE, Kind.DIRECTORY)
    at, end = 0, len(data)
    following = end > 0
    while following:
        if end - at < size:
            raise ProtocolError("a directory entry that is cut off")
        following, mtime, ctime, length, attributes, name_length, _tag, file_id = unpack(data, at)
        first = at + size
        last = first + name_length
        if last > end or length < 0 or (following and following < size + name_length):
            raise ProtocolError("a directory entry with impossible values")
        at += following
        try:
            name = decode(data[first:last], "strict", True)[0]
        except UnicodeDecodeError:
            if len(undecodable) < MAX_UNDECODABLE:
                undecodable.append(printable(data[first:last]))
            continue
        if name in {".", ".."}:
            self_id = file_id if name == "." else self_id
            continue
        if not (_EARLIEST <= mtime <= _LATEST and _EARLIEST <= ctime <= _LATEST):
            mtime, ctime = min(max(mtime, _EARLIEST), _LATEST), min(max(ctime, _EARLIEST), _LATEST)
        kind = plain[attributes >> 4 & 1] if not attributes & 0x440 else _kind(attributes)
        append(new(Entry, (name, kind, length, (mtime - _EPOCH) * 100, (ctime - _EPOCH) * 100, file_id)))
    return Directory(entries, undecodable, self_id)


def printable(raw: bytes) -> str:
    """Return a name that is no UTF-16 in a form that can be shown; never raises."""
    text = raw.decode("utf-16-le", "surrogatepass") if len(raw) % 2 == 0 else raw.decode("utf-16-le", "replace")
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


# --- changes ([MS-FSCC] 2.7.1 FileNotifyInformation) ----------------------------------------------------------------

_CHANGE = Struct("<III")


def unpack_changes(view: memoryview, start: int, end: int) -> list[str]:
    """Parse view[start:end]: the names that changed, as sent ("\\"-separated, relative to the watched folder).

    What happened to them is left out: a hint does not need it. A name that is no UTF-16 comes with U+FFFD in it.
    """
    names: list[str] = []
    at = start
    following = end > start
    while following:
        if end - at < _CHANGE.size:
            raise ProtocolError("a change that is cut off")
        following, _action, length = _CHANGE.unpack_from(view, at)
        first = at + _CHANGE.size
        if first + length > end or (following and following < _CHANGE.size + length):
            raise ProtocolError("a change with impossible values")
        names.append(str(view[first : first + length], "utf-16-le", "replace"))
        at += following
    return names


# --- file information ([MS-FSCC] 2.4.2 FileAllInformation) -----------------------------------------------------------

_ALL = Struct("<8x8xQQI4x8xq4xBBxxq4x4x8x4x4xI")


class AllInformation(NamedTuple):
    """What the server knows of one open file. name: its true path below the share, "\\" first.

    leaving: it is to be removed once nobody has it open (DeletePending).
    """

    mtime_ns: int
    ctime_ns: int
    attributes: int
    size: int
    file_id: int
    name: str
    leaving: bool = False


def unpack_all_information(view: memoryview, start: int, end: int) -> AllInformation:
    """Parse view[start:end]; a name that is no UTF-16, or was cut off, is shown as far as it goes."""
    if end - start < _ALL.size:
        raise ProtocolError("file information that is too short")
    mtime, ctime, attributes, size, pending, _directory, file_id, length = _ALL.unpack_from(view, start)
    if size < 0:
        raise ProtocolError("file information with impossible values")
    first = start + _ALL.size
    name = bytes(view[first : min(first + length, end)]).decode("utf-16-le", "replace")
    return AllInformation(to_ns(mtime), to_ns(ctime), attributes, size, file_id, name, bool(pending))


# --- SMB1, only to recognize it ([MS-CIFS] 2.2.4.52) -----------------------------------------------------------------

SMB1_NEGOTIATE = (
    b"\0\0\0\x45\xffSMB\x72\0\0\0\0\x18\x01\x28"
    + b"\0" * 12
    + b"\xff\xff\xfe\xff\0\0\0\0\0"
    + b"\x22\0\x02NT LM 0.12\0\x02SMB 2.002\0\x02SMB 2.???\0"
)
"""Offers SMB 2 too ([MS-SMB2] 3.2.4.2.2.1): a server that speaks it answers in SMB 2, whatever else it speaks."""
