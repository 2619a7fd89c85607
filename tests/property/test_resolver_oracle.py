"""The resolver against a rule book that tries every way to cut a text in two; and any text whatever gets an answer."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from syncd.core.model import LocalStat, Record, RelPath, Unheld
from syncd.core.reasons import Reason
from syncd.core.resolution import Look, Resolution, State
from syncd.core.spelling import Spellings
from syncd.engine.resolving import KnownMirror, Resolver

EXHAUSTIVE = bool(os.environ.get("SYNCD_EXHAUSTIVE"))
SEEDS = 4
PATHS = 25_000 if EXHAUSTIVE else 500
PATHS_IN_A_WORLD = 20
NAMES = ("A", "B", "C")
PARTS = ("a", "b", "eng", "x.pdf", "y z.jpg", "A", "B", "é", "a%20b", "app", "data")
ALIASES = ("x/y", "A/b", "eng/a", "mnt/q", "B")
LOCAL = LocalStat(1, 1, 1)
RECORD = Record(1, 1, 0, 0, "0" * 64, 7, *LOCAL)
SLOW_S = 2.0


class Facts:
    """One mirror's catalogue. held: files with a record; waiting: files that were listed and have not come."""

    def __init__(self, *, listed: bool, held: set[str], waiting: set[str]) -> None:
        self.listed = listed
        self.held = held
        self.waiting = waiting
        files = [path.split("/") for path in self.files]
        self.folders = {"/".join(parts[:depth]) for parts in files for depth in range(1, len(parts))}

    @property
    def files(self) -> set[str]:
        return self.held | self.waiting

    def look_up(self, path: RelPath) -> Look:
        unheld = Unheld(path, Reason.UNREADABLE, "") if path in self.waiting else None
        listed_at = "2026-01-01T00:00:00Z" if self.listed else ""
        return Look(listed_at, RECORD if path in self.held else None, unheld, False, path in self.folders)

    def fault_above(self, path: RelPath) -> Unheld | None:
        return None

    def near_names(self, path: RelPath) -> Sequence[RelPath]:
        return []

    def stat_open(self, path: RelPath) -> LocalStat | None:
        return LOCAL if path in self.held else None


class World(NamedTuple):
    """Some mirrors, and a resolver over them."""

    facts: dict[str, Facts]
    spellings: dict[str, Spellings]
    resolver: Resolver


def make_world(rng: random.Random) -> World:
    facts, spellings = {}, {}
    for name in rng.sample(NAMES, rng.randint(1, len(NAMES))):
        drawn = {"/".join(rng.choices(PARTS[:8], k=rng.randint(1, 3))) for _ in range(rng.randint(0, 8))}
        files = {path for path in drawn if not any(other.startswith(path + "/") for other in drawn)}
        held = {path for path in sorted(files) if rng.random() < 0.7}
        listed = rng.random() < 0.75
        facts[name] = Facts(listed=listed, held=held, waiting=files - held if listed else set())
        aliases = tuple(rng.sample(ALIASES, rng.choice((0, 0, 1, 2))))
        spellings[name] = Spellings(name, f"/home/t/{name}", f"share-{name.lower()}", aliases)
    return World(facts, spellings, resolver_over(facts, spellings))


def resolver_over(facts: dict[str, Facts], spellings: dict[str, Spellings]) -> Resolver:
    def opened(each: Facts) -> Callable[[], AbstractContextManager[Facts]]:
        return lambda: contextlib.nullcontext(each)

    mirrors = [
        KnownMirror(name, spellings[name], each, lambda _: False, opened(each), spellings[name].target)
        for name, each in facts.items()
    ]
    return Resolver(mirrors, lambda mirror, path: pytest.fail(f"{mirror}/{path} was suspected"))


def spell(rng: random.Random, world: World) -> str:
    """Make up a text: as a rule a file that there is, behind something that may stand in front of it."""
    files = [(name, path) for name, each in world.facts.items() for path in sorted(each.files)]
    if files and rng.random() < 0.7:
        name, path = rng.choice(files)
    else:
        name, path = rng.choice(NAMES), "/".join(rng.choices(PARTS, k=rng.randint(0, 4)))
    fronts = ["", f"{name}/", f"./{name}/", f"/app/{name}/", f"data/{name}/", f"/mnt/z/{name}/", "/app/", "/", "zz/"]
    fronts += [f"/home/t/{name}/", f"smb://h/share-{name.lower()}/", f"smb://u@h:1/q/{name}/"]
    aliases = world.spellings[name].aliases if name in world.spellings else ()
    fronts += [slash + alias + "/" for alias in aliases for slash in ("", "/")]
    return rng.choice(fronts) + path + ("/../x" if rng.random() < 0.02 else "")


# --- the rule book ---------------------------------------------------------------------------------------------------


class Expected(NamedTuple):
    """What has to be answered. file: (mirror, path), None where it does not matter."""

    state: State
    file: tuple[str, str] | None = None
    reason: Reason | None = None


NEVER = Expected(State.FETCHING, reason=Reason.NEVER_LISTED)
REFUSED = Expected(State.REFUSED)


