"""Commands over arguments that are no path of a file: bytes that are no text, names as reports show them, folders."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from syncd import config
from syncd.app.site import Site
from syncd.cli.main import main as syncd_main
from tests.support.cli import Syncd
from worker_glue.cli.main import main as worker_main

BYTES = os.fsdecode(b"bad\xff.txt")


@pytest.fixture
def syncd(tmp_path: Path) -> Syncd:
    source = tmp_path / "source"
    for name in ("d/e/page.txt", "back\\slash.txt", BYTES):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    syncd = Syncd(tmp_path)
    syncd.add_mirror("M", f"file://{source}", tmp_path / "target", extra='settle = "0s"')
    assert syncd.run_once().code == 0
    return syncd


@pytest.mark.parametrize(
    ("words", "code"), [(["why", BYTES], 0), (["why", "M/" + BYTES], 0), (["runs", BYTES], 2), (["forget", BYTES], 2)]
)
def test_bytes_that_are_no_text_are_no_bug(syncd: Syncd, words: list[str], code: int) -> None:
    done = syncd(*words)
    assert (done.code, "bug" in done.err) == (code, False)


@pytest.mark.parametrize(
    ("spelled", "reason"),
    [
        ("back\\slash.txt", "name_separator"),
        ("M/back\\slash.txt", "name_separator"),
        ("bad\\xff.txt", "name_undecodable"),
        (BYTES, "name_undecodable"),
    ],
)
def test_why_knows_a_refused_name_as_the_report_shows_it(syncd: Syncd, spelled: str, reason: str) -> None:
    told = syncd("why", "--json", spelled).json
    assert (told["state"], told["reason"], told["attempts"]) == ("not held", reason, 1)


@pytest.mark.parametrize("spelled", ["d", "M/d/e", "d/e/", "M", "."])
def test_why_says_that_a_folder_is_one(syncd: Syncd, spelled: str) -> None:
    told = syncd("why", "--json", spelled).json
    assert (told["state"], told["reason"], told["next"]) == ("folder", "folder", "name a file in it")


def test_why_of_what_is_nowhere_is_as_unknown_as_before(syncd: Syncd) -> None:
    for spelled in ("d/nope.txt", "x\\y.txt", "nope"):
        assert syncd("why", "--json", spelled).json["state"] == "unknown"


@pytest.mark.parametrize("action", ["purge", "list"])
def test_what_is_about_all_of_the_trash_takes_no_path(syncd: Syncd, tmp_path: Path, action: str) -> None:
    (tmp_path / "target" / "d" / "e" / "page.txt").write_text("changed here")
    assert syncd.run_once().json["mirrors"][0]["fetched"] == 1
    assert syncd("trash", action, "other.txt", "--yes").code == 2
    assert "d/e/page.txt" in syncd("trash", "list").out


@pytest.mark.parametrize(
    ("spelled", "told"),
    [
        ("M/a:b.txt", [("M", "a:b.txt")]),
        ("M/Thumbs.db", [("M", "Thumbs.db")]),
        ("Thumbs.db", [("M", "Thumbs.db"), ("N", "Thumbs.db")]),
        ("N/d/e/page.txt", [("N", "d/e/page.txt")]),
        ("d/e/page.txt", [("M", "d/e/page.txt")]),
    ],
)
def test_why_takes_a_path_that_names_its_mirror_for_no_other_path(
    syncd: Syncd, tmp_path: Path, spelled: str, told: list[tuple[str, str]]
) -> None:
    (tmp_path / "empty").mkdir()
    syncd.add_mirror("N", f"file://{tmp_path / 'empty'}", tmp_path / "target N")
    syncd.run_once("--mirror", "N")
    lines = [json.loads(line) for line in syncd("why", "--json", spelled).out.splitlines()]
    assert [(line["mirror"], line["path"]) for line in lines] == told


@pytest.mark.parametrize("command", ["syncd", "worker-glue"])
@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("c.toml", "the current folder is no longer there"),
        ("~nobody-of-this-name/c.toml", "starts in a home folder that is not known here"),
        ("", "-c needs the path of a configuration file"),
    ],
)
def test_a_configuration_that_cannot_be_found_is_no_bug(
    command: str,
    named: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    main = {"syncd": syncd_main, "worker-glue": worker_main}[command]
    assert main(["doctor", "-c", named]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "  next: " in err
    assert "bug" not in err


@pytest.mark.parametrize("main", [syncd_main, worker_main])
@pytest.mark.parametrize(
    ("words", "named"), [(["run", "--log-file", "~nobody-of-this-name/x"], ""), (["run"], "~nobody-of-this-name/x")]
)
def test_a_home_folder_that_is_not_known_is_no_bug(
    main: Callable[[list[str]], int],
    words: list[str],
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SYNCD_CONFIG", named)
    monkeypatch.setattr("faulthandler.enable", lambda: None)  # stderr is pytest's
    assert main(words) == 2
    err = capsys.readouterr().err
    assert "error: ~nobody-of-this-name/x starts in a home folder that is not known here\n  next: " in err


def test_a_configuration_named_whole_does_without_the_current_folder(
    syncd: Syncd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert syncd_main(["-c", str(syncd.config), "status"]) == 0
    assert syncd_main(["-c", "new.toml", "init"]) == 2


def test_the_backslash_example_of_why_s_help_is_a_path_of_its_mirror(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert syncd_main(["why", "--help"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "gvpocr-bhushanji" in line)
    file = tmp_path / "c.toml"
    file.write_text(
        f'[host]\nstate_dir = "{tmp_path}/state"\n[[mirror]]\nname = "Bhushanji"\ntarget = "{tmp_path}/target"\n'
        'source = "smb://gvpocr@172.12.0.132:13445/gvpocr-bhushanji"\npassword_env = "NONE"\n'
    )
    spelled = shlex.split(line)[-1]
    site = Site(config.load(file, {"HOME": str(tmp_path)}, check_secrets=False))
    assert site.spelled(spelled)[0] == ("Bhushanji", "eng-typed/x.pdf")
