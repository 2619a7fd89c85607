"""A task without file_index is told apart by its path alone, in whatever way older workers noted it."""

from __future__ import annotations

import pytest

from syncd.core.spelling import Spellings
from worker_glue.jobs.records import spellings
from worker_glue.tasks.spellings import aliases_of

MIRRORS = [
    Spellings(
        "Bhushanji", "/home/u/data/Bhushanji", "gvpocr-bhushanji", ("/mnt/sda1/letters", "letters/"), "172.12.0.132"
    ),
    Spellings("newsletters", "/home/u/data/newsletters"),
]
ALL = {
    "Bhushanji/a/x .JPG",
    "/mnt/sda1/letters/a/x .JPG",
    "letters/a/x .JPG",
    "/app/Bhushanji/a/x .JPG",
    "/data/Bhushanji/a/x .JPG",
}


@pytest.mark.parametrize(
    "path",
    [
        "Bhushanji/a/x .JPG",
        "./Bhushanji/a/x .JPG",
        "/app/Bhushanji/a/x .JPG",
        "/data/Bhushanji/a/x .JPG",
        "/mnt/sda1/letters/a/x .JPG",
        "/home/gvpocr/Bhushanji/a/x .JPG",
        "/home/u/data/Bhushanji/a/x .JPG",
        "smb://172.12.0.132/gvpocr-bhushanji/a/x%20.JPG",
        "\\\\172.12.0.132\\gvpocr-bhushanji\\a\\x .JPG",
    ],
)
def test_every_way_to_write_a_path_leads_to_all_names(path: str) -> None:
    found = spellings(path, aliases_of(MIRRORS))
    assert found[0] == path
    assert set(found) >= ALL


def test_a_bare_relative_path_is_no_mirrors_alone() -> None:
    assert set(aliases_of(MIRRORS)("a/x.jpg")) == set()
    assert set(spellings("a/x.jpg", aliases_of(MIRRORS))) == {"a/x.jpg", "./a/x.jpg", "/app/a/x.jpg", "/data/a/x.jpg"}


@pytest.mark.parametrize(
    "path", ["", "..", "Bhushanji/../x", "a\0b", "\ud800", "x" * 20_000, "(no path, message 0123)"]
)
def test_what_is_no_path_has_no_other_names(path: str) -> None:
    assert not aliases_of(MIRRORS)(path)
