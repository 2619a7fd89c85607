"""Opening a target: first runs, known targets that are gone, targets of others, looking without writing."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from syncd.core.errors import DiskFull, SyncdError, TargetForeign, TargetMissing, TargetUnsafe, TargetUnusable
from syncd.store import owner as ownership
from syncd.store import probe
from tests.support.mirrors import US, opened, peeked, put, rel, snapshot

PARTS = ["staging", "trash", "pins"]


def owner_of(target: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((target / ".syncd/owner").read_text())
    return found


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_first_run_makes_the_target_and_writes_whose_it_is(tmp_path: Path) -> None:
    target = tmp_path / "data" / "deep" / "Bhushanji"
    opened(target).close()
    owner = owner_of(target)
    assert (owner["mirror_uid"], owner["mirror"]) == ("uid-1", "Bhushanji")
    assert (owner["host_id"], owner["host"]) == ("host-1", "tod-mac")
    assert owner["version"] == 1
    assert str(owner["created_at"]).endswith("Z")
    assert owner["traits"] == {"folds_case": False, "folds_unicode": False, "hard_links": True}
    assert [mode(target / ".syncd" / part) for part in PARTS] == [0o700, 0o700, 0o755]
    assert mode(target / ".syncd/owner") == 0o644
    assert sorted(os.listdir(target / ".syncd")) == ["owner", "pins", "staging", "trash"]
    assert os.listdir(target / ".syncd/staging") == []


def test_traits_are_probed_once_and_again_on_another_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(tmp_path / "t").close()
    probes = []

    def count(folder: int) -> probe.Traits:
        probes.append(folder)
        return probe.Traits(folds_case=True, folds_unicode=True, hard_links=False)

    monkeypatch.setattr(ownership, "probe_traits", count)
    mirror = opened(tmp_path / "t", known=True)
    assert probes == []
    assert mirror.traits.hard_links
    mirror.close()
    monkeypatch.setattr(ownership, "file_system_of", lambda root: "exfat")
    mirror = opened(tmp_path / "t", known=True)
    assert len(probes) == 1
    assert mirror.traits.folds_case
    mirror.close()
    assert owner_of(tmp_path / "t")["file_system"] == "exfat"


def test_a_target_filled_by_hand_keeps_its_files(tmp_path: Path) -> None:
    (tmp_path / "t/eng-typed").mkdir(parents=True)
    (tmp_path / "t/eng-typed/letter 1 .pdf").write_bytes(b"by hand")
    mirror = opened(tmp_path / "t")
    assert mirror.list_local(rel("")) is not None
    assert list(mirror.list_local(rel("")) or {}) == ["eng-typed"]
    mirror.close()
    assert (tmp_path / "t/eng-typed/letter 1 .pdf").read_bytes() == b"by hand"


@pytest.mark.parametrize("look", [opened, peeked])
def test_a_known_target_that_is_gone_is_missing_and_nothing_is_made(tmp_path: Path, look: object) -> None:
    assert callable(look)
    with pytest.raises(TargetMissing) as caught:
        look(tmp_path / "t", known=True)
    assert caught.value.exit_code == 13
    assert "--new-target" in caught.value.hint
    (tmp_path / "t").mkdir()  # an empty mount point
    with pytest.raises(TargetMissing):
        look(tmp_path / "t", known=True)
    (tmp_path / "t/.syncd").mkdir()
    with pytest.raises(TargetMissing):
        look(tmp_path / "t", known=True)
    assert snapshot(tmp_path) == {"t": "drwxr-xr-x", "t/.syncd": "drwxr-xr-x"}


def test_new_target_starts_over(tmp_path: Path) -> None:
    mirror = opened(tmp_path / "t", known=True, new_target=True)
    assert mirror.owner.mirror_uid == "uid-1"
    mirror.close()
    opened(tmp_path / "t", known=True).close()


@pytest.mark.parametrize("look", [opened, peeked])
@pytest.mark.parametrize("known", [True, False])
def test_a_target_of_another_host_is_foreign_and_says_whose(tmp_path: Path, look: object, known: bool) -> None:
    assert callable(look)
    opened(tmp_path / "t", host_id="host-9", host_name="othe\x1br-mac", mirror_uid="uid-9").close()
    before = snapshot(tmp_path)
    for new_target in (False, True):
        with pytest.raises(TargetForeign) as caught:
            look(tmp_path / "t", known=known, new_target=new_target)
        assert "Bhushanji" in caught.value.message
        assert "r-mac" in caught.value.message
        assert "\x1b" not in caught.value.message
        assert "--take-over" in caught.value.hint
    assert snapshot(tmp_path) == before


def test_a_target_of_another_mirror_is_foreign(tmp_path: Path) -> None:
    opened(tmp_path / "t", mirror_name="newsletters", mirror_uid="uid-2").close()
    with pytest.raises(TargetForeign, match="newsletters"):
        opened(tmp_path / "t")


def test_take_over_makes_it_ours(tmp_path: Path) -> None:
    theirs = opened(tmp_path / "t", host_id="host-9", mirror_uid="uid-9")
    put(theirs, "a.pdf", b"a")
    theirs.close()
    looking = peeked(tmp_path / "t", take_over=True)
    assert looking is not None
    looking.close()
    assert owner_of(tmp_path / "t")["host_id"] == "host-9"
    mirror = opened(tmp_path / "t", take_over=True)
    assert mirror.owner.mirror_uid == "uid-1"
    assert list(mirror.list_local(rel("")) or {}) == ["a.pdf"]
    mirror.close()
    assert owner_of(tmp_path / "t")["host_id"] == "host-1"


def test_a_lost_catalogue_finds_its_mirror_by_host_and_name(tmp_path: Path) -> None:
    opened(tmp_path / "t", mirror_uid="uid-of-old").close()
    mirror = opened(tmp_path / "t", mirror_uid="uid-made-up-now")
    assert mirror.owner.mirror_uid == "uid-of-old"
    mirror.close()
    opened(tmp_path / "t", mirror_uid="uid-of-old", known=True).close()


def test_a_disk_of_an_earlier_life_is_foreign_to_a_catalogue_that_knows_better(tmp_path: Path) -> None:
    opened(tmp_path / "t", mirror_uid="uid-of-old").close()
    with pytest.raises(TargetForeign):
        opened(tmp_path / "t", known=True)
    mirror = opened(tmp_path / "t", known=True, new_target=True)
    assert mirror.owner.mirror_uid == "uid-1"
    mirror.close()
    assert owner_of(tmp_path / "t")["mirror_uid"] == "uid-1"


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"null", b'{"version": 2}', b"\xff\xfe", b'{"mirror_uid": 1}', b"[" * 100_000]
)
def test_an_owner_file_that_cannot_be_read_is_nobodys_until_taken_over(tmp_path: Path, text: bytes) -> None:
    opened(tmp_path / "t").close()
    (tmp_path / "t/.syncd/owner").write_bytes(text)
    for look in (opened, peeked):
        with pytest.raises(TargetForeign):
            look(tmp_path / "t", known=True)
    opened(tmp_path / "t", known=True, take_over=True).close()
    opened(tmp_path / "t", known=True).close()


def test_an_owner_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    opened(tmp_path / "t").close()
    owner = owner_of(tmp_path / "t") | {"version": 2}
    (tmp_path / "t/.syncd/owner").write_text(json.dumps(owner))
    with pytest.raises(TargetForeign, match="version 2"):
        opened(tmp_path / "t", known=True)


# --- looking only


def test_peek_makes_and_writes_nothing(tmp_path: Path) -> None:
    assert peeked(tmp_path / "a" / "t") is None
    (tmp_path / "t").mkdir()
    (tmp_path / "t/x.pdf").write_bytes(b"x")
    before = snapshot(tmp_path)
    mirror = peeked(tmp_path / "t")
    assert mirror is not None
    assert list(mirror.list_local(rel("")) or {}) == ["x.pdf"]
    assert list(mirror.trash()) == []
    assert list(mirror.read_manifest()) == []
    assert mirror.hash_local(rel("x.pdf"))[1].size == 1
    assert mirror.room().free_bytes > 0
    for write in (
        mirror.stage,
        mirror.sync_directories,
        lambda: mirror.make_directory(rel("new")),
        lambda: mirror.purge("x"),
        lambda: mirror.write_manifest([]),
    ):
        with pytest.raises(TargetUnusable):
            write()
    mirror.close()
    assert snapshot(tmp_path) == before


def test_peek_takes_traits_from_the_record_else_guesses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(tmp_path / "t").close()
    owner = owner_of(tmp_path / "t")
    owner["traits"] = {"folds_case": True, "folds_unicode": False, "hard_links": False}
    (tmp_path / "t/.syncd/owner").write_text(json.dumps(owner))
    mirror = peeked(tmp_path / "t", known=True)
    assert mirror is not None
    assert mirror.traits == probe.Traits(folds_case=True, folds_unicode=False, hard_links=False)
    mirror.close()
    (tmp_path / "u").mkdir()
    monkeypatch.setattr("syncd.store.mirror.file_system_of", lambda root: "exfat")
    mirror = peeked(tmp_path / "u")
    assert mirror is not None
    assert mirror.traits == probe.Traits(folds_case=True, folds_unicode=False, hard_links=False)
    mirror.close()


# --- targets that cannot be used


def test_a_target_that_is_a_file_is_unusable(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for target in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(TargetUnusable) as caught:
            opened(target)
        assert caught.value.exit_code == 2
        assert caught.value.hint


def test_links_that_lead_in_a_circle_are_unusable(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(TargetUnusable):
        opened(tmp_path / "loop" / "t")


def test_links_above_the_target_are_the_users_choice(tmp_path: Path) -> None:
    (tmp_path / "big-disk").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "big-disk")
    mirror = opened(tmp_path / "data" / "t")
    put(mirror, "a.pdf", b"a")
    mirror.close()
    assert (tmp_path / "big-disk/t/a.pdf").read_bytes() == b"a"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
@pytest.mark.parametrize("part", ["", ".syncd", ".syncd/staging", ".syncd/trash"])
def test_without_permission_the_target_is_unusable(tmp_path: Path, part: str) -> None:
    opened(tmp_path / "t").close()
    for folder, _, _ in os.walk(tmp_path):
        os.chmod(folder, 0o755)
        os.chown(folder, 65534, 65534)
    os.chown(tmp_path / "t" / part, 0, 0)
    code = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {os.getcwd()!r})
from syncd.store.mirror import DiskMirror
from syncd.core.errors import TargetUnusable
os.setgid(65534); os.setuid(65534)
try:
    DiskMirror.open(Path({str(tmp_path / "t")!r}), **{ {**US, "known": True}!r})
except TargetUnusable as error:
    print(error.exit_code, error.hint)
"""
    for above in tmp_path.parents:
        if above.owner() == "root" and not above.stat().st_mode & 0o001:
            above.chmod(above.stat().st_mode | 0o011)
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert answer.stderr == ""
    assert answer.stdout.startswith("2 chown")


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC])
def test_a_failure_while_the_owner_is_written_leaves_no_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(ownership, "sync_descriptor", fail)
        (tmp_path / "t/.syncd").mkdir(parents=True)
        with pytest.raises((TargetUnusable, DiskFull)):
            opened(tmp_path / "t")
    assert os.listdir(tmp_path / "t/.syncd") == []
    opened(tmp_path / "t").close()


