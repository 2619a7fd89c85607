"""Images of every kind that OCR may meet, small and synthetic: a black corner on white tells which way is up."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

SIZE = (60, 40)
CORNER = (0, 0, 20, 10)
"""The black rectangle's box in the upright picture, which is otherwise white."""


def corner(mode: str = "L") -> Image.Image:
    """Return the upright picture."""
    image = Image.new("L", SIZE, 255)
    image.paste(0, CORNER)
    return image.convert(mode)


def oriented(path: Path, orientation: int, mode: str = "RGB", **options: object) -> None:
    """Write the picture as a camera would that was held so: turned, with an EXIF tag that says how to turn it back."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = corner(mode)
    if orientation in undo:
        image = image.transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif, **options)


def is_upright(page: Image.Image) -> bool:
    """Say whether a gray page image shows the picture as it should be, give or take a lossy format's noise."""
    if page.size != SIZE:
        return False
    dark = page.crop((2, 2, CORNER[2] - 2, CORNER[3] - 2)).getextrema()
    light = [page.crop(box).getextrema() for box in ((24, 2, 58, 38), (2, 14, 58, 38))]
    return dark[1] < 60 and all(low > 195 for low, _high in light)
