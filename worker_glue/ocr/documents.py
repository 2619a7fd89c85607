"""A file -> its pages, one after the other, as page images. What a file is decides its content, never its name.

Every refusal is one short sentence that users read. At any time one page is in memory and one page image on disk.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from worker_glue.errors import OcrFailed, OcrRefused
from worker_glue.ocr.engine import PageImage
from worker_glue.ocr.limits import Limits

SUPPORTED = "JPEG, PNG, BMP, GIF, TIFF, WebP and PDF"
MAX_SIDE = 32_000
"""Pixels: Tesseract's and others' coordinates are 16 bits wide; what is longer is made smaller."""
_HEAD_BYTES = 1024
_STARTS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"BM", "BMP"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)


class Document(Protocol):
    """An open file. pages: how many it has."""

    pages: int

    def images(self, folder: str) -> Iterator[PageImage]:
        """Yield its pages; the file of one is written into `folder`, and may be gone once the next is asked for.

        Raises: OcrRefused, OcrFailed.
        """


@contextmanager
def opened(path: str, limits: Limits, *, colour: bool = False) -> Iterator[Document]:
    """Open a file to read its pages. colour: page images keep their colours.

    Raises: OcrRefused when it is no image or PDF, damaged, encrypted, or above the limits; OcrFailed when it is gone or
    the disk fails.
    """
    kind = sniffed(path)
    if kind == "PDF":
        from worker_glue.ocr.pdf import opened_pdf

        with opened_pdf(path, limits, colour=colour) as document:
            yield document
    else:
        from worker_glue.ocr.pictures import opened_picture

        with opened_picture(path, kind, limits, colour=colour) as document:
            yield document


@contextmanager
def page_images(path: str, limits: Limits, *, colour: bool = False) -> Iterator[tuple[int, Iterator[PageImage]]]:
    """Open a file; yield how many pages it has, and their images, whose files go when the block ends. Raises as opened.

    Their folder lies in the temporary folder ($TMPDIR).
    """
    with tempfile.TemporaryDirectory(prefix="pages-") as folder, opened(path, limits, colour=colour) as document:
        yield document.pages, document.images(folder)


def sniffed(path: str) -> str:
    """Return what a file's first bytes say that it is. Raises: OcrRefused, OcrFailed."""
    try:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            raise OcrRefused("a folder, not a file")
        if not stat.S_ISREG(found.st_mode):
            raise OcrRefused("not a regular file")
        if not found.st_size:
            raise OcrRefused("the file is empty (0 bytes)")
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise unreadable(error) from error
    kind = _kind(head)
    if kind is None:
        raise OcrRefused(f"neither an image nor a PDF by its content; supported are {SUPPORTED}")
    return kind


def check_pages(pages: int, limits: Limits) -> None:
    """Raise OcrRefused for a file of too many pages."""
    if pages > limits.max_pages:
        raise OcrRefused(
            f"{pages:,} pages are more than the limit of {limits.max_pages:,} for one file",
            hint="split the file, or raise max_pages in the engine's table",
        )


def unreadable(error: OSError) -> OcrFailed:
    """Return the error for a file that the disk does not give."""
    return OcrFailed(f"the local file cannot be read: {error.strerror or error}")


def _kind(head: bytes) -> str | None:
    for start, kind in _STARTS:
        if head.startswith(start):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    # readers of PDF accept it within the first 1,024 bytes (ISO 32000-1, annex H, 3.4.1)
    return "PDF" if b"%PDF-" in head else None
