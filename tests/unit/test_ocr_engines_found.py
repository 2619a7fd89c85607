"""Engines by name, their tables, and what is told of those that cannot be used."""

from __future__ import annotations

import contextlib
import io
import json
import os
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from syncd.config import values
from syncd.core.errors import ConfigError
from tests.support.ocr_engines import NotFinished, RaisesAtStart, Scripted, named
from worker_glue.cli import main as command_line
from worker_glue.ocr import found
from worker_glue.ocr.languages import NAMES, iso_code, tesseract_name
from worker_glue.ocr.limits import Limits, split
from worker_glue.ocr.messages import MESSAGE_MAX, MessageTooLarge, Reader, write
from worker_glue.ocr.null import Null
from worker_glue.ocr.tables import Table, path, whole

# --- entry points -----------------------------------------------------------------------------------------------------


@pytest.fixture
def third_parties(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand for packages that are installed: one good, three broken in their own ways."""
    points = [
        EntryPoint("good", named(Scripted), found.GROUP),
        EntryPoint("bad_at_start", named(RaisesAtStart), found.GROUP),
        EntryPoint("no_engine", named(NotFinished), found.GROUP),
        EntryPoint("not_importable", "no_such_package:Engine", found.GROUP),
    ]

    def entry_points(*, group: str, name: str | None = None) -> list[EntryPoint]:
        return [point for point in points if point.group == group and name in (None, point.name)]

    monkeypatch.setattr(found, "entry_points", entry_points)


def test_the_package_s_own_engines_are_found() -> None:
    assert {"tesseract", "google_vision"} <= set(found.names())


def test_null_is_there_and_not_listed() -> None:
    engine, limits = found.engine("null", {"text": "nothing", "max_pages": 5})
    assert isinstance(engine, Null)
    assert limits.max_pages == 5
    assert "null" not in found.names()


def test_broken_ones_do_not_break_the_others(third_parties: None) -> None:
    about = {each.name: each for each in found.all_engines({})}
    assert about["good"].usable
    assert about["good"].languages == ("en", "hi")
    assert {name for name, each in about.items() if not each.usable} == {"bad_at_start", "no_engine", "not_importable"}
    assert "RuntimeError: no model" in about["bad_at_start"].problems[0]
    assert "ModuleNotFoundError" in about["not_importable"].problems[0]
    assert "no class" in about["no_engine"].problems[0]


def test_what_only_the_configuration_names_is_listed_too(third_parties: None) -> None:
    (typo,) = [each for each in found.all_engines({"goood": {}}) if each.name == "goood"]
    assert not typo.usable
    assert "good" in typo.hint


def test_an_unknown_engine_names_those_there_are() -> None:
    with pytest.raises(ConfigError) as caught:
        found.engine("tesserakt", {})
    assert '"tesserakt"' in caught.value.message
    assert "tesseract" in caught.value.hint


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        found.engine("null", {"text": 3, "max_pages": 0, "page_limit": 5, "textt": "x"})
    assert len(caught.value.problems) == 4


def test_an_unknown_key_may_have_meant_a_limit() -> None:
    with pytest.raises(ConfigError) as caught:
        found.engine("null", {"zzz": 1})
    assert "max_pages" in caught.value.problems[0]


# --- tables and limits ------------------------------------------------------------------------------------------------


def test_defaults_and_limits_of_a_table() -> None:
    assert split("x", {}) == (Limits(), {}, [])
    limits, rest, problems = split("x", {"page_limit": "90s", "memory_limit": "2GiB", "dpi": 200, "psm": 3})
    assert limits == Limits(page_limit_s=90, memory_limit=2 << 30, dpi=200)
    assert rest == {"psm": 3}
    assert problems == []


def test_a_table_suggests_what_was_meant() -> None:
    table = Table("x", {"modell": "a"})
    table.take("model", values.text, "small")
    with pytest.raises(ConfigError) as caught:
        table.end()
    assert caught.value.problems == ('[worker.engine.x] "modell": unknown key; did you mean model?',)


def test_paths_are_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert path("~/a//b") == "/home/somebody/a/b"
    with pytest.raises(ValueError, match="not an absolute path"):
        path("a/b")
    with pytest.raises(ValueError, match="whole number"):
        whole(1, 3)("2")


# --- languages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("en", "eng"), ("hi", "hin"), ("mr", "mar"), ("sa", "san"), ("bn", "ben"), ("ta", "tam"), ("ur", "urd"),
        ("fr", "fra"), ("de", "deu"), ("zh", "chi_sim"), ("zh-TW", "chi_tra"), ("zh_Hant", "chi_tra"),
        ("en-US", "eng"), ("HI", "hin"), ("hin", "hin"), ("script/Devanagari", "script/Devanagari"), (" hi ", "hin"),
    ],
)  # fmt: skip
def test_codes_of_languages_become_tesseract_s_names(code: str, name: str) -> None:
    assert tesseract_name(code) == name


def test_names_go_back_to_codes() -> None:
    assert {iso_code(name) for name in NAMES.values()} <= set(NAMES)
    assert (iso_code("hin"), iso_code("chi_sim"), iso_code("nor"), iso_code("frk")) == ("hi", "zh", "no", "frk")
    assert iso_code("chi_tra") == "zh-tw"


# --- messages ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def pipe() -> object:
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


def test_messages_arrive_in_order_however_they_are_cut(pipe: tuple[int, int]) -> None:
    there = os.pipe()
    for number in range(3):
        write(there[1], {"number": number, "text": "पत्र" * number})
    os.close(there[1])
    with open(there[0], "rb") as file:
        sent = file.read()
    reader, got = Reader(pipe[0]), []
    for at in range(0, len(sent), 5):
        os.write(pipe[1], sent[at : at + 5])
        assert reader.fill()
        while (message := reader.take()) is not None:
            got.append(message)
    assert got == [{"number": number, "text": "पत्र" * number} for number in range(3)]
    assert reader.size == len(sent)
    os.close(pipe[1])
    assert reader.wait() is None


@pytest.mark.parametrize("sent", [b"\0\0\0\x02[]", b"\0\0\0\x03nul", b"\xff\xff\xff\xff", b"\0\0\0\x02\xff\xff"])
def test_what_is_no_message_is_a_value_error(pipe: tuple[int, int], sent: bytes) -> None:
    os.write(pipe[1], sent)
    reader = Reader(pipe[0])
    reader.fill()
    with pytest.raises(ValueError):
        reader.take()


def test_too_large_a_message_is_not_sent(pipe: tuple[int, int]) -> None:
    with pytest.raises(MessageTooLarge):
        write(pipe[1], {"text": "x" * MESSAGE_MAX})


# --- worker-glue engines ----------------------------------------------------------------------------------------------


def said(argv: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    out = io.StringIO()
    monkeypatch.setattr("sys.stdout", out)
    code = command_line.main(argv)
    return code, out.getvalue()


def test_the_verb_marks_the_configured_engine(
    third_parties: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "c.toml"
    config.write_text('[worker]\nengine = "good"\n')
    code, text = said(["-c", str(config), "engines"], monkeypatch)
    assert code == 0
    lines = text.splitlines()
    assert lines[0].split() == ["ENGINE", "VERSION", "USABLE", "LANGUAGES"]
    assert [line.split()[0] for line in lines if not line.startswith(" ")][1:] == sorted(found.names())
    assert "good *" in text
    assert "en, hi" in text
    assert "RuntimeError: no model" in text


def test_the_verb_s_json_and_its_exit_code(
    third_parties: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "c.toml"
    config.write_text('[worker.engine]\nname = "missing"\n[worker.engine.good]\nmax_pages = 0\n')
    code, text = said(["-c", str(config), "engines", "--json"], monkeypatch)
    assert code == 3
    answer = json.loads(text)
    assert answer["engine"] == "missing"
    engines = {engine["name"]: engine for engine in answer["engines"]}
    assert engines["missing"]["configured"]
    assert not engines["missing"]["usable"]
    assert "max_pages" in engines["good"]["problems"][0]
    assert set(engines["good"]) == {"name", "configured", "usable", "version", "languages", "problems", "hint"}
