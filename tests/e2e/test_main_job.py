"""The main job: a collection on a real Samba share becomes a verified local mirror, by the commands a person types."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Syncd
from tests.support.smbd import SmbServer, start_smbd

NAMES = [
    "letter 1 .pdf",
    "two  spaces.PDF",
    "a, b (copy).jpg",
    "-rf.jpg",
    "पत्र ३ .JPG",
    "e\u0301 NFD.jpg",
    "é NFC.jpg",
    "dots.in.the.stem.tiff",
    ".hidden.jpg",
    "~tilde~1x.jpg",
    "UPPER.JPEG",
    "empty.jpg",
]


@pytest.fixture
def share(tmp_path: Path) -> Iterator[SmbServer]:
    root = tmp_path / "share"
    root.mkdir()
    with start_smbd(tmp_path / "smbd", root=root) as server:
        yield server


@pytest.fixture
def syncd(tmp_path: Path, share: SmbServer) -> Syncd:
    host = Syncd(tmp_path)
    host.add_mirror("Bhushanji", share.url(), tmp_path / "data" / "Bhushanji", share.password_file)
    return host


def fill(root: Path, count: int, seed: int = 1) -> None:
    """Write `count` mixed files: odd names, deep folders, sizes from 0 to some MB, mtimes in the past."""
    made = random.Random(seed)
    for n in range(count):
        folder = root / f"set {n % 37:02}" / ("deep/er and deeper" if n % 5 == 0 else "pages")
        folder.mkdir(parents=True, exist_ok=True)
        size = 0 if n % 97 == 0 else 3_000_000 if n % 1999 == 7 else made.randrange(1, 20_000)
        path = folder / f"{n:05} {NAMES[n % len(NAMES)]}"
        path.write_bytes(made.randbytes(size))
        os.utime(path, ns=(10**18, 10**18 + n * 1_000_000_100))


def tree_digest(root: Path) -> str:
    """Hash names, types, modes, mtimes and contents of a tree."""
    total = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        found = path.lstat()
        total.update(f"{path}|{found.st_mode}|{found.st_mtime_ns}|{found.st_size}|".encode())
        if path.is_file():
            total.update(path.read_bytes())
    return total.hexdigest()


def same(left: Path, right: Path) -> str:
    done = subprocess.run(
        ["diff", "-r", "-x", ".syncd", str(left), str(right)], capture_output=True, check=False, timeout=100
    )
    return done.stdout.decode() + done.stderr.decode()


@pytest.mark.timeout(300)
def test_ten_thousand_mixed_files_arrive_whole_and_the_source_is_untouched(
    tmp_path: Path, share: SmbServer, syncd: Syncd
) -> None:
    fill(share.root, 10_000)
    (share.root / "empty folder").mkdir()
    before = tree_digest(share.root)
    done = syncd.run_once()
    assert done.code == 0, done.err
    (mirror,) = done.json["mirrors"]
    size = sum(path.stat().st_size for path in share.root.rglob("*") if path.is_file())
    assert (mirror["scanned"], mirror["fetched"], mirror["bytes"]) == (10_000, 10_000, size)
    assert (mirror["name"], mirror["state"], mirror["failed"], mirror["failures"]) == ("Bhushanji", "ok", 0, [])
    target = tmp_path / "data" / "Bhushanji"
    assert same(share.root, target) == ""
    sums = tmp_path / "sums"
    sums.write_text(syncd("manifest").out)
    checked = subprocess.run(["sha256sum", "-c", "--quiet", str(sums)], cwd=target, check=False, timeout=100)
    assert checked.returncode == 0
    assert len(sums.read_text().splitlines()) == 10_000
    some = next(path for path in share.root.rglob("*.pdf"))
    assert (target / some.relative_to(share.root)).stat().st_mtime_ns // 100 == some.stat().st_mtime_ns // 100
    again = syncd.run_once().json["mirrors"][0]
    assert (again["fetched"], again["unchanged"], again["bytes"]) == (0, 10_000, 0)
    assert tree_digest(share.root) == before
    assert share.open_files() == []
    status = syncd("status", "--json")
    assert status.code == 0
    assert status.json["mirrors"][0]["files"] == 10_000
    assert syncd("verify", "--sample", "10%").code == 0


def test_edits_renames_and_removals_follow(tmp_path: Path, share: SmbServer, syncd: Syncd) -> None:
    fill(share.root, 60)
    syncd.run_once()
    target = tmp_path / "data" / "Bhushanji"
    (share.root / "set 01").rename(share.root / "set 01 renamed")
    victim = next((share.root / "set 02").rglob("*.*"))
    victim.write_bytes(b"edited")
    os.utime(victim, ns=(10**18, 2 * 10**18 // 3))
    gone = next((share.root / "set 03").rglob("*.*"))
    gone.unlink()
    renamed = sum(1 for path in (share.root / "set 01 renamed").rglob("*") if path.is_file())
    first = syncd.run_once().json["mirrors"][0]
    assert (first["renamed"], first["fetched"], first["retired"]) == (renamed, 1, 0)
    plan = syncd.run_once("--dry-run").json["mirrors"][0]["plan"]
    path = str(gone.relative_to(share.root))
    assert plan == [{"action": "retire", "path": path, "reason": "removed"}]
    assert syncd.run_once().json["mirrors"][0]["retired"] == 1
    assert same(share.root, target) == ""
    assert path in syncd("trash", "list").out
    assert syncd("trash", "restore", path, "--to", str(tmp_path / "rescued")).code == 0
    assert (tmp_path / "rescued" / path).is_file()
    assert syncd("trash", "purge", "--yes").code == 0
    assert syncd("trash", "list", "--json").out == ""
    assert syncd("runs").code == 0


def test_mangled_names_are_refused_with_the_remedy(share: SmbServer, syncd: Syncd) -> None:
    for name in ("good.jpg", "what?.jpg", "a:b.jpg", "trailing dot."):
        (share.root / name).write_bytes(b"x")
        os.utime(share.root / name, (10**9, 10**9))
    done = syncd.run_once()
    mirror = done.json["mirrors"][0]
    assert (done.code, mirror["fetched"], mirror["refused"]) == (0, 1, 3)
    assert {refusal["reason"] for refusal in mirror["refusals"]} == {"name_mangled"}
    assert "mangled names = no" in mirror["refusals"][0]["hint"]
    status = syncd("status")
    assert status.code == 0
    assert "mangled names = no" in status.out


def test_why_knows_a_path_in_any_spelling(tmp_path: Path, share: SmbServer, syncd: Syncd) -> None:
    fill(share.root, 20)
    syncd.run_once()
    path = next(share.root.rglob("*.pdf")).relative_to(share.root)
    for spelling in (
        str(path),
        f"Bhushanji/{path}",
        f"/app/Bhushanji/{path}",
        f"/mnt/sda1/mango1_home/Bhushanji/{path}",
        f"smb://{share.host}:{share.port}/gvpocr-bhushanji/{path}",
        "\\\\server\\gvpocr-bhushanji\\" + str(path).replace("/", "\\"),
        str(tmp_path / "data" / "Bhushanji" / path),
    ):
        done = syncd("why", spelling, "--json")
        assert (done.code, done.json["state"], done.json["path"]) == (0, "held", str(path)), spelling
    assert "leaves it out" in syncd("why", "Bhushanji/x/._junk.jpg").out
    near = syncd("why", "Bhushanji/" + str(path).upper(), "--json").json
    assert str(path) in near["near"]


def test_two_mirrors_one_of_them_down(tmp_path: Path, share: SmbServer, syncd: Syncd) -> None:
    fill(share.root, 5)
    syncd.add_mirror("gone", share.url(share="no-such-share"), tmp_path / "data" / "gone", share.password_file)
    done = syncd.run_once()
    assert done.code == 10
    states = {mirror["name"]: mirror["state"] for mirror in done.json["mirrors"]}
    assert states == {"Bhushanji": "ok", "gone": "failing"}
    assert "no-such-share" in done.err
    status = syncd("status", "--json")
    assert status.code == 3
    assert syncd.run_once("--mirror", "Bhushanji").code == 0
    assert syncd.run_once("--mirror", "nobody").code == 2


def test_a_password_never_shows(tmp_path: Path, share: SmbServer, syncd: Syncd) -> None:
    fill(share.root, 3)
    outputs = [syncd.run_once(), syncd("status", "--json"), syncd("doctor", "--json"), syncd("runs")]
    share.password_file.write_text("wrong-" + share.password)
    outputs += [syncd.run_once(), syncd("status")]
    assert outputs[-2].code == 12
    for done in outputs:
        assert share.password not in done.out + done.err
    for path in tmp_path.joinpath("state").rglob("*"):
        if path.is_file():
            assert share.password.encode() not in path.read_bytes()
