"""What is said of an engine that lacks a language of the collection."""

from __future__ import annotations

from worker_glue.ocr.needed import lack_of


def test_an_engine_that_reads_both_or_does_not_say_lacks_nothing() -> None:
    assert lack_of("tesseract", ["en", "hi", "mr"]) is None
    assert lack_of("null", []) is None


def test_tesseract_without_both_gets_one_line_for_both() -> None:
    lack = lack_of("tesseract", ["mr"])
    assert lack is not None
    assert lack.seen == (
        "tesseract cannot read English (en) and Hindi (hi): tasks in them end as errors; "
        "there is no eng.traineddata and no hin.traineddata"
    )
    assert "apt-get install tesseract-ocr-eng tesseract-ocr-hin (ours: --build-arg LANGUAGES=" in lack.todo
    assert "\n" not in lack.seen + lack.todo


def test_another_engine_is_left_to_its_documents() -> None:
    lack = lack_of("mine", ["en"])
    assert lack is not None
    assert lack.seen == "mine cannot read Hindi (hi): tasks in it end as errors"
    assert "mine's own documents" in lack.todo
