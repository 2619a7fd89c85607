"""The loop that keeps the registry current, over a real catalogue and a registry in memory that fails on request."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.core.errors import CatalogueError, ConfigError
from syncd.core.model import ROOT, Dropped, RelPath
from syncd.engine import enrolling
from syncd.engine.enrolling import Enrolment, EnrolPace
from syncd.ports import BeatAnswer, Bookmark, RegistryEntry
from syncd.registry.memory import MemoryRegistry
from syncd.store.catalogue import Catalogue
from tests.support.catalogues import NOW_MS, held, hold, open_catalogue

QUICK = EnrolPace(beat_s=0.2, look_s=0.02, least_s=0.005, pause_s=0.01, pause_max_s=0.05)
SETTLE_S = 20.0
HOST = "0123abcd"
DAY_NS = 86_400 * 1_000_000_000


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enrolling, "COMPARED_AT_ONCE", 3)
    monkeypatch.setattr(enrolling, "ROWS_AT_ONCE", 4)


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    with open_catalogue(tmp_path) as opened:
        yield opened


class Site:
    """One host: a catalogue, a registry, and what the host says of itself."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.registry = MemoryRegistry()
        self.mirrors = {"M": "ok"}
        self.now_ns = NOW_MS * 1_000_000
        self.registry.now_s = lambda: self.now_ns / 1e9
        self._ms = NOW_MS

    def host(self) -> dict[str, Any]:
        mirrors = [{"name": name, "state": state} for name, state in self.mirrors.items()]
        return {"id": HOST, "name": "tod-mac", "version": "1", "mirrors": mirrors}

    def enrolment(self, *, files: bool = True, pace: EnrolPace = QUICK) -> Enrolment:
        return Enrolment(
            self.registry,
            self.catalogue,
            host_id=HOST,
            host=self.host,
            files=files,
            pace=pace,
            now_ns=lambda: self.now_ns,
        )

    def settle(self, enrolment: Enrolment | None = None) -> None:
        assert (enrolment or self.enrolment()).settle(SETTLE_S)

    def hold(self, *paths: str, content: str = "", mirror: str = "M") -> None:
        self._ms += 1
        facts = [held(path, content=content and content + path) for path in paths]
        hold(self.catalogue.mirror(mirror), *facts, now_ms=self._ms)

    def drop(self, *paths: str, mirror: str = "M") -> None:
        self._ms += 1
        facts = [Dropped(RelPath(path)) for path in paths]
        self.catalogue.mirror(mirror).commit(facts, [], run_id="r", now_ms=self._ms)

    def trim(self) -> None:
        """The whole feed is accepted by nsqd and out of date."""
        numbers = [row.seq for row in self.catalogue.announcements(0, 1 << 20)]
        self.catalogue.mark_published(numbers, at="2000-01-01T00:00:00.000Z")
        self.catalogue.trim_announcements("2001-01-01T00:00:00.000Z")

    @property
    def truth(self) -> dict[str, RegistryEntry]:
        return {
            f"{name}/{path}": RegistryEntry(name, f"{name}/{path}", each.size, each.sha256, each.generation, False)
            for name in self.mirrors
            for path, each in self.catalogue.mirror(name).records()
        }

    @property
    def is_right(self) -> bool:
        return self.registry.stored(HOST) == self.truth


@pytest.fixture
def site(catalogue: Catalogue) -> Site:
    return Site(catalogue)


