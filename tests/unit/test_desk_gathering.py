"""From an operator's words to the files of a job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from syncd.core.errors import ConfigError
from syncd.core.reasons import Reason
from syncd.core.resolution import State
from tests.support.desk_fakes import FakeListing, FakePaths
from worker_glue.desk.checking import Group, again, of_gathered
from worker_glue.desk.gathering import TWICE_SHOWN, gather, locate, queued, refuse_troubles, refuse_twice
from worker_glue.desk.listing import DaemonListing, LocalListing, ManifestListing, Together

STATES: dict[str, State | Reason] = {
    "eng/b.PDF": State.READY,
    "eng/a.jpg": State.FETCHING,
    "eng/deep/c.tiff": State.UNAVAILABLE,
    "hin/x .JPG": State.READY,
    "hin/bad.jpg": Reason.NAME_RESERVED,
}


def names(gathered: Any) -> list[str]:
    return [each.path for each in gathered.files]


@pytest.mark.parametrize(
    "name", ["a.jpg", "b/a .JPEG", "x.Pdf", ".hidden.png", "a.b.c.TIFF", "a.bmp", "a.gif", "a.webp"]
)
def test_types_that_the_server_queues(name: str) -> None:
    assert queued(name)


@pytest.mark.parametrize("name", ["a.txt", "a.tif", "._a.jpg", "b/._a.jpg", "jpg", "a.jpg/b", ".DS_Store", ""])
def test_types_that_it_does_not(name: str) -> None:
    assert not queued(name)


def test_a_folder_by_path_with_what_is_on_its_way() -> None:
    listing = FakeListing(
        ["eng/b.PDF", "eng/a.jpg", "eng/a.jpg", "eng/deep/c.tiff", "eng/n.txt", "eng/._a.jpg", "hin/y"]
    )
    assert names(gather(["M/eng"], FakePaths(STATES), listing)) == ["M/eng/a.jpg", "M/eng/b.PDF", "M/eng/deep/c.tiff"]


def test_words_in_their_order_and_each_file_once() -> None:
    found = gather(["M/hin/x .JPG", "M", "M/eng/a.jpg"], FakePaths(STATES), FakeListing(STATES))
    assert names(found) == ["M/hin/x .JPG", "M/eng/a.jpg", "M/eng/b.PDF", "M/eng/deep/c.tiff"]
    assert [each.path for each in found.left_out] == ["M/hin/bad.jpg"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["M/eng/a.jpg", "M/eng/a.jpg"], ["'M/eng/a.jpg': by 'M/eng/a.jpg' and by 'M/eng/a.jpg'"]),
        (["M/eng/a.jpg", "M/hin", "M/eng/deep", "M/eng"], [
            "'M/eng/a.jpg': by 'M/eng/a.jpg' and by 'M/eng'",
            "'M/eng/deep/c.tiff': by 'M/eng/deep' and by 'M/eng'",
        ]),
    ],
)  # fmt: skip
def test_a_file_that_two_words_name_is_refused_by_its_name(words: list[str], said: list[str]) -> None:
    found = gather(words, FakePaths(STATES), FakeListing(STATES))
    with pytest.raises(ConfigError, match="named twice") as refused:
        refuse_twice(found, "Nothing was submitted.")
    assert list(refused.value.problems) == said
    assert "Nothing was submitted" in refused.value.message
    refuse_twice(gather(["M"], FakePaths(STATES), FakeListing(STATES)), "")


def test_of_many_that_are_named_twice_some_are_shown() -> None:
    states = {f"eng/{number}.jpg": State.READY for number in range(TWICE_SHOWN + 3)}
    found = gather(["M", "M/eng", "M/eng"], FakePaths(states), FakeListing(states))
    with pytest.raises(ConfigError, match=f"{TWICE_SHOWN + 3} files") as refused:
        refuse_twice(found, "")
    assert len(refused.value.problems) == TWICE_SHOWN + 1
    assert refused.value.problems[-1] == "and 3 more"


def test_a_strangers_file_in_the_mirror_is_no_task() -> None:
    assert names(gather(["M/eng"], FakePaths(STATES), FakeListing(["eng/a.jpg", "eng/stranger.jpg"]))) == [
        "M/eng/a.jpg"
    ]


@pytest.mark.parametrize(
    ("word", "said"),
    [("M/eng/nix.jpg", "near: M/eng/a.jpg"), ("M/hin/bad.jpg", "reserved"), ("/etc/passwd", "not on the share")],
)
def test_words_that_mean_nothing(word: str, said: str) -> None:
    found = gather([word, "M/eng"], FakePaths(STATES, near=["M/eng/a.jpg"]), FakeListing(STATES))
    assert said in found.troubles[0].why
    with pytest.raises(ConfigError, match="Nothing was done"):
        refuse_troubles(found, "Nothing was done.")


def test_an_empty_folder_and_a_file_of_another_type() -> None:
    paths = FakePaths({**STATES, "txt/a.txt": State.READY})
    found = gather(["M/txt", "M/txt/a.txt"], paths, FakeListing(["txt/a.txt"]))
    assert len(found.troubles) == 2
    assert not found.files


def test_a_folder_of_refused_names_only() -> None:
    found = gather(["M/hin"], FakePaths({"hin/bad.jpg": Reason.LINK}), FakeListing(["hin/bad.jpg"]))
    with pytest.raises(ConfigError, match="1 can never be had"):
        refuse_troubles(found, "")


def test_a_mirror_that_was_never_listed_is_no_file(tmp_path: Path) -> None:
    class Unlisted(FakePaths):
        def resolve(self, path: str) -> Any:
            return super().resolve(path)._replace(state=State.FETCHING, reason=Reason.NEVER_LISTED)

    assert "complete look" in gather(["M/a.jpg"], Unlisted({}), FakeListing([])).troubles[0].why


def test_a_path_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "eng").mkdir()
    (tmp_path / "eng" / "a.jpg").touch()
    monkeypatch.chdir(tmp_path / "eng")

    class Local(FakePaths):
        def resolve(self, path: str) -> Any:
            return super().resolve(path.replace(str(tmp_path), "M"))

    assert locate("a.jpg", Local(STATES)).server_path == "M/eng/a.jpg"
    assert locate("nix.jpg", Local(STATES)).state is State.MISSING
    assert names(gather(["."], Local(STATES), FakeListing(STATES)))[0] == "M/eng/a.jpg"


# --- listings


def test_listings_together(tmp_path: Path) -> None:
    (tmp_path / ".syncd").mkdir()
    lines = [{"path": "a/1.jpg"}, {"path": "ab/2.jpg"}, {"path": "a/b/3.jpg"}, 7]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (tmp_path / ".syncd" / "manifest.jsonl").write_text(text + "{torn")
    (tmp_path / "a" / ".syncd").mkdir(parents=True)
    (tmp_path / "a" / ".syncd" / "deep.jpg").touch()
    (tmp_path / "a" / "1.jpg").touch()
    (tmp_path / "top.jpg").touch()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    targets = {"M": tmp_path}
    manifest, local = ManifestListing(targets), LocalListing(targets)
    assert list(manifest.files("M", "a")) == ["a/1.jpg", "a/b/3.jpg"]
    assert len(list(manifest.files("M", ""))) == 3
    assert sorted(local.files("M", "")) == ["a/.syncd/deep.jpg", "a/1.jpg", "top.jpg"]
    assert sorted(local.files("M", "a")) == ["a/.syncd/deep.jpg", "a/1.jpg"]
    assert list(local.files("N", "")) == list(manifest.files("N", "")) == []
    together = list(Together([manifest, local]).files("M", "a"))
    assert sorted(together) == ["a/.syncd/deep.jpg", "a/1.jpg", "a/b/3.jpg"]


def test_no_manifest_and_no_folder(tmp_path: Path) -> None:
    assert list(ManifestListing({"M": tmp_path / "nix"}).files("M", "")) == []
    assert list(LocalListing({"M": tmp_path / "nix"}).files("M", "")) == []


def test_the_daemons_folders() -> None:
    tree = {
        "": {"folders": [{"name": "a"}], "files": [{"name": "t.jpg"}], "missing": []},
        "a": {"folders": [], "files": [], "missing": [{"name": "new.jpg"}]},
    }

    class Daemon:
        def folder(self, mirror: str, path: str = "") -> dict[str, Any] | None:
            return tree.get(path) if mirror == "M" else None

    assert sorted(DaemonListing(Daemon()).files("M", "")) == ["a/new.jpg", "t.jpg"]
    assert list(DaemonListing(Daemon()).files("N", "")) == []


# --- check


def test_check_counts_and_lists() -> None:
    checked = of_gathered(gather(["M", "M/nix.jpg"], FakePaths(STATES), FakeListing(STATES)))
    assert checked.counts == {"ready": 2, "to_fetch": 2, "missing": 1, "refused": 1}
    assert [each.path for each in checked.of(Group.REFUSED)] == ["M/hin/bad.jpg"]
    assert not checked.all_ready
    told = checked.as_json()
    assert (told["bytes_ready"], len(told["files"]), len(told["troubles"])) == (20, 4, 0)


def test_check_again_asks_only_for_what_was_not_ready() -> None:
    paths = FakePaths(STATES)
    checked = of_gathered(gather(["M/eng"], paths, FakeListing(STATES)))
    paths.states.update({"eng/a.jpg": State.READY, "eng/deep/c.tiff": State.READY})
    paths.asked.clear()
    assert again(checked, paths).all_ready
    assert len(paths.asked) == 2
