"""A mount of a type that machines share, without another machine: an empty folder served over /dev/fuse. Needs root.

with shared_mount(folder, "fuse.sshfs"):                  # mountinfo says fuse.sshfs there
with shared_mount(folder, "fuse.sshfs", silent=True):     # nothing is answered, as when the server has gone away

It runs as a process of its own, so that a test that waits for it does not wait for itself. Source: fuse(4), and the
kernel's include/uapi/linux/fuse.h, protocol 7.22.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

DEVICE = "/dev/fuse"
UP_S = 20.0
_REQUEST, _ANSWER = struct.Struct("<IIQQIIII"), struct.Struct("<IiQ")
_UNANSWERED = {2, 36, 42}
"""FORGET, INTERRUPT, BATCH_FORGET."""
_DETACH = 2


@contextlib.contextmanager
def shared_mount(folder: Path, kind: str, *, silent: bool = False) -> Iterator[None]:
    """Mount it on a folder until the block ends; skips the test where that cannot be done."""
    import pytest  # not in the process that answers

    if os.geteuid() != 0 or not os.path.exists(DEVICE):
        pytest.skip("a FUSE file system cannot be mounted: needs root and /dev/fuse")
    argv = [sys.executable, "-I", str(Path(__file__).resolve()), str(folder), kind, "silent" if silent else "answering"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as server:
        assert server.stdin is not None and server.stdout is not None and server.stderr is not None
        try:
            said = server.stdout.readline()
            if said != b"mounted\n":
                pytest.skip(f"a FUSE file system cannot be mounted: {server.stderr.read().decode()[-200:]}")
            yield
        finally:
            server.stdin.close()


def main() -> None:
    """Mount, say so, and answer until the end."""
    folder, kind, how = sys.argv[1:]
    device = os.open(DEVICE, os.O_RDWR)
    options = f"fd={device},rootmode=40755,user_id=0,group_id=0,allow_other"
    if _libc().mount(b"nobody@nowhere:", os.fsencode(folder), kind.encode(), 0, options.encode()):
        raise OSError(ctypes.get_errno(), "mount")
    threading.Thread(target=_end_with_input, args=(folder,), daemon=True).start()
    begun = False
    while True:
        request = os.read(device, 1 << 20)
        _, code, unique, *_ = _REQUEST.unpack_from(request)
        if code in _UNANSWERED:
            continue
        error, body = answer(code)
        os.write(device, _ANSWER.pack(_ANSWER.size + len(body), -error, unique) + body)
        if not begun:
            begun = True
            print("mounted", flush=True)
            if how == "silent":  # requests are not even taken: who waits can be killed, as on a hard NFS mount
                threading.Event().wait()


def _end_with_input(folder: str) -> None:
    """End with the test, however that ends; whoever waits for an answer gets an error with it."""
    sys.stdin.read()
    _libc().umount2(os.fsencode(folder), _DETACH)
    os._exit(0)


def answer(code: int) -> tuple[int, bytes]:
    """Return errno and what is answered to a request."""
    match code:
        case 26:  # INIT: version, read-ahead, flags, background requests, largest write
            return 0, struct.pack("<IIIIHHI", 7, 22, 4096, 0, 12, 9, 4096)
        case 3:  # GETATTR of the root
            now = int(time.time())
            times = struct.pack("<QQQIII", now, now, now, 0, 0, 0)
            rest = struct.pack("<IIIIIII", stat.S_IFDIR | 0o755, 2, 0, 0, 0, 4096, 0)
            return 0, struct.pack("<QII", 1, 0, 0) + struct.pack("<QQQ", 1, 0, 0) + times + rest
        case 17:  # STATFS
            return 0, struct.pack("<QQQQQIIII24x", 1 << 20, 1 << 19, 1 << 19, 1 << 20, 1 << 19, 4096, 255, 4096, 0)
        case 27:  # OPENDIR
            return 0, struct.pack("<QII", 1, 0, 0)
        case 28 | 29 | 38:  # READDIR, RELEASEDIR, DESTROY
            return 0, b""
        case 1:  # LOOKUP
            return errno.ENOENT, b""
        case _:
            return errno.ENOSYS, b""


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


if __name__ == "__main__":
    main()
