"""PDFs by pypdfium2: one page after the other, rendered at the limits' dpi, smaller where a page would be too large."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pypdfium2  # type: ignore[import-untyped]
import pypdfium2.raw as pdfium  # type: ignore[import-untyped]

from worker_glue.errors import OcrFailed, OcrRefused
from worker_glue.ocr.documents import MAX_SIDE, check_pages
from worker_glue.ocr.engine import PageImage
from worker_glue.ocr.limits import Limits
from worker_glue.ocr.pictures import written

_POINTS_PER_INCH = 72.0
_PAGE_PIXELS = 50_000_000
"""Of one rendered page: A2 at 300 dpi fits; what is larger is rendered at fewer dpi."""


@contextmanager
def opened_pdf(path: str, limits: Limits, *, colour: bool) -> Iterator[Pdf]:
    """Open a PDF. Raises: OcrRefused when it is encrypted, damaged or too long."""
    try:
        document = pypdfium2.PdfDocument(os.path.abspath(path))
    except FileNotFoundError as error:
        raise OcrFailed("the local file is gone") from error
    except pypdfium2.PdfiumError as error:
        raise OcrRefused(_why(error.err_code)) from error
    try:
        pages = len(document)
        check_pages(pages, limits)
        yield Pdf(document, pages, limits, colour=colour)
    finally:
        document.close()


class Pdf:
    """An open PDF: documents.Document."""

    def __init__(self, document: pypdfium2.PdfDocument, pages: int, limits: Limits, *, colour: bool) -> None:
        self.pages = pages
        self._document = document
        self._limits = limits
        self._colour = colour

    def images(self, folder: str) -> Iterator[PageImage]:
        """Yield its pages, rendered. Raises: OcrRefused, OcrFailed."""
        for number in range(1, self.pages + 1):
            yield self._image(number, folder)

    def _image(self, number: int, folder: str) -> PageImage:
        try:
            page = self._document[number - 1]
            try:
                width, height = page.get_size()
                dpi = _dpi(width, height, self._limits)
                bitmap = page.render(
                    scale=dpi / _POINTS_PER_INCH, grayscale=not self._colour, rev_byteorder=self._colour
                )
            finally:
                page.close()
        except pypdfium2.PdfiumError as error:
            raise OcrRefused(f"page {number} of the PDF is damaged") from error
        except (MemoryError, ValueError) as error:
            raise OcrFailed(f"page {number} of the PDF cannot be rendered: {type(error).__name__}") from error
        try:
            return written(bitmap.to_pil(), number, folder, max(1, round(dpi)))
        finally:
            bitmap.close()


def _dpi(width: float, height: float, limits: Limits) -> float:
    """Return at how many dots per inch to render a page of so many points, so that it is not too large."""
    width, height = max(width, 1.0) / _POINTS_PER_INCH, max(height, 1.0) / _POINTS_PER_INCH
    most = min(_PAGE_PIXELS, limits.max_megapixels * 1_000_000)
    by_side = (MAX_SIDE - 1) / max(width, height)
    by_pixels: float = (most / (width * height)) ** 0.5
    return min(float(limits.dpi), by_side, by_pixels)


def _why(code: int | None) -> str:
    if code in (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY):
        return "the PDF is encrypted and needs a password"
    return "the PDF is damaged or has no pages"
