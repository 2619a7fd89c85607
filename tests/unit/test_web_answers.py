"""How errors look to a caller, and which files of the page there are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from syncd.core import errors
from syncd.core.reasons import Reason
from syncd.web.answers import STATUS_TEXT, failed, in_json, refused, status_of
from syncd.web.assets import load
from syncd.web.guard import Refusal


def classes(root: type[errors.SyncdError]) -> list[type[errors.SyncdError]]:
    return [root, *(each for child in root.__subclasses__() for each in classes(child))]


@pytest.mark.parametrize("kind", [each for each in classes(errors.SyncdError) if each.__module__ == errors.__name__])
def test_every_error_has_an_answer(kind: type[errors.SyncdError]) -> None:
    answer = failed(kind("it failed", hint="do this"))
    told = json.loads(answer.body)["error"]
    assert answer.status in STATUS_TEXT
    assert answer.status >= 400
    assert (told["message"], told["hint"]) == ("it failed", "do this")
    assert told["reason"] == kind.reason.value
    assert told["exit_code"] == kind.exit_code


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.ConfigError("x"), 400),
        (errors.AlreadyRunning("x"), 409),
        (errors.TooManyRetires("x"), 409),
        (errors.SourceVanished("x"), 503),
        (errors.DiskFull("x"), 507),
        (errors.RunStopped("x"), 503),
        (errors.CatalogueDamaged("x"), 500),
        (errors.SyncdError("x"), 500),
    ],
)
def test_statuses(error: errors.SyncdError, status: int) -> None:
    assert status_of(error) == status


def test_problems_of_a_configuration_are_told() -> None:
    told = json.loads(failed(errors.ConfigError("x", problems=["a", "b"])).body)["error"]
    assert told["problems"] == ["a", "b"]


def test_half_a_surrogate_pair_passes() -> None:
    assert json.loads(in_json({"path": "\ud800"}).body) == {"path": "\ud800"}


def test_a_refusal_carries_its_headers_and_reason() -> None:
    answer = refused(Refusal(401, "no", reason=Reason.AUTH_FAILED, headers=(("WWW-Authenticate", "Bearer"),)))
    assert ("WWW-Authenticate", "Bearer") in answer.headers
    assert ("Cache-Control", "no-store") in answer.headers
    assert json.loads(answer.body)["error"]["reason"] == "auth_failed"


def test_the_page_is_what_lies_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<!doctype html>")
    (tmp_path / "page.js").write_text("1")
    for name in (".hidden.js", "notes.py", "README"):
        (tmp_path / name).write_text("no")
    (tmp_path / "folder.js").mkdir()
    found = load(tmp_path)
    assert set(found) == {"index.html", "page.js"}
    assert found["page.js"].content_type.startswith("text/javascript")


def test_a_file_that_the_browser_has_is_not_sent_again(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<!doctype html>")
    page = load(tmp_path)["index.html"]
    assert page.answer("").status == 200
    assert page.answer('"other"').status == 200
    again = page.answer(page.tag)
    assert (again.status, again.body) == (304, b"")
    assert any(name == "Content-Security-Policy" and "'self'" in value for name, value in again.headers)


def test_no_folder_is_no_page(tmp_path: Path) -> None:
    assert load(tmp_path / "absent") == {}
