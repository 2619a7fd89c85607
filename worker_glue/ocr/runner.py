"""OCR in a process of its own, under hard limits: ports.Recognizer."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from threading import Event, Lock
from typing import NoReturn, Self

from syncd.config.values import plain_s
from syncd.core.errors import ConfigError
from worker_glue.errors import OcrFailed, OcrRefused, OcrStopped
from worker_glue.model import OcrRequest, Page, Recognized, Word
from worker_glue.ocr.folder import WorkFolder
from worker_glue.ocr.limits import Limits, split
from worker_glue.ocr.messages import Message
from worker_glue.ocr.process import Ended, EngineProcess

START_LIMIT_S = 120.0
TEXT_MAX = 256 << 20
_TURN_S = 0.1


class Runner:
    """Runs an engine so that one that hangs or dies costs one task: ports.Recognizer.

    The process is started when it is first needed, kept from file to file, and started anew after it ended. It reads
    one file at a time; other threads wait for their turn.
    """

    def __init__(
        self,
        name: str,
        table: Mapping[str, object],
        *,
        page_limit_s: float | None = None,
        task_limit_s: float | None = None,
        memory_limit: int | None = None,
        start_limit_s: float = START_LIMIT_S,
    ) -> None:
        """name, table: the engine and its `[worker.engine.NAME]` table, whose limits hold where none is given here."""
        limits = split(name, table)[0]
        self._limits = limits._replace(
            page_limit_s=limits.page_limit_s if page_limit_s is None else page_limit_s,
            task_limit_s=limits.task_limit_s if task_limit_s is None else task_limit_s,
            memory_limit=limits.memory_limit if memory_limit is None else memory_limit,
        )
        self._name = name
        self._table = table
        self._start_limit_s = start_limit_s
        self._turn = Lock()
        self._folder: WorkFolder | None = None
        self._process: EngineProcess | None = None
        self._version = ""
        self._languages: tuple[str, ...] = ()
        self._closed = False
        self._idle = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def engine(self) -> str:
        """The engine's name."""
        return self._name

    @property
    def version(self) -> str:
        """The engine's version; starts it when it never ran. Raises as start()."""
        if not self._version:
            self.start()
        return self._version

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that it can read, ISO 639-1; empty = not known. Raises as start()."""
        if not self._version:
            self.start()
        return self._languages

    @property
    def limits(self) -> Limits:
        """The limits that hold."""
        return self._limits

    def start(self) -> None:
        """Start the engine, unless it runs.

        Raises: ConfigError (its settings, or what it needs is not installed), OcrFailed.
        """
        with self._taking_turns(Event()):
            self._running(Event())

    def recognize(self, request: OcrRequest, stop: Event, progress: Callable[[int, int], None]) -> Recognized:
        """Read a file, within the limits for a page and for a file; see ports.Recognizer."""
        with self._taking_turns(stop):
            try:
                process = self._running(stop)
            except ConfigError as error:
                raise OcrFailed("; ".join([error.message, *error.problems]), hint=error.hint) from error
            try:
                return self._conversation(process, request, stop, progress)
            except Ended as ended:
                raise OcrFailed(f"the OCR engine {self._name} ended {ended}") from ended
            except ValueError as error:
                raise OcrFailed(f"the OCR engine {self._name} answered nonsense: {error}") from error
            finally:
                if not self._idle:
                    self._end()

    def close(self) -> None:
        """End the engine; a recognize() under way raises OcrStopped. Safe to repeat."""
        self._closed = True
        with self._turn:
            self._end()
            self._drop_folder()

    # --- one file ----------------------------------------------------------------------------------------------------

    def _conversation(
        self, process: EngineProcess, request: OcrRequest, stop: Event, progress: Callable[[int, int], None]
    ) -> Recognized:
        """Have a file read. Raises: OcrRefused, OcrFailed, OcrStopped, Ended, ValueError."""
        self._idle = False
        end = time.monotonic() + self._limits.task_limit_s
        taken = process.reader.size
        pages: list[Page] = []
        known, languages = 0, Counter[str]()
        process.say({"path": request.path, "languages": request.languages, "handwriting": request.handwriting})
        while True:
            message = self._heard(process, end, stop, len(pages) + 1)
            match message.get("what"):
                case "pages":
                    known = int(message["pages"])
                case "page":
                    pages.append(_page(message))
                    languages[message["language"]] += len(pages[-1].text)
                case "done":
                    self._idle = True
                    return Recognized(tuple(pages), self._name, self._version, _most(languages))
                case ending:
                    self._idle = True
                    _raise(ending, message)
            if process.reader.size - taken > TEXT_MAX:
                raise OcrRefused("the file has more text than can be kept")
            progress(len(pages), max(known, len(pages)))

    def _heard(self, process: EngineProcess, end: float, stop: Event, number: int) -> Message:
        page_end = time.monotonic() + self._limits.page_limit_s
        message = process.hear(min(end, page_end), lambda: self._closed or stop.is_set())
        if message is not None:
            return message
        if self._closed or stop.is_set():
            raise OcrStopped("OCR was asked to stop")
        what = f"page {number}" if page_end < end else "the file"
        limit_s = self._limits.page_limit_s if page_end < end else self._limits.task_limit_s
        raise OcrFailed(f"the OCR engine {self._name} took longer than {plain_s(limit_s)} for {what}, and was ended")

    # --- its process -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _taking_turns(self, stop: Event) -> Iterator[None]:
        while not self._turn.acquire(timeout=_TURN_S):
            if stop.is_set() or self._closed:
                raise OcrStopped("OCR was asked to stop")
        try:
            if stop.is_set() or self._closed:
                raise OcrStopped("OCR was asked to stop")
            yield
        finally:
            self._turn.release()

    def _running(self, stop: Event) -> EngineProcess:
        """Return the engine's process, started if need be. Raises: ConfigError, OcrFailed, OcrStopped."""
        is_there = self._folder is not None and self._folder.is_there
        if self._process is not None and self._process.is_silent and is_there:
            return self._process
        self._end()
        try:
            if self._folder is None or not self._folder.is_there:
                self._drop_folder()
                self._folder = WorkFolder()
            first = {"engine": self._name, "table": dict(self._table), "limits": self._limits}
            self._process = EngineProcess(self._folder.inside, first)
            message = self._process.hear(time.monotonic() + self._start_limit_s, lambda: self._closed or stop.is_set())
        except OSError as error:
            raise OcrFailed(f"the OCR engine's process cannot be started: {error.strerror or error}") from error
        except (Ended, ValueError) as error:
            self._end()
            raise OcrFailed(f"the OCR engine {self._name} ended while it started, {error}") from error
        self._welcome(message, stop)
        return self._process

    def _welcome(self, message: Message | None, stop: Event) -> None:
        if message is not None and message.get("what") == "ready":
            self._version, self._languages = message["version"], tuple(message["languages"])
            self._idle = True
            return
        self._end()
        if message is not None:
            raise ConfigError(message["message"], problems=message["problems"], hint=message["hint"])
        if self._closed or stop.is_set():
            raise OcrStopped("OCR was asked to stop")
        raise OcrFailed(f"the OCR engine {self._name} did not start within {plain_s(self._start_limit_s)}")

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process = None
        if self._folder is not None:
            self._folder.empty()

    def _drop_folder(self) -> None:
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.close()


def _page(message: Message) -> Page:
    number, text, confidence, words, width, height = message["page"]
    return Page(number, text, confidence, tuple(Word(*word) for word in words), width, height)


def _most(languages: Counter[str]) -> str:
    del languages[""]
    return languages.most_common(1)[0][0] if languages else ""


def _raise(ending: object, message: Message) -> NoReturn:
    if ending not in ("refused", "failed"):
        raise ValueError(f"a message that is none: {str(ending)[:40]}")
    raise (OcrRefused if ending == "refused" else OcrFailed)(message["message"], hint=message["hint"])
