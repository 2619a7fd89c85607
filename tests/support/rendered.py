"""Synthetic pages of printed English and Hindi, made at run time, with the text that OCR has to find; and bad files.

    page = render(folder / "p1.jpg", "hi", seed=7)            # a JPEG of a few lines; page.text is what it says
    render(folder / "l.pdf", "en", seed=8, pages=3)            # also .png, .tiff, .pdf
    character_error_rate(page.text, result["text"])            # 0.0 = read without a fault

Nothing of it is real: sentences are drawn from short word lists by a seeded generator, so a failure can be replayed.
Devanagari needs shaping (raqm, which Pillow's wheels bring along) and a font (Debian: fonts-lohit-deva).
"""

from __future__ import annotations

import os
import random
import struct
import unicodedata
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

FONTS = {
    "en": ("/usr/share/fonts/truetype/dejavu/DejaVuSerif.ttf", "fonts-dejavu-core"),
    "hi": ("/usr/share/fonts/truetype/lohit-devanagari/Lohit-Devanagari.ttf", "fonts-lohit-deva"),
}
WORDS = {
    "en": (
        "the letter was written in garden near river morning evening house people read aloud paper old friend village "
        "school water journey answer between mountain together winter window station brother question always "
        "remember another music under light teacher story silence promise road market bridge"
    ),
    "hi": (
        "गाँव के लोग सुबह नदी किनारे बैठते हैं और पुराने पत्र पढ़ते यह किताब बहुत अच्छी है सबको पसंद आती घर में पानी "
        "रात दिन शाम बाजार मित्र भाई बहन समय काम बात साथ नया जीवन मन हाथ आकाश सूरज चाँद फूल पेड़ हवा मौसम देश "
        "भाषा कहानी गीत सागर पर्वत यात्रा"
    ),
}
STOPS = {"en": ".", "hi": "।"}
ERROR_RATES = {"en": 0.02, "hi": 0.10}
"""Bounds of the character error rate of these pages; what Tesseract 5.3 reaches is 0 and below 0.01 (measured)."""

DPI = 200
SIZE_PX = {"en": 34, "hi": 42}
MARGIN_PX = 70
LINE = 1.7
SCAN_PX = (1240, 1650)
"""About A4 at 150 dpi: what a whole page is like."""


@dataclass(frozen=True)
class Rendered:
    """A file that was made, and what it says: one text a page."""

    path: Path
    language: str
    texts: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n\n".join(self.texts)


def sentences(language: str, seed: int, words: int) -> str:
    """Return so many words in sentences, always the same for a seed."""
    chosen, vocabulary = random.Random(f"{language} {seed}"), WORDS[language].split()
    found: list[str] = []
    while words > 0:
        count = min(words, chosen.randrange(4, 9))
        words -= count
        line = [chosen.choice(vocabulary) for _ in range(count)]
        if language == "en":
            line[0] = line[0].capitalize()
        found.append(" ".join(line) + STOPS[language])
    return " ".join(found)


def render(path: Path, language: str, seed: int, *, words: int = 16, pages: int = 1, scan: bool = False) -> Rendered:
    """Write a file whose type its suffix says. words: a page; scan: a whole page with much white, as a scanner's."""
    texts = tuple(sentences(language, 1000 * seed + number, words) for number in range(pages))
    images = [_page(text, language, scan=scan) for text in texts]
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".pdf": "PDF"}
    form = kind[path.suffix.lower()]
    if form == "PDF":
        images[0].save(path, form, resolution=DPI, save_all=True, append_images=images[1:])
    elif form == "TIFF":
        images[0].save(path, form, dpi=(DPI, DPI), compression="tiff_deflate", save_all=True, append_images=images[1:])
    else:
        assert pages == 1, f"{form} has one page"
        images[0].save(path, form, dpi=(DPI, DPI), **({"quality": 88} if form == "JPEG" else {}))
    return Rendered(path, language, texts)


