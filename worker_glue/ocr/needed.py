"""The languages that the collection is written in, and how an engine that lacks one gets it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from worker_glue.ocr.languages import tesseract_name

LANGUAGES = {"en": "English", "hi": "Hindi"}
"""ISO 639-1 -> what people call it (the collection is English and Hindi)."""

_FILES = "https://github.com/tesseract-ocr/tessdata_fast/raw/main"


class Lack(NamedTuple):
    """What an engine cannot read, and the remedy: both one line."""

    seen: str
    todo: str


def lack_of(engine: str, languages: Sequence[str]) -> Lack | None:
    """Return what an engine lacks, by the languages (ISO 639-1) that it says it reads; None where it lacks nothing.

    An engine that does not say which it reads lacks nothing that could be known.
    """
    missing = [code for code in LANGUAGES if code not in languages]
    if not languages or not missing:
        return None
    named = " and ".join(f"{LANGUAGES[code]} ({code})" for code in missing)
    seen = f"{engine} cannot read {named}: tasks in {'it' if len(missing) == 1 else 'them'} end as errors"
    if engine != "tesseract":
        return Lack(seen, f"see {engine}'s own documents for how to add {named}")
    names = [tesseract_name(code) for code in missing]
    packages = " ".join(f"tesseract-ocr-{name}" for name in names)
    files = ", ".join(f"{_FILES}/{name}.traineddata" for name in names)
    return Lack(
        f"{seen}; there is no {' and no '.join(f'{name}.traineddata' for name in names)}",
        f'in an image: apt-get install {packages} (ours: --build-arg LANGUAGES="{packages}"); without '
        f"root: put {files} into a folder beside the other languages' files, and name it in TESSDATA_PREFIX, or as "
        "tessdata in [worker.engine.tesseract]",
    )
