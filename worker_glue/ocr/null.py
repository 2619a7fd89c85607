"""The engine that reads nothing: for benchmarks and trials of everything around OCR. It is not listed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Self

from syncd.config import values
from worker_glue.model import OcrRequest, Word
from worker_glue.ocr.engine import Engine, PageText
from worker_glue.ocr.tables import Table

TEXT = "null"


class Null(Engine):
    """Says the same of every file, without opening it."""

    name: ClassVar[str] = "null"
    whole_documents: ClassVar[bool] = True

    def __init__(self, text: str = TEXT) -> None:
        self._text = text

    @classmethod
    def configured(cls, table: Mapping[str, object]) -> Self:
        keys = Table(cls.name, table)
        text = keys.take("text", values.text, TEXT)
        keys.end()
        return cls(text)

    def version(self) -> str:
        return "0"

    def languages(self) -> Sequence[str]:
        return ()

    def read_document(self, request: OcrRequest) -> Iterator[PageText]:  # noqa: ARG002 (the port's)
        yield PageText(self._text, (Word(self._text, 0, 0, 1, 1, 1.0, 1),), width=1, height=1)
