"""Images by Pillow: upright, on white, 8 bits a channel. All pages of a TIFF, the first frame of anything else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, ImageOps

from worker_glue.errors import OcrFailed, OcrRefused
from worker_glue.ocr.documents import MAX_SIDE, check_pages, unreadable
from worker_glue.ocr.engine import PageImage
from worker_glue.ocr.limits import Limits

_SANE_DPI = range(100, 2401)
"""Cameras write 72 or 96 where they mean nothing; what is not told, an engine estimates."""
_SIXTEEN = 256.0
_ORIENTATION = 0x0112

# the cap is ours, looked at before any pixel is decoded; Pillow's is lower, and only a warning up to twice its value
Image.MAX_IMAGE_PIXELS = None


@contextmanager
def opened_picture(path: str, kind: str, limits: Limits, *, colour: bool) -> Iterator[Picture]:
    """Open an image whose content is of this kind. Raises: OcrRefused, OcrFailed."""
    try:
        # by a file object: what Pillow opens by name it may map into memory, and then a TIFF that is to be turned comes
        # out garbled (Pillow 13.0), and a file that becomes shorter ends the process
        file = open(path, "rb")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise unreadable(error) from error
    with file:
        with decoding(kind):
            image = Image.open(file, formats=[kind])
            pages = int(getattr(image, "n_frames", 1)) if kind == "TIFF" else 1
        with image:
            check_pages(pages, limits)
            yield Picture(image, kind, pages, limits, "RGB" if colour else "L")


class Picture:
    """An open image: documents.Document."""

    def __init__(self, image: Image.Image, kind: str, pages: int, limits: Limits, mode: str) -> None:
        self.pages = pages
        self._image = image
        self._kind = kind
        self._limits = limits
        self._mode = mode

    def images(self, folder: str) -> Iterator[PageImage]:
        """Yield its pages. Raises: OcrRefused, OcrFailed."""
        for number in range(1, self.pages + 1):
            with decoding(self._kind):
                if number > 1:
                    self._image.seek(number - 1)
            _check_pixels(self._image.size, self._limits)
            dpi = _dpi(self._image)
            with decoding(self._kind):
                page = _upright(self._image, self._mode)
            yield written(page, number, folder, dpi)


@contextmanager
def decoding(kind: str) -> Iterator[None]:
    """Let what Pillow raises for damaged bytes, of many types, become OcrRefused."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            raise unreadable(error) from error
        raise OcrRefused(f"the {kind} is damaged or cut short") from error
    except MemoryError as error:
        raise OcrFailed("not enough memory to decode the image") from error
    except Exception as error:
        raise OcrRefused(f"the {kind} is damaged or of a kind that cannot be decoded") from error


def written(page: Image.Image, number: int, folder: str, dpi: int | None) -> PageImage:
    """Write a page image; smaller where a side is too long for engines. Raises OcrFailed (no room)."""
    longest = max(page.size)
    if longest > MAX_SIDE:
        page.thumbnail((MAX_SIDE, MAX_SIDE), reducing_gap=2.0)
        dpi = dpi and max(1, round(dpi * max(page.size) / longest))
    path = os.path.join(folder, "page.ppm" if page.mode == "RGB" else "page.pgm")
    try:
        page.save(path, "PPM")
    except OSError as error:
        raise OcrFailed(f"the page image cannot be written to {folder}: {error.strerror or error}") from error
    return PageImage(number, path, page.width, page.height, dpi)


def _check_pixels(size: tuple[int, int], limits: Limits) -> None:
    if size[0] * size[1] > limits.max_megapixels * 1_000_000:
        raise OcrRefused(
            f"{size[0]:,} x {size[1]:,} pixels are more than the limit of {limits.max_megapixels} megapixels",
            hint="make the image smaller, or raise max_megapixels in the engine's table",
        )


def _upright(image: Image.Image, mode: str) -> Image.Image:
    """Decode the current frame: turned as its EXIF says, on white, in `mode` (L or RGB)."""
    if mode == "L":
        image.draft("L", None)  # a colour JPEG: its luma alone, a quarter of the memory
    image.load()
    page = _flat(image, mode)
    _turn(image, page)
    return page


def _turn(image: Image.Image, page: Image.Image) -> None:
    """Turn `page` as `image` says; unreadable EXIF says nothing. (A TIFF has turned itself, and says so no more.)"""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 (EXIF of any kind of nonsense is no reason to refuse a good picture)
        return
    if isinstance(orientation, int) and 1 < orientation <= 8:
        if page is not image:
            page.getexif()[_ORIENTATION] = orientation
        ImageOps.exif_transpose(page, in_place=True)


def _flat(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == mode:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return _eight_bits(image).convert(mode)
    if image.has_transparency_data:
        transparent = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(transparent, mask=transparent.getchannel("A"))
        return white.convert(mode)
    return image.convert(mode)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return a picture of 16 or 32 bits a pixel as gray: by its type's range, or by its own when it is another."""
    low, high = (float(extreme) for extreme in image.convert("F").getextrema())  # type: ignore[arg-type]
    if image.mode.startswith("I;16"):
        low, high = 0.0, 255.0 * (_SIXTEEN + 1)
    elif image.mode == "I" and low >= 0 and high < _SIXTEEN * _SIXTEEN:
        low, high = 0.0, 255.0 if high < _SIXTEEN else 255.0 * (_SIXTEEN + 1)
    scale = 255.0 / (high - low) if high > low else 1.0
    return image.convert("F").point(lambda value: value * scale - low * scale).convert("L")


def _dpi(image: Image.Image) -> int | None:
    """Return the resolution that a file tells, where it is one that a scan can have."""
    told = image.info.get("dpi")
    try:
        dpi = round(float(told[0]))  # type: ignore[index]
    except (TypeError, ValueError, IndexError, ZeroDivisionError, OverflowError):
        return None
    return dpi if dpi in _SANE_DPI else None
