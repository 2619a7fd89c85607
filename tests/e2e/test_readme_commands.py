"""What a first user does: `python3 dev.py demo`, and `pip install .` on a machine without a compiler."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from syncd import config

ROOT = Path(__file__).resolve().parent.parent.parent
SAMPLE = ROOT / "syncd" / "sample" / "Bhushanji"


def run(argv: list[str | Path], cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(a) for a in argv],
        cwd=cwd,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def tree(folder: Path) -> dict[str, str]:
    files = (p for p in folder.rglob("*") if p.is_file() and ".syncd" not in p.relative_to(folder).parts)
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Copy what is committed; the environment with everything installed is lent to it, so no network is needed."""
    to = tmp_path / "checkout"
    to.mkdir()
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in listed.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    return to


def test_the_example_configuration_mirrors_the_sample_twice(checkout: Path) -> None:
    argv: list[str | Path] = [sys.executable, "-m", "syncd", "-c", "config.example.toml"]
    first = run([*argv, "run-once", "--json"], checkout)
    assert first.returncode == 0, first.stderr
    (mirror,) = json.loads(first.stdout)["mirrors"]
    assert (mirror["fetched"], mirror["failed"], mirror["refused"]) == (len(tree(SAMPLE)), 0, 0)
    assert tree(checkout / "demo" / "data" / "Bhushanji") == tree(SAMPLE)
    (again,) = json.loads(run([*argv, "run-once", "--json"], checkout).stdout)["mirrors"]
    assert (again["fetched"], again["bytes"], again["unchanged"]) == (0, 0, len(tree(SAMPLE)))
    status = run([*argv, "status"], checkout)
    assert status.returncode == 0, status.stderr
    assert "Bhushanji" in status.stdout
    manifest = run([*argv, "manifest"], checkout)
    sums = checkout / "sums"
    sums.write_text(manifest.stdout, encoding="utf-8")
    if shutil.which("sha256sum"):
        checked = run(["sha256sum", "-c", "--quiet", sums], checkout / "demo" / "data" / "Bhushanji", LC_ALL="C.UTF-8")
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_demo_command_runs_twice(checkout: Path) -> None:
    """The environment is stood in for by links to this one's, stamped as installed: only dev.py's own part is new."""
    lend_environment(checkout, "runtime")
    for _ in range(2):
        done = run([sys.executable, "dev.py", "demo"], checkout)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "installing" not in done.stdout
        assert "Bhushanji" in done.stdout
    assert tree(checkout / "demo" / "data" / "Bhushanji") == tree(SAMPLE)


def lend_environment(checkout: Path, *names: str) -> None:
    venv = checkout / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (venv / "bin" / "syncd").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m syncd "$@"\n')
    (venv / "bin" / "syncd").chmod(0o755)
    files = [checkout / "requirements" / f"{name}.lock" for name in ("build", *names)] + [checkout / "pyproject.toml"]
    stamp = hashlib.sha256(b"".join(p.read_bytes() for p in files) + str(checkout).encode()).hexdigest()
    (venv / ("syncd-" + "-".join(names) + ".installed")).write_text(stamp)


def test_the_sample_looks_like_the_real_collection() -> None:
    names = sorted(tree(SAMPLE))
    assert {name.split("/")[0] for name in names} == {"eng-typed", "hin-typed", "hin-written"}
    assert sum(p.stat().st_size for p in SAMPLE.rglob("*") if p.is_file()) < 1_000_000
    bases = [name.split("/")[1] for name in names]
    assert len(bases) - len(set(bases)) >= 1, "the same name in two folders"
    for mark in (" .", "  ", ",", "(", ".JPG", ".PDF", ".TIF", "\u092a"):
        assert any(mark in name for name in names), mark
    kinds = {b"%PDF": 0, b"\xff\xd8\xff\xe0": 0, b"II*\0": 0}
    for path in SAMPLE.rglob("*"):
        if path.is_file():
            kinds[path.read_bytes()[:4]] += 1
    assert min(kinds.values()) >= 2


def test_the_example_configuration_shows_every_key(checkout: Path) -> None:
    import tomllib

    from syncd.config.keys import TABLES

    settings = config.load(checkout / "config.example.toml", {"HOME": str(checkout)})
    assert settings.mirrors[0].source.folder == str(checkout / "syncd" / "sample" / "Bhushanji")
    text = (checkout / "config.example.toml").read_text()
    for keys in TABLES.values():
        for key in keys:
            assert f"\n{key.name} = " in text or f"\n# {key.name} = " in text, key.name
    for line in text.splitlines():
        if line.startswith("# ") and " = " in line:
            tomllib.loads(line[2:])


def test_a_wheel_carries_the_sample_and_the_command(checkout: Path, tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="hatchling is in requirements/build.lock")
    script = f"from hatchling.build import build_wheel; print(build_wheel({str(tmp_path)!r}))"
    done = run([sys.executable, "-c", script], checkout)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(tmp_path / done.stdout.split()[-1]) as wheel:
        names = wheel.namelist()
        entry = next(n for n in names if n.endswith("entry_points.txt"))
        assert "syncd = syncd.cli.main:main" in wheel.read(entry).decode()
    assert {f"syncd/sample/Bhushanji/{name}" for name in tree(SAMPLE)} <= set(names)
    assert any(n.endswith("licenses/LICENSE") for n in names)
    assert not any(n.startswith(("tests/", "bench/", "scripts/")) for n in names)


def test_lock_files_name_no_place_to_download_from() -> None:
    for lock in (ROOT / "requirements").glob("*.lock"):
        text = lock.read_text()
        assert "://" not in text
        assert "--hash=sha256:" in text
        assert "==" in text


def test_an_old_python_is_told_so(checkout: Path) -> None:
    script = (
        "import sys, runpy; sys.version_info = (3, 9, 0); sys.argv = ['dev.py', 'demo']; "
        "runpy.run_path('dev.py', run_name='__main__')"
    )
    done = run([sys.executable, "-c", script], checkout, SYNCD_DEV_REEXEC="1")
    assert done.returncode == 1
    assert "syncd needs Python 3.11 or newer; this is 3.9" in done.stderr
