"""Make the bundled sample collection: synthetic pages that look scanned, with names like those on the real share.

Not run by users; its output is committed. The texts are made up; no real letter is among them.
Needs: pip install -r requirements/sample.lock; Debian: apt-get install fonts-lohit-deva fonts-dejavu-core libfribidi0.
Run:   python scripts/make_sample.py
"""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFilter, ImageFont, features

TO = Path(__file__).resolve().parent.parent / "syncd" / "sample" / "Bhushanji"
LATIN = "/usr/share/fonts/truetype/dejavu/DejaVuSerif.ttf"
DEVANAGARI = "/usr/share/fonts/truetype/lohit-devanagari/Lohit-Devanagari.ttf"
PAGE = (595, 842)  # A4 at 72 dpi: enough to be read, small enough to be bundled
SCANNED = time.gmtime(1_262_304_000)  # 2010-01-01, so that a file does not depend on when it was made

ENGLISH = [
    "Sample Collection",
    "Room 4, Reading House",
    "",
    "Dear reader,",
    "this page is part of a made-up collection. It was",
    "never posted, and nobody in it has ever lived. It is",
    "here so that a mirror has something to carry on its",
    "first day: a few folders, a few pages, names with",
    "spaces where nobody expects them.",
    "",
    "If you can read this line in your data directory,",
    "then every byte of it was counted and compared.",
    "",
    "With kind regards,",
    "the sample",
]
HINDI = [
    "नमूना संग्रह",
    "कमरा ४, वाचनालय",
    "",
    "प्रिय पाठक,",
    "यह पृष्ठ एक काल्पनिक संग्रह का भाग है। यह पत्र",
    "कभी भेजा नहीं गया और इसमें कोई वास्तविक व्यक्ति",
    "नहीं है। इसका काम केवल इतना है कि पहले दिन",
    "कुछ फ़ोल्डर, कुछ पन्ने और कुछ नाम साथ लाए जाएँ।",
    "",
    "यदि आप यह पंक्ति पढ़ सकते हैं, तो इसका हर",
    "अक्षर गिना और मिलाया गया है।",
    "",
    "सादर,",
    "नमूना",
]


class Page(NamedTuple):
    """One file: its path, its text, whether it looks written by hand."""

    path: str
    lines: list[str]
    written: bool = False


PAGES = [
    Page("eng-typed/Letter to a reader  12.4.1962 .pdf", ENGLISH),
    Page("eng-typed/Reply, Almora (page 1).PDF", ENGLISH),
    Page("eng-typed/-undated note.pdf", ENGLISH),
    Page("eng-typed/Address .jpg", ENGLISH),
    Page("eng-typed/Minutes, 1965  (draft).TIF", ENGLISH),
    Page("hin-typed/Address .jpg", HINDI),
    Page("hin-typed/पत्र १९६२ .JPG", HINDI),
    Page("hin-typed/सूची, भाग २.pdf", HINDI),
    Page("hin-typed/Patra  3, Haridwar (2) .jpg", HINDI),
    Page("hin-written/हस्तलिखित पत्र (१) .JPG", HINDI, written=True),
    Page("hin-written/diary 14.1.1958 .jpeg", HINDI, written=True),
    Page("hin-written/envelope.tiff", HINDI, written=True),
]


def main() -> None:
    """Write all pages anew."""
    if not features.check("raqm"):
        raise SystemExit("error: Pillow finds no raqm, without which Devanagari is drawn wrongly; install libfribidi0")
    shutil.rmtree(TO, ignore_errors=True)
    for number, page in enumerate(PAGES):
        path = TO / page.path
        path.parent.mkdir(parents=True, exist_ok=True)
        save(draw(page, random.Random(number)), path)
    files = [p for p in TO.rglob("*") if p.is_file()]
    print(f"{len(files)} files, {sum(p.stat().st_size for p in files)} bytes in {TO}")


def draw(page: Page, rng: random.Random) -> Image.Image:
    """Draw a page as a scanner would see it: paper that is not white, ink that is not even, never quite straight."""
    image = Image.new("L", PAGE, 236)
    pen = ImageDraw.Draw(image)
    font = ImageFont.truetype(DEVANAGARI if page.lines is HINDI else LATIN, 21 if page.lines is HINDI else 17)
    y = 70
    for line in [*page.lines, "", f"— {page.path.rpartition('.')[0].rpartition('/')[2].strip()} —"]:
        drift = rng.randint(-4, 6) if page.written else 0
        face = font if any(c > "\u0900" for c in line) or page.lines is ENGLISH else ImageFont.truetype(LATIN, 15)
        pen.text((62 + drift, y + drift // 2), line, font=face, fill=rng.randint(20, 70))
        y += 34 + (rng.randint(-3, 5) if page.written else 0)
    for _ in range(60):
        x, spot = rng.randint(0, PAGE[0]), rng.randint(0, PAGE[1])
        pen.point((x, spot), fill=rng.randint(120, 200))
    tilted = image.rotate(rng.uniform(-1.2, 1.2), resample=Image.Resampling.BICUBIC, fillcolor=228)
    return tilted.filter(ImageFilter.GaussianBlur(0.4))


def save(image: Image.Image, path: Path) -> None:
    """Save by the extension: JPEG, a PDF of one JPEG page, or a black-and-white TIFF as fax machines make them."""
    match path.suffix.lower():
        case ".jpg" | ".jpeg":
            image.save(path, "JPEG", quality=38, optimize=True)
        case ".pdf":
            image.save(path, "PDF", quality=38, resolution=72, creationDate=SCANNED, modDate=SCANNED)
        case ".tif" | ".tiff":
            image.point(lambda v: 255 if v > 150 else 0).convert("1").save(path, "TIFF", compression="group4")


if __name__ == "__main__":
    main()
