"""What a file system is and does: its type, local or network, folding of names, hard links.

Sources: proc(5) (mountinfo; mnt_id in fdinfo), statfs(2) of macOS.
"""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from contextlib import suppress
from pathlib import Path

from syncd.client.file_systems import is_network
from syncd.ports import Traits

_NO_HARD_LINKS = frozenset({"vfat", "msdos", "exfat"})
_FOLDING = frozenset({"vfat", "msdos", "exfat", "ntfs", "ntfs3", "fuseblk", "apfs", "hfs", "hfsplus"})
_NO_INODES = frozenset({"vfat", "msdos", "exfat"})
_PC_CASE_SENSITIVE = 11
_OCTAL = re.compile(r"\\([0-7]{3})")


def file_system_of(path: str | os.PathLike[str] | int) -> str:
    """Return the type of the file system that a path (or its nearest existing folder above, or a descriptor) lies on.

    "ext4", "cifs", "fuse.sshfs", "apfs", ...; "" where the system does not say.
    """
    if isinstance(path, int):
        return _type_of(path)
    here = Path(os.path.realpath(path))
    while True:
        with suppress(OSError):
            descriptor = os.open(here, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                return _type_of(descriptor)
            finally:
                os.close(descriptor)
        if here.parent == here:
            return ""
        here = here.parent


def is_network_file_system(path: str | os.PathLike[str] | int) -> str | None:
    """Return the file system's type if another machine (or kernel) shares it, None when it is local or unknown."""
    name = file_system_of(path)
    return name if is_network(name) else None


def has_inodes(file_system: str) -> bool:
    """Say whether inode numbers outlive an unmount (FAT has none, and FUSE programs make them up: seen with rclone)."""
    return file_system not in _NO_INODES and not file_system.startswith("fuse.")


def probe_traits(folder: int) -> Traits:
    """Find out by temporary names in an open folder of the target. Raises OSError."""
    token = os.urandom(8).hex()
    name = f"probe-{token}-\N{LATIN SMALL LETTER E WITH ACUTE}"
    link = f"probe-{token}-link"
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder))
    try:
        return Traits(
            folds_case=_is_there(name.upper(), folder),
            folds_unicode=_is_there(unicodedata.normalize("NFD", name), folder),
            hard_links=_can_link(name, link, folder),
        )
    finally:
        os.unlink(name, dir_fd=folder)


def assume_traits(folder: int, file_system: str) -> Traits:
    """Guess without writing (for a dry run on a target that nobody has probed)."""
    folds = file_system in _FOLDING
    if sys.platform == "darwin":
        with suppress(OSError, ValueError):
            folds = os.fpathconf(folder, _PC_CASE_SENSITIVE) == 0
    return Traits(
        folds_case=folds,
        folds_unicode=file_system in ("apfs", "hfs", "hfsplus"),
        hard_links=file_system not in _NO_HARD_LINKS,
    )


def _is_there(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _can_link(name: str, link: str, folder: int) -> bool:
    try:
        os.link(name, link, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except (OSError, NotImplementedError):
        return False
    os.unlink(link, dir_fd=folder)
    return True


def _type_of(descriptor: int) -> str:
    if sys.platform == "darwin":
        return _type_by_statfs(descriptor)
    with suppress(OSError):
        return _type_by_mountinfo(descriptor)
    return ""


def _type_by_mountinfo(descriptor: int) -> str:
    """Look up the mount that a descriptor was opened on (its device number would not do: btrfs has several)."""
    status = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
    mount_id = next((line.split()[1] for line in status.splitlines() if line.startswith("mnt_id:")), "")
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        for line in mounts:
            if line.split(" ", 1)[0] == mount_id:
                kind = line.rpartition(" - ")[2].split(" ", 1)[0]
                return _OCTAL.sub(lambda match: chr(int(match[1], 8)), kind)
    return ""


def _type_by_statfs(descriptor: int) -> str:
    """Return f_fstypename (16 bytes at offset 72 of struct statfs with 64-bit inodes, <sys/mount.h>)."""
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    # Intel Macs keep the 32-bit-inode layout under the plain name
    function = getattr(library, "fstatfs$INODE64", None) or library.fstatfs
    answer = ctypes.create_string_buffer(4096)
    if function(ctypes.c_int(descriptor), answer):
        return ""
    return answer.raw[72:88].split(b"\0", 1)[0].decode("ascii", "replace")
