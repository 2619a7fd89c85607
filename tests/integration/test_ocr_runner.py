"""An OCR engine in a process of its own: whatever it does costs one file, and nothing of it is left."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncd.core.errors import ConfigError
from tests.support.ocr_engines import (
    ROOT,
    DiesAtStart,
    NotFinished,
    RaisesAtStart,
    Scripted,
    SlowToStart,
    named,
)
from tests.support.require import require
from worker_glue.errors import OcrFailed, OcrRefused, OcrStopped
from worker_glue.model import OcrRequest, Recognized, Word
from worker_glue.ocr.folder import PREFIX
from worker_glue.ocr.runner import Runner

SHORT_S = 1.0
SOON_S = 20.0


@pytest.fixture(autouse=True)
def _children_find_the_tests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    """One for all tests here, whatever the one before did to it; it starts in the first of them."""
    with Runner(named(Scripted), {}) as made:
        yield made


def read(runner: Runner, what: str, stop: threading.Event | None = None) -> Recognized:
    return runner.recognize(OcrRequest(what), stop or threading.Event(), lambda _done, _known: None)


def text_of(runner: Runner, what: str) -> str:
    return read(runner, what).text


def process_of(runner: Runner) -> int:
    """Return the number of the process that will read the next file."""
    runner.start()
    return int(runner.version.split()[1])


def gone(pid: int) -> bool:
    """Say whether a process has ended, all its threads and with them its pipes; one that waits to be reaped has."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return state == "Z" and int(rest[16]) <= 1  # its first thread may be gone before the others
    except OSError:
        return True


def eventually(true: Callable[[], bool]) -> bool:
    end = time.monotonic() + SOON_S
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


# --- well behaved -----------------------------------------------------------------------------------------------------


def test_a_file_comes_back_with_all_that_was_read(runner: Runner) -> None:
    told: list[tuple[int, int]] = []
    got = runner.recognize(OcrRequest("pages 3"), threading.Event(), lambda done, known: told.append((done, known)))
    assert [page.text for page in got.pages] == ["page 1", "page 2", "page 3"]
    assert [page.number for page in got.pages] == [1, 2, 3]
    assert got.pages[1].words == (Word("page", 1, 2, 3, 4, 0.5, 1),)
    assert (got.pages[1].width, got.pages[1].height, got.pages[1].confidence) == (10, 20, 0.5)
    assert (got.engine, got.version, got.detected_language) == (named(Scripted), runner.version, "en")
    assert told == [(1, 1), (2, 2), (3, 3)]


def test_one_process_reads_file_after_file(runner: Runner) -> None:
    assert {read(runner, "pages 1").version for _ in range(20)} == {f"process {process_of(runner)}"}


def test_version_and_languages_are_known_before_the_first_file() -> None:
    with Runner(named(Scripted), {}) as runner:
        assert runner.version.startswith("process ")
        assert runner.languages == ("en", "hi")


