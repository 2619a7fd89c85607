"""Near names stay quick in a large mirror, and are found through folders whose names are mixed up too."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.core.model import Dropped, RelPath
from syncd.store import near
from syncd.store.sql import Reader
from tests.support.catalogues import NOW_MS, held, hold, open_catalogue


@pytest.mark.parametrize(
    ("held_path", "asked"),
    [
        ("Scans/Shot 3.04\N{NARROW NO-BREAK SPACE}PM.png", "scans/shot 3.04 pm.png"),
        ("A B/c  d/E\N{NO-BREAK SPACE}F.pdf", "ab/CD/e f.pdf"),
        ("\N{DEVANAGARI LETTER HA} 1/x 2.JPG", "\N{DEVANAGARI LETTER HA}1/x2.jpg"),
        ("e\N{COMBINING ACUTE ACCENT}/x.pdf", "\N{LATIN SMALL LETTER E WITH ACUTE}/x.pdf"),
        ("STRASSE/x.pdf", "stra\N{LATIN SMALL LETTER SHARP S}e/x.pdf"),
        ("stra\N{LATIN SMALL LETTER SHARP S}e/x.pdf", "STRASSE/x.pdf"),
    ],
)
def test_every_component_may_be_mixed_up(tmp_path: Path, held_path: str, asked: str) -> None:
    with open_catalogue(tmp_path) as catalogue:
        mirror = catalogue.mirror("M")
        hold(mirror, held(held_path), held("other/y.pdf"))
        assert mirror.near_names(RelPath(asked)) == [held_path]


def test_all_folders_that_are_alike_are_gone_into(tmp_path: Path) -> None:
    with open_catalogue(tmp_path) as catalogue:
        mirror = catalogue.mirror("M")
        hold(mirror, held("Hin Typed/a.jpg"), held("HIN TYPED/A.JPG"), held("hin typed/b.jpg"))
        assert mirror.near_names(RelPath("hintyped/a.jpg")) == ["HIN TYPED/A.JPG", "Hin Typed/a.jpg"]


def test_the_feed_is_not_searched_for_what_was_never_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    rows = Reader.rows

    def noted(self: Reader, statement: str, parameters: tuple[object, ...] = ()) -> list[object]:
        asked.append(statement)
        return rows(self, statement, parameters)  # type: ignore[return-value]

    with open_catalogue(tmp_path) as catalogue:
        mirror = catalogue.mirror("M")
        hold(mirror, held("d/x.jpg"), held("d/old.jpg", content="x"))
        mirror.commit([Dropped(RelPath("d/old.jpg")), held("d/new.jpg", content="x")], [], run_id="r", now_ms=NOW_MS)
        monkeypatch.setattr(Reader, "rows", noted)
        assert mirror.near_names(RelPath("d/never.jpg")) == []
        assert not any("outbox" in statement for statement in asked)
        assert mirror.near_names(RelPath("d/old.jpg")) == ["d/new.jpg"]
        assert any("outbox" in statement for statement in asked)


def test_the_same_name_is_looked_for_in_so_many_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "ELSEWHERE", 3)  # the root is one of them
    with open_catalogue(tmp_path) as catalogue:
        mirror = catalogue.mirror("M")
        hold(mirror, *[held(f"{n}/x.jpg") for n in range(5)])
        assert mirror.near_names(RelPath("elsewhere/x.jpg")) == ["0/x.jpg", "1/x.jpg"]
