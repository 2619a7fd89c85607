"""SHA-256 of files that others may change, each read once for as long as its stat stays."""

from __future__ import annotations

import hashlib
import os
import time

from syncd.client.below import Opened, signature_of

KEPT_MAX = 100_000
_PIECE = 1 << 20
_AGED_S = 2.0
"""A file changed less long ago may change again without its stat showing it: its digest is not kept."""

Signature = tuple[int, int, int, int, int]


class Digests:
    """Digests of open files, kept. Thread-safe."""

    def __init__(self) -> None:
        self._kept: dict[Signature, str] = {}

    def of(self, opened: Opened, size: int) -> str | None:
        """Return an open file's SHA-256; None where its size is not this, or it changes meanwhile. Raises OSError."""
        descriptor, status = opened
        if status.st_size != size:
            return None
        signature = signature_of(status)
        known = self._kept.get(signature)
        if known is not None:
            return known
        aged = time.time() - max(status.st_ctime, status.st_mtime) > _AGED_S
        digest = _hash(descriptor)
        if signature_of(os.fstat(descriptor)) != signature:
            return None
        if aged:
            if len(self._kept) >= KEPT_MAX:
                self._kept.clear()
            self._kept[signature] = digest
        return digest


def _hash(descriptor: int) -> str:
    digest, offset = hashlib.sha256(), 0
    while piece := os.pread(descriptor, _PIECE, offset):
        digest.update(piece)
        offset += len(piece)
        time.sleep(0)  # under gevent the others run meanwhile
    return digest.hexdigest()
