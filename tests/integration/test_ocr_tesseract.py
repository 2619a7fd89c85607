"""Real Tesseract on printed English and Hindi, in a process of its own, as a worker runs it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.support.rendered import ERROR_RATES, character_error_rate, pdf_of_many_pages, render
from tests.support.require import require
from worker_glue.errors import OcrFailed, OcrRefused, OcrStopped
from worker_glue.model import OcrRequest, Recognized
from worker_glue.ocr.runner import Runner


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    require("tesseract", "tesseract-ocr")
    with Runner("tesseract", {}) as made:
        if "hi" not in made.languages:
            message = "Tesseract has no Hindi (package tesseract-ocr-hin)"
            if os.environ.get("CI") == "true":
                pytest.fail(message, pytrace=False)
            pytest.skip(message)
        yield made


def read(runner: Runner, path: Path, *languages: str, handwriting: bool = False) -> Recognized:
    return runner.recognize(
        OcrRequest(str(path), languages, handwriting), threading.Event(), lambda _done, _known: None
    )


@pytest.mark.parametrize(("language", "name"), [("en", "a.jpg"), ("hi", "a.jpg"), ("hi", "a.png"), ("en", "a.tiff")])
def test_printed_pages_are_read(runner: Runner, tmp_path: Path, language: str, name: str) -> None:
    page = render(tmp_path / name, language, 3)
    got = read(runner, page.path, language)
    assert character_error_rate(page.text, got.text) <= ERROR_RATES[language]
    assert got.pages[0].confidence is not None
    assert got.pages[0].confidence > 0.8


def test_every_page_of_a_pdf(runner: Runner, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    pdf = render(tmp_path / "a.pdf", "hi", 5, pages=4)
    got = runner.recognize(
        OcrRequest(str(pdf.path), ("hi",)), threading.Event(), lambda done, known: told.append((done, known))
    )
    assert len(got.pages) == 4
    for page, text in zip(got.pages, pdf.texts, strict=True):
        assert character_error_rate(text, page.text) <= ERROR_RATES["hi"]
    assert told == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]


def test_two_languages_on_one_page(runner: Runner, tmp_path: Path) -> None:
    english, hindi = render(tmp_path / "e.png", "en", 7), render(tmp_path / "h.png", "hi", 7)
    with Image.open(english.path) as top, Image.open(hindi.path) as bottom:
        both = Image.new("L", (max(top.width, bottom.width), top.height + bottom.height), 250)
        both.paste(top, (0, 0))
        both.paste(bottom, (0, top.height))
    both.save(tmp_path / "both.png", dpi=(200, 200))
    text = read(runner, tmp_path / "both.png", "hi", "en").text
    assert character_error_rate(f"{english.text} {hindi.text}", text) <= ERROR_RATES["hi"]


def test_words_lie_where_they_were_printed(runner: Runner, tmp_path: Path) -> None:
    page = read(runner, render(tmp_path / "a.png", "en", 9).path, "en").pages[0]
    assert [word.text for word in page.words] == page.text.split()
    for before, after in zip(page.words, page.words[1:], strict=False):
        assert after.x > before.x or after.y > before.y
    assert all(w.x >= 0 and w.x + w.width <= page.width and w.y + w.height <= page.height for w in page.words)


def test_a_page_photographed_on_its_side(runner: Runner, tmp_path: Path) -> None:
    page = render(tmp_path / "a.png", "en", 11)
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(page.path) as upright:
        upright.transpose(Image.Transpose.ROTATE_90).convert("RGB").save(
            tmp_path / "a.jpg", exif=exif, quality=90, dpi=(200, 200)
        )
    assert character_error_rate(page.text, read(runner, tmp_path / "a.jpg", "en").text) <= ERROR_RATES["en"]


def test_handwriting_s_mode_reads_print_too(runner: Runner, tmp_path: Path) -> None:
    page = render(tmp_path / "a.png", "en", 13)
    got = read(runner, page.path, "en", handwriting=True)
    assert character_error_rate(page.text, got.text) <= ERROR_RATES["en"]


def test_a_blank_page_is_read_as_nothing(runner: Runner, tmp_path: Path) -> None:
    Image.new("L", (800, 600), 255).save(tmp_path / "a.png")
    (page,) = read(runner, tmp_path / "a.png").pages
    assert (page.text, page.words, page.confidence) == ("", (), None)


@pytest.mark.parametrize("size", [(1, 1), (2, 3000), (3000, 2), (40_000, 4)])
def test_odd_sizes_are_read_as_nothing_or_told(runner: Runner, tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("L", size, 255).save(tmp_path / "a.png")
    try:
        assert read(runner, tmp_path / "a.png").text == ""
    except (OcrFailed, OcrRefused) as error:
        assert error.message


def test_a_language_that_is_not_installed(runner: Runner, tmp_path: Path) -> None:
    with pytest.raises(OcrRefused, match=r"xx"):
        read(runner, render(tmp_path / "a.png", "en", 1).path, "xx")


def test_ten_thousand_pages_are_refused_and_the_next_file_is_read(runner: Runner, tmp_path: Path) -> None:
    pdf_of_many_pages(tmp_path / "a.pdf")
    with pytest.raises(OcrRefused, match="10,000 pages"):
        read(runner, tmp_path / "a.pdf")
    page = render(tmp_path / "b.png", "en", 2)
    assert character_error_rate(page.text, read(runner, page.path, "en").text) <= ERROR_RATES["en"]


def _noise(path: Path) -> Path:
    """Write a picture that keeps Tesseract busy for far longer than any test waits."""
    Image.effect_noise((700, 700), 90).resize((4200, 4200), Image.Resampling.NEAREST).save(path, "BMP")
    return path


def test_stop_ends_tesseract_in_the_middle_of_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("tesseract", "tesseract-ocr")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    noise, stop = _noise(tmp_path / "noise.bmp"), threading.Event()
    seen: list[str] = []

    def stop_once_it_runs() -> None:
        end = time.monotonic() + 60
        while not seen and time.monotonic() < end:
            seen.extend(_running("tesseract", tmp_path))
            time.sleep(0.05)
        stop.set()

    with Runner("tesseract", {}) as runner:
        runner.start()
        watching = threading.Thread(target=stop_once_it_runs)
        watching.start()
        with pytest.raises(OcrStopped):
            runner.recognize(OcrRequest(str(noise)), stop, lambda _done, _known: None)
        watching.join()
        assert seen
        assert not _running("tesseract", tmp_path)


def test_the_limit_for_a_page_ends_tesseract(tmp_path: Path) -> None:
    require("tesseract", "tesseract-ocr")
    with (
        Runner("tesseract", {"page_limit": "1s"}) as runner,
        pytest.raises(OcrFailed, match="took longer than 1s for page 1"),
    ):
        read(runner, _noise(tmp_path / "noise.bmp"))


@pytest.mark.skipif(os.environ.get("SYNCD_EXHAUSTIVE") != "1", reason="45 megapixels take a minute: SYNCD_EXHAUSTIVE=1")
def test_a_large_photograph_within_a_bounded_address_space(tmp_path: Path) -> None:
    require("tesseract", "tesseract-ocr")
    page = render(tmp_path / "a.png", "en", 15)
    with Image.open(page.path) as image:
        image.resize((8256, 5504)).convert("RGB").save(tmp_path / "a.jpg", quality=90, dpi=(300, 300))
    with Runner("tesseract", {"memory_limit": "1536MiB"}) as runner:
        assert read(runner, tmp_path / "a.jpg", "en").pages[0].width == 8256


def _running(program: str, folder: Path) -> list[str]:
    """Return the command lines of a program's living processes that work in a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
            if command.split(" ")[0].endswith(program) and str(folder) in command:
                found.append(command)
    return found