# --- links planted inside


@pytest.mark.parametrize("part", [".syncd", *[f".syncd/{name}" for name in (*PARTS, "owner", "manifest.jsonl")]])
@pytest.mark.parametrize("look", [opened, peeked])
def test_a_planted_link_in_place_of_our_own_parts_is_refused(tmp_path: Path, part: str, look: object) -> None:
    assert callable(look)
    outside = tmp_path / "outside"
    opened(tmp_path / "t").close()
    (tmp_path / "t/.syncd/manifest.jsonl").write_bytes(b"")
    (tmp_path / "t" / part).rename(outside)
    (tmp_path / "t" / part).symlink_to(outside)
    before = snapshot(tmp_path)
    for known in (True, False):
        with pytest.raises(TargetUnsafe) as caught:
            look(tmp_path / "t", known=known)
        assert caught.value.exit_code == 13
        assert isinstance(caught.value, SyncdError)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("part", [".syncd", *[f".syncd/{name}" for name in PARTS]])
def test_a_file_in_place_of_our_own_folders_is_refused(tmp_path: Path, part: str) -> None:
    opened(tmp_path / "t").close()
    (tmp_path / "t" / part).rename(tmp_path / "aside")
    (tmp_path / "t" / part).write_bytes(b"")
    with pytest.raises(TargetUnsafe):
        opened(tmp_path / "t", known=True)


def test_no_handle_is_left_open(tmp_path: Path) -> None:
    before = sorted(os.listdir("/proc/self/fd")) if sys.platform == "linux" else []
    mirror = opened(tmp_path / "t")
    for number in range(20):
        put(mirror, f"d{number}/e/f", b"x")
    mirror.close()
    mirror.close()
    with pytest.raises(TargetMissing):
        opened(tmp_path / "gone", known=True)
    with pytest.raises(TargetForeign):
        opened(tmp_path / "t", host_id="other")
    peek = peeked(tmp_path / "t")
    assert peek is not None
    peek.close()
    if sys.platform == "linux":
        assert sorted(os.listdir("/proc/self/fd")) == before
