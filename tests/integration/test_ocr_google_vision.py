"""google_vision against a stub that speaks the service's REST protocol; and against the service, given a key."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from syncd.core.errors import ConfigError
from tests.support.rendered import character_error_rate, render
from tests.support.vision_stub import VisionStub, write_key
from worker_glue.errors import OcrFailed, OcrRefused
from worker_glue.model import OcrRequest, Word
from worker_glue.ocr import google_vision
from worker_glue.ocr.engine import PageImage, PageText
from worker_glue.ocr.google_vision import GoogleVision, Settings, encoded
from worker_glue.ocr.runner import Runner

SIZE = (400, 300)


@pytest.fixture
def stub() -> Iterator[VisionStub]:
    with VisionStub(("Dear friend", "yours")) as running:
        yield running


@pytest.fixture
def page(tmp_path: Path) -> PageImage:
    image = Image.new("L", SIZE, 255)
    image.paste(0, (10, 10, 50, 50))
    image.save(tmp_path / "page.pgm")
    return PageImage(1, str(tmp_path / "page.pgm"), *SIZE, 300)


def engine(stub: VisionStub, tmp_path: Path, *, tries: int = 3, timeout_s: float = 30) -> GoogleVision:
    key = write_key(tmp_path / "key.json")
    return GoogleVision(Settings(str(key), stub.endpoint, timeout_s, tries), pause_s=0.01)


def read(made: GoogleVision, page: PageImage, *languages: str) -> PageText:
    return made.read(page, OcrRequest("x.jpg", languages))


def test_text_words_and_language_of_a_page(stub: VisionStub, page: PageImage, tmp_path: Path) -> None:
    got = read(engine(stub, tmp_path), page, "hi", "en")
    assert got.text == "Dear friend\nyours"
    assert got.words == (
        Word("Dear", 0, 0, 195, 95, 0.96, 1),
        Word("friend", 200, 0, 195, 95, 0.96, 1),
        Word("yours", 0, 100, 395, 95, 0.96, 2),
    )
    assert got.language == "en"


def test_what_is_sent(stub: VisionStub, page: PageImage, tmp_path: Path) -> None:
    read(engine(stub, tmp_path), page, "hi", "en")
    (request,) = stub.requests[0]["requests"]
    assert request["features"] == [{"type": 11}]  # DOCUMENT_TEXT_DETECTION
    assert request["imageContext"] == {"languageHints": ["hi", "en"]}
    assert stub.images[0].format == "JPEG"
    assert stub.images[0].size == SIZE
    assert stub.tokens[0].startswith("Bearer ey")


@pytest.mark.parametrize("trouble", [429, 500, 503, {"code": 14, "message": "later"}, "nothing"])
def test_trouble_that_passes_is_waited_for(stub: VisionStub, page: PageImage, tmp_path: Path, trouble: object) -> None:
    stub.script += [trouble, trouble]
    assert read(engine(stub, tmp_path), page).text == "Dear friend\nyours"
    assert len(stub.requests) == 3


@pytest.mark.parametrize("trouble", [429, 503, {"code": 8, "message": "out of quota"}])
def test_trouble_that_stays_is_transient_and_bounded(
    stub: VisionStub, page: PageImage, tmp_path: Path, trouble: object
) -> None:
    stub.script += [trouble] * 10
    with pytest.raises(OcrFailed, match="3 tries"):
        read(engine(stub, tmp_path), page)
    assert len(stub.requests) == 3


@pytest.mark.parametrize("trouble", [401, 403, {"code": 7, "message": "billing is not enabled"}])
def test_what_a_person_has_to_put_right_is_asked_once_and_has_a_hint(
    stub: VisionStub, page: PageImage, tmp_path: Path, trouble: object
) -> None:
    stub.script += [trouble] * 10
    with pytest.raises(OcrFailed) as caught:
        read(engine(stub, tmp_path), page)
    assert len(stub.requests) == (3 if trouble == 401 else 1)  # the library itself signs anew, twice, after a 401
    assert "service account" in caught.value.hint


def test_an_image_that_it_cannot_read_is_refused(stub: VisionStub, page: PageImage, tmp_path: Path) -> None:
    stub.script.append({"code": 3, "message": "Bad image data."})
    with pytest.raises(OcrRefused, match="Bad image data"):
        read(engine(stub, tmp_path), page)


@pytest.mark.parametrize("trouble", ["silence", "nonsense"])
def test_no_answer_in_time_or_none_at_all(stub: VisionStub, page: PageImage, tmp_path: Path, trouble: str) -> None:
    stub.script += [trouble] * 10
    with pytest.raises(OcrFailed):
        read(engine(stub, tmp_path, tries=2, timeout_s=0.5), page)


def test_nobody_listens(stub: VisionStub, page: PageImage, tmp_path: Path) -> None:
    key = write_key(tmp_path / "key.json")
    made = GoogleVision(Settings(str(key), "http://127.0.0.1:9", 5.0, 2), pause_s=0.01)
    with pytest.raises(OcrFailed, match="2 tries"):
        read(made, page)


def test_all_pages_of_a_pdf_in_the_engine_s_own_process(stub: VisionStub, tmp_path: Path) -> None:
    pdf = render(tmp_path / "l.pdf", "en", 5, pages=7)
    table = {"credentials_file": str(write_key(tmp_path / "key.json")), "endpoint": stub.endpoint}
    with Runner("google_vision", table) as runner:
        got = runner.recognize(OcrRequest(str(pdf.path), ("en",)), threading.Event(), lambda _done, _known: None)
    assert len(got.pages) == len(stub.requests) == 7
    assert (got.engine, got.detected_language) == ("google_vision", "en")
    assert got.pages[6].confidence == 0.96


def test_a_page_too_large_for_a_request_is_made_smaller_and_its_boxes_are_not(
    stub: VisionStub, page: PageImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.effect_noise(SIZE, 90).save(page.path, "PPM")
    whole, scale = encoded(page.path)
    assert scale == 1
    monkeypatch.setattr(google_vision, "IMAGE_BYTES_MAX", len(whole) // 3)
    smaller, scale = encoded(page.path)
    assert len(smaller) <= len(whole) // 3
    assert 0 < scale < 1
    right = max(word.x + word.width for word in read(engine(stub, tmp_path), page).words)
    assert abs(right - SIZE[0]) < 20
    assert stub.images[0].width < SIZE[0]


# --- settings ---------------------------------------------------------------------------------------------------------


def test_all_that_is_wrong_with_its_table_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    with pytest.raises(ConfigError) as caught:
        GoogleVision.configured({"tries": 0, "timeout": 5, "endpoint": "http://vision.example.org", "credential": "x"})
    assert [problem.partition("] ")[2].partition(":")[0] for problem in caught.value.problems] == [
        "endpoint",
        "timeout",
        "tries",
        "credentials_file",
        '"credential"',
    ]


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    key = write_key(tmp_path / "key.json", 0o644)
    with pytest.raises(ConfigError) as caught:
        GoogleVision.configured({"credentials_file": str(key)})
    assert "chmod 600" in caught.value.problems[0]


@pytest.mark.parametrize("spoilt", ["no json", "[]", '{"type": "service_account"}', "private_key"])
def test_a_file_that_is_no_key_is_refused_and_not_shown(tmp_path: Path, spoilt: str) -> None:
    file = write_key(tmp_path / "key.json")
    if spoilt == "private_key":
        key = json.loads(file.read_text())
        key["private_key"] = "-----BEGIN PRIVATE KEY-----\nTOPSECRET\n-----END PRIVATE KEY-----\n"
        spoilt = json.dumps(key)
    file.write_text(spoilt)
    with pytest.raises(ConfigError) as caught:
        GoogleVision.configured({"credentials_file": str(file)})
    assert "not the key of a service account" in caught.value.message
    assert "TOPSECRET" not in str(caught.value)


def test_the_environment_may_name_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(write_key(tmp_path / "key.json")))
    assert GoogleVision.configured({}).version()


# --- the service itself -----------------------------------------------------------------------------------------------


def test_the_service_reads_a_page(tmp_path: Path) -> None:
    key = os.environ.get("SYNCD_TEST_GOOGLE_KEY", "")
    if not key:
        pytest.skip("NOT TRIED against Google's service: SYNCD_TEST_GOOGLE_KEY names no service account's key")
    rendered = render(tmp_path / "p.pdf", "en", 3, pages=2)
    with Runner("google_vision", {"credentials_file": key}) as runner:
        got = runner.recognize(OcrRequest(str(rendered.path), ("en",)), threading.Event(), lambda _done, _known: None)
    assert character_error_rate(rendered.text, got.text) < 0.02
