"""From where the daemon sees a file to where this process does: the same file, or none."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from syncd.client.below import open_below
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
    """Mirror -> the folder in which this process sees it; one that is not named is at its place on the host."""

    def __init__(self, roots: Mapping[str, str]) -> None:
        self._roots = roots

    def placed(self, found: Resolution) -> Resolution:
        """Return a READY answer of the daemon with the path that counts here.

        UNAVAILABLE where no regular file of that size lies there: then this process sees another folder.
        """
        if found.state is not State.READY or found.local_path is None:
            return found
        seen = self.see(found.mirror, found.path, found.local_path, found.size)
        return elsewhere(found, seen) if isinstance(seen, str) else found._replace(local_path=seen.path)

    def see_pin(self, lease: Lease) -> Seen | str:
        """Return a lease's pinned file, or why it cannot be seen here."""
        return self.see(lease.mirror, lease.pinned_rel, lease.pinned_path, lease.size)

    def see(self, mirror: str, rel: str, on_host: str, size: int | None) -> Seen | str:
        """Open a file below the mirror's folder, following no link; or say why it is not there."""
        root = self._roots.get(mirror)
        if root is None:
            if not on_host.endswith(f"/{rel}"):
                return f"the daemon's path {on_host} is not below its mirror"
            root = on_host.removesuffix(f"/{rel}") or "/"
        try:
            descriptor, status = open_below(root, rel)
        except OSError as error:
            return self._hint(mirror, root, f"{error.strerror or error}".lower())
        os.close(descriptor)
        if status.st_size != size:
            return self._hint(mirror, root, "it has another size there")
        return Seen(root, rel, (status.st_size, status.st_mtime_ns))

    def _hint(self, mirror: str, root: str, why: str) -> str:
        if mirror in self._roots:
            return f"{root} does not show what the daemon holds ({why}): mount the target of {mirror} there"
        return f'{root} is not to be seen here ({why}): set {MOUNTS_VARIABLE}="{mirror}=/where/it/is/here"'


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
