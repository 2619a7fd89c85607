"""Images of every kind that OCR may meet, small and synthetic: a black corner on white tells which way is up."""

from __future__ import annotations

import hashlib
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


def owner_password_pdf(path: Path) -> None:
    """Write an encrypted PDF of one empty page that everybody may read: only its owner's password is not empty.

    Source: ISO 32000-1, 7.6.3 (RC4 of 40 bits, revision 2; algorithms 2 and 4).
    """
    pad = bytes.fromhex("28bf4e5e4e758a4164004e56fffa01082e2e00b6d0683e802f0ca9fe6453697a")
    owner, rights, document = b"A" * 32, -4, bytes(16)
    key = hashlib.md5(pad + owner + rights.to_bytes(4, "little", signed=True) + document).digest()[:5]
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] >>",
        b"<< /Filter /Standard /V 1 /R 2 /P %d /O <%b> /U <%b> >>"
        % (rights, owner.hex().encode(), _rc4(key, pad).hex().encode()),
    ]
    parts, offsets = [b"%PDF-1.4\n"], []
    for number, content in enumerate(objects, 1):
        offsets.append(sum(map(len, parts)))
        parts.append(b"%d 0 obj\n%b\nendobj\n" % (number, content))
    start = sum(map(len, parts))
    parts.append(b"xref\n0 5\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % offset for offset in offsets))
    name = document.hex().encode()
    parts.append(b"trailer\n<< /Size 5 /Root 1 0 R /Encrypt 4 0 R /ID [<%b> <%b>] >>\n" % (name, name))
    path.write_bytes(b"".join(parts) + b"startxref\n%d\n%%%%EOF\n" % start)


def _rc4(key: bytes, text: bytes) -> bytes:
    state, j = list(range(256)), 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    out, i, j = bytearray(), 0, 0
    for byte in text:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)