def wait_for(condition: Callable[[], object], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def running() -> Iterator[Callable[[Enrolment], threading.Thread]]:
    started: list[tuple[Enrolment, threading.Thread]] = []

    def start(enrolment: Enrolment) -> threading.Thread:
        thread = threading.Thread(target=enrolment.run, name="enrolment")
        thread.start()
        started.append((enrolment, thread))
        return thread

    yield start
    for enrolment, thread in started:
        enrolment.stop()
        thread.join(SETTLE_S)
        assert not thread.is_alive()


# --- files


def test_what_is_held_is_stored_and_what_changes_follows(site: Site) -> None:
    site.hold("a/x", "a/y", "b", "a b/c d", "a/b/c")
    enrolment = site.enrolment()
    site.settle(enrolment)
    assert site.is_right
    assert len(site.registry.stored(HOST)) == 5
    site.hold("a/x", content="new")
    site.drop("b", "a/b/c")
    site.hold("c")
    site.settle(enrolment)
    assert site.is_right
    assert not enrolment.state.comparing
    assert enrolment.state.behind == 0


def test_the_next_daemon_goes_on_from_the_bookmark(site: Site) -> None:
    site.hold(*"abcdefgh")
    site.settle()
    site.registry.calls.clear()
    site.hold("i")
    site.settle()
    assert site.is_right
    assert site.registry.calls == ["beat", "record", "mark"]
    site.registry.calls.clear()
    site.settle()
    assert site.registry.calls == ["beat"]


@pytest.mark.parametrize("part", ["everything", "bookmark"])
def test_a_registry_that_was_lost_is_filled_again(site: Site, part: str) -> None:
    site.hold(*"abcdefghij")
    enrolment = site.enrolment(pace=QUICK._replace(beat_s=0.0))
    site.settle(enrolment)
    if part == "everything":
        site.registry.forget()
    else:
        site.registry._hosts[HOST].pop("bookmark")
    site.hold("k")
    site.settle(enrolment)
    assert site.is_right


def test_a_feed_that_was_trimmed_meanwhile_leads_to_a_comparison(site: Site) -> None:
    site.hold(*"abcde")
    site.settle()
    site.drop("b")
    site.hold("f")
    site.trim()
    site.hold("g")
    site.settle()
    assert site.is_right


def test_a_quiet_feed_that_was_trimmed_is_compared_once(site: Site) -> None:
    site.hold(*"abcde")
    site.trim()
    site.settle()
    assert site.is_right
    site.registry.calls.clear()
    site.settle()
    assert site.registry.calls == ["beat"]


def test_another_catalogue_under_the_same_numbers_is_noticed(site: Site, tmp_path: Path) -> None:
    site.hold(*"abcde")
    site.settle()
    (tmp_path / "another").mkdir()
    with open_catalogue(tmp_path / "another") as rebuilt:
        site.catalogue = rebuilt
        site.hold(*"cdefgh", content="other")
        site.settle()
        assert site.is_right


def test_a_catalogue_that_starts_anew_behind_the_bookmark_is_noticed(site: Site, tmp_path: Path) -> None:
    site.hold(*"abcde")
    site.settle()
    (tmp_path / "another").mkdir()
    with open_catalogue(tmp_path / "another") as rebuilt:
        site.catalogue = rebuilt
        site._ms = 0  # and the clock was set back
        site.hold("a")
        site.settle()
        assert site.is_right


def test_a_comparison_goes_on_where_it_was(site: Site) -> None:
    site.hold(*(f"d{n % 3}/{n:02}" for n in range(20)))
    site.registry.script("rr" + "rrr" * 4 + "L")  # beat, mark, four parts (entries, record, mark), then away
    assert not site.enrolment().settle(SETTLE_S)
    bookmark = site.registry.bookmark(HOST)
    assert bookmark is not None
    assert bookmark.place == ("M", "d1/13")
    site.registry.calls.clear()
    site.settle()
    assert site.is_right
    assert site.registry.calls.count("entries") == 3  # of seven
    done = site.registry.bookmark(HOST)
    assert done is not None
    assert done.place is None
    assert done.through == bookmark.through


def test_changes_during_a_comparison_are_stored_too(site: Site) -> None:
    site.hold(*(f"{n:02}" for n in range(12)))
    enrolment = site.enrolment()
    site.registry.script("rr" + "rrr" * 2 + "L")
    assert not enrolment.settle(SETTLE_S)
    site.drop("00", "11")
    site.hold("01", content="new")
    site.hold("10", content="new")
    site.settle(enrolment)
    assert site.is_right


def test_once_a_day_everything_is_compared_and_what_is_wrong_put_right(site: Site) -> None:
    site.hold(*"abcdefg")
    site.drop("g")
    site.settle()
    site.registry._files.pop(f"{HOST}\tM\t\tb")
    strange = RegistryEntry("M", "M/strange", 1, "00" * 32, NOW_MS, removed=False)
    wrong = site.registry.stored(HOST)["M/c"]._replace(sha256="11" * 32)
    site.registry._files[f"{HOST}\tM\t\tstrange"] = HOST, strange
    site.registry._files[f"{HOST}\tM\t\tc"] = HOST, wrong
    site.settle()
    assert not site.is_right
    site.now_ns += DAY_NS
    site.settle()
    assert site.is_right
    assert len(site.registry.entries(HOST, "M", ROOT, None, 100)) == 6  # what was removed is forgotten by now


def test_a_removed_file_is_remembered_for_a_while(site: Site) -> None:
    site.hold("a")
    site.settle()
    site.drop("a")
    site.registry._hosts.clear()
    site.settle()
    assert site.is_right
    site.hold("a")
    late = RegistryEntry("M", "M/a", 1, "00" * 32, NOW_MS + 1, removed=False)
    site.settle()
    site.registry.record(HOST, [late])
    assert site.is_right


def test_mirrors_come_and_go(site: Site) -> None:
    enrolment = site.enrolment(pace=QUICK._replace(beat_s=1e9))
    site.mirrors = {"B": "ok", "A": "ok", "A b": "ok"}
    for mirror in site.mirrors:
        site.hold("x", "y/z", "y/zz", "y/zzz", mirror=mirror)
    site.settle(enrolment)
    assert site.is_right
    del site.mirrors["A"]
    site.settle(enrolment)
    assert site.is_right
    assert len(site.truth) == 8
    site.mirrors["A"] = "ok"  # nothing of it is announced anew
    site.settle(enrolment)
    assert site.is_right
    site.catalogue.forget_mirror("A b")
    del site.mirrors["A b"]
    site.hold("new", mirror="B")
    site.settle(enrolment)
    assert site.is_right
    site.mirrors = {}
    site.settle(enrolment)
    assert site.registry.stored(HOST) == {}


def test_another_hosts_files_are_left_alone(site: Site) -> None:
    other = RegistryEntry("M", "M/x", 1, "00" * 32, NOW_MS, removed=False)
    site.registry.record("0123abcd2", [other])
    site.registry.record("0123abc", [other])
    site.hold("a")
    site.settle()
    site.drop("a")
    site.settle()
    assert site.registry.stored("0123abcd2") == site.registry.stored("0123abc") == {"M/x": other}


def test_random_changes_and_failures_converge(catalogue: Catalogue) -> None:
    """Whatever fails, and however far it came: once it works, the registry says what the catalogue says."""
    for seed in range(12):
        chance = random.Random(seed)
        site = Site(catalogue)
        site._ms += seed * 1_000_000
        names = [f"{folder}/{n}" for folder in ("a", "a b", "a/b", "é") for n in range(6)]
        enrolment = site.enrolment(pace=QUICK._replace(beat_s=0.0 if seed % 2 else 1e9))
        for _ in range(25):
            _change(chance, site, names)
            site.registry.script("".join(chance.choices("rLHD", (12, 1, 1, 1), k=8)))
            enrolment.settle(SETTLE_S)
            if chance.random() < 0.1:
                enrolment = site.enrolment()
        site.registry.script("")
        enrolment._beat_due = 0.0  # without a change, heartbeats show that a registry was lost
        site.settle(enrolment)
        assert site.is_right, f"seed {seed}"


def _change(chance: random.Random, site: Site, names: list[str]) -> None:
    some = chance.sample(names, chance.randint(1, 5))
    held_now = {path for path, _ in site.catalogue.mirror("M").records()}
    match chance.choice(["hold", "hold", "drop", "forget", "trim", "tamper"]):
        case "hold":
            site.hold(*some, content=str(chance.random()))
        case "drop":
            site.drop(*held_now.intersection(some))
        case "forget" if chance.random() < 0.3:
            site.registry.forget()
        case "trim" if chance.random() < 0.5:
            site.trim()


# --- the host


def test_only_the_host_is_registered_when_files_are_not(site: Site) -> None:
    site.hold("a")
    enrolment = site.enrolment(files=False)
    site.settle(enrolment)
    assert site.registry.calls == ["beat"]
    (row,) = site.registry.hosts()
    assert (row.name, row.files, [mirror.name for mirror in row.mirrors]) == ("tod-mac", False, ["M"])
    assert enrolment.state.behind is None


def test_heartbeats_come_by_themselves_and_at_once_when_a_state_changes(
    site: Site, running: Callable[[Enrolment], threading.Thread]
) -> None:
    enrolment = site.enrolment(pace=QUICK._replace(beat_s=0.1))
    running(enrolment)
    wait_for(lambda: site.registry.calls.count("beat") >= 4)
    rare = Site(site.catalogue)
    enrolment = rare.enrolment(pace=QUICK._replace(beat_s=1e6))
    running(enrolment)
    wait_for(lambda: enrolment.state.connected)
    rare.mirrors["M"] = "failing"
    wait_for(lambda: rare.registry.hosts()[0].mirrors[0].state == "failing")
    assert rare.registry.calls.count("beat") == 2


def test_it_is_known_how_long_a_heartbeat_took_while_the_registry_is_there(
    site: Site, running: Callable[[Enrolment], threading.Thread], monkeypatch: pytest.MonkeyPatch
) -> None:
    beat = site.registry.beat

    def slow(host: dict[str, Any]) -> BeatAnswer:
        time.sleep(0.05)
        return beat(host)

    monkeypatch.setattr(site.registry, "beat", slow)
    enrolment = site.enrolment()
    assert enrolment.state.latency_s is None
    running(enrolment)
    wait_for(lambda: enrolment.state.connected)
    assert (enrolment.state.latency_s or 0) >= 0.05
    site.registry.down = True
    wait_for(lambda: not enrolment.state.connected)
    assert enrolment.state.latency_s is None


def test_being_woken_it_looks_at_once_but_not_too_often(
    site: Site, running: Callable[[Enrolment], threading.Thread]
) -> None:
    enrolment = site.enrolment(pace=EnrolPace(least_s=0.1))
    running(enrolment)
    wait_for(lambda: enrolment.state.connected)
    site.hold("a")
    began = time.monotonic()
    enrolment.wake()
    wait_for(lambda: "M/a" in site.registry.stored(HOST), within_s=4.0)
    looks = 0

    def host() -> dict[str, Any]:
        nonlocal looks
        looks += 1
        return site.host()

    enrolment._host = host
    while time.monotonic() - began < 1.0:
        enrolment.wake()
        time.sleep(0.001)
    assert looks <= 12


def test_a_namesake_is_warned_of_until_it_is_gone(site: Site) -> None:
    site.registry.beat({**site.host(), "id": "ffff"})
    enrolment = site.enrolment(pace=QUICK._replace(beat_s=0.0))
    site.settle(enrolment)
    (warning,) = enrolment.state.warnings
    assert '"tod-mac"' in warning
    assert HOST in warning
    assert "ffff" in warning
    site.now_ns += 300 * 1_000_000_000
    site.settle(enrolment)
    assert enrolment.state.warnings == ()


# --- a registry that is away


def test_away_and_back_shows_in_the_state_and_nothing_is_lost(
    site: Site, running: Callable[[Enrolment], threading.Thread]
) -> None:
    site.registry.down = True
    enrolment = site.enrolment()
    assert enrolment.state.since == ""
    running(enrolment)
    wait_for(lambda: enrolment.state.failures >= 3)
    state = enrolment.state
    assert (state.connected, state.error) == (False, "the registry in memory: connection refused")
    since, site.now_ns = state.since, site.now_ns + 7_000_000_000
    site.hold("a")
    site.registry.down = False
    wait_for(lambda: enrolment.state.connected)
    assert enrolment.state.error == ""
    assert enrolment.state.since > since
    wait_for(lambda: site.is_right)
    site.registry.down = True
    wait_for(lambda: not enrolment.state.connected)


def test_pauses_grow_up_to_their_cap_with_jitter(site: Site) -> None:
    enrolment = site.enrolment(pace=EnrolPace())
    error = ConfigError("no secret")
    pauses = [[enrolment._failed(error) for _ in range(12)] for _ in range(2)]
    assert all(pause <= 60.0 for pause in pauses[0])
    assert all(0.5 * min(2.0**n, 60) <= pause <= min(2.0**n, 60) for n, pause in enumerate(pauses[0]))
    assert pauses[0][-1] != pauses[1][-1]


def test_a_secret_that_cannot_be_read_is_tried_again(
    site: Site, running: Callable[[Enrolment], threading.Thread], monkeypatch: pytest.MonkeyPatch
) -> None:
    beat = site.registry.beat

    def refuse(_host: object) -> Any:
        raise ConfigError("mongo-uri does not exist", hint="write it")

    monkeypatch.setattr(site.registry, "beat", refuse)
    enrolment = site.enrolment()
    running(enrolment)
    wait_for(lambda: enrolment.state.failures)
    assert (enrolment.state.error, enrolment.state.hint) == ("mongo-uri does not exist", "write it")
    monkeypatch.setattr(site.registry, "beat", beat)
    wait_for(lambda: enrolment.state.connected)


def test_stop_is_prompt_also_while_the_registry_hangs_or_rests(
    site: Site, running: Callable[[Enrolment], threading.Thread]
) -> None:
    for pace in (EnrolPace(), EnrolPace(pause_s=60.0)):
        site.registry = MemoryRegistry()
        if pace.pause_s > 1:
            site.registry.down = True
        else:
            site.registry.hold()
        enrolment = site.enrolment(pace=pace)
        thread = running(enrolment)
        wait_for(lambda: site.registry.calls)
        began = time.monotonic()
        enrolment.stop()
        enrolment.stop()
        thread.join(SETTLE_S)
        assert time.monotonic() - began < 3.0


def test_a_damaged_catalogue_ends_the_loop(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise CatalogueError("damaged")

    enrolment = site.enrolment()
    monkeypatch.setattr(site.catalogue, "last_announcement", fail)
    with pytest.raises(CatalogueError):
        enrolment.run()


def test_memory_is_bounded_by_the_parts(site: Site) -> None:
    """No call carries more than a part, however much is held, stored and announced."""
    largest: dict[str, int] = {}
    for name in ("record", "drop"):
        call = getattr(site.registry, name)

        def measured(host_id: str, entries: list[RegistryEntry], name: str = name, call: Any = call) -> None:
            largest[name] = max(largest.get(name, 0), len(entries))
            call(host_id, entries)

        setattr(site.registry, name, measured)
    strange = [RegistryEntry("M", f"M/x{n:03}", 1, "00" * 32, NOW_MS, False) for n in range(100)]
    for entry in strange:
        site.registry._files[f"{HOST}\tM\t\t{entry.server_path[2:]}"] = HOST, entry
    site.hold(*(f"{n:03}" for n in range(100)))
    site.settle()
    site.drop(*(f"{n:03}" for n in range(100)))
    site.settle()
    assert site.is_right
    assert largest == {"record": 4, "drop": 3}


def test_a_bookmark_that_nobody_wrote_like_that_is_not_believed(site: Site) -> None:
    site.hold(*"abc")
    for strange in (
        Bookmark(3, "", 0, None),
        Bookmark(2, "M\nM|b|00|1", 0, ("Z", "")),
        Bookmark(1 << 62, "x", 0, None),
    ):
        site.registry.forget()
        site.registry.beat(site.host())
        site.registry.mark(HOST, strange, None)
        site.settle()
        assert site.is_right
