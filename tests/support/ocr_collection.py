"""The collection of the OCR job: 60 pages in three folders, English and Hindi, and what has to be read in them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.backend import Wanted, results_by_index
from tests.support.ocr_site import MIRROR
from tests.support.rendered import ERROR_RATES, Rendered, character_error_rate, render

PAGES = 60
FOLDERS = {"eng-typed": "en", "hin-typed": "hi", "newsletters set 1": "en"}
"""All have the same names in them."""
FRONTS = (f"{MIRROR}/", f"./{MIRROR}/", f"/app/{MIRROR}/", f"/data/{MIRROR}/", "/mnt/sda1/mango1_home/Bhushanji/", "")
SUFFIXES = (" .jpg", ".JPG", ".png", ".jpeg", ".tiff", ".pdf")
ERROR_RATE_OF_ONE = 0.25
"""Of any single page; the bounds of a language are for the mean."""


class Expected(NamedTuple):
    """One file, and its task."""

    wanted: Wanted
    page: Rendered


def render_collection(root: Path, count: int = PAGES) -> list[Expected]:
    """Render the pages into a share; return them in the order of their tasks."""
    return [_one(root, number) for number in range(count)]


def _one(root: Path, number: int) -> Expected:
    folder, language = list(FOLDERS.items())[number % len(FOLDERS)]
    of_folder = number // len(FOLDERS)
    suffix = SUFFIXES[of_folder % len(SUFFIXES)]
    several = suffix in (".pdf", ".tiff") and of_folder < len(SUFFIXES)
    path = f"{folder}/page {of_folder:02}, of 20{suffix}"
    page = render(root / path, language, number, words=10, pages=2 if several else 1)
    languages = ["hi", "en"] if number % 9 == 4 else [language]
    return Expected(Wanted(FRONTS[number % len(FRONTS)] + path, languages), page)


def assert_read(document: dict[str, Any], expected: list[Expected]) -> None:
    """Each result has the text of its own file, well enough, was made from it, and tells what its pages are like."""
    rates: dict[str, list[float]] = {language: [] for language in ERROR_RATES}
    for index, result in results_by_index(document).items():
        wanted, page = expected[index]
        rate = character_error_rate(page.text, result["full_text"])
        assert rate < ERROR_RATE_OF_ONE, f"{wanted.path}: {result['full_text']!r} instead of {page.text!r}"
        rates[page.language].append(rate)
        content = page.path.read_bytes()
        assert result["source_sha256"] == hashlib.sha256(content).hexdigest()
        assert result["source_generation"] > 0
        assert result["file_info"]["size"] == len(content)
        assert result["file_info"]["extension"].lower() == page.path.suffix.lower()
        assert result["pages_processed"] == len(page.texts)
        assert result["languages"] == list(wanted.languages)
        assert result["handwriting"] is False
        assert result["engine"] == "tesseract"
        assert abs(result["words_count"] - len(page.text.split())) <= 4
        assert result["blocks_count"] >= 1
        assert result["confidence"] > 0.5
    for language, found in rates.items():
        assert sum(found) <= ERROR_RATES[language] * len(found), (language, found)
