"""worker_glue.Resolver against the rule book of the resolver, over real mirrors: by the catalogue, and by the manifests
alone, which know what is held and nothing of what was listed."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from syncd import config
from syncd.app.everything import App
from syncd.config.settings import MirrorSettings
from syncd.config.spellings import spellings_of
from syncd.core.reasons import Reason
from syncd.core.resolution import Resolution, State
from syncd.core.spelling import Spellings
from syncd.engine.clock import Clock
from syncd.sources.memory import Fault, MemorySource
from tests.property import test_resolver_oracle as oracle
from worker_glue.resolver import Resolver

EXHAUSTIVE = bool(os.environ.get("SYNCD_EXHAUSTIVE"))
SEEDS = 4
PATHS = 25_000 if EXHAUSTIVE else 375
PATHS_IN_A_WORLD = 250 if EXHAUSTIVE else 75


class Real(NamedTuple):
    """A world of the rule book, made real: what was drawn has been mirrored, or not."""

    world: oracle.World
    config: Path
    mounts: str


def make_real(rng: random.Random, base: Path) -> Real:
    drawn = oracle.make_world(rng)
    while not any(each.listed for each in drawn.facts.values()):
        drawn = oracle.make_world(rng)  # without any run there is no catalogue to ask
    file = write_config(base, drawn)
    settings = config.load(file, {})
    facts = {name: real_facts(each) for name, each in drawn.facts.items()}
    sources = {name: source_of(each) for name, each in facts.items() if each.listed}

    def opened(mirror: MirrorSettings) -> MemorySource:
        sources[mirror.name]._closed = False
        return sources[mirror.name]

    App(settings, Clock(), opened).run_once(list(sources))
    spellings = {each.name: spellings_of(each) for each in settings.mirrors}
    mounts = ",".join(f"{each.name}={each.target}" for each in settings.mirrors if each.name in sources)
    return Real(oracle.World(facts, spellings, drawn.resolver), file, mounts)


def real_facts(drawn: oracle.Facts) -> oracle.Facts:
    """Return what can be true of a real mirror: one that was never listed holds nothing."""
    return drawn if drawn.listed else oracle.Facts(listed=False, held=set(), waiting=set())


def source_of(facts: oracle.Facts) -> MemorySource:
    """Return a source all of whose files are listed, and those that wait cannot be read."""
    source = MemorySource({path: path.encode() for path in sorted(facts.files)})
    for path in facts.waiting:
        source.fault(path, Fault.UNREADABLE)
    return source


def write_config(base: Path, drawn: oracle.World) -> Path:
    base.mkdir()
    secret = base / "secret"
    secret.touch(0o600)
    secret.write_text("secret")
    lines = [f'[host]\nstate_dir = "{base}/state"\n']
    taken = set(drawn.spellings)
    for name, each in drawn.spellings.items():
        aliases = [alias for alias in each.aliases if alias not in taken]
        taken.update(aliases)
        lines.append(
            f'[[mirror]]\nname = "{name}"\nsource = "smb://u@elsewhere/{each.share}"\ntarget = "{base}/data/{name}"\n'
            f'settle = "0.01s"\nmin_free = "0%"\npassword_file = "{secret}"\naliases = {aliases}\n'.replace("'", '"')
        )
    file = base / "syncd.toml"
    file.write_text("\n".join(lines))
    return file


def check(real: Real, files: Resolver, text: str, want: oracle.Expected, seen: Counter[State]) -> None:
    answer = files.resolve(text)
    seen[answer.state] += 1
    known = [(name, vars(each), real.world.spellings[name]) for name, each in real.world.facts.items()]
    told = f"{text!r}: {answer}, not {want}, in {known}"
    if want.state in (State.MISSING, State.NO_MIRROR) and is_below_what_did_not_come(answer, real.world):
        want = oracle.Expected(State.FETCHING)
    assert answer.state is want.state, told
    assert want.file is None or (answer.mirror, answer.path) == want.file, told
    assert want.reason is None or answer.reason is want.reason, told
    if answer.local_path is not None:
        assert Path(answer.local_path).read_text() == answer.path, told
    oracle.check_shape(answer)


def is_below_what_did_not_come(answer: Resolution, world: oracle.World) -> bool:
    """Say whether a listed file that did not come stands in the place of a folder: what is below it may be there."""
    above = answer.path.split("/")[:-1]
    waiting = world.facts[answer.mirror].waiting if answer.mirror else set()
    return any("/".join(above[: depth + 1]) in waiting for depth in range(len(above)))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_by_the_catalogue_it_means_what_the_rules_say(seed: int, tmp_path: Path) -> None:
    rng, seen = random.Random(seed), Counter[State]()
    for number in range(PATHS // PATHS_IN_A_WORLD):
        real = make_real(rng, tmp_path / str(number))
        with Resolver(real.config, env={}) as files:
            for _ in range(PATHS_IN_A_WORLD):
                text = oracle.spell(rng, real.world)
                check(real, files, text, oracle.expected(text, real.world), seen)
    assert len(seen) >= 5, seen


def by_manifest(text: str, world: oracle.World) -> oracle.Expected:
    """Return what has to be answered where only what is held is known."""
    want = oracle.expected(text, world)
    if want != oracle.NEVER:
        return want
    found, _, _ = oracle.ranked(text, world)
    best = [each for each, rank in found.items() if rank == max(found.values())]
    if len(best) == 1 and (not best[0][1] or best[0][1] in world.facts[best[0][0]].folders):
        return oracle.Expected(State.REFUSED, reason=Reason.FOLDER)
    return oracle.Expected(State.UNAVAILABLE, reason=Reason.SOURCE_UNAVAILABLE)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_by_the_manifests_it_never_says_more_than_they_do(seed: int, tmp_path: Path) -> None:
    rng, seen = random.Random(seed + 100), Counter[State]()
    for number in range(PATHS // PATHS_IN_A_WORLD):
        real = make_real(rng, tmp_path / str(number))
        facts = {
            name: oracle.Facts(listed=False, held=each.held, waiting=set())
            for name, each in real.world.facts.items()
            if each.listed
        }
        spellings = {name: Spellings(name, real.world.spellings[name].target, f"no-share/{name}") for name in facts}
        world = oracle.World(facts, spellings, real.world.resolver)
        with Resolver(env={"SYNCD_CONFIG": "/nowhere", "SYNCD_MOUNTS": real.mounts}) as files:
            for _ in range(PATHS_IN_A_WORLD):
                text = oracle.spell(rng, real.world)
                check(real, files, text, by_manifest(text, world), seen)
    assert len(seen) >= 3, seen
