"""The port of an OCR engine: what a third party implements (docs/engines.md), and `contract.EngineContract` tries.

An engine lives in a process of its own, which reads one file after the other in one thread. It may be ended by SIGKILL
at any moment: a time limit, a stop. What it writes into the temporary folder ($TMPDIR) is swept up after it; the
programs that it starts stay in its process group, so that they end with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, NamedTuple, Protocol, Self

from worker_glue.model import OcrRequest, Word


class PageImage(NamedTuple):
    """One page as a picture, upright, 8 bits a channel.

    path: a PGM file (P5, gray), or PPM (P6) for an engine that asked for colour; it is gone after read() returns.
    number: from 1. width, height: pixels, neither above 32,000. dpi: None where the file does not say.
    """

    number: int
    path: str
    width: int
    height: int
    dpi: int | None


class PageText(NamedTuple):
    """What an engine read on one page.

    text: line breaks as on the page, an empty line between paragraphs. words: boxes in the page image's pixels.
    confidence: 0 to 1; None = the mean of the words'. language: ISO 639-1, where the engine found out, else "".
    width, height: of the page, from engines that take whole documents; 0 = not known.
    """

    text: str
    words: Sequence[Word] = ()
    confidence: float | None = None
    language: str = ""
    width: int = 0
    height: int = 0


class Engine(Protocol):
    """An OCR engine. Subclass it: what has a default here need not be written."""

    name: ClassVar[str]
    """As in `[worker.engine.NAME]`, and the entry point's name."""
    colour: ClassVar[bool] = False
    """Whether page images keep their colours; gray ones are a third of the size."""
    whole_documents: ClassVar[bool] = False
    """Whether read_document() is called with the file itself, instead of read() with each of its pages."""

    @classmethod
    def configured(cls, table: Mapping[str, object]) -> Self:
        """Make the engine from its `[worker.engine.NAME]` table, which may be empty; no OCR is done yet.

        `worker_glue.ocr.tables.Table` reads one. Raises: ConfigError with all problems: an unknown key, a wrong value,
        a program or library that is not installed (its hint is the next step).
        """
        ...

    def version(self) -> str:
        """Return what read the text, as it is stored with each result: the program's or library's version."""
        ...

    def languages(self) -> Sequence[str]:
        """Return the languages that a request may name, ISO 639-1 where there is a code; empty = no list is known."""
        ...

    def read(self, page: PageImage, request: OcrRequest) -> PageText:
        """Read one page. A page without text is no error.

        request.languages may be empty; request.path is the file that the page is of, for messages only.
        Raises: OcrRefused (it never will be read: one short sentence, which users see), OcrFailed (another time it
        may). Any other exception counts as OcrFailed.
        """
        raise NotImplementedError

    def read_document(self, request: OcrRequest) -> Iterator[PageText]:
        """Read request.path, page by page: each is waited for no longer than the limit for a page. Raises as read()."""
        raise NotImplementedError
