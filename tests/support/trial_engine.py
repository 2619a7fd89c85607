"""An OCR engine for tests, installed as a third party's would be: by an entry point, from a folder of its own.

    folder = install(tmp_path / "plugins")       # goes onto the worker's PYTHONPATH; the engine's name is "trial"

It "reads" files that page() made: their text is known, and they say how long reading them takes, or what goes wrong.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

from worker_glue.errors import OcrFailed
from worker_glue.model import OcrRequest, Word
from worker_glue.ocr.engine import Engine, PageText

NAME = "trial"
CONFIG = f'[worker.engine]\nname = "{NAME}"\n[worker.engine.{NAME}]\n'


def page(text: str, takes_s: float = 0.0, then: str = "") -> bytes:
    """Return a file's content. then: "hang", "die" or "fail" after takes_s."""
    return json.dumps({"text": text, "takes_s": takes_s, "then": then}).encode()


def install(folder: Path) -> Path:
    """Make the metadata of an installed package that has the engine's entry point."""
    package = folder / "trial_engine-1.0.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: trial-engine\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(
        f"[worker_glue.engines]\n{NAME} = tests.support.trial_engine:TrialEngine\n"
    )
    return folder


class TrialEngine(Engine):
    """Reads what page() wrote."""

    name: ClassVar[str] = NAME
    whole_documents: ClassVar[bool] = True

    @classmethod
    def configured(cls, table: Mapping[str, object]) -> Self:
        return cls()

    def version(self) -> str:
        return "1.0"

    def languages(self) -> Sequence[str]:
        return ("en", "hi")

    def read_document(self, request: OcrRequest) -> Iterator[PageText]:
        told = json.loads(Path(request.path).read_bytes())
        time.sleep(told["takes_s"])
        if told["then"] == "hang":
            while True:
                time.sleep(3600)
        if told["then"] == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if told["then"] == "fail":
            raise OcrFailed("the trial engine was told to fail")
        words = [Word(word, 10 * n, 0, 8, 8, 0.9, 1) for n, word in enumerate(told["text"].split())]
        yield PageText(told["text"], words, width=100, height=100)
