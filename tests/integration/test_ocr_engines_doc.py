"""docs/engines.md: its example engine works as it stands, passes the contract as it stands, and its tables are true."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support.ocr_files import corner
from worker_glue.model import OcrRequest
from worker_glue.ocr import google_vision, tesseract
from worker_glue.ocr.limits import KEYS, Limits
from worker_glue.ocr.runner import Runner

DOC = (Path(__file__).resolve().parents[2] / "docs" / "engines.md").read_text()
ENGINE, SUITE = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "my_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "ink.py").write_text(ENGINE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def test_the_example_is_run_by_its_import_path(package: Path) -> None:
    corner().save(package / "a.png")
    with Runner("my_package.ink:Ink", {"word": "black"}) as runner:
        got = runner.recognize(OcrRequest(str(package / "a.png")), threading.Event(), lambda _done, _known: None)
    assert got.text == "black 0.083"
    assert got.version == "1.0"


def test_the_example_passes_the_contract_with_the_suite_that_is_shown(package: Path) -> None:
    (package / "test_ink.py").write_text(SUITE)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(package / "test_ink.py")],
        cwd=package, env=dict(os.environ), capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert re.search(r"\b1[0-9] passed", done.stdout)


def _keys(section: str) -> dict[str, str]:
    """Return the keys and defaults of the table in a section."""
    text = DOC.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return {key: default.strip("`") for key, default in re.findall(r"^\| `(\w+)` \| (.*?) \|", text, re.MULTILINE)}


def test_the_keys_that_are_shown_are_those_there_are() -> None:
    assert set(_keys("Limits")) == set(KEYS)
    assert set(_keys("tesseract")) == set(tesseract.Settings._fields)
    assert set(_keys("google_vision")) == {field.removesuffix("_s") for field in google_vision.Settings._fields}


def test_the_defaults_that_are_shown_hold() -> None:
    limits, settings = _keys("Limits"), _keys("tesseract")
    assert (int(limits["max_pages"]), int(limits["max_megapixels"]), int(limits["dpi"])) == Limits()[2:5]
    assert [int(settings[key]) for key in ("psm", "psm_handwriting", "oem", "threads")] == list(
        tesseract.Settings()[1:5]
    )
