"""The contract of OCR engines, held against those that come along; Google's is spoken to through a stub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.require import require
from tests.support.vision_stub import VisionStub, write_key
from worker_glue.ocr.contract import LINES, EngineContract
from worker_glue.ocr.engine import Engine
from worker_glue.ocr.google_vision import GoogleVision
from worker_glue.ocr.null import Null
from worker_glue.ocr.tesseract import Tesseract


class TestNull(EngineContract):
    reads_the_page = False

    def make_engine(self) -> Engine:
        return Null.configured({})


class TestTesseract(EngineContract):
    def make_engine(self) -> Engine:
        return Tesseract.configured({"program": require("tesseract", "tesseract-ocr")})


class TestGoogleVision(EngineContract):
    table: dict[str, object]

    @pytest.fixture(autouse=True)
    def _stub(self, tmp_path: Path) -> Iterator[None]:
        with VisionStub(LINES) as stub:
            key = write_key(tmp_path / "key.json")
            self.table = {"credentials_file": str(key), "endpoint": stub.endpoint}
            yield

    def make_engine(self) -> Engine:
        return GoogleVision.configured(self.table)


class TestTheContractItself:
    """It must be able to fail: each of these breaks one promise."""

    @pytest.mark.parametrize("broken", ["text", "version", "words", "key"])
    def test_it_finds_an_engine_that_breaks_a_promise(self, broken: str) -> None:
        suite = _suite(broken)
        failed = []
        for name in dir(suite):
            if name.startswith("test_"):
                try:
                    getattr(suite, name)()
                except AssertionError:
                    failed.append(name)
        assert failed


def _suite(broken: str) -> EngineContract:
    from worker_glue.model import OcrRequest, Word
    from worker_glue.ocr.engine import PageImage, PageText

    class Broken(Engine):
        name = "broken"

        @classmethod
        def configured(cls, table: object) -> Broken:
            from worker_glue.ocr.tables import Table

            if broken != "key":
                Table("broken", table).end()  # type: ignore[arg-type]
            return cls()

        def version(self) -> str:
            return "" if broken == "version" else "1"

        def languages(self) -> list[str]:
            return []

        def read(self, page: PageImage, request: OcrRequest) -> PageText:
            text = "\n".join(LINES)
            if broken == "text":
                return PageText("something else")
            place = page.width if broken == "words" else 0
            return PageText(text, (Word("garden", place, 0, 10, 10, 0.5, 1),))

    class Suite(EngineContract):
        def make_engine(self) -> Engine:
            return Broken()

    if broken not in ("text",):
        Suite.test_a_page_without_text_is_no_error = lambda self: None  # type: ignore[method-assign]
    return Suite()