def ranked(text: str, world: World) -> tuple[dict[tuple[str, str], int], list[str], bool]:
    """Return each (mirror, path) that the text may mean and how specific it is; the components; whether absolute."""
    server = text.startswith("smb://")
    rest = text.removeprefix("smb://").partition("/")[2] if server else text
    parts = [part for part in rest.split("/") if part not in ("", ".")]
    absolute = server or text.startswith("/")
    found: dict[tuple[str, str], int] = {}
    for name, known in world.spellings.items():
        fronts = {name, f"app/{name}", f"data/{name}", known.share, *known.aliases}
        fronts |= set() if server else {known.target.strip("/")}
        for cut in range(len(parts) + 1):
            front, path = "/".join(parts[:cut]), "/".join(parts[cut:])
            rank = -1
            if front in fronts:
                rank = 2 + 2 * cut
            elif cut and parts[cut - 1] == name:
                rank = 1
            elif (cut == 0 and not absolute) or (absolute and not server and front in ("app", "data")):
                rank = 0
            if rank >= 0:
                found[name, path] = max(rank, found.get((name, path), 0))
    return found, parts, absolute


def expected(text: str, world: World) -> Expected:
    found, parts, absolute = ranked(text, world)
    if ".." in parts or not parts or not found:
        return REFUSED
    unlisted = False
    for rank in sorted(set(found.values()), reverse=True):
        group = [(name, path) for (name, path), of in found.items() if of == rank and path]
        files = [(name, path) for name, path in group if path in world.facts[name].files]
        if len(files) > 1 and not unlisted:
            return Expected(State.AMBIGUOUS)
        unlisted = unlisted or any(not world.facts[each[0]].listed for each in group if each not in files)
        if files and unlisted:
            return NEVER
        if files:
            return Expected(State.READY if files[0][1] in world.facts[files[0][0]].held else State.FETCHING, files[0])
    if unlisted:
        return NEVER
    if any(not path or path in world.facts[name].folders for name, path in found):
        return REFUSED
    first, *more = parts[1:] if absolute else parts
    if max(found.values()) == 0 and more and not any(first in each.folders for each in world.facts.values()):
        return Expected(State.NO_MIRROR)
    return Expected(State.MISSING)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_it_means_what_the_rules_say(seed: int) -> None:
    rng = random.Random(seed)
    seen: Counter[State] = Counter()
    world = make_world(rng)
    for number in range(PATHS):
        if number % PATHS_IN_A_WORLD == 0:
            world = make_world(rng)
        text = spell(rng, world)
        answer, want = world.resolver.resolve(text), expected(text, world)
        seen[answer.state] += 1
        told = (
            f"{text!r}: {answer}, not {want}, in {[(n, vars(f), world.spellings[n]) for n, f in world.facts.items()]}"
        )
        assert answer.state is want.state, told
        assert want.file is None or (answer.mirror, answer.path) == want.file, told
        assert (answer.reason is Reason.NEVER_LISTED) is (want is NEVER), told
        check_shape(answer)
    assert len(seen) >= 5, seen


# --- any text --------------------------------------------------------------------------------------------------------

FACTS = {
    "A": Facts(
        listed=True, held={"x.pdf", "A/x.pdf", "e\u0301/\N{LATIN SMALL LETTER E WITH ACUTE}.jpg"}, waiting=set()
    ),
    "B": Facts(listed=False, held={"x.pdf"}, waiting=set()),
}
ANY = resolver_over(FACTS, {name: Spellings(name, f"/t/{name}", f"share/{name}", ("y/z",)) for name in FACTS})
PIECES = st.sampled_from(
    ["A", "B", "/", "//", "\\", ".", "..", "%2e", "%00", "%", "%e9", "x.pdf", "smb://", "file://", "h:1@", "C:", "\0",
     "\ud800", "\n", "e\u0301", ".syncd", "._x", "y/z", "\U0001f600", " ", "a" * 300]
)  # fmt: skip
TEXTS = st.one_of(st.text(), st.lists(PIECES, max_size=40).map("".join), st.lists(PIECES, max_size=40).map("/".join))


def check_shape(answer: Resolution) -> None:
    """Only READY has a file's facts; everything else has a reason; a mirror comes with its path."""
    facts = (answer.local_path, answer.size, answer.sha256, answer.generation)
    is_ready = answer.state is State.READY
    assert all((fact is not None) is is_ready for fact in facts), answer
    assert (answer.reason is None) is is_ready, answer
    assert (answer.retry_after_s is not None) is (answer.state in (State.FETCHING, State.UNAVAILABLE)), answer
    assert answer.server_path == (f"{answer.mirror}/{answer.path}" if answer.mirror else ""), answer
    assert (len(answer.candidates) > 1) is (answer.state is State.AMBIGUOUS), answer


@settings(max_examples=20_000 if EXHAUSTIVE else 500, deadline=None)
@given(TEXTS)
@example("")
@example("/".join("A" * 10_000))
@example("A/" * 8_000)
@example("/".join(["x"] * 10_000))
@example("\\" * 16_000)
@example("%2e%2e/" * 2_000)
@example("é" * 16_000)
@example("\ud800/A/x.pdf")
@example("a" * 1_000_000)
def test_any_text_gets_an_answer_soon(text: str) -> None:
    began = time.perf_counter()
    answer = ANY.resolve(text)
    assert time.perf_counter() - began < SLOW_S
    check_shape(answer)
    if answer.state is State.READY:
        assert answer.path in FACTS[answer.mirror].held
        assert ".." not in text.split("/")


@settings(max_examples=20_000 if EXHAUSTIVE else 200, deadline=None)
@given(TEXTS)
def test_what_is_known_to_be_of_a_mirror_gets_an_answer_too(text: str) -> None:
    answer = ANY.resolve_in("A", RelPath(text))
    check_shape(answer)
    assert answer.mirror in ("", "A")
    assert answer.state is not State.READY or answer.path in FACTS["A"].held
