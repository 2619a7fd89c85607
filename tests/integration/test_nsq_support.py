"""The helpers of these tests: they find what is wrong, and build what is missing once."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support import gobuild
from tests.support.consumer import Consuming
from tests.support.gobuild import BuildFailed, Recipe, Workshop, built, is_built
from tests.support.nsqd import start_nsqd

# --- the consumer


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def message(path: str, content: bytes, generation: int, event: str = "ready") -> bytes:
    sha256 = digest(content)
    known = {"mirror": "M", "path": path, "event": event, "generation": generation, "size": len(content)}
    return json.dumps({**known, "sha256": sha256, "id": f"h|M|{path}|{sha256}|{generation}"}).encode()


def test_false_claims_are_found_and_superseded_ones_forgiven(tmp_path: Path) -> None:
    target = tmp_path / "M"
    target.mkdir()
    (target / "true").write_bytes(b"1")
    (target / "replaced").write_bytes(b"2")
    (target / "false").write_bytes(b"other")
    with start_nsqd(tmp_path) as nsqd:
        nsqd.make_channel("t", "claims")
        with Consuming(nsqd.tcp_port, {"M": target}, "t", "claims") as consumer:
            nsqd.publish("t", message("true", b"1", 1), message("replaced", b"1", 1), message("replaced", b"2", 2))
            until(lambda: len(consumer.heard) == 3)
            assert consumer.untrue() == []
            nsqd.restart()
            nsqd.publish(
                "t", message("false", b"3", 1), message("absent", b"3", 1), message("true", b"1", 2, "removed")
            )
            until(lambda: len(consumer.heard) >= 6)  # more: nsqd may tell of one again after its restart
            until(lambda: {heard.key[1] for heard in consumer.untrue()} == {"absent", "false"})
            held = {("M", "replaced"): {"sha256": digest(b"2"), "generation": 2}}
            assert len(consumer.unannounced(held)) == 2, "announced as ready, and not held: false, absent"
            held[("M", "new")] = {"sha256": digest(b"4"), "generation": 1}
            assert len(consumer.unannounced(held)) == 3, "held, and not announced: new"
            held[("M", "replaced")] = {"sha256": digest(b"2"), "generation": 3}
            assert len(consumer.unannounced(held)) == 4, "an older state was announced of it"


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- gobuild


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(gobuild, "find_go", lambda: "go")
    return tmp_path / "syncd-tests"


def _make(shop: Workshop) -> None:
    with (shop.folder.parent.parent / "count").open("a") as count:
        count.write("x")
    time.sleep(0.3)
    (shop.programs / "tool").write_text("program")


def _forget_one(shop: Workshop) -> None:
    (shop.programs / "other").write_text("program")


def _break(_shop: Workshop) -> None:
    raise BuildFailed("no compiler")


MADE = Recipe("made", "1", ("tool",), _make)


def test_two_builders_at_once_build_once(cache: Path) -> None:
    with ThreadPoolExecutor(3) as builders:  # each takes the lock on a descriptor of its own, as processes do
        places = list(builders.map(built, [MADE] * 3))
    assert len(set(places)) == 1
    assert (cache / "count").read_text() == "x"
    assert (built(MADE) / "tool").read_text() == "program"
    assert {path.name for path in cache.iterdir()} == {"count", MADE.key, f"{MADE.key}.lock"}


def test_another_version_or_input_is_another_build(cache: Path) -> None:
    assert built(MADE) != built(Recipe("made", "2", ("tool",), _make))
    assert built(MADE) != built(Recipe("made", "1", ("tool",), _make, inputs=("patch",)))
    assert (cache / "count").read_text() == "xxx"


@pytest.mark.parametrize("build", [_forget_one, _break])
def test_a_build_that_failed_leaves_nothing(cache: Path, build: object) -> None:
    recipe = Recipe("broken", "1", ("tool",), build)  # type: ignore[arg-type]
    with pytest.raises(BuildFailed, match=r"did not make tool|no compiler"):
        built(recipe)
    assert not is_built(recipe)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_a_test_that_needs_it_fails_in_ci_and_is_skipped_by_hand(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe("broken", "3", ("tool",), _break)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="tool 3 cannot be built: no compiler"):
        gobuild.program(recipe, "tool")
    monkeypatch.setenv("CI", "")
    with pytest.raises(pytest.skip.Exception):
        gobuild.program(recipe, "tool")