def test_threads_take_turns(runner: Runner) -> None:
    texts: list[str] = []
    threads = [threading.Thread(target=lambda: texts.append(text_of(runner, "pages 2"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON_S)
    assert texts == ["page 1\n\npage 2"] * 8


def test_odd_values_of_an_engine_become_plain_ones(runner: Runner) -> None:
    page = read(runner, "odd").pages[0]
    assert page.text == "lone ? surrogate"
    assert page.words == (Word("w", 1, 2, 3, 4, 1.0, 1),)


def test_what_an_engine_prints_is_no_answer_and_stops_nothing(runner: Runner) -> None:
    assert text_of(runner, "shout") == "said a lot"
    assert text_of(runner, "shout") == "said a lot"


def test_the_worker_s_secrets_are_not_in_the_engine_s_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MONGO_URI", "mongodb://u:secret@h/")
    with Runner(named(Scripted), {}) as runner:
        assert "PYTHONPATH" in text_of(runner, "environment").split()
        assert "MONGO_URI" not in text_of(runner, "environment").split()


# --- what an engine says ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "error", "says"),
    [
        ("refuse", OcrRefused, "it will never be read"),
        ("fail", OcrFailed, "not now"),
        ("raise", OcrFailed, "ZeroDivisionError: a bug of the engine's"),
        ("nan", OcrFailed, "ValueError"),
        ("no_page", OcrFailed, "AttributeError"),
        ("eat", OcrFailed, "out of memory"),
    ],
)
def test_its_errors_arrive_and_the_same_process_goes_on(what: str, error: type[Exception], says: str) -> None:
    with Runner(named(Scripted), {}, memory_limit=1 << 30) as runner:
        with pytest.raises(error, match=says):
            read(runner, what)
        assert read(runner, "pages 1").version == runner.version


def test_a_hint_comes_along(runner: Runner) -> None:
    with pytest.raises(OcrRefused) as caught:
        read(runner, "refuse")
    assert caught.value.hint == "write it again"


def test_what_it_says_is_one_line_of_bounded_length(runner: Runner) -> None:
    with pytest.raises(OcrFailed) as caught:
        read(runner, "rant")
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400


def test_a_name_that_is_no_utf_8(tmp_path: Path) -> None:
    name = os.path.join(os.fsencode(tmp_path), b"\xff.png")
    with open(name, "wb") as file:
        file.write(b"no image")
    with Runner("tesseract", {}) as runner, pytest.raises(OcrRefused, match="neither an image"):
        require("tesseract", "tesseract-ocr")
        read(runner, os.fsdecode(name))


def test_too_many_pages_are_refused() -> None:
    with Runner(named(Scripted), {"max_pages": 3}) as runner:
        assert len(read(runner, "pages 3").pages) == 3
        with pytest.raises(OcrRefused, match="4 pages are more than the limit of 3"):
            read(runner, "pages 4")


# --- what it does not survive -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "says"), [("die", "SIGSEGV: about to crash"), ("leave", "exit code 7"), ("hang", "page 1")]
)
def test_one_that_dies_or_hangs_costs_one_file(what: str, says: str) -> None:
    with Runner(named(Scripted), {}, page_limit_s=SHORT_S) as runner:
        before = runner.version
        with pytest.raises(OcrFailed, match=says):
            read(runner, what)
        after = read(runner, "pages 1").version
        assert after != before
        assert gone(int(before.split()[1]))


def test_one_that_hangs_in_c_is_ended_too() -> None:
    with Runner(named(Scripted), {}, page_limit_s=SHORT_S) as runner:
        pid = process_of(runner)
        with pytest.raises(OcrFailed, match="took longer than 1s for page 1"):
            read(runner, "hang_in_c")
        assert gone(pid)
        assert text_of(runner, "pages 1") == "page 1"


def test_pages_in_time_do_not_make_a_file_endless() -> None:
    with (
        Runner(named(Scripted), {}, page_limit_s=SOON_S, task_limit_s=SHORT_S) as runner,
        pytest.raises(OcrFailed, match="took longer than 1s for the file"),
    ):
        read(runner, "drip 0.01")


def test_one_that_died_between_two_files_is_started_anew(runner: Runner) -> None:
    pid = process_of(runner)
    assert text_of(runner, "die_later") == "done before"
    assert eventually(lambda: gone(pid))
    assert text_of(runner, "pages 1") == "page 1"


def test_what_it_started_ends_with_it(tmp_path: Path) -> None:
    note = tmp_path / "note"
    with Runner(named(Scripted), {}, page_limit_s=2 * SHORT_S) as runner, pytest.raises(OcrFailed):
        read(runner, f"start_a_program {note}")
    assert all(eventually(lambda pid=pid: gone(int(pid))) for pid in note.read_text().split())


def test_what_it_left_in_the_temporary_folder_is_removed(tmp_path: Path) -> None:
    with Runner(named(Scripted), {}, page_limit_s=SHORT_S) as runner:
        with pytest.raises(OcrFailed):
            read(runner, "leave_a_file")
        assert not list(tmp_path.rglob("left"))
    assert not list(tmp_path.glob(PREFIX + "*"))


# --- stopping ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["hang", "hang_in_c", "drip 0.01"])
def test_stop_ends_it_soon(runner: Runner, what: str) -> None:
    pid, stop = process_of(runner), threading.Event()
    threading.Timer(0.3, stop.set).start()
    with pytest.raises(OcrStopped):
        read(runner, what, stop)
    assert gone(pid)
    assert text_of(runner, "pages 1") == "page 1"


def test_stop_ends_the_wait_for_one_s_turn(runner: Runner) -> None:
    first, second = threading.Event(), threading.Event()
    runner.start()
    busy = threading.Thread(target=lambda: _quietly(runner, first))
    busy.start()
    assert eventually(lambda: runner._turn.locked())
    second.set()
    with pytest.raises(OcrStopped):
        read(runner, "pages 1", second)
    first.set()
    busy.join(SOON_S)
    assert not busy.is_alive()


def test_close_ends_what_is_under_way() -> None:
    runner = Runner(named(Scripted), {})
    pid = process_of(runner)
    ended: list[type[BaseException]] = []

    def work() -> None:
        try:
            read(runner, "hang")
        except OcrStopped as error:
            ended.append(type(error))

    thread = threading.Thread(target=work)
    thread.start()
    assert eventually(lambda: runner._turn.locked())
    runner.close()
    runner.close()
    thread.join(SOON_S)
    assert ended == [OcrStopped]
    assert gone(pid)
    with pytest.raises(OcrStopped):
        read(runner, "pages 1")


def _quietly(runner: Runner, stop: threading.Event) -> None:
    with contextlib.suppress(OcrStopped):
        read(runner, "hang", stop)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_of_a_service_is_the_worker_s_to_answer(runner: Runner, sent: signal.Signals) -> None:
    pid = process_of(runner)
    threading.Timer(0.2, os.killpg, (pid, sent)).start()
    assert len(read(runner, "pages_slowly 8").pages) == 8
    assert process_of(runner) == pid
    assert read(runner, "pages 1").version == f"process {pid}"


# --- starting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "table", "says"),
    [
        ("no-such-engine", {}, 'there is no OCR engine "no-such-engine"'),
        ("no_such_module:Engine", {}, "cannot be imported"),
        (named(NotFinished), {}, "no class with a method configured"),
        (named(RaisesAtStart), {}, "RuntimeError: no model"),
        (named(Scripted), {"max_pages": 0, "psm": 1}, "settings"),
    ],
)
def test_one_that_cannot_be_set_up_is_a_configuration_error(engine: str, table: dict[str, object], says: str) -> None:
    with Runner(engine, table) as runner:
        with pytest.raises(ConfigError, match=says):
            runner.start()
        with pytest.raises(ConfigError, match=says):
            assert runner.version
        with pytest.raises(OcrFailed, match=says):
            read(runner, "pages 1")


