"""Give memory back after large work: a run over 100,000 files leaves the C library with free pieces that it keeps."""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress

LARGE_FILES = 5_000
"""After a run over so many files memory is given back at once, else within a minute."""


def settle() -> None:
    """Take what start-up made out of garbage collection: it stays, and looking through it holds up every thread."""
    gc.collect()
    gc.freeze()


def give_back() -> None:
    """Return free memory to the system (malloc_trim(3), glibc only; elsewhere nothing happens)."""
    gc.collect()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
