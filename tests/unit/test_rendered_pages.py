"""The pages that end-to-end tests have read by OCR: the same for a seed, and judged by a measure that is right."""

from __future__ import annotations

from pathlib import Path

import pypdfium2
import pytest
from PIL import Image

from tests.support import rendered


@pytest.mark.parametrize(
    ("expected", "got", "rate"),
    [
        ("abcd", "abcd", 0.0),
        ("abcd", "abxd", 0.25),
        ("abcd", "abd", 0.25),
        ("abcd", "abccd", 0.25),
        ("abcd", "", 1.0),
        ("a  b\n\nc", "a b c\n", 0.0),
        ("e\u0301", "\u00e9", 0.0),
        ("kitten", "sitting", 0.5),
    ],
)
def test_character_error_rate(expected: str, got: str, rate: float) -> None:
    assert rendered.character_error_rate(expected, got) == pytest.approx(rate)


@pytest.mark.parametrize("language", ["en", "hi"])
def test_pages_are_the_same_for_a_seed_and_differ_between_seeds(tmp_path: Path, language: str) -> None:
    one, again, other = (rendered.render(tmp_path / f"{n}.png", language, seed) for n, seed in enumerate((1, 1, 2)))
    assert one.text == again.text != other.text
    assert one.path.read_bytes() == again.path.read_bytes() != other.path.read_bytes()
    assert len(one.text.split()) == 16


@pytest.mark.parametrize("suffix", [".pdf", ".tiff"])
def test_files_of_several_pages(tmp_path: Path, suffix: str) -> None:
    made = rendered.render(tmp_path / f"l{suffix}", "en", 3, pages=3)
    assert len(set(made.texts)) == 3
    if suffix == ".pdf":
        with pypdfium2.PdfDocument(made.path) as document:
            assert len(document) == 3
    else:
        with Image.open(made.path) as image:
            assert image.n_frames == 3


def test_bad_files_are_bad_in_the_way_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 89_478_485)  # Pillow's own; engines of other tests lift it
    path = tmp_path / "bad"
    rendered.encrypted_pdf(path)
    with pytest.raises(pypdfium2.PdfiumError, match="password"):
        pypdfium2.PdfDocument(path)
    rendered.pdf_of_many_pages(path, 10_000)
    with pypdfium2.PdfDocument(path) as document:
        assert len(document) == 10_000
    rendered.bomb_png(path)
    assert path.stat().st_size < 100_000
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path).load()
    rendered.truncated_jpeg(path.with_suffix(".jpg"))
    with pytest.raises(OSError, match="truncated"), Image.open(path.with_suffix(".jpg")) as image:
        image.load()
