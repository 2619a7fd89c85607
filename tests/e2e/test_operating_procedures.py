"""What docs/operating.md and docs/upgrading.md tell an operator to do, done: moving, rebuilding, going back."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from syncd.cli.main import main
from syncd.store import schema
from tests.support.cli import Done, Syncd

FILES = {"eng-typed/Address .jpg": b"one", "hin-typed/Address .jpg": b"two", "hin-typed/list.pdf": b"three"}


class Operator(Syncd):
    """One host with one mirror of three files, mirrored once. Commands run in this process, which is faster."""

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        self.share, self.target = base / "share", base / "Bhushanji"
        for name, content in FILES.items():
            self.put(name, content)
        self.add_mirror("Bhushanji", f"file://{self.share}", self.target)
        self.runs(fetched=len(FILES))

    def __call__(self, *words: str, timeout_s: float = 0) -> Done:
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(["-c", str(self.config), *words])
        out.seek(0)
        err.seek(0)
        return Done(code, out.read(), err.read())

    def put(self, name: str, content: bytes) -> None:
        path = self.share / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (1_700_000_000, 1_700_000_000))

    def does(self, *words: str) -> str:
        """Type a command that is to work; return what it prints."""
        done = self(*words)
        assert done.code == 0, f"syncd {' '.join(words)}: {done.code}\n{done.out}{done.err}"
        return done.out

    def refuses(self, code: int, *words: str) -> str:
        """Type a command that is to end with `code`; return its message."""
        done = self(*words)
        assert done.code == code, f"syncd {' '.join(words)}: {done.code}\n{done.out}{done.err}"
        return done.out + done.err

    def runs(self, *words: str, fetched: int = 0) -> None:
        """Run once; everything is held then, and so much was fetched for it."""
        done = self.run_once(*words)
        assert done.code == 0, done.err
        assert done.json["mirrors"][0]["fetched"] == fetched
        assert len(self.does("manifest").splitlines()) == len(list(self.share.rglob("*.*")))

    def change(self, old: Path, new: Path) -> None:
        self.config.write_text(self.config.read_text().replace(f'"{old}"', f'"{new}"'))


@pytest.fixture
def syncd(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


def test_moving_the_state_and_a_mirror(syncd: Operator) -> None:
    syncd.state.rename(moved := syncd.base / "moved")
    syncd.change(syncd.state, moved)
    assert "ok" in syncd.does("status")
    syncd.target.rename(elsewhere := syncd.base / "elsewhere")
    assert "--new-target" in syncd.refuses(13, "run-once")
    syncd.change(syncd.target, elsewhere)
    syncd.runs()


def test_a_lost_catalogue_and_a_damaged_one(syncd: Operator) -> None:
    for file in syncd.state.glob("catalogue.db*"):
        file.unlink()
    syncd.runs()
    (syncd.state / "catalogue.db").write_bytes(b"no database" * 1000)
    assert "keeps it aside" in syncd.refuses(15, "status")
    syncd.runs()
    assert list(syncd.state.glob("catalogue.damaged-*.db"))


def test_a_lost_state_directory(syncd: Operator) -> None:
    shutil.rmtree(syncd.state)
    assert "syncd run-once --take-over" in syncd.refuses(13, "run-once")
    syncd.runs("--take-over")


def test_restoring_from_the_trash_and_emptying_it(syncd: Operator) -> None:
    lost = "eng-typed/Address .jpg"
    (syncd.share / lost).unlink()
    syncd.does("run-once")
    syncd.does("run-once")
    assert lost in syncd.does("trash", "list")
    syncd.does("trash", "restore", lost, "--to", str(syncd.base / "rescued"))
    assert (syncd.base / "rescued" / lost).read_bytes() == FILES[lost]
    assert not (syncd.target / lost).exists()
    syncd.does("trash", "purge", "--yes")
    assert lost not in syncd.does("trash", "list")


def test_adding_a_mirror_and_taking_it_away(syncd: Operator) -> None:
    before = syncd.config.read_text()
    secret = syncd.base / "two.password"
    syncd.add_mirror("two", "smb://gvpocr@127.0.0.1:9/scans", syncd.base / "two", secret)
    assert f"{secret} does not exist" in syncd.refuses(2, "status")
    secret.write_text("a password")
    secret.chmod(0o644)
    assert f"chmod 600 {secret}" in syncd.refuses(2, "status")
    secret.chmod(0o600)
    syncd.refuses(10, "run-once", "--mirror", "two")
    assert "take it out of the configuration first" in syncd.refuses(2, "forget", "two")
    syncd.config.write_text(before)
    syncd.does("forget", "two")
    syncd.runs()


def test_an_emptied_share_is_held_back_and_the_halt_ends_by_itself(syncd: Operator) -> None:
    syncd.share.rename(kept := syncd.base / "kept")
    syncd.share.mkdir()
    assert "Nothing was done" in syncd.refuses(13, "run-once")
    assert "HALTED" in syncd.refuses(13, "status")
    syncd.share.rmdir()
    kept.rename(syncd.share)
    syncd.runs()


def test_an_old_catalogue_is_brought_up_to_date_by_the_first_writer(syncd: Operator) -> None:
    catalogue = syncd.state / "catalogue.db"
    for file in syncd.state.glob("catalogue.db*"):
        file.unlink()
    schema.create(catalogue, "0.0.9", schema.MIGRATIONS[:1])
    assert "next: syncd run-once" in syncd.refuses(15, "status")
    syncd.runs()
    assert catalogue.with_name("catalogue.db.v1.bak").exists()
    assert "ok" in syncd.does("status")


def test_going_back_to_a_version_that_does_not_know_the_catalogue(syncd: Operator) -> None:
    catalogue = syncd.state / "catalogue.db"
    with contextlib.closing(sqlite3.connect(catalogue)) as connection:
        connection.execute(f"PRAGMA user_version={len(schema.MIGRATIONS) + 1}")
    for words in (["status"], ["run-once"]):
        assert "next: install syncd" in syncd.refuses(15, *words)
    (newer := syncd.state / "newer").mkdir()
    for file in syncd.state.glob("catalogue.db*"):
        file.rename(newer / file.name)
    syncd.runs()
