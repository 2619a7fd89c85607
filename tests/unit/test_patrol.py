"""Verification in the background: how much is due when, in which order, and what gives way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from syncd.core.model import Record, RelPath
from syncd.engine.patrol import DAY_NS, HASTE, Cycle, Patrol
from syncd.ports import Totals

NOW = 1_800_000_000 * 10**9


class Held:
    """As much of a catalogue as a patrol asks."""

    def __init__(self, paths: list[str], size: int = 10) -> None:
        self.paths = sorted(paths, key=lambda path: path.rpartition("/")[::2])
        self.size = size

    def totals(self) -> Totals:
        return Totals(len(self.paths), self.size * len(self.paths))

    def records(self) -> Iterator[tuple[RelPath, Record]]:
        for path in list(self.paths):
            yield RelPath(path), Record(self.size, 1, 1, 1, "00" * 32, 1, 1, self.size, 1)


PATHS = [f"{folder}{n}.jpg" for folder in ("", "a/", "a/b/", "c/") for n in range(25)]


def walk(patrol: Patrol, now_ns: int, *, gives_way: bool = False) -> list[str]:
    return [path for path, _ in patrol.slice(now_ns, lambda: gives_way)]


def test_a_cycle_takes_each_file_once_within_its_days() -> None:
    held = Held(PATHS)
    patrol = Patrol(held, Cycle(started_ns=NOW), 10)  # type: ignore[arg-type]
    seen: list[str] = []
    for hour in range(1, int(240 * HASTE) + 2):
        seen += walk(patrol, NOW + hour * DAY_NS // 24)
    assert seen == held.paths
    assert patrol.cycle.checked == 0, "a new cycle has begun"


def test_what_is_due_follows_the_clock_and_catches_up_after_sleep() -> None:
    patrol = Patrol(Held(PATHS), Cycle(started_ns=NOW), 10)  # type: ignore[arg-type]
    assert walk(patrol, NOW) == []
    assert len(walk(patrol, NOW + int(4 * HASTE * DAY_NS))) == 40
    assert walk(patrol, NOW + int(4 * HASTE * DAY_NS)) == []
    assert len(walk(patrol, NOW + 400 * DAY_NS)) == 60
    assert walk(patrol, NOW + 400 * DAY_NS) == []


def test_a_restart_goes_on_where_it_was() -> None:
    held = Held(PATHS)
    first = Patrol(held, Cycle(started_ns=NOW), 10)  # type: ignore[arg-type]
    done = walk(first, NOW + int(3 * HASTE * DAY_NS))
    again = Patrol(held, Cycle.parse(first.cycle.as_text()), 10)  # type: ignore[arg-type]
    held.paths.remove(done[-1])  # what was last is gone meanwhile
    assert done + walk(again, NOW + 40 * DAY_NS) == sorted({*held.paths, done[-1]}, key=_key)


def _key(path: str) -> tuple[str, ...]:
    return path.rpartition("/")[::2]


def test_it_gives_way_at_once_and_a_file_not_come_back_from_is_not_counted() -> None:
    patrol = Patrol(Held(PATHS), Cycle(started_ns=NOW), 10)  # type: ignore[arg-type]
    assert walk(patrol, NOW + 40 * DAY_NS, gives_way=True) == []
    slices = patrol.slice(NOW + 40 * DAY_NS, lambda: False)
    first = next(slices)[0]
    slices.close()
    assert patrol.cycle.checked == 0
    assert first == PATHS[0]


def test_large_files_are_paced_and_a_slice_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []
    monkeypatch.setattr("syncd.engine.patrol.time.sleep", naps.append)
    patrol = Patrol(Held(PATHS, size=100 << 20), Cycle(started_ns=NOW), 10)  # type: ignore[arg-type]
    assert len(walk(patrol, NOW + 40 * DAY_NS)) == 3, "256 MiB a slice"
    assert naps
    assert max(naps) <= 1.0


@pytest.mark.parametrize("text", ["", "nonsense", "[]", "{}", '{"started_ns": 1}'])
def test_a_note_that_cannot_be_read_begins_anew(text: str) -> None:
    assert Cycle.parse(text) == Cycle()


def test_a_clock_that_was_set_back_begins_anew() -> None:
    patrol = Patrol(Held(PATHS), Cycle(started_ns=NOW + 5 * DAY_NS, checked=7), 10)  # type: ignore[arg-type]
    assert walk(patrol, NOW) == []
    assert (patrol.cycle.started_ns, patrol.cycle.checked) == (NOW, 0)


def test_zero_days_mean_never() -> None:
    assert Cycle(started_ns=1).due(100, 0, NOW) == 0
