"""From a file to page images: what is opened, which way up, and what is refused in one sentence."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.support.ocr_files import SIZE, corner, is_upright, oriented, owner_password_pdf
from tests.support.rendered import bomb_png, encrypted_pdf, pdf_of_many_pages, truncated_jpeg
from worker_glue.errors import OcrFailed, OcrRefused
from worker_glue.ocr import pictures
from worker_glue.ocr.documents import page_images, sniffed
from worker_glue.ocr.engine import PageImage
from worker_glue.ocr.limits import Limits


def pages(path: Path, limits: Limits | None = None, *, colour: bool = False) -> list[tuple[PageImage, Image.Image]]:
    """Return all page images of a file, in memory."""
    with page_images(str(path), limits or Limits(), colour=colour) as (count, images):
        read = []
        for image in images:
            with Image.open(image.path) as picture:
                read.append((image, picture.copy()))
    assert [image.number for image, _ in read] == list(range(1, count + 1))
    return read


def refused(path: Path, limits: Limits | None = None) -> str:
    with pytest.raises(OcrRefused) as caught:
        pages(path, limits)
    message = caught.value.message
    assert "\n" not in message
    assert len(message) < 120
    return message


# --- what is opened ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.png", "a.bmp", "a.gif", "a.tif", "a.tiff", "a.webp", "a.pdf"])
def test_every_type_that_tasks_name(tmp_path: Path, name: str) -> None:
    corner().save(tmp_path / name)
    ((image, picture),) = pages(tmp_path / name, Limits(dpi=72))
    assert picture.mode == "L"
    assert (image.width, image.height) == picture.size == SIZE
    assert is_upright(picture)


def test_what_a_file_is_decides_its_content_not_its_name(tmp_path: Path) -> None:
    corner().save(tmp_path / "a.pdf", "PNG")
    assert is_upright(pages(tmp_path / "a.pdf")[0][1])


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16", "I", "F"])
def test_every_kind_of_pixel(tmp_path: Path, mode: str) -> None:
    image = corner()
    if mode == "I;16":
        image = Image.frombytes("I;16", SIZE, b"".join(struct.pack("<H", value * 257) for value in corner().tobytes()))
    elif mode in ("LA", "RGBA"):
        image = image.convert(mode)
        image.putalpha(255)
    else:
        image = image.convert(mode)
    image.save(tmp_path / "a.tiff")
    assert is_upright(pages(tmp_path / "a.tiff")[0][1])


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", SIZE, (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 20, 10))
    image.save(tmp_path / "a.png")
    assert is_upright(pages(tmp_path / "a.png")[0][1])


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tiff"])
def test_a_page_is_upright_however_the_camera_was_held(tmp_path: Path, name: str, orientation: int, mode: str) -> None:
    oriented(tmp_path / name, orientation, mode, **({"quality": 95} if name != "a.tiff" else {}))
    assert is_upright(pages(tmp_path / name)[0][1])


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_orientation_that_is_none_is_ignored(tmp_path: Path, orientation: int) -> None:
    oriented(tmp_path / "a.jpg", orientation, quality=95)
    assert is_upright(pages(tmp_path / "a.jpg")[0][1])


def test_all_pages_of_a_tiff_each_with_its_own_size(tmp_path: Path) -> None:
    sizes = [(40, 30), (60, 20), (10, 90)]
    first, *rest = (Image.new("L", size, 200) for size in sizes)
    first.save(tmp_path / "a.tiff", save_all=True, append_images=rest, dpi=(300, 300))
    assert [(image.width, image.height, image.dpi) for image, _ in pages(tmp_path / "a.tiff")] == [
        (width, height, 300) for width, height in sizes
    ]


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_the_first_frame_of_what_moves(tmp_path: Path, name: str) -> None:
    corner().save(tmp_path / name, save_all=True, append_images=[Image.new("L", SIZE, 0)], duration=100, lossless=True)
    ((_image, picture),) = pages(tmp_path / name)
    assert is_upright(picture)


def test_the_first_picture_of_a_camera_s_jpeg_with_previews(tmp_path: Path) -> None:
    corner("RGB").save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))], quality=95)
    ((_image, picture),) = pages(tmp_path / "a.jpg")
    assert is_upright(picture)


def test_colours_stay_for_an_engine_that_asks(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (200, 10, 10)).save(tmp_path / "a.png")
    ((_image, picture),) = pages(tmp_path / "a.png", colour=True)
    assert picture.mode == "RGB"
    assert picture.getpixel((4, 4)) == (200, 10, 10)
    Image.new("RGB", (72, 72), (200, 10, 10)).save(tmp_path / "a.pdf")
    ((_image, picture),) = pages(tmp_path / "a.pdf", Limits(dpi=72), colour=True)
    assert all(abs(got - sent) < 6 for got, sent in zip(picture.getpixel((36, 36)), (200, 10, 10), strict=True))


@pytest.mark.parametrize(("told", "dpi"), [(300, 300), (72, None), (96, None), (0, None), (50_000, None)])
def test_a_resolution_that_no_scan_has_is_not_told(tmp_path: Path, told: int, dpi: int | None) -> None:
    corner().save(tmp_path / "a.jpg", dpi=(told, told))
    assert pages(tmp_path / "a.jpg")[0][0].dpi == dpi


# --- PDF --------------------------------------------------------------------------------------------------------------


def test_pages_of_a_pdf_at_the_dpi_of_the_limits(tmp_path: Path) -> None:
    first = Image.new("L", (100, 200), 255)
    first.save(tmp_path / "a.pdf", resolution=100, save_all=True, append_images=[Image.new("L", (300, 100), 255)])
    found = [(image.width, image.height, image.dpi) for image, _ in pages(tmp_path / "a.pdf")]
    for (width, height, dpi), wanted in zip(found, [(300, 600), (900, 300)], strict=True):
        assert dpi == 300
        assert width - wanted[0] in (0, 1)  # a point's fraction is a pixel more
        assert height - wanted[1] in (0, 1)


def test_a_huge_page_is_rendered_smaller(tmp_path: Path) -> None:
    Image.new("L", (200, 100), 255).save(tmp_path / "a.pdf", resolution=1)  # 200 x 100 inches: 1,800 megapixels
    ((image, _picture),) = pages(tmp_path / "a.pdf", Limits(max_megapixels=2))
    assert 1_900_000 < image.width * image.height < 2_010_000
    assert image.dpi == 10


def test_a_page_too_long_for_engines_is_made_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_SIDE", 30)
    corner().save(tmp_path / "a.png", dpi=(300, 300))
    image = pages(tmp_path / "a.png")[0][0]
    assert (image.width, image.height, image.dpi) == (30, 20, 150)


def test_a_pdf_with_something_before_its_header(tmp_path: Path) -> None:
    corner().save(tmp_path / "a.pdf")
    (tmp_path / "b.pdf").write_bytes(b"\n\n junk \n" + (tmp_path / "a.pdf").read_bytes())
    assert len(pages(tmp_path / "b.pdf")) == 1


# --- what is refused --------------------------------------------------------------------------------------------------


def _folder(path: Path) -> None:
    path.mkdir()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _text(path: Path) -> None:
    path.write_text("Dear friend,\n")


def _html(path: Path) -> None:
    path.write_text("<html>not found</html>")


def _damaged_pdf(path: Path) -> None:
    path.write_bytes(b"%PDF-1.7\n" + b"x" * 5000)


def _header_only(path: Path) -> None:
    path.write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF\0")


def _cut_png(path: Path) -> None:
    Image.effect_noise((300, 300), 80).save(path, "PNG")
    path.write_bytes(path.read_bytes()[:20_000])


def _cut_tiff(path: Path) -> None:
    Image.effect_noise((300, 300), 80).save(path, "TIFF")
    path.write_bytes(path.read_bytes()[:20_000])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_folder, "a folder, not a file"),
        (_pipe, "not a regular file"),
        (_empty, "the file is empty (0 bytes)"),
        (_text, "supported are JPEG, PNG, BMP, GIF, TIFF, WebP and PDF"),
        (_html, "neither an image nor a PDF"),
        (truncated_jpeg, "the JPEG is damaged or cut short"),
        (_header_only, "the JPEG is damaged or cut short"),
        (_cut_png, "the PNG is damaged"),
        (_cut_tiff, "the TIFF is damaged"),
        (_damaged_pdf, "the PDF is damaged"),
        (encrypted_pdf, "the PDF is encrypted and needs a password"),
        (pdf_of_many_pages, "10,000 pages are more than the limit of 2,000"),
        (bomb_png, "60,000 x 60,000 pixels are more than the limit of 200 megapixels"),
    ],
)
def test_what_no_ocr_can_read_is_one_short_sentence(tmp_path: Path, make: Callable[[Path], None], says: str) -> None:
    if make is truncated_jpeg:
        # rendered without the fonts of a whole page
        Image.effect_noise((300, 300), 80).save(tmp_path / "bad.jpg")
        (tmp_path / "bad.jpg").write_bytes((tmp_path / "bad.jpg").read_bytes()[:9000])
    else:
        make(tmp_path / "bad.jpg")
    assert says in refused(tmp_path / "bad.jpg")


def test_a_bomb_is_refused_in_every_format(tmp_path: Path) -> None:
    for name in ("a.png", "a.gif", "a.bmp", "a.tiff", "a.webp", "a.jpg"):
        Image.new("L", (2000, 1000)).save(tmp_path / name)
        assert "2,000 x 1,000 pixels" in refused(tmp_path / name, Limits(max_megapixels=1))


def test_a_bomb_behind_a_good_page_is_refused(tmp_path: Path) -> None:
    Image.new("L", (10, 10)).save(tmp_path / "a.tiff", save_all=True, append_images=[Image.new("L", (2000, 1000))])
    assert "2,000 x 1,000 pixels" in refused(tmp_path / "a.tiff", Limits(max_megapixels=1))


def test_a_large_image_within_the_limit_is_no_bomb(tmp_path: Path) -> None:
    Image.new("1", (12_000, 9_000), 1).save(tmp_path / "a.png")  # 108 megapixels: above Pillow's own warning
    assert pages(tmp_path / "a.png")[0][0].width == 12_000


def test_too_many_pages_of_a_tiff(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.tiff", save_all=True, append_images=[Image.new("L", (4, 4))] * 5)
    assert len(pages(tmp_path / "a.tiff", Limits(max_pages=6))) == 6
    assert "6 pages are more than the limit of 5" in refused(tmp_path / "a.tiff", Limits(max_pages=5))


def test_an_owner_s_password_keeps_nobody_from_reading(tmp_path: Path) -> None:
    owner_password_pdf(tmp_path / "a.pdf")
    assert len(pages(tmp_path / "a.pdf", Limits(dpi=72))) == 1


def test_bytes_of_every_format_spoilt_anywhere_are_read_or_refused(tmp_path: Path) -> None:
    """Whatever a decoder raises for damage, it becomes one of our errors; nothing else comes through."""
    chosen = random.Random(20)
    for name in ("a.png", "a.gif", "a.bmp", "a.tiff", "a.webp", "a.jpg", "a.pdf"):
        oriented(tmp_path / name, 6, "RGB") if name != "a.pdf" else corner().save(tmp_path / name)
        good = (tmp_path / name).read_bytes()
        for _ in range(3000 if os.environ.get("SYNCD_EXHAUSTIVE") == "1" else 60):
            spoilt = bytearray(good)
            for _ in range(chosen.randrange(1, 8)):
                spoilt[chosen.randrange(len(spoilt))] = chosen.randrange(256)
            (tmp_path / "b").write_bytes(spoilt[: chosen.choice((len(spoilt), chosen.randrange(1, len(spoilt))))])
            try:
                pages(tmp_path / "b", Limits(dpi=72, max_megapixels=1))
            except (OcrRefused, OcrFailed) as error:
                assert error.message


# --- what may pass ----------------------------------------------------------------------------------------------------


def test_a_file_that_is_gone_is_no_fault_of_its_bytes(tmp_path: Path) -> None:
    with pytest.raises(OcrFailed, match="No such file"):
        sniffed(str(tmp_path / "nothing"))


def test_nothing_is_left_in_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    corner().save(tmp_path / "a.tiff", save_all=True, append_images=[corner()])
    with page_images(str(tmp_path / "a.tiff"), Limits()) as (_count, images):
        next(images)
        assert list(folder.iterdir())
    assert not list(folder.iterdir())


def test_a_full_disk_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corner().save(tmp_path / "a.png")

    def full(self: Image.Image, *_args: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OcrFailed, match="No space left"):
        pages(tmp_path / "a.png")