def test_all_problems_of_a_table_are_told_at_once() -> None:
    with Runner(named(Scripted), {"max_pages": 0, "max_page": 1, "dpi": "300"}) as runner:
        with pytest.raises(ConfigError) as caught:
            runner.start()
        assert len(caught.value.problems) == 3


def test_one_that_dies_at_its_start_is_transient() -> None:
    with Runner(named(DiesAtStart), {}) as runner, pytest.raises(OcrFailed, match="while it started, by SIGKILL"):
        runner.start()


def test_one_that_does_not_start_is_given_up() -> None:
    with (
        Runner(named(SlowToStart), {}, start_limit_s=2 * SHORT_S) as runner,
        pytest.raises(OcrFailed, match="did not start within 2s"),
    ):
        runner.start()


# --- the worker's own end ---------------------------------------------------------------------------------------------

WORKER = """
import sys, threading
from worker_glue.model import OcrRequest
from worker_glue.ocr.runner import Runner
runner = Runner("tests.support.ocr_engines:Scripted", {})
print(runner.version.split()[1], runner._folder.path, flush=True)
runner.recognize(OcrRequest(sys.argv[1]), threading.Event(), lambda done, known: None)
"""


@pytest.mark.parametrize("what", ["start_a_program", "hang_in_c"])
def test_a_killed_worker_s_engine_ends_with_all_it_started(tmp_path: Path, what: str) -> None:
    note = tmp_path / "note"
    work = f"{what} {note}" if what == "start_a_program" else what
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, work],
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as worker:
        assert worker.stdout is not None
        pid, folder = worker.stdout.readline().decode().split()
        if what == "start_a_program":
            assert eventually(lambda: note.exists() and len(note.read_text().split()) == 2)
        else:
            time.sleep(0.3)
        worker.send_signal(signal.SIGKILL)
    pids = [int(pid), *(map(int, note.read_text().split()) if note.exists() else ())]
    assert all(eventually(lambda pid=pid: gone(pid)) for pid in pids)
    assert Path(folder).exists()
    with Runner("null", {}) as following:
        following.start()
        assert not Path(folder).exists()


def test_a_temporary_folder_that_somebody_cleared_away_is_made_anew(runner: Runner) -> None:
    runner.start()
    assert runner._folder is not None
    gone_folder = Path(runner._folder.path)
    shutil.rmtree(gone_folder)
    assert text_of(runner, "pages 1") == "page 1"
    assert runner._folder.is_there
    assert not gone_folder.exists()


def test_a_living_worker_s_folder_is_not_swept(runner: Runner) -> None:
    runner.start()
    assert runner._folder is not None
    with Runner("null", {}) as other:
        other.start()
        assert Path(runner._folder.path).exists()


def test_the_thread_that_started_it_may_end() -> None:
    with Runner(named(Scripted), {}) as runner:
        _started_by_a_thread_that_ended(runner)


def _started_by_a_thread_that_ended(runner: Runner) -> None:
    starting = threading.Thread(target=runner.start)
    starting.start()
    starting.join(SOON_S)
    pid = process_of(runner)
    time.sleep(0.3)
    assert not gone(pid)
    assert read(runner, "pages 1").version == f"process {pid}"


def test_nothing_is_left_open() -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    with Runner("null", {}) as runner:
        runner.start()
    before = descriptors()
    for _ in range(3):
        with Runner(named(Scripted), {}) as runner:
            with pytest.raises(OcrFailed):
                read(runner, "leave")
            read(runner, "pages 1")
    assert descriptors() == before
