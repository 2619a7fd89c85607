"""What the resolver answers while runs come to conclusions: held back, missed once, renamed, refused as listed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.core.model import RelPath
from syncd.core.reasons import Reason
from syncd.core.resolution import Resolution, State
from syncd.engine.report import Report
from syncd.engine.rules import RunOptions
from tests.support.desk import Desk
from tests.support.world import World

FILES = {f"eng/letter {n} .pdf": b"letter %d" % n for n in range(12)}
PATH = "eng/letter 3 .pdf"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(World(tmp_path, dict(FILES)))
    desk.run()
    yield desk
    desk.close()


def ask(desk: Desk, path: str = PATH) -> Resolution:
    return desk.resolver.resolve(f"/app/M/{path}")


def content(answer: Resolution) -> bytes:
    assert answer.local_path is not None, answer
    return Path(answer.local_path).read_bytes()


def run_held_back(desk: Desk) -> None:
    report = Report("M", f"run-{os.urandom(4).hex()}")
    desk.keeping.execute_run(RunOptions(), report)
    assert report.exit_code == 13


def test_replacements_that_wait_for_a_person_hold_the_old_versions_back(desk: Desk) -> None:
    for path in list(FILES)[:10]:
        desk.world.source.put(path, b"encrypted by somebody")
    run_held_back(desk)
    answer = ask(desk)
    assert (answer.state, answer.reason) == (State.FETCHING, Reason.TOO_MANY_CHANGES)
    assert answer.hint == "syncd approve --mirror M"
    assert content(ask(desk, "eng/letter 11 .pdf")) == FILES["eng/letter 11 .pdf"]
    desk.keeping.facts.approve([RelPath(path) for path in FILES])
    desk.run()
    assert content(ask(desk)) == b"encrypted by somebody"


def test_retires_that_wait_for_a_person_hold_nothing_back(desk: Desk) -> None:
    for path in list(FILES)[:6]:
        desk.world.source.remove(path)
    desk.run()
    run_held_back(desk)
    assert content(ask(desk)) == FILES[PATH]


def test_absence_takes_two_looks_and_a_new_name_is_told(desk: Desk) -> None:
    desk.world.source.remove(PATH)
    desk.run()
    assert ask(desk).state is State.READY
    desk.run()
    assert (ask(desk).state, ask(desk).reason) == (State.MISSING, Reason.NOT_LISTED)
    desk.world.source.rename("eng/letter 4 .pdf", "eng/new name.pdf")
    desk.run()
    answer = ask(desk, "eng/letter 4 .pdf")
    assert (answer.state, answer.near) == (State.MISSING, ("M/eng/new name.pdf",))


def test_names_that_cannot_be_held_are_refused_as_they_were_listed(desk: Desk) -> None:
    desk.world.source.put("eng/a:b.pdf", b"colon")
    desk.world.source.put("eng/a\\b.pdf", b"backslash")
    desk.world.source.put("eng/a/b.pdf", b"another file")
    desk.world.source.put_other("eng/link.pdf")
    desk.run()
    reasons = {name: ask(desk, f"eng/{name}").reason for name in ("a:b.pdf", "a\\b.pdf", "link.pdf", "a/b.pdf")}
    assert reasons == {
        "a:b.pdf": Reason.NAME_STREAM,
        "a\\b.pdf": Reason.NAME_SEPARATOR,
        "link.pdf": Reason.LINK,
        "a/b.pdf": None,
    }
