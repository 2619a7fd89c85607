"""The files that are copied: made deterministically, incompressible, last changed long ago, and in the page cache."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.measure import BenchError

PIECE = 1 << 20
FIRST_MTIME_S = 1_704_067_200  # 2024-01-01: settled for any clock
OURS = ".syncd"


@dataclass(frozen=True, slots=True)
class Corpus:
    """`files` files of `size` bytes, spread evenly over `folders` folders."""

    name: str
    files: int
    size: int
    folders: int

    @property
    def bytes(self) -> int:
        return self.files * self.size

    def paths(self) -> Iterator[str]:
        """Yield each file's path; names have the spaces that scanned documents have."""
        for number in range(self.files):
            yield f"folder {number % self.folders:05d}/page {number:06d} .jpg"


def provide(corpus: Corpus, below: Path) -> Path:
    """Return the folder of a corpus below `below`, made if it is not there whole, and read into the page cache."""
    folder = below / corpus.name
    finished = below / f".{corpus.name}.{corpus.files}x{corpus.size}"
    if finished.exists():
        for path in corpus.paths():
            _read(folder / path)
        return folder
    rng = random.Random(corpus.name)
    for number in range(min(corpus.folders, corpus.files)):
        (folder / f"folder {number:05d}").mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(corpus.paths()):
        _write(folder / path, corpus.size, rng)
        os.utime(folder / path, (FIRST_MTIME_S + number, FIRST_MTIME_S + number))
    finished.touch()
    return folder


def _write(path: Path, size: int, rng: random.Random) -> None:
    with open(path, "wb", buffering=0) as file:
        for start in range(0, size, PIECE):
            file.write(rng.randbytes(min(PIECE, size - start)))


def _read(path: Path) -> None:
    with open(path, "rb", buffering=0) as file:
        while file.read(PIECE):
            pass


def compare(corpus: Corpus, original: Path, copy: Path, *, mtimes: bool) -> None:
    """Raise BenchError unless `copy` has every file of the corpus with its bytes (and mtime), and no other file."""
    for path in corpus.paths():
        _compare_file(original / path, copy / path, mtimes=mtimes)
    found = 0
    for base, folders, names in os.walk(copy):
        if base == str(copy) and OURS in folders:
            folders.remove(OURS)
        found += len(names)
    if found != corpus.files:
        raise BenchError(f"{copy}: {found} files, expected {corpus.files}")


def _compare_file(original: Path, copy: Path, *, mtimes: bool) -> None:
    try:
        with open(original, "rb", buffering=0) as one, open(copy, "rb", buffering=0) as other:
            while True:
                piece = one.read(PIECE)
                if piece != other.read(PIECE):
                    raise BenchError(f"{copy}: other bytes than {original}")
                if not piece:
                    break
            if mtimes and os.fstat(one.fileno()).st_mtime_ns != os.fstat(other.fileno()).st_mtime_ns:
                raise BenchError(f"{copy}: another mtime than {original}")
    except FileNotFoundError as error:
        raise BenchError(f"{copy}: not copied") from error