def _page(text: str, language: str, *, scan: bool) -> Image.Image:
    size = SIZE_PX[language]
    font = ImageFont.truetype(_font(language), size, layout_engine=ImageFont.Layout.RAQM)
    width = SCAN_PX[0]
    lines = _wrapped(text, width - 2 * MARGIN_PX, lambda line: font.getlength(line))
    height = SCAN_PX[1] if scan else round(2 * MARGIN_PX + len(lines) * size * LINE)
    image = Image.new("L", (width, height), 250)
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        draw.text((MARGIN_PX, MARGIN_PX + round(number * size * LINE)), line, fill=15, font=font)
    return image


def _wrapped(text: str, width: float, length: Callable[[str], float]) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and length(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _font(language: str) -> str:
    path, package = FONTS[language]
    if not os.path.exists(path):
        message = f"{path} is not installed (package {package})"
        if os.environ.get("CI") == "true":
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    return path


# --- how well it was read --------------------------------------------------------------------------------------------


def character_error_rate(expected: str, got: str) -> float:
    """Return Levenshtein's distance by the length of what was expected; white space is folded, text is NFC."""
    expected, got = _plain(expected), _plain(got)
    return _distance(expected, got) / max(1, len(expected))


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def _distance(left: str, right: str) -> int:
    row = list(range(len(right) + 1))
    for number, character in enumerate(left, 1):
        before, row[0] = row[0], number
        for column, other in enumerate(right, 1):
            before, row[column] = (
                row[column],
                min(row[column] + 1, row[column - 1] + 1, before + (character != other)),
            )
    return row[-1]


# --- files that no OCR can read --------------------------------------------------------------------------------------


def truncated_jpeg(path: Path) -> None:
    """Write the first third of a JPEG: its header is good, its picture ends early."""
    whole = render(path, "en", 1).path.read_bytes()
    path.write_bytes(whole[: len(whole) // 3])


def encrypted_pdf(path: Path) -> None:
    """Write a PDF that asks for a password (RC4, revision 2), which is not ours: /O and /U are made up."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] >>",
        b"<< /Filter /Standard /V 1 /R 2 /P -4 /O <" + b"41" * 32 + b"> /U <" + b"42" * 32 + b"> >>",
    ]
    path.write_bytes(_pdf(objects, b" /Encrypt 4 0 R /ID [<" + b"00" * 16 + b"> <" + b"00" * 16 + b">]"))


def pdf_of_many_pages(path: Path, pages: int = 10_000) -> None:
    """Write a PDF of so many empty pages."""
    kids = b" ".join(b"%d 0 R" % (number + 3) for number in range(pages))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [" + kids + b"] /Count %d /MediaBox [0 0 600 800] >>" % pages,
        *[b"<< /Type /Page /Parent 2 0 R >>"] * pages,
    ]
    path.write_bytes(_pdf(objects))


def _pdf(objects: list[bytes], trailer: bytes = b"") -> bytes:
    parts = [b"%PDF-1.4\n"]
    offsets, at = [], len(parts[0])
    for number, content in enumerate(objects, 1):
        offsets.append(at)
        parts.append(b"%d 0 obj\n%b\nendobj\n" % (number, content))
        at += len(parts[-1])
    parts.append(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    parts += [b"%010d 00000 n \n" % offset for offset in offsets]
    parts.append(b"trailer\n<< /Size %d /Root 1 0 R%b >>\n" % (len(objects) + 1, trailer))
    parts.append(b"startxref\n%d\n%%%%EOF\n" % at)
    return b"".join(parts)


def bomb_png(path: Path, side: int = 60_000) -> None:
    """Write a PNG of some kilobytes whose picture would take side x side bytes in memory."""
    packer = zlib.compressobj(9)
    line = bytes(1 + side)
    packed = [packer.compress(line) for _ in range(200)]  # it ends early; the size in its header is what counts
    packed.append(packer.flush())
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)),
        (b"IDAT", b"".join(packed)),
        (b"IEND", b""),
    ]
    body = b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
