"""From where the daemon sees a file to where this process does: the same file, or none."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from syncd.client.below import Opened, open_below
from syncd.client.digests import Digests
from syncd.core.lease import Lease
from syncd.core.reasons import Reason
from syncd.core.resolution import UNAVAILABLE_S, Resolution, State
from worker_glue.resolver.where import MOUNTS_VARIABLE

Signature = tuple[int, int]


class Seen(NamedTuple):
    """A file as this process sees it, opened just now. signature: of its stat (not ctime, which links change, and not
    the inode, which need not stay in a container's mount)."""

    root: str
    rel: str
    signature: Signature

    @property
    def path(self) -> str:
        """Its absolute path."""
        return f"{self.root.rstrip('/')}/{self.rel}"


class Mounts:
    """Mirror -> the folder in which this process sees it; one that is not named is at its place on the host.

    here: the daemon sees the same file systems, so that what it has verified at its own path needs no second look. What
    lies anywhere else is hashed: a stat says nothing there, and a mount may show an older copy.
    """

    def __init__(self, roots: Mapping[str, str], *, here: bool) -> None:
        self._roots = roots
        self._here = here
        self._digests = Digests()

    def placed(self, found: Resolution) -> Resolution:
        """Return a READY answer of the daemon with the path that counts here.

        UNAVAILABLE where no file with these bytes lies there: then this process sees another folder.
        """
        if found.state is not State.READY or found.local_path is None:
            return found
        seen = self.see(found.mirror, found.path, found.local_path, found.size, found.sha256)
        return elsewhere(found, seen) if isinstance(seen, str) else found._replace(local_path=seen.path)

    def see_pin(self, lease: Lease) -> Seen | str:
        """Return a lease's pinned file, or why it cannot be seen here."""
        return self.see(lease.mirror, lease.pinned_rel, lease.pinned_path, lease.size, lease.sha256)

    def see(self, mirror: str, rel: str, on_host: str, size: int | None, sha256: str | None) -> Seen | str:
        """Open a file below the mirror's folder, following no link; or say why it is not there."""
        root = self._roots.get(mirror)
        if root is None:
            if not on_host.endswith(f"/{rel}"):
                return f"the daemon's path {on_host} is not below its mirror"
            root = on_host.removesuffix(f"/{rel}") or "/"
        try:
            opened = open_below(root, rel)
            try:
                why = self._differs(opened, mirror, size, sha256)
            finally:
                os.close(opened.descriptor)
        except OSError as error:
            return self._hint(mirror, root, f"{error.strerror or error}".lower())
        return self._hint(mirror, root, why) if why else Seen(root, rel, _signature_of(opened.status))

    def _differs(self, opened: Opened, mirror: str, size: int | None, sha256: str | None) -> str:
        """Say in what an open file is not what the daemon holds; "" where it is that."""
        if opened.status.st_size != size:
            return "it has another size there"
        if self._here and mirror not in self._roots:
            return ""
        return "" if self._digests.of(opened, size) == sha256 else "it has other bytes there"

    def _hint(self, mirror: str, root: str, why: str) -> str:
        if mirror in self._roots:
            return f"{root} does not show what the daemon holds ({why}): mount the target of {mirror} there"
        return f'{root} is not to be seen here ({why}): set {MOUNTS_VARIABLE}="{mirror}=/where/it/is/here"'


def _signature_of(status: os.stat_result) -> Signature:
    return status.st_size, status.st_mtime_ns


def elsewhere(found: Resolution | Lease, hint: str) -> Resolution:
    """Return the answer for a file that the daemon holds and that this process does not see."""
    return Resolution(
        State.UNAVAILABLE,
        found.mirror,
        found.path,
        found.server_path,
        reason=Reason.TARGET_MISSING,
        hint=hint,
        retry_after_s=UNAVAILABLE_S,
    )
