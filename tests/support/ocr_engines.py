"""OCR engines that misbehave, each in its own way, for tests of what runs them: "tests.support.ocr_engines:Hangs"."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

from worker_glue.errors import OcrFailed, OcrRefused
from worker_glue.model import OcrRequest, Word
from worker_glue.ocr.engine import Engine, PageText
from worker_glue.ocr.tables import Table

ROOT = Path(__file__).resolve().parents[2]


def named(cls: type) -> str:
    """Return the name by which a child process finds one of these."""
    return f"tests.support.ocr_engines:{cls.__name__}"


class Scripted(Engine):
    """Reads no file: the request's path says what to do, so that one process can do both well and badly."""

    name: ClassVar[str] = "scripted"
    whole_documents: ClassVar[bool] = True

    @classmethod
    def configured(cls, table: Mapping[str, object]) -> Self:
        Table(cls.name, table).end()
        return cls()

    def version(self) -> str:
        return f"process {os.getpid()}"

    def languages(self) -> Sequence[str]:
        return ("en", "hi")

    def read_document(self, request: OcrRequest) -> Iterator[PageText]:
        what, _, rest = request.path.partition(" ")
        yield from getattr(self, f"_{what}")(rest)

    def _pages(self, count: str) -> Iterator[PageText]:
        for number in range(1, int(count) + 1):
            yield PageText(f"page {number}", (Word("page", 1, 2, 3, 4, 0.5, 1),), language="en", width=10, height=20)

    def _pages_slowly(self, count: str) -> Iterator[PageText]:
        for number in range(int(count)):
            time.sleep(0.1)
            yield PageText(str(number))

    def _rant(self, _rest: str) -> Iterator[PageText]:
        raise OcrFailed("so it is\n" * 1000)
        yield

    def _hang(self, _rest: str) -> Iterator[PageText]:
        while True:
            time.sleep(60)
        yield

    def _hang_in_c(self, _rest: str) -> Iterator[PageText]:
        re.match(r"(a+)+$", "a" * 60 + "b")  # holds the interpreter's lock for longer than anybody lives
        yield PageText("")

    def _drip(self, pause_s: str) -> Iterator[PageText]:
        for number in range(10_000):
            yield PageText(str(number))
            time.sleep(float(pause_s))

    def _start_a_program(self, note: str) -> Iterator[PageText]:
        program = subprocess.Popen(["sleep", "600"])
        Path(note).write_text(f"{os.getpid()} {program.pid}")
        program.wait()
        yield PageText("")

    def _leave_a_file(self, _rest: str) -> Iterator[PageText]:
        Path(os.environ["TMPDIR"], "left").write_bytes(b"x" * 1000)
        yield PageText(os.environ["TMPDIR"])
        while True:
            time.sleep(60)

    def _die(self, _rest: str) -> Iterator[PageText]:
        sys.stderr.write("about to crash\n")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGSEGV)
        yield PageText("")

    def _leave(self, _rest: str) -> Iterator[PageText]:
        os._exit(7)
        yield PageText("")

    def _die_later(self, _rest: str) -> Iterator[PageText]:
        subprocess.Popen(["sh", "-c", f"sleep 0.2; kill -9 {os.getpid()}"])
        yield PageText("done before")

    def _eat(self, _rest: str) -> Iterator[PageText]:
        eaten = [bytearray(64 << 20) for _ in range(1000)]
        yield PageText(str(len(eaten)))

    def _shout(self, _rest: str) -> Iterator[PageText]:
        for _ in range(200):
            print("x" * 10_000)
            sys.stderr.write("y" * 10_000)
        yield PageText("said a lot")

    def _raise(self, _rest: str) -> Iterator[PageText]:
        raise ZeroDivisionError("a bug of the engine's")
        yield

    def _refuse(self, _rest: str) -> Iterator[PageText]:
        raise OcrRefused("it will never be read", hint="write it again")
        yield

    def _fail(self, _rest: str) -> Iterator[PageText]:
        raise OcrFailed("not now", hint="try again")
        yield

    def _odd(self, _rest: str) -> Iterator[PageText]:
        yield PageText("lone \ud800 surrogate", [("w", 1.7, 2.2, 3.0, 4.9, 7.5, True)], language="hi")

    def _nan(self, _rest: str) -> Iterator[PageText]:
        yield PageText("x", confidence=float("nan"))

    def _no_page(self, _rest: str) -> Iterator[PageText]:
        yield "just a string"  # type: ignore[misc]

    def _environment(self, _rest: str) -> Iterator[PageText]:
        yield PageText(" ".join(sorted(os.environ)))


class SlowToStart(Scripted):
    def version(self) -> str:
        time.sleep(600)
        return ""


class DiesAtStart(Scripted):
    def version(self) -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        return ""


class RaisesAtStart(Scripted):
    def version(self) -> str:
        raise RuntimeError("no model")


class NotFinished:
    """Not an engine."""
