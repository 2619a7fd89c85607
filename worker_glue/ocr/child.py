"""An engine's process: `python -m worker_glue.ocr.child LIFELINE`, started and ended by runner.Runner.

It leads a process group of its own, so that it and the programs that its engine starts are ended as one. LIFELINE is a
pipe on which nothing is ever said: when its other end closes, the worker is gone, and the whole group ends.
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable

from syncd.config.secrets import redact
from syncd.core.errors import ConfigError
from worker_glue.errors import OcrFailed, OcrRefused
from worker_glue.model import OcrRequest, Page, Word
from worker_glue.ocr import found
from worker_glue.ocr.documents import check_pages, page_images
from worker_glue.ocr.engine import Engine, PageText
from worker_glue.ocr.limits import Limits
from worker_glue.ocr.messages import Message, MessageTooLarge, Reader, write

Answer = Callable[[Message], None]
_SENTENCE_MAX = 300
_F_SETSIG = 10
"""Linux (fcntl(2)); not in Python's module."""


def main(argv: list[str]) -> int:
    """Set the engine up, and read files until the worker is done."""
    if len(argv) != 2 or not argv[1].isdecimal() or os.getpgrp() != os.getpid():
        sys.stderr.write("this is started by worker-glue, not by hand\n")
        return 2
    # Ctrl-C, and what a service manager sends to all of a service, are the worker's to answer (programs inherit this)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _end_with(int(argv[1]))
    orders, answers = _private_pipes()
    reader = Reader(orders)
    first = reader.wait()
    if first is None:
        return 0

    def answer(message: Message) -> None:
        write(answers, message)

    made = _set_up(first, answer)
    if made is not None:
        while (order := reader.wait()) is not None:
            _serve(*made, order, answer)
    return 0


def _private_pipes() -> tuple[int, int]:
    """Move the pipes to the worker away from stdin and stdout, which an engine may use as it likes."""
    orders, answers = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return orders, answers


def _end_with(lifeline: int) -> None:
    """Let the whole group be killed when the worker is gone, whatever this process does at that time."""
    if sys.platform == "linux":
        # the kernel itself sends the signal, to the group as it is then: fcntl(2), "Managing signals"
        fcntl.fcntl(lifeline, _F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    threading.Thread(target=_wait_for_end, args=(lifeline,), name="lifeline", daemon=True).start()


def _wait_for_end(lifeline: int) -> None:
    while os.read(lifeline, 1):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _set_up(first: Message, answer: Answer) -> tuple[Engine, Limits] | None:
    """Make the engine, and say so, or why not."""
    try:
        engine, _limits = found.engine(first["engine"], first["table"])
        limits = Limits(*first["limits"])
        if limits.memory_limit:
            resource.setrlimit(resource.RLIMIT_AS, (limits.memory_limit, limits.memory_limit))
        answer({"what": "ready", "version": str(engine.version()), "languages": list(map(str, engine.languages()))})
    except ConfigError as error:
        answer({"what": "config", "message": error.message, "problems": list(error.problems), "hint": error.hint})
    except Exception as error:  # noqa: BLE001 (whatever a third party's engine raises: it is told to the worker)
        _tell(error)
        message = f"the OCR engine {first['engine']} cannot be set up: {_shown(error)}"
        answer({"what": "config", "message": message, "problems": [], "hint": ""})
    else:
        return engine, limits
    return None


def _serve(engine: Engine, limits: Limits, order: Message, answer: Answer) -> None:
    """Read one file, and say how it ended."""
    request = OcrRequest(order["path"], tuple(order["languages"]), bool(order["handwriting"]))
    try:
        _read(engine, limits, request, answer)
    except (OcrRefused, OcrFailed) as error:
        what = "refused" if isinstance(error, OcrRefused) else "failed"
        answer({"what": what, "message": _sentence(error.message), "hint": _sentence(error.hint)})
    except MemoryError as error:
        _tell(error)
        answer({"what": "failed", "message": "the OCR engine ran out of memory", "hint": ""})
    except MessageTooLarge:
        answer({"what": "refused", "message": "a page has more text than can be kept", "hint": ""})
    except Exception as error:  # noqa: BLE001 (an engine's fault costs this file, not the worker)
        _tell(error)
        answer({"what": "failed", "message": f"the OCR engine failed: {_shown(error)}", "hint": ""})
    else:
        answer({"what": "done"})


def _read(engine: Engine, limits: Limits, request: OcrRequest, answer: Answer) -> None:
    if engine.whole_documents:
        for number, text in enumerate(engine.read_document(request), 1):
            check_pages(number, limits)
            answer(_page(number, text, text.width, text.height))
        return
    with page_images(request.path, limits, colour=engine.colour) as (pages, images):
        answer({"what": "pages", "pages": pages})
        for image in images:
            text = engine.read(image, request)
            answer(_page(image.number, text, image.width, image.height))


def _page(number: int, text: PageText, width: int, height: int) -> Message:
    words = [_word(word) for word in text.words]
    confidence = text.confidence
    if confidence is None and words:
        confidence = sum(word.confidence for word in words) / len(words)
    if confidence is not None:
        confidence = round(_fraction(confidence), 4)
    page = Page(number, _clean(str(text.text)), confidence, tuple(words), int(width), int(height))
    return {"what": "page", "page": page, "language": _clean(str(text.language))}


def _word(word: Word) -> Word:
    """Return a word with plain numbers: engines give all kinds."""
    text, x, y, width, height, confidence, block = word
    return Word(_clean(str(text)), int(x), int(y), int(width), int(height), _fraction(confidence), int(block))


def _fraction(value: float) -> float:
    return min(max(float(value), 0.0), 1.0)


def _clean(text: str) -> str:
    """Return text that UTF-8 can hold."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _sentence(text: object) -> str:
    """Return a message as one line that is not too long, without secrets."""
    line = " ".join(redact(str(text)).split())
    return _clean(line if len(line) <= _SENTENCE_MAX else line[: _SENTENCE_MAX - 3] + "...")


def _shown(error: BaseException) -> str:
    return _sentence(f"{type(error).__name__}: {error}".rstrip(": "))


def _tell(error: BaseException) -> None:
    """Write where an engine failed to stderr, which the worker keeps the end of."""
    sys.stderr.write(redact("".join(traceback.format_exception(error))))
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv))
