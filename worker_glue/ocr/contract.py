"""The tests that every OCR engine passes: subclass EngineContract in a test module of yours, and run pytest.

    from worker_glue.ocr.contract import EngineContract

    class TestMine(EngineContract):
        def make_engine(self):
            return Mine.configured({})

Nothing but Pillow is needed: plain asserts, no fixtures.
"""

# ruff: noqa: S101 (a test suite that others import)

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from syncd.core.errors import ConfigError
from worker_glue.errors import OcrError
from worker_glue.model import OcrRequest
from worker_glue.ocr.documents import page_images
from worker_glue.ocr.engine import Engine, PageText
from worker_glue.ocr.limits import Limits

LINES = ("The garden near the river", "People read letters aloud")
_NO_TEXT = ""


class EngineContract:
    """What an engine promises (engine.Engine). language: one that it can read the English of LINES in."""

    language = "en"
    reads_the_page = True
    """Set it to False for an engine whose text does not depend on the page, such as a stub."""

    def make_engine(self) -> Engine:
        """Return an engine, ready to read."""
        raise NotImplementedError

    # --- what it is --------------------------------------------------------------------------------------------------

    def test_it_has_a_name_that_a_table_can_have(self) -> None:
        assert re.fullmatch(r"[a-z0-9][a-z0-9_-]*", self.make_engine().name)

    def test_it_has_a_version(self) -> None:
        version = self.make_engine().version()
        assert isinstance(version, str) and version.strip() == version != ""

    def test_its_languages_are_texts_each_once(self) -> None:
        languages = list(self.make_engine().languages())
        assert all(isinstance(each, str) and each for each in languages)
        assert len(languages) == len(set(languages))

    def test_an_unknown_key_in_its_table_is_a_problem_that_is_named(self) -> None:
        try:
            type(self.make_engine()).configured({"no_such_key_anywhere": 1})
        except ConfigError as error:
            assert "no_such_key_anywhere" in "\n".join([error.message, *error.problems])
        else:
            raise AssertionError("configured() took a key that it cannot know")

    # --- what it reads -----------------------------------------------------------------------------------------------

    def test_it_reads_a_page(self) -> None:
        (read,) = self._read(LINES)
        assert isinstance(read.text, str)
        if self.reads_the_page:
            assert _words(LINES) == _words([read.text])

    def test_a_page_without_text_is_no_error(self) -> None:
        (read,) = self._read([_NO_TEXT])
        if self.reads_the_page:
            assert read.text.strip() == ""

    def test_words_lie_on_the_page_and_are_in_the_text(self) -> None:
        with _picture(LINES) as file, page_images(file, Limits()) as (_pages, images):
            page = next(images)
            read = self._all(self.make_engine(), OcrRequest(file, (self.language,)))[0]
            for word in read.words:
                assert word.text and word.text in read.text
                assert word.x >= 0 and word.y >= 0 and word.width >= 0 and word.height >= 0
                assert word.x + word.width <= page.width and word.y + word.height <= page.height
                assert 0 <= word.confidence <= 1

    def test_confidence_is_a_fraction_or_left_to_the_words(self) -> None:
        (read,) = self._read(LINES)
        assert read.confidence is None or 0 <= read.confidence <= 1

    def test_the_same_page_reads_the_same_again(self) -> None:
        engine = self.make_engine()
        first, second = self._read(LINES, engine), self._read(LINES, engine)
        assert [read.text for read in first] == [read.text for read in second]

    def test_what_it_says_fits_into_json(self) -> None:
        for read in self._read(LINES):
            json.dumps([read.text, list(read.words), read.confidence, read.language], allow_nan=False).encode("utf-8")

    # --- how it behaves ----------------------------------------------------------------------------------------------

    def test_a_request_without_languages_is_read(self) -> None:
        assert self._read(LINES, languages=())

    def test_handwriting_is_read_or_ignored(self) -> None:
        assert self._read(LINES, handwriting=True)

    def test_a_language_that_nobody_has_is_ignored_or_an_ocr_error(self) -> None:
        try:
            self._read(LINES, languages=("xx-nobody",))
        except OcrError as error:
            assert error.message and "\n" not in error.message

    def test_the_file_stays_as_it_was(self) -> None:
        with _picture(LINES) as file:
            before = _digest(file)
            self._all(self.make_engine(), OcrRequest(file, (self.language,)))
            assert _digest(file) == before

    # --- means -------------------------------------------------------------------------------------------------------

    def _read(
        self,
        lines: Sequence[str],
        engine: Engine | None = None,
        languages: Sequence[str] | None = None,
        *,
        handwriting: bool = False,
    ) -> list[PageText]:
        asked = (self.language,) if languages is None else tuple(languages)
        with _picture(lines) as file:
            return self._all(engine or self.make_engine(), OcrRequest(file, asked, handwriting))

    @staticmethod
    def _all(engine: Engine, request: OcrRequest) -> list[PageText]:
        if engine.whole_documents:
            return list(engine.read_document(request))
        with page_images(request.path, Limits(), colour=engine.colour) as (_pages, images):
            return [engine.read(image, request) for image in images]


@contextmanager
def _picture(lines: Sequence[str]) -> Iterator[str]:
    """Write a page of printed lines as a PNG."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=44)
    image = Image.new("L", (1200, 200 + 90 * len(lines)), 255)
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        draw.text((100, 100 + 90 * number), line, fill=0, font=font)
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "page.png")
        image.save(file, dpi=(300, 300))
        yield file


def _words(lines: Sequence[str]) -> list[str]:
    return re.findall(r"\w+", " ".join(lines).lower())


def _digest(file: str) -> str:
    with open(file, "rb") as content:
        return hashlib.sha256(content.read()).hexdigest()
