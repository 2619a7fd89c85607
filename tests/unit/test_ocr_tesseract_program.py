"""What Tesseract is asked, and what becomes of its answers: with a program in its place that does as it is told."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from syncd.core.errors import ConfigError
from worker_glue.errors import OcrFailed, OcrRefused
from worker_glue.model import OcrRequest, Word
from worker_glue.ocr.engine import PageImage
from worker_glue.ocr.tesseract import Tesseract

PROGRAM = """#!/bin/sh
here=$(dirname "$0")
case "$1" in
  --version) echo "tesseract ${VERSION:-v5.9.9}"; echo " leptonica-1"; exit ${FAILS:-0};;
  --list-langs) echo "List of available languages in \\"/x/\\" (3):"; cat "$here/languages"; exit 0;;
esac
python3 - "$here/asked" "$OMP_THREAD_LIMIT" "$@" <<'END'
import json, sys
open(sys.argv[1], "w").write(json.dumps([sys.argv[2], sys.argv[3:]]))
END
[ -f "$here/says" ] && cat "$here/says" >&2
[ -f "$here/dies" ] && kill -$(cat "$here/dies") $$
[ -f "$here/fails" ] && exit 1
cp "$here/text" "$2.txt"; cp "$here/table" "$2.tsv"
"""
HEAD = "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext\n"
TABLE = (
    HEAD
    + "1\t1\t0\t0\t0\t0\t0\t0\t100\t50\t-1\t\n"
    + "5\t1\t1\t1\t1\t1\t10\t20\t30\t12\t96.063133\tDear\n"
    + '5\t1\t1\t1\t1\t2\t45\t20\t30\t12\t91.5\t"friend"\n'
    + "5\t1\t2\t1\t1\t1\t10\t40\t30\t12\t0\t \n"
    + "5\t1\t2\t1\t1\t1\t10\t40\t30\t12\t-1.0\tपत्र\n"
)
PAGE = PageImage(1, "/tmp/page.pgm", 100, 50, 300)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    program = tmp_path / "tesseract"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    (tmp_path / "languages").write_text("eng\nhin\nosd\nscript/Devanagari\n")
    (tmp_path / "text").write_text('Dear "friend"\n\nपत्र\n\n')
    (tmp_path / "table").write_text(TABLE)
    return tmp_path


def engine(place: Path, **table: object) -> Tesseract:
    return Tesseract.configured({"program": str(place / "tesseract"), **table})


def asked(place: Path) -> tuple[str, list[str]]:
    threads, arguments = json.loads((place / "asked").read_text())
    return threads, arguments


def option(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


def read(made: Tesseract, *languages: str, handwriting: bool = False, page: PageImage = PAGE) -> Any:
    return made.read(page, OcrRequest("/x.jpg", languages, handwriting))


def test_its_answer(place: Path) -> None:
    got = read(engine(place), "en")
    assert got.text == 'Dear "friend"\n\nपत्र'
    assert got.words == (
        Word("Dear", 10, 20, 30, 12, 0.9606, 1),
        Word('"friend"', 45, 20, 30, 12, 0.915, 1),
        Word("पत्र", 10, 40, 30, 12, 0.0, 2),
    )


@pytest.mark.parametrize(
    ("languages", "joined"),
    [((), "eng"), (("en",), "eng"), (("hi", "en"), "hin+eng"), (("hi", "hin", "hi-IN"), "hin")],
)
def test_languages_are_joined_in_their_order_each_once(place: Path, languages: tuple[str, ...], joined: str) -> None:
    read(engine(place), *languages)
    assert option(asked(place)[1], "-l") == joined


def test_what_is_asked_without_any_settings(place: Path) -> None:
    read(engine(place))
    threads, arguments = asked(place)
    assert threads == "1"
    assert arguments[0] == PAGE.path
    assert [option(arguments, name) for name in ("--psm", "--oem", "--dpi")] == ["3", "3", "300"]


def test_handwriting_is_another_segmentation(place: Path) -> None:
    read(engine(place), handwriting=True)
    assert option(asked(place)[1], "--psm") == "6"


def test_a_resolution_that_is_not_known_is_not_told(place: Path) -> None:
    read(engine(place), page=PAGE._replace(dpi=None))
    assert "--dpi" not in asked(place)[1]


def test_every_setting_is_passed_on(place: Path) -> None:
    made = engine(place, psm=4, psm_handwriting=11, oem=1, threads=2, default_languages=["hi", "en"], tessdata="/t")
    read(made)
    threads, arguments = asked(place)
    assert threads == "2"
    assert [option(arguments, name) for name in ("-l", "--psm", "--oem", "--tessdata-dir")] == [
        "hin+eng", "4", "1", "/t",
    ]  # fmt: skip
    read(made, handwriting=True)
    assert option(asked(place)[1], "--psm") == "11"


def test_version_and_languages(place: Path) -> None:
    made = engine(place)
    assert made.version() == "5.9.9"
    assert made.languages() == ["en", "hi", "script/Devanagari"]


def test_on_a_mac_the_way_to_a_language_is_homebrew(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = engine(place)
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(OcrRefused) as caught:
        read(made, "mr")
    assert caught.value.hint.startswith("brew install tesseract-lang; or put mar.traineddata")


def test_a_language_that_is_not_installed_is_named_with_its_package(place: Path) -> None:
    with pytest.raises(OcrRefused) as caught:
        read(engine(place), "hi", "mr")
    assert caught.value.message == 'the language "mr (mar)" is not installed for Tesseract on this worker'
    assert "apt install tesseract-ocr-mar;" in caught.value.hint
    assert not (place / "asked").exists()


@pytest.mark.parametrize("language", ["-c", "../../etc/passwd", "eng+hin", "", "en\nhi", "x" * 5000])
def test_a_language_that_is_none_is_refused_and_never_an_argument(place: Path, language: str) -> None:
    with pytest.raises(OcrRefused) as caught:
        read(engine(place), language)
    assert len(caught.value.message) < 200
    assert "\n" not in caught.value.message


def test_a_language_installed_meanwhile_is_found(place: Path) -> None:
    made = engine(place)
    (place / "languages").write_text("eng\nmar\n")
    assert read(made, "mr").text
    assert "mr" in made.languages()


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [("fails", "", "exit 1.: Error during processing."), ("dies", "KILL", "SIGKILL"), ("dies", "ABRT", "SIGABRT")],
)
def test_a_failure_is_transient_and_says_why(place: Path, file: str, content: str, says: str) -> None:
    (place / file).write_text(content)
    (place / "says").write_text("Estimating resolution as 300\nError during processing.\n")
    with pytest.raises(OcrFailed, match=says):
        read(engine(place))


def test_a_page_without_text_has_none(place: Path) -> None:
    (place / "text").write_text("\n")
    (place / "table").write_text(HEAD)
    assert read(engine(place)) == ("", (), None, "", 0, 0)


def test_nothing_is_left_behind(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = place / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    read(engine(place))
    assert not list(folder.iterdir())


# --- its table --------------------------------------------------------------------------------------------------------


def test_without_the_program_the_next_step_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Tesseract.configured({"program": str(tmp_path / "none")})
    assert "apt install tesseract-ocr" in caught.value.hint


def test_a_program_that_does_not_work_is_no_engine(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAILS", "1")
    with pytest.raises(ConfigError, match="--version failed"):
        engine(place)


def test_every_problem_of_its_table() -> None:
    table = {
        "psm": 0, "psm_handwriting": 2, "oem": 7, "threads": "two", "default_languages": [], "tessdata": "here",
        "psmm": 3,
    }  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        Tesseract.configured(table)
    assert len(caught.value.problems) == len(table)


def test_default_languages_are_no_arguments(place: Path) -> None:
    with pytest.raises(ConfigError):
        engine(place, default_languages=["--help"])


def test_the_environment_is_the_worker_s(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERSION", "v7.0")
    assert engine(place).version() == "7.0"
    assert "OMP_THREAD_LIMIT" not in os.environ
