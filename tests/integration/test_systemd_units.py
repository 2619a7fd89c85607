"""The units as systemd itself judges them, and that those in systemd/ are what `syncd service install` writes."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from syncd.service.place import Account, Manager, Place
from syncd.service.unit import Job, unit
from tests.support.require import require
from tests.support.services import finished

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted(
    path.relative_to(ROOT) for path in (ROOT / "systemd").rglob("syncd*") if path.suffix in (".service", ".timer")
)
EXPOSURE = 1.5

# systemd 254 brought them; an older one says so and goes on
NEWER_KEYS = ("RestartSteps", "RestartMaxDelaySec")


@pytest.fixture
def analyze(tmp_path: Path) -> Analyze:
    return Analyze(require("systemd-analyze", "systemd"), tmp_path)


class Analyze:
    """systemd-analyze, on a copy of a unit whose program is there."""

    def __init__(self, program: str, folder: Path) -> None:
        self.program, self.folder = program, folder

    def verify(self, name: str, text: str, *, user: bool) -> list[str]:
        """Return what systemd has to say against a unit."""
        file = self.folder / name
        file.write_text(re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={sys.executable}", text))
        if file.suffix == ".timer":
            file.with_suffix(".service").write_text("[Service]\nType=oneshot\nExecStart=/bin/true\n")
        argv = [self.program, "verify", "--man=no", *(["--user"] if user else []), str(file)]
        done = finished(argv, env={"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(self.folder), "HOME": "/root"})
        lines = [line for line in done.err.splitlines() if not any(f"'{key}'" in line for key in NEWER_KEYS)]
        # other units of this machine may be at fault too
        return [line for line in lines if name.split(".", maxsplit=1)[0] in line]

    def exposure(self, file: Path, *options: str) -> float:
        done = finished([self.program, "security", "--offline=true", "--no-pager", *options, str(file)])
        found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.out)
        assert found, done
        return float(found[1])


@pytest.mark.parametrize("name", UNITS, ids=str)
def test_every_unit_is_one_that_systemd_understands(analyze: Analyze, name: Path) -> None:
    text = (ROOT / name).read_text()
    assert analyze.verify(name.name, text, user="user" in name.parts) == []


def test_verifying_finds_faults(analyze: Analyze) -> None:
    text = (ROOT / "systemd/syncd.service").read_text().replace("MemoryMax=2G", "MemoryMax=lots\nNonsense=1")
    said = "\n".join(analyze.verify("syncd.service", text, user=False))
    assert "memory limit" in said
    assert "Nonsense" in said


def test_the_system_service_is_exposed_little(analyze: Analyze) -> None:
    assert analyze.exposure(ROOT / "systemd/syncd.service") <= EXPOSURE


def test_it_stays_so_with_targets_and_secrets(analyze: Analyze, tmp_path: Path) -> None:
    place = Place(Manager.SYSTEMD, True, "syncd", Account(-1, "syncd", Path("/var/lib/syncd")))
    job = Job(
        Path("/opt/syncd/bin/syncd"),
        Path("/etc/syncd/config.toml"),
        Path("/var/lib/syncd"),
        writable=[Path("/srv/Bhushanji"), Path("/srv/news letters")],
        credentials=["smb-password", "mongo-uri"],
    )
    file = tmp_path / "syncd.service"
    file.write_text(unit(place, job))
    assert analyze.exposure(file) <= EXPOSURE
    assert analyze.verify("syncd.service", file.read_text(), user=False) == []


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "systemd/syncd.service.d").iterdir()))
def test_the_drop_in_examples_fit_the_unit(analyze: Analyze, name: str) -> None:
    """A drop-in is a part of a unit: put behind the unit's own lines, it has to be understood too."""
    drop_in = (ROOT / "systemd/syncd.service.d" / name).read_text()
    text = (ROOT / "systemd/syncd.service").read_text()
    assert analyze.verify("syncd.service", f"{text}\n{drop_in}", user=False) == []
    keys = re.findall(r"(?m)^(\w+)=", drop_in)
    assert keys
    assert set(keys) <= {"ReadWritePaths", "LoadCredential"}


def test_the_copies_are_what_is_installed() -> None:
    spec = importlib.util.spec_from_file_location("make_units", ROOT / "scripts" / "make_units.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, text in module.documents().items():
        assert (ROOT / name).read_text(encoding="utf-8") == text, f"{name} is old; run: python3 scripts/make_units.py"
