"""What a folder lies on: a local disk, one that other machines share, or a container's own layer.

Sources: proc(5) (mountinfo), mount(8) of macOS.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

MOUNT_S = 10.0

_NETWORK = re.compile(
    "9p|afpfs|afs|beegfs|ceph|cifs|coda|davfs|fakeowner|fhgfs|ftpfs|ftp|gfs2?|glusterfs|gpfs|grpcfuse|lustre|macfuse|ncpfs"
    r"|nfs\d?|ocfs2|osxfs|osxfuse|prl_fs|pvfs2|smb\d?|smbfs|vboxsf|virtiofs|vmhgfs|webdav"
    "|fuse(blk)?[.](ceph|curlftpfs|davfs2?|gcsfuse|glusterfs|goofys|grpcfuse|juicefs|mfs|osxfs|rclone|s3fs|smbnetfs|sshfs"
    "|vmhgfs-fuse)"
)
_LAYERS = frozenset({"overlay", "aufs", "fuse.fuse-overlayfs"})


def is_network(kind: str) -> bool:
    """Say whether a file system type is one that several machines (or kernels) share; "" (unknown) is not."""
    return _NETWORK.fullmatch(kind.lower()) is not None


def is_layer(kind: str) -> bool:
    """Say whether a file system type is what a container's own files lie on: they go with the container."""
    return kind in _LAYERS


def file_system_type(path: str | os.PathLike[str]) -> str:
    """Return the type of the file system that a path lies on, or will lie on; "" where it cannot be told."""
    real = os.path.realpath(path)
    if sys.platform == "darwin":
        return type_from_mount(_mounts_of_mac(), real)
    try:
        return type_from_mountinfo(Path("/proc/self/mountinfo").read_text(errors="surrogateescape"), real)
    except OSError:
        return ""


def type_from_mountinfo(text: str, path: str) -> str:
    """Read the type of `path`'s file system out of /proc/self/mountinfo (proc(5))."""
    mounts = []
    for line in text.splitlines():
        fields, _, rest = line.partition(" - ")
        if rest:
            point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal.group(1), 8)), fields.split(" ")[4])
            mounts.append((point, rest.split(" ")[0]))
    return _covering(mounts, path)


def type_from_mount(text: str, path: str) -> str:
    """Read the type of `path`'s file system out of what macOS's mount(8) prints."""
    mounts = re.findall(r"^.* on (/.*) \(([a-z0-9_]+)[,)]", text, re.MULTILINE)
    return _covering(mounts, path)


def _covering(mounts: list[tuple[str, str]], path: str) -> str:
    """Return the type of the deepest mount above a path; of two on one point, the later one covers the other."""
    best, kind = "", ""
    for point, its_kind in mounts:
        above = path == point or path.startswith(point.rstrip("/") + "/")
        if above and len(point) >= len(best):
            best, kind = point, its_kind
    return kind


def _mounts_of_mac() -> str:
    import subprocess  # slow to load, and only macOS asks

    try:
        done = subprocess.run(["/sbin/mount"], capture_output=True, text=True, timeout=MOUNT_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
